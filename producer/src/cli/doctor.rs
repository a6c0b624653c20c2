//! `doctor`: whether a producer can do its work, and what to change.

use clap::CommandFactory as _;
use natsfer_common::cli::{
    Outcome, ServerArguments,
    doctor::{Work, examine, print},
};
use natsfer_producer::{Channel, ReceiverName};

/// Check server, streams and permissions for sending, and say what to change. Leaves nothing behind
///
/// Each line is one check: 'ok'; 'warn', which works, but not everything or not as well as it could; or 'FAIL'. Exit code 1 if
/// anything has failed.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example:
  {program} doctor -c invoices.eu")]
pub(crate) struct Doctor {
    /// Channel to send on
    #[arg(short, long, default_value_t)]
    channel: Channel,
    /// Receivers that are to be waited for; comma-separated
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    wait_for: Vec<ReceiverName>,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub(crate) async fn run(self, server: &ServerArguments) -> anyhow::Result<Outcome> {
        let examined = examine(server, super::Arguments::command(), &Work::Send(self.channel, self.wait_for)).await;
        if let Some(broker) = examined.broker {
            broker.close().await;
        }
        Ok(print(&examined.findings, self.json)?)
    }
}
