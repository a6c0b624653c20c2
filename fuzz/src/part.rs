//! A part: assembler, journal and bytes, with a sender that lies and a machine that stops. Input: operations, by
//! `arbitrary`.

use std::collections::BTreeMap;

use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;
use natsfer_common::{
    ChunkHeader, ChunkSet, Closing, ClosingRecord, DigestAlgorithm, Fate, Manifest, Part, PartError, Progress, Totals,
};

use crate::{
    assembler,
    memory::{DISK, Memory},
    noise, operations, payload, samples,
};

#[derive(Debug, Arbitrary)]
enum Operation {
    /// Chunks come together.
    Chunks(Vec<Came>),
    /// A closing record comes, with the digest of what is here, or another.
    Close { size: Option<u8>, chunks: Option<u8>, honest: bool },
    /// What was written is synced, and acknowledged.
    Checkpoint,
    /// The process is killed, and started again.
    Kill,
    /// The machine stops, and is started again; of what was not synced, these writes are kept.
    Stop { kept: u64 },
}

/// A chunk comes, in one of two versions.
#[derive(Debug, Arbitrary)]
struct Came {
    /// None is the one behind the chunk before.
    index: Option<u8>,
    length: Option<u8>,
    version: bool,
    encoding: u8,
    damaged: bool,
}

/// A part, and what must be in it.
struct Scene {
    manifest: Manifest,
    store: Memory,
    part: Part<Memory>,
    /// Every chunk that was ever written, also those that were lost since.
    ever: Vec<(u64, Vec<u8>)>,
    written: BTreeMap<u64, Vec<u8>>,
    acknowledged: BTreeMap<u64, Vec<u8>>,
    landed: bool,
}

impl Scene {
    fn new(manifest: Manifest) -> Self {
        let store = Memory::default();
        let part = Part::open(store.clone(), &manifest).unwrap();
        let (ever, written, acknowledged) = Default::default();
        Self { manifest, store, part, ever, written, acknowledged, landed: false }
    }

    fn step(&mut self, operation: Operation) {
        match operation {
            Operation::Chunks(came) => {
                let mut before = None;
                let chunks = came.into_iter().filter_map(|came| {
                    let chunk_size = self.manifest.chunk_size;
                    let index = match came.index {
                        // The greatest stands for one beyond any disk.
                        Some(u8::MAX) => 1 << 40,
                        Some(index) => u64::from(index % 16),
                        None => before.map_or(0, |before: u64| before + 1),
                    };
                    before = Some(index);
                    let length =
                        came.length.map_or(chunk_size.bytes(), |length| u32::from(length) % chunk_size.bytes());
                    let header = assembler::header(index, length, chunk_size)?;
                    Some((came.damaged, chunk(header, &came)))
                });
                let (damaged, chunks): (Vec<_>, Vec<_>) = chunks.unzip();
                self.chunks(&damaged, &chunks);
            }
            Operation::Close { size, chunks, honest } => self.close(size, chunks, honest),
            Operation::Checkpoint => {
                self.part.checkpoint().unwrap()().unwrap();
                self.acknowledged.clone_from(&self.written);
            }
            Operation::Kill => {
                self.part = Part::open(self.store.clone(), &self.manifest).unwrap();
            }
            Operation::Stop { kept } => {
                self.store.machine_stops(kept);
                self.part = Part::open(self.store.clone(), &self.manifest).unwrap();
                self.written = self.part.held().iter().map(|index| (index, self.found(index))).collect();
                let stands = |(index, bytes): (&u64, _)| self.written.get(index) == Some(bytes);
                assert!(self.acknowledged.iter().all(stands), "what was acknowledged is gone");
                self.acknowledged.clone_from(&self.written);
            }
        }
        assert_eq!(self.part.held(), &self.written.keys().copied().collect::<ChunkSet>());
        self.land();
    }

