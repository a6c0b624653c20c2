//! What the stream holds of one transfer, and what that means for whoever sends it.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::{ChunkHeader, ChunkSet, Closing, Manifest, Totals};

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

/// A chunk that the server has acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcknowledgedChunk {
    /// What its headers say.
    pub chunk: ChunkHeader,
    /// Bytes of its payload, as encoded.
    pub stored_bytes: u64,
    /// Its place in the stream.
    pub sequence: u64,
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

    /// Adds what the server has acknowledged since this look began. `None` where it shows less than was acknowledged before, up to the
    /// sequence `known_to`, or not what was: a replica that lags has answered, or something is gone. Then look again.
    #[must_use]
    pub fn completed(mut self, known_to: u64, since: &[AcknowledgedChunk]) -> Option<Self> {
        let shown_to = self.last_sequence;
        for AcknowledgedChunk { chunk: ChunkHeader { index, crc32, length, .. }, stored_bytes, sequence } in since {
            if *sequence <= shown_to && !self.chunks.contains_key(index) {
                return None;
            }
            // No request for it is older than its copy, or younger than the look: when it was stored makes no difference.
            let stored_at = self.chunks.get(index).map_or(Timestamp::MIN, |chunk| chunk.stored_at);
            let (crc32, length, stored_bytes) = (*crc32, *length, *stored_bytes);
            self.chunk(*index, StoredChunk { crc32, length, stored_bytes, stored_at });
            self.message(*sequence);
        }
        (shown_to >= known_to).then_some(self)
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

    /// Whether it is whole, and closed with the totals of the same file.
    pub fn is_closed_as(&self, totals: &Totals) -> bool {
        matches!(self.verdict(), Verdict::Whole { totals: standing } if standing.same_file(totals))
    }

    /// Whether it can be closed with these totals: every chunk is there, none of them differs, nobody has closed it.
    pub fn can_close(&self, totals: &Totals) -> bool {
        self.verdict() == Verdict::Resume && self.holds(totals.chunks)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{ChunkSize, DigestAlgorithm, Encoding};

    const CHUNK: u32 = 10;

    fn header(index: u64) -> ChunkHeader {
        let offset = index * u64::from(CHUNK);
        ChunkHeader { index, offset, length: CHUNK, crc32: index as u32, encoding: Encoding::Identity }
    }

    fn shown(index: u64) -> StoredChunk {
        let stored_bytes = CHUNK.into();
        StoredChunk { crc32: index as u32, length: CHUNK, stored_bytes, stored_at: Timestamp::UNIX_EPOCH }
    }

    fn totals(chunks: u64) -> Totals {
        let size = chunks * u64::from(CHUNK);
        Totals { chunks, size, stored_bytes: size, digest: DigestAlgorithm::Blake3.digest(b"") }
    }

    fn opened() -> StoredTransfer {
        let (channel, name) = ("a".parse().unwrap(), "b".parse().unwrap());
        let chunk_size = ChunkSize::new(CHUNK).unwrap();
        StoredTransfer::new(Manifest::new("0".repeat(32).parse().unwrap(), channel, name, chunk_size), 1)
    }

    proptest! {
        /// Chunks are stored in any order, some acknowledged before the look and the others since. It may be a replica's that lags, and a
        /// chunk may have gone before it. The transfer can be closed just where all is shown or was acknowledged behind what is shown.
        #[test]
        fn a_look_beside_the_last_chunks_is_completed_by_their_acknowledgements(
            order in (1_u64..20).prop_flat_map(|count| Just((0..count).collect::<Vec<_>>()).prop_shuffle()),
            before in any::<prop::sample::Index>(),
            seen in any::<prop::sample::Index>(),
            gone in prop::option::of(any::<prop::sample::Index>()),
        ) {
            let count = order.len();
            let (before, seen) = (before.index(count + 1), seen.index(count + 1));
            let gone = gone.map(|gone| gone.index(count));
            let mut look = opened();
            for (place, index) in order.iter().enumerate().take(seen).filter(|(place, _)| Some(*place) != gone) {
                look.chunk(*index, shown(*index));
                look.message(place as u64 + 1);
            }
            let shown_to = look.last_sequence();
            let since: Vec<_> = order.iter().enumerate().skip(before).map(|(place, index)| {
                AcknowledgedChunk { chunk: header(*index), stored_bytes: CHUNK.into(), sequence: place as u64 + 1 }
            }).collect();
            let completed = look.completed(before as u64, &since);
            let can_close = completed.as_ref().is_some_and(|look| look.can_close(&totals(count as u64)));
            let holds = shown_to >= before as u64 && gone.is_none_or(|gone| gone as u64 + 1 > shown_to);
            prop_assert_eq!(can_close, holds);
            if let Some(look) = completed {
                prop_assert_eq!(look.last_sequence(), if before < count { shown_to.max(count as u64) } else { shown_to });
            }
        }
    }

    #[test]
    fn a_chunk_that_is_shown_with_other_bytes_than_were_acknowledged_contradicts() {
        let mut look = opened();
        look.chunk(0, StoredChunk { crc32: 7, ..shown(0) });
        look.message(1);
        let since = [AcknowledgedChunk { chunk: header(0), stored_bytes: CHUNK.into(), sequence: 2 }];
        let completed = look.completed(0, &since).unwrap();
        assert!(!completed.can_close(&totals(1)));
        assert_eq!(completed.verdict(), Verdict::Abandon);
    }

    #[test]
    fn what_this_run_has_closed_is_whole_where_every_chunk_is_there() {
        let mut stored = opened();
        stored.chunk(0, shown(0));
        stored.close(Closing::Complete(totals(2)));
        assert!(!stored.is_closed_as(&totals(2)), "a chunk is missing");
        stored.chunk(1, shown(1));
        assert!(stored.is_closed_as(&totals(2)) && !stored.can_close(&totals(2)));
        assert!(!stored.is_closed_as(&totals(1)), "it is closed as another file");
        stored.close(Closing::Cancelled { reason: "x".into() });
        assert!(!stored.is_closed_as(&totals(2)));
    }
}
