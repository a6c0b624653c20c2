//! `receivers`: who receives, and how far each of them is behind.

use anyhow::anyhow;
use jiff::Timestamp;
use serde_json::json;

use crate::{
    Certainty, ChannelFilter, ReceiverName,
    broker::{Activity, Broker, ReceiverState},
    cli::{Column, Outcome, Table, human_age, human_bytes, note, print_line},
};

/// Show the receivers: channels, files and bytes that wait for each, whether it is there
///
/// WAITING is what the receiver has yet to receive: all that was published on its channels and not taken back, but for what it has
/// landed, rejected, or taken for done. BYTES begin with '~' where the server does not tell which of the files it was given are
/// done: there are no more. TAKEN are the files it was given and is not done with. A receiver is 'listening' when a process of it
/// asks for files, 'receiving' when all its processes have their hands full, else 'absent'.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  {program} receivers
  {program} receivers billing --json")]
pub struct Receivers {
    /// Show only this one
    #[arg(value_name = "NAME")]
    name: Option<ReceiverName>,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

impl Receivers {
    pub(super) async fn run(self, broker: &Broker) -> anyhow::Result<Outcome> {
        let receivers = broker.receivers(self.name.as_ref()).await?;
        if let (Some(name), true) = (&self.name, receivers.is_empty()) {
            let stream = broker.stream();
            return Err(anyhow!(
                "there is no receiver '{name}' on stream {stream}: `receivers` without a name lists them"
            ));
        }
        if receivers.is_empty() {
            note(&format!("stream {} has no receiver", broker.stream()));
        } else if self.json {
            receivers.iter().try_for_each(|receiver| print_line(&json_line(receiver)))?;
        } else {
            print(&receivers, 0)?;
        }
        Ok(Outcome::Done)
    }
}

/// Prints them as a table.
pub(super) fn print(receivers: &[ReceiverState], indent: usize) -> std::io::Result<()> {
    use Column::{Left, Right};
    let mut table = Table::new(&[
        Left("RECEIVER"),
        Left("CHANNELS"),
        Right("WAITING"),
        Right("BYTES"),
        Right("TAKEN"),
        Right("REJECTED"),
        Left("STATE"),
        Right("ACTIVE"),
    ]);
    let now = Timestamp::now();
    for receiver in receivers {
        let age = |at: Timestamp| format!("{} ago", human_age(now.duration_since(at)));
        table.row([
            receiver.name.to_string(),
            channels(&receiver.channels),
            receiver.lag.files.to_string(),
            bytes(receiver),
            receiver.taken.to_string(),
            receiver.rejected.map_or_else(|| "?".into(), |rejected| rejected.to_string()),
            receiver.connection.as_str().into(),
            match receiver.activity {
                Activity::At(at) => age(at),
                Activity::Unknown => "?".into(),
                Activity::Never => "never".into(),
            },
        ]);
    }
    table.print(indent)
}

fn channels(channels: &[ChannelFilter]) -> String {
    match channels {
        [] => "-".into(),
        channels => channels.iter().map(ChannelFilter::as_str).collect::<Vec<_>>().join(","),
    }
}

fn bytes(receiver: &ReceiverState) -> String {
    let bytes = human_bytes(receiver.lag.bytes);
    match receiver.lag.certainty {
        Certainty::Exact => bytes,
        Certainty::About => format!("~{bytes}"),
    }
}

pub(super) fn json_line(receiver: &ReceiverState) -> String {
    let channels: Vec<_> = receiver.channels.iter().map(ChannelFilter::as_str).collect();
    json!({
        "event": "receiver",
        "receiver": receiver.name,
        "channels": channels,
        "waiting_files": receiver.lag.files,
        "waiting_bytes": receiver.lag.bytes,
        "exact": receiver.lag.certainty == Certainty::Exact,
        "taken": receiver.taken,
        "rejected": receiver.rejected,
        "state": receiver.connection.as_str(),
        "last_active": match receiver.activity {
            Activity::At(at) => Some(at),
            Activity::Unknown | Activity::Never => None,
        },
    })
    .to_string()
}
