//! Receivers that are waited for, and are not there: a name may be mistyped.

use std::{io::IsTerminal as _, time::Duration};

use natsfer_common::{
    broker::{Broker, ConsumerState},
    cli::note,
};
use natsfer_producer::{Channel, ReceiverName, TransferId};

/// Warns of each that is no receiver of this channel. It may become one, and is waited for.
pub(crate) async fn warn_of_strangers(broker: &Broker, channel: &Channel, receivers: &[ReceiverName]) {
    // What cannot be found out now is no reason to hold anything up.
    let broker = &broker.with_patience(Duration::ZERO);
    let Ok(transfer) = TransferId::random() else { return };
    let subject = broker.subjects().open(channel, transfer);
    let mut strangers = false;
    for receiver in receivers {
        match broker.consumer(broker.stream().control(), receiver.as_str()).await {
            Ok(Some(inbox)) if inbox.listens_to(&subject) => {}
            Ok(Some(_)) => {
                strangers = true;
                tracing::warn!(
                    "receiver '{receiver}' does not listen on channel {channel}: it is waited for all the same"
                );
            }
            Ok(None) => {
                strangers = true;
                tracing::warn!("there is no receiver '{receiver}' yet: it is waited for all the same");
            }
            Err(error) => tracing::debug!(%error, "cannot look for receiver '{receiver}'"),
        }
    }
    if !strangers {
        return;
    }
    // Who may not look, is not told.
    if let Ok(inboxes) = broker.consumers(broker.stream().control()).await {
        tracing::warn!("{}", those_there(&inboxes, &subject, channel));
    }
}

/// Says to whoever sits at a terminal that nobody listens on this channel: its name may be mistyped. Programs send at any time, and
/// are not slowed down for it.
pub(crate) async fn note_if_nobody(broker: &Broker, channel: &Channel) {
    if !std::io::stderr().is_terminal() {
        return;
    }
    let broker = &broker.with_patience(Duration::ZERO);
    let Ok(transfer) = TransferId::random() else { return };
    let subject = broker.subjects().open(channel, transfer);
    // Who may not look, is not told.
    let Ok(inboxes) = broker.consumers(broker.stream().control()).await else { return };
    if !inboxes.iter().any(|inbox| inbox.listens_to(&subject)) {
        note(&format!("no receiver listens on channel {channel} yet; it is stored for those to come"));
    }
}

fn those_there(inboxes: &[ConsumerState], subject: &str, channel: &Channel) -> String {
    let mut names: Vec<_> =
        inboxes.iter().filter(|inbox| inbox.listens_to(subject)).map(|inbox| inbox.name.as_str()).collect();
    names.sort_unstable();
    match &names[..] {
        [] => format!("no receiver listens on channel {channel}"),
        names => format!("receivers of channel {channel}: {}", names.join(", ")),
    }
}
