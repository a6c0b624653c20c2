//! One look at one path.

use std::{fs::Metadata, io, os::unix::fs::MetadataExt as _, path::Path};

use super::version::Version;

/// What is there.
#[derive(Debug)]
pub(super) enum Seen {
    File(Version),
    Directory,
    /// A symbolic link, or something else that is not sent.
    Other,
    Nothing,
    /// It cannot be known.
    Unknown(io::Error),
}

/// Looks, and follows no link. Blocking.
pub(super) fn look(path: &Path) -> Seen {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() => Seen::File(Version::from(&metadata)),
        Ok(metadata) if metadata.is_dir() => Seen::Directory,
        Ok(_) => Seen::Other,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Seen::Nothing,
        Err(error) => Seen::Unknown(error),
    }
}

/// A directory as it was when it was looked at first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Root {
    device: u64,
    inode: u64,
}

impl Root {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }

    /// Whether another directory, or none, stands there now. What cannot be known is taken for a no. Blocking.
    pub(super) fn is_gone(&self, path: &Path) -> bool {
        match std::fs::metadata(path) {
            Ok(metadata) => (metadata.dev(), metadata.ino()) != (self.device, self.inode),
            Err(error) => matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
        }
    }
}
