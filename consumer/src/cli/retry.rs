//! `retry`: rejected transfers once more.

use natsfer_common::{
    ChannelFilter, IdPrefix, ReceiverName,
    broker::Broker,
    cli::{Outcome, choose, note, report},
};
use natsfer_consumer::{Failure, ReceiveError, Rejected, Rejections};

use super::{event::Format, landing::LandingArguments, named::Named, selection::SelectionArguments};

/// Try again to land what a receiver has rejected
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["id", "all"]))]
#[command(after_long_help = "\
Examples:
  {program} retry -n billing 4be6c1e2 --into inbox
  {program} retry -n billing --all --into inbox --max-size 100GiB")]
pub(crate) struct Retry {
    /// Transfer to try again: its id, or the first digits of it
    #[arg(conflicts_with = "selection")]
    id: Option<IdPrefix>,
    /// Try everything again that was rejected
    #[arg(long)]
    all: bool,
    /// Durable name of the receiver
    #[arg(short, long)]
    name: ReceiverName,
    /// Channels to look for it on; wildcards allowed
    #[arg(short, long, default_value = ">")]
    channel: ChannelFilter,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    selection: SelectionArguments,
    #[command(flatten)]
    landing: LandingArguments,
}

impl Retry {
    pub(crate) async fn run(self, broker: &Broker) -> anyhow::Result<Outcome> {
        let broker = &self.landing.over(broker.clone()).await?;
        let rejections = Rejections::new(broker.clone(), self.name.clone())
            .with_limits(self.landing.limits())
            .with_rate(self.landing.rate())
            .with_selection(self.selection.selection());
        // From a message that opens no transfer, nothing can be received.
        let mut all = rejections.list(&self.channel).await?;
        all.retain(|rejected| rejected.subject.is_some());
        let chosen = match &self.id {
            Some(id) => vec![self.choose(id, all)?],
            None => all,
        };
        if chosen.is_empty() {
            return Ok(super::rejected::nothing(broker, &self.name).await);
        }
        let target = self.landing.target()?;
        let options = self.landing.save_options();
        let mut outcome = Outcome::Done;
        for rejected in chosen {
            let named = rejected.subject.as_ref().zip(rejected.rejection.name.clone());
            let named = named.map(|(subject, name)| Named { transfer: subject.transfer, name });
            let saved = match rejections.open(&rejected).await {
                Ok(incoming) => incoming.save_into(&target, &options).await,
                Err(error) => Err(error),
            };
            match saved {
                Ok(saved) => Format::new(self.json).received(&saved)?,
                // Nothing more can land.
                Err(error @ ReceiveError::TargetGone { .. }) => return Err(error.into()),
                // Its sender has taken it back, and so has the receiver what it said.
                Err(error) if error.failure() == Failure::Cancelled => {
                    let which = named.map_or("it".into(), |named| named.before(&error));
                    note(&format!("{which} is not rejected any more: {}", error.in_full()));
                }
                // It stays rejected.
                Err(error) if error.failure() == Failure::PassedOver => tracing::debug!("{error}"),
                Err(error) => {
                    let context = named.map_or("it".into(), |named| named.before(&error)) + " stays rejected";
                    report(&anyhow::Error::from(error).context(context));
                    outcome = Outcome::Failed;
                }
            }
        }
        Ok(outcome)
    }
}

impl Retry {
    /// The last one that was rejected of this id.
    fn choose(&self, id: &IdPrefix, all: Vec<Rejected>) -> anyhow::Result<Rejected> {
        let candidates = all.iter().filter_map(|rejected| {
            let subject = rejected.subject.as_ref()?;
            Some((subject.transfer, Some(&subject.channel), rejected.rejection.name.as_ref()))
        });
        let chosen = choose(id, candidates)?;
        let is_it = |rejected: &Rejected| chosen.is_some() && rejected.rejection.transfer == chosen;
        let name = &self.name;
        all.into_iter().rev().find(is_it).ok_or_else(|| {
            anyhow::anyhow!(
                "receiver '{name}' has not rejected a transfer {id}: `rejected -n {name}` shows those it has"
            )
        })
    }
}
