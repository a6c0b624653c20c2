//! A receiver's process: reads, writes, checkpoints, acknowledges, looks, asks, lands.

use std::{collections::VecDeque, fmt, io, rc::Rc};

use bytes::Bytes;
use natsfer_common::{
    ChunkHeader, ChunkSet, ClosingRecord, Event, Fate, Kind, Next, Part, Progress, Reception, RepairRequest, Totals,
    header,
};

use crate::{
    check::{Context, Sabotage, Seen, ensure},
    disk::{Access, Fuse},
    receiver::{Receiver, Stop},
    source::Source,
    stream::{Answer, Cursor, Message, Publication, Server},
};

/// What a process keeps in memory.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) part: Part<Access>,
    pub(crate) reception: Reception,
    pub(crate) next: Next,
    /// Delivered, and not looked at.
    pub(crate) wire: VecDeque<Rc<Message>>,
    /// The last chunk or record that came, as its place and index.
    pub(crate) last: Option<(u64, Option<u64>)>,
    /// The last chunk's message, and what came up to it.
    pub(crate) to_acknowledge: Option<u64>,
    pub(crate) taken: ChunkSet,
    /// A checkpoint that was begun.
    pub(crate) syncing: Option<Syncing>,
    /// Chunks of which a sound copy stood when the process last looked for them.
    pub(crate) sound: ChunkSet,
}

type Sync = Box<dyn FnOnce() -> io::Result<()>>;

/// What is being made durable, and what is acknowledged then.
pub(crate) struct Syncing {
    work: Sync,
    sequence: Option<u64>,
    taken: ChunkSet,
}

impl Syncing {
    fn begin(process: &mut Process) -> io::Result<Self> {
        let work = Box::new(process.part.checkpoint()?);
        Ok(Self { work, sequence: process.to_acknowledge.take(), taken: process.taken.clone() })
    }
}

impl fmt::Debug for Syncing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Syncing").field("sequence", &self.sequence).field("taken", &self.taken).finish_non_exhaustive()
    }
}

impl Receiver {
    pub(crate) fn go_on(
        &mut self, mut process: Box<Process>, context: &mut Context, server: &mut Server, source: &Source,
    ) -> Result<Option<Box<Process>>, Stop> {
        let event = match process.next.clone() {
            Next::Read => self.read(&mut process, context, server)?,
            Next::LookForClose => {
                context.count(Seen::LookedForClose);
                if !context.sabotaged(Sabotage::ForgetClose) {
                    self.look_for_close(&mut process, server)?;
                }
                Some(Event::Looked)
            }
            Next::Refetch(missing) if context.sabotaged(Sabotage::LandMissing) => {
                context.say(|| format!("lands without {missing}"));
                self.disk.borrow_mut().land().map_err(|_| Stop::Died(Seen::StoppedInLanding))?;
                return Err(Stop::Landed);
            }
            Next::Refetch(missing) => {
                self.refetch(&mut process, &missing, context, server)?;
                Some(Event::Refetched)
            }
            Next::Ask(missing) => {
                if !self.ask(&process, &missing, context, server)? {
                    return Ok(Some(process));
                }
                Some(Event::Asked)
            }
            Next::Land(totals) => return self.land(process, totals, context, source),
            next @ (Next::Unfinished | Next::AwaitRepair(_)) => {
                context.count(if next == Next::Unfinished { Seen::Unfinished } else { Seen::AwaitedRepair });
                // A process that stops in order keeps what it wrote, if it can.
                let _ = self.sync(&mut process);
                return Err(if self.disk.borrow().fuse == Fuse::Blown {
                    Stop::Died(Seen::StoppedInCheckpoint)
                } else {
                    Stop::Later
                });
            }
        };
        if let Some(event) = event {
            process.next = process.reception.next(event, process.part.progress());
            context.say(|| format!("{}: {event:?} -> {:?}", self.name(), process.next));
        }
        if context.rng.chance(25) {
            self.checkpoint(&mut process, context, server)?;
        }
        Ok(Some(process))
    }

    /// Makes durable what was written, then acknowledges the last chunk, and with it all before.
    fn checkpoint(&mut self, process: &mut Process, context: &mut Context, server: &mut Server) -> Result<(), Stop> {
        let begun = process.syncing.take();
        let Syncing { work, sequence, taken } = match begun {
            Some(begun) => begun,
            None => Syncing::begin(process).map_err(|error| Stop::Failed(error.into()))?,
        };
        if context.rng.chance(50) {
            // It goes on beside what is written next.
            process.syncing = Some(Syncing { work, sequence, taken });
            return Ok(());
        }
        if !context.sabotaged(Sabotage::AckBeforeCheckpoint) {
            self.end(work)?;
        }
        context.count(Seen::Checkpoints);
        let Some(sequence) = sequence else { return Ok(()) };
        if let Some(cursor) = &mut server.cursors[self.number] {
            cursor.acknowledged = cursor.acknowledged.max(sequence);
        }
        context.count(Seen::Acknowledged);
        context.say(|| format!("{}: acknowledges up to {sequence}: {taken}", self.name()));
        self.promised = self.promised.runs().chain(taken.runs()).collect();
        Ok(self.check_promise("after the worst stop")?)
    }

