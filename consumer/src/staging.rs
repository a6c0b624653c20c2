//! Where files are kept until they land: below the target, hence on its file system.

use std::{
    fs::{File, TryLockError},
    io,
    os::unix::fs::MetadataExt as _,
};

use cap_fs_ext::{FollowSymlinks, OpenOptionsFollowExt};
use cap_std::fs::{Dir, MetadataExt as _, OpenOptions};
use natsfer_common::{ReceiverName, STAGING_DIRECTORY, TransferId};

use crate::{ReceiveError, TargetDirectory};

/// Whose unfinished files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A receiver of this name.
    Receiver(ReceiverName),
    /// Whoever replays.
    Replay,
}

/// One transfer's files in the staging directory.
#[derive(Debug)]
pub(crate) struct Staging {
    pub(crate) dir: Dir,
    pub(crate) part: String,
    pub(crate) journal: String,
}

impl Staging {
    pub(crate) fn open(target: &TargetDirectory, owner: &Owner, transfer: TransferId) -> Result<Self, ReceiveError> {
        let components = match owner {
            Owner::Receiver(name) => vec![STAGING_DIRECTORY, "receivers", name.as_str()],
            Owner::Replay => vec![STAGING_DIRECTORY, "replays"],
        };
        let path = || target.path().join(components.join("/"));
        let dir = target
            .directory(&components)
            .map_err(|error| ReceiveError::disk("cannot open staging directory", path())(error))?;
        Ok(Self { dir, part: format!("{transfer}.part"), journal: format!("{transfer}.journal") })
    }

    /// Opens one of the files for reading and writing, creating it where it does not exist.
    pub(crate) fn file(&self, name: &str) -> io::Result<File> {
        match self.open_file(name) {
            // A run that died while landing has given it a mode that forbids writing: begin anew.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                self.dir.remove_file(name)?;
                self.open_file(name)
            }
            result => result,
        }
    }

    /// Opens one of the files, locked against other processes until it is closed; `None` if one of them holds it.
    pub(crate) fn locked(&self, name: &str) -> io::Result<Option<File>> {
        loop {
            let file = self.file(name)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            // Between opening and locking, its last holder may have given it its final name, or removed it.
            let (locked, named) = (file.metadata()?, self.dir.symlink_metadata(name));
            if named.is_ok_and(|named| (named.dev(), named.ino()) == (locked.dev(), locked.ino())) {
                return Ok(Some(file));
            }
        }
    }

    fn open_file(&self, name: &str) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).follow(FollowSymlinks::No);
        Ok(self.dir.open_with(name, &options)?.into_std())
    }

    /// Removes both files, so far as they are there.
    pub(crate) fn clear(&self) {
        for name in [&self.part, &self.journal] {
            // Left over at worst: found again, and checked, should the transfer come back.
            let _ = self.dir.remove_file(name);
        }
    }
}
