//! `replay`: past transfers again.

use clap::{CommandFactory as _, error::ErrorKind};
use jiff::Timestamp;
use natsfer_common::{
    ChannelFilter, IdPrefix,
    broker::Broker,
    cli::{Outcome, WhichTransfer, note, parse_time, report, wrong_usage},
};
use natsfer_consumer::{PastTransfers, ReceiveError, Replays};

use super::{event::Format, landing::LandingArguments, named::Named, selection::SelectionArguments};

/// Land past transfers again, without disturbing any receiver
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true).args(["id", "channel"]))]
#[command(after_long_help = "\
Examples:
  {program} replay 4be6c1e2 --into again
  {program} replay -c 'invoices.>' --since 2h --match '**/*.csv' --into again")]
pub(crate) struct Replay {
    /// Transfer to replay: its id, or the first digits of it, as `list` shows them
    #[arg(conflicts_with = "selection")]
    id: Option<IdPrefix>,
    /// Replay the complete transfers on these channels; wildcards allowed. With an id, where to look for it
    #[arg(short, long)]
    channel: Option<ChannelFilter>,
    /// Only those published at this time or later: 2026-11-23T12:00:00Z, or an age such as 2h
    #[arg(long, value_name = "TIME", value_parser = parse_time, conflicts_with = "id")]
    since: Option<Timestamp>,
    /// Only those published at this time or earlier
    #[arg(long, value_name = "TIME", value_parser = parse_time, conflicts_with = "id")]
    until: Option<Timestamp>,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    selection: SelectionArguments,
    #[command(flatten)]
    landing: LandingArguments,
}

impl Replay {
    pub(crate) async fn run(self, broker: &Broker) -> anyhow::Result<Outcome> {
        if self.landing.layout().names_receiver() {
            let wrong = "--layout: a replay has no {receiver}";
            wrong_usage(super::Arguments::command(), Some("replay"), ErrorKind::ArgumentConflict, wrong);
        }
        let broker = &self.landing.over(broker.clone()).await?;
        let target = self.landing.target()?;
        let channels = self.channel.unwrap_or_default();
        let replays = Replays::new(broker.clone()).with_limits(self.landing.limits()).with_rate(self.landing.rate());
        let selected = match self.id {
            Some(id) => WhichTransfer::new(id, channels).find(broker).await?,
            None => {
                let (since, until, selection) = (self.since, self.until, self.selection.selection());
                replays.select(&PastTransfers::Channels { channels, since, until, selection }).await?
            }
        };
        if selected.is_empty() {
            note(&format!("nothing on stream {} matches: `list` shows what there is", broker.stream()));
        }
        let options = self.landing.save_options();
        let mut outcome = Outcome::Done;
        for entry in selected {
            let saved = match replays.open(&entry).await {
                Ok(incoming) => incoming.save_into(&target, &options).await,
                Err(error) => Err(error),
            };
            match saved {
                Ok(saved) => Format::new(self.json).received(&saved)?,
                // Nothing more can land.
                Err(error @ ReceiveError::TargetGone { .. }) => return Err(error.into()),
                Err(error) => {
                    let named = Named { transfer: entry.manifest.transfer, name: entry.manifest.name.clone() };
                    let failed = format!("{} was not replayed", named.before(&error));
                    report(&anyhow::Error::from(error).context(failed));
                    outcome = Outcome::Failed;
                }
            }
        }
        Ok(outcome)
    }
}
