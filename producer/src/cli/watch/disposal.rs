//! What becomes of a source that has been sent.

use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use natsfer_producer::{Digest, FileName};
use rustix::{
    fs::{AtFlags, Mode, OFlags, openat, unlinkat},
    io::Errno,
};

use super::{
    content::{Comparison, compare},
    home::Home,
    lease, leaving,
    version::Version,
    writers::{Completion, Leave, Why, Writers},
};

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
    /// It looks like the version that was sent, and has other bytes.
    Altered,
    /// Somebody has it open for writing.
    InUse,
    /// It is not known whether somebody writes to it.
    Doubtful(Why),
    /// It was not there any more.
    Gone,
    /// The directory that is watched is not there any more.
    Astray,
}

/// What was sent, and is to go.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) name: FileName,
    pub(super) version: Version,
    pub(super) digest: Digest,
    pub(super) completion: Completion,
}

impl Disposal {
    /// Does it, if the bytes that were sent are what is there, and nobody writes to them. Blocking.
    ///
    /// The bytes are read right before. Then the file loses its name, so that nobody opens it any more, and is looked at once more: if
    /// somebody came in between, or it is another one, it gets its name back. Where the system tells who writes, that leaves no
    /// moment in which anything could be lost; elsewhere the bytes are read once more, and what is written later through a descriptor
    /// that is open is lost.
    pub(super) fn act(&self, home: &Home, source: &Source, trusted: Completion) -> io::Result<Disposed> {
        if *self == Self::Keep {
            return Ok(Disposed::Kept);
        }
        if home.check().is_err() {
            return Ok(Disposed::Astray);
        }
        let Ok(root) = home.open()? else { return Ok(Disposed::Astray) };
        let Source { name, version, digest, completion } = source;
        let (directories, file) = name.split();
        let (parent, opened) = match open_source(root, directories.unwrap_or_default(), file) {
            Ok(opened) => opened,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Disposed::Gone),
            // A symbolic link.
            Err(Errno::LOOP) => return Ok(Disposed::Changed),
            Err(error) => return Err(error.into()),
        };
        // Before the comparison: what nobody writes to stays what it is, until it is closed or the lease is asked for.
        let writers = lease::ask(&opened);
        if writers == Writers::Somebody {
            return Ok(Disposed::InUse);
        }
        let metadata = opened.metadata()?;
        if !metadata.is_file()
            || !Version::from(&metadata).resembles(version)
            || !is_named(&parent, file.as_ref(), &opened)?
        {
            return Ok(Disposed::Changed);
        }
        match writers.leave(*completion, trusted) {
            Leave::Granted => {}
            Leave::Later => return Ok(Disposed::InUse),
            Leave::Doubtful(why) => return Ok(Disposed::Doubtful(why)),
        }
        let bytes = Bytes { opened: &opened, writers, size: version.size, digest: *digest };
        if let Some(disposed) = bytes.read()? {
            return Ok(disposed);
        }
        let aside = match self {
            Self::Delete => match Aside::beside(&parent, file)? {
                Some(aside) => aside,
                None => return Ok(unlinkat(&parent, file, AtFlags::empty()).map(|()| Disposed::Deleted)?),
            },
            Self::Move(to) => Aside::moved(&parent, file, to, name)?,
            Self::Keep => return Ok(Disposed::Kept),
        };
        let hindrance = match is_named(&aside.directory, aside.name.as_ref(), &opened) {
            Ok(true) => bytes.look_again(),
            Ok(false) => Ok(Some(Disposed::Changed)),
            Err(error) => Err(error),
        };
        match (hindrance, self) {
            (Ok(None), Self::Move(_)) => Ok(Disposed::Moved(aside.path)),
            (Ok(None), _) => match aside.delete() {
                Ok(()) => Ok(Disposed::Deleted),
                Err(error) => aside.put_back().and(Err(error)),
            },
            (Ok(Some(disposed)), _) => aside.put_back().map(|()| disposed),
            (Err(error), _) => aside.put_back().and(Err(error)),
        }
    }

    /// What cannot be done, if it cannot.
    pub(super) fn attempt(&self) -> String {
        match self {
            Self::Keep => "kept".into(),
            Self::Delete => "deleted".into(),
            Self::Move(to) => format!("moved to {}", to.display()),
        }
    }
}

/// The bytes of a source, and what they should be.
struct Bytes<'a> {
    opened: &'a File,
    writers: Writers,
    size: u64,
    digest: Digest,
}

impl Bytes<'_> {
    /// Whether they are not to go, and why.
    fn read(&self) -> io::Result<Option<Disposed>> {
        Ok(match compare(self.opened, self.size, self.digest, || self.is_undisturbed())? {
            // As soon as somebody wants to write: they wait for us.
            Comparison::GivenUp => Some(Disposed::InUse),
            Comparison::Different => Some(Disposed::Altered),
            Comparison::Same if self.is_undisturbed() => None,
            Comparison::Same => Some(Disposed::InUse),
        })
    }

    /// The same, after nobody can open them under their name any more.
    fn look_again(&self) -> io::Result<Option<Disposed>> {
        match self.writers {
            Writers::Nobody => Ok((!self.is_undisturbed()).then_some(Disposed::InUse)),
            Writers::Somebody | Writers::Unknown(_) => self.read(),
        }
    }

    /// Whether nobody has asked to write since it was said that nobody does, where that is known.
    fn is_undisturbed(&self) -> bool {
        self.writers != Writers::Nobody || lease::is_held(self.opened)
    }
}

