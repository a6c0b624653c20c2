//! What tells one version of a file from another, without reading it.

use std::{fs::Metadata, os::unix::fs::MetadataExt as _};

use serde::{Deserialize, Serialize};

/// A file as it looks from outside. What differs here may have changed; that nothing differs proves nothing: times can be set, and a
/// write through a mapping changes them late, or never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Version {
    pub(super) size: u64,
    pub(super) modified: Modified,
    pub(super) inode: u64,
    /// The time of the last change of anything, which nobody can set. Earlier programs did not note it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) changed: Option<Modified>,
}

/// A time of a file, in seconds and nanoseconds of the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Modified(pub(super) i64, pub(super) u32);

impl Version {
    /// Whether a file that looks like `now` looks as it did, as far as that was noted.
    pub(super) fn is_still(&self, now: &Self) -> bool {
        let noted = Self { changed: self.changed.and(now.changed), ..*now };
        *self == noted
    }

    /// Whether both are sent as the same thing, if they have the same bytes: only reading them tells whether they have.
    pub(super) fn resembles(&self, other: &Self) -> bool {
        (self.size, self.modified) == (other.size, other.modified)
    }

    /// Whether it is the same file, and neither its size nor the time of its bytes differ.
    pub(super) fn is_alike(&self, other: &Self) -> bool {
        self.resembles(other) && self.inode == other.inode
    }
}

impl From<&Metadata> for Version {
    fn from(metadata: &Metadata) -> Self {
        let time = |seconds, nanoseconds| Modified(seconds, u32::try_from(nanoseconds).unwrap_or(0));
        Self {
            size: metadata.len(),
            modified: time(metadata.mtime(), metadata.mtime_nsec()),
            inode: metadata.ino(),
            changed: Some(time(metadata.ctime(), metadata.ctime_nsec())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_was_not_noted_counts_for_nothing_and_one_that_was_tells_of_a_change() {
        let old = Version { size: 1, modified: Modified(1, 0), inode: 1, changed: None };
        let first = Version { changed: Some(Modified(1, 0)), ..old };
        let second = Version { changed: Some(Modified(2, 0)), ..old };
        assert!(old.is_still(&first) && first.is_still(&first) && !first.is_still(&second));
        assert!(first.resembles(&second) && first.resembles(&Version { inode: 2, ..first }));
        for other in [Version { size: 2, ..first }, Version { modified: Modified(1, 1), ..first }] {
            assert!(!first.resembles(&other) && !first.is_still(&other) && !old.is_still(&other));
        }
        assert!(!old.is_still(&Version { inode: 2, ..old }));
    }
}
