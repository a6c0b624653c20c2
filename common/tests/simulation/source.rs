//! What is sent, and what it was before.

use natsfer_common::{ChunkHeader, ChunkSize, Digest, DigestAlgorithm, Encoding, Manifest};

use crate::rng::Rng;

/// A source, which may change.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) manifest: Manifest,
    /// Whether its transfer has a given id, not one derived from size and mtime.
    pub(crate) fixed: bool,
    pub(crate) bytes: Vec<u8>,
    pub(crate) mtime: u64,
    /// Everything it ever was.
    pub(crate) versions: Vec<Vec<u8>>,
}

impl Source {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let chunk_size = [8, 11, 16][rng.below(3)];
        let chunks = rng.below(13);
        let size = if chunks == 0 { 0 } else { (chunks - 1) * chunk_size + 1 + rng.below(chunk_size) };
        // Sometimes repetitive, so that one chunk's bytes are another's, too.
        let bytes = if rng.chance(10) { vec![7; size] } else { rng.bytes(size) };
        let id = "5".repeat(32).parse().unwrap();
        let chunk_size = ChunkSize::new(chunk_size as u32).unwrap();
        let mut manifest = Manifest::new(id, "a".parse().unwrap(), "b".parse().unwrap(), chunk_size);
        let fixed = rng.chance(25);
        manifest.size = (!fixed).then_some(size as u64);
        Self { manifest, fixed, versions: vec![bytes.clone()], bytes, mtime: 0 }
    }

    /// Other bytes, perhaps of another size, with another mtime or the same.
    pub(crate) fn change(&mut self, rng: &mut Rng, noticeably: bool) {
        match rng.below(if noticeably { 4 } else { 2 }) {
            0 if !self.bytes.is_empty() => {
                let at = rng.below(self.bytes.len());
                self.bytes[at] ^= 1;
            }
            0 | 1 => self.bytes = rng.bytes(self.bytes.len()),
            2 => {
                let count = 1 + rng.below(20);
                self.bytes.extend(rng.bytes(count));
            }
            _ => self.bytes.truncate(rng.below(self.bytes.len() + 1)),
        }
        self.mtime += u64::from(noticeably);
        self.versions.push(self.bytes.clone());
    }

    /// Whether its transfer is still the one of the manifest: the id is derived from size and mtime.
    pub(crate) fn has_its_id(&self, first_mtime: u64) -> bool {
        self.fixed || (self.mtime == first_mtime && self.manifest.size == Some(self.bytes.len() as u64))
    }

    /// The bytes of a chunk of some version of it.
    pub(crate) fn cut<'a>(&self, bytes: &'a [u8], index: u64) -> &'a [u8] {
        let size = self.manifest.chunk_size.bytes() as usize;
        let start = (index as usize * size).min(bytes.len());
        &bytes[start..(start + size).min(bytes.len())]
    }

    pub(crate) fn digest(&self) -> Digest {
        DigestAlgorithm::Blake3.digest(&self.bytes)
    }

    /// The version with this digest.
    pub(crate) fn version(&self, digest: Digest) -> Option<&Vec<u8>> {
        self.versions.iter().find(|bytes| DigestAlgorithm::Blake3.digest(bytes) == digest)
    }

    /// A chunk's header, and its payload.
    pub(crate) fn encode(&self, index: u64, raw: &[u8], encoding: Encoding) -> (ChunkHeader, Vec<u8>) {
        let offset = index * u64::from(self.manifest.chunk_size.bytes());
        let (length, crc32) = (raw.len() as u32, crc32fast::hash(raw));
        let mut payload = Vec::new();
        encoding.encode(raw, &mut payload).unwrap();
        (ChunkHeader { index, offset, length, crc32, encoding }, payload)
    }
}
