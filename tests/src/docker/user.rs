//! Whose the files are.

use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

use anyhow::{Context, Result};
use rustix::process::{getgid, getuid};

/// Who the containers run as: whoever runs the test; or the compose file's default, if that is root, for natsfer is not to run as
/// root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// The compose file's `1000:1000`, with nothing set, and the files of the test given to it.
    Default,
    /// `UID_GID` is set.
    Own {
        /// `id -u`
        uid: u32,
        /// `id -g`
        gid: u32,
    },
}

impl User {
    /// Who it is in this test.
    #[must_use]
    pub fn of_this_test() -> Self {
        if getuid().is_root() {
            return Self::Default;
        }
        Self::Own { uid: getuid().as_raw(), gid: getgid().as_raw() }
    }

    /// `UID_GID`, if it is set.
    #[must_use]
    pub fn setting(self) -> Option<String> {
        match self {
            Self::Default => None,
            Self::Own { uid, gid } => Some(format!("{uid}:{gid}")),
        }
    }

    /// `id -u` and `id -g`.
    #[must_use]
    pub fn ids(self) -> (u32, u32) {
        match self {
            Self::Default => (1000, 1000),
            Self::Own { uid, gid } => (uid, gid),
        }
    }

    /// Whether the file is this user's.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn owns(self, path: &Path) -> Result<bool> {
        let data = path.symlink_metadata().with_context(|| path.display().to_string())?;
        Ok((data.uid(), data.gid()) == self.ids())
    }

    /// Gives everything below `path`, which the test has made, to this user.
    pub(super) fn give(self, path: &Path) -> Result<()> {
        if self != Self::Default {
            return Ok(());
        }
        let (uid, gid) = self.ids();
        let mut pending = vec![path.to_owned()];
        while let Some(path) = pending.pop() {
            chown(&path, Some(uid), Some(gid)).with_context(|| path.display().to_string())?;
            if path.is_dir() {
                for entry in path.read_dir()? {
                    pending.push(entry?.path());
                }
            }
        }
        Ok(())
    }
}
