//! What a process remembers of transfers that wait for their senders. A consumer is for bytes that flow: what waits has none.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use natsfer_common::{Channel, Manifest, TransferId, broker::StartAt};

/// Transfers that are remembered at most; what is said of others is found out again.
const MOST: usize = 100_000;

/// How far transfers had been read when they were left. Shared by all transfers of a receiver.
#[derive(Debug, Clone, Default)]
pub(crate) struct Waiting(Arc<Mutex<HashMap<(Channel, TransferId), Mark>>>);

/// How far a transfer had been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The messages that the stream had of it, all of them read; `None` where that may not be asked.
    pub(crate) messages: Option<u64>,
    /// Where it is read on; `None` where that is to be looked for.
    pub(crate) behind: Option<StartAt>,
    /// The broker's epoch then: in another one, sequences may stand for other messages.
    pub(crate) epoch: u64,
}

impl Waiting {
    /// Remembers a transfer that is left.
    pub(crate) fn leave(&self, manifest: &Manifest, mark: Mark) {
        let mut marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = key(manifest);
        if marks.len() < MOST || marks.contains_key(&key) {
            marks.insert(key, mark);
        }
    }

    /// How far it had been read, if it was left in this epoch.
    pub(crate) fn mark(&self, manifest: &Manifest, epoch: u64) -> Option<Mark> {
        let marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        marks.get(&key(manifest)).copied().filter(|mark| mark.epoch == epoch)
    }

    /// Forgets a transfer, if it is remembered.
    pub(crate) fn forget(&self, manifest: &Manifest) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&key(manifest));
    }
}

fn key(manifest: &Manifest) -> (Channel, TransferId) {
    (manifest.channel.clone(), manifest.transfer)
}

#[cfg(test)]
mod tests {
    use natsfer_common::ChunkSize;

    use super::*;

    #[test]
    fn a_mark_is_good_for_its_transfer_and_epoch() {
        let manifest = |channel: &str| {
            Manifest::new(
                "0123456789abcdef0123456789abcdef".parse().unwrap(),
                channel.parse().unwrap(),
                "name".parse().unwrap(),
                ChunkSize::new(65_536).unwrap(),
            )
        };
        let (waiting, one) = (Waiting::default(), manifest("one"));
        let mark = Mark { messages: Some(3), behind: Some(StartAt::Sequence(4)), epoch: 1 };
        waiting.leave(&one, mark);
        assert_eq!(
            [waiting.mark(&one, 1), waiting.mark(&one, 2), waiting.mark(&manifest("two"), 1)],
            [Some(mark), None, None]
        );
        waiting.forget(&one);
        assert_eq!(waiting.mark(&one, 1), None);
    }
}
