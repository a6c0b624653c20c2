//! The runs of one receiver on disk. Blocking; use it off the runtime.

use std::{
    collections::BinaryHeap,
    ffi::OsStr,
    io::{self, Read as _},
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use cap_fs_ext::{FollowSymlinks, OpenOptionsFollowExt as _};
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt as _};
use natsfer_common::{ReceiverName, STAGING_DIRECTORY, TransferId};
use rustix::fs::OFlags;

use super::{Run, RunId};
use crate::{
    ReceiveError, TargetDirectory,
    durable::{remove_abandoned, replace_file},
    lock::Locked,
    target::Names,
};

/// Where runs are, below [`STAGING_DIRECTORY`].
const EXEC: &str = "exec";
const SUFFIX: &str = ".json";
/// Whose lock says who runs them.
const LOCK: &str = "lock";
/// Most bytes of a run that are read: a manifest, an output, and what is around them.
const MOST: u64 = 256 * 1024;

/// For opening: whatever somebody has put there, a FIFO for one, is not waited for.
const WITHOUT_WAITING: i32 = OFlags::NONBLOCK.bits().cast_signed();

/// The runs of one receiver: those to be, and those that have failed too often.
#[derive(Debug)]
pub struct Queue {
    receiver: ReceiverName,
    path: PathBuf,
    root: Dir,
    pending: Dir,
    failed: Dir,
    /// The last number given.
    last: AtomicU64,
}

/// Where a run is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shelf {
    /// To be run.
    Pending,
    /// Failed too often.
    Failed,
}

impl Shelf {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Failed => "failed",
        }
    }
}

impl Queue {
    /// Opens it, creating what is missing, and removes what processes that were killed were about to note.
    ///
    /// # Errors
    /// When the directory cannot be used.
    pub fn open(target: &TargetDirectory, receiver: &ReceiverName) -> Result<Self, ReceiveError> {
        let path = target.path().join(place(receiver));
        let open = |below: &[&str]| {
            target.directory(&[&[STAGING_DIRECTORY, EXEC, receiver.as_str()], below].concat(), Names::AsStored)
        };
        let opened = || {
            let shelf = |shelf: Shelf| open(&[shelf.as_str()]);
            Ok((open(&[])?, shelf(Shelf::Pending)?, shelf(Shelf::Failed)?))
        };
        let (root, pending, failed) = opened().map_err(ReceiveError::disk("cannot keep commands to run in", &path))?;
        for shelf in [&pending, &failed] {
            if let Err(error) = remove_abandoned(shelf) {
                // In nobody's way but for the room that it takes.
                tracing::debug!(%receiver, "cannot remove what was left by others: {error}");
            }
        }
        Ok(Self { receiver: receiver.clone(), path, root, pending, failed, last: AtomicU64::new(0) })
    }

