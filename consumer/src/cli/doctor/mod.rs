//! `doctor`: whether a receiver can do its work, and what to change.

mod commands;
mod disk;
mod receiver;

use std::path::PathBuf;

use clap::CommandFactory as _;
use natsfer_common::{
    ChannelFilter, ReceiverName, blocking,
    cli::{
        Outcome, ServerArguments,
        doctor::{Work, examine, print},
    },
};
use natsfer_consumer::{examine_directory, hooks::Counts};

/// Check server, streams, permissions, receiver and disk, and say what to change. Leaves nothing behind
///
/// Each line is one check: 'ok'; 'warn', which works, but not everything or not as well as it could; or 'FAIL'. Exit code 1 if
/// anything has failed. Without --name, what is needed to list and replay is looked at; without --into, no directory.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  {program} doctor
  {program} doctor -n billing -c 'invoices.>' --into inbox")]
pub(crate) struct Doctor {
    /// Durable name of the receiver
    #[arg(short, long)]
    name: Option<ReceiverName>,
    /// Channels to listen on, or to read; wildcards allowed [default: >]
    #[arg(short, long)]
    channel: Option<ChannelFilter>,
    /// Directory to land files in
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub(crate) async fn run(self, server: &ServerArguments) -> anyhow::Result<Outcome> {
        let channels = self.channel.clone().unwrap_or_default();
        let work = match &self.name {
            Some(name) => Work::Receive(name.clone(), channels),
            None => Work::Read(channels),
        };
        let mut examined = examine(server, super::Arguments::command(), &work).await;
        let mut waiting = None;
        if let (Some(broker), Some(name)) = (&examined.broker, &self.name) {
            let found = broker.receivers(Some(name)).await.map(|receivers| receivers.into_iter().next());
            examined.findings.extend(receiver::judge(name, self.channel.as_ref(), found.as_ref().map(Option::as_ref)));
            waiting = found.ok().flatten().map(|receiver| receiver.lag.bytes);
        }
        if let Some(broker) = &examined.broker {
            broker.close().await;
        }
        if let Some(into) = self.into {
            let path = into.clone();
            let facts = blocking(move || examine_directory(path)).await;
            examined.findings.extend(disk::judge(&into, facts, waiting));
            if let Some(name) = self.name {
                let (path, of) = (into.clone(), name.clone());
                let counts = blocking(move || Counts::of(&path, &of)).await;
                examined.findings.extend(commands::judge(&into, &name, counts));
            }
        }
        Ok(print(&examined.findings, self.json)?)
    }
}
