//! The receiver's decisions: where a chunk belongs, what is missing, when the file is whole.

use crate::{
    ChunkHeader, ChunkSet, ChunkSize, Closing, ClosingRecord, Manifest, Totals, TransferId, human_bytes_apart,
};

/// One file being put together from chunks in any order, repeated, or missing.
///
/// It holds no bytes: its owner checks a chunk's CRC32, asks where it goes, writes it, and reports it written.
#[derive(Debug)]
pub struct Assembler {
    transfer: TransferId,
    chunk_size: ChunkSize,
    size: Option<u64>,
    /// Most bytes that it may have.
    most: u64,
    held: ChunkSet,
    totals: Option<Totals>,
}

/// Where a chunk goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// It is new: write it at its offset.
    New,
    /// It is held already: if its bytes are the same, there is nothing to do.
    Held,
}

/// How far the file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Its sender has not closed it.
    Open,
    /// It is closed, and these chunks are not here.
    Missing(ChunkSet),
    /// Every chunk is here: the digest decides.
    Whole(Totals),
}

/// Messages of a transfer that cannot all be true. The transfer is not to be landed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Contradiction {
    /// A chunk has a length that its place in the file does not allow.
    #[error("chunk {index} of transfer {transfer} holds {length} bytes, which does not fit a file of {size} bytes")]
    Length {
        /// The transfer.
        transfer: TransferId,
        /// The chunk.
        index: u64,
        /// Its length.
        length: u32,
        /// The file's size, as the manifest, the closing record or the last chunk tell it.
        size: u64,
    },
    /// A chunk lies beyond where the file ends.
    #[error("chunk {index} of transfer {transfer} lies beyond the file's end at {size} bytes")]
    Beyond {
        /// The transfer.
        transfer: TransferId,
        /// The chunk.
        index: u64,
        /// The file's size.
        size: u64,
    },
    /// The closing record gives another size than the manifest or the chunks, or a count that does not fit it.
    #[error(
        "the closing record of transfer {transfer} ({chunks} chunks, {size} bytes) does not fit its manifest or chunks"
    )]
    Totals {
        /// The transfer.
        transfer: TransferId,
        /// The count it gives.
        chunks: u64,
        /// The size it gives.
        size: u64,
    },
    /// It is larger than the receiver takes.
    #[error("transfer {transfer} has {} or more; this receiver takes at most {}", human_bytes_apart(*size, *most)[0], human_bytes_apart(*size, *most)[1])]
    TooLarge {
        /// The transfer.
        transfer: TransferId,
        /// Bytes that it has at least.
        size: u64,
        /// Most bytes that it may have.
        most: u64,
    },
    /// The sender took the transfer back.
    #[error("transfer {transfer} was cancelled: {}", reason.escape_debug())]
    Cancelled {
        /// The transfer.
        transfer: TransferId,
        /// The sender's words.
        reason: String,
    },
}

impl Assembler {
    /// A file of which nothing is here.
    pub fn new(manifest: &Manifest) -> Self {
        let Manifest { transfer, chunk_size, size, .. } = *manifest;
        Self { transfer, chunk_size, size, most: u64::MAX, held: ChunkSet::default(), totals: None }
    }

    /// Takes no file of more bytes than this.
    #[must_use]
    pub fn within(mut self, most: u64) -> Self {
        self.most = most;
        self
    }

    fn ensure_within(&self, size: u64) -> Result<(), Contradiction> {
        let Self { transfer, most, .. } = *self;
        if size > most { Err(Contradiction::TooLarge { transfer, size, most }) } else { Ok(()) }
    }

