//! The directory that files land in. Nothing is opened but relative to its handle, and no symbolic link is followed.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cap_fs_ext::{DirExt, FollowSymlinks, OpenOptionsFollowExt};
use cap_std::{
    ambient_authority,
    fs::{Dir, DirBuilder, DirBuilderExt as _, MetadataExt as _, OpenOptions, PermissionsExt as _},
};
use natsfer_common::{Digest, FileName, STAGING_DIRECTORY, TransferId, folded};
use rustix::{
    fs::{Mode, OFlags, fchmod, fsync, openat},
    io::Errno,
};

use crate::{
    Ability, ReceiveError,
    direct::Pieces,
    group::Group,
    quota::{Quota, Reservation},
    rights::Inheritance,
    root::Root,
    shortfall::if_possible,
    staging::StagingDirectory,
};

/// Rights of the directories where unfinished files and records are: nobody's but their owner's.
const PRIVATE: u32 = 0o700;

/// A directory to land files in. Clones share the handle.
#[derive(Debug, Clone)]
pub struct TargetDirectory {
    dir: Arc<Dir>,
    path: Arc<Path>,
    root: Arc<Root>,
    quota: Option<Arc<Quota>>,
    names: Names,
    /// Held by whoever lands a file where names that differ may be one.
    landing: Arc<Mutex<()>>,
    /// Small files that wait to be landed together.
    pub(crate) group: Group,
    /// Room for what large files' chunks are written from.
    pub(crate) pieces: Arc<Pieces>,
}

/// Which names are one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Names {
    /// Those that the file system takes for one.
    AsStored,
    /// Also those that other file systems do not tell apart.
    Folded,
}

/// The directory right above a file-to-be.
#[derive(Debug)]
pub(crate) struct Parent {
    pub(crate) dir: Dir,
    /// Below the target.
    path: PathBuf,
    names: Names,
}

