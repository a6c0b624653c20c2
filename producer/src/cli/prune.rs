//! `prune`: removes transfers that are not needed any more.

use std::{io, time::Duration};

use anyhow::Context as _;
use clap::{CommandFactory as _, error::ErrorKind};
use natsfer_common::{
    broker::Broker,
    cli::{Outcome, StateName, look::print_stored, note, parse_duration, print_line, report, wrong_usage},
};
use natsfer_producer::{
    CarelessPruning, CatalogEntry, ChannelFilter, Manifest, ProducerError, PruneState, Pruning, ReceiverName, Remover,
};
use serde_json::json;

use super::awaited;

/// Remove abandoned, cancelled, or old complete transfers from the stream: whole ones, with every trace
///
/// A transfer is removed if all that is given holds of it. --older-than: nothing has happened to it for so long, received or not.
/// --delivered-to: it is complete, and each of these receivers has said that it has landed it. --state: it is in one of these
/// states. --channel: it is on one of these channels. Without --state, --older-than alone selects transfers in any state,
/// --delivered-to complete ones.
///
/// What is still open or complete is never selected by its state alone: open transfers need --older-than, complete ones
/// --older-than or --delivered-to. Cancelled ones need neither. See what it comes to with --dry-run.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  {program} prune --delivered-to billing,archive      # what both have
  {program} prune --older-than 30d --dry-run           # what is untouched for 30 days, received or not")]
pub(crate) struct Prune {
    /// Channels to prune; wildcards allowed
    #[arg(short, long, default_value = ">")]
    channel: ChannelFilter,
    /// Only transfers to which nothing has happened for so long, received or not: 12h, 30d
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    older_than: Option<Duration>,
    /// Only complete transfers that all these receivers have landed; comma-separated
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    delivered_to: Vec<ReceiverName>,
    /// Only transfers in these states; comma-separated
    #[arg(long, value_name = "STATE,...", value_delimiter = ',')]
    state: Vec<StateName>,
    /// Say what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

impl Prune {
    /// Ends the program, as clap does, where the options would remove what nobody can have meant.
    pub(crate) fn check_usage(&self) {
        let wrong = match self.pruning().check() {
            Ok(()) => return,
            Err(CarelessPruning::Open) => {
                "one of --older-than, --delivered-to and --state cancelled is needed: what is being sent now must not be removed"
            }
            Err(CarelessPruning::Complete) => "complete transfers need --older-than or --delivered-to",
            Err(_) => "this would remove what is still needed",
        };
        wrong_usage(super::Arguments::command(), Some("prune"), ErrorKind::MissingRequiredArgument, wrong);
    }

    fn pruning(&self) -> Pruning {
        Pruning::default()
            .with_channels(self.channel.clone())
            .with_older_than(self.older_than)
            .with_delivered_to(self.delivered_to.clone())
            .with_states(self.states())
    }

    /// What was asked for; with receivers alone, what they can have.
    fn states(&self) -> Vec<PruneState> {
        match &self.state[..] {
            [] if self.delivered_to.is_empty() => vec![PruneState::Open, PruneState::Complete, PruneState::Cancelled],
            [] => vec![PruneState::Complete],
            states => states.iter().copied().map(to_prune).collect(),
        }
    }

    pub(crate) async fn run(self, broker: &Broker) -> anyhow::Result<Outcome> {
        let pruning = self.pruning();
        let comes = "nothing goes that it has not landed";
        awaited::warn_of_strangers(broker, &self.channel, &self.delivered_to, comes).await;
        let selected = pruning.select(broker).await?;
        if selected.is_empty() {
            note(&format!(
                "nothing on stream {} is to be removed: see `prune --help` for what is selected",
                broker.stream()
            ));
            return Ok(Outcome::Done);
        }
        if self.dry_run {
            if self.json {
                selected.iter().try_for_each(|entry| self.print(entry, "selected"))?;
            } else {
                let occupancy = broker.occupancy(&self.channel, &selected).await?;
                note(&format!("would remove {}", print_stored(&selected, &occupancy)?));
            }
            return Ok(Outcome::Done);
        }
        let remover = Remover::new(broker).await.context("nothing was removed")?;
        let mut outcome = Outcome::Done;
        for entry in selected {
            let transfer = entry.manifest.transfer;
            match remove(&remover, &pruning, &entry, broker).await {
                Ok(true) => self.print(&entry, "removed")?,
                Ok(false) => tracing::info!(%transfer, "it stays: something happened to it meanwhile"),
                Err(error) => {
                    report(&anyhow::Error::from(error).context(format!("transfer {transfer} was not removed")));
                    outcome = Outcome::Failed;
                }
            }
        }
        Ok(outcome)
    }

    fn print(&self, entry: &CatalogEntry, event: &str) -> io::Result<()> {
        let CatalogEntry { manifest: Manifest { transfer, channel, name, .. }, state, .. } = entry;
        let state = state.as_str();
        print_line(&if self.json {
            json!({"event": event, "transfer": transfer, "channel": channel, "name": name, "state": state}).to_string()
        } else {
            format!("{event}  {transfer}  {state}  {name}")
        })
    }
}

fn to_prune(state: StateName) -> PruneState {
    match state {
        StateName::Open => PruneState::Open,
        StateName::Complete => PruneState::Complete,
        StateName::Cancelled => PruneState::Cancelled,
    }
}

/// Removes a transfer, if it is to go still.
async fn remove(
    remover: &Remover<'_>, pruning: &Pruning, entry: &CatalogEntry, broker: &Broker,
) -> Result<bool, ProducerError> {
    let goes = pruning.still_selects(broker, entry).await?;
    if goes {
        remover.remove(entry).await?;
    }
    Ok(goes)
}
