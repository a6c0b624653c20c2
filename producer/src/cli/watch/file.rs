//! One file of the outbox, and how far it is.

use std::time::Instant;

use super::{version::Version, writers::Completion};

#[derive(Debug)]
pub(super) struct File {
    pub(super) version: Version,
    /// Its place in the order.
    pub(super) turn: u64,
    /// The scan of everything that has seen it last.
    pub(super) scan: u32,
    /// How often in a row it failed.
    pub(super) failures: u32,
    /// How this version is known to be complete, if it is.
    pub(super) completion: Completion,
    pub(super) state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Known to be unchanged since, and looked at again when it is due.
    Settling {
        due: Instant,
    },
    /// Due: a last look is under way.
    Looking,
    Ready,
    /// Under way. A version that was seen complete meanwhile need not settle.
    Sending {
        complete: Option<Version>,
    },
    /// It failed, and is tried again when it is due.
    Resting {
        due: Instant,
    },
    /// This version cannot be sent.
    Refused,
    Sent,
}

impl State {
    /// Whether this version is still to be sent.
    pub(super) fn is_pending(self) -> bool {
        !matches!(self, Self::Sent | Self::Refused)
    }

    /// Whether it is being sent.
    pub(super) fn is_under_way(self) -> bool {
        matches!(self, Self::Sending { .. })
    }
}
