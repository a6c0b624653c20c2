//! How many bytes may be under way, of all transfers of a producer together.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A number of bytes that each chunk to be published takes some of, until the server has acknowledged it. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    bytes: u32,
    free: Arc<Semaphore>,
    waiting: Arc<AtomicU32>,
}

/// Some of a window's bytes; free again when dropped.
#[derive(Debug)]
pub(crate) struct Share {
    permit: OwnedSemaphorePermit,
    /// How long the link let it wait: of the time that went by, not what others waited for before it.
    pub(crate) waited: Duration,
}

/// One who waits for a share.
struct Waiting<'a>(&'a AtomicU32);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Window {
    pub(crate) fn new(bytes: u64) -> Self {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).max(1);
        Self { bytes, free: Arc::new(Semaphore::new(bytes as usize)), waiting: Arc::default() }
    }

    /// Waits for so many bytes, in turn with others; for all there are, if that is less. `None` never comes: the semaphore is
    /// never closed.
    pub(crate) async fn take(&self, bytes: usize) -> Option<Share> {
        let bytes = u32::try_from(bytes).map_or(self.bytes, |bytes| bytes.min(self.bytes));
        let (ahead, asked) = (self.waiting.fetch_add(1, Ordering::Relaxed), Instant::now());
        let _waiting = Waiting(&self.waiting);
        let permit = self.free.clone().acquire_many_owned(bytes).await.ok()?;
        Some(Share { permit, waited: asked.elapsed() / (ahead + 1) })
    }
}

impl Share {
    /// Gives back all but so many bytes.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        let excess = self.permit.num_permits().saturating_sub(bytes);
        drop(self.permit.split(excess));
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn no_more_is_taken_than_there_is() {
        let window = Window::new(100);
        let take = |bytes| window.take(bytes).now_or_never().flatten();
        let mut first = take(60).unwrap();
        assert!(take(60).is_none());
        first.shrink_to(40);
        first.shrink_to(50);
        let second = take(60).unwrap();
        drop(first);
        assert!(take(41).is_none());
        drop(second);
        assert!(take(5_000).is_some(), "a chunk larger than the window goes alone");
    }
}