    /// Makes durable what was written, the earlier part of it first.
    fn sync(&mut self, process: &mut Process) -> Result<(), Stop> {
        if let Some(begun) = process.syncing.take() {
            self.end(begun.work)?;
        }
        let begun = Syncing::begin(process).map_err(|error| Stop::Failed(error.into()))?;
        self.end(begun.work)
    }

    /// A sync that fails is not tried again: nothing is left of the part.
    fn end(&mut self, work: Sync) -> Result<(), Stop> {
        work().map_err(|_| {
            if self.disk.borrow().fuse == Fuse::Blown {
                return Stop::Died(Seen::StoppedInCheckpoint);
            }
            self.promised = ChunkSet::default();
            Stop::Later
        })
    }

    /// The next message: late, twice, out of order, or not at all.
    fn read(
        &mut self, process: &mut Process, context: &mut Context, server: &mut Server,
    ) -> Result<Option<Event>, Stop> {
        if server.cursors[self.number].is_none() {
            self.renew(process, context, server);
        }
        if process.wire.is_empty() {
            if context.fault(10)
                && let Some(cursor) = &mut server.cursors[self.number]
            {
                // The server's wait for an acknowledgement is over.
                if cursor.delivered > cursor.acknowledged {
                    context.count(Seen::Redelivered);
                }
                cursor.delivered = cursor.acknowledged;
            }
            process.wire.extend(server.pull(self.number, 3));
        }
        let at = if process.wire.len() > 1 && context.fault(10) {
            context.count(Seen::DeliveryReordered);
            1
        } else {
            0
        };
        let Some(message) = process.wire.get(at).cloned() else {
            let patient = context.faulty && context.rng.chance(60);
            return Ok((!patient).then_some(Event::Silence));
        };
        if context.fault(8) {
            context.count(Seen::DeliveryTwice);
        } else {
            process.wire.remove(at);
        }
        if context.fault(5) {
            context.count(Seen::DeliveryLost);
            return Ok(None);
        }
        if let Some(record) = message.closing(&self.manifest) {
            process.last = Some((message.sequence, None));
            process.part.close(record).map_err(Stop::Failed)?;
            return Ok(Some(Event::Closed));
        }
        let Some(mut chunk) = message.chunk(&self.manifest) else { return Ok(None) };
        if context.sabotaged(Sabotage::BelievePayload) {
            chunk.crc32 = crc32fast::hash(&message.payload);
        }
        process.last = Some((message.sequence, Some(chunk.index)));
        self.write(process, &chunk, &message.payload, context)?;
        process.to_acknowledge = process.to_acknowledge.max(Some(message.sequence));
        Ok(Some(Event::Chunk))
    }

    fn write(
        &self, process: &mut Process, chunk: &ChunkHeader, payload: &Bytes, context: &mut Context,
    ) -> Result<(), Stop> {
        let came = [(*chunk, payload.clone())];
        let fate = self.on_disk(context, Seen::StoppedInWrite, || process.part.write(&came))?[0];
        context.say(|| format!("{}: chunk {} {fate:?}", self.name(), chunk.index));
        match fate {
            Fate::Written => context.count(Seen::ChunksWritten),
            Fate::Held => context.count(Seen::ChunksHeld),
            Fate::Damaged => {
                context.count(Seen::ChunksDamaged);
                return Ok(());
            }
        }
        process.taken.insert(chunk.index);
        Ok(())
    }

    /// A lost cursor is made anew: behind the last message if that is still where it was.
    fn renew(&self, process: &mut Process, context: &mut Context, server: &mut Server) {
        context.count(Seen::CursorMadeAnew);
        let stands = |(sequence, index): &(u64, Option<u64>)| {
            let message = server.data.at(*sequence);
            message.is_some_and(|message| message.chunk(&self.manifest).map(|chunk| chunk.index) == *index)
        };
        let start = process.last.filter(stands).map_or(0, |(sequence, _)| sequence);
        server.cursors[self.number] = Some(Cursor { delivered: start, acknowledged: start });
        process.wire.clear();
    }

