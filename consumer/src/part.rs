//! A file on its way: its part file, its journal, and its digest as far as it goes. Blocking; run it off the runtime.

use std::{
    fs::{File, FileTimes},
    io::{self, Seek, SeekFrom, Write},
    os::unix::fs::{FileExt, PermissionsExt},
    path::PathBuf,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use jiff::Timestamp;
use natsfer_common::{
    Assembler, ChunkHeader, ChunkSet, ClosingRecord, Digest, Hasher, Journal, JournalEntry, JournalHeader, Manifest,
    Placement, Progress, Totals,
};

use crate::{
    ConflictPolicy, Landing, ReceiveError, TargetDirectory,
    landing::land,
    staging::{Owner, Staging},
};

/// What a crash can cost: at most so many bytes, or so long, are written and not yet in the journal.
const CHECKPOINT_BYTES: u64 = 64 << 20;
const CHECKPOINT_TIME: Duration = Duration::from_secs(1);

/// A transfer's part file and journal, locked against other processes.
#[derive(Debug)]
pub(crate) struct Part {
    manifest: Manifest,
    target: TargetDirectory,
    staging: Staging,
    file: File,
    /// Also the lock.
    journal: File,
    assembler: Assembler,
    hasher: Hasher,
    hashed: u64,
    unsynced: Vec<JournalEntry>,
    unsynced_bytes: u64,
    synced_at: Instant,
}

/// What became of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is written, or was held already.
    Kept,
    /// Its payload is damaged: as good as missing.
    Damaged,
}

impl Part {
    /// Begins, or goes on with, a transfer. What an earlier run left is believed only so far as its bytes have the CRC32 that
    /// the journal says.
    pub(crate) fn open(target: &TargetDirectory, owner: &Owner, manifest: &Manifest) -> Result<Self, ReceiveError> {
        let staging = Staging::open(target, owner, manifest.transfer)?;
        let disk = |source| Self::failed(target, "cannot open the part file of", manifest, source);
        let Some(journal) = staging.locked(&staging.journal).map_err(disk)? else {
            return Err(ReceiveError::Busy { transfer: manifest.transfer });
        };
        let mut part = Self {
            file: staging.file(&staging.part).map_err(disk)?,
            journal,
            assembler: Assembler::new(manifest),
            hasher: manifest.digest_algorithm.hasher(),
            hashed: 0,
            unsynced: Vec::new(),
            unsynced_bytes: 0,
            synced_at: Instant::now(),
            manifest: manifest.clone(),
            target: target.clone(),
            staging,
        };
        part.recover().map_err(disk)?;
        Ok(part)
    }

    fn failed(target: &TargetDirectory, doing: &'static str, manifest: &Manifest, source: io::Error) -> ReceiveError {
        ReceiveError::Disk { doing, path: target.path_of(&manifest.name), source }
    }