    /// The receivers that have one in this directory, sorted.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn receivers(target: &TargetDirectory) -> Result<Vec<ReceiverName>, ReceiveError> {
        let path: PathBuf = target.path().join(STAGING_DIRECTORY).join(EXEC);
        let read = || {
            let mut names = Vec::new();
            for entry in target.directory(&[STAGING_DIRECTORY, EXEC], Names::AsStored)?.read_dir(".")? {
                names.extend(entry?.file_name().to_str().and_then(|name| name.parse::<ReceiverName>().ok()));
            }
            names.sort_by(|one, other| one.as_str().cmp(other.as_str()));
            Ok(names)
        };
        read().map_err(ReceiveError::disk("cannot read", path))
    }

    /// Whose runs these are.
    pub fn receiver(&self) -> &ReceiverName {
        &self.receiver
    }

    /// Notes a run, behind all others. On return it is on disk.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn note(&self, run: &Run) -> io::Result<RunId> {
        let id = RunId { number: self.number(), transfer: run.manifest.transfer };
        replace_file(&self.pending, &file(id), &run.to_bytes()?)?;
        Ok(id)
    }

    /// The number of the next run to be noted: none has a greater one, as long as the clock does not go back.
    pub fn number(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        let next = |last: u64| Some(now.max(last.saturating_add(1)));
        self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).map_or(now, |last| next(last).unwrap_or(now))
    }

    /// Whether a run of this transfer is to be.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn has(&self, transfer: TransferId) -> io::Result<bool> {
        let mut found = false;
        self.each(Shelf::Pending, |id| found |= id.transfer == transfer)?;
        Ok(found)
    }

    /// The first of those to be that are not known already, so many at most, in order; and whether these are all.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn first(&self, most: usize, mut is_known: impl FnMut(&RunId) -> bool) -> io::Result<(Vec<RunId>, bool)> {
        let (mut first, mut all) = (BinaryHeap::new(), true);
        self.each(Shelf::Pending, |id| {
            if !is_known(&id) {
                first.push(id);
                if first.len() > most {
                    first.pop();
                    all = false;
                }
            }
        })?;
        Ok((first.into_sorted_vec(), all))
    }

    /// All of a shelf, in order.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn list(&self, shelf: Shelf) -> io::Result<Vec<RunId>> {
        let mut ids = Vec::new();
        self.each(shelf, |id| ids.push(id))?;
        ids.sort_unstable();
        Ok(ids)
    }

    /// How many of those that have failed were noted since this number was given.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn failed_since(&self, number: u64) -> io::Result<u64> {
        let mut failed = 0;
        self.each(Shelf::Failed, |id| failed += u64::from(id.number >= number))?;
        Ok(failed)
    }

    fn each(&self, shelf: Shelf, mut with: impl FnMut(RunId)) -> io::Result<()> {
        for entry in self.shelf(shelf).read_dir(".")? {
            run_of(&entry?.file_name()).into_iter().for_each(&mut with);
        }
        Ok(())
    }

    /// Where one is.
    pub fn path(&self, shelf: Shelf, id: RunId) -> PathBuf {
        self.path.join(shelf.as_str()).join(file(id))
    }

    fn shelf(&self, shelf: Shelf) -> &Dir {
        match shelf {
            Shelf::Pending => &self.pending,
            Shelf::Failed => &self.failed,
        }
    }

    /// Reads one; `None` if it is not there.
    ///
    /// # Errors
    /// When it cannot be read, or is none of ours.
    pub fn read(&self, shelf: Shelf, id: RunId) -> io::Result<Option<Run>> {
        let (shelf, file) = (self.shelf(shelf), file(id));
        let found = match shelf.symlink_metadata(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            found => found?,
        };
        if !found.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not a regular file"));
        }
        let mut options = OpenOptions::new();
        options.read(true).follow(FollowSymlinks::No).custom_flags(WITHOUT_WAITING);
        let opened = match shelf.open_with(file, &options) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let mut bytes = Vec::new();
        opened.take(MOST).read_to_end(&mut bytes)?;
        Run::from_bytes(&bytes).map(Some)
    }

    /// Keeps what has changed of one that is to be.
    ///
    /// # Errors
    /// When it cannot be written: it then is as it was.
    pub fn update(&self, id: RunId, run: &Run) -> io::Result<()> {
        replace_file(&self.pending, &file(id), &run.to_bytes()?)
    }

    /// It has succeeded.
    ///
    /// # Errors
    /// When it cannot be removed: it is still to be run.
    pub fn succeeded(&self, id: RunId) -> io::Result<()> {
        remove(&self.pending, id)?;
        remove(&self.failed, id)
    }

    /// It has failed too often: it is kept, and not run any more.
    ///
    /// # Errors
    /// When it cannot be written: it is still to be run.
    pub fn failed(&self, id: RunId, run: &Run) -> io::Result<()> {
        replace_file(&self.failed, &file(id), &run.to_bytes()?)?;
        remove(&self.pending, id)
    }

    /// Puts what cannot be read with those that have failed, as it is, unless somebody has removed it.
    ///
    /// # Errors
    /// When it cannot be moved.
    pub fn set_aside(&self, id: RunId) -> io::Result<()> {
        match self.pending.rename(file(id), &self.failed, file(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// One that has failed is to be run again, with all its tries.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn retry(&self, id: RunId) -> io::Result<()> {
        let Some(mut run) = self.read(Shelf::Failed, id)? else { return Err(io::ErrorKind::NotFound.into()) };
        run.failures = 0;
        replace_file(&self.pending, &file(id), &run.to_bytes()?)?;
        remove(&self.failed, id)
    }

    /// The right to run what is noted, for as long as the file is open; `None` while another process has it.
    ///
    /// # Errors
    /// When it cannot be asked for.
    pub(crate) fn lock(&self) -> io::Result<Option<Locked>> {
        let mut options = OpenOptions::new();
        options.mode(0o600).write(true).create(true).follow(FollowSymlinks::No).custom_flags(WITHOUT_WAITING);
        let file = self.root.open_with(LOCK, &options)?.into_std();
        Locked::try_new(file)
    }
}

/// Where a receiver's runs are, below the target directory.
pub(super) fn place(receiver: &ReceiverName) -> PathBuf {
    [STAGING_DIRECTORY, EXEC, receiver.as_str()].iter().collect()
}

/// The run that is kept under this name, if one is.
pub(super) fn run_of(name: &OsStr) -> Option<RunId> {
    name.to_str()?.strip_suffix(SUFFIX)?.parse().ok()
}

fn file(id: RunId) -> String {
    format!("{id}{SUFFIX}")
}

fn remove(dir: &Dir, id: RunId) -> io::Result<()> {
    match dir.remove_file(file(id)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
