//! Directories with nothing in them: whether they were emptied, or may be where a mount is missing. `Scanner` notes what it sees, and asks.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use super::home::Root;

/// Directories in which this run has seen something. Those that were not met in the last scan of everything are forgotten.
#[derive(Debug, Default)]
pub(super) struct SeenNonEmpty {
    now: HashMap<PathBuf, Root>,
    /// What the scan of everything that is under way has not come to yet.
    before: HashMap<PathBuf, Root>,
}

impl SeenNonEmpty {
    /// Everything is about to be looked at.
    pub(super) fn begin_everything(&mut self) {
        self.before = std::mem::take(&mut self.now);
    }

    /// Something is in this directory.
    pub(super) fn note(&mut self, directory: &Path, root: Root) {
        self.now.insert(directory.to_owned(), root);
    }

    /// Nothing is in this directory: whether it is the one that something was in, and was emptied since.
    pub(super) fn is_emptied(&mut self, directory: &Path, root: Root) -> bool {
        let known = self.now.get(directory).copied().or_else(|| self.before.remove(directory));
        if let Some(known) = known {
            self.now.insert(directory.to_owned(), known);
        }
        known == Some(root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_was_emptied_if_it_is_the_one_that_something_was_in() {
        let root = |device, inode| Root { device, inode, born: None };
        let (mounted, below) = (root(2, 1), root(1, 9));
        let (mut seen, d, never) = (SeenNonEmpty::default(), Path::new("d"), Path::new("never"));
        seen.note(d, mounted);
        for scan in 0..3 {
            seen.begin_everything();
            assert!(!seen.is_emptied(d, below), "its mount is missing in scan {scan}");
            assert!(!seen.is_emptied(never, below));
        }
        assert!(seen.is_emptied(d, mounted));
        // Neither seen empty nor otherwise.
        seen.begin_everything();
        seen.begin_everything();
        assert!(!seen.is_emptied(d, mounted));
    }
}
