//! Which messages of the inbox a process holds, noted on disk: after a crash the next process puts them back at once, instead
//! of waiting until the server does.
//!
//! One file for each process, locked as long as it lives, with a slot of 1 KiB for each held message: its acknowledgement
//! subject, or zeros. Neither synced nor needed: without it, the server's wait decides.

use std::{
    io,
    os::unix::fs::FileExt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use natsfer_common::TransferId;

use crate::{lock::Locked, staging::StagingDirectory};

const SLOT: usize = 1024;
const SUFFIX: &str = ".ledger";

/// This process's ledger. Removed when dropped.
#[derive(Debug)]
pub(crate) struct Ledger {
    directory: StagingDirectory,
    name: String,
    file: Locked,
    taken: Mutex<Vec<bool>>,
}

/// What the ledgers beside this process's own account for.
#[derive(Debug)]
pub(crate) struct LeftBehind {
    directory: StagingDirectory,
    /// Ledgers of processes that have died, locked.
    ledgers: Vec<(String, Locked)>,
    /// The acknowledgement subjects of what they held, as long as no other process can have been given it.
    pub(crate) ack_subjects: Vec<String>,
    /// How many messages processes hold that live.
    pub(crate) held: usize,
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
                let (directory, taken) = (directory.clone(), Mutex::default());
                return Ok(Arc::new(Self { directory, name, file, taken }));
            }
        }
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

impl LeftBehind {
    /// Whether no process has died.
    pub(crate) fn is_empty(&self) -> bool {
        self.ledgers.is_empty()
    }

    /// Reads them. A dead process's counts if it was in use less than `within` ago.
    pub(crate) fn find(directory: &StagingDirectory, within: Duration) -> io::Result<Self> {
        let (ledgers, ack_subjects) = (Vec::new(), Vec::new());
        let mut found = Self { directory: directory.clone(), ledgers, ack_subjects, held: 0 };
        for name in directory.names(SUFFIX)? {
            let read = || -> io::Result<Vec<_>> {
                Ok(directory.read(&name, u64::MAX)?.chunks(SLOT).filter_map(noted).collect())
            };
            // A living process holds its lock.
            let Ok(Some(file)) = directory.locked(&name) else {
                // Or has removed it just now.
                found.held += read().map_or(0, |held| held.len());
                continue;
            };
            // A clock that jumped makes this wrong, and costs a wait, or a transfer received twice.
            let age = file.metadata()?.modified()?.elapsed().unwrap_or(Duration::ZERO);
            if age < within {
                found.ack_subjects.extend(read()?);
            }
            found.ledgers.push((name, file));
        }
        Ok(found)
    }

    /// Removes the dead processes' ledgers, once the server knows what stands in them: if this process is killed before, the next
    /// one finds them.
    pub(crate) fn remove(self) {
        self.ledgers.iter().for_each(|(name, _)| self.directory.remove(name));
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

/// The acknowledgement subject in a slot. Of a torn one nothing is believed but that it names an acknowledgement.
pub(crate) fn noted(slot: &[u8]) -> Option<String> {
    let text = str::from_utf8(slot.split(|byte| *byte == 0).next()?).ok()?;
    let is_one = text.starts_with("$JS.ACK.") && !text.contains([' ', '\r', '\n', '\t', '*', '>']);
    is_one.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{TargetDirectory, staging::Owner};

    const SUBJECT: &str = "$JS.ACK.NATSFER.phoenix.1.7.1.1764000000000000000.0";
    const WITHIN: Duration = Duration::from_secs(60);

    #[test]
    fn what_a_process_held_that_died_is_found_until_the_server_was_told() {
        let home = tempfile::tempdir().unwrap();
        let target = TargetDirectory::open(home.path()).unwrap();
        let directory = StagingDirectory::open(&target, &Owner::Receiver("phoenix".parse().unwrap())).unwrap();
        let found = || LeftBehind::find(&directory, WITHIN).unwrap();

        let ledger = Ledger::open(&directory).unwrap();
        let entry = ledger.note(SUBJECT).unwrap();
        let living = found();
        assert_eq!((living.held, living.ack_subjects.len()), (1, 0));
        living.remove();

        // As after a kill: the file stays, without its lock.
        let slots = directory.read(&ledger.name, u64::MAX).unwrap();
        drop((entry, ledger));
        std::fs::write(directory.path.join(format!("dead{SUFFIX}")), slots).unwrap();
        // Whoever finds it may be killed before it tells the server.
        assert_eq!(found().ack_subjects, [SUBJECT]);
        let told = found();
        assert_eq!((told.held, &told.ack_subjects[..]), (0, &[SUBJECT.to_owned()][..]));
        told.remove();
        assert_eq!(found().ack_subjects.len(), 0);
    }
}
