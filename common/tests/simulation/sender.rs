//! A sender: looks up what is stored, publishes what is missing, closes. Killed at any step.

use bytes::Bytes;
use natsfer_common::{
    AcknowledgedChunk, ChunkHeader, Closing, DigestAlgorithm, Encoding, Hasher, Kind, Offer, SendPlan, StoredChunk,
    StoredTransfer, Totals, Verdict, header,
};

use crate::{
    check::{Checked, Context, Sabotage, Seen, Violation, ensure},
    source::Source,
    stream::{Answer, Publication, Server},
    watch::Watch,
};

/// How a sender's run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It closed the transfer.
    Sent,
    /// It published what was missing of a closed one.
    Repaired,
    /// Everything was stored.
    Unchanged,
    /// The source is another transfer: another size or mtime, or the next revision.
    Elsewhere,
    /// What is stored was cut from other bytes: the next revision.
    Foreign,
    /// It took the transfer back: the source changed.
    Cancelled,
    /// Somebody else ended it otherwise.
    ClosedOtherwise,
}

#[derive(Debug)]
pub(crate) enum Stage {
    Open,
    Look,
    Send(Box<Sending>),
    Close { totals: Totals, last: u64, listing: Listing },
    Cancel,
    List(Closing, Outcome),
    Done(Outcome),
}

/// Whether the record for lists may be published, or is. In the program both records go at once: either may come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listing {
    /// Not before the one behind the chunks is stored: what was looked at does not tell that all is well.
    Later,
    /// At any time.
    Beside,
    /// It stands.
    Done,
}

/// A look at what is stored while the last chunks are on their way.
#[derive(Debug)]
pub(crate) struct Look {
    found: StoredTransfer,
    known_to: u64,
    since: Vec<AcknowledgedChunk>,
}

impl Look {
    pub(crate) fn complete(self) -> Option<StoredTransfer> {
        self.found.completed(self.known_to, &self.since)
    }
}

/// Chunks on their way.
#[derive(Debug)]
pub(crate) struct Sending {
    pub(crate) plan: SendPlan,
    pub(crate) hasher: Hasher,
    pub(crate) offset: usize,
    pub(crate) next: u64,
    ended: bool,
    in_flight: Vec<Flight>,
    pub(crate) closed: Option<Totals>,
    pub(crate) look: Option<Look>,
}

/// A chunk's message, and where the server has stored it.
#[derive(Debug)]
struct Flight {
    index: u64,
    chunk: ChunkHeader,
    publication: Publication,
    attempts: u32,
    stored: Option<u64>,
}

/// One run.
#[derive(Debug)]
pub(crate) struct Sender {
    /// Also its nonce: messages of another run are others to the server's duplicate detection.
    pub(crate) run: u32,
    first_mtime: u64,
    /// The source's mtime when it began.
    pub(crate) mtime: u64,
    pub(crate) stage: Stage,
    pub(crate) watch: Watch,
    pub(crate) patience: u32,
}

/// Chunks in flight, at most.
const WINDOW: usize = 3;

impl Sender {
    pub(crate) fn new(run: u32, source: &Source) -> Self {
        Self { run, first_mtime: 0, mtime: source.mtime, stage: Stage::Open, watch: Watch::default(), patience: 0 }
    }

    pub(crate) fn outcome(&self) -> Option<Outcome> {
        if let Stage::Done(outcome) = self.stage { Some(outcome) } else { None }
    }

