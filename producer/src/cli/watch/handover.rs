//! What is awaited of receivers before a source may go. No I/O: it is fed with what was sent and said.

use std::collections::{BTreeMap, BTreeSet};

use natsfer_producer::{Digest, FileName, ReceiverName, TransferId};

use super::{
    state::{Open, Word},
    version::Version,
    writers::Completion,
};

/// The files that were sent, and that something is still to happen to.
#[derive(Debug, Default)]
pub(super) struct Handover {
    held: BTreeMap<TransferId, Held>,
}

/// A file that was sent, in a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) name: FileName,
    pub(super) version: Version,
    pub(super) digest: Digest,
    pub(super) completion: Completion,
    /// Receivers that have said nothing yet.
    pub(super) awaited: BTreeSet<ReceiverName>,
    /// The worst that was heard.
    pub(super) worst: Word,
}

/// What a source's turn has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Somebody is awaited.
    Waits,
    /// Everybody has it.
    Goes,
    /// Somebody will never have it.
    Stays,
}

impl Held {
    /// What an earlier run has left open, by a run that names these receivers.
    pub(super) fn again(open: &Open, named: &[ReceiverName]) -> Self {
        let Open { version, completion, sent, .. } = open;
        let (awaited, worst) = (open.awaited(named), open.worst());
        let (name, digest) = (sent.name.clone(), sent.digest);
        Self { name, version: *version, digest, completion: *completion, awaited, worst }
    }

    fn fate(&self) -> Fate {
        match self.worst {
            _ if !self.awaited.is_empty() => Fate::Waits,
            Word::Landed => Fate::Goes,
            Word::NotLanded => Fate::Stays,
        }
    }
}

impl Handover {
    /// A file was sent.
    pub(super) fn hold(&mut self, transfer: TransferId, held: Held) -> Fate {
        let fate = held.fate();
        self.held.insert(transfer, held);
        fate
    }

    /// A receiver has it, or will not. Its first word counts: what it repeats speaks for nobody else.
    pub(super) fn hear(&mut self, transfer: TransferId, receiver: &ReceiverName, word: Word) -> Fate {
        let Some(held) = self.held.get_mut(&transfer) else { return Fate::Waits };
        if !held.awaited.remove(receiver) {
            return Fate::Waits;
        }
        if word == Word::NotLanded {
            held.worst = word;
        }
        held.fate()
    }

    /// Nothing more is to happen to it.
    pub(super) fn release(&mut self, transfer: TransferId) -> Option<Held> {
        self.held.remove(&transfer)
    }

    /// Somebody who is awaited, and how many more words are.
    pub(super) fn awaited(&self) -> Option<(TransferId, &ReceiverName, usize)> {
        let (transfer, receiver) =
            self.held.iter().find_map(|(transfer, held)| Some((*transfer, held.awaited.first()?)))?;
        let words: usize = self.held.values().map(|held| held.awaited.len()).sum();
        Some((transfer, receiver, words - 1))
    }

    /// How many files there are.
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// Who still waits for a transfer: whom it was sent for before, if it is sent once more.
    pub(super) fn awaited_of(&self, transfer: TransferId) -> BTreeSet<ReceiverName> {
        self.held.get(&transfer).map_or_else(BTreeSet::new, |held| held.awaited.clone())
    }

    pub(super) fn get(&self, transfer: TransferId) -> Option<&Held> {
        self.held.get(&transfer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::watch::version::Modified;

    #[test]
    fn a_source_goes_when_everybody_has_it_and_stays_if_anybody_will_not() {
        let transfer = TransferId::random().unwrap();
        let version = Version { size: 1, modified: Modified(1, 0), inode: 1, changed: None };
        let digest = natsfer_producer::DigestAlgorithm::Blake3.digest(b"");
        let (name, completion): (FileName, _) = ("a".parse().unwrap(), Completion::Told);
        let [a, b]: [ReceiverName; 2] = ["a", "b"].map(|name| name.parse().unwrap());
        let held = |awaited: &[&ReceiverName]| {
            let (name, awaited) = (name.clone(), awaited.iter().copied().cloned().collect());
            Held { name, version, digest, completion, awaited, worst: Word::Landed }
        };
        let mut handover = Handover::default();
        assert_eq!(handover.hold(transfer, held(&[])), Fate::Goes);
        assert_eq!(handover.awaited(), None);
        assert_eq!(handover.hold(transfer, held(&[&a, &b])), Fate::Waits);
        assert_eq!(handover.awaited(), Some((transfer, &a, 1)));
        assert_eq!(handover.hear(transfer, &a, Word::Landed), Fate::Waits);
        // A word that comes twice is nobody else's.
        assert_eq!(handover.hear(transfer, &a, Word::Landed), Fate::Waits);
        assert_eq!(handover.hear(transfer, &a, Word::NotLanded), Fate::Waits);
        assert_eq!(handover.awaited(), Some((transfer, &b, 0)));
        assert_eq!(handover.hear(transfer, &b, Word::Landed), Fate::Goes);
        assert_eq!(handover.hold(transfer, held(&[&a, &b])), Fate::Waits);
        assert_eq!(handover.hear(transfer, &a, Word::NotLanded), Fate::Waits);
        assert_eq!(handover.hear(transfer, &b, Word::Landed), Fate::Stays);
        assert_eq!(handover.release(transfer).map(|held| held.awaited), Some(BTreeSet::new()));
        assert_eq!(handover.hear(transfer, &b, Word::Landed), Fate::Waits);
    }
}
