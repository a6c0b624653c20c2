//! The producer's decisions: what to publish, when to close.

use std::collections::BTreeMap;

use crate::{
    ChunkSet, ChunkSize, Closing, Digest, Manifest, StoredTransfer, Totals, TransferId, stored_transfer::StoredChunk,
};

/// What to do with a chunk that was cut from the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// Publish it.
    Publish,
    /// It is stored: nothing to do.
    Stored,
}

/// What to do when every chunk is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Publish a closing record with these totals.
    Close(Totals),
    /// Nothing: it stands closed with these, and only chunks were missing.
    Closed(Totals),
}

/// Why a transfer cannot be completed from this source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// What is stored was cut from other bytes than the source has now.
    #[error("chunk {index} of transfer {transfer} is stored with other bytes than the source has now")]
    SourceChanged {
        /// The transfer.
        transfer: TransferId,
        /// The first chunk that differs.
        index: u64,
    },
    /// The source ended elsewhere than its manifest says.
    #[error("the source of transfer {transfer} was {declared} bytes long when it was opened, and is {found} now")]
    SizeChanged {
        /// The transfer.
        transfer: TransferId,
        /// What the manifest says, in bytes.
        declared: u64,
        /// What was read, in bytes.
        found: u64,
    },
    /// The transfer stands closed with another digest, size or count than the source has.
    #[error("transfer {transfer} is closed with other contents than the source has now")]
    ClosedOtherwise {
        /// The transfer.
        transfer: TransferId,
    },
    /// Closing was asked for before the server had acknowledged every chunk.
    #[error("transfer {transfer} cannot be closed: chunks {missing} are not acknowledged")]
    Unacknowledged {
        /// The transfer.
        transfer: TransferId,
        /// The chunks.
        missing: ChunkSet,
    },
}

/// One transfer on its way into the stream.
///
/// Fed with every chunk of the source in order and every acknowledgement of the server in any order. It publishes nothing
/// that is stored, and gives the closing record only when the server has acknowledged every chunk.
#[derive(Debug)]
pub struct SendPlan {
    transfer: TransferId,
    declared: Option<u64>,
    chunk_size: ChunkSize,
    stored: BTreeMap<u64, StoredChunk>,
    wanted: ChunkSet,
    closed: Option<Totals>,
    last_sequence: u64,
    offered: u64,
    size: u64,
    acknowledged: ChunkSet,
    stored_bytes: u64,
    resumed_from: u64,
    published: Published,
}

/// What one run put into the stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Published {
    /// Chunks.
    pub chunks: u64,
    /// Bytes of their payloads, as encoded.
    pub bytes: u64,
}

impl SendPlan {
    /// A transfer of which nothing is stored.
    pub fn new(manifest: &Manifest) -> Self {
        Self {
            transfer: manifest.transfer,
            declared: manifest.size,
            chunk_size: manifest.chunk_size,
            stored: BTreeMap::new(),
            wanted: ChunkSet::default(),
            closed: None,
            last_sequence: 0,
            offered: 0,
            size: 0,
            acknowledged: ChunkSet::default(),
            stored_bytes: 0,
            resumed_from: 0,
            published: Published::default(),
        }
    }

    /// A transfer of which something is stored.
    pub fn resume(stored: StoredTransfer) -> Self {
        let closed = match stored.closing {
            Some(Closing::Complete(totals)) => Some(totals),
            _ => None,
        };
        let last_sequence = stored.last_sequence;
        let StoredTransfer { manifest, chunks, wanted, .. } = stored;
        Self { stored: chunks, wanted, closed, last_sequence, ..Self::new(&manifest) }
    }

    /// Takes the source's next chunk.
    ///
    /// # Errors
    /// When it is stored with other bytes, or the transfer is closed and has no such chunk: the source changed, or is another
    /// one. Nothing may be published behind a transfer's end.
    pub fn offer(&mut self, length: u32, crc32: u32) -> Result<Offer, SendError> {
        let index = self.offered;
        if self.closed.is_some_and(|closed| length != self.chunk_size.length(index, closed.size)) {
            return Err(SendError::ClosedOtherwise { transfer: self.transfer });
        }
        self.offered += 1;
        self.size += u64::from(length);
        match self.stored.remove(&index) {
            None => Ok(Offer::Publish),
            Some(stored) if (stored.crc32, stored.length) != (crc32, length) => {
                Err(SendError::SourceChanged { transfer: self.transfer, index })
            }
            Some(_) if self.wanted.contains(index) => Ok(Offer::Publish),
            Some(stored) => {
                self.acknowledged.insert(index);
                self.stored_bytes += stored.stored_bytes;
                self.resumed_from += u64::from(length);
                Ok(Offer::Stored)
            }
        }
    }

