//! What the stream holds of one transfer, and what that means for whoever sends it.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::{ChunkSet, Closing, Manifest, Totals};

/// What the stream holds of one transfer: the producer's journal.
#[derive(Debug, Clone)]
pub struct StoredTransfer {
    /// What was said when it was opened.
    pub manifest: Manifest,
    /// The manifest's sequence in the control stream.
    pub sequence: u64,
    /// Its stored chunks.
    pub(crate) chunks: BTreeMap<u64, StoredChunk>,
    /// Those of them that are to be stored again.
    pub(crate) wanted: ChunkSet,
    /// Two copies of one chunk differ.
    pub(crate) conflicting: bool,
    /// How it ended, if it did.
    pub(crate) closing: Option<Closing>,
    /// The last message on its data subject, whatever it is; 0 if there is none.
    pub(crate) last_sequence: u64,
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
    /// When its newest copy was stored.
    pub stored_at: Timestamp,
}

/// What to do about a transfer that the stream knows already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Every chunk is stored, and it is closed: nothing to publish if the source still agrees.
    Whole {
        /// Count, size and digest of what is stored.
        totals: Totals,
    },
    /// It is closed, and chunks are missing. If the source still has this digest, go on with a [`crate::SendPlan`]; not before that
    /// is known, for other bytes must not be mixed in.
    Repair {
        /// Count, size and digest of what should be stored.
        totals: Totals,
    },
    /// Chunks may be missing, and the closing record is: go on with a [`crate::SendPlan`].
    Resume,
    /// It was cancelled, or is stored in contradiction with itself: begin another under the next revision.
    Abandon,
}

impl StoredTransfer {
    /// A transfer of which only the manifest is known yet, and its place.
    pub fn new(manifest: Manifest, sequence: u64) -> Self {
        let (chunks, wanted) = Default::default();
        Self { manifest, sequence, chunks, wanted, conflicting: false, closing: None, last_sequence: 0 }
    }

    /// Takes one stored chunk, in stream order. Copies of one chunk that agree are one chunk. One that differs contradicts it,
    /// unless it lies behind the end of a complete transfer: it is of a run that came late.
    pub fn chunk(&mut self, index: u64, chunk: StoredChunk) {
        let held = self.chunks.entry(index).or_insert(chunk);
        if (held.crc32, held.length) == (chunk.crc32, chunk.length) {
            held.stored_at = held.stored_at.max(chunk.stored_at);
        } else {
            self.conflicting |= !matches!(self.closing, Some(Closing::Complete(_)));
        }
    }

    /// Takes note of any message on the data subject, by its place in the stream.
    pub fn message(&mut self, sequence: u64) {
        self.last_sequence = self.last_sequence.max(sequence);
    }

    /// Takes a receiver's request for chunks, after all chunks were taken: those of which no copy was stored since it was made
    /// are as good as missing, but that what is stored still tells whether the source has the same bytes. Answered requests
    /// change nothing.
    pub fn ask(&mut self, wanted: &ChunkSet, at: Timestamp) {
        let unanswered = self.chunks.iter().filter(|(index, chunk)| wanted.contains(**index) && chunk.stored_at <= at);
        unanswered.for_each(|(index, _)| _ = self.wanted.insert(*index));
    }

    /// Its manifest has this sequence in the control stream.
    pub(crate) fn opened_at(self, sequence: u64) -> Self {
        Self { sequence, ..self }
    }

    /// How it ended, if it did.
    pub fn closing(&self) -> Option<&Closing> {
        self.closing.as_ref()
    }

    /// The last message on its data subject, whatever it is; 0 if there is none.
    pub fn last_sequence(&self) -> u64 {
        self.last_sequence
    }

    /// Whether the first chunks are stored, so many, and none of them is wanted again.
    fn holds(&self, chunks: u64) -> bool {
        self.chunks.range(..chunks).filter(|(index, _)| !self.wanted.contains(**index)).count() as u64 >= chunks
    }

    /// Takes a stored closing record. The first one stands, but that a cancellation takes any other's place.
    pub fn close(&mut self, closing: Closing) {
        if self.closing.is_none() || matches!(closing, Closing::Cancelled { .. }) {
            self.closing = Some(closing);
        }
    }

    /// What to do about it.
    pub fn verdict(&self) -> Verdict {
        if self.conflicting {
            return Verdict::Abandon;
        }
        match &self.closing {
            Some(Closing::Cancelled { .. }) => Verdict::Abandon,
            Some(Closing::Complete(totals)) if !totals.fit(self.manifest.chunk_size) => Verdict::Abandon,
            Some(Closing::Complete(totals)) if self.holds(totals.chunks) => Verdict::Whole { totals: *totals },
            Some(Closing::Complete(totals)) => Verdict::Repair { totals: *totals },
            None => Verdict::Resume,
        }
    }

    /// Whether it can be closed with these totals: every chunk is there, none of them differs, nobody has closed it.
    pub fn can_close(&self, totals: &Totals) -> bool {
        self.verdict() == Verdict::Resume && self.holds(totals.chunks)
    }
}
