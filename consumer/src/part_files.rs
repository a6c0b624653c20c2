//! A part and its journal as two files in the staging directory. Blocking; use them off the runtime.

use std::{
    fs::{File, FileTimes},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{FileExt, PermissionsExt},
    time::SystemTime,
};

use jiff::Timestamp;
use natsfer_common::{ChunkSet, Journal, Manifest, PartStore};

use crate::{
    ReceiveError, TargetDirectory,
    staging::{Owner, Staging},
};

/// A transfer's two files, locked against other processes.
#[derive(Debug)]
pub(crate) struct PartFiles {
    pub(crate) staging: Staging,
    pub(crate) part: File,
    /// Also the lock.
    journal: File,
}

impl PartFiles {
    /// Opens them, creating what is not there.
    ///
    /// Fails with [`ReceiveError::Busy`] while another process has them.
    pub(crate) fn open(target: &TargetDirectory, owner: &Owner, manifest: &Manifest) -> Result<Self, ReceiveError> {
        let staging = Staging::open(target, owner, manifest.transfer)?;
        let path = staging.directory.path.join(&staging.part);
        let disk = |source| ReceiveError::Disk { doing: "cannot open the unfinished file", path, source };
        match staging.directory.locked(&staging.journal) {
            Ok(Some(journal)) => match staging.directory.file(&staging.part) {
                Ok(part) => Ok(Self { staging, part, journal }),
                Err(error) => Err(disk(error)),
            },
            Ok(None) => Err(ReceiveError::Busy { transfer: manifest.transfer }),
            Err(error) => Err(disk(error)),
        }
    }

    /// Makes durable what is written now: first the part, then the journal that speaks of it. What is written meanwhile may or
    /// may not be. Blocking.
    pub(crate) fn syncer(&self) -> io::Result<impl FnOnce() -> io::Result<()> + Send + use<>> {
        let (part, journal) = (self.part.try_clone()?, self.journal.try_clone()?);
        Ok(move || {
            part.sync_data()?;
            journal.sync_data()
        })
    }

    /// The chunks that an earlier run's journal claims to hold, unchecked; none where it cannot be read.
    pub(crate) fn claimed(target: &TargetDirectory, owner: &Owner, manifest: &Manifest) -> ChunkSet {
        let journal = Staging::open(target, owner, manifest.transfer)
            .ok()
            .and_then(|staging| staging.directory.read(&staging.journal).ok())
            .and_then(|bytes| Journal::from_bytes(&bytes).ok())
            .filter(|journal| journal.header.manifest == *manifest);
        journal.map(|journal| journal.entries.iter().map(|entry| entry.index).collect()).unwrap_or_default()
    }
}

impl PartStore for PartFiles {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.part.read_exact_at(buffer, offset)
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.part.write_all_at(bytes, offset)
    }

    fn set_len(&mut self, length: u64) -> io::Result<()> {
        self.part.set_len(length)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.part.sync_data()
    }

    fn journal(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.journal.rewind()?;
        self.journal.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn append_journal(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.journal.write_all(bytes)
    }

    fn cut_journal(&mut self, length: u64) -> io::Result<()> {
        self.journal.set_len(length)?;
        self.journal.seek(SeekFrom::End(0)).map(drop)
    }

    fn sync_journal(&mut self) -> io::Result<()> {
        self.journal.sync_data()
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
