//! Who receives on a channel: its name, or a receiver's, may be mistyped, and nothing else would ever tell.

use std::{io::IsTerminal as _, time::Duration};

use natsfer_common::{
    Kind,
    broker::{Broker, ConsumerState},
    cli::note,
};
use natsfer_producer::{Channel, ChannelFilter, ReceiverName};

/// The receivers of a stream, as to some channels.
struct Around<'a> {
    channels: &'a ChannelFilter,
    /// Those that listen on them.
    listening: Vec<String>,
    /// The others, with what they listen on.
    elsewhere: Vec<String>,
}

impl<'a> Around<'a> {
    /// `None` for who may not look, or cannot now: that is no reason to hold anything up.
    async fn look(broker: &Broker, channels: &'a ChannelFilter) -> Option<Self> {
        let broker = &broker.with_patience(Duration::ZERO);
        let inboxes = broker.consumers(broker.stream().control()).await.ok()?;
        let opened = broker.subjects().filter(Kind::Open, channels);
        let receivers = inboxes.iter().filter(|inbox| inbox.durable);
        let (listening, elsewhere): (Vec<_>, Vec<_>) = receivers.partition(|inbox| inbox.listens_to_some(&opened));
        let with_channels = |inbox: &ConsumerState| format!("{} (on {})", inbox.name, broker.channels_in_words(inbox));
        let mut around = Self {
            channels,
            listening: listening.into_iter().map(|inbox| inbox.name.clone()).collect(),
            elsewhere: elsewhere.into_iter().map(with_channels).collect(),
        };
        around.listening.sort_unstable();
        around.elsewhere.sort_unstable();
        Some(around)
    }

    fn to_text(&self) -> String {
        let channels = self.channels;
        match (&self.listening[..], &self.elsewhere[..]) {
            ([], []) => format!("no receiver listens on channel {channels}"),
            ([], others) => format!("no receiver listens on channel {channels}; there are: {}", others.join(", ")),
            (names, _) => format!("receivers of channel {channels}: {}", names.join(", ")),
        }
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
    if strangers && let Some(around) = Around::look(broker, channels).await {
        tracing::warn!("{}", around.to_text());
    }
}

/// Warns where there are receivers, and every one listens elsewhere.
pub(crate) async fn warn_if_all_elsewhere(broker: &Broker, channel: &Channel) {
    let channels = channel.clone().into();
    if let Some(around) = Around::look(broker, &channels).await
        && around.listening.is_empty()
        && !around.elsewhere.is_empty()
    {
        tracing::warn!("{}", around.to_text());
    }
}

/// Says to whoever sits at a terminal that nobody listens on this channel. Programs send at any time, and are not slowed down for it.
pub(crate) async fn note_if_nobody(broker: &Broker, channel: &Channel) {
    if !std::io::stderr().is_terminal() {
        return;
    }
    let channels = channel.clone().into();
    if let Some(around) = Around::look(broker, &channels).await
        && around.listening.is_empty()
    {
        note(&format!("no receiver listens on channel {channel} yet; it is stored for those to come"));
    }
}
