//! A file on its way: its bytes, its journal, and its digest as far as it goes. What is on disk is a claim until it is checked.

use std::{fmt, io};

use bytes::Bytes;

use crate::{
    Assembler, ChunkHeader, ChunkSet, ClosingRecord, Contradiction, Digest, Hasher, Journal, JournalEntry,
    JournalHeader, Manifest, Placement, Progress, Totals, TransferId,
};

/// Bytes of chunks that follow each other and are given to the store in one call, at most, but for one that is larger by itself: each call
/// costs, and the digest of what was given is made while it is written.
const TOGETHER: u64 = 1 << 20;

/// Where a part and its journal are kept. The order of calls is the part's business, their effect the store's: what was
/// written and not synced may be lost, wholly or in pieces, in a crash.
pub trait PartStore: Sized {
    /// A second handle on the same part and journal, for syncing them beside further writes.
    ///
    /// # Errors
    /// When the file system refuses.
    fn try_clone(&self) -> io::Result<Self>;
    /// Fills the buffer from this place in the part.
    ///
    /// # Errors
    /// When the part ends before, or cannot be read.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes these bytes, one behind the other, from this place in the part on, or begins to: they are written once
    /// [`PartStore::settle`] says so.
    ///
    /// # Errors
    /// When they cannot be written, or only in part.
    fn write_at(&mut self, bytes: &[Bytes], offset: u64) -> io::Result<()>;
    /// Waits until everything is written that was begun, not synced. Whatever it says, nothing is under way afterwards.
    ///
    /// # Errors
    /// When some of it could not be written.
    fn settle(&mut self) -> io::Result<()>;
    /// Cuts the part, or extends it with zeros.
    ///
    /// # Errors
    /// When the file system refuses.
    fn set_len(&mut self, length: u64) -> io::Result<()>;
    /// Makes the part's bytes durable.
    ///
    /// # Errors
    /// When the file system refuses. The kernel may then take for written what it could not write, and gives it back when it is
    /// read: part and journal are to be removed, and begun anew.
    fn sync(&mut self) -> io::Result<()>;
    /// The whole journal.
    ///
    /// # Errors
    /// When it cannot be read.
    fn journal(&mut self) -> io::Result<Vec<u8>>;
    /// Appends to the journal.
    ///
    /// # Errors
    /// When it cannot be written, or only in part.
    fn append_journal(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Cuts the journal.
    ///
    /// # Errors
    /// When the file system refuses.
    fn cut_journal(&mut self, length: u64) -> io::Result<()>;
    /// Makes the journal durable.
    ///
    /// # Errors
    /// As for [`PartStore::sync`].
    fn sync_journal(&mut self) -> io::Result<()>;
}

/// A transfer's part and journal.
///
/// Every run of chunks is written, then noted in the journal, neither of them synced: a process that is killed loses the run that it was at. A
/// checkpoint syncs the part, then the journal: only what came before it began may be acknowledged. After a crash the journal is
/// believed only so far as the part's bytes have the CRC-32 that it says.
pub struct Part<S> {
    manifest: Manifest,
    store: S,
    assembler: Assembler,
    hasher: Hasher,
    hashed: u64,
    /// Sound bytes of the journal; an append that failed may have left more.
    journal_bytes: u64,
    torn: bool,
    /// Written since the last checkpoint began.
    unsynced_bytes: u64,
}

/// What became of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is written.
    Written,
    /// It was held already, with the same bytes.
    Held,
    /// Its payload is damaged: as good as missing.
    Damaged,
}

/// A chunk whose payload was looked at.
enum Examined {
    /// It is sound, and not here: its bytes.
    New(Bytes),
    /// It is here, with the same bytes.
    Held,
    /// Its payload is damaged.
    Damaged,
}

