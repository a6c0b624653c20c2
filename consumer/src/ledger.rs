//! Which messages of the inbox a process holds, noted on disk: after a crash the next process puts them back at once, instead
//! of waiting until the server does.
//!
//! One file for each process, locked as long as it lives, with a slot of 1 KiB for each held message: its acknowledgement
//! subject, or zeros. Neither synced nor needed: without it, the server's wait decides.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use natsfer_common::TransferId;

use crate::staging::StagingDirectory;

const SLOT: usize = 1024;
const SUFFIX: &str = ".ledger";

/// This process's ledger. Removed when dropped.
#[derive(Debug)]
pub(crate) struct Ledger {
    directory: StagingDirectory,
    name: String,
    file: File,
    taken: Mutex<Vec<bool>>,
}

/// One noted message; no longer when dropped.
#[derive(Debug)]
pub(crate) struct Entry {
    ledger: Arc<Ledger>,
    slot: usize,
}

impl Ledger {
    /// Opens a ledger for this process.
    pub(crate) fn open(directory: &StagingDirectory) -> io::Result<Arc<Self>> {
        loop {
            let name = format!("{}{SUFFIX}", TransferId::random()?);
            // Another process that starts may take it for a dead one's, before it is locked.
            if let Some(file) = directory.locked(&name)? {
                let (directory, taken) = (directory.try_clone()?, Mutex::default());
                return Ok(Arc::new(Self { directory, name, file, taken }));
            }
        }
    }

    /// The acknowledgement subjects of what processes held that have died since, as long as no other can have been given
    /// it: their ledgers were in use less than `within` ago. These ledgers are removed.
    pub(crate) fn left_behind(directory: &StagingDirectory, within: Duration) -> io::Result<Vec<String>> {
        let mut subjects = Vec::new();
        for name in directory.names(SUFFIX)? {
            // A living process holds its lock.
            let Ok(Some(file)) = directory.locked(&name) else { continue };
            // A clock that jumped makes this wrong, and costs a wait, or a transfer received twice.
            let age = file.metadata()?.modified()?.elapsed().unwrap_or(Duration::ZERO);
            if age < within {
                subjects.extend(read(&file)?);
            }
            directory.remove(&name);
        }
        Ok(subjects)
    }

    /// Notes a message; `None` if it cannot be noted.
    pub(crate) fn note(self: &Arc<Self>, ack_subject: &str) -> Option<Entry> {
        let mut slot = [0; SLOT];
        slot.get_mut(..ack_subject.len())?.copy_from_slice(ack_subject.as_bytes());
        let at = self.take_slot();
        let entry = Entry { ledger: self.clone(), slot: at };
        // Into the page cache: no longer than a copy.
        self.file.write_all_at(&slot, (at * SLOT) as u64).ok().map(|()| entry)
    }

    fn take_slot(&self) -> usize {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        match taken.iter().position(|taken| !taken) {
            Some(free) => {
                taken[free] = true;
                free
            }
            None => {
                taken.push(true);
                taken.len() - 1
            }
        }
    }
}

impl Entry {
    /// Says that the server was told that the message is still held.
    pub(crate) fn renewed(&self) {
        // Without it, the next process waits longer than it must.
        let _ = self.ledger.file.set_modified(SystemTime::now());
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        // Left there, it is put back once more after a crash, which is harmless.
        let _ = self.ledger.file.write_all_at(&[0; SLOT], (self.slot * SLOT) as u64);
        self.ledger.taken.lock().unwrap_or_else(PoisonError::into_inner)[self.slot] = false;
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.directory.remove(&self.name);
    }
}

fn read(file: &File) -> io::Result<Vec<String>> {
    let length = file.metadata()?.len();
    let mut subjects = Vec::new();
    let mut slot = [0; SLOT];
    for at in 0..length / SLOT as u64 {
        file.read_exact_at(&mut slot, at * SLOT as u64)?;
        subjects.extend(noted(&slot));
    }
    Ok(subjects)
}

/// The acknowledgement subject in a slot. Of a torn one nothing is believed but that it names an acknowledgement.
pub(crate) fn noted(slot: &[u8]) -> Option<String> {
    let text = str::from_utf8(slot.split(|byte| *byte == 0).next()?).ok()?;
    let is_one = text.starts_with("$JS.ACK.") && !text.contains([' ', '\r', '\n', '\t', '*', '>']);
    is_one.then(|| text.to_owned())
}
