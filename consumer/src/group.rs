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

/// One thread that lands what waits.
struct Worker(Arc<Group>);

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
            let worker = Worker(self.clone());
            tokio::task::spawn_blocking(move || worker.run());
        }
        // The thread has panicked, or the runtime has gone.
        let given_up = |_| Err(ReceiveError::disk("cannot land", path)(io::Error::other("that was given up")));
        result.await.unwrap_or_else(given_up)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Worker {
    fn run(self) {
        loop {
            let (files, told): (Vec<_>, Vec<_>) = {
                let mut waiting = self.0.waiting();
                let together = waiting.files.len().min(MOST_TOGETHER);
                waiting.files.drain(..together).unzip()
            };
            if files.is_empty() {
                return;
            }
            for (landed, told) in land_together(&files).into_iter().zip(told) {
                // Whoever waited may have gone.
                let _ = told.send(landed);
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.0.waiting().workers -= 1;
    }
}
