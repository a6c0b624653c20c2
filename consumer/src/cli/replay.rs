//! `replay`: past transfers again.

use jiff::{SignedDuration, Timestamp};
use natsfer_common::{
    ChannelFilter, TransferId,
    broker::Broker,
    cli::{Outcome, report},
};
use natsfer_consumer::{PastTransfers, Replays};

use super::{event::Format, landing::LandingArguments, selection::SelectionArguments};

/// Land past transfers again, without disturbing any receiver
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["id", "channel"]))]
pub(crate) struct Replay {
    /// Transfer to replay
    #[arg(conflicts_with = "selection")]
    id: Option<TransferId>,
    /// Replay the complete transfers on these channels; wildcards allowed
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
            wrong_usage("--layout: a replay has no {receiver}");
        }
        let target = self.landing.target()?;
        let which = match self.id {
            Some(transfer) => PastTransfers::Transfer(transfer),
            None => PastTransfers::Channels {
                channels: self.channel.unwrap_or_default(),
                since: self.since,
                until: self.until,
                selection: self.selection.selection(),
            },
        };
        let replays = Replays::new(broker.clone()).with_limits(self.landing.limits());
        let selected = replays.select(&which).await?;
        if selected.is_empty() {
            tracing::warn!("nothing in the stream matches");
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
                Err(error) => {
                    let failed = format!("transfer {} was not replayed", entry.manifest.transfer);
                    report(&anyhow::Error::from(error).context(failed));
                    outcome = Outcome::Failed;
                }
            }
        }
        Ok(outcome)
    }
}

/// Says what is wrong, and ends the program as clap does.
fn wrong_usage(what: &str) -> ! {
    clap::Error::raw(clap::error::ErrorKind::ArgumentConflict, format!("{what}\n")).exit()
}

/// A point in time (RFC 3339), or how long ago it was.
fn parse_time(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let ago = humantime::parse_duration(text).ok().and_then(|ago| SignedDuration::try_from(ago).ok());
    ago.and_then(|ago| Timestamp::now().checked_sub(ago).ok())
        .ok_or_else(|| format!("'{text}' is neither a time such as 2026-11-23T12:00:00Z nor an age such as 2h"))
}
