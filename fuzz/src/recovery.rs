//! A part that is opened on what somebody has left there. Input: by `arbitrary`.

use arbitrary::{Arbitrary, Unstructured};
use natsfer_common::{
    ChunkHeader, Closing, ClosingRecord, DigestAlgorithm, Encoding, Fate, JournalEntry, JournalHeader, Manifest, Part,
    Progress, Totals,
};

use crate::{memory::Memory, noise, operations, samples};

#[derive(Debug, Arbitrary)]
struct Scene {
    chunk_size: u8,
    /// The manifest gives it.
    size_is_known: bool,
    /// What follows in the journal.
    tail: [u8; 3],
    /// The part is the file, altered there.
    altered: Option<(u8, u8)>,
    /// What is left is the beginning of it.
    left: u8,
    /// How long the file is.
    length: u8,
}

/// An entry of the journal, with its checksum in order.
#[derive(Debug, Arbitrary)]
enum Claim {
    /// A chunk that the part bears out.
    Whole { index: u8 },
    /// The beginning of one.
    Short { index: u8, length: u8 },
    /// A chunk of other bytes.
    Wrong { index: u8, length: u8, crc32: u32 },
    /// Anything, with the checksum of no bytes.
    Any { index: u64, length: u8 },
}

impl Claim {
    fn entry(&self, part: &[u8], chunk_size: usize) -> JournalEntry {
        let borne = |index: u8, length: usize| {
            let index = usize::from(index % 16);
            let bytes = part.get(index * chunk_size..).unwrap_or_default();
            let bytes = &bytes[..length.min(bytes.len())];
            JournalEntry { index: index as u64, length: bytes.len() as u32, crc32: crc32fast::hash(bytes) }
        };
        match *self {
            Self::Whole { index } => borne(index, chunk_size),
            Self::Short { index, length } => borne(index, usize::from(length) % chunk_size),
            Self::Wrong { index, length, crc32 } => JournalEntry { crc32, ..borne(index, length.into()) },
            Self::Any { index, length } => JournalEntry { index, length: length.into(), crc32: 0 },
        }
    }
}

/// Only what the part has is believed, the same each time it is opened, and the file that comes then is landed to the
/// byte unless what was believed contradicts it.
pub fn check(data: &[u8]) -> bool {
    let mut input = Unstructured::new(data);
    let Ok(scene) = input.arbitrary::<Scene>() else { return false };
    let file: Vec<_> = (0..scene.length).map(|at| at.wrapping_mul(7)).collect();
    let mut manifest = samples::bare(u32::from(scene.chunk_size % 32) + 1);
    manifest.size = scene.size_is_known.then_some(file.len() as u64);
    let store = left(&scene, &file, &operations(&mut input), &manifest);

    let left = store.part().len() as u64;
    let mut part = Part::open(store.clone(), &manifest).unwrap();
    let held = part.held().clone();
    assert!(held.last().is_none_or(|last| manifest.chunk_size.offset(last).unwrap() < left), "{held} of {left} bytes");
    assert_eq!(part.progress(), Progress::Open);
    drop(part);
    part = Part::open(store.clone(), &manifest).unwrap();
    assert_eq!(part.held(), &held);

    let Some(totals) = receive(&mut part, &file) else { return false };
    part.finish(&totals).unwrap();
    assert_eq!(store.part(), file);
    true
}

/// The files as they were left.
fn left(scene: &Scene, file: &[u8], claims: &[Claim], manifest: &Manifest) -> Memory {
    let mut part = file[..file.len().min(scene.left.into())].to_vec();
    if let Some((at, with)) = scene.altered
        && !part.is_empty()
    {
        let at = usize::from(at) % part.len();
        part[at] = with;
    }
    let mut journal = JournalHeader::new(manifest.clone()).to_bytes().unwrap();
    for claim in claims {
        journal.extend_from_slice(&claim.entry(&part, manifest.chunk_size.bytes() as usize).to_bytes());
    }
    journal.extend_from_slice(&scene.tail);
    Memory::left(&part, &journal)
}

/// Feeds the file; its totals, unless something contradicted it.
fn receive(part: &mut Part<Memory>, file: &[u8]) -> Option<Totals> {
    let chunk_size = part.manifest().chunk_size;
    for (index, raw) in (0..).zip(file.chunks(chunk_size.bytes() as usize)) {
        let (offset, length, crc32) = (chunk_size.offset(index)?, raw.len() as u32, crc32fast::hash(raw));
        let chunk = ChunkHeader { index, offset, length, crc32, encoding: Encoding::Identity };
        assert!(!part.write(&[(chunk, raw.to_vec().into())]).ok()?.contains(&Fate::Damaged));
    }
    let digest = DigestAlgorithm::Blake3.digest(file);
    let (size, stored_bytes) = (file.len() as u64, file.len() as u64);
    let totals = Totals { chunks: chunk_size.count(size), size, stored_bytes, digest };
    let record = ClosingRecord::new(part.manifest().transfer, Closing::Complete(totals));
    assert_eq!(part.close(record).ok()?, Progress::Whole(totals), "all of it has come");
    Some(totals)
}

/// Noise: whatever bytes there are, they are an input.
pub fn seeds() -> Vec<Vec<u8>> {
    noise()
}
