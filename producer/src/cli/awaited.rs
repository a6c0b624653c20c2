//! Who receives on a channel: its name, or a receiver's, may be mistyped, and nothing else would ever tell.

use std::{io::IsTerminal as _, time::Duration};

use natsfer_common::{
    Kind,
    broker::{Broker, Listening},
    cli::note,
};
use natsfer_producer::{Channel, ChannelFilter, ReceiverName};

/// `None` for who may not look, or cannot now: that is no reason to hold anything up.
async fn look(broker: &Broker, channels: &ChannelFilter) -> Option<Listening> {
    let inboxes = broker.with_patience(Duration::ZERO).consumers(broker.stream().control()).await.ok()?;
    Some(broker.listening(&inboxes, channels))
}

fn in_words(channels: &ChannelFilter, Listening { here, elsewhere }: &Listening) -> String {
    match (&here[..], &elsewhere[..]) {
        ([], []) => format!("no receiver listens on channel {channels}"),
        ([], others) => format!("no receiver listens on channel {channels}; there are: {}", others.join(", ")),
        (names, _) => format!("receivers of channel {channels}: {}", names.join(", ")),
    }
}

/// Warns of each that is no receiver of these channels, and says what comes of it. It may become one.
pub(crate) async fn warn_of_strangers(
    broker: &Broker, channels: &ChannelFilter, receivers: &[ReceiverName], comes: &str,
) {
    // What cannot be found out now is no reason to hold anything up.
    let at_once = broker.with_patience(Duration::ZERO);
    let opened = broker.subjects().filter(Kind::Open, channels);
    let mut strangers = false;
    for receiver in receivers {
        match at_once.consumer(broker.stream().control(), receiver.as_str()).await {
            Ok(Some(inbox)) if inbox.listens_to_some(&opened) => {}
            Ok(Some(_)) => {
                strangers = true;
                tracing::warn!("receiver '{receiver}' does not listen on channel {channels}: {comes}");
            }
            Ok(None) => {
                strangers = true;
                tracing::warn!("there is no receiver '{receiver}' yet: {comes}");
            }
            Err(error) => tracing::debug!(%error, "cannot look for receiver '{receiver}'"),
        }
    }
    if strangers && let Some(listening) = look(broker, channels).await {
        tracing::warn!("{}", in_words(channels, &listening));
    }
}

/// Warns where there are receivers, and every one listens elsewhere.
pub(crate) async fn warn_if_all_elsewhere(broker: &Broker, channel: &Channel) {
    let channels = channel.clone().into();
    if let Some(listening) = look(broker, &channels).await
        && listening.here.is_empty()
        && !listening.elsewhere.is_empty()
    {
        tracing::warn!("{}", in_words(&channels, &listening));
    }
}

/// Says to whoever sits at a terminal that nobody listens on this channel. Programs send at any time, and are not slowed down for it.
pub(crate) async fn note_if_nobody(broker: &Broker, channel: &Channel) {
    if !std::io::stderr().is_terminal() {
        return;
    }
    let channels = channel.clone().into();
    if let Some(listening) = look(broker, &channels).await
        && listening.here.is_empty()
    {
        note(&format!("no receiver listens on channel {channel} yet; it is stored for those to come"));
    }
}
