//! Small files that come while others are being landed, to be landed together next.

use std::{
    collections::VecDeque,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use crate::{
    Landing, ReceiveError,
    inline::{SmallFile, land_together},
};

/// Files that are landed together, at most: each keeps a few descriptors meanwhile.
const MOST_TOGETHER: usize = 64;
/// Groups that are landed at once: a disk that is far away answers one call after the other slowly.
const MOST_GROUPS: usize = 2;

type Landed = Result<(Landing, PathBuf), ReceiveError>;

/// What waits to be landed in one directory.
#[derive(Debug, Default)]
pub(crate) struct Group(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    files: VecDeque<(SmallFile, oneshot::Sender<Landed>)>,
    /// Threads that land what waits.
    workers: usize,
}

impl Group {
    /// Lands a small file, with those that wait at the same time.
    ///
    /// Dropped half-way, it is landed all the same.
    pub(crate) async fn land(self: &Arc<Self>, file: SmallFile) -> Landed {
        let path = file.target.path_of(&file.name);
        let (landed, result) = oneshot::channel();
        let needs_a_worker = {
            let mut waiting = self.waiting();
            waiting.files.push_back((file, landed));
            let free = waiting.workers < MOST_GROUPS;
            waiting.workers += usize::from(free);
            free
        };
        if needs_a_worker {
            let group = self.clone();
            tokio::task::spawn_blocking(move || group.work());
        }
        // The thread has panicked, or the runtime has gone.
        let given_up = |_| Err(ReceiveError::disk("cannot land", path)(io::Error::other("that was given up")));
        result.await.unwrap_or_else(given_up)
    }

    fn work(&self) {
        let _given_up = GivenUp(self);
        while let Some((files, told)) = self.take() {
            for (landed, told) in land_together(&files).into_iter().zip(told) {
                // Whoever waited may have gone.
                let _ = told.send(landed);
            }
        }
    }

    /// What is landed next; `None` ends the worker.
    fn take(&self) -> Option<(Vec<SmallFile>, Vec<oneshot::Sender<Landed>>)> {
        let mut waiting = self.waiting();
        if waiting.files.is_empty() {
            waiting.workers -= 1;
            return None;
        }
        let together = waiting.files.len().min(MOST_TOGETHER);
        Some(waiting.files.drain(..together).unzip())
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A worker that panics leaves nobody waiting.
struct GivenUp<'a>(&'a Group);

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut waiting = self.0.waiting();
            waiting.workers -= 1;
            waiting.files.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use natsfer_common::{ChunkSize, DigestAlgorithm, FileName, Manifest, TransferId};

    use super::*;
    use crate::{ConflictPolicy, TargetDirectory, staging::Owner};

    fn small_file(target: &TargetDirectory, name: &FileName, raw: &'static [u8]) -> SmallFile {
        let id = TransferId::random().unwrap();
        let manifest = Manifest::new(id, "a".parse().unwrap(), name.clone(), ChunkSize::new(65_536).unwrap());
        SmallFile {
            manifest,
            name: name.clone(),
            target: target.clone(),
            owner: Owner::Replay,
            policy: ConflictPolicy::Fail,
            raw: Bytes::from_static(raw),
            digest: DigestAlgorithm::Blake3.digest(raw),
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn however_many_come_at_once_each_is_landed_and_nobody_waits_for_ever() {
        let home = tempfile::tempdir().unwrap();
        let target = TargetDirectory::open(home.path()).unwrap();
        let senders = (0..100).map(|sender| {
            let target = target.clone();
            tokio::spawn(async move {
                for number in 0..10 {
                    let name = format!("{}/{sender}-{number}", number % 3).parse().unwrap();
                    let (landing, path) = target.group.land(small_file(&target, &name, b"small")).await.unwrap();
                    assert_eq!((landing, std::fs::read(path).unwrap()), (Landing::Landed, b"small".to_vec()));
                }
            })
        });
        for sender in senders.collect::<Vec<_>>() {
            sender.await.unwrap();
        }
        assert_eq!(target.group.waiting().workers, 0);
    }

    #[tokio::test]
    async fn of_those_that_are_landed_together_each_ends_by_itself() {
        let home = tempfile::tempdir().unwrap();
        let target = TargetDirectory::open(home.path()).unwrap();
        let [taken, free] = ["taken", "free"].map(|name| name.parse::<FileName>().unwrap());
        std::fs::write(home.path().join("taken"), "another").unwrap();
        let files = [&taken, &free, &free].map(|name| small_file(&target, name, b"small"));
        let mut landed = land_together(&files).into_iter();
        assert!(matches!(landed.next(), Some(Err(ReceiveError::Exists { .. }))));
        assert!(matches!(landed.next(), Some(Ok((Landing::Landed, _)))));
        assert!(matches!(landed.next(), Some(Ok((Landing::Identical, _)))));
        let staged = std::fs::read_dir(home.path().join(".natsfer/replays")).unwrap();
        assert_eq!(staged.count(), 0, "something is left");
    }
}
