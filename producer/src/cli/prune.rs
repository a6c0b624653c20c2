//! `prune`: removes transfers that are not needed any more.

use std::time::Duration;

use clap::{CommandFactory as _, ValueEnum};
use natsfer_common::{
    broker::Broker,
    cli::{Outcome, print_line, report},
};
use natsfer_producer::{ChannelFilter, PruneState, Pruning, ReceiverName, remove};
use serde_json::json;

/// Remove abandoned, cancelled, or old complete transfers from the stream: whole ones, with every trace
#[derive(Debug, clap::Args)]
pub(crate) struct Prune {
    /// Channels to prune; wildcards allowed
    #[arg(short, long, default_value = ">")]
    channel: ChannelFilter,
    /// Only transfers to which nothing has happened for so long, received or not: 12h, 30d
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    older_than: Option<Duration>,
    /// Only complete transfers that all these receivers have landed; comma-separated
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    delivered_to: Vec<ReceiverName>,
    /// Only transfers in these states; comma-separated
    #[arg(long, value_name = "STATE,...", value_delimiter = ',')]
    state: Vec<State>,
    /// Say what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// How far a transfer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum State {
    /// Not finished by its sender; needs --older-than
    Open,
    /// All there
    Complete,
    /// Taken back
    Cancelled,
}

impl From<State> for PruneState {
    fn from(state: State) -> Self {
        match state {
            State::Open => Self::Open,
            State::Complete => Self::Complete,
            State::Cancelled => Self::Cancelled,
        }
    }
}

impl Prune {
    /// Ends the program, as clap does, where the options would remove what nobody can have meant.
    pub(crate) fn check_usage(&self) {
        let states = self.states();
        let wrong = if self.older_than.is_some() {
            return;
        } else if states.contains(&PruneState::Open) {
            "one of --older-than, --delivered-to and --state cancelled is needed: what is being sent now must not be removed"
        } else if states.contains(&PruneState::Complete) && self.delivered_to.is_empty() {
            "complete transfers need --older-than or --delivered-to"
        } else {
            return;
        };
        super::Arguments::command().error(clap::error::ErrorKind::MissingRequiredArgument, wrong).exit();
    }

    /// What was asked for; with receivers alone, what they can have.
    fn states(&self) -> Vec<PruneState> {
        match &self.state[..] {
            [] if self.delivered_to.is_empty() => vec![PruneState::Open, PruneState::Complete, PruneState::Cancelled],
            [] => vec![PruneState::Complete],
            states => states.iter().copied().map(PruneState::from).collect(),
        }
    }

    pub(crate) async fn run(self, broker: &Broker) -> anyhow::Result<Outcome> {
        let pruning = Pruning::default()
            .with_channels(self.channel.clone())
            .with_older_than(self.older_than)
            .with_delivered_to(self.delivered_to.clone())
            .with_states(self.states());
        let mut outcome = Outcome::Done;
        let selected = pruning.select(broker).await?;
        if selected.is_empty() {
            tracing::info!("nothing is to be removed");
        }
        for entry in selected {
            let manifest = &entry.manifest;
            if !self.dry_run
                && let Err(error) = remove(broker, manifest).await
            {
                let context = format!("transfer {} was not removed", manifest.transfer);
                report(&anyhow::Error::from(error).context(context));
                outcome = Outcome::Failed;
                continue;
            }
            let verb = if self.dry_run { "would remove" } else { "removed" };
            let state = entry.state.as_str();
            print_line(&if self.json {
                let event = if self.dry_run { "selected" } else { "removed" };
                let (transfer, channel, name) = (manifest.transfer, &manifest.channel, &manifest.name);
                json!({"event": event, "transfer": transfer, "channel": channel, "name": name, "state": state})
                    .to_string()
            } else {
                format!("{verb}  {}  {state}  {}", manifest.transfer, manifest.name)
            })?;
        }
        Ok(outcome)
    }
}