/// A source that has lost its name.
struct Aside<'a> {
    parent: &'a File,
    file: &'a str,
    directory: File,
    name: String,
    path: PathBuf,
}

impl<'a> Aside<'a> {
    /// To a name in the same directory; `None` where there is no room for one: to delete makes room.
    fn beside(parent: &'a File, file: &'a str) -> io::Result<Option<Self>> {
        let Some(name) = leaving::name_meanwhile(file) else { return Ok(None) };
        let directory = parent.try_clone()?;
        match leaving::rename(parent, file.as_ref(), parent, &name) {
            Ok(()) => {}
            Err(Errno::NOSPC | Errno::DQUOT | Errno::NAMETOOLONG) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let path = PathBuf::from(&name);
        Ok(Some(Self { parent, file, directory, name, path }))
    }

    /// To the directory that it is moved to. Replaces nothing: a name that is taken gets a number.
    fn moved(parent: &'a File, file: &'a str, to: &Path, name: &FileName) -> io::Result<Self> {
        let path = name.split().0.map_or_else(|| to.to_owned(), |directories| to.join(directories));
        let failed = |error: io::Error| {
            let shown = path.display();
            let why = match Errno::from_io_error(&error) {
                Some(Errno::XDEV) => format!("{shown} is on another mount than the file"),
                Some(Errno::EXIST | Errno::NOTDIR) => format!("{shown} is not a directory"),
                _ => format!("{shown}: {error}"),
            };
            io::Error::new(error.kind(), why)
        };
        std::fs::create_dir_all(&path).map_err(failed)?;
        let directory = File::open(&path).map_err(failed)?;
        let name = leaving::rename_beside(parent, file, &directory, file).map_err(failed)?;
        let path = path.join(&name);
        Ok(Self { parent, file, directory, name, path })
    }

    fn delete(&self) -> io::Result<()> {
        Ok(unlinkat(&self.directory, &self.name, AtFlags::empty())?)
    }

    /// To its own name, or one beside it if somebody has taken that.
    fn put_back(self) -> io::Result<()> {
        leaving::rename_beside(&self.directory, &self.name, self.parent, self.file).map(|_| ())
    }
}

/// The directory that a file is in, and the file. Follows no link.
fn open_source(root: File, directories: &str, file: &str) -> rustix::io::Result<(File, File)> {
    let mut directory = root;
    for component in directories.split('/').filter(|component| !component.is_empty()) {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        directory = openat(&directory, component, flags, Mode::empty())?.into();
    }
    // Whatever has come there since: opening a FIFO would wait.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let source = openat(&directory, file, flags, Mode::empty())?;
    Ok((directory, source.into()))
}

/// Whether the name stands for this very file.
fn is_named(parent: &File, file: &OsStr, source: &File) -> io::Result<bool> {
    let named = rustix::fs::statat(parent, file, AtFlags::SYMLINK_NOFOLLOW)?;
    let source = source.metadata()?;
    Ok((named.st_dev as u64, named.st_ino as u64) == (source.dev(), source.ino()))
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
        let digest = natsfer_producer::DigestAlgorithm::Blake3.digest(b"a");
        (root, Source { name: "d/a.txt".parse().unwrap(), version, digest, completion: Completion::Told })
    }

    fn act(disposal: &Disposal, root: &tempfile::TempDir, source: &Source) -> Disposed {
        disposal.act(&Home::of(root.path()).unwrap(), source, Completion::Told).unwrap()
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

    /// Nothing tells but the bytes: neither size nor time, as `rsync --inplace --times` and `cp -p` leave them.
    #[test]
    fn what_only_looks_like_what_was_sent_stays() {
        let (root, source) = outbox();
        let path = root.path().join("d/a.txt");
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        fs::write(&path, "b").unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
        let sent = root.path().join("sent");
        for disposal in [Disposal::Delete, Disposal::Move(sent.clone())] {
            assert_eq!(act(&disposal, &root, &source), Disposed::Altered);
        }
        assert!(!sent.exists());
        assert_eq!(fs::read(&path).unwrap(), b"b");
        assert_eq!(fs::read_dir(root.path().join("d")).unwrap().count(), 1);
    }

    /// Another file of the same bytes may go instead: nothing is lost.
    #[test]
    fn a_directory_that_became_a_link_is_not_followed() {
        let (root, source) = outbox();
        fs::rename(root.path().join("d"), root.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink("elsewhere", root.path().join("d")).unwrap();
        assert!(matches!(act(&Disposal::Delete, &root, &source), Disposed::Gone | Disposed::Changed));
        assert!(root.path().join("elsewhere/a.txt").exists());
    }

    #[test]
    fn nothing_goes_from_a_directory_that_took_the_place_of_the_watched_one() {
        let (root, source) = outbox();
        let path = root.path().join("d");
        let home = Home::of(&path).unwrap();
        fs::rename(&path, root.path().join("before")).unwrap();
        fs::create_dir(&path).unwrap();
        fs::write(path.join("a.txt"), "a").unwrap();
        let source = Source { name: "a.txt".parse().unwrap(), ..source };
        assert_eq!(Disposal::Delete.act(&home, &source, Completion::Settled).unwrap(), Disposed::Astray);
        assert!(path.join("a.txt").exists() && root.path().join("before/a.txt").exists());
    }
}
