//! A part and its journal as two files in the staging directory. Blocking; use them off the runtime.

use std::{
    fs::{File, FileTimes},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::FileExt,
    sync::Arc,
    time::SystemTime,
};

use bytes::Bytes;
use jiff::Timestamp;
use natsfer_common::{ChunkSet, Journal, Manifest, PartStore};

use crate::{
    Ability, Limits, ReceiveError, TargetDirectory,
    direct::{Direct, write_cached},
    lock::Locked,
    quota::Reservation,
    rights::Inheritance,
    shortfall::if_possible,
    staging::{Owner, Staging},
    target::sync_file,
};

/// Bytes of a file that is written past the page cache: smaller ones are likely to be read soon, and cost little.
const DIRECT_FROM: u64 = 8 << 20;

/// A transfer's two files, locked against other processes.
#[derive(Debug)]
pub(crate) struct PartFiles {
    pub(crate) staging: Staging,
    pub(crate) part: File,
    /// Where it is written past the page cache.
    direct: Option<Direct>,
    /// Also the lock.
    journal: Locked,
    /// Longer, it is not believed further.
    most_journal: u64,
    /// Where the directory's size is limited.
    reservation: Option<Arc<Reservation>>,
}

impl PartFiles {
    /// Opens them, creating what is not there, and makes sure that there is room for the file within the directory's limit.
    ///
    /// Fails with [`ReceiveError::Busy`] while another process has them, with [`ReceiveError::OverQuota`] where there is no room.
    pub(crate) fn open(
        target: &TargetDirectory, owner: &Owner, manifest: &Manifest, limits: &Limits,
    ) -> Result<Self, ReceiveError> {
        let staging = Staging::open(target, owner, manifest.transfer)?;
        let path = staging.directory.path.join(&staging.part);
        let disk = |source| ReceiveError::Disk { doing: "cannot open the unfinished file", path, source };
        let open = || {
            if !staging.directory.has(&staging.journal)? {
                staging.directory.make_room(limits.max_parts)?;
            }
            let Some(journal) = staging.directory.locked(&staging.journal)? else { return Ok(None) };
            Ok(Some((journal, staging.directory.part(&staging.part, manifest.mode)?)))
        };
        let (journal, part) = match open() {
            Ok(Some(files)) => files,
            Ok(None) => return Err(ReceiveError::Busy { transfer: manifest.transfer }),
            Err(error) => return Err(disk(error)),
        };
        let reserved = target.reserve(&staging.directory, &staging.part, manifest.transfer, manifest.size);
        // What waits for room keeps nothing, and takes no other one's place.
        let reservation = reserved.inspect_err(|_| {
            if part.metadata().is_ok_and(|part| part.len() == 0) {
                staging.clear();
            }
        })?;
        let direct =
            is_worth_it(manifest).then(|| staging.directory.direct(&staging.part, &part, &target.pieces)).flatten();
        Ok(Self {
            staging,
            part,
            direct,
            journal,
            most_journal: limits.most_journal_file(),
            reservation: reservation.map(Arc::new),
        })
    }

    /// Sets what the manifest says about the file, and what it gets from the directory that it is to stand in, and makes it durable.
    pub(crate) fn finish(&self, manifest: &Manifest, inheritance: &Inheritance) -> io::Result<()> {
        set_attributes(&self.part, manifest, inheritance, &self.staging.directory.inheritance)?;
        self.synced(self.part.sync_all())
    }

    /// After a sync that failed, the kernel may take for written what it could not write: what is read back is no proof, nor is
    /// another sync that succeeds. Nothing of the part is kept, for this process or a later one.
    fn synced(&self, result: io::Result<()>) -> io::Result<()> {
        sync_file(result).map_err(|error| {
            self.staging.clear();
            io::Error::other(format!("what was received could not be made durable, and is received again: {error}"))
        })
    }

    /// The chunks that an earlier run's journal claims to hold, unchecked; none where it cannot be read.
    pub(crate) fn claimed(target: &TargetDirectory, owner: &Owner, manifest: &Manifest, limits: &Limits) -> ChunkSet {
        let journal = Staging::open(target, owner, manifest.transfer)
            .ok()
            .and_then(|staging| staging.directory.read(&staging.journal, limits.most_journal_file()).ok())
            .and_then(|bytes| Journal::from_bytes(&bytes).ok())
            .filter(|journal| journal.header.manifest == *manifest);
        journal.map(|journal| journal.entries.iter().map(|entry| entry.index).collect()).unwrap_or_default()
    }
}

