//! Whether a source may go, by who writes to it. No I/O.
//!
//! A file that was closed or renamed in is complete. One that has only settled may belong to a writer that pauses, and is not
//! taken away under it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Who has a file open for writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writers {
    Nobody,
    Somebody,
    Unknown(Why),
}

/// Why it is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// Only a file's owner may ask.
    NotOwner,
    /// Others may write to the file system, of whom the system here does not know.
    Shared,
    /// The operating system, or the file system, does not say.
    Unsupported,
}

/// How a version of a file is known to be complete; what is known better is greater.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Completion {
    /// It has not changed for the settle time.
    #[default]
    Settled,
    /// The system said that it was closed, or renamed in.
    Told,
}

/// Whether a source goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    Granted,
    /// When its writer has closed it.
    Later,
    /// When the system says that it is complete, or its writers are known.
    Doubtful(Why),
}

impl Writers {
    /// Where they are not known, a source goes if it is known to be complete so well.
    pub(super) fn leave(self, completion: Completion, trusted: Completion) -> Leave {
        match self {
            Self::Nobody => Leave::Granted,
            Self::Somebody => Leave::Later,
            Self::Unknown(_) if completion >= trusted => Leave::Granted,
            Self::Unknown(why) => Leave::Doubtful(why),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotOwner => "only its owner, or who has CAP_LEASE, may ask",
            Self::Shared => "others may write to its file system unseen",
            Self::Unsupported => "its file system, or this operating system, does not tell",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_goes_under_a_writer_and_in_doubt_only_what_is_complete() {
        use {Completion::*, Leave::*, Writers::*};
        let unknown = Unknown(Why::Shared);
        for (writers, completion, trusted, leave) in [
            (Nobody, Told, Told, Granted),
            (Nobody, Settled, Told, Granted),
            (Somebody, Told, Settled, Later),
            (Somebody, Settled, Settled, Later),
            (unknown, Told, Told, Granted),
            (unknown, Settled, Told, Doubtful(Why::Shared)),
            (unknown, Settled, Settled, Granted),
        ] {
            assert_eq!(writers.leave(completion, trusted), leave, "{writers:?} {completion:?} {trusted:?}");
        }
    }
}
