//! `cat`: a stored file's bytes to standard output.

use anyhow::Context as _;
use natsfer_common::{
    broker::{Broker, CatalogEntry},
    cli::{Outcome, WhichTransfer, is_unread},
};
use natsfer_consumer::{ByteRange, Replays, read_range};
use tokio::io::AsyncWriteExt;

/// Write a stored file, or a part of it, to standard output
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  {program} cat 4be6c1e2 | tar x
  {program} cat 4be6c1e2 --range 0-1023")]
pub(crate) struct Cat {
    #[command(flatten)]
    which: WhichTransfer,
    /// Bytes to read, both ends included: 0-99, 100- (to the end), -100 (the last hundred)
    #[arg(long, value_name = "FIRST-LAST", allow_hyphen_values = true)]
    range: Option<ByteRange>,
}

impl Cat {
    pub(crate) async fn run(self, broker: &Broker) -> anyhow::Result<Outcome> {
        let Some(entry) = self.which.find(broker).await?.into_iter().next() else { return Ok(Outcome::Done) };
        match write_out(broker, &entry, self.range).await {
            // Whoever reads has seen enough.
            Err(error) if is_unread(&error) => Ok(Outcome::Done),
            written => written.map(|()| Outcome::Done),
        }
    }
}

async fn write_out(broker: &Broker, entry: &CatalogEntry, range: Option<ByteRange>) -> anyhow::Result<()> {
    let mut output = tokio::io::stdout();
    match range {
        Some(range) => {
            read_range(broker, entry, range, &mut output).await?;
        }
        None => {
            let mut reader = Replays::new(broker.clone()).open(entry).await?.read().await?;
            tokio::io::copy(&mut reader, &mut output).await.context("cannot write the transfer out to its end")?;
            reader.finish().await;
        }
    }
    output.flush().await.context("cannot write to standard output")
}