impl TargetDirectory {
    /// Opens the directory, creating it where it does not exist, and `.natsfer` in it for what is not finished, which nobody else can
    /// read.
    ///
    /// # Errors
    /// When it can neither be opened nor created.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ReceiveError> {
        let path = path.as_ref();
        if path.exists() && !path.is_dir() {
            return Err(ReceiveError::disk("cannot land files in", path)(io::ErrorKind::NotADirectory.into()));
        }
        std::fs::create_dir_all(path).map_err(ReceiveError::disk("cannot create directory", path))?;
        let dir = Dir::open_ambient_dir(path, ambient_authority());
        let dir = dir.map_err(ReceiveError::disk("cannot open directory", path))?;
        let target = Self {
            root: Arc::new(Root::new(path, &dir)),
            dir: Arc::new(dir),
            path: path.into(),
            quota: None,
            names: Names::AsStored,
            landing: Arc::default(),
            group: Group::default(),
            pieces: Arc::default(),
        };
        // What cannot be written to is better known now than with the first file.
        let staging = target.directory(&[STAGING_DIRECTORY], Names::AsStored);
        let staging =
            staging.map_err(ReceiveError::disk("cannot keep unfinished files in", path.join(STAGING_DIRECTORY)))?;
        make_private(&staging);
        Ok(target)
    }

    /// Makes a file in `.natsfer` as one that is received, and removes it: what can never land is better known now than with the
    /// first file. Room is waited for, and not asked for here.
    ///
    /// # Errors
    /// When none can be made, as on a file system that is mounted read-only.
    pub fn ensure_writable(&self) -> Result<(), ReceiveError> {
        let staging = self.directory(&[STAGING_DIRECTORY], Names::AsStored);
        let tried = staging.and_then(|staging| try_file(&staging));
        let is_full =
            |error: &io::Error| matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        match tried {
            Err(error) if !is_full(&error) => {
                Err(ReceiveError::disk("cannot make files in", self.path.join(STAGING_DIRECTORY))(error))
            }
            _ => Ok(()),
        }
    }

    /// Fails with [`ReceiveError::TargetGone`] unless the path that it was opened with still leads to the directory. Blocks. To be called
    /// before anybody is told that a file is there.
    ///
    /// # Errors
    /// As said, and when that cannot be found out.
    pub fn ensure_in_place(&self) -> Result<(), ReceiveError> {
        match self.root.gone(&self.dir) {
            Ok(None) => Ok(()),
            Ok(Some(how)) => Err(ReceiveError::TargetGone { path: self.path.to_path_buf(), how }),
            Err(error) => Err(ReceiveError::disk("cannot look at the target directory", &*self.path)(error)),
        }
    }

    /// That the directory is gone, where it is: whatever else went wrong comes from that. Blocks.
    pub(crate) fn instead(&self, error: ReceiveError) -> ReceiveError {
        match self.ensure_in_place() {
            Err(gone @ ReceiveError::TargetGone { .. }) => gone,
            _ => error,
        }
    }

    /// With a limit on the bytes of all files in it together, finished or not. Where there is no room, unfinished files that are
    /// not worked on are removed, to be fetched again; then transfers wait.
    #[must_use]
    pub fn with_max_disk(mut self, bytes: u64) -> Self {
        self.quota = Some(Arc::new(Quota::new(self.dir.clone(), bytes)));
        self
    }

    pub(crate) fn with_names(&self, names: Names) -> Self {
        Self { names, ..self.clone() }
    }

    #[cfg(test)]
    pub(crate) fn quota(&self) -> Option<&Arc<Quota>> {
        self.quota.as_ref()
    }

    /// Most bytes that all files in it may have together, if that is limited.
    pub(crate) fn max_disk(&self) -> Option<u64> {
        self.quota.as_ref().map(|quota| quota.limit)
    }

    /// Room for an unfinished file, of this size where it is known, within the limit; `None` where there is no limit.
    pub(crate) fn reserve(
        &self, staging: &StagingDirectory, part: &str, transfer: TransferId, size: Option<u64>,
    ) -> Result<Option<Reservation>, ReceiveError> {
        let Some(quota) = &self.quota else { return Ok(None) };
        let reservation = Reservation::new(quota, staging, part);
        let covered = reservation.cover(size.unwrap_or(0));
        covered.map(|()| Some(reservation)).map_err(|error| match error.kind() {
            io::ErrorKind::QuotaExceeded => ReceiveError::OverQuota { transfer, limit: quota.limit },
            _ => ReceiveError::disk("cannot measure", self.path())(error),
        })
    }

    /// Keeps others from landing a name between looking for it and taking it, where only looking finds it taken.
    pub(crate) fn landing(&self) -> Option<MutexGuard<'_, ()>> {
        (self.names == Names::Folded).then(|| self.landing.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether both are one directory, with the same names taken for one.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.dir, &other.dir) && self.names == other.names
    }

    /// The path it was opened with.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where a file of this name stands, for people and messages.
    pub(crate) fn path_of(&self, name: &FileName) -> PathBuf {
        self.path.join(name.as_str())
    }

    /// Opens a directory below, creating what is missing on the way.
    pub(crate) fn directory(&self, components: &[&str], names: Names) -> io::Result<Dir> {
        let mut dir = self.dir.try_clone()?;
        // What is ours alone is nobody else's to read from the first moment on.
        let mut builder = DirBuilder::new();
        if components.first() == Some(&STAGING_DIRECTORY) {
            builder.mode(PRIVATE);
        }
        for component in components {
            dir = match dir.open_dir_nofollow(component) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let standing = standing(&dir, component, names)?;
                    if standing.is_none() {
                        match dir.create_dir_with(component, &builder) {
                            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                            // A directory entry is only there for good once its parent is synced.
                            _ => sync_directory(&dir)?,
                        }
                    }
                    dir.open_dir_nofollow(standing.as_deref().unwrap_or(component))?
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
            if let Err(gone @ ReceiveError::TargetGone { .. }) = self.ensure_in_place() {
                return gone;
            }
            // A symbolic link, or a file, where a directory should be.
            let in_the_way = [Errno::LOOP, Errno::NOTDIR].map(|errno| Some(errno.raw_os_error()));
            if in_the_way.contains(&error.raw_os_error()) {
                let reason = "a directory in its path is a symbolic link or a file".into();
                return ReceiveError::NotLandable { name: name.to_string(), target: self.path.to_path_buf(), reason };
            }
            ReceiveError::naming(name.as_str(), &self.path, "cannot open or create the directory of", error)
        };
        // Of names that are one, only one directory is made.
        let _landing = self.landing();
        let dir = self.directory(&components, self.names).map_err(not_landable)?;
        Ok(Parent { dir, path: directories.unwrap_or_default().into(), names: self.names })
    }
}

impl Parent {
    /// Whether both are one directory.
    pub(crate) fn is(&self, other: &Self) -> io::Result<bool> {
        let (this, that) = (self.dir.dir_metadata()?, other.dir.dir_metadata()?);
        Ok((this.dev(), this.ino()) == (that.dev(), that.ino()))
    }

    /// What files get from it that are made there.
    pub(crate) fn inheritance(&self) -> io::Result<Inheritance> {
        Inheritance::of(&self.dir)
    }

