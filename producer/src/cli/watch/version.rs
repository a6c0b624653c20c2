//! What tells one version of a file from another, without reading it.

use std::{fs::Metadata, os::unix::fs::MetadataExt as _};

use serde::{Deserialize, Serialize};

/// A file as it looks from outside. Whatever changes it changes one of these, but for a write that keeps the size and comes
/// within one tick of the file system's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Version {
    pub(super) size: u64,
    pub(super) modified: Modified,
    pub(super) inode: u64,
}

/// A modification time, in seconds and nanoseconds of the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Modified(pub(super) i64, pub(super) u32);

impl From<&Metadata> for Version {
    fn from(metadata: &Metadata) -> Self {
        let nanoseconds = u32::try_from(metadata.mtime_nsec()).unwrap_or(0);
        Self { size: metadata.len(), modified: Modified(metadata.mtime(), nanoseconds), inode: metadata.ino() }
    }
}
