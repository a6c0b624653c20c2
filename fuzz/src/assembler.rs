//! The assembler, fed with messages that lie. Input: operations, by `arbitrary`.

use std::{collections::BTreeMap, ops::RangeInclusive};

use arbitrary::{Arbitrary, Unstructured};
use natsfer_common::{
    Assembler, ChunkHeader, ChunkSet, ChunkSize, Closing, ClosingRecord, Contradiction, DigestAlgorithm, Encoding,
    Placement, Progress, Totals,
};

use crate::{GREATEST, noise, operations, samples};

/// Most lies are near the truth, and most files are small.
#[derive(Debug, Clone, Copy)]
enum Number {
    Small(u8),
    /// So far from the greatest.
    Great(u8),
    Any(u64),
}

impl<'a> Arbitrary<'a> for Number {
    fn arbitrary(input: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        Ok(match input.arbitrary::<u8>()? {
            small @ 0..248 => Self::Small(small % 32),
            248..252 => Self::Great(input.arbitrary()?),
            252.. => Self::Any(input.arbitrary()?),
        })
    }
}

#[derive(Debug, Arbitrary)]
enum Operation {
    /// The chunk of this byte comes; it is full, or of some length; and is written where it is new, unless it is
    /// damaged.
    Chunk { byte: Number, length: Option<Number>, damaged: bool },
    /// A closing record comes, of the count that fits its size, or another.
    Close { size: Number, chunks: Option<Number>, digest: bool },
    /// So does a cancellation.
    Cancel,
}

impl Number {
    fn up_to(self, greatest: u64) -> u64 {
        match self {
            Self::Small(number) => number.into(),
            Self::Great(less) => greatest.saturating_sub(less.into()),
            Self::Any(number) => number,
        }
    }
}

/// What is known: which sizes the file can still have, what is here, and the first totals.
struct Model {
    chunk_size: ChunkSize,
    sizes: RangeInclusive<u64>,
    held: BTreeMap<u64, u32>,
    totals: Option<Totals>,
}

impl Model {
    /// The sizes that are left if this chunk is part of the file: a full one lies before its end, a short one at it.
    fn with(&self, chunk: &ChunkHeader) -> RangeInclusive<u64> {
        let end = chunk.offset + u64::from(chunk.length);
        let last = if chunk.length == self.chunk_size.bytes() { GREATEST } else { end };
        // Of a known size, the last chunk's length is known, too.
        end.max(*self.sizes.start())..=last.min(*self.sizes.end())
    }

    fn can_have(&self, chunk: &ChunkHeader) -> bool {
        let sizes = self.with(chunk);
        !sizes.is_empty() && self.held.get(&chunk.index).is_none_or(|length| *length == chunk.length)
    }

    fn can_close(&self, totals: &Totals) -> bool {
        let tiles = u128::from(totals.size).div_ceil(u128::from(self.chunk_size.bytes())) == u128::from(totals.chunks);
        tiles && self.sizes.contains(&totals.size)
    }

    fn progress(&self) -> Progress {
        let Some(totals) = self.totals else { return Progress::Open };
        let held: ChunkSet = self.held.keys().copied().collect();
        let missing = ChunkSet::run(0..totals.chunks).without(&held);
        if missing.is_empty() {
            let bytes: u64 = self.held.values().map(|length| u64::from(*length)).sum();
            assert_eq!(
                (self.held.len() as u64, bytes),
                (totals.chunks, totals.size),
                "whole with a hole, or with more"
            );
            Progress::Whole(totals)
        } else {
            Progress::Missing(missing)
        }
    }
}

/// Every message is taken exactly if there is a file of which all that were taken are true, and the file is whole
/// exactly if every chunk of it is here.
pub fn check(data: &[u8]) -> bool {
    let mut input = Unstructured::new(data);
    let Ok((bytes, size)) = input.arbitrary::<(u8, Option<Number>)>() else { return false };
    let mut manifest = samples::bare(u32::from(bytes % 16) + 1);
    manifest.size = size.map(|size| size.up_to(GREATEST).min(GREATEST));
    let chunk_size = manifest.chunk_size;
    let sizes = manifest.size.map_or(0..=GREATEST, |size| size..=size);
    let mut model = Model { chunk_size, sizes, held: BTreeMap::new(), totals: None };
    let mut assembler = Assembler::new(&manifest);
    for operation in operations(&mut input) {
        match operation {
            Operation::Chunk { byte, length, damaged } => {
                let index = chunk_size.index_of(byte.up_to(GREATEST));
                let length =
                    length.map_or(chunk_size.bytes(), |length| length.up_to(u64::from(chunk_size.bytes())) as u32);
                if let Some(chunk) = header(index, length, chunk_size) {
                    place(&mut assembler, &mut model, &chunk, damaged);
                }
            }
            Operation::Close { size, chunks, digest } => {
                let size = size.up_to(GREATEST);
                let chunks = chunks.map_or(chunk_size.count(size), |chunks| chunks.up_to(chunk_size.count(size)));
                let digest = DigestAlgorithm::Blake3.digest(if digest { b"a" } else { b"b" });
                let totals = Totals { chunks, size, stored_bytes: 0, digest };
                let can_close = model.can_close(&totals);
                let closed = assembler.close(ClosingRecord::new(manifest.transfer, Closing::Complete(totals)));
                assert_eq!(closed.is_ok(), can_close, "{totals:?}: {closed:?}");
                if can_close {
                    model.sizes = size..=size;
                    model.totals.get_or_insert(totals);
                }
            }
            Operation::Cancel => {
                let record = ClosingRecord::new(manifest.transfer, Closing::Cancelled { reason: String::new() });
                assert!(matches!(assembler.close(record), Err(Contradiction::Cancelled { .. })));
            }
        }
        assert_eq!(assembler.held(), &model.held.keys().copied().collect::<ChunkSet>());
        assert_eq!(assembler.progress(), model.progress());
    }
    matches!(assembler.progress(), Progress::Whole(_))
}

/// A chunk's header as it would be read, if it would.
pub(crate) fn header(index: u64, length: u32, chunk_size: ChunkSize) -> Option<ChunkHeader> {
    let offset = chunk_size.offset(index)?;
    let headers = ChunkHeader { index, offset, length, crc32: 0, encoding: Encoding::Identity }.to_headers();
    let get = |name| headers.iter().find(|(found, _)| *found == name).map(|(_, value)| value.as_str());
    ChunkHeader::from_headers(get, chunk_size).ok()
}

fn place(assembler: &mut Assembler, model: &mut Model, chunk: &ChunkHeader, damaged: bool) {
    let placement = assembler.place(chunk);
    let expected = match (model.can_have(chunk), model.held.contains_key(&chunk.index)) {
        (false, _) => None,
        (true, false) => Some(Placement::New),
        (true, true) => Some(Placement::Held),
    };
    assert_eq!(placement.as_ref().ok(), expected.as_ref(), "{chunk:?}: {placement:?}");
    if expected == Some(Placement::New) && !damaged {
        assembler.written(chunk);
        model.sizes = model.with(chunk);
        model.held.insert(chunk.index, chunk.length);
    }
}

/// Noise: whatever bytes there are, they are operations.
pub fn seeds() -> Vec<Vec<u8>> {
    noise()
}