    /// What stands there under this name, or one that is the same, whatever it is: its name.
    pub(crate) fn standing(&self, file: &str) -> io::Result<Option<String>> {
        standing(&self.dir, file, self.names)
    }

    /// What stands there under another name that is the same elsewhere: the file system itself does not tell.
    pub(crate) fn alias_of(&self, file: &str) -> io::Result<Option<String>> {
        match self.names {
            Names::AsStored => Ok(None),
            Names::Folded => Ok(self.standing(file)?.filter(|standing| standing != file)),
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
            Ok(file) => file.into_std(),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                match open_own(&self.dir, file, (metadata.dev(), metadata.ino())) {
                    Some(opened) => opened,
                    None => {
                        let path = self.path.join(file);
                        tracing::warn!(
                            "{} may be the same, and cannot be read to see: taken for another file",
                            path.display()
                        );
                        return Ok(false);
                    }
                }
            }
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
            sync_file(file.sync_all())?;
        }
        Ok(identical)
    }

    /// Where a file of this name stands, below the target.
    pub(crate) fn path_of(&self, file: &str) -> PathBuf {
        self.path.join(file)
    }
}

/// The name of what stands in a directory under this name, or one that is the same. Reads the whole directory where names are
/// folded, and this one is not there.
fn standing(dir: &Dir, name: &str, names: Names) -> io::Result<Option<String>> {
    match dir.symlink_metadata(name) {
        Ok(_) => return Ok(Some(name.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    if names == Names::Folded {
        let wanted = folded(name);
        for entry in dir.read_dir(".")? {
            // One that is no text is none of ours.
            if let Ok(other) = entry?.file_name().into_string()
                && folded(&other) == wanted
            {
                return Ok(Some(other));
            }
        }
    }
    Ok(None)
}

/// Makes a directory's entries durable, where that can be done. The handle itself cannot be synced: it is opened for looking things up
/// only (O_PATH).
pub(crate) fn sync_directory(dir: &Dir) -> io::Result<()> {
    let readable = openat(dir, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    if_possible(Ability::DirectorySyncs, readable.and_then(fsync)).map(drop)
}

/// Makes a file durable, where that can be done.
pub(crate) fn sync_file(synced: io::Result<()>) -> io::Result<()> {
    if_possible(Ability::FileSyncs, synced).map(drop)
}

/// Takes away what an earlier version, or somebody else, gave to others. Best effort: the files in it are private, too.
fn make_private(dir: &Dir) {
    let Ok(metadata) = dir.dir_metadata() else { return };
    let mode = metadata.permissions().mode();
    // Who shares it with a group does so on purpose: what each receiver has below it is private.
    if mode & 0o077 != 0
        && mode & 0o020 == 0
        && let Ok(readable) = openat(dir, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
    {
        let _ = fchmod(readable, Mode::from(mode & 0o7700));
    }
}

/// Makes a file, sets its mode as a received one's is set, and removes it.
fn try_file(dir: &Dir) -> io::Result<()> {
    let name = format!("try-{}", TransferId::random()?);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = openat(dir, name.as_str(), flags, Mode::from(0o600))?;
    let tried = if_possible(Ability::Modes, fchmod(&file, Mode::from(0o640))).map(drop);
    dir.remove_file(&name).and(tried)
}

/// Opens a file for reading that is this user's own, and not readable by its mode: nobody else is let in. `None` where that is not
/// so, or cannot be done.
#[cfg(target_os = "linux")]
fn open_own(dir: &Dir, file: &str, id: (u64, u64)) -> Option<std::fs::File> {
    use std::{fs::Permissions, os::fd::AsRawFd as _, os::unix::fs::MetadataExt as _};
    let handle =
        std::fs::File::from(openat(dir, file, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).ok()?);
    let metadata = handle.metadata().ok()?;
    let is_own = metadata.uid() == rustix::process::geteuid().as_raw();
    if !is_own || !metadata.is_file() || (metadata.dev(), metadata.ino()) != id {
        return None;
    }
    // By way of the handle: the name may stand for another file meanwhile.
    let path = format!("/proc/self/fd/{}", handle.as_raw_fd());
    let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions());
    std::fs::set_permissions(&path, <Permissions as std::os::unix::fs::PermissionsExt>::from_mode(mode | 0o400))
        .ok()?;
    let opened = std::fs::File::open(&path);
    let _ = std::fs::set_permissions(&path, metadata.permissions());
    opened.ok()
}

#[cfg(not(target_os = "linux"))]
fn open_own(_: &Dir, _: &str, _: (u64, u64)) -> Option<std::fs::File> {
    None
}
