//! A receiver: one process at a time on one disk, reading one transfer. What it says is on disk is checked there.

use std::{cell::RefCell, io, rc::Rc};

use natsfer_common::{ChunkSet, Closing, Contradiction, Event, Kind, Manifest, Part, PartError, Reception, header};

use crate::{
    check::{Checked, Context, Sabotage, Seen, Violation, ensure},
    disk::{Access, Disk, Fuse},
    process::Process,
    source::Source,
    stream::{Cursor, Message, Server},
};

/// Where a receiver is with the transfer.
#[derive(Debug)]
pub(crate) enum State {
    /// No process is at it, until then.
    Away { until: u64 },
    /// A process is at it.
    Up(Box<Process>),
    /// The file is there.
    Landed,
    /// It ended in an error, which the trace has.
    Failed,
}

/// One receiver.
#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) number: usize,
    pub(crate) disk: Rc<RefCell<Disk>>,
    pub(crate) state: State,
    pub(crate) manifest: Manifest,
    /// Chunks whose messages were acknowledged: on disk, whatever happens to the machine.
    pub(crate) promised: ChunkSet,
    pub(crate) requests: u64,
    pub(crate) asked: bool,
}

/// Why a step ended the process.
pub(crate) enum Stop {
    /// An operation on its disk was its last.
    Died(Seen),
    /// It leaves the transfer for later.
    Later,
    Failed(PartError),
    Landed,
    Violated(Violation),
}

impl From<Violation> for Stop {
    fn from(violation: Violation) -> Self {
        Self::Violated(violation)
    }
}

impl Receiver {
    pub(crate) fn new(number: usize, disk: Disk, manifest: &Manifest) -> Self {
        let (disk, state) = (Rc::new(RefCell::new(disk)), State::Away { until: 0 });
        let promised = ChunkSet::default();
        Self { number, disk, state, manifest: manifest.clone(), promised, requests: 0, asked: false }
    }

