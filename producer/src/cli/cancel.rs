//! `cancel`: takes a transfer back.

use natsfer_common::{
    broker::Broker,
    cli::{Outcome, WhichTransfer, count, print_line, report},
};
use natsfer_producer::{Cancellation, TransferState, cancel};

/// Take a transfer back: its chunks are removed, and receivers drop what they have of it. What has landed stays
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example:
  {program} cancel 4be6c1e2")]
pub(crate) struct Cancel {
    #[command(flatten)]
    which: WhichTransfer,
    /// What to tell receivers
    #[arg(long, default_value = "somebody ran `cancel`", value_name = "TEXT")]
    reason: String,
}

impl Cancel {
    pub(crate) async fn run(self, broker: &Broker) -> anyhow::Result<Outcome> {
        let mut outcome = Outcome::Done;
        for entry in self.which.find(broker).await? {
            let cancellation = cancel(broker, &entry, self.reason.clone()).await?;
            let (id, name) = (entry.manifest.transfer, &entry.manifest.name);
            let chunks = match &cancellation {
                Cancellation::Removed(removed) => format!("{} removed", count(*removed, "message")),
                Cancellation::Kept(_) => "its chunks are still in the stream".to_owned(),
            };
            print_line(&match (&entry.state, &cancellation) {
                (TransferState::Cancelled { reason }, Cancellation::Removed(_)) => {
                    format!("cancelled already  {id}  {name}  {}", reason.escape_debug())
                }
                (TransferState::Cancelled { reason }, Cancellation::Kept(_)) => {
                    format!("cancelled already  {id}  {name}  {}  ({chunks})", reason.escape_debug())
                }
                _ => format!("cancelled  {id}  {name}  ({chunks})"),
            })?;
            if let Cancellation::Kept(error) = cancellation {
                let context = format!("transfer {id} is cancelled, but its chunks were not removed");
                report(&anyhow::Error::from(error).context(context));
                outcome = Outcome::Failed;
            }
        }
        Ok(outcome)
    }
}
