//! `cancel`: takes a transfer back.

use natsfer_common::{
    broker::Broker,
    cli::{Outcome, print_line},
};
use natsfer_producer::{ProducerError, TransferId, TransferState, cancel};

/// Take a transfer back: its chunks are removed, and receivers drop what they have of it. What has landed stays
#[derive(Debug, clap::Args)]
pub(crate) struct Cancel {
    /// Transfer to cancel
    id: TransferId,
    /// What to tell receivers
    #[arg(long, default_value = "its sender cancelled it", value_name = "TEXT")]
    reason: String,
}

impl Cancel {
    pub(crate) async fn run(self, broker: &Broker) -> anyhow::Result<Outcome> {
        let found = broker.find(self.id).await?;
        if found.is_empty() {
            return Err(ProducerError::NoSuchTransfer { transfer: self.id }.into());
        }
        for entry in found {
            let removed = cancel(broker, &entry.manifest, self.reason.clone()).await?;
            let (id, name) = (self.id, &entry.manifest.name);
            print_line(&match &entry.state {
                TransferState::Cancelled { reason } => {
                    format!("cancelled already  {id}  {name}  {}", reason.escape_debug())
                }
                _ => format!("cancelled  {id}  {name}  ({removed} messages removed)"),
            })?;
        }
        Ok(Outcome::Done)
    }
}