    pub(crate) fn name(&self) -> &'static str {
        ["billing", "archive"][self.number]
    }

    /// Does the next thing.
    pub(crate) fn step(&mut self, context: &mut Context, server: &mut Server, source: &Source) -> Checked {
        let state = std::mem::replace(&mut self.state, State::Away { until: 0 });
        let result = match state {
            State::Away { until } if until <= context.now => self.start(context, server, source),
            State::Up(process) => self.go_on(process, context, server, source),
            other => {
                self.state = other;
                return Ok(());
            }
        };
        let refusals = std::mem::take(&mut self.disk.borrow_mut().refusals);
        context.count_many(Seen::DiskFull, refusals);
        match result {
            Ok(Some(process)) => self.state = State::Up(process),
            Ok(None) => {}
            Err(Stop::Violated(violation)) => return Err(violation),
            Err(Stop::Later) => self.state = State::Away { until: context.now + 5 },
            Err(Stop::Died(when)) => {
                context.count(when);
                return self.stops(context.rng.chance(50), context, source);
            }
            Err(Stop::Landed) => {
                context.count(Seen::Landed);
                if self.asked {
                    context.count(Seen::LandedAfterRepair);
                }
                if context.faulty {
                    context.count(Seen::LandedBeforeTheEnd);
                }
                context.say(|| format!("{}: landed", self.name()));
                server.cursors[self.number] = None;
                self.state = State::Landed;
                return self.check_landed(source);
            }
            Err(Stop::Failed(error)) => {
                context.say(|| format!("{}: {error}", self.name()));
                ensure(context.changed, || format!("{} fails though the source never changed: {error}", self.name()))?;
                context.count(Seen::FailedByName);
                server.cursors[self.number] = None;
                self.state = State::Failed;
            }
        }
        Ok(())
    }

    /// The process, or its whole machine, stops. What was acknowledged must be there afterwards.
    pub(crate) fn stops(&mut self, machine: bool, context: &mut Context, source: &Source) -> Checked {
        if let State::Up(_) = self.state {
            self.state = State::Away { until: 0 };
        }
        let mut disk = self.disk.borrow_mut();
        disk.fuse = Fuse::None;
        if machine {
            disk.machine_stops();
        }
        drop(disk);
        context.count(if machine { Seen::ReceiverMachineStopped } else { Seen::ReceiverKilled });
        context.say(|| format!("{}: its {} stops", self.name(), if machine { "machine" } else { "process" }));
        self.check_promise("after it stopped")?;
        self.check_landed(source)
    }

    /// What a process would find on the disk as it is.
    fn found(disk: Disk, manifest: &Manifest) -> io::Result<ChunkSet> {
        Part::open(Access(Rc::new(RefCell::new(disk))), manifest).map(|part| part.held().clone())
    }

    pub(crate) fn check_promise(&self, when: &str) -> Checked {
        let disk = self.disk.borrow();
        if disk.target.is_some() {
            return Ok(());
        }
        let found = Self::found(disk.after_the_worst(), &self.manifest);
        let found = found.map_err(|error| Violation(format!("the disk of {} is unusable: {error}", self.name())))?;
        let lost = self.promised.without(&found);
        ensure(lost.is_empty(), || {
            format!("{} has acknowledged chunks {lost}, which {when} are not on disk", self.name())
        })
    }

    /// After something happened to its disk that no program can help.
    pub(crate) fn damaged(&mut self) {
        let found = Self::found(self.disk.borrow().after_the_worst(), &self.manifest).unwrap_or_default();
        self.promised = self.promised.iter().filter(|index| found.contains(*index)).collect();
    }

    pub(crate) fn check_landed(&self, source: &Source) -> Checked {
        match (&self.disk.borrow().target, &self.state) {
            (Some(file), _) => ensure(source.versions.iter().any(|version| version == file.bytes()), || {
                format!("what {} has landed is not the source", self.name())
            }),
            (None, State::Landed) => Err(Violation(format!("what {} had landed is gone", self.name()))),
            (None, _) => Ok(()),
        }
    }

    /// A refusal of the disk is tried again a few times; then the transfer is left for later.
    pub(crate) fn on_disk<T>(
        &self, context: &mut Context, when: Seen, mut work: impl FnMut() -> Result<T, PartError>,
    ) -> Result<T, Stop> {
        loop {
            match work() {
                Ok(done) => return Ok(done),
                Err(PartError::Store(_)) if self.disk.borrow().fuse == Fuse::Blown => return Err(Stop::Died(when)),
                Err(PartError::Store(_)) if context.rng.chance(80) => {}
                Err(PartError::Store(_)) => return Err(Stop::Later),
                Err(error) => return Err(Stop::Failed(error)),
            }
        }
    }

    fn start(
        &mut self, context: &mut Context, server: &mut Server, source: &Source,
    ) -> Result<Option<Box<Process>>, Stop> {
        let Some(open) = server.control.on(Kind::Open).last() else { return Ok(None) };
        if open.header(header::MANIFEST).is_none() {
            return Ok(None);
        }
        let manifest = self.manifest.clone();
        let record = server.closing_record(&manifest).filter(|_| !context.sabotaged(Sabotage::ForgetClose));
        if let Some(Closing::Cancelled { reason }) = record.clone().map(|record| record.closing) {
            return Err(Stop::Failed(Contradiction::Cancelled { transfer: manifest.transfer, reason }.into()));
        }
        if self.disk.borrow().target.is_some() {
            // An earlier process died with the file in its place.
            self.check_landed(source)?;
            self.on_disk(context, Seen::StoppedInLanding, || Ok(self.disk.borrow_mut().settle()?))?;
            return Err(Stop::Landed);
        }
        if context.sabotaged(Sabotage::WipeAtStart) {
            self.disk.borrow_mut().journal.damage(Vec::clear);
            self.check_promise("after a start")?;
        }
        let open = || Ok(Part::open(Access(self.disk.clone()), &manifest)?);
        let mut part = self.on_disk(context, Seen::StoppedInOpen, open)?;
        if !part.held().is_empty() {
            context.count(Seen::Resumed);
        }
        context.say(|| format!("{}: starts with chunks {}", self.name(), part.held()));
        if let Some(record) = record {
            part.close(record).map_err(Stop::Failed)?;
        }
        self.open_cursor(&part, context, server);
        let mut reception = Reception::default();
        let next = reception.next(Event::Begun, part.progress());
        let (wire, last, to_acknowledge) = Default::default();
        let (taken, sound, syncing) = Default::default();
        Ok(Some(Box::new(Process { part, reception, next, wire, last, to_acknowledge, taken, sound, syncing })))
    }

    /// A cursor that stands goes on, unless the disk holds nothing of what it says was received, or some of it is under way.
    fn open_cursor(&self, part: &Part<Access>, context: &mut Context, server: &mut Server) {
        let standing = server.cursors[self.number];
        let good = |cursor: &Cursor| {
            cursor.delivered == cursor.acknowledged && (cursor.delivered == 0 || !part.held().is_empty())
        };
        if standing.as_ref().is_some_and(good) {
            return;
        }
        let held = part.held();
        let needed =
            |message: &&Rc<Message>| message.chunk(&self.manifest).is_none_or(|chunk| !held.contains(chunk.index));
        let start = server.data.on(Kind::Data).find(needed).map_or(0, |message| message.sequence - 1);
        context.count(Seen::CursorMadeAnew);
        server.cursors[self.number] = Some(Cursor { delivered: start, acknowledged: start });
    }
}
