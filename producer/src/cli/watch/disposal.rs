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

use super::{
    lease,
    version::Version,
    writers::{Completion, Leave, Why},
};

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
    /// Somebody has it open for writing.
    InUse,
    /// It is not known whether somebody writes to it.
    Doubtful(Why),
    /// It was not there any more.
    Gone,
}

/// What was sent, and is to go.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) name: FileName,
    pub(super) version: Version,
    pub(super) completion: Completion,
}

impl Disposal {
    /// Does it, if the version that was sent is what is there, and nobody writes to it. Blocking.
    ///
    /// Between the comparison and the removal a moment remains: who replaces the file in it loses what they put there, or finds
    /// it moved. Nobody writes to the file in that moment if its writers are known: who begins to, waits, and then writes into
    /// what was removed.
    pub(super) fn act(&self, root: &Path, source: &Source, trusted: Completion) -> io::Result<Disposed> {
        if *self == Self::Keep {
            return Ok(Disposed::Kept);
        }
        let Source { name, version, completion } = source;
        let (directories, file) = name.split();
        let parent = root.join(directories.unwrap_or_default());
        let (parent, source) = match open_source(&parent, file) {
            Ok(opened) => opened,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Disposed::Gone),
            // A symbolic link.
            Err(Errno::LOOP) => return Ok(Disposed::Changed),
            Err(error) => return Err(error.into()),
        };
        // Before the comparison: what nobody writes to stays what it is, until it is closed.
        let leave = lease::ask(&source).leave(*completion, trusted);
        if Version::from(&source.metadata()?) != *version || !is_named(&parent, file, &source)? {
            return Ok(Disposed::Changed);
        }
        match leave {
            Leave::Granted => {}
            Leave::Later => return Ok(Disposed::InUse),
            Leave::Doubtful(why) => return Ok(Disposed::Doubtful(why)),
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

    fn outbox() -> (tempfile::TempDir, Source) {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("d")).unwrap();
        fs::write(root.path().join("d/a.txt"), "a").unwrap();
        let version = Version::from(&fs::symlink_metadata(root.path().join("d/a.txt")).unwrap());
        (root, Source { name: "d/a.txt".parse().unwrap(), version, completion: Completion::Told })
    }

    fn act(disposal: &Disposal, root: &tempfile::TempDir, source: &Source) -> Disposed {
        disposal.act(root.path(), source, Completion::Told).unwrap()
    }

    #[test]
    fn only_the_version_that_was_sent_is_deleted() {
        let (root, mut source) = outbox();
        let path = root.path().join("d/a.txt");
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        drop(file);
        assert_eq!(act(&Disposal::Delete, &root, &source), Disposed::Changed);
        source.version = Version::from(&fs::symlink_metadata(&path).unwrap());
        assert_eq!(act(&Disposal::Keep, &root, &source), Disposed::Kept);
        assert_eq!(act(&Disposal::Delete, &root, &source), Disposed::Deleted);
        assert_eq!(act(&Disposal::Delete, &root, &source), Disposed::Gone);
        // Its directory stays.
        assert!(root.path().join("d").is_dir());
        std::os::unix::fs::symlink("/etc/hostname", &path).unwrap();
        assert_eq!(act(&Disposal::Delete, &root, &source), Disposed::Changed);
    }

    /// Where the file system does not say who writes, a file that was closed goes.
    #[cfg(target_os = "linux")]
    #[test]
    fn what_somebody_writes_to_stays_until_it_is_closed() {
        let (root, mut source) = outbox();
        source.completion = Completion::Settled;
        let writer = fs::File::options().append(true).open(root.path().join("d/a.txt")).unwrap();
        let sent = root.path().join("sent");
        for disposal in [Disposal::Delete, Disposal::Move(sent.clone())] {
            match act(&disposal, &root, &source) {
                Disposed::Doubtful(Why::Unsupported) => return,
                disposed => assert_eq!(disposed, Disposed::InUse),
            }
        }
        assert!(!sent.exists());
        drop(writer);
        assert_eq!(act(&Disposal::Delete, &root, &source), Disposed::Deleted);
    }

    #[test]
    fn a_name_that_is_taken_gets_a_number() {
        let (root, source) = outbox();
        let sent = root.path().join("sent");
        fs::create_dir_all(sent.join("d")).unwrap();
        fs::write(sent.join("d/a.txt"), "another").unwrap();
        let moved = act(&Disposal::Move(sent.clone()), &root, &source);
        assert_eq!(moved, Disposed::Moved(sent.join("d/a (1).txt")));
        assert_eq!(fs::read(sent.join("d/a (1).txt")).unwrap(), b"a");
        assert_eq!(fs::read(sent.join("d/a.txt")).unwrap(), b"another");
    }
}