    /// Takes the server's acknowledgement of a chunk with so many bytes of payload, stored at this place. Harmless when
    /// repeated.
    pub fn acknowledge(&mut self, index: u64, stored_bytes: u64, sequence: u64) {
        self.last_sequence = self.last_sequence.max(sequence);
        if index < self.offered && self.acknowledged.insert(index) {
            self.stored_bytes += stored_bytes;
            self.published.chunks += 1;
            self.published.bytes += stored_bytes;
        }
    }

    /// Whether the transfer stood closed when this run began.
    pub fn is_closed(&self) -> bool {
        self.closed.is_some()
    }

    /// Raw bytes that were stored before this run.
    pub fn resumed_from(&self) -> u64 {
        self.resumed_from
    }

    /// What this run has put into the stream.
    pub fn published(&self) -> Published {
        self.published
    }

    /// The last message on the data subject that this run knows of. If the subject has another one when the transfer is to
    /// be closed, somebody else has published there, or something was lost: look again.
    pub fn last_sequence(&self) -> u64 {
        self.last_sequence
    }

    /// The transfer's end, at the end of the source.
    ///
    /// # Errors
    /// When the source's size is not what the manifest says, more is stored than the source has, or an acknowledgement is
    /// outstanding.
    pub fn close(self, digest: Digest) -> Result<Ending, SendError> {
        let transfer = self.transfer;
        if let Some(declared) = self.declared.filter(|declared| *declared != self.size) {
            return Err(SendError::SizeChanged { transfer, declared, found: self.size });
        }
        if let Some((&index, _)) = self.stored.first_key_value() {
            return Err(SendError::SourceChanged { transfer, index });
        }
        let missing = self.acknowledged.missing(self.offered);
        if !missing.is_empty() {
            return Err(SendError::Unacknowledged { transfer, missing });
        }
        let totals = Totals { chunks: self.offered, size: self.size, stored_bytes: self.stored_bytes, digest };
        debug_assert!(totals.fit(self.chunk_size));
        match self.closed {
            None => Ok(Ending::Close(totals)),
            Some(standing) if standing.same_file(&totals) => Ok(Ending::Closed(standing)),
            Some(_) => Err(SendError::ClosedOtherwise { transfer }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use jiff::Timestamp;

    use super::*;
    use crate::{DigestAlgorithm, Verdict};

    const CHUNK: u32 = 10;

    fn manifest(size: Option<u64>) -> Manifest {
        let (channel, name) = ("a".parse().unwrap(), "b".parse().unwrap());
        let id = "0".repeat(32).parse().unwrap();
        let mut manifest = Manifest::new(id, channel, name, ChunkSize::new(CHUNK).unwrap());
        manifest.size = size;
        manifest
    }

    /// The stored form of a source's chunk: its CRC stands for its bytes.
    fn chunk(source: u32, index: u64, size: u64) -> StoredChunk {
        let length = ChunkSize::new(CHUNK).unwrap().length(index, size);
        StoredChunk {
            crc32: source ^ index as u32,
            length,
            stored_bytes: length.into(),
            stored_at: Timestamp::UNIX_EPOCH,
        }
    }

    proptest! {
        /// Runs that die after any number of publications converge: nothing stored is published again, and the close comes
        /// only after every acknowledgement.
        #[test]
        fn sending_converges(size in 0u64..200, deaths in proptest::collection::vec((0usize..25, any::<u64>()), 0..6)) {
            let manifest = manifest(Some(size));
            let count = manifest.chunk_size.count(size);
            let mut stored = StoredTransfer::new(manifest.clone(), 1);
            let digest = DigestAlgorithm::Blake3.digest(b"");
            let mut published = vec![0; count as usize];
            for (budget, lost_acks) in deaths.into_iter().chain([(usize::MAX, u64::MAX)]) {
                if let Verdict::Whole { .. } = stored.verdict() {
                    break;
                }
                let mut plan = SendPlan::resume(stored.clone());
                let mut done = 0;
                for index in 0..count {
                    let chunk = chunk(1, index, size);
                    if done < budget && plan.offer(chunk.length, chunk.crc32).unwrap() == Offer::Publish {
                        done += 1;
                        published[index as usize] += 1;
                        stored.chunk(index, chunk);
                        if lost_acks >> (index % 64) & 1 == 1 {
                            plan.acknowledge(index, chunk.stored_bytes, 1);
                        }
                    }
                }
                let whole = plan.acknowledged.len() == count;
                match plan.close(digest) {
                    Ok(Ending::Close(totals)) => { prop_assert!(whole); stored.close(Closing::Complete(totals)) }
                    Ok(ending) => prop_assert!(false, "{ending:?}"),
                    Err(_) => prop_assert!(!whole),
                }
            }
            prop_assert!(published.iter().all(|times| *times == 1));
            let whole = matches!(stored.verdict(), Verdict::Whole { totals } if totals.size == size && totals.chunks == count);
            prop_assert!(whole);
        }

        #[test]
        fn another_source_is_never_mixed_in(size in 1u64..200, held in 1u64..20, other in 1u64..200) {
            let manifest = manifest(None);
            let mut stored = StoredTransfer::new(manifest.clone(), 1);
            let count = manifest.chunk_size.count(size);
            for index in 0..held.min(count) {
                stored.chunk(index, chunk(1, index, size));
            }
            let mut plan = SendPlan::resume(stored);
            let refused = (0..manifest.chunk_size.count(other)).any(|index| {
                let chunk = chunk(2, index, other);
                plan.offer(chunk.length, chunk.crc32).map(|_| plan.acknowledge(index, 1, 1)).is_err()
            });
            prop_assert!(refused || plan.close(DigestAlgorithm::Blake3.digest(b"")).is_err());
        }
    }

    #[test]
    fn a_source_of_another_size_is_not_closed() {
        let mut plan = SendPlan::new(&manifest(Some(15)));
        plan.offer(10, 0).unwrap();
        plan.acknowledge(0, 10, 1);
        let digest = DigestAlgorithm::Blake3.digest(b"");
        assert!(matches!(plan.close(digest), Err(SendError::SizeChanged { declared: 15, found: 10, .. })));
    }

    /// Longer, shorter or empty: none of its chunks is published, and it is not taken for the same file.
    #[test]
    fn a_source_of_another_size_publishes_nothing_into_a_closed_transfer() {
        let digest = DigestAlgorithm::Blake3.digest(b"");
        for (size, other) in [(40, 41), (40, 50), (45, 50), (45, 60), (45, 41), (45, 40), (40, 0), (0, 10)] {
            let mut stored = StoredTransfer::new(manifest(None), 1);
            let chunk_size = stored.manifest.chunk_size;
            let chunks = chunk_size.count(size);
            (0..chunks).for_each(|index| stored.chunk(index, chunk(1, index, size)));
            stored.close(Closing::Complete(Totals { chunks, size, stored_bytes: size, digest }));
            let mut plan = SendPlan::resume(stored);
            let offers: Result<Vec<_>, _> = (0..chunk_size.count(other))
                .map(|index| plan.offer(chunk_size.length(index, other), chunk(1, index, other).crc32))
                .collect();
            match offers {
                Ok(offers) => {
                    assert!(offers.iter().all(|offer| *offer == Offer::Stored), "{size} and {other}: {offers:?}");
                    assert!(plan.close(digest).is_err(), "{size} and {other}");
                }
                Err(error) => {
                    assert!(matches!(error, SendError::ClosedOtherwise { .. }), "{size} and {other}: {error}")
                }
            }
        }
    }

    #[test]
    fn a_request_is_answered_by_exactly_the_chunks_it_names_and_only_once() {
        let manifest = manifest(Some(40));
        let digest = DigestAlgorithm::Blake3.digest(b"");
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut stored = StoredTransfer::new(manifest, 1);
        (0..4).for_each(|index| stored.chunk(index, chunk(1, index, 40)));
        let totals = Totals { chunks: 4, size: 40, stored_bytes: 40, digest };
        stored.close(Closing::Complete(totals));
        assert_eq!(stored.verdict(), Verdict::Whole { totals });
        let mut answered = stored.clone();
        stored.ask(&[1, 3].into_iter().collect(), at(5));
        assert_eq!(stored.verdict(), Verdict::Repair { totals });
        let mut plan = SendPlan::resume(stored.clone());
        let mut of_another_source = SendPlan::resume(stored.clone());
        of_another_source.offer(10, 1).unwrap();
        assert!(matches!(of_another_source.offer(10, 7), Err(SendError::SourceChanged { index: 1, .. })));
        let offers: Vec<_> = (0..4).map(|index| plan.offer(10, 1 ^ index).unwrap()).collect();
        assert_eq!(offers, [Offer::Stored, Offer::Publish, Offer::Stored, Offer::Publish]);
        [1, 3].into_iter().for_each(|index| plan.acknowledge(index, 12, 9));
        assert_eq!(plan.close(digest), Ok(Ending::Closed(totals)));

        [1, 3]
            .into_iter()
            .for_each(|index| answered.chunk(index, StoredChunk { stored_at: at(6), ..chunk(1, index, 40) }));
        answered.ask(&[1, 3].into_iter().collect(), at(5));
        assert_eq!(answered.verdict(), Verdict::Whole { totals });
    }

    #[test]
    fn cancelled_or_contradictory_transfers_are_abandoned() {
        let mut cancelled = StoredTransfer::new(manifest(None), 1);
        cancelled.close(Closing::Cancelled { reason: "x".into() });
        assert_eq!(cancelled.verdict(), Verdict::Abandon);
        let mut conflicting = StoredTransfer::new(manifest(None), 1);
        conflicting.chunk(0, chunk(1, 0, 10));
        conflicting.chunk(0, chunk(1, 0, 10));
        assert_eq!(conflicting.verdict(), Verdict::Resume);
        conflicting.chunk(0, chunk(2, 0, 10));
        assert_eq!(conflicting.verdict(), Verdict::Abandon);
    }
}
