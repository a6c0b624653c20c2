//! Which directories with nothing in them were emptied, and which may be where a mount is missing.

use std::{
    collections::HashMap,
    fs::Metadata,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// What tells a directory from the one that is mounted on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    device: u64,
    inode: u64,
}

impl From<&Metadata> for Place {
    fn from(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// Directories in which this run has seen something. Those that were not met in the last scan of everything are forgotten.
#[derive(Debug, Default)]
pub(super) struct Peopled {
    now: HashMap<PathBuf, Place>,
    /// What the scan of everything that is under way has not come to yet.
    before: HashMap<PathBuf, Place>,
}

impl Peopled {
    /// Everything is about to be looked at.
    pub(super) fn begin_everything(&mut self) {
        self.before = std::mem::take(&mut self.now);
    }

    /// Something is in this directory.
    pub(super) fn note(&mut self, directory: &Path, place: Place) {
        self.now.insert(directory.to_owned(), place);
    }

    /// Nothing is in this directory: whether it is the one that something was in, and was emptied since.
    pub(super) fn is_emptied(&mut self, directory: &Path, place: Place) -> bool {
        let known = self.now.get(directory).copied().or_else(|| self.before.remove(directory));
        if let Some(known) = known {
            self.now.insert(directory.to_owned(), known);
        }
        known == Some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_was_emptied_if_it_is_the_one_that_something_was_in() {
        let (mounted, below) = (Place { device: 2, inode: 1 }, Place { device: 1, inode: 9 });
        let (mut peopled, d, never) = (Peopled::default(), Path::new("d"), Path::new("never"));
        peopled.note(d, mounted);
        for scan in 0..3 {
            peopled.begin_everything();
            assert!(!peopled.is_emptied(d, below), "its mount is missing in scan {scan}");
            assert!(!peopled.is_emptied(never, below));
        }
        assert!(peopled.is_emptied(d, mounted));
        // Neither seen empty nor otherwise.
        peopled.begin_everything();
        peopled.begin_everything();
        assert!(!peopled.is_emptied(d, mounted));
    }
}
