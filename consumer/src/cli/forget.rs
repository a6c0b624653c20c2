//! `forget`: removes a receiver.

use anyhow::ensure;
use natsfer_common::{
    ReceiverName,
    broker::Broker,
    cli::{Outcome, print_line},
};
use natsfer_consumer::Receiver;

/// Remove a receiver from the server; one of the same name begins anew
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example:
  {program} forget -n billing")]
pub(crate) struct Forget {
    /// Durable name
    #[arg(short, long)]
    name: ReceiverName,
}

impl Forget {
    pub(crate) async fn run(self, broker: &Broker) -> anyhow::Result<Outcome> {
        let existed = Receiver::forget(broker, &self.name).await?;
        let (name, stream) = (&self.name, broker.stream());
        ensure!(existed, "there is no receiver '{name}' on stream {stream}: `receivers` lists those there are");
        print_line(&format!("removed {name}"))?;
        Ok(Outcome::Done)
    }
}
