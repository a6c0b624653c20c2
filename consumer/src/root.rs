//! Whether the directory that was opened is still the one that its path leads to.
//!
//! A handle stays with its directory, wherever that goes: files would land where no path leads, and be told as landed.

use std::{
    io,
    path::{Path, PathBuf},
};

use cap_std::fs::{Dir, MetadataExt as _};
use rustix::io::Errno;

use crate::disk_error::{Call, Meaning, meaning};

/// Device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity(u64, u64);

/// Why the directory is not the one that was opened any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Gone {
    /// It was removed.
    #[error("it was removed")]
    Removed,
    /// There is nothing at its path.
    #[error("there is nothing at its path any more: it was moved, or removed")]
    NoPath,
    /// Its path leads to another one.
    #[error(
        "its path leads to another directory now: it was moved and made anew, something was mounted or unmounted there, or a \
         symbolic link was changed"
    )]
    Replaced,
    /// Its file system does not answer to this process any more.
    #[error("its file system was unmounted, or started again")]
    Unreachable,
}

/// A directory's path, and what that led to when it was opened.
#[derive(Debug)]
pub(crate) struct Root {
    /// Absolute: where this process was started may be moved, too.
    path: PathBuf,
    /// `None` where path and handle did not agree to begin with, as file systems have it that make up inodes.
    identity: Option<Identity>,
}

impl Root {
    /// Remembers what a path leads to that was just opened.
    pub(crate) fn new(path: &Path, dir: &Dir) -> Self {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let identity = identity_of(dir).ok().filter(|identity| identity_at(&path).is_ok_and(|at| at == *identity));
        Self { path, identity }
    }

    /// Says whether it is gone, and how. Fails where that cannot be found out now.
    pub(crate) fn gone(&self, dir: &Dir) -> io::Result<Option<Gone>> {
        let handle = dir.dir_metadata().map(|metadata| metadata.nlink());
        judge(self.identity, handle, identity_at(&self.path))
    }
}

fn identity_of(dir: &Dir) -> io::Result<Identity> {
    let metadata = dir.dir_metadata()?;
    Ok(Identity(metadata.dev(), metadata.ino()))
}

fn identity_at(path: &Path) -> io::Result<Identity> {
    let metadata = std::fs::metadata(path)?;
    let (dev, ino) = (std::os::unix::fs::MetadataExt::dev(&metadata), std::os::unix::fs::MetadataExt::ino(&metadata));
    Ok(Identity(dev, ino))
}

/// Judges by how many links the handle's directory has, and what is at the path now.
fn judge(opened: Option<Identity>, links: io::Result<u64>, now: io::Result<Identity>) -> io::Result<Option<Gone>> {
    let is_unreachable = |error: &io::Error| meaning(Call::Use, error) == Meaning::Unreachable;
    match links {
        Ok(0) => return Ok(Some(Gone::Removed)),
        Err(error) if is_unreachable(&error) => return Ok(Some(Gone::Unreachable)),
        Err(error) => return Err(error),
        Ok(_) => {}
    }
    match now {
        Ok(now) if opened.is_none_or(|opened| opened == now) => Ok(None),
        Ok(_) => Ok(Some(Gone::Replaced)),
        Err(error) if is_unreachable(&error) => Ok(Some(Gone::Unreachable)),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(Some(Gone::NoPath)),
            // A symbolic link that leads to itself.
            _ if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => Ok(Some(Gone::NoPath)),
            _ => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_at_the_path_decides() {
        let (this, other) = (Identity(1, 2), Identity(1, 3));
        let of = |links, now| judge(Some(this), links, now).unwrap();
        assert_eq!(of(Ok(2), Ok(this)), None);
        assert_eq!(of(Ok(2), Ok(other)), Some(Gone::Replaced));
        assert_eq!(of(Ok(0), Ok(this)), Some(Gone::Removed));
        assert_eq!(of(Ok(2), Err(Errno::NOENT.into())), Some(Gone::NoPath));
        assert_eq!(of(Ok(2), Err(Errno::NOTDIR.into())), Some(Gone::NoPath));
        for errno in [Errno::NOTCONN, Errno::STALE] {
            assert_eq!(of(Ok(2), Err(errno.into())), Some(Gone::Unreachable));
            assert_eq!(of(Err(errno.into()), Ok(this)), Some(Gone::Unreachable));
        }
        // Not known is not gone.
        for errno in [Errno::IO, Errno::ACCESS, Errno::TIMEDOUT] {
            judge(Some(this), Ok(2), Err(errno.into())).unwrap_err();
        }
        assert_eq!(judge(None, Ok(2), Ok(other)).unwrap(), None);
    }

    #[test]
    fn however_a_directory_goes_that_is_noticed() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        for name in ["stays", "moved", "removed", "one", "other"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        std::os::unix::fs::symlink("one", at("link")).unwrap();
        let open = |name: &str| {
            let dir = Dir::open_ambient_dir(at(name), cap_std::ambient_authority()).unwrap();
            (Root::new(&at(name), &dir), dir)
        };
        let opened = ["stays", "moved", "removed", "link"].map(open);
        let gone = || opened.each_ref().map(|(root, dir)| root.gone(dir).unwrap());
        assert_eq!(gone(), [None; 4]);
        std::fs::rename(at("moved"), at("elsewhere")).unwrap();
        std::fs::remove_dir(at("removed")).unwrap();
        std::fs::remove_file(at("link")).unwrap();
        std::os::unix::fs::symlink("other", at("link")).unwrap();
        assert_eq!(gone(), [None, Some(Gone::NoPath), Some(Gone::Removed), Some(Gone::Replaced)]);
        std::fs::create_dir(at("moved")).unwrap();
        assert_eq!(gone()[1], Some(Gone::Replaced));
        std::fs::remove_dir(at("moved")).unwrap();
        std::fs::rename(at("elsewhere"), at("moved")).unwrap();
        assert_eq!(gone()[1], None, "it is back");
    }
}
