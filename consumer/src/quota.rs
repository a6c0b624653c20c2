//! How much of the disk a target directory may take.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use cap_std::fs::{Dir, MetadataExt as _};

use crate::staging::StagingDirectory;

/// How long to leave a directory alone that had no room when it was last measured.
const MEASURE_INTERVAL: Duration = Duration::from_secs(1);

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
    /// Bytes that files in work have or will have, by their place below the directory.
    reserved: HashMap<PathBuf, u64>,
    full_at: Option<Instant>,
}

/// Room for one file in work. Dropped, the room counts as taken by what it has become.
#[derive(Debug)]
pub(crate) struct Reservation {
    quota: Arc<Quota>,
    /// Where the file is, and what can be removed in its favour.
    staging: StagingDirectory,
    part: PathBuf,
    covered: AtomicU64,
}

impl Quota {
    pub(crate) fn new(dir: Arc<Dir>, limit: u64) -> Self {
        Self { dir, limit, usage: Mutex::default() }
    }

    /// Notes that a file is to have so many bytes; `false` if there is no room for them.
    fn cover(&self, part: &Path, bytes: u64) -> io::Result<bool> {
        let mut usage = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        let others: u64 = usage.reserved.iter().filter(|(other, _)| *other != part).map(|(_, bytes)| bytes).sum();
        let fits = |standing: u64| standing.saturating_add(others).saturating_add(bytes) <= self.limit;
        if !usage.standing.is_some_and(fits) {
            if usage.full_at.is_some_and(|at| at.elapsed() < MEASURE_INTERVAL) {
                return Ok(false);
            }
            let is_counted = |file: &Path| file == part || usage.reserved.contains_key(file);
            let standing = measure(&self.dir, is_counted)?;
            usage.standing = Some(standing);
            if !fits(standing) {
                usage.full_at = Some(Instant::now());
                return Ok(false);
            }
        }
        usage.full_at = None;
        usage.reserved.insert(part.to_owned(), bytes);
        Ok(true)
    }

    /// Something was removed, or has its final size: it is time to measure again.
    fn look_again(&self) {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner).full_at = None;
    }
}

impl Reservation {
    /// Room for a file of which nothing is known yet.
    pub(crate) fn new(quota: &Arc<Quota>, staging: &StagingDirectory, part: &str) -> io::Result<Self> {
        let (quota, staging) = (quota.clone(), staging.try_clone()?);
        let part = staging.below_target.join(part);
        Ok(Self { quota, staging, part, covered: AtomicU64::new(0) })
    }

    /// Makes sure that there is room for so many bytes of it, in favour of unfinished files that nobody works on: those that
    /// were left alone for longest are removed, and fetched again when their turn comes.
    ///
    /// Fails with [`io::ErrorKind::QuotaExceeded`] where there is none.
    pub(crate) fn cover(&self, bytes: u64) -> io::Result<()> {
        if bytes <= self.covered.load(Ordering::Relaxed) {
            return Ok(());
        }
        while !self.quota.cover(&self.part, bytes)? {
            if !self.staging.remove_oldest_idle()? {
                let limit = self.quota.limit;
                return Err(io::Error::new(
                    io::ErrorKind::QuotaExceeded,
                    format!("the directory may take {limit} bytes"),
                ));
            }
            self.quota.look_again();
        }
        self.covered.store(bytes, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut usage = self.quota.usage.lock().unwrap_or_else(PoisonError::into_inner);
        // At most that is left of it: landed, or still unfinished.
        let bytes = usage.reserved.remove(&self.part).unwrap_or(0);
        usage.standing = usage.standing.map(|standing| standing.saturating_add(bytes));
    }
}

/// Bytes of all regular files below, but for those that are counted otherwise. What vanishes meanwhile counts as gone.
fn measure(dir: &Dir, is_counted: impl Fn(&Path) -> bool) -> io::Result<u64> {
    let (mut bytes, mut directories) = (0_u64, vec![PathBuf::from(".")]);
    while let Some(path) = directories.pop() {
        let entries = match dir.read_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let place = path.strip_prefix(".").unwrap_or(&path).join(entry.file_name());
            let kind = entry.file_type()?;
            if kind.is_dir() {
                directories.push(place);
            } else if kind.is_file() && !is_counted(&place) {
                match entry.metadata() {
                    Ok(metadata) => bytes = bytes.saturating_add(metadata.size()),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }
    Ok(bytes)
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
        let part = || Reservation::new(quota, &staging, &format!("{}.part", TransferId::random().unwrap())).unwrap();

        let (one, other) = (part(), part());
        one.cover(300).unwrap();
        other.cover(300).unwrap();
        assert_eq!(other.cover(301).unwrap_err().kind(), io::ErrorKind::QuotaExceeded);
        // What became of it counts, too, until it is measured.
        drop(one);
        assert!(other.cover(301).is_err());
        quota.look_again();
        other.cover(600).unwrap();
        assert!(other.cover(601).is_err());
        std::fs::remove_file(home.path().join("deep/landed")).unwrap();
        quota.look_again();
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
        let part = Reservation::new(target.quota().unwrap(), &staging, "new.part").unwrap();
        part.cover(1_000).unwrap();
        assert!(staging.names(".part").unwrap().is_empty());
    }
}
