//! One look at one path.

use std::{io, path::Path};

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
