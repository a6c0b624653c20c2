//! The directory that files land in. Nothing is opened but relative to its handle, and no symbolic link is followed.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use cap_fs_ext::{DirExt, FollowSymlinks, OpenOptionsFollowExt};
use cap_std::{
    ambient_authority,
    fs::{Dir, MetadataExt as _, OpenOptions},
};
use natsfer_common::{Digest, FileName, STAGING_DIRECTORY};
use rustix::{
    fs::{Mode, OFlags, fsync, openat},
    io::Errno,
};

use crate::ReceiveError;

/// A directory to land files in. Clones share the handle.
#[derive(Debug, Clone)]
pub struct TargetDirectory {
    dir: Arc<Dir>,
    path: Arc<Path>,
}

/// The directory right above a file-to-be.
pub(crate) struct Parent {
    pub(crate) dir: Dir,
    /// Below the target.
    path: PathBuf,
}

impl TargetDirectory {
    /// Opens the directory, creating it where it does not exist, and `.natsfer` in it for what is not finished.
    ///
    /// # Errors
    /// When it can neither be opened nor created.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ReceiveError> {
        let path = path.as_ref();
        std::fs::create_dir_all(path).map_err(ReceiveError::disk("cannot create directory", path))?;
        let dir = Dir::open_ambient_dir(path, ambient_authority());
        let dir = dir.map_err(ReceiveError::disk("cannot open directory", path))?;
        let target = Self { dir: Arc::new(dir), path: path.into() };
        // What cannot be written to is better known now than with the first file.
        let staging = target.directory(&[STAGING_DIRECTORY]);
        staging.map_err(ReceiveError::disk("cannot keep unfinished files in", path.join(STAGING_DIRECTORY)))?;
        Ok(target)
    }

    /// The path it was opened with.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the directory was removed since it was opened.
    pub(crate) fn is_gone(&self) -> bool {
        self.dir.dir_metadata().is_ok_and(|metadata| metadata.nlink() == 0)
    }

    /// Where a file of this name stands, for people and messages.
    pub(crate) fn path_of(&self, name: &FileName) -> PathBuf {
        self.path.join(name.as_str())
    }

    /// Opens a directory below, creating what is missing on the way.
    pub(crate) fn directory(&self, components: &[&str]) -> io::Result<Dir> {
        let mut dir = self.dir.try_clone()?;
        for component in components {
            dir = match dir.open_dir_nofollow(component) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    match dir.create_dir(component) {
                        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                        // A directory entry is only there for good once its parent is synced.
                        _ => sync_directory(&dir)?,
                    }
                    dir.open_dir_nofollow(component)?
                }
                result => result?,
            };
        }
        Ok(dir)
    }

    /// Opens the directory that a file of this name belongs in.
    pub(crate) fn parent(&self, name: &FileName) -> Result<Parent, ReceiveError> {
        let (directories, _) = name.split();
        let components: Vec<&str> = directories.map_or_else(Vec::new, |path| path.split('/').collect());
        let not_landable = |error: io::Error| {
            if self.is_gone() {
                return ReceiveError::TargetGone { path: self.path.to_path_buf() };
            }
            // A symbolic link, or a file, where a directory should be.
            let in_the_way = [Errno::LOOP, Errno::NOTDIR].map(|errno| Some(errno.raw_os_error()));
            if in_the_way.contains(&error.raw_os_error()) {
                let reason = "a directory in its path is a symbolic link or a file".into();
                return ReceiveError::NotLandable { name: name.to_string(), target: self.path.to_path_buf(), reason };
            }
            ReceiveError::disk("cannot open or create the directory of", self.path_of(name))(error)
        };
        let dir = self.directory(&components).map_err(not_landable)?;
        Ok(Parent { dir, path: directories.unwrap_or_default().into() })
    }
}

impl Parent {
    /// Whether a file of this name is there, whatever it is.
    pub(crate) fn has(&self, file: &str) -> io::Result<bool> {
        match self.dir.symlink_metadata(file) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether the file there is a regular one with this size and digest: it is then synced. Reads it to the end where the size
    /// agrees.
    pub(crate) fn has_identical(&self, file: &str, size: u64, digest: &Digest) -> io::Result<bool> {
        let mut options = OpenOptions::new();
        options.read(true).follow(FollowSymlinks::No);
        let metadata = match self.dir.symlink_metadata(file) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        // Anything but a regular file is not even opened: a FIFO would block.
        if !metadata.is_file() || metadata.len() != size {
            return Ok(false);
        }
        let mut file = match self.dir.open_with(file, &options) {
            Ok(file) => file,
            // What cannot be read is not known to be the same.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(false),
            Err(error) => return Err(error),
        };
        let mut hasher = digest.algorithm().hasher();
        let mut buffer = vec![0; 256 * 1024];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => hasher.update(&buffer[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let identical = hasher.finish() == *digest;
        if identical {
            // Whoever put it there may have died before syncing.
            file.sync_all()?;
        }
        Ok(identical)
    }

    /// Where a file of this name stands, below the target.
    pub(crate) fn path_of(&self, file: &str) -> PathBuf {
        self.path.join(file)
    }
}

/// Makes a directory's entries durable. The handle itself cannot be synced: it is opened for looking things up only (O_PATH).
pub(crate) fn sync_directory(dir: &Dir) -> io::Result<()> {
    let readable = openat(dir, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(fsync(readable)?)
}
