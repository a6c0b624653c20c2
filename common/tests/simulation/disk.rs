//! A simulated disk: what is written and not synced may be lost, wholly or in pieces, when the machine stops.

use std::{cell::RefCell, io, rc::Rc};

use bytes::Bytes;
use natsfer_common::PartStore;

use crate::{check::Sabotage, rng::Rng};

/// One file: what is durable, what programs see, and what lies between.
#[derive(Debug, Clone, Default)]
pub(crate) struct File {
    durable: Vec<u8>,
    seen: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(offset, written) => {
                let end = offset + written.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*offset..end].copy_from_slice(written);
            }
            Self::Length(length) => bytes.resize(*length, 0),
        }
    }
}

impl File {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.seen
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.seen);
        self.pending.push(change);
    }

    pub(crate) fn sync(&mut self) {
        self.durable.clone_from(&self.seen);
        self.pending.clear();
    }

    /// Each change that was not synced is kept, lost, or torn; without chance, all are lost.
    fn machine_stops(&mut self, rng: Option<&mut Rng>) {
        if let Some(rng) = rng {
            for change in &self.pending {
                match (rng.below(4), change) {
                    (0, _) => {}
                    (1, Change::Write(offset, bytes)) if !bytes.is_empty() => {
                        let cut = rng.below(bytes.len());
                        let torn = if rng.chance(50) {
                            Change::Write(*offset, bytes[..cut].to_vec())
                        } else {
                            Change::Write(offset + cut, bytes[cut..].to_vec())
                        };
                        torn.apply(&mut self.durable);
                    }
                    _ => change.apply(&mut self.durable),
                }
            }
        }
        self.seen.clone_from(&self.durable);
        self.pending.clear();
    }

    /// Somebody else's doing, durable at once.
    pub(crate) fn damage(&mut self, damage: impl FnOnce(&mut Vec<u8>)) {
        damage(&mut self.seen);
        self.sync();
    }
}

/// What stops a process at its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fuse {
    /// It goes on.
    None,
    /// So many operations are left.
    Lit(u32),
    /// It has stopped: nothing works any more.
    Blown,
}

/// A receiver's staging directory and target.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    pub(crate) part: File,
    pub(crate) journal: File,
    pub(crate) target: Option<File>,
    /// The rename is not durable yet.
    renamed: bool,
    pub(crate) fuse: Fuse,
    /// In how many of a hundred operations it is full.
    pub(crate) full: usize,
    /// How often it was.
    pub(crate) refusals: u64,
    sabotage: Option<Sabotage>,
    rng: Rng,
}

impl Disk {
    pub(crate) fn new(rng: Rng, full: usize, sabotage: Option<Sabotage>) -> Self {
        let (part, journal, target, renamed) = Default::default();
        Self { part, journal, target, renamed, fuse: Fuse::None, full, refusals: 0, sabotage, rng }
    }

    /// Before every operation: whether it works.
    fn strike(&mut self) -> io::Result<()> {
        match &mut self.fuse {
            Fuse::None => {}
            Fuse::Lit(0) | Fuse::Blown => {
                self.fuse = Fuse::Blown;
                return Err(io::ErrorKind::Interrupted.into());
            }
            Fuse::Lit(left) => *left -= 1,
        }
        if self.full > 0 && self.rng.chance(self.full) {
            self.refusals += 1;
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    /// Before a sync: one that fails takes part and journal with it.
    fn strike_sync(&mut self) -> io::Result<()> {
        self.strike().inspect_err(|_| {
            if self.fuse != Fuse::Blown {
                (self.part, self.journal) = Default::default();
            }
        })
    }

    /// A write; one that fails may have been done in part, unless the process had stopped before.
    fn write(&mut self, file: fn(&mut Self) -> &mut File, offset: usize, bytes: &[u8]) -> io::Result<()> {
        let stopped = self.fuse == Fuse::Blown;
        let struck = self.strike();
        let written = match struck {
            Ok(()) => bytes.len(),
            Err(_) if stopped => 0,
            Err(_) => self.rng.below(bytes.len() + 1),
        };
        if written > 0 {
            file(self).change(Change::Write(offset, bytes[..written].to_vec()));
        }
        struck
    }

    /// The machine stops: whatever was not synced is at risk.
    pub(crate) fn machine_stops(&mut self) {
        if self.renamed && self.rng.chance(50) {
            self.part = self.target.take().unwrap_or_default();
        }
        self.renamed = false;
        let rng = &mut self.rng;
        self.part.machine_stops(Some(&mut *rng));
        self.journal.machine_stops(Some(&mut *rng));
        if let Some(target) = &mut self.target {
            target.machine_stops(Some(rng));
        }
    }

    /// The same disk after the worst stop there is, and sound from there on.
    pub(crate) fn after_the_worst(&self) -> Self {
        let mut after = Self { fuse: Fuse::None, full: 0, ..self.clone() };
        after.part.machine_stops(None);
        after.journal.machine_stops(None);
        after
    }

    /// The part gets its name: synced, renamed, directory synced, journal removed.
    pub(crate) fn land(&mut self) -> io::Result<()> {
        self.strike()?;
        if self.sabotage != Some(Sabotage::LandUnsynced) {
            self.part.sync();
        }
        self.strike()?;
        self.target = Some(std::mem::take(&mut self.part));
        self.renamed = true;
        self.settle()
    }

    /// What stands under its name is made durable there, and nothing is left beside it.
    pub(crate) fn settle(&mut self) -> io::Result<()> {
        self.strike()?;
        self.renamed = false;
        self.strike()?;
        (self.part, self.journal) = Default::default();
        Ok(())
    }
}

/// A process's access to its disk.
#[derive(Debug, Clone)]
pub(crate) struct Access(pub(crate) Rc<RefCell<Disk>>);

impl PartStore for Access {
    fn try_clone(&self) -> io::Result<Self> {
        Ok(self.clone())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let disk = self.0.borrow();
        if disk.fuse == Fuse::Blown {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let held = disk.part.seen.get(offset as usize..offset as usize + buffer.len());
        buffer.copy_from_slice(held.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&mut self, bytes: &[Bytes], offset: u64) -> io::Result<()> {
        self.0.borrow_mut().write(|disk| &mut disk.part, offset as usize, &bytes.concat())
    }

    fn settle(&mut self) -> io::Result<()> {
        self.0.borrow_mut().strike()
    }

    fn set_len(&mut self, length: u64) -> io::Result<()> {
        let mut disk = self.0.borrow_mut();
        disk.strike()?;
        disk.part.change(Change::Length(length as usize));
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut disk = self.0.borrow_mut();
        disk.strike_sync()?;
        if disk.sabotage != Some(Sabotage::LyingSync) {
            disk.part.sync();
        }
        Ok(())
    }

    fn journal(&mut self) -> io::Result<Vec<u8>> {
        let mut disk = self.0.borrow_mut();
        disk.strike()?;
        Ok(disk.journal.seen.clone())
    }

    fn append_journal(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.0.borrow_mut();
        let end = disk.journal.seen.len();
        disk.write(|disk| &mut disk.journal, end, bytes)
    }

    fn cut_journal(&mut self, length: u64) -> io::Result<()> {
        let mut disk = self.0.borrow_mut();
        disk.strike()?;
        disk.journal.change(Change::Length(length as usize));
        Ok(())
    }

    fn sync_journal(&mut self) -> io::Result<()> {
        let mut disk = self.0.borrow_mut();
        disk.strike_sync()?;
        if disk.sabotage != Some(Sabotage::LyingJournalSync) {
            disk.journal.sync();
        }
        Ok(())
    }
}
