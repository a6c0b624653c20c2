//! How many transfers flow at once, and what is kept of each while it is written.

use std::sync::Arc;

use natsfer_common::{
    Manifest, Rate,
    broker::{Broker, FlowPlace, Pacer},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Two messages of 1 MiB, which is more than chunks usually have.
const LEAST: u64 = 2 * ((1 << 20) + (64 << 10));
/// What comes while other chunks of a transfer are written is kept up to this part of its share: half of it, with those that are written.
const BATCHES: u64 = 4;

/// The flows of chunks that one receiver may have open at once. How far each asks ahead is the connection's to say: see
/// [`Broker::set_read_window`]. Here, a buffer of the same size is shared out for what comes while they write. Half of it is split evenly. Of
/// the other half, a flow that opens gets a third of what is free; a half, or all, where only two or one may flow.
#[derive(Debug, Clone)]
pub(crate) struct Flows {
    /// Bytes of a share. Each flow has one.
    share: u64,
    /// How many may be open.
    flows: usize,
    free: Arc<Semaphore>,
    /// Shares that are no flow's.
    spare: Arc<Semaphore>,
    /// Bytes that are share enough for one flow.
    enough: u64,
    pacer: Pacer,
}

/// One open flow: released when dropped.
#[derive(Debug)]
pub(crate) struct Flow {
    /// Bytes that are kept while others are written, at most.
    pub(crate) batch: u64,
    /// Where it asks ahead.
    pub(crate) place: FlowPlace,
    /// The rate of all of them together.
    pub(crate) pacer: Pacer,
    _kept: Kept,
}

/// A share of what is kept.
#[derive(Debug)]
struct Kept {
    bytes: u64,
    _permits: [Option<OwnedSemaphorePermit>; 2],
}

impl Flows {
    /// For so many transfers at once, or fewer where half the window would not hold two messages for each.
    pub(crate) fn new(window: u64, transfers: usize) -> Self {
        Self::of(window, LEAST, transfers)
    }

    fn of(window: u64, least: u64, transfers: usize) -> Self {
        let shares = (window / least).max(1);
        let flows = shares.div_ceil(2).min(transfers.max(1) as u64);
        // Both fit a semaphore: they are few, or the window is larger than any memory.
        let permits = |count: u64| Arc::new(Semaphore::new((count as usize).min(Semaphore::MAX_PERMITS)));
        Self {
            share: window / shares,
            flows: flows as usize,
            free: permits(flows),
            spare: permits(shares - flows),
            enough: u64::MAX,
            pacer: Pacer::default(),
        }
    }

    /// With a rate for all of them together. What the rate moves in a second is window enough.
    pub(crate) fn with_rate(self, rate: Option<Rate>) -> Self {
        let enough = rate.map_or(u64::MAX, Rate::bytes_per_second).max(LEAST);
        Self { enough, pacer: Pacer::new(rate), ..self }
    }

    /// The rate that everything keeps to.
    pub(crate) fn pacer(&self) -> &Pacer {
        &self.pacer
    }

    /// Waits until one more transfer may flow: this one.
    pub(crate) async fn open(&self, broker: &Broker, manifest: &Manifest) -> Flow {
        let kept = self.keep().await;
        let place = broker.flow_place(manifest).await;
        Flow { batch: kept.bytes / BATCHES, place, pacer: self.pacer.clone(), _kept: kept }
    }

    async fn keep(&self) -> Kept {
        // The semaphore is never closed.
        let free = self.free.clone().acquire_owned().await.ok();
        let more = self.spare.available_permits().div_ceil(self.flows.min(3)) as u32;
        // Somebody else may have been faster.
        let spare = self.spare.clone().try_acquire_many_owned(more).ok();
        let shares = 1 + spare.as_ref().map_or(0, OwnedSemaphorePermit::num_permits) as u64;
        Kept { bytes: (self.share * shares).min(self.enough), _permits: [free, spare] }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Opened and closed in any order, they never have more than the window together, and each has two messages' bytes.
        #[test]
        fn together_they_never_exceed_the_window(
            window in 1u64..1_000, least in 1u64..100, transfers in 1usize..20, steps in proptest::collection::vec(any::<(bool, u8)>(), 1..60),
        ) {
            let flows = Flows::of(window, least, transfers);
            let mut open: Vec<Kept> = Vec::new();
            for (opens, which) in steps {
                if opens {
                    open.extend(futures_util::FutureExt::now_or_never(flows.keep()));
                } else if !open.is_empty() {
                    open.swap_remove(usize::from(which) % open.len());
                }
                prop_assert!(open.len() <= transfers);
                prop_assert!(open.iter().map(|kept| kept.bytes).sum::<u64>() <= window);
                prop_assert!(open.iter().all(|kept| kept.bytes >= least.min(window)));
            }
        }
    }

    #[tokio::test]
    async fn who_comes_first_has_more() {
        let flows = Flows::of(70, 10, 16);
        let (first, _second, _third) = (flows.keep().await, flows.keep().await, flows.keep().await);
        assert_eq!((first.bytes, flows.keep().await.bytes), (20, 10));
        drop(first);
        assert_eq!(flows.keep().await.bytes, 20);
        assert_eq!(Flows::of(70, 10, 1).keep().await.bytes, 70);
    }
}
