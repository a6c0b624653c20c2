//! What a receiver remembers of a file it has not landed: a claim about its part file, checked before it is believed.
//!
//! A header (magic, length, JSON, CRC32), then one 24-byte entry per written chunk: index, length, CRC32 of the chunk's
//! bytes, all little-endian, and the CRC32 of these three. Entries are appended behind the data they speak of, neither of
//! them synced: each is believed only so far as the data agrees. A torn or altered tail ends the journal; what stands before it holds.

use serde::{Deserialize, Serialize};

use crate::{ChunkHeader, ChunkSize, Encoding, Manifest};

const MAGIC: &[u8; 8] = b"NATSFERJ";
const ENTRY: usize = JournalEntry::BYTES as usize;
/// Longest header read back, in bytes: a manifest.
const MAX_HEADER: usize = 128 * 1024;

/// What a journal is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalHeader {
    /// The journal's own version.
    version: u32,
    /// The transfer.
    pub manifest: Manifest,
}

/// One chunk that the part file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalEntry {
    /// Its place among the chunks.
    pub index: u64,
    /// How many bytes it has.
    pub length: u32,
    /// CRC32 of these bytes.
    pub crc32: u32,
}

/// A journal as read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journal {
    /// What it is about.
    pub header: JournalHeader,
    /// Its sound entries, in the order they were written.
    pub entries: Vec<JournalEntry>,
    /// How many bytes of the file are sound. What follows is torn: cut it off before appending.
    pub sound_bytes: u64,
}

