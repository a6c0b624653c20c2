//! `verify`: whether the stored copy of a transfer is whole.

use natsfer_common::{
    Totals,
    broker::{Broker, CatalogEntry, TransferState},
    cli::{Outcome, Stored, WhichTransfer, print_line},
};
use natsfer_consumer::Replays;

/// Read every stored byte of a transfer, and say whether it is whole
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example:
  {program} verify 4be6c1e2")]
pub(crate) struct Verify {
    #[command(flatten)]
    which: WhichTransfer,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

impl Verify {
    pub(crate) async fn run(self, broker: &Broker) -> anyhow::Result<Outcome> {
        let replays = Replays::new(broker.clone());
        let mut outcome = Outcome::Done;
        for entry in self.which.find(broker).await? {
            let stored = check(broker, &replays, &entry).await?;
            if !stored.is_whole() {
                outcome = Outcome::Failed;
            }
            print_line(&if self.json { stored.to_json(&entry.manifest) } else { stored.to_text(&entry.manifest) })?;
        }
        Ok(outcome)
    }
}

async fn check(broker: &Broker, replays: &Replays, entry: &CatalogEntry) -> anyhow::Result<Stored> {
    let manifest = &entry.manifest;
    let TransferState::Complete { size, stored_bytes, digest } = entry.state.clone() else {
        return Ok(Stored::Unfinished(entry.state.as_str()));
    };
    if let Some(file) = replays.open(entry).await?.inline() {
        return Ok(match file {
            Ok(_) => Stored::Whole { size, digest },
            Err(error) => Stored::Damaged(error.to_string()),
        });
    }
    let chunks = manifest.chunk_size.count(size);
    let totals = Totals { chunks, size, stored_bytes, digest };
    let found = broker.verify(manifest, &totals).await?;
    Ok(Stored::from_verification(found, &totals))
}
