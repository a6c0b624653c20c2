//! How many bytes may be under way.

use std::sync::Arc;

use natsfer_common::{
    Rate,
    broker::{Broker, Pacer},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The flows of chunks that one receiver may have open at once, each with its share of the window: together they never exceed it,
/// however many transfers are held.
#[derive(Debug, Clone)]
pub(crate) struct Flows {
    window: u64,
    free: Arc<Semaphore>,
    pacer: Pacer,
}

/// One open flow: released when dropped.
#[derive(Debug)]
pub(crate) struct Flow {
    /// Bytes asked for ahead.
    pub(crate) window: u64,
    /// The rate of all of them together.
    pub(crate) pacer: Pacer,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Flows {
    /// For so many transfers at once, or fewer where a share of the window would not hold two messages.
    pub(crate) fn new(broker: &Broker, window: u64, transfers: usize) -> Self {
        let flows = (window / least_window(broker)).clamp(1, transfers.max(1) as u64);
        // At most as many as transfers, hence within a usize.
        let free = Arc::new(Semaphore::new(flows as usize));
        Self { window: window / flows, free, pacer: Pacer::default() }
    }

    /// With a rate for all of them together. What the rate moves in a second is window enough.
    pub(crate) fn with_rate(self, broker: &Broker, rate: Option<Rate>) -> Self {
        let enough = rate.map_or(u64::MAX, Rate::bytes_per_second).max(least_window(broker));
        Self { window: self.window.min(enough), pacer: Pacer::new(rate), ..self }
    }

    /// The rate that everything keeps to.
    pub(crate) fn pacer(&self) -> &Pacer {
        &self.pacer
    }

    /// Waits for a free flow.
    pub(crate) async fn open(&self) -> Flow {
        // The semaphore is never closed.
        let permit = self.free.clone().acquire_owned().await.ok();
        Flow { window: self.window, pacer: self.pacer.clone(), _permit: permit }
    }
}

/// Two messages.
fn least_window(broker: &Broker) -> u64 {
    2 * (broker.max_payload() as u64 + 64 * 1024)
}
