//! How much of the disk a target directory may take.

use std::{
    collections::{HashMap, HashSet},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use cap_std::fs::{Dir, MetadataExt as _};
use natsfer_common::human_bytes;

use crate::staging::StagingDirectory;

/// How long to leave a directory alone that had no room when it was last measured.
const MEASURE_INTERVAL: Duration = Duration::from_secs(1);
/// A journal grows by a few bytes at a time; room for it is noted in steps of this.
const JOURNAL_STEP: u64 = 4 << 10;

/// A limit on the bytes of all files in a directory, finished or not. What stands there is measured when the limit seems to be
/// reached, and not before: others may have taken files away since.
#[derive(Debug)]
pub(crate) struct Quota {
    dir: Arc<Dir>,
    /// In bytes.
    pub(crate) limit: u64,
    usage: Mutex<Usage>,
}

#[derive(Debug, Default)]
struct Usage {
    /// Bytes of what stands there without a reservation, or more: what was removed since is among them.
    standing: Option<u64>,
    /// Those of them that were reserved when the directory was last begun to be measured, and may have been passed over.
    released: u64,
    /// Bytes that files in work have or will have, by their place below the directory, without its extension.
    reserved: HashMap<PathBuf, u64>,
    full_at: Option<Instant>,
}

/// What came of asking for room.
#[derive(Debug, PartialEq, Eq)]
enum Room {
    Noted,
    /// So many bytes are too many.
    Lacking(u64),
    /// It was lacking a moment ago, and is not measured again so soon.
    StillLacking,
}

/// Room for one file in work. Dropped, the room counts as taken by what it has become.
#[derive(Debug)]
pub(crate) struct Reservation {
    quota: Arc<Quota>,
    /// What can be removed in its favour.
    staging: StagingDirectory,
    /// Where the file and its journal are, without their extensions.
    stem: PathBuf,
    file: AtomicU64,
    journal: AtomicU64,
}

impl Quota {
    pub(crate) fn new(dir: Arc<Dir>, limit: u64) -> Self {
        Self { dir, limit, usage: Mutex::default() }
    }

    fn usage(&self) -> MutexGuard<'_, Usage> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a file and its journal are to have so many bytes, if there is room for them.
    fn cover(&self, stem: &Path, bytes: u64) -> io::Result<Room> {
        let counted: HashSet<PathBuf> = {
            let mut usage = self.usage();
            if usage.note(stem, bytes, self.limit) == Some(Room::Noted) {
                return Ok(Room::Noted);
            }
            if usage.full_at.is_some_and(|at| at.elapsed() < MEASURE_INTERVAL) {
                return Ok(Room::StillLacking);
            }
            usage.released = 0;
            usage.reserved.keys().cloned().chain([stem.to_owned()]).collect()
        };
        // Not under the lock: it may take long, and others are only to be noted or released.
        let measured = measure(&self.dir, |file| counted.contains(&file.with_extension("")))?;
        let mut usage = self.usage();
        usage.standing = Some(measured.saturating_add(usage.released));
        let room = usage.note(stem, bytes, self.limit).unwrap_or(Room::StillLacking);
        usage.full_at = (room != Room::Noted).then(Instant::now);
        Ok(room)
    }

    /// So many bytes were removed.
    fn freed(&self, bytes: u64) {
        let mut usage = self.usage();
        usage.standing = usage.standing.map(|standing| standing.saturating_sub(bytes));
        usage.full_at = None;
    }
}

impl Usage {
    /// Notes it, or says how much is lacking; `None` if nothing was measured yet.
    fn note(&mut self, stem: &Path, bytes: u64, limit: u64) -> Option<Room> {
        let others: u64 = self.reserved.iter().filter(|(other, _)| *other != stem).map(|(_, bytes)| bytes).sum();
        let needed = self.standing?.saturating_add(others).saturating_add(bytes);
        if needed > limit {
            return Some(Room::Lacking(needed - limit));
        }
        self.full_at = None;
        self.reserved.insert(stem.to_owned(), bytes);
        Some(Room::Noted)
    }
}

impl Reservation {
    /// Room for a file of which nothing is known yet.
    pub(crate) fn new(quota: &Arc<Quota>, staging: &StagingDirectory, part: &str) -> Self {
        let (quota, staging) = (quota.clone(), staging.clone());
        let stem = staging.below_target.join(part).with_extension("");
        Self { quota, staging, stem, file: AtomicU64::new(0), journal: AtomicU64::new(0) }
    }

    /// Makes sure that there is room for so many bytes of it, in favour of unfinished files that nobody works on: those that
    /// were left alone for longest are removed, and fetched again when their turn comes. None is removed where that would not
    /// be enough.
    ///
    /// Fails with [`io::ErrorKind::QuotaExceeded`] where there is no room.
    pub(crate) fn cover(&self, bytes: u64) -> io::Result<()> {
        let covered = self.file.load(Ordering::Relaxed);
        if bytes > covered || covered == 0 {
            self.note(bytes.saturating_add(self.journal.load(Ordering::Relaxed)))?;
            self.file.store(bytes, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The same for its journal.
    pub(crate) fn cover_journal(&self, bytes: u64) -> io::Result<()> {
        if bytes > self.journal.load(Ordering::Relaxed) {
            let bytes = bytes.next_multiple_of(JOURNAL_STEP);
            self.note(bytes.saturating_add(self.file.load(Ordering::Relaxed)))?;
            self.journal.store(bytes, Ordering::Relaxed);
        }
        Ok(())
    }

    fn note(&self, bytes: u64) -> io::Result<()> {
        loop {
            match self.quota.cover(&self.stem, bytes)? {
                Room::Noted => return Ok(()),
                Room::Lacking(lacking) if self.staging.idle_bytes()? >= lacking => {
                    match self.staging.remove_oldest_idle()? {
                        Some(freed) => self.quota.freed(freed),
                        None => return Err(self.exceeded()),
                    }
                }
                Room::Lacking(_) | Room::StillLacking => return Err(self.exceeded()),
            }
        }
    }

    fn exceeded(&self) -> io::Error {
        io::Error::new(
            io::ErrorKind::QuotaExceeded,
            format!("the directory may take {}", human_bytes(self.quota.limit)),
        )
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut usage = self.quota.usage();
        // At most that is left of it: landed, or still unfinished.
        let bytes = usage.reserved.remove(&self.stem).unwrap_or(0);
        usage.standing = usage.standing.map(|standing| standing.saturating_add(bytes));
        usage.released = usage.released.saturating_add(bytes);
    }
}

/// Bytes of all regular files below, but for those that are counted otherwise. What vanishes meanwhile counts as gone, and what may
/// not be looked at is none of ours.
fn measure(dir: &Dir, is_counted: impl Fn(&Path) -> bool) -> io::Result<u64> {
    let (mut bytes, mut directories) = (0_u64, vec![PathBuf::from(".")]);
    while let Some(path) = directories.pop() {
        let Some(entries) = passable(dir.read_dir(&path))? else { continue };
        for entry in entries {
            let entry = entry?;
            let place = path.strip_prefix(".").unwrap_or(&path).join(entry.file_name());
            let Some(kind) = passable(entry.file_type())? else { continue };
            if kind.is_dir() {
                directories.push(place);
            } else if kind.is_file() && !is_counted(&place) {
                bytes = bytes.saturating_add(passable(entry.metadata())?.map_or(0, |metadata| metadata.size()));
            }
        }
    }
    Ok(bytes)
}

fn passable<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied | io::ErrorKind::NotADirectory => Ok(None),
            _ => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use natsfer_common::TransferId;

    use super::*;
    use crate::{TargetDirectory, staging::Owner};

    #[test]
    fn files_in_work_and_files_that_stand_share_the_room() {
        let home = tempfile::tempdir().unwrap();
        let target = TargetDirectory::open(home.path()).unwrap().with_max_disk(1_000);
        let quota = target.quota().unwrap();
        let staging = StagingDirectory::open(&target, &Owner::Replay).unwrap();
        std::fs::create_dir(home.path().join("deep")).unwrap();
        std::fs::write(home.path().join("deep/landed"), [0; 400]).unwrap();
        let part = || Reservation::new(quota, &staging, &format!("{}.part", TransferId::random().unwrap()));

        let (one, other) = (part(), part());
        one.cover(300).unwrap();
        other.cover(300).unwrap();
        assert_eq!(other.cover(301).unwrap_err().kind(), io::ErrorKind::QuotaExceeded);
        // What became of it counts, too, until it is measured.
        drop(one);
        assert!(other.cover(301).is_err());
        quota.usage().full_at = None;
        other.cover(500).unwrap();
        // Its journal is its own, in whole steps.
        assert!(other.cover_journal(1).is_err());
        quota.usage().full_at = None;
        assert!(other.cover(601).is_err());
        std::fs::remove_file(home.path().join("deep/landed")).unwrap();
        quota.usage().full_at = None;
        other.cover(1_000).unwrap();
    }

    #[test]
    fn what_nobody_works_on_makes_room() {
        let home = tempfile::tempdir().unwrap();
        let target = TargetDirectory::open(home.path()).unwrap().with_max_disk(1_000);
        let staging = StagingDirectory::open(&target, &Owner::Replay).unwrap();
        let idle = TransferId::random().unwrap();
        std::fs::write(staging.path.join(format!("{idle}.part")), [0; 900]).unwrap();
        std::fs::write(staging.path.join(format!("{idle}.journal")), [0; 50]).unwrap();
        let part = Reservation::new(target.quota().unwrap(), &staging, "new.part");
        // That would not be enough: nothing is removed for it.
        assert!(part.cover(1_001).is_err());
        assert_eq!(staging.names(".part").unwrap().len(), 1);
        target.quota().unwrap().usage().full_at = None;
        part.cover(1_000).unwrap();
        assert!(staging.names(".part").unwrap().is_empty());
    }
}
