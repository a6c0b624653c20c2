//! `rejected`: what a receiver has refused for good.

use natsfer_common::{
    ChannelFilter, ReceiverName, Rejection, RejectionState, ShortIds,
    broker::Broker,
    cli::{Column, Outcome, Table, in_brief, note, print_line, without_id},
};
use natsfer_consumer::{Rejected, Rejections};
use serde_json::json;

/// Show what a receiver has rejected, and why
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  {program} rejected -n billing
  {program} rejected -n billing -c 'invoices.>' --json")]
pub(crate) struct List {
    /// Durable name of the receiver
    #[arg(short, long)]
    name: ReceiverName,
    /// Channels to show; wildcards allowed
    #[arg(short, long, default_value = ">")]
    channel: ChannelFilter,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

impl List {
    pub(crate) async fn run(self, broker: &Broker) -> anyhow::Result<Outcome> {
        let all = Rejections::new(broker.clone(), self.name.clone()).list(&self.channel).await?;
        if all.is_empty() {
            return Ok(nothing(broker, &self.name).await);
        }
        let ids = ShortIds::of(all.iter().filter_map(|rejected| rejected.rejection.transfer));
        use Column::Left;
        let mut table = Table::new(&["TRANSFER", "REASON", "AT", "CHANNEL", "NAME", "DETAIL"].map(Left));
        for Rejected { subject, rejection, .. } in all {
            let Rejection { transfer, name, at, sequence, state, .. } = rejection;
            let RejectionState::Rejected { reason, detail } = state else { continue };
            let channel = subject.map(|subject| subject.channel);
            if self.json {
                let event = json!({
                    "event": "rejected",
                    "transfer": transfer,
                    "channel": channel,
                    "name": name,
                    "sequence": sequence,
                    "reason": reason.as_str(),
                    "detail": detail,
                    "at": at,
                });
                print_line(&event.to_string())?;
                continue;
            }
            table.row([
                transfer
                    .map_or_else(|| format!("message {}", sequence.unwrap_or_default()), |transfer| ids.show(transfer)),
                reason.as_str().into(),
                format!("{at:.0}"),
                channel.map_or_else(|| "-".into(), |channel| channel.to_string()),
                name.map_or_else(|| "-".into(), |name| name.to_string()),
                in_brief(&without_id(&detail, transfer)),
            ]);
        }
        if !table.is_empty() {
            table.print(0)?;
        }
        Ok(Outcome::Done)
    }
}

/// Says that a receiver has rejected nothing; and where there is none of this name, that, which is a failure: the name may be mistyped.
pub(super) async fn nothing(broker: &Broker, name: &ReceiverName) -> Outcome {
    // Who may not look, is not told.
    let inbox = broker.consumer(broker.stream().control(), name.as_str()).await;
    let (said, outcome) = match inbox {
        Ok(None) => (
            format!("there is no receiver '{name}', and none of that name has rejected anything: see `receivers`"),
            Outcome::Failed,
        ),
        _ => (format!("receiver '{name}' has rejected nothing"), Outcome::Done),
    };
    note(&said);
    outcome
}
