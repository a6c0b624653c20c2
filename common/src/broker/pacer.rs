//! Waiting for a rate's sake.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::{Instant, sleep_until};

use crate::{Pace, Rate};

/// A rate that several transfers keep to together; none, where none is set. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Pacer(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    rate: Rate,
    start: Instant,
    pace: Mutex<Pace>,
}

impl Pacer {
    /// Keeps to this rate.
    pub fn new(rate: Option<Rate>) -> Self {
        let shared = |rate| Shared { rate, start: Instant::now(), pace: Mutex::new(Pace::new(rate)) };
        Self(rate.map(|rate| Arc::new(shared(rate))))
    }

    /// The rate, if there is one.
    pub fn rate(&self) -> Option<Rate> {
        self.0.as_ref().map(|shared| shared.rate)
    }

    /// When something may pass: now, where that time is over.
    pub fn free_at(&self) -> Instant {
        match &self.0 {
            Some(shared) => shared.start + shared.lock().free_at(shared.start.elapsed()),
            None => Instant::now(),
        }
    }

    /// Waits until something may pass.
    ///
    /// Cancel safe.
    pub async fn free(&self) {
        if self.0.is_some() {
            sleep_until(self.free_at()).await;
        }
    }

    /// Notes that so many bytes have passed.
    pub fn passed(&self, bytes: usize) {
        if let Some(shared) = &self.0 {
            shared.lock().pass(shared.start.elapsed(), bytes as u64);
        }
    }

    /// Waits for the turn of so many bytes.
    ///
    /// Cancel safe, but their turn is then over.
    pub async fn pass(&self, bytes: usize) {
        if let Some(shared) = &self.0 {
            let at = shared.lock().pass(shared.start.elapsed(), bytes as u64);
            sleep_until(shared.start + at).await;
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
