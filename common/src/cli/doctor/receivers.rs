//! Judging who receives.

use super::Finding;
use crate::{
    Channel, Kind,
    broker::{Broker, ConsumerState},
};

/// Warns where there are receivers, and every one listens elsewhere: a channel may be mistyped.
pub(super) fn elsewhere(broker: &Broker, channel: &Channel, inboxes: &[ConsumerState]) -> Option<Finding> {
    let opened = broker.subjects().filter(Kind::Open, &channel.clone().into());
    if inboxes.iter().any(|inbox| inbox.listens_to_some(&opened)) {
        return None;
    }
    let receivers = inboxes.iter().filter(|inbox| inbox.durable);
    let mut there: Vec<_> =
        receivers.map(|inbox| format!("{} (on {})", inbox.name, broker.channels_in_words(inbox))).collect();
    there.sort_unstable();
    (!there.is_empty()).then(|| {
        let found = format!("none listens on channel {channel}; there are: {}", there.join(", "));
        Finding::warn(
            "receivers",
            found,
            "send on a channel that one of them listens on, or start one that listens on this",
        )
    })
}
