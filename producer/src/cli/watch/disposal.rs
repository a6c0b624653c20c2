//! What becomes of a source that has been sent.

use std::{
    fs::File,
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use natsfer_producer::FileName;
use rustix::{
    fs::{AtFlags, Mode, OFlags, RenameFlags, linkat, open, openat, renameat_with, unlinkat},
    io::Errno,
};

use super::version::Version;

/// Names tried beside one that is taken.
const MOST_NUMBERS: u32 = 10_000;

/// What is done with a source that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Disposal {
    Keep,
    Delete,
    /// To this directory.
    Move(PathBuf),
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Disposed {
    Kept,
    Deleted,
    /// To this path.
    Moved(PathBuf),
    /// Another version is there than was sent.
    Changed,
    /// It was not there any more.
    Gone,
}

impl Disposal {
    /// Does it, if the version that was sent is what is there. Blocking.
    ///
    /// Between the comparison and the removal a moment remains: who replaces the file in it loses what they put there, or finds
    /// it moved. Who has it open, and writes on, writes into what is removed.
    pub(super) fn act(&self, root: &Path, name: &FileName, version: &Version) -> io::Result<Disposed> {
        if *self == Self::Keep {
            return Ok(Disposed::Kept);
        }
        let (directories, file) = name.split();
        let parent = root.join(directories.unwrap_or_default());
        let (parent, source) = match open_source(&parent, file) {
            Ok(opened) => opened,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Disposed::Gone),
            // A symbolic link.
            Err(Errno::LOOP) => return Ok(Disposed::Changed),
            Err(error) => return Err(error.into()),
        };
        if Version::from(&source.metadata()?) != *version || !is_named(&parent, file, &source)? {
            return Ok(Disposed::Changed);
        }
        match self {
            Self::Keep => Ok(Disposed::Kept),
            Self::Delete => Ok(unlinkat(&parent, file, AtFlags::empty()).map(|()| Disposed::Deleted)?),
            Self::Move(to) => move_away(&parent, file, to, name).map(Disposed::Moved),
        }
    }
}

/// The directory that a file is in, and the file.
fn open_source(parent: &Path, file: &str) -> rustix::io::Result<(File, File)> {
    let directory = open(parent, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    // Whatever has come there since: opening a FIFO would wait.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let source = openat(&directory, file, flags, Mode::empty())?;
    Ok((directory.into(), source.into()))
}

/// Whether the name stands for this very file.
fn is_named(parent: &File, file: &str, source: &File) -> io::Result<bool> {
    let named = rustix::fs::statat(parent, file, AtFlags::SYMLINK_NOFOLLOW)?;
    let source = source.metadata()?;
    Ok((named.st_dev as u64, named.st_ino as u64) == (source.dev(), source.ino()))
}

/// Replaces nothing: a name that is taken gets a number.
fn move_away(parent: &File, file: &str, to: &Path, name: &FileName) -> io::Result<PathBuf> {
    let directory = to.join(name.split().0.unwrap_or_default());
    std::fs::create_dir_all(&directory)?;
    let target = File::open(&directory)?;
    for attempt in 0..MOST_NUMBERS {
        let candidate = if attempt == 0 { name.clone() } else { name.numbered(attempt) };
        let (_, new) = candidate.split();
        match rename(parent, file, &target, new) {
            Ok(()) => return Ok(directory.join(new)),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::Error::other(format!("it and {MOST_NUMBERS} names beside it are taken in {}", directory.display())))
}

fn rename(parent: &File, file: &str, target: &File, new: &str) -> rustix::io::Result<()> {
    match renameat_with(parent, file, target, new, RenameFlags::NOREPLACE) {
        // File systems without it: a hard link does not replace either.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            linkat(parent, file, target, new, AtFlags::empty())?;
            unlinkat(parent, file, AtFlags::empty())
        }
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, time::SystemTime};

    use super::*;

    fn outbox() -> (tempfile::TempDir, FileName, Version) {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("d")).unwrap();
        fs::write(root.path().join("d/a.txt"), "a").unwrap();
        let version = Version::from(&fs::symlink_metadata(root.path().join("d/a.txt")).unwrap());
        (root, "d/a.txt".parse().unwrap(), version)
    }

    #[test]
    fn only_the_version_that_was_sent_is_deleted() {
        let (root, name, version) = outbox();
        let path = root.path().join("d/a.txt");
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(Disposal::Delete.act(root.path(), &name, &version).unwrap(), Disposed::Changed);
        let version = Version::from(&fs::symlink_metadata(&path).unwrap());
        assert_eq!(Disposal::Keep.act(root.path(), &name, &version).unwrap(), Disposed::Kept);
        assert_eq!(Disposal::Delete.act(root.path(), &name, &version).unwrap(), Disposed::Deleted);
        assert_eq!(Disposal::Delete.act(root.path(), &name, &version).unwrap(), Disposed::Gone);
        // Its directory stays.
        assert!(root.path().join("d").is_dir());
        std::os::unix::fs::symlink("/etc/hostname", &path).unwrap();
        assert_eq!(Disposal::Delete.act(root.path(), &name, &version).unwrap(), Disposed::Changed);
    }

    #[test]
    fn a_name_that_is_taken_gets_a_number() {
        let (root, name, version) = outbox();
        let sent = root.path().join("sent");
        fs::create_dir_all(sent.join("d")).unwrap();
        fs::write(sent.join("d/a.txt"), "another").unwrap();
        let moved = Disposal::Move(sent.clone()).act(root.path(), &name, &version).unwrap();
        assert_eq!(moved, Disposed::Moved(sent.join("d/a (1).txt")));
        assert_eq!(fs::read(sent.join("d/a (1).txt")).unwrap(), b"a");
        assert_eq!(fs::read(sent.join("d/a.txt")).unwrap(), b"another");
    }
}
