//! The producer's decisions: what of a transfer is stored, what to publish, when to close.

use std::collections::BTreeMap;

use crate::{ChunkSet, ChunkSize, Closing, ClosingRecord, Digest, Manifest, Totals, TransferId};

/// What the stream holds of one transfer: the producer's journal.
#[derive(Debug, Clone)]
pub struct StoredTransfer {
    /// What was said when it was opened.
    pub manifest: Manifest,
    /// Its stored chunks.
    chunks: BTreeMap<u64, StoredChunk>,
    /// Two copies of one chunk differ.
    conflicting: bool,
    /// How it ended, if it did.
    closing: Option<Closing>,
}

/// One stored chunk, as its message's headers describe it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredChunk {
    /// CRC32 of its raw bytes.
    pub crc32: u32,
    /// How many raw bytes it holds.
    pub length: u32,
    /// Bytes of its payload, as encoded.
    pub stored_bytes: u64,
}

/// What to do about a transfer that the stream knows already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Every byte is stored: nothing to publish if the source still has this digest.
    Whole {
        /// Count, size and digest of what is stored.
        totals: Totals,
    },
    /// Chunks or the closing record are missing: go on with a [`SendPlan`].
    Resume,
    /// It was cancelled, or is stored in contradiction with itself: begin another under the next revision.
    Abandon,
}

/// What to do with a chunk that was cut from the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// Publish it.
    Publish,
    /// It is stored: nothing to do.
    Stored,
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

impl StoredTransfer {
    /// A transfer of which only the manifest is known yet.
    pub fn new(manifest: Manifest) -> Self {
        Self { manifest, chunks: BTreeMap::new(), conflicting: false, closing: None }
    }

    /// Takes one stored chunk. Copies of one chunk that agree are one chunk.
    pub fn chunk(&mut self, index: u64, chunk: StoredChunk) {
        let first = *self.chunks.entry(index).or_insert(chunk);
        self.conflicting |= (first.crc32, first.length) != (chunk.crc32, chunk.length);
    }

    /// Takes a stored closing record. The first one stands: a transfer ends once.
    pub fn close(&mut self, closing: Closing) {
        self.closing.get_or_insert(closing);
    }

    /// What to do about it.
    pub fn verdict(&self) -> Verdict {
        if self.conflicting {
            return Verdict::Abandon;
        }
        match &self.closing {
            Some(Closing::Cancelled { .. }) => Verdict::Abandon,
            Some(Closing::Complete(totals)) if !totals.fit(self.manifest.chunk_size) => Verdict::Abandon,
            Some(Closing::Complete(totals)) => match self.chunks.range(..totals.chunks).count() as u64 {
                held if held >= totals.chunks => Verdict::Whole { totals: *totals },
                _ => Verdict::Resume,
            },
            None => Verdict::Resume,
        }
    }
}