    fn recover(&mut self) -> io::Result<()> {
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut &self.journal, &mut bytes)?;
        let journal = match Journal::from_bytes(&bytes) {
            Ok(journal) if journal.header.manifest == self.manifest => journal,
            Ok(_) => return self.begin("it is about another transfer"),
            Err(_) if bytes.is_empty() => return self.begin(""),
            Err(error) => return self.begin(&error.to_string()),
        };
        let mut entries = journal.entries;
        entries.sort_by_key(|entry| entry.index);
        let mut buffer = vec![0; self.manifest.chunk_size.bytes() as usize];
        for JournalEntry { index, length, crc32 } in entries {
            let Some(offset) = self.manifest.chunk_size.offset(index) else { continue };
            let Some(buffer) = buffer.get_mut(..length as usize) else { continue };
            let encoding = natsfer_common::Encoding::Identity;
            let chunk = ChunkHeader { index, offset, length, crc32, encoding };
            let sound = self.file.read_exact_at(buffer, offset).is_ok() && crc32fast::hash(buffer) == crc32;
            if sound && self.assembler.place(&chunk) == Ok(Placement::New) {
                self.assembler.written(&chunk);
                if offset == self.hashed {
                    self.hasher.update(buffer);
                    self.hashed += u64::from(length);
                }
            }
        }
        self.journal.set_len(journal.sound_bytes)?;
        self.journal.seek(SeekFrom::End(0))?;
        tracing::info!(transfer = %self.manifest.transfer, held = self.assembler.held().len(), "going on with an earlier part");
        Ok(())
    }

    /// Starts from nothing.
    fn begin(&mut self, why: &str) -> io::Result<()> {
        if !why.is_empty() {
            tracing::warn!(transfer = %self.manifest.transfer, "the journal cannot be used, starting anew: {why}");
        }
        self.file.set_len(0)?;
        self.journal.set_len(0)?;
        self.journal.rewind()?;
        let header = JournalHeader::new(self.manifest.clone()).to_bytes().map_err(io::Error::other)?;
        self.journal.write_all(&header)
    }

    /// The chunks that are here.
    pub(crate) fn held(&self) -> &ChunkSet {
        self.assembler.held()
    }

    /// How far the file is.
    pub(crate) fn progress(&self) -> Progress {
        self.assembler.progress()
    }

    /// Checks a chunk and writes it to its place.
    pub(crate) fn write(&mut self, chunk: &ChunkHeader, payload: Bytes) -> Result<Fate, ReceiveError> {
        let transfer = self.manifest.transfer;
        let ChunkHeader { index, offset, length, crc32, encoding } = *chunk;
        let placement = self.assembler.place(chunk)?;
        let raw = match encoding.decode(payload, length as usize) {
            Ok(raw) if crc32fast::hash(&raw) == crc32 => raw,
            Ok(_) => {
                tracing::warn!(%transfer, index, "a chunk arrived with a wrong CRC32");
                return Ok(Fate::Damaged);
            }
            Err(error) => {
                tracing::warn!(%transfer, index, %error, "a chunk arrived damaged");
                return Ok(Fate::Damaged);
            }
        };
        let disk = |source| Self::failed(&self.target, "cannot write", &self.manifest, source);
        if placement == Placement::Held {
            let mut held = vec![0; length as usize];
            self.file.read_exact_at(&mut held, offset).map_err(disk)?;
            return if held == raw { Ok(Fate::Kept) } else { Err(ReceiveError::Conflicting { transfer, index }) };
        }
        self.file.write_all_at(&raw, offset).map_err(disk)?;
        self.assembler.written(chunk);
        self.unsynced.push(JournalEntry::from(chunk));
        self.unsynced_bytes += u64::from(length);
        if offset == self.hashed {
            self.hasher.update(&raw);
            self.hashed += u64::from(length);
            self.hash_on().map_err(|source| Self::failed(&self.target, "cannot read", &self.manifest, source))?;
        }
        Ok(Fate::Kept)
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
            self.file.read_exact_at(&mut buffer, self.hashed)?;
            self.hasher.update(&buffer);
            self.hashed += u64::from(length);
        }
    }

    /// Takes the closing record.
    pub(crate) fn close(&mut self, record: ClosingRecord) -> Result<Progress, ReceiveError> {
        self.assembler.close(record)?;
        Ok(self.assembler.progress())
    }

    /// Makes what was written durable if it is time: first the data, then the journal that speaks of it. `true` if
    /// everything written is durable now.
    pub(crate) fn checkpoint_if_due(&mut self) -> Result<bool, ReceiveError> {
        let due = self.unsynced_bytes >= CHECKPOINT_BYTES || self.synced_at.elapsed() >= CHECKPOINT_TIME;
        if due {
            self.checkpoint().map_err(|source| Self::failed(&self.target, "cannot sync", &self.manifest, source))?;
        }
        Ok(due)
    }

    fn checkpoint(&mut self) -> io::Result<()> {
        self.synced_at = Instant::now();
        if self.unsynced.is_empty() {
            return Ok(());
        }
        self.file.sync_data()?;
        let entries: Vec<u8> = self.unsynced.iter().flat_map(|entry| entry.to_bytes()).collect();
        self.journal.write_all(&entries)?;
        self.journal.sync_data()?;
        self.unsynced.clear();
        self.unsynced_bytes = 0;
        Ok(())
    }

    /// Lands the file: digest compared, times and mode set, synced, renamed, directory synced. Part and journal are gone
    /// afterwards, also when the digest differs.
    pub(crate) fn land(
        mut self, totals: Totals, policy: ConflictPolicy,
    ) -> Result<(Landing, PathBuf, Digest), ReceiveError> {
        self.unsynced.clear();
        let transfer = self.manifest.transfer;
        let algorithm = self.manifest.digest_algorithm;
        let found = std::mem::replace(&mut self.hasher, algorithm.hasher()).finish();
        let expected = totals.digest;
        if found != expected {
            self.staging.clear();
            return Err(ReceiveError::DigestMismatch { transfer, expected, found });
        }
        let disk = |source| Self::failed(&self.target, "cannot finish", &self.manifest, source);
        // A part that an earlier run left longer.
        self.file.set_len(totals.size).map_err(disk)?;
        finish_file(&self.file, &self.manifest).map_err(disk)?;
        let Staging { dir, part, .. } = &self.staging;
        let landed = land(dir, part, &self.target, &self.manifest.name, policy, (totals.size, expected));
        let (landing, path) = landed.inspect_err(|error| {
            if error.failure() == crate::Failure::Final {
                self.staging.clear();
            }
        })?;
        self.staging.clear();
        Ok((landing, path, expected))
    }

    /// Gives the transfer up for good.
    pub(crate) fn discard(mut self) {
        self.unsynced.clear();
        self.staging.clear();
    }
}

impl Drop for Part {
    /// A receiver that stops half-way keeps what it wrote since the last checkpoint.
    fn drop(&mut self) {
        if let Err(error) = self.checkpoint() {
            tracing::debug!(transfer = %self.manifest.transfer, %error, "the last checkpoint could not be written");
        }
    }
}

/// Sets what the manifest says about a file, and makes it durable.
pub(crate) fn finish_file(file: &File, manifest: &Manifest) -> io::Result<()> {
    if let Some(mode) = manifest.mode {
        file.set_permissions(std::fs::Permissions::from_mode(mode & 0o777))?;
    }
    if let Some(mtime) = manifest.mtime {
        match system_time(mtime) {
            Some(mtime) => file.set_times(FileTimes::new().set_modified(mtime))?,
            None => tracing::warn!(transfer = %manifest.transfer, %mtime, "the mtime cannot be set here"),
        }
    }
    file.sync_all()
}

fn system_time(time: Timestamp) -> Option<SystemTime> {
    let since_epoch = time.as_duration();
    if since_epoch.is_negative() {
        SystemTime::UNIX_EPOCH.checked_sub(since_epoch.unsigned_abs())
    } else {
        SystemTime::UNIX_EPOCH.checked_add(since_epoch.unsigned_abs())
    }
}