    /// What is under way to the server when the run is killed.
    pub(crate) fn killed(self) -> Vec<Publication> {
        match self.stage {
            Stage::Send(sending) => {
                sending.in_flight.into_iter().filter(|flight| flight.stored.is_none()).map(|f| f.publication).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Does the next thing.
    pub(crate) fn step(&mut self, context: &mut Context, server: &mut Server, source: &Source) -> Checked {
        match std::mem::replace(&mut self.stage, Stage::Open) {
            Stage::Open => self.open(context, server, source),
            Stage::Look => self.look(context, server, source),
            Stage::Send(sending) => self.send(sending, context, server, source),
            Stage::Close { totals, last, listing } => self.close(totals, last, listing, context, server, source),
            Stage::Cancel => self.cancel(context, server, source),
            Stage::List(closing, outcome) => self.list(closing, outcome, context, server, source),
            done @ Stage::Done(_) => {
                self.stage = done;
                Ok(())
            }
        }
    }

    /// Publishes; `None` if no answer came, whether or not it was stored.
    pub(crate) fn publish(
        &self, publication: &Publication, context: &mut Context, server: &mut Server,
    ) -> Option<Answer> {
        if context.fault(6) {
            context.count(Seen::PublishLost);
            return None;
        }
        let now = context.tick();
        let answer = server.publish(publication, now);
        if let Answer::Duplicate(_) = answer {
            context.count(Seen::AnsweredDuplicate);
        }
        if context.fault(8) {
            context.count(Seen::PublishAckLost);
            context.say(|| format!("run {}: the answer {answer:?} is lost", self.run));
            return None;
        }
        Some(answer)
    }

    fn open(&mut self, context: &mut Context, server: &mut Server, source: &Source) -> Checked {
        if !source.has_its_id(self.first_mtime) {
            return self.end(Outcome::Elsewhere, context);
        }
        let headers = vec![(header::MANIFEST, source.manifest.to_header().unwrap())];
        let (payload, id) = (Bytes::new(), (self.run, u64::MAX));
        let open = Publication { kind: Kind::Open, headers, payload, id, expected: Some(0) };
        match self.publish(&open, context, server) {
            None => {}
            Some(Answer::Refused) => {
                context.count(Seen::OpenRefused);
                self.stage = Stage::Look;
            }
            Some(_) => {
                context.count(Seen::Opened);
                if server.data.last_on(Kind::Data) != 0 {
                    context.count(Seen::OpenedOverChunks);
                }
                context.say(|| format!("run {}: opened", self.run));
                // It does not look: what stands on the data subject though nobody had opened it, it sends again.
                self.stage = Stage::Send(Box::new(Sending::new(SendPlan::new(&source.manifest), None)));
            }
        }
        Ok(())
    }

    /// What is stored, told to the code under test.
    pub(crate) fn stored(&self, context: &Context, server: &Server, source: &Source) -> StoredTransfer {
        let manifest = &source.manifest;
        let mut stored = StoredTransfer::new(manifest.clone(), 1);
        for message in server.data.on(Kind::Data) {
            stored.message(message.sequence);
            if let Some(record) = message.closing(manifest) {
                stored.close(record.closing);
            } else if let Some(chunk) = message.chunk(manifest) {
                let (stored_bytes, stored_at) = (message.payload.len() as u64, message.time());
                let (crc32, length) = (chunk.crc32, chunk.length);
                stored.chunk(chunk.index, StoredChunk { crc32, length, stored_bytes, stored_at });
            }
        }
        if let Some(record) = server.closing_record(manifest) {
            stored.close(record.closing);
        }
        if !context.sabotaged(Sabotage::DeafSender) {
            for message in server.control.on(Kind::Repair) {
                if let Some(request) = message.request(manifest) {
                    stored.ask(&request.chunks, message.time());
                }
            }
        }
        stored
    }

    fn look(&mut self, context: &mut Context, server: &mut Server, source: &Source) -> Checked {
        if server.control.last_on(Kind::Open) == 0 {
            // It was lost since.
            self.stage = Stage::Open;
            return Ok(());
        }
        let stored = self.stored(context, server, source);
        self.watch = Watch::new(server, source, &source.bytes);
        let verdict = stored.verdict();
        let watch = &self.watch;
        context.say(|| format!("run {}: {verdict:?}; stored {:?}, asked {:?}", self.run, watch.stored, watch.asked));
        let all_sabotaged = context.sabotaged(Sabotage::ResumeAll);
        match verdict {
            Verdict::Abandon => {
                context.count(Seen::VerdictAbandon);
                ensure(context.changed, || format!("run {} abandons the transfer of an unchanged source", self.run))?;
                self.end(Outcome::Elsewhere, context)
            }
            Verdict::Whole { totals } => {
                context.count(Seen::VerdictWhole);
                if totals.digest != source.digest() && !context.sabotaged(Sabotage::MixSources) {
                    return self.end(Outcome::Foreign, context);
                }
                self.stage = Stage::List(Closing::Complete(totals), Outcome::Unchanged);
                if context.sabotaged(Sabotage::RepublishWhole) {
                    self.stage = Stage::Close { totals, last: stored.last_sequence(), listing: Listing::Later };
                }
                Ok(())
            }
            Verdict::Repair { totals } => {
                context.count(Seen::VerdictRepair);
                if totals.digest != source.digest() && !context.sabotaged(Sabotage::MixSources) {
                    return self.end(Outcome::Foreign, context);
                }
                let all = context.sabotaged(Sabotage::RepairAll) || all_sabotaged;
                let plan = if all { SendPlan::new(&source.manifest) } else { SendPlan::resume(stored) };
                self.stage = Stage::Send(Box::new(Sending::new(plan, Some(totals))));
                Ok(())
            }
            Verdict::Resume => {
                context.count(Seen::VerdictResume);
                let plan = if all_sabotaged { SendPlan::new(&source.manifest) } else { SendPlan::resume(stored) };
                self.stage = Stage::Send(Box::new(Sending::new(plan, None)));
                Ok(())
            }
        }
    }

    fn send(
        &mut self, mut sending: Box<Sending>, context: &mut Context, server: &mut Server, source: &Source,
    ) -> Checked {
        let may_read = !sending.ended && sending.in_flight.len() < WINDOW;
        if sending.ended && (sending.in_flight.is_empty() || context.sabotaged(Sabotage::EarlyClose)) {
            return self.finish(*sending, context, server, source);
        }
        if sending.ended && sending.look.is_none() && context.rng.chance(30) {
            context.count(Seen::LookedBeside);
            let (found, known_to) = (self.stored(context, server, source), sending.plan.last_sequence());
            sending.look = Some(Look { found, known_to, since: Vec::new() });
        } else if may_read && (sending.in_flight.is_empty() || context.rng.chance(60)) {
            if let Some(outcome) = self.read(&mut sending, context, source)? {
                return self.end(outcome, context);
            }
        } else {
            let at = context.rng.below(sending.in_flight.len());
            match sending.in_flight[at].stored {
                None => {
                    let flight = &mut sending.in_flight[at];
                    flight.attempts += 1;
                    match self.publish(&flight.publication, context, server) {
                        Some(Answer::Duplicate(_)) if flight.attempts == 1 => {
                            let (run, index) = (self.run, flight.index);
                            return Err(Violation(format!(
                                "run {run} publishes chunk {index} under another run's name"
                            )));
                        }
                        Some(Answer::Stored(sequence) | Answer::Duplicate(sequence)) => flight.stored = Some(sequence),
                        Some(Answer::Refused) => return Err(Violation("a chunk was refused".into())),
                        None => {}
                    }
                }
                Some(sequence) => {
                    let flight = sending.in_flight.swap_remove(at);
                    let stored_bytes = flight.publication.payload.len() as u64;
                    sending.plan.acknowledge(flight.index, stored_bytes, sequence);
                    if let Some(look) = &mut sending.look {
                        look.since.push(AcknowledgedChunk { chunk: flight.chunk, stored_bytes, sequence });
                    }
                    self.watch.acknowledged.insert(flight.index);
                    self.watch.last = self.watch.last.max(sequence);
                    context.say(|| format!("run {}: chunk {} is at {sequence}", self.run, flight.index));
                }
            }
        }
        self.stage = Stage::Send(sending);
        Ok(())
    }

    /// Cuts the next chunk from the source, as it is now.
    fn read(&mut self, sending: &mut Sending, context: &mut Context, source: &Source) -> Checked<Option<Outcome>> {
        let size = source.manifest.chunk_size.bytes() as usize;
        let start = sending.offset.min(source.bytes.len());
        let raw = &source.bytes[start..(start + size).min(source.bytes.len())];
        if raw.is_empty() {
            sending.ended = true;
            return Ok(None);
        }
        sending.hasher.update(raw);
        sending.offset += raw.len();
        let index = sending.next;
        sending.next += 1;
        sending.ended = raw.len() < size;
        let encoding = if context.rng.chance(2) { Encoding::Gzip } else { Encoding::Identity };
        let (chunk, payload) = source.encode(index, raw, encoding);
        match sending.plan.offer(chunk.length, chunk.crc32) {
            Ok(Offer::Stored) => {
                context.count(Seen::ChunksFoundStored);
                return Ok(None);
            }
            Err(error) if !context.sabotaged(Sabotage::MixSources) => {
                ensure(context.changed, || format!("run {}: {error}, of an unchanged source", self.run))?;
                return Ok(Some(Outcome::Foreign));
            }
            Ok(Offer::Publish) | Err(_) => {}
        }
        self.watch.check_chunk(self, index, raw, context, source)?;
        context.count(Seen::ChunksPublished);
        let headers = chunk.to_headers().to_vec();
        let id = (self.run, index);
        let publication = Publication { kind: Kind::Data, headers, payload: payload.into(), id, expected: None };
        sending.in_flight.push(Flight { index, chunk, publication, attempts: 0, stored: None });
        Ok(None)
    }

    pub(crate) fn end(&mut self, outcome: Outcome, context: &mut Context) -> Checked {
        match outcome {
            Outcome::Repaired => context.count(Seen::RepairsDone),
            Outcome::Elsewhere | Outcome::Foreign => context.count(Seen::SentElsewhere),
            _ => {}
        }
        context.say(|| format!("run {}: {outcome:?}", self.run));
        self.stage = Stage::Done(outcome);
        Ok(())
    }
}

impl Sending {
    fn new(plan: SendPlan, closed: Option<Totals>) -> Self {
        let hasher = DigestAlgorithm::Blake3.hasher();
        let (offset, next, ended, in_flight) = (0, 0, false, Vec::new());
        Self { plan, hasher, offset, next, ended, in_flight, closed, look: None }
    }
}
