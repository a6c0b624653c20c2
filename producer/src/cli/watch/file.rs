//! One file of the outbox, and how far it is.

use std::time::Instant;

use super::{content::Content, version::Version, writers::Completion};

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
    /// What was sent of it last.
    pub(super) sent: Option<Content>,
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
    /// Under way, and what was seen of it meanwhile.
    Sending {
        seen: Sight,
    },
    /// It failed, and is tried again when it is due.
    Resting {
        due: Instant,
    },
    /// This version cannot be sent.
    Refused,
    Sent,
}

/// What was seen of a file while it was sent. What is being sent may be what was there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sight {
    Nothing,
    /// This version. One that is complete need not settle.
    Version(Version, Completion),
    /// That it was gone.
    Absence,
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