    fn chunks(&mut self, mut damaged: &[bool], mut chunks: &[(ChunkHeader, Bytes)]) {
        while let Some((header, _)) = chunks.first() {
            let raw = |(header, payload): &(ChunkHeader, Bytes)| {
                header.encoding.decode(payload.clone(), header.length as usize).unwrap().to_vec()
            };
            let held = self.written.get(&header.index);
            let done = match self.part.write(chunks) {
                Ok(fates) => {
                    for ((fate, chunk), damaged) in fates.iter().zip(chunks).zip(damaged) {
                        match fate {
                            Fate::Written => {
                                assert!(!damaged);
                                self.ever.push((chunk.0.index, raw(chunk)));
                                assert_eq!(self.written.insert(chunk.0.index, raw(chunk)), None);
                            }
                            Fate::Held => assert!(!damaged && self.written.get(&chunk.0.index) == Some(&raw(chunk))),
                            Fate::Damaged => assert!(damaged),
                        }
                    }
                    fates.len()
                }
                Err(error) => {
                    match error {
                        PartError::Conflicting { .. } => assert!(held.is_some_and(|held| *held != raw(&chunks[0]))),
                        // Which chunks these are, the assembler's own target says.
                        PartError::Contradiction(_) => {}
                        PartError::Store(_) => assert!(chunks.iter().any(|(chunk, _)| chunk.offset >= DISK as u64)),
                        PartError::DigestMismatch { .. } => panic!("{error}"),
                    }
                    1
                }
            };
            assert!(done > 0);
            (damaged, chunks) = (&damaged[done..], &chunks[done..]);
        }
    }

    /// A chunk that is on the disk: one that was written, possibly before an earlier crash.
    fn found(&self, index: u64) -> Vec<u8> {
        let part = self.store.part();
        let there = &part[self.manifest.chunk_size.offset(index).unwrap() as usize..];
        let mut written = self.ever.iter().filter(|(of, bytes)| *of == index && there.starts_with(bytes));
        written.next().expect("a chunk that was never written").1.clone()
    }

    fn close(&mut self, size: Option<u8>, chunks: Option<u8>, honest: bool) {
        let bytes = self.bytes();
        let size = size.map_or(bytes.len() as u64, u64::from);
        let chunks = chunks.map_or(self.manifest.chunk_size.count(size), u64::from);
        let digest = DigestAlgorithm::Blake3.digest(if honest { &bytes } else { b"another" });
        let totals = Totals { chunks, size, stored_bytes: 0, digest };
        let record = ClosingRecord::new(self.manifest.transfer, Closing::Complete(totals));
        if let Ok(progress) = self.part.close(record) {
            assert_eq!(progress, self.part.progress());
        }
    }

    /// All that was written, without the holes.
    fn bytes(&self) -> Vec<u8> {
        self.written.values().flatten().copied().collect()
    }

    /// What is whole has no hole, and is landed exactly if it has the digest that its sender says.
    fn land(&mut self) {
        let Progress::Whole(totals) = self.part.progress() else { return };
        let bytes = self.bytes();
        assert!(self.written.keys().copied().eq(0..totals.chunks));
        assert_eq!(bytes.len() as u64, totals.size);
        let agrees = DigestAlgorithm::Blake3.digest(&bytes) == totals.digest;
        match self.part.finish(&totals) {
            Ok(()) => {
                assert!(agrees);
                assert_eq!(self.store.part(), bytes);
                self.landed = true;
            }
            Err(error) => assert!(!agrees, "{error}"),
        }
    }
}

/// A chunk as it comes.
fn chunk(mut header: ChunkHeader, came: &Came) -> (ChunkHeader, Bytes) {
    let raw = contents(&header, came.version);
    header.crc32 = crc32fast::hash(&raw) ^ u32::from(came.damaged);
    header.encoding = payload::encoding(came.encoding);
    let mut payload = Vec::new();
    header.encoding.encode(&raw, &mut payload).unwrap();
    (header, payload.into())
}

/// A chunk's bytes. Where version or length differs, so does the first byte; and none is zero, as what was lost is:
/// otherwise a journal's entry from before a crash could be true of another chunk.
fn contents(chunk: &ChunkHeader, version: bool) -> Vec<u8> {
    let first = 1 + u8::from(version) + 2 * chunk.length as u8;
    let rest = (1..chunk.length).map(|at| 1 + ((chunk.index * 31 + u64::from(at) * 7) % 255) as u8);
    [first].into_iter().chain(rest).collect()
}

/// Whatever comes, what is landed is what its sender digested; a killed process loses nothing, a stopped machine
/// nothing that was acknowledged.
pub fn check(data: &[u8]) -> bool {
    let mut input = Unstructured::new(data);
    let Ok((bytes, size)) = input.arbitrary::<(u8, Option<u8>)>() else { return false };
    let mut manifest = samples::bare(u32::from(bytes % 32) + 1);
    manifest.size = size.map(u64::from);
    let mut scene = Scene::new(manifest);
    operations(&mut input).into_iter().for_each(|operation| scene.step(operation));
    scene.landed
}

/// Noise: whatever bytes there are, they are operations.
pub fn seeds() -> Vec<Vec<u8>> {
    noise()
}
