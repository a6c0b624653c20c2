//! `status`: who has a transfer; or, without one, all there is.

use serde_json::json;

use super::{receivers, show, taken::Sum};
use crate::{
    ChannelFilter, IdPrefix,
    broker::{Broker, BrokerError, CatalogEntry, Standing, StandingState, StreamFacts, TransferState, code, standings},
    cli::{Column, Outcome, Table, WhichTransfer, count, human_bytes, in_brief, note, print_line, without_id},
};

/// Show who has a transfer, and how far the others are; without an id, the streams, what they hold, and every receiver
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  {program} status
  {program} status 4be6c1e2")]
pub struct Status {
    /// Transfer: its id, or the first digits of it, as `list` shows them
    #[arg(value_name = "ID")]
    id: Option<IdPrefix>,
    /// Channels to look at; wildcards allowed
    #[arg(short, long, default_value = ">")]
    channel: ChannelFilter,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(super) async fn run(self, broker: &Broker) -> anyhow::Result<Outcome> {
        let Some(id) = self.id else { return summary(broker, &self.channel, self.json).await };
        for entry in WhichTransfer::new(id, self.channel).find(broker).await? {
            let standings = standings(broker, &entry).await?;
            if self.json {
                standings.iter().try_for_each(|standing| print_line(&json_line(&entry, standing)))?;
                continue;
            }
            let manifest = &entry.manifest;
            let size = entry.size().map_or_else(|| "size unknown".into(), human_bytes);
            let state = show::state(&entry.state);
            print_line(&format!("{}  {}  {}  {size}  {state}", manifest.transfer, manifest.channel, manifest.name))?;
            print(&entry, standings)?;
        }
        Ok(Outcome::Done)
    }
}

/// Prints how far each receiver is with a transfer.
pub(super) fn print(entry: &CatalogEntry, mut standings: Vec<Standing>) -> std::io::Result<()> {
    if let TransferState::Cancelled { .. } = entry.state {
        // Nobody else will ever have it.
        standings.retain(|standing| matches!(standing.state, StandingState::Landed { .. }));
    } else if standings.is_empty() {
        return print_line("  no receiver listens on its channel");
    }
    if standings.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(&[Column::Left("RECEIVER"), Column::Left("STATE"), Column::Left("")]);
    for Standing { receiver, state } in standings {
        let detail = match &state {
            StandingState::Landed { at } => format!("since {at:.0}"),
            StandingState::Receiving { remaining } => progress(entry, *remaining),
            StandingState::Rejected { detail } => in_brief(&without_id(detail, Some(entry.manifest.transfer))),
            StandingState::Done => "without a receipt: it skipped it, or may not publish receipts".into(),
            StandingState::Taken => "and reads nothing of it: it may begin later, or have refused it".into(),
            StandingState::Waiting => String::new(),
        };
        table.row([receiver.to_string(), state.as_str().into(), detail]);
    }
    table.print(2)
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
        Some((written, chunks)) => format!("about {written} of {} written", count(chunks, "chunk")),
        None => format!("{} to be written", count(remaining, "stored message")),
    }
}

fn json_line(entry: &CatalogEntry, standing: &Standing) -> String {
    let mut line = json!({
        "event": "status",
        "transfer": entry.manifest.transfer,
        "channel": entry.manifest.channel,
        "name": entry.manifest.name,
    });
    stand(&mut line, entry, standing);
    line.to_string()
}

/// Adds how far a receiver is to a JSON object.
pub(super) fn stand(line: &mut serde_json::Value, entry: &CatalogEntry, standing: &Standing) {
    line["receiver"] = json!(standing.receiver);
    line["state"] = json!(standing.state.as_str());
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
}

/// How many transfers are in one state, and their bytes.
#[derive(Default)]
struct Sums {
    transfers: u64,
    size: u64,
    stored: Sum,
}

async fn summary(broker: &Broker, channel: &ChannelFilter, json: bool) -> anyhow::Result<Outcome> {
    let mut streams = Vec::new();
    for name in [broker.stream().control().to_owned(), broker.stream().data()] {
        match broker.stream_facts(&name).await {
            Ok(stream) => streams.push(stream),
            Err(error) if error.is(code::STREAM_NOT_FOUND) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if streams.is_empty() {
        note(&super::no_stream(broker));
        return Ok(Outcome::Done);
    }
    let catalog = broker.catalog(channel).await?;
    let occupancy = broker.occupancy(channel, &catalog).await?;
    let mut sums: [(&str, Sums); 3] = ["open", "complete", "cancelled"].map(|state| (state, Sums::default()));
    for entry in &catalog {
        if let Some((_, sum)) = sums.iter_mut().find(|(state, _)| *state == entry.state.as_str()) {
            sum.transfers += 1;
            sum.size = sum.size.saturating_add(entry.size().unwrap_or(0));
            sum.stored.add(occupancy.of(entry));
        }
    }
    let receivers = match broker.receivers(None).await {
        Err(BrokerError::Denied { violation, .. }) => {
            tracing::warn!("receivers are not shown: {violation}");
            Vec::new()
        }
        receivers => receivers?,
    };
    if json {
        streams.iter().try_for_each(|stream| print_line(&stream_json(stream)))?;
        for (state, Sums { transfers, size, stored }) in &sums {
            let mut line = json!({"event": "transfers", "state": state, "transfers": transfers, "size": size});
            stored.note(&mut line);
            print_line(&line.to_string())?;
        }
        receivers.iter().try_for_each(|receiver| print_line(&receivers::json_line(receiver)))?;
        return Ok(Outcome::Done);
    }
    use Column::{Left, Right};
    let mut table = Table::new(&[Left("STREAM"), Right("MESSAGES"), Right("BYTES"), Right("LIMIT")]);
    for stream in &streams {
        let limit = u64::try_from(stream.config.max_bytes).ok().filter(|limit| *limit > 0);
        table.row([
            stream.name.clone(),
            stream.messages.to_string(),
            human_bytes(stream.bytes),
            limit.map_or_else(|| "-".into(), human_bytes),
        ]);
    }
    table.print(0)?;
    print_line("")?;
    let mut table = Table::new(&[Left("STATE"), Right("TRANSFERS"), Right("SIZE"), Right("STORED")]);
    for (state, Sums { transfers, size, stored }) in &sums {
        table.row([(*state).into(), transfers.to_string(), human_bytes(*size), stored.to_text()]);
    }
    table.print(0)?;
    if receivers.is_empty() {
        note(&format!("stream {} has no receiver", broker.stream()));
    } else {
        print_line("")?;
        receivers::print(&receivers, 0)?;
    }
    Ok(Outcome::Done)
}

fn stream_json(stream: &StreamFacts) -> String {
    let limit = u64::try_from(stream.config.max_bytes).ok().filter(|limit| *limit > 0);
    json!({
        "event": "stream",
        "stream": stream.name,
        "messages": stream.messages,
        "bytes": stream.bytes,
        "max_bytes": limit,
    })
    .to_string()
}