impl SendPlan {
    /// A transfer of which nothing is stored.
    pub fn new(manifest: &Manifest) -> Self {
        Self {
            transfer: manifest.transfer,
            declared: manifest.size,
            chunk_size: manifest.chunk_size,
            stored: BTreeMap::new(),
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
        Self { stored: stored.chunks, ..Self::new(&stored.manifest) }
    }

    /// Takes the source's next chunk.
    ///
    /// # Errors
    /// When it is stored with other bytes: the source changed, or is another one.
    pub fn offer(&mut self, length: u32, crc32: u32) -> Result<Offer, SendError> {
        let index = self.offered;
        self.offered += 1;
        self.size += u64::from(length);
        match self.stored.remove(&index) {
            None => Ok(Offer::Publish),
            Some(stored) if (stored.crc32, stored.length) == (crc32, length) => {
                self.acknowledged.insert(index);
                self.stored_bytes += stored.stored_bytes;
                self.resumed_from += u64::from(length);
                Ok(Offer::Stored)
            }
            Some(_) => Err(SendError::SourceChanged { transfer: self.transfer, index }),
        }
    }

    /// Takes the server's acknowledgement of a chunk with so many bytes of payload. Harmless when repeated.
    pub fn acknowledge(&mut self, index: u64, stored_bytes: u64) {
        if index < self.offered && self.acknowledged.insert(index) {
            self.stored_bytes += stored_bytes;
            self.published.chunks += 1;
            self.published.bytes += stored_bytes;
        }
    }

    /// Raw bytes that were stored before this run.
    pub fn resumed_from(&self) -> u64 {
        self.resumed_from
    }

    /// What this run has put into the stream.
    pub fn published(&self) -> Published {
        self.published
    }

    /// The closing record, at the end of the source.
    ///
    /// # Errors
    /// When the source's size is not what the manifest says, more is stored than the source has, or an acknowledgement is
    /// outstanding.
    pub fn close(self, digest: Digest) -> Result<ClosingRecord, SendError> {
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
        Ok(ClosingRecord::new(transfer, Closing::Complete(totals)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::DigestAlgorithm;

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
        StoredChunk { crc32: source ^ index as u32, length, stored_bytes: length.into() }
    }

    proptest! {
        /// Runs that die after any number of publications converge: nothing stored is published again, and the close comes
        /// only after every acknowledgement.
        #[test]
        fn sending_converges(size in 0u64..200, deaths in proptest::collection::vec((0usize..25, any::<u64>()), 0..6)) {
            let manifest = manifest(Some(size));
            let count = manifest.chunk_size.count(size);
            let mut stored = StoredTransfer::new(manifest.clone());
            let digest = DigestAlgorithm::Blake3.digest(b"");
            let mut published = vec![0; count as usize];
            for (budget, lost_acks) in deaths.into_iter().chain([(usize::MAX, u64::MAX)]) {
                let mut plan = SendPlan::resume(stored.clone());
                let mut done = 0;
                for index in 0..count {
                    let chunk = chunk(1, index, size);
                    if done < budget && plan.offer(chunk.length, chunk.crc32).unwrap() == Offer::Publish {
                        done += 1;
                        published[index as usize] += 1;
                        stored.chunk(index, chunk);
                        if lost_acks >> (index % 64) & 1 == 1 {
                            plan.acknowledge(index, chunk.stored_bytes);
                        }
                    }
                }
                let whole = plan.acknowledged.len() == count;
                match plan.close(digest) {
                    Ok(record) => { prop_assert!(whole); stored.close(record.closing) }
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
            let mut stored = StoredTransfer::new(manifest.clone());
            let count = manifest.chunk_size.count(size);
            for index in 0..held.min(count) {
                stored.chunk(index, chunk(1, index, size));
            }
            let mut plan = SendPlan::resume(stored);
            let refused = (0..manifest.chunk_size.count(other)).any(|index| {
                let chunk = chunk(2, index, other);
                plan.offer(chunk.length, chunk.crc32).map(|_| plan.acknowledge(index, 1)).is_err()
            });
            prop_assert!(refused || plan.close(DigestAlgorithm::Blake3.digest(b"")).is_err());
        }
    }

    #[test]
    fn a_source_of_another_size_is_not_closed() {
        let mut plan = SendPlan::new(&manifest(Some(15)));
        plan.offer(10, 0).unwrap();
        plan.acknowledge(0, 10);
        let digest = DigestAlgorithm::Blake3.digest(b"");
        assert!(matches!(plan.close(digest), Err(SendError::SizeChanged { declared: 15, found: 10, .. })));
    }

    #[test]
    fn cancelled_or_contradictory_transfers_are_abandoned() {
        let mut cancelled = StoredTransfer::new(manifest(None));
        cancelled.close(Closing::Cancelled { reason: "x".into() });
        assert_eq!(cancelled.verdict(), Verdict::Abandon);
        let mut conflicting = StoredTransfer::new(manifest(None));
        conflicting.chunk(0, chunk(1, 0, 10));
        conflicting.chunk(0, chunk(1, 0, 10));
        assert_eq!(conflicting.verdict(), Verdict::Resume);
        conflicting.chunk(0, chunk(2, 0, 10));
        assert_eq!(conflicting.verdict(), Verdict::Abandon);
    }
}
