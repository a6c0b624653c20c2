//! `retry`: rejected transfers once more.

use natsfer_common::{
    ChannelFilter, ReceiverName, TransferId,
    broker::Broker,
    cli::{Outcome, report},
};
use natsfer_consumer::{Rejections, SaveOptions};

use super::{event::Format, landing::LandingArguments};

/// Try again to land what a receiver has rejected
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["id", "all"]))]
pub(crate) struct Retry {
    /// Transfer to try again
    id: Option<TransferId>,
    /// Try everything again that was rejected
    #[arg(long)]
    all: bool,
    /// Durable name of the receiver
    #[arg(short, long)]
    name: ReceiverName,
    /// Channels to look for it on; wildcards allowed
    #[arg(short, long, default_value = ">")]
    channel: ChannelFilter,
    #[command(flatten)]
    landing: LandingArguments,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

impl Retry {
    pub(crate) async fn run(self, broker: &Broker) -> anyhow::Result<Outcome> {
        let rejections = Rejections::new(broker.clone(), self.name.clone()).with_limits(self.landing.limits());
        let chosen = match self.id {
            Some(transfer) => vec![rejections.find(transfer, &self.channel).await?],
            // From a message that opens no transfer, nothing can be received.
            None => {
                let mut all = rejections.list(&self.channel).await?;
                all.retain(|rejected| rejected.subject.is_some());
                all
            }
        };
        let target = self.landing.target()?;
        let options = SaveOptions::default().with_on_conflict(self.landing.on_conflict);
        let mut outcome = Outcome::Done;
        for rejected in chosen {
            let saved = match rejections.open(&rejected).await {
                Ok(incoming) => incoming.save_into(&target, &options).await,
                Err(error) => Err(error),
            };
            match saved {
                Ok(saved) => Format::new(self.json).received(&saved)?,
                Err(error) => {
                    report(&error.into());
                    outcome = Outcome::Failed;
                }
            }
        }
        Ok(outcome)
    }
}
