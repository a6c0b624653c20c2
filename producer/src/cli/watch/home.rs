//! The directory that is watched: whether its path still leads to it, and whether it is the one that is remembered.

use std::{
    fmt,
    fs::{File, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// A directory as it was when it was looked at first.
#[derive(Debug, Clone)]
pub(super) struct Home {
    /// Absolute, without symbolic links.
    path: Arc<Path>,
    /// As it was given, made absolute: links in it may come to lead elsewhere.
    given: PathBuf,
    /// Which was there.
    root: Root,
    identity: Identity,
}

/// What tells a directory from any other that stands in its place: inodes are used again, but not with the time of birth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Root {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) born: Option<SystemTime>,
}

/// What tells a directory from others also after it was mounted anew, as far as the system knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    /// The file system's own identity; 0 if it has none.
    file_system: u64,
    /// Another one after each mount, on some file systems.
    device: u64,
    inode: u64,
}

/// How a directory that is watched has been lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Astray {
    /// Another one, or none, stands there.
    Replaced,
    /// The path leads to this one now, or to none.
    LedElsewhere(Option<PathBuf>),
    /// Its file system does not answer any more.
    Stale,
}

/// Whether a directory is the one that is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kinship {
    /// As far as is known.
    Same,
    /// It looks like another one: a mount may be missing, or its file system have got another identity.
    Other,
}

/// Whether files that are not there any more are forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Absence {
    IsForgotten,
    ProvesNothing,
}

impl Home {
    /// Looks at a directory, following links. Blocking.
    pub(super) fn of(given: &Path) -> io::Result<Self> {
        let path: Arc<Path> = given.canonicalize()?.into();
        let metadata = std::fs::metadata(&path)?;
        if !metadata.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let file_system = rustix::fs::statvfs(&*path).map_or(0, |found| found.f_fsid);
        let identity = Identity { file_system, device: metadata.dev(), inode: metadata.ino() };
        Ok(Self { given: std::path::absolute(given)?, root: Root::of(&metadata), identity, path })
    }

    pub(super) fn path(&self) -> &Arc<Path> {
        &self.path
    }

    pub(super) fn given(&self) -> &Path {
        &self.given
    }

    pub(super) fn device(&self) -> u64 {
        self.root.device
    }

    pub(super) fn identity(&self) -> Identity {
        self.identity
    }

    /// Opens it, if its path still leads to it. Blocking.
    pub(super) fn open(&self) -> io::Result<Result<File, Astray>> {
        let directory = File::open(&self.path)?;
        let same = Root::of(&directory.metadata()?) == self.root;
        Ok(if same { Ok(directory) } else { Err(Astray::Replaced) })
    }

    /// Whether the paths still lead to it. What cannot be known is taken for a yes. Blocking.
    pub(super) fn check(&self) -> Result<(), Astray> {
        match leads_to(&self.path)? {
            Leads::To(root) if root != self.root => return Err(Astray::Replaced),
            Leads::Nowhere => return Err(Astray::Replaced),
            Leads::To(_) | Leads::Unknown => {}
        }
        match leads_to(&self.given)? {
            Leads::To(root) if root != self.root => Err(Astray::LedElsewhere(self.given.canonicalize().ok())),
            Leads::Nowhere => Err(Astray::LedElsewhere(None)),
            Leads::To(_) | Leads::Unknown => Ok(()),
        }
    }
}

enum Leads {
    To(Root),
    Nowhere,
    Unknown,
}

fn leads_to(path: &Path) -> Result<Leads, Astray> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(Leads::To(Root::of(&metadata))),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(Leads::Nowhere)
        }
        Err(error) => match Errno::from_io_error(&error) {
            // A server of a network file system that has forgotten it; a FUSE program that has ended.
            Some(Errno::STALE | Errno::NOTCONN) => Err(Astray::Stale),
            _ => Ok(Leads::Unknown),
        },
    }
}

impl Root {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino(), born: metadata.created().ok() }
    }
}

impl Identity {
    /// Whether this is the directory that is remembered. Nothing is known of one that is not.
    pub(super) fn kinship(self, remembered: Option<Self>) -> Kinship {
        let same = remembered.is_none_or(|remembered| {
            let same_file_system = if self.file_system != 0 && remembered.file_system != 0 {
                self.file_system == remembered.file_system
            } else {
                self.device == remembered.device
            };
            same_file_system && self.inode == remembered.inode
        });
        if same { Kinship::Same } else { Kinship::Other }
    }
}

impl Kinship {
    /// What it says of files that they are not there. Files that are remembered and are there tell that the directory is theirs.
    pub(super) fn absence(self) -> Absence {
        match self {
            Self::Same => Absence::IsForgotten,
            Self::Other => Absence::ProvesNothing,
        }
    }
}

impl fmt::Display for Astray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replaced => f.write_str("was removed, or another one has taken its place, as by a mount"),
            Self::LedElsewhere(Some(path)) => write!(f, "leads to {} now, which is not watched", path.display()),
            Self::LedElsewhere(None) => f.write_str("was removed, or leads nowhere any more"),
            Self::Stale => f.write_str("was removed, or its file system does not answer any more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn a_directory_is_missed_when_another_one_stands_there_or_its_link_leads_elsewhere() {
        let place = tempfile::tempdir().unwrap();
        let place = place.path().canonicalize().unwrap();
        let [first, second, link] = ["first", "second", "link"].map(|name| place.join(name));
        fs::create_dir(&first).unwrap();
        fs::create_dir(&second).unwrap();
        symlink(&first, &link).unwrap();
        let (direct, linked) = (Home::of(&first).unwrap(), Home::of(&link).unwrap());
        assert_eq!((direct.check(), linked.check()), (Ok(()), Ok(())));
        fs::remove_file(&link).unwrap();
        assert_eq!(linked.check(), Err(Astray::LedElsewhere(None)));
        symlink(&second, &link).unwrap();
        assert_eq!((direct.check(), linked.check()), (Ok(()), Err(Astray::LedElsewhere(Some(second)))));
        // One that is made at once often gets the same inode.
        fs::remove_dir(&first).unwrap();
        assert_eq!(direct.check(), Err(Astray::Replaced));
        fs::create_dir(&first).unwrap();
        assert_eq!(direct.check(), Err(Astray::Replaced));
        fs::remove_dir(&first).unwrap();
        fs::write(&first, "").unwrap();
        assert_eq!(direct.check(), Err(Astray::Replaced));
        assert_eq!(Home::of(&first).unwrap_err().kind(), io::ErrorKind::NotADirectory);
    }

    #[test]
    fn a_file_system_is_known_by_itself_and_by_its_device_only_where_it_says_nothing() {
        let identity = |file_system, device, inode| Identity { file_system, device, inode };
        let known = identity(5, 1, 2);
        assert_eq!(known.kinship(None), Kinship::Same);
        for (other, kinship) in [
            (identity(5, 9, 2), Kinship::Same),
            (identity(6, 1, 2), Kinship::Other),
            (identity(5, 1, 3), Kinship::Other),
            (identity(0, 1, 2), Kinship::Same),
            (identity(0, 9, 2), Kinship::Other),
        ] {
            assert_eq!(known.kinship(Some(other)), kinship, "{other:?}");
        }
    }
}
