//! How many bytes may be under way.

use std::sync::Arc;

use natsfer_common::broker::Broker;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The flows of chunks that one receiver may have open at once, each with its share of the window: together they never exceed it,
/// however many transfers are held.
#[derive(Debug, Clone)]
pub(crate) struct Flows {
    window: u64,
    free: Arc<Semaphore>,
}

/// One open flow: released when dropped.
#[derive(Debug)]
pub(crate) struct Flow {
    /// Bytes asked for ahead.
    pub(crate) window: u64,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Flows {
    /// For so many transfers at once, or fewer where a share of the window would not hold two messages.
    pub(crate) fn new(broker: &Broker, window: u64, transfers: usize) -> Self {
        let least = 2 * (broker.max_payload() as u64 + 64 * 1024);
        let flows = (window / least).clamp(1, transfers.max(1) as u64);
        // At most as many as transfers, hence within a usize.
        Self { window: window / flows, free: Arc::new(Semaphore::new(flows as usize)) }
    }

    /// Waits for a free flow.
    pub(crate) async fn open(&self) -> Flow {
        // The semaphore is never closed.
        let permit = self.free.clone().acquire_owned().await.ok();
        Flow { window: self.window, _permit: permit }
    }
}
