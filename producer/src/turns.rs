//! Turns of sources that would be one transfer.
//!
//! Two files of one name, size and time have one id until their bytes are known. Sent at once, each would find the other's chunks among
//! its own; one after the other, the second finds that the first is another file, and goes under the next revision's id.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use natsfer_common::TransferId;
use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

/// Who sends which transfer, of one process. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turns(Arc<Mutex<HashMap<TransferId, Weak<Turn<()>>>>>);

impl Turns {
    /// Waits until nobody else sends this transfer. The turn ends when what is returned is dropped.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn take(&self, transfer: TransferId) -> OwnedMutexGuard<()> {
        let turn = self.of(transfer);
        if let Ok(taken) = turn.clone().try_lock_owned() {
            return taken;
        }
        tracing::info!(%transfer, "waiting for another file of the same name, size and time, which is being sent");
        turn.lock_owned().await
    }

    fn of(&self, transfer: TransferId) -> Arc<Turn<()>> {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = turns.get(&transfer).and_then(Weak::upgrade) {
            return turn;
        }
        // Those that have ended; what is left is bounded by what is sent at once.
        turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::default();
        turns.insert(transfer, Arc::downgrade(&turn));
        turn
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn one_transfer_is_sent_by_one_at_a_time_and_others_meanwhile() {
        let (turns, [one, other]) = (Turns::default(), [0; 2].map(|_| TransferId::random().unwrap()));
        let first = turns.take(one).await;
        let mut second = Box::pin(turns.take(one));
        assert!((&mut second).now_or_never().is_none());
        let _other = turns.take(other).await;
        drop(first);
        drop(second.await);
        assert_eq!(turns.0.lock().unwrap().len(), 2);
        turns.take(TransferId::random().unwrap()).await;
        assert_eq!(turns.0.lock().unwrap().len(), 2, "one that has ended is kept");
    }
}