/// The file is not a journal that can be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the journal is damaged: {0}")]
pub struct JournalError(&'static str);

impl JournalHeader {
    /// The header of a new journal.
    pub fn new(manifest: Manifest) -> Self {
        Self { version: 1, manifest }
    }

    /// The bytes a journal begins with.
    ///
    /// # Errors
    /// When the manifest is too long to be written.
    pub fn to_bytes(&self) -> Result<Vec<u8>, JournalError> {
        let json = serde_json::to_vec(self).map_err(|_| JournalError("its header cannot be written"))?;
        if json.len() > MAX_HEADER {
            return Err(JournalError("its header is too long"));
        }
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&(json.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&json);
        bytes.extend_from_slice(&crc32fast::hash(&json).to_le_bytes());
        Ok(bytes)
    }
}

impl JournalEntry {
    /// Bytes that one takes in the journal.
    pub const BYTES: u64 = 24;

    /// The entry's bytes.
    pub fn to_bytes(self) -> [u8; ENTRY] {
        let mut bytes = [0; ENTRY];
        bytes[..8].copy_from_slice(&self.index.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.length.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.crc32.to_le_bytes());
        // Never zero for a zeroed block, which a crash can leave behind in place of an entry.
        let check = crc32fast::hash(&bytes[..16]);
        bytes[16..20].copy_from_slice(&check.to_le_bytes());
        bytes[20..].copy_from_slice(b"ENT.");
        bytes
    }

    /// The chunk it speaks of; `None` if no file in such chunks can have it.
    pub(crate) fn chunk(self, chunk_size: ChunkSize) -> Option<ChunkHeader> {
        let Self { index, length, crc32 } = self;
        let offset = chunk_size.offset(index)?;
        let chunk = ChunkHeader { index, offset, length, crc32, encoding: Encoding::Identity };
        chunk.is_placed(chunk_size).then_some(chunk)
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let field = |range| bytes.get::<std::ops::Range<usize>>(range);
        let entry = Self {
            index: u64::from_le_bytes(field(0..8)?.try_into().ok()?),
            length: u32::from_le_bytes(field(8..12)?.try_into().ok()?),
            crc32: u32::from_le_bytes(field(12..16)?.try_into().ok()?),
        };
        (bytes == entry.to_bytes()).then_some(entry)
    }
}

impl From<&ChunkHeader> for JournalEntry {
    fn from(chunk: &ChunkHeader) -> Self {
        Self { index: chunk.index, length: chunk.length, crc32: chunk.crc32 }
    }
}

impl Journal {
    /// Reads a journal back, up to the first entry that is torn or altered.
    ///
    /// # Errors
    /// When not even the header is sound.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, JournalError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(JournalError("it does not begin as one"))?;
        let (length, rest) = rest.split_first_chunk::<4>().ok_or(JournalError("its header is torn"))?;
        let length = u32::from_le_bytes(*length) as usize;
        if length > MAX_HEADER || rest.len() < length + 4 {
            return Err(JournalError("its header is torn"));
        }
        let (json, rest) = rest.split_at(length);
        let (check, rest) = rest.split_at(4);
        if check != crc32fast::hash(json).to_le_bytes() {
            return Err(JournalError("its header is altered"));
        }
        let header: JournalHeader =
            serde_json::from_slice(json).map_err(|_| JournalError("its header is not understood"))?;
        if header.version != 1 {
            return Err(JournalError("it is of another version"));
        }
        let chunk_size = header.manifest.chunk_size;
        let can_be = |entry: &JournalEntry| entry.chunk(chunk_size).is_some();
        let entries: Vec<_> =
            rest.chunks(ENTRY).map_while(|bytes| JournalEntry::from_bytes(bytes).filter(can_be)).collect();
        let sound_bytes = (bytes.len() - rest.len() + entries.len() * ENTRY) as u64;
        Ok(Self { header, entries, sound_bytes })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ChunkSize;

    fn header() -> JournalHeader {
        let id = "0".repeat(32).parse().unwrap();
        let chunk_size = ChunkSize::new(4096).unwrap();
        JournalHeader::new(Manifest::new(id, "a".parse().unwrap(), "b".parse().unwrap(), chunk_size))
    }

    fn entries() -> impl Strategy<Value = Vec<JournalEntry>> {
        let entry = (0u64..1 << 50, 1..=4096u32, any::<u32>());
        let entry = entry.prop_map(|(index, length, crc32)| JournalEntry { index, length, crc32 });
        proptest::collection::vec(entry, 0..20)
    }

    proptest! {
        #[test]
        fn a_journal_is_read_back_up_to_where_it_is_torn(entries in entries(), torn in any::<prop::sample::Index>()) {
            let head = header().to_bytes().unwrap();
            let mut bytes = head.clone();
            entries.iter().for_each(|entry| bytes.extend_from_slice(&entry.to_bytes()));
            let whole = Journal::from_bytes(&bytes).unwrap();
            prop_assert_eq!(&whole.entries, &entries);
            prop_assert_eq!(whole.sound_bytes, bytes.len() as u64);
            let torn = torn.index(bytes.len());
            match Journal::from_bytes(&bytes[..torn]) {
                Ok(journal) => {
                    prop_assert_eq!(&journal.entries[..], &entries[..(torn - head.len()) / ENTRY]);
                    prop_assert!(journal.sound_bytes <= torn as u64);
                }
                Err(_) => prop_assert!(torn < head.len()),
            }
        }

        #[test]
        fn an_altered_byte_ends_it(entries in entries(), at in any::<prop::sample::Index>(), flip in 1u8..) {
            let head = header().to_bytes().unwrap();
            let mut bytes = head.clone();
            entries.iter().for_each(|entry| bytes.extend_from_slice(&entry.to_bytes()));
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            if let Ok(journal) = Journal::from_bytes(&bytes) {
                prop_assert!(at >= head.len());
                prop_assert_eq!(&journal.entries[..], &entries[..(at - head.len()) / ENTRY]);
            }
        }
    }

    #[test]
    fn an_entry_of_a_chunk_that_cannot_be_ends_it() {
        let head = header().to_bytes().unwrap();
        for (index, length) in [(0, 0), (u64::MAX, 0), (u64::MAX / 4096, 1), (0, 4097)] {
            let lie = JournalEntry { index, length, crc32: 0 }.to_bytes();
            let journal = Journal::from_bytes(&[&head[..], &lie].concat()).unwrap();
            assert_eq!(
                (journal.entries.len(), journal.sound_bytes),
                (0, head.len() as u64),
                "chunk {index} of {length}"
            );
        }
    }

    #[test]
    fn zeroed_blocks_are_no_entries() {
        let mut bytes = header().to_bytes().unwrap();
        let head = bytes.len() as u64;
        bytes.extend_from_slice(&[0; 4096]);
        let journal = Journal::from_bytes(&bytes).unwrap();
        assert_eq!((journal.entries.len(), journal.sound_bytes), (0, head));
    }
}
