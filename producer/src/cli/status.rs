//! `status`: who has a transfer.

use natsfer_common::{
    broker::{Broker, CatalogEntry},
    cli::{Outcome, human_bytes, print_line},
};
use natsfer_producer::{ProducerError, Standing, StandingState, TransferId, TransferState, standings};
use serde_json::json;

/// Show who has a transfer, and how far the others are
#[derive(Debug, clap::Args)]
pub(crate) struct Status {
    /// Transfer to look at
    id: TransferId,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(crate) async fn run(self, broker: &Broker) -> anyhow::Result<Outcome> {
        let found = broker.find(self.id).await?;
        if found.is_empty() {
            return Err(ProducerError::NoSuchTransfer { transfer: self.id }.into());
        }
        for entry in found {
            let mut standings = standings(broker, &entry).await?;
            if self.json {
                standings.iter().try_for_each(|standing| print_line(&json_line(&entry, standing)))?;
                continue;
            }
            let manifest = &entry.manifest;
            let size = size(&entry).map_or_else(|| "size unknown".into(), human_bytes);
            let state = match &entry.state {
                TransferState::Cancelled { reason } => format!("cancelled: {}", reason.escape_debug()),
                state => state.as_str().to_owned(),
            };
            print_line(&format!("{}  {}  {}  {size}  {state}", manifest.transfer, manifest.channel, manifest.name))?;
            if let TransferState::Cancelled { .. } = entry.state {
                // Nobody else will ever have it.
                standings.retain(|standing| matches!(standing.state, StandingState::Landed { .. }));
            } else if standings.is_empty() {
                print_line("  no receiver listens on its channel")?;
            }
            let width = standings.iter().map(|standing| standing.receiver.as_str().len()).max().unwrap_or(0);
            for Standing { receiver, state } in &standings {
                let detail = match state {
                    StandingState::Landed { at } => format!("since {at:.0}"),
                    StandingState::Receiving { remaining } => progress(&entry, *remaining),
                    StandingState::Rejected { detail } => detail.escape_debug().to_string(),
                    StandingState::Done => "without a receipt: it skipped it, or may not publish receipts".into(),
                    StandingState::Taken => "and reads nothing of it: it may begin later, or have refused it".into(),
                    StandingState::Waiting => String::new(),
                };
                let line = format!("  {:width$}  {:9}  {detail}", receiver.as_str(), state.as_str());
                print_line(line.trim_end())?;
            }
        }
        Ok(Outcome::Done)
    }
}

fn size(entry: &CatalogEntry) -> Option<u64> {
    match entry.state {
        TransferState::Complete { size, .. } => Some(size),
        _ => entry.manifest.size,
    }
}

/// How many chunks have been written and how many there are, where that is known; about, for one may be stored twice, or lost.
fn chunks(entry: &CatalogEntry, remaining: u64) -> Option<(u64, u64)> {
    let TransferState::Complete { size, .. } = entry.state else { return None };
    let chunks = entry.manifest.chunk_size.count(size);
    Some((chunks.saturating_sub(remaining), chunks))
}

fn progress(entry: &CatalogEntry, remaining: u64) -> String {
    match chunks(entry, remaining) {
        _ if remaining == 0 => "all that is stored is written; it has not landed yet".into(),
        Some((written, chunks)) => format!("about {written} of {chunks} chunks written"),
        None => format!("{remaining} stored messages to be written"),
    }
}

fn json_line(entry: &CatalogEntry, standing: &Standing) -> String {
    let mut line = json!({
        "event": "status",
        "transfer": entry.manifest.transfer,
        "channel": entry.manifest.channel,
        "name": entry.manifest.name,
        "receiver": standing.receiver,
        "state": standing.state.as_str(),
    });
    match &standing.state {
        StandingState::Landed { at } => line["landed_at"] = json!(at),
        StandingState::Rejected { detail } => line["detail"] = json!(detail),
        StandingState::Receiving { remaining } => {
            line["remaining_messages"] = json!(remaining);
            if let Some((written, chunks)) = chunks(entry, *remaining) {
                line["chunks"] = json!(chunks);
                line["chunks_received"] = json!(written);
            }
        }
        _ => {}
    }
    line.to_string()
}