    /// In both places: a sender may have died between its two records, and the one behind the chunks may be lost.
    fn look_for_close(&self, process: &mut Process, server: &Server) -> Result<(), Stop> {
        if let Some(closing) = server.closing(&self.manifest) {
            let record = ClosingRecord::new(self.manifest.transfer, closing);
            process.part.close(record).map_err(Stop::Failed)?;
        }
        Ok(())
    }

    /// Every stored copy, until one is sound.
    fn refetch(
        &mut self, process: &mut Process, missing: &ChunkSet, context: &mut Context, server: &Server,
    ) -> Result<(), Stop> {
        context.count(Seen::Refetched);
        process.sound = ChunkSet::default();
        for index in missing.iter() {
            for message in server.copies(&self.manifest, index) {
                if message.is_sound(&self.manifest, index) {
                    process.sound.insert(index);
                }
                if !context.sabotaged(Sabotage::LazyReceiver)
                    && !process.part.held().contains(index)
                    && let Some(chunk) = message.chunk(&self.manifest)
                {
                    self.write(process, &chunk, &message.payload, context)?;
                }
            }
        }
        if let Progress::Whole(_) = process.part.progress() {
            context.count(Seen::RefetchFoundAll);
        }
        Ok(())
    }

    /// Asks for what is missing, but for what an unanswered request of its own asks for. `false` if no answer came.
    fn ask(
        &mut self, process: &Process, missing: &ChunkSet, context: &mut Context, server: &mut Server,
    ) -> Result<bool, Stop> {
        if context.sabotaged(Sabotage::MuteReceiver) {
            return Ok(true);
        }
        let mut standing = ChunkSet::default();
        for message in server.control.on(Kind::Repair) {
            let Some(request) = message.request(&self.manifest) else { continue };
            if request.receiver.as_str() == self.name() {
                let newest = |index: &u64| server.newest_copy(&self.manifest, *index);
                let unanswered = |index: &u64| newest(index).is_none_or(|newest| newest <= message.stored_at);
                request.chunks.iter().filter(unanswered).for_each(|index| _ = standing.insert(index));
            }
        }
        let wanted =
            if context.sabotaged(Sabotage::ImpatientReceiver) { missing.clone() } else { missing.without(&standing) };
        if wanted.is_empty() {
            context.count(Seen::RequestStands);
            return Ok(true);
        }
        ensure(wanted.iter().all(|index| !process.sound.contains(index)), || {
            format!("{} asks for chunks {wanted}, of which sound copies of {} stood", self.name(), process.sound)
        })?;
        ensure(wanted.iter().all(|index| !standing.contains(index)), || {
            format!("{} asks for chunks {wanted} again: its request for {standing} stands", self.name())
        })?;
        let request = RepairRequest::new(self.manifest.transfer, self.name().parse().unwrap(), &wanted);
        let headers = vec![(header::REPAIR, request.to_header().unwrap())];
        // Each request is one of its own to the server; one whose answer is lost is looked for before it is made again.
        self.requests += 1;
        let (payload, id) = (Bytes::new(), (u32::MAX - self.number as u32, self.requests));
        let request = Publication { kind: Kind::Repair, headers, payload, id, expected: None };
        if context.fault(10) {
            return Ok(false);
        }
        let now = context.tick();
        let answer = server.publish(&request, now);
        ensure(matches!(answer, Answer::Stored(_)), || format!("a request was answered {answer:?}"))?;
        self.asked = true;
        context.count(Seen::RepairRequested);
        context.say(|| format!("{}: asks for {wanted}", self.name()));
        Ok(!context.fault(10))
    }

    fn land(
        &mut self, mut process: Box<Process>, totals: Totals, context: &mut Context, source: &Source,
    ) -> Result<Option<Box<Process>>, Stop> {
        self.on_disk(context, Seen::StoppedInLanding, || process.part.finish(&totals))?;
        let right = source.version(totals.digest).is_some_and(|version| version == self.disk.borrow().part.bytes());
        let right = right && totals.size == self.disk.borrow().part.bytes().len() as u64;
        ensure(right, || format!("the part of {} was finished, and is not the source", self.name()))?;
        if context.sabotaged(Sabotage::LandAltered) {
            self.disk.borrow_mut().part.damage(|bytes| bytes.iter_mut().take(1).for_each(|byte| *byte ^= 1));
        }
        let mut renamed = false;
        self.on_disk(context, Seen::StoppedInLanding, || {
            let mut disk = self.disk.borrow_mut();
            renamed |= disk.target.is_some();
            Ok(if renamed { disk.settle() } else { disk.land() }?)
        })?;
        Err(Stop::Landed)
    }
}
