//! `cat`: a stored file's bytes to standard output.

use anyhow::Context as _;
use natsfer_common::{TransferId, broker::Broker, cli::Outcome};
use natsfer_consumer::{ByteRange, PastTransfers, ReceiveError, Replays, read_range};
use tokio::io::AsyncWriteExt;

/// Write a stored file, or a part of it, to standard output
#[derive(Debug, clap::Args)]
pub(crate) struct Cat {
    /// Transfer to read
    id: TransferId,
    /// Bytes to read, both ends included: 0-99, 100- (to the end), -100 (the last hundred)
    #[arg(long, value_name = "FIRST-LAST", allow_hyphen_values = true)]
    range: Option<ByteRange>,
}

impl Cat {
    pub(crate) async fn run(self, broker: &Broker) -> anyhow::Result<Outcome> {
        let replays = Replays::new(broker.clone());
        let selected = replays.select(&PastTransfers::Transfer(self.id)).await?;
        let entry = selected.first().ok_or(ReceiveError::NoSuchTransfer { transfer: self.id })?;
        let mut output = tokio::io::stdout();
        match self.range {
            Some(range) => {
                read_range(broker, entry, range, &mut output).await?;
            }
            None => {
                let mut reader = replays.open(entry).await?.read().await?;
                tokio::io::copy(&mut reader, &mut output).await.context("cannot write the transfer out to its end")?;
                reader.finish().await;
            }
        }
        output.flush().await.context("cannot write to standard output")?;
        Ok(Outcome::Done)
    }
}
