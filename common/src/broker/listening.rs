//! Who listens on a channel, and who elsewhere: its name may be mistyped, and nothing else would ever tell.

use super::{Broker, ConsumerState};
use crate::{ChannelFilter, Kind};

/// A stream's receivers, as to some channels; each part is in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listening {
    /// Names of those that listen on them.
    pub here: Vec<String>,
    /// The others, with what they listen on, for people.
    pub elsewhere: Vec<String>,
}

impl Broker {
    /// Who of these inboxes listens on these channels. A consumer that is not durable is no receiver's.
    pub fn listening(&self, inboxes: &[ConsumerState], channels: &ChannelFilter) -> Listening {
        let opened = self.subjects().filter(Kind::Open, channels);
        let receivers = inboxes.iter().filter(|inbox| inbox.durable);
        let (here, elsewhere): (Vec<_>, Vec<_>) = receivers.partition(|inbox| inbox.listens_to_some(&opened));
        let with_channels = |inbox: &ConsumerState| format!("{} (on {})", inbox.name, self.channels_in_words(inbox));
        let (mut here, mut elsewhere): (Vec<_>, Vec<_>) = (
            here.into_iter().map(|inbox| inbox.name.clone()).collect(),
            elsewhere.into_iter().map(with_channels).collect(),
        );
        here.sort_unstable();
        elsewhere.sort_unstable();
        Listening { here, elsewhere }
    }
}
