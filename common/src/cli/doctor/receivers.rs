//! Judging who receives.

use super::Finding;
use crate::{Channel, broker::Listening};

/// Warns where there are receivers, and every one listens elsewhere: the channel may be mistyped.
pub(super) fn elsewhere(channel: &Channel, listening: &Listening) -> Option<Finding> {
    let Listening { here, elsewhere } = listening;
    (here.is_empty() && !elsewhere.is_empty()).then(|| {
        let found = format!("none listens on channel {channel}; there are: {}", elsewhere.join(", "));
        Finding::warn(
            "receivers",
            found,
            "send on a channel that one of them listens on, or start one that listens on this",
        )
    })
}