    /// Decides about a chunk whose header was checked against the chunk size.
    ///
    /// # Errors
    /// When it cannot be part of the file that the earlier messages describe.
    pub fn place(&self, chunk: &ChunkHeader) -> Result<Placement, Contradiction> {
        let ChunkHeader { index, length, .. } = *chunk;
        let transfer = self.transfer;
        self.ensure_within(chunk.end())?;
        match self.size {
            Some(size) => match self.chunk_size.length(index, size) {
                0 => return Err(Contradiction::Beyond { transfer, index, size }),
                expected if expected != length => return Err(Contradiction::Length { transfer, index, length, size }),
                _ => {}
            },
            // A short chunk is the last one: none may lie behind it.
            None if length < self.chunk_size.bytes() => {
                let size = chunk.end();
                if let Some(beyond) = self.held.last().filter(|last| *last > index) {
                    return Err(Contradiction::Beyond { transfer, index: beyond, size });
                }
                if self.held.contains(index) {
                    return Err(Contradiction::Length { transfer, index, length, size });
                }
            }
            None => {}
        }
        Ok(if self.held.contains(index) { Placement::Held } else { Placement::New })
    }

    /// Takes note that a chunk placed as [`Placement::New`] is written.
    pub fn written(&mut self, chunk: &ChunkHeader) {
        self.held.insert(chunk.index);
        if chunk.length < self.chunk_size.bytes() {
            self.size.get_or_insert(chunk.end());
        }
    }

    /// Takes the closing record. Harmless when repeated.
    ///
    /// # Errors
    /// When it contradicts the manifest or the chunks, or says that the transfer was cancelled.
    pub fn close(&mut self, record: ClosingRecord) -> Result<(), Contradiction> {
        let transfer = self.transfer;
        match record.closing {
            Closing::Cancelled { reason } => Err(Contradiction::Cancelled { transfer, reason }),
            Closing::Complete(totals) => {
                let same_size = self.size.is_none_or(|size| size == totals.size);
                let none_beyond = self.held.last().is_none_or(|last| last < totals.chunks);
                let whole_last = self.size.is_some()
                    || !self.held.contains(totals.chunks.wrapping_sub(1))
                    || totals.size.is_multiple_of(u64::from(self.chunk_size.bytes()));
                if !(totals.fit(self.chunk_size) && same_size && none_beyond && whole_last) {
                    let Totals { chunks, size, .. } = totals;
                    return Err(Contradiction::Totals { transfer, chunks, size });
                }
                self.ensure_within(totals.size)?;
                self.size = Some(totals.size);
                self.totals.get_or_insert(totals);
                Ok(())
            }
        }
    }

    /// How far the file is.
    pub fn progress(&self) -> Progress {
        match self.totals {
            None => Progress::Open,
            Some(totals) => match self.held.missing(totals.chunks) {
                missing if missing.is_empty() => Progress::Whole(totals),
                missing => Progress::Missing(missing),
            },
        }
    }

    /// The chunks that are here.
    pub fn held(&self) -> &ChunkSet {
        &self.held
    }

