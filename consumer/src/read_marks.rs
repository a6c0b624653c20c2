//! How far transfers had been read when they were put back to wait for their senders, which have no consumer meanwhile.
//!
//! Owns one mark for each such transfer, in memory. `Intake` and `Save` leave a mark when a reading ends, compare it when the transfer
//! comes again, and forget it when it is received. It ends with the process; another one compares with the journal instead.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use natsfer_common::{Channel, Manifest, TransferId, broker::StartAt};

/// Transfers that are remembered at most: beyond them, the oldest are forgotten. What is said of them is found out again.
const MOST: usize = 100_000;

/// How far transfers had been read when they were left. Shared by all transfers of a receiver.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReadMarks(Arc<Mutex<Marks>>);

#[derive(Debug, Default)]
struct Marks {
    /// With the number of the call that left each.
    by_transfer: HashMap<(Channel, TransferId), (u64, Mark)>,
    /// Calls so far.
    calls: u64,
}

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

impl ReadMarks {
    /// Remembers a transfer that is left.
    pub(crate) fn leave(&self, manifest: &Manifest, mark: Mark) {
        self.lock().leave(key(manifest), mark, MOST);
    }

    /// How far it had been read, if it was left in this epoch.
    pub(crate) fn mark(&self, manifest: &Manifest, epoch: u64) -> Option<Mark> {
        let marks = self.lock();
        marks.by_transfer.get(&key(manifest)).map(|(_, mark)| *mark).filter(|mark| mark.epoch == epoch)
    }

    /// Forgets a transfer, if it is remembered.
    pub(crate) fn forget(&self, manifest: &Manifest) {
        self.lock().by_transfer.remove(&key(manifest));
    }

    fn lock(&self) -> MutexGuard<'_, Marks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Marks {
    /// Remembers a transfer, and so many at most.
    fn leave(&mut self, key: (Channel, TransferId), mark: Mark, most: usize) {
        if self.by_transfer.len() >= most && !self.by_transfer.contains_key(&key) {
            self.make_room(mark.epoch, most);
        }
        self.by_transfer.insert(key, (self.calls, mark));
        self.calls += 1;
    }

    /// Forgets what was left in other epochs, which is good for nothing; if that is not enough, the oldest too. Those are the
    /// likeliest not to come again: removed from the stream, or received by another process.
    fn make_room(&mut self, epoch: u64, most: usize) {
        self.by_transfer.retain(|_, (_, mark)| mark.epoch == epoch);
        if self.by_transfer.len() >= most {
            // A tenth at once: finding the oldest looks at all.
            let mut calls: Vec<_> = self.by_transfer.values().map(|(call, _)| *call).collect();
            let (_, oldest, _) = calls.select_nth_unstable(most / 10);
            let oldest = *oldest;
            self.by_transfer.retain(|_, (call, _)| *call > oldest);
        }
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
        let (marks, one) = (ReadMarks::default(), manifest("one"));
        let mark = Mark { messages: Some(3), behind: Some(StartAt::Sequence(4)), epoch: 1 };
        marks.leave(&one, mark);
        assert_eq!(
            [marks.mark(&one, 1), marks.mark(&one, 2), marks.mark(&manifest("two"), 1)],
            [Some(mark), None, None]
        );
        marks.forget(&one);
        assert_eq!(marks.mark(&one, 1), None);
    }

    #[test]
    fn those_of_other_epochs_are_forgotten_first_and_then_the_oldest() {
        const MOST: usize = 20;
        let key = |number: usize| ("c".parse().unwrap(), format!("{number:032x}").parse().unwrap());
        let (mut marks, mark) = (Marks::default(), |epoch| Mark { messages: None, behind: None, epoch });
        let kept = |marks: &Marks| (0..60).filter(|n| marks.by_transfer.contains_key(&key(*n))).collect::<Vec<_>>();
        (0..5).for_each(|number| marks.leave(key(number), mark(1), MOST));
        (5..MOST).for_each(|number| marks.leave(key(number), mark(2), MOST));
        assert_eq!(kept(&marks), (0..MOST).collect::<Vec<_>>());
        marks.leave(key(20), mark(2), MOST);
        assert_eq!(kept(&marks), (5..=20).collect::<Vec<_>>());
        // Left again, it is not among the oldest.
        (21..25).chain([5]).for_each(|number| marks.leave(key(number), mark(2), MOST));
        assert_eq!(marks.by_transfer.len(), MOST);
        marks.leave(key(25), mark(2), MOST);
        assert_eq!(kept(&marks), [5].into_iter().chain(9..=25).collect::<Vec<_>>());
    }
}