/// Why a chunk or record was not taken, or a part not finished.
#[derive(Debug, thiserror::Error)]
pub enum PartError {
    /// The file system refused. What was written stays; the same can be tried again.
    #[error("the part cannot be used")]
    Store(#[from] io::Error),
    /// The messages cannot all be true.
    #[error(transparent)]
    Contradiction(#[from] Contradiction),
    /// Two chunks of one index hold different bytes.
    #[error("chunk {index} of transfer {transfer} came twice with different bytes")]
    Conflicting {
        /// The transfer.
        transfer: TransferId,
        /// The chunk.
        index: u64,
    },
    /// The bytes are not those that were sent.
    #[error("transfer {transfer} has digest {found}, its sender says {expected}")]
    DigestMismatch {
        /// The transfer.
        transfer: TransferId,
        /// What the sender says.
        expected: Digest,
        /// What arrived.
        found: Digest,
    },
}

impl<S: PartStore> Part<S> {
    /// Begins, or goes on with, a transfer.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub fn open(store: S, manifest: &Manifest) -> io::Result<Self> {
        let mut part = Self {
            manifest: manifest.clone(),
            store,
            assembler: Assembler::new(manifest),
            hasher: manifest.digest_algorithm.hasher(),
            hashed: 0,
            journal_bytes: 0,
            torn: false,
            unsynced_bytes: 0,
        };
        let journal = part.store.journal()?;
        match Journal::from_bytes(&journal) {
            Ok(found) if found.header.manifest == *manifest => part.recover(found)?,
            Ok(_) => part.begin("it is about another transfer")?,
            Err(_) if journal.is_empty() => part.begin("")?,
            Err(error) => part.begin(&error.to_string())?,
        }
        Ok(part)
    }

    /// Takes no file of more bytes than this.
    #[must_use]
    pub fn within(mut self, most: u64) -> Self {
        self.assembler = self.assembler.within(most);
        self
    }

    /// Believes of the journal what the part's bytes bear out.
    fn recover(&mut self, journal: Journal) -> io::Result<()> {
        let mut entries = journal.entries;
        entries.sort_by_key(|entry| entry.index);
        let mut buffer = vec![0; self.manifest.chunk_size.bytes() as usize];
        for chunk in entries.into_iter().filter_map(|entry| entry.chunk(self.manifest.chunk_size)) {
            let Some(buffer) = buffer.get_mut(..chunk.length as usize) else { continue };
            let sound = self.store.read_at(buffer, chunk.offset).is_ok() && crc32fast::hash(buffer) == chunk.crc32;
            if sound && self.assembler.place(&chunk) == Ok(Placement::New) {
                self.assembler.written(&chunk);
                if chunk.offset == self.hashed {
                    self.hasher.update(buffer);
                    self.hashed += u64::from(chunk.length);
                }
            }
        }
        self.store.cut_journal(journal.sound_bytes)?;
        self.journal_bytes = journal.sound_bytes;
        let held = self.assembler.held().len();
        tracing::info!(transfer = %self.manifest.transfer, held, "going on with an earlier part");
        Ok(())
    }

    /// Starts from nothing.
    fn begin(&mut self, why: &str) -> io::Result<()> {
        if !why.is_empty() {
            tracing::warn!(transfer = %self.manifest.transfer, "the journal cannot be used, starting anew: {why}");
        }
        self.store.set_len(0)?;
        self.store.cut_journal(0)?;
        // A crash must not leave the new header before old entries, which could agree with the old part's bytes. An empty
        // journal is no proof: a process that was killed may have cut it just now.
        self.store.sync_journal()?;
        let header = JournalHeader::new(self.manifest.clone()).to_bytes().map_err(io::Error::other)?;
        self.store.append_journal(&header)?;
        self.journal_bytes = header.len() as u64;
        Ok(())
    }

    /// The chunks that are here.
    pub fn held(&self) -> &ChunkSet {
        self.assembler.held()
    }

    /// How far the file is.
    pub fn progress(&self) -> Progress {
        self.assembler.progress()
    }

    /// Checks the first of these chunks and writes it to its place; with it those that follow it in the file, as far as there is
    /// nothing to say about them. Says what became of each: of one at least, so that the rest may be given once more. After an error from the
    /// store, the same call may be made again.
    ///
    /// # Errors
    /// See [`PartError`].
    pub fn write(&mut self, chunks: &[(ChunkHeader, Bytes)]) -> Result<Vec<Fate>, PartError> {
        let Some((first, payload)) = chunks.first() else { return Ok(Vec::new()) };
        match self.examine(first, payload.clone())? {
            Examined::Damaged => Ok(vec![Fate::Damaged]),
            Examined::Held => Ok(vec![Fate::Held]),
            Examined::New(raw) => {
                // What is digested and then not written may come again with other bytes.
                let digested = (self.hasher.clone(), self.hashed);
                let run = self.write_run(first, raw, &chunks[1..]);
                let settled = self.store.settle();
                let noted = run.and_then(|run| {
                    settled?;
                    self.note(&chunks[..run])?;
                    Ok(&chunks[..run])
                });
                match noted {
                    Ok(run) => self.written(run),
                    Err(error) => {
                        (self.hasher, self.hashed) = digested;
                        Err(error.into())
                    }
                }
            }
        }
    }

    fn examine(&self, chunk: &ChunkHeader, payload: Bytes) -> Result<Examined, PartError> {
        let transfer = self.manifest.transfer;
        let ChunkHeader { index, offset, length, crc32, encoding } = *chunk;
        let placement = self.assembler.place(chunk)?;
        let raw = match encoding.decode(payload, length as usize) {
            Ok(raw) if crc32fast::hash(&raw) == crc32 => raw,
            Ok(_) => {
                tracing::warn!(%transfer, index, "a chunk arrived with a wrong CRC32");
                return Ok(Examined::Damaged);
            }
            Err(error) => {
                tracing::warn!(%transfer, index, %error, "a chunk arrived damaged");
                return Ok(Examined::Damaged);
            }
        };
        if placement == Placement::New {
            return Ok(Examined::New(raw));
        }
        let mut held = vec![0; length as usize];
        self.store.read_at(&mut held, offset)?;
        if held == raw { Ok(Examined::Held) } else { Err(PartError::Conflicting { transfer, index }) }
    }

    /// Begins to write a new chunk, and those that follow it, digested meanwhile; how many.
    fn write_run(&mut self, first: &ChunkHeader, raw: Bytes, rest: &[(ChunkHeader, Bytes)]) -> io::Result<usize> {
        let (mut run, mut begin, mut end, mut together) = (1, first.offset, first.end(), vec![raw]);
        loop {
            // Whatever else there is to say about it is said when it is the first one.
            let next = rest.get(run - 1).filter(|(next, _)| next.offset == end);
            let next = next.and_then(|(next, payload)| match self.examine(next, payload.clone()) {
                Ok(Examined::New(raw)) => Some((next, raw)),
                _ => None,
            });
            if next.as_ref().is_none_or(|(next, _)| next.end() - begin > TOGETHER) {
                self.store.write_at(&together, begin)?;
                if begin == self.hashed {
                    together.iter().for_each(|raw| self.hasher.update(raw));
                    self.hashed = end;
                }
                (begin, together) = (end, Vec::new());
            }
            let Some((next, raw)) = next else { return Ok(run) };
            (run, end) = (run + 1, next.end());
            together.push(raw);
        }
    }

    fn written(&mut self, chunks: &[(ChunkHeader, Bytes)]) -> Result<Vec<Fate>, PartError> {
        for (chunk, _) in chunks {
            self.assembler.written(chunk);
            self.unsynced_bytes += u64::from(chunk.length);
        }
        self.hash_on()?;
        Ok(vec![Fate::Written; chunks.len()])
    }

    fn note(&mut self, chunks: &[(ChunkHeader, Bytes)]) -> io::Result<()> {
        if self.torn {
            // Behind half an entry no later one would be read back.
            self.store.cut_journal(self.journal_bytes)?;
        }
        let bytes: Vec<u8> = chunks.iter().flat_map(|(chunk, _)| JournalEntry::from(chunk).to_bytes()).collect();
        self.torn = true;
        self.store.append_journal(&bytes)?;
        self.torn = false;
        self.journal_bytes += bytes.len() as u64;
        Ok(())
    }

    /// Digests chunks that came before their turn.
    fn hash_on(&mut self) -> io::Result<()> {
        let chunk_size = self.manifest.chunk_size;
        loop {
            let index = chunk_size.index_of(self.hashed);
            // After a short chunk, which is the last one, this is its own index again, with nothing left.
            if !self.assembler.held().contains(index) || chunk_size.offset(index) != Some(self.hashed) {
                return Ok(());
            }
            let length = self.assembler.size().map_or(chunk_size.bytes(), |size| chunk_size.length(index, size));
            let mut buffer = vec![0; length as usize];
            self.store.read_at(&mut buffer, self.hashed)?;
            self.hasher.update(&buffer);
            self.hashed += u64::from(length);
        }
    }

    /// Takes the closing record.
    ///
    /// # Errors
    /// When it contradicts what is known, or says that the transfer was cancelled.
    pub fn close(&mut self, record: ClosingRecord) -> Result<Progress, PartError> {
        self.assembler.close(record)?;
        Ok(self.assembler.progress())
    }

    /// Bytes of the file written since the last checkpoint began.
    pub fn unsynced_bytes(&self) -> u64 {
        self.unsynced_bytes
    }

    /// Begins a checkpoint. Calling what it gives, beside further writes, makes durable what was written before: first the data,
    /// then the journal that speaks of it. Once that has succeeded, everything written before this may be acknowledged, also
    /// what an earlier run has written.
    ///
    /// # Errors
    /// When the store gives no second handle. What is called fails when the store cannot sync: see [`PartStore::sync`].
    pub fn checkpoint(&mut self) -> io::Result<impl FnOnce() -> io::Result<()> + use<S>> {
        let mut store = self.store.try_clone()?;
        self.unsynced_bytes = 0;
        Ok(move || {
            store.sync()?;
            store.sync_journal()
        })
    }

    /// Compares the digest of a whole file, and cuts the part to its size. Neither synced nor named yet. After an error from
    /// the store, it may be tried again.
    ///
    /// # Errors
    /// When the digest differs: the part is not to be landed.
    pub fn finish(&mut self, totals: &Totals) -> Result<(), PartError> {
        self.hash_on()?;
        let (transfer, expected, found) = (self.manifest.transfer, totals.digest, self.hasher.clone().finish());
        if found != expected || self.hashed != totals.size {
            return Err(PartError::DigestMismatch { transfer, expected, found });
        }
        // What an earlier run left longer.
        self.store.set_len(totals.size)?;
        Ok(())
    }

    /// What the file is.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Where it is kept.
    pub fn store(&self) -> &S {
        &self.store
    }
}

impl<S> fmt::Debug for Part<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { manifest, assembler, hashed, .. } = self;
        let mut part = f.debug_struct("Part");
        part.field("transfer", &manifest.transfer).field("held", assembler.held()).field("hashed", hashed);
        part.finish_non_exhaustive()
    }
}