    /// The file's size, once the manifest, the last chunk or the closing record has told it.
    pub fn size(&self) -> Option<u64> {
        self.size
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{DigestAlgorithm, Encoding};

    const CHUNK: u32 = 10;

    fn manifest(size: Option<u64>) -> Manifest {
        let (channel, name) = ("a".parse().unwrap(), "b".parse().unwrap());
        let id = "0".repeat(32).parse().unwrap();
        let mut manifest = Manifest::new(id, channel, name, ChunkSize::new(CHUNK).unwrap());
        manifest.size = size;
        manifest
    }

    fn chunk(index: u64, length: u32) -> ChunkHeader {
        ChunkHeader { index, offset: index * u64::from(CHUNK), length, crc32: 0, encoding: Encoding::Identity }
    }

    fn closing(size: u64, chunks: u64) -> ClosingRecord {
        let digest = DigestAlgorithm::Blake3.digest(b"");
        let totals = Totals { chunks, size, stored_bytes: 0, digest };
        ClosingRecord::new(manifest(None).transfer, Closing::Complete(totals))
    }

    proptest! {
        /// Any order, any duplicates, the closing record anywhere among them, the size known or not: no honest message is
        /// refused, and the file is whole exactly when every chunk is there.
        #[test]
        fn honest_messages_in_any_order_end_whole(
            size in 0u64..200, known: bool, order in proptest::collection::vec(any::<prop::sample::Index>(), 0..60), close_at in 0usize..60,
        ) {
            let manifest = manifest(known.then_some(size));
            let count = manifest.chunk_size.count(size);
            let mut assembler = Assembler::new(&manifest);
            let mut model = std::collections::BTreeSet::new();
            let everything = (0..count).map(|index| (false, index));
            let random = order.iter().filter(|_| count > 0).map(|at| (true, at.index(count as usize) as u64));
            for (step, (_, index)) in random.chain(everything).enumerate() {
                if step == close_at {
                    assembler.close(closing(size, count)).unwrap();
                }
                let chunk = chunk(index, manifest.chunk_size.length(index, size));
                let expected = if model.insert(index) { Placement::New } else { Placement::Held };
                prop_assert_eq!(assembler.place(&chunk).unwrap(), expected);
                assembler.written(&chunk);
                if let Progress::Whole(_) = assembler.progress() {
                    prop_assert_eq!(model.len() as u64, count);
                }
            }
            assembler.close(closing(size, count)).unwrap();
            let whole = matches!(assembler.progress(), Progress::Whole(totals) if totals.size == size);
            prop_assert!(whole);
        }

        /// Messages that lie in any way never panic, and never make a file whole whose chunks do not tile it.
        #[test]
        fn no_lie_makes_a_file_whole(
            size in proptest::option::of(0u64..60),
            messages in proptest::collection::vec((0u64..8, 1..=CHUNK, any::<bool>(), 0u64..80, 0u64..9), 0..40),
        ) {
            let manifest = manifest(size);
            let mut assembler = Assembler::new(&manifest);
            let mut lengths = std::collections::BTreeMap::new();
            for (index, length, close, closing_size, chunks) in messages {
                if close {
                    let _ = assembler.close(closing(closing_size, chunks));
                } else if assembler.place(&chunk(index, length)) == Ok(Placement::New) {
                    assembler.written(&chunk(index, length));
                    lengths.insert(index, length);
                }
                if let Progress::Whole(totals) = assembler.progress() {
                    prop_assert_eq!(lengths.values().map(|length| u64::from(*length)).sum::<u64>(), totals.size);
                    prop_assert!(size.is_none_or(|size| size == totals.size));
                    prop_assert_eq!(lengths.keys().copied().collect::<Vec<_>>(), (0..totals.chunks).collect::<Vec<_>>());
                }
            }
        }
    }

    #[test]
    fn a_cancelled_transfer_is_not_landed() {
        let mut assembler = Assembler::new(&manifest(None));
        let reason = "source changed".to_owned();
        let record = ClosingRecord::new(manifest(None).transfer, Closing::Cancelled { reason });
        assert!(matches!(assembler.close(record), Err(Contradiction::Cancelled { .. })));
    }

    #[test]
    fn what_is_larger_than_is_taken_is_refused() {
        let mut assembler = Assembler::new(&manifest(None)).within(25);
        assert_eq!(assembler.place(&chunk(1, CHUNK)), Ok(Placement::New));
        assert_eq!(assembler.place(&chunk(2, 5)), Ok(Placement::New));
        assert!(matches!(assembler.place(&chunk(2, 6)), Err(Contradiction::TooLarge { size: 26, most: 25, .. })));
        assert!(matches!(assembler.close(closing(26, 3)), Err(Contradiction::TooLarge { .. })));
        assembler.close(closing(25, 3)).unwrap();
    }

    #[test]
    fn missing_chunks_are_named() {
        let mut assembler = Assembler::new(&manifest(Some(35)));
        for index in [0, 2] {
            assembler.written(&chunk(index, CHUNK));
        }
        assert_eq!(assembler.progress(), Progress::Open);
        assembler.close(closing(35, 4)).unwrap();
        assert!(matches!(assembler.progress(), Progress::Missing(missing) if missing.to_string() == "1, 3"));
    }
}