impl PartStore for PartFiles {
    fn try_clone(&self) -> io::Result<Self> {
        let Self { staging, part, direct: _, journal, most_journal, reservation } = self;
        let (staging, part, journal) = (staging.clone(), part.try_clone()?, journal.try_clone()?);
        Ok(Self { staging, part, direct: None, journal, most_journal: *most_journal, reservation: reservation.clone() })
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.part.read_exact_at(buffer, offset)
    }

    fn write_at(&mut self, bytes: &[Bytes], offset: u64) -> io::Result<()> {
        if let Some(reservation) = &self.reservation {
            let length = bytes.iter().map(|bytes| bytes.len() as u64).sum();
            reservation.cover(offset.saturating_add(length))?;
        }
        match &mut self.direct {
            Some(direct) => direct.write_at(bytes, offset),
            None => write_cached(&self.part, bytes, offset),
        }
    }

    fn settle(&mut self) -> io::Result<()> {
        self.direct.as_mut().map_or(Ok(()), Direct::settle)
    }

    fn set_len(&mut self, length: u64) -> io::Result<()> {
        self.part.set_len(length)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.synced(self.part.sync_data())
    }

    fn journal(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        (&*self.journal).rewind()?;
        (&*self.journal).take(self.most_journal).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn append_journal(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(reservation) = &self.reservation {
            let journal = self.journal.metadata()?.len();
            reservation.cover_journal(journal.saturating_add(bytes.len() as u64))?;
        }
        (&*self.journal).write_all(bytes)
    }

    fn cut_journal(&mut self, length: u64) -> io::Result<()> {
        self.journal.set_len(length)?;
        (&*self.journal).seek(SeekFrom::End(0)).map(drop)
    }

    fn sync_journal(&mut self) -> io::Result<()> {
        self.synced(self.journal.sync_data())
    }
}

/// Whether a file is to be written past the page cache.
fn is_worth_it(manifest: &Manifest) -> bool {
    manifest.size.is_none_or(|size| size >= DIRECT_FROM)
}

/// Sets what the manifest says about a file that was made in one directory, and is to stand in another, as far as the file system
/// takes it.
pub(crate) fn set_attributes(
    file: &File, manifest: &Manifest, inheritance: &Inheritance, made_in: &Inheritance,
) -> io::Result<()> {
    inheritance.give(file, manifest.mode, made_in)?;
    if let Some(mtime) = manifest.mtime {
        match system_time(mtime) {
            Some(mtime) => {
                if_possible(Ability::Times, file.set_times(FileTimes::new().set_modified(mtime))).map(drop)?;
            }
            None => tracing::warn!(transfer = %manifest.transfer, %mtime, "the mtime cannot be set here"),
        }
    }
    Ok(())
}

fn system_time(time: Timestamp) -> Option<SystemTime> {
    let since_epoch = time.as_duration();
    if since_epoch.is_negative() {
        SystemTime::UNIX_EPOCH.checked_sub(since_epoch.unsigned_abs())
    } else {
        SystemTime::UNIX_EPOCH.checked_add(since_epoch.unsigned_abs())
    }
}

#[cfg(test)]
mod tests {
    use natsfer_common::{ChunkSize, TransferId};

    use super::*;

    #[test]
    fn nothing_is_kept_of_what_could_not_be_synced_nor_is_that_tried_again() {
        let home = tempfile::tempdir().unwrap();
        let target = TargetDirectory::open(home.path()).unwrap();
        let id = TransferId::random().unwrap();
        let manifest = Manifest::new(id, "a".parse().unwrap(), "b".parse().unwrap(), ChunkSize::new(65_536).unwrap());
        let open = || PartFiles::open(&target, &Owner::Replay, &manifest, &Limits::default()).unwrap();
        let mut files = open();
        files.write_at(&[Bytes::from_static(b"received")], 0).unwrap();
        files.append_journal(b"noted").unwrap();
        files.sync().unwrap();
        // A second handle, as a checkpoint has one.
        let error = files.try_clone().unwrap().synced(Err(io::ErrorKind::StorageFull.into())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Other, "as a full disk it would be tried again: {error}");
        drop(files);
        let mut files = open();
        assert_eq!((files.part.metadata().unwrap().len(), files.journal().unwrap().len()), (0, 0));
    }
}
