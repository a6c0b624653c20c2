//! Part and journal in memory: what was not synced may be lost when the machine stops.

use std::{cell::RefCell, io, rc::Rc};

use bytes::Bytes;
use natsfer_common::PartStore;

/// No write goes beyond.
pub(crate) const DISK: usize = 1 << 16;

/// A handle on both files.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory(Rc<RefCell<Files>>);

#[derive(Debug, Default)]
struct Files {
    part: File,
    journal: File,
}

#[derive(Debug, Default)]
struct File {
    seen: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(offset, written) => {
                let end = offset + written.len();
                bytes.resize(end.max(bytes.len()), 0);
                bytes[*offset..end].copy_from_slice(written);
            }
            Self::Length(length) => bytes.resize(*length, 0),
        }
    }
}

impl File {
    fn change(&mut self, change: Change) -> io::Result<()> {
        change.apply(&mut self.seen);
        self.pending.push(change);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8], offset: usize) -> io::Result<()> {
        if offset.checked_add(bytes.len()).is_none_or(|end| end > DISK) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.change(Change::Write(offset, bytes.to_vec()))
    }

    fn sync(&mut self) {
        self.durable.clone_from(&self.seen);
        self.pending.clear();
    }

    fn stop(&mut self, kept: &mut impl Iterator<Item = bool>) {
        for (change, kept) in self.pending.drain(..).zip(kept) {
            if kept {
                change.apply(&mut self.durable);
            }
        }
        self.seen.clone_from(&self.durable);
    }
}

impl Memory {
    /// Files that somebody has left there.
    pub(crate) fn left(part: &[u8], journal: &[u8]) -> Self {
        let file = |bytes: &[u8]| File { seen: bytes.to_vec(), durable: bytes.to_vec(), pending: Vec::new() };
        Self(Rc::new(RefCell::new(Files { part: file(part), journal: file(journal) })))
    }

    pub(crate) fn part(&self) -> Vec<u8> {
        self.0.borrow().part.seen.clone()
    }

    /// The machine stops: of what was not synced, each write is kept or lost, as these bits say.
    pub(crate) fn machine_stops(&self, kept: u64) {
        let mut files = self.0.borrow_mut();
        let mut bits = (0..64).cycle().map(|bit| kept >> bit & 1 == 1);
        files.part.stop(&mut bits);
        files.journal.stop(&mut bits);
    }
}

impl PartStore for Memory {
    fn try_clone(&self) -> io::Result<Self> {
        Ok(self.clone())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        // As a file: where nothing is to be read, nothing is looked at.
        if buffer.is_empty() {
            return Ok(());
        }
        let files = self.0.borrow();
        let bytes = usize::try_from(offset).ok().and_then(|offset| files.part.seen.get(offset..));
        let bytes = bytes.and_then(|bytes| bytes.get(..buffer.len()));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&mut self, bytes: &[Bytes], offset: u64) -> io::Result<()> {
        self.0.borrow_mut().part.write(&bytes.concat(), usize::try_from(offset).unwrap_or(usize::MAX))
    }

    fn settle(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&mut self, length: u64) -> io::Result<()> {
        self.0.borrow_mut().part.change(Change::Length(usize::try_from(length).unwrap()))
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.borrow_mut().part.sync();
        Ok(())
    }

    fn journal(&mut self) -> io::Result<Vec<u8>> {
        Ok(self.0.borrow().journal.seen.clone())
    }

    fn append_journal(&mut self, bytes: &[u8]) -> io::Result<()> {
        let journal = &mut self.0.borrow_mut().journal;
        journal.write(bytes, journal.seen.len())
    }

    fn cut_journal(&mut self, length: u64) -> io::Result<()> {
        self.0.borrow_mut().journal.change(Change::Length(usize::try_from(length).unwrap()))
    }

    fn sync_journal(&mut self) -> io::Result<()> {
        self.0.borrow_mut().journal.sync();
        Ok(())
    }
}
