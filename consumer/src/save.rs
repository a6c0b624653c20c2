//! Saving one transfer: pull, verify, write, acknowledge, land.

use std::path::PathBuf;

use bytes::Bytes;
use natsfer_common::{
    Channel, ChunkSet, Closing, ClosingRecord, Contradiction, Digest, Event, Fate, FileName, Inline, Manifest, Next,
    Reception, Totals, TransferId, blocking,
    broker::{Broker, Copies},
};

use tokio::time::Instant;

use crate::{
    Failure, Landing, ReceiveError, SaveOptions, TargetDirectory,
    bench::Bench,
    checkpoint::Checkpoint,
    cursor::{Cursor, Piece},
    flow::Flows,
    inline::{decode_inline, land_inline},
    landing::{Forecast, forecast},
    part_files::PartFiles,
    report::Report,
    room::Room,
    staging::{Owner, Staging},
};

/// Every so many deliveries, a transfer that was put back is looked into, whatever seems to have happened to it.
const LOOK_INTO: u64 = 16;

/// A transfer that was saved.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Saved {
    /// Its id.
    pub transfer: TransferId,
    /// The channel it came on.
    pub channel: Channel,
    /// The name it was sent under.
    pub name: FileName,
    /// Where it is.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// Its digest.
    pub digest: Digest,
    /// What became of it.
    pub landing: Landing,
    /// Bytes of the file that came once more than needed in this call: an earlier run was given them already, or they came
    /// twice, or damaged.
    pub refetched_bytes: u64,
    /// Chunks that were stored damaged or not at all, and came after they had been asked for.
    pub repaired_chunks: u64,
}

/// Everything a save needs.
pub(crate) struct Save<'a> {
    pub(crate) broker: &'a Broker,
    pub(crate) owner: &'a Owner,
    pub(crate) manifest: &'a Manifest,
    pub(crate) target: &'a TargetDirectory,
    pub(crate) options: &'a SaveOptions,
    pub(crate) flows: &'a Flows,
    /// How many times the transfer was delivered.
    pub(crate) delivered: u64,
}

/// What a save has cost beyond the file itself.
#[derive(Debug, Default)]
struct Extra {
    refetched_bytes: u64,
    repaired_chunks: u64,
    /// Chunks that were asked for.
    asked: ChunkSet,
}

impl Save<'_> {
    fn saved(&self, landing: Landing, path: PathBuf, size: u64, digest: Digest, extra: &Extra) -> Saved {
        let Manifest { transfer, channel, name, .. } = self.manifest.clone();
        let Extra { refetched_bytes, repaired_chunks, .. } = *extra;
        Saved { transfer, channel, name, path, size, digest, landing, refetched_bytes, repaired_chunks }
    }

    /// Who may speak about it; a replay may not.
    fn report(&self) -> Option<Report<'_>> {
        let Owner::Receiver(receiver) = self.owner else { return None };
        Some(Report { broker: self.broker, receiver, manifest: self.manifest })
    }

    /// A file that came inside its manifest's message.
    pub(crate) async fn inline(
        self, inline: Inline, payload: Bytes, crc32: Option<String>,
    ) -> Result<Saved, ReceiveError> {
        let raw = match decode_inline(self.manifest, inline, payload, crc32.as_deref()) {
            Ok(raw) => raw,
            Err(error) => {
                if let Some(report) = self.report() {
                    // The sender publishes the whole message again, and it comes as a new one.
                    report.ask(&[0].into_iter().collect()).await?;
                }
                return Err(error);
            }
        };
        let (size, digest, policy) = (raw.len() as u64, inline.digest, self.options.on_conflict);
        let mut room = Room::new(self.manifest.transfer);
        loop {
            let (manifest, target, owner) = (self.manifest.clone(), self.target.clone(), self.owner.clone());
            let raw = raw.clone();
            match blocking(move || land_inline(&manifest, &target, &owner, policy, &raw, digest)).await {
                Ok((landing, path)) => return Ok(self.saved(landing, path, size, digest, &Extra::default())),
                Err(ReceiveError::Disk { source, .. }) if room.try_again(&source).await => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// A file in chunks.
    pub(crate) async fn chunks(self) -> Result<Saved, ReceiveError> {
        let known = match self.closing().await {
            Ok(known) => known,
            Err(error) => {
                if error.failure() == Failure::Cancelled {
                    self.forget().await;
                }
                return Err(error);
            }
        };
        let content = known.map(|totals: Totals| (totals.size, totals.digest));
        let (name, target, policy) = (self.manifest.name.clone(), self.target.clone(), self.options.on_conflict);
        if let Forecast::Settled(landing, path) = blocking(move || forecast(&target, &name, policy, content)).await?
            && let Some((size, digest)) = content
        {
            self.forget().await;
            return Ok(self.saved(landing, path, size, digest, &Extra::default()));
        }
        let mut extra = Extra::default();
        if self.delivered > 1
            && !self.delivered.is_multiple_of(LOOK_INTO)
            && let Some(report) = self.report()
        {
            self.anything_new(report, known, &mut extra).await?;
        }
        self.transfer(known, extra).await
    }

    /// What the close subject says. Fails when the transfer was cancelled.
    async fn closing(&self) -> Result<Option<Totals>, ReceiveError> {
        let Manifest { transfer, channel, .. } = self.manifest;
        match self.broker.closing_record(channel, *transfer).await?.map(|record| record.closing) {
            Some(Closing::Complete(totals)) => Ok(Some(totals)),
            Some(Closing::Cancelled { reason }) => Err(Contradiction::Cancelled { transfer: *transfer, reason }.into()),
            None => Ok(None),
        }
    }

    /// Drops what an earlier run left of a transfer that is not needed any more.
    async fn forget(&self) {
        let (target, owner, manifest) = (self.target.clone(), self.owner.clone(), self.manifest.clone());
        blocking(move || {
            if let Ok(staging) = Staging::open(&target, &owner, manifest.transfer) {
                staging.clear();
            }
        })
        .await;
        Cursor::forget(self.broker, self.owner, self.manifest).await;
    }

    /// A transfer that was put back comes again and again, until it can be received. As long as nothing has happened to it, it
    /// is put back at once, without reading its part from disk: however many there are, they do not hold up others.
    async fn anything_new(
        &self, report: Report<'_>, known: Option<Totals>, extra: &mut Extra,
    ) -> Result<(), ReceiveError> {
        let transfer = self.manifest.transfer;
        let all_read = Cursor::has_nothing_new(self.broker, report.receiver, self.manifest).await?;
        let Some(totals) = known else {
            return if all_read { Err(ReceiveError::Stalled { transfer }) } else { Ok(()) };
        };
        let (target, owner, manifest) = (self.target.clone(), self.owner.clone(), self.manifest.clone());
        let claimed = blocking(move || PartFiles::claimed(&target, &owner, &manifest)).await;
        let missing = claimed.missing(totals.chunks);
        if missing.is_empty() {
            return Ok(());
        }
        // Without looking at what is stored: an answer would show in the cursor.
        extra.asked = report.awaited(&missing, &Copies::default()).await?;
        if all_read && missing.without(&extra.asked).is_empty() {
            return Err(ReceiveError::ChunksMissing { transfer, missing });
        }
        Ok(())
    }

    async fn transfer(&self, known: Option<Totals>, mut extra: Extra) -> Result<Saved, ReceiveError> {
        let mut bench = Bench::open(self.target, self.owner, self.manifest).await?;
        let result = self.receive(known, &mut bench, &mut extra).await;
        if let Err(error) = &result
            && error.failure() != Failure::Passing
        {
            bench.discard().await;
        }
        result
    }

    async fn receive(
        &self, known: Option<Totals>, bench: &mut Bench, extra: &mut Extra,
    ) -> Result<Saved, ReceiveError> {
        if let Some(totals) = known {
            self.close(bench, ClosingRecord::new(self.manifest.transfer, Closing::Complete(totals))).await?;
        }
        let flow = self.flows.open().await;
        let held = bench.part()?.held().clone();
        let mut cursor = Cursor::open(self.broker, self.owner, self.manifest, &held, flow.window).await?;
        let result = match self.read(bench, &mut cursor, extra).await {
            Ok(totals) => bench
                .land(totals, self.options.on_conflict)
                .await
                .map(|(landing, path, digest)| self.saved(landing, path, totals.size, digest, extra)),
            Err(error) => Err(error),
        };
        match &result {
            Err(error) if error.failure() == Failure::Passing => cursor.pause().await,
            _ => cursor.close().await,
        }
        result
    }

    async fn close(&self, bench: &mut Bench, record: ClosingRecord) -> Result<(), ReceiveError> {
        bench.work(move |part| part.close(record.clone()).map(drop)).await
    }

    /// Does what [`Reception`] says, until every chunk is here.
    async fn read(&self, bench: &mut Bench, cursor: &mut Cursor, extra: &mut Extra) -> Result<Totals, ReceiveError> {
        let transfer = self.manifest.transfer;
        let (mut reception, mut event) = (Reception::default(), Event::Begun);
        let (mut checkpoint, mut copies) = (Checkpoint::new(), Copies::default());
        loop {
            event = match reception.next(event, bench.progress()) {
                Next::Read => self.next(bench, cursor, &mut checkpoint, extra).await?,
                Next::LookForClose => {
                    if let Some(record) = self.broker.closing_anywhere(self.manifest).await? {
                        self.close(bench, record).await?;
                    }
                    Event::Looked
                }
                Next::Refetch(missing) => {
                    copies = self.refetch(bench, &missing, extra).await?;
                    Event::Refetched
                }
                Next::Ask(missing) => {
                    self.ask(missing, &copies, extra).await?;
                    Event::Asked
                }
                Next::Land(totals) => return Ok(totals),
                // What was received is kept for the next try.
                Next::Unfinished => {
                    checkpoint.write(bench, self.broker).await?;
                    return Err(ReceiveError::Stalled { transfer });
                }
                Next::AwaitRepair(missing) => {
                    checkpoint.write(bench, self.broker).await?;
                    return Err(ReceiveError::ChunksMissing { transfer, missing });
                }
            }
        }
    }

    /// The next message, or a silence as long as is allowed. Checkpoints are written meanwhile.
    async fn next(
        &self, bench: &mut Bench, cursor: &mut Cursor, checkpoint: &mut Checkpoint, extra: &mut Extra,
    ) -> Result<Event, ReceiveError> {
        let silence = Instant::now() + self.options.patience;
        let piece = {
            let mut next = std::pin::pin!(cursor.next());
            loop {
                let wake = checkpoint.due_at().map_or(silence, |due| silence.min(due));
                match tokio::time::timeout_at(wake, &mut next).await {
                    Ok(piece) => break piece?,
                    Err(_) if wake == silence => return Ok(Event::Silence),
                    Err(_) => checkpoint.write(bench, self.broker).await?,
                }
            }
        };
        match piece {
            Piece::Chunk { chunk, payload, ack_subject, again } => {
                let fate = bench.work(move |part| part.write(&chunk, payload.clone())).await?;
                if again || fate != Fate::Written {
                    extra.refetched_bytes += u64::from(chunk.length);
                }
                extra.note(chunk.index, fate);
                checkpoint.covers(ack_subject);
                checkpoint.write_if_due(bench, self.broker).await?;
                Ok(if fate == Fate::Damaged { Event::Damaged } else { Event::Chunk })
            }
            Piece::Closing { record, ack_subject } => {
                checkpoint.covers(ack_subject);
                self.close(bench, record).await?;
                Ok(Event::Closed)
            }
        }
    }

    /// Fetches chunks by themselves that did not come, or came damaged: every stored copy, until one is sound.
    async fn refetch(&self, bench: &mut Bench, missing: &ChunkSet, extra: &mut Extra) -> Result<Copies, ReceiveError> {
        // Chunks that are gone may have been removed with the transfer.
        self.closing().await?;
        tracing::info!(transfer = %self.manifest.transfer, chunks = %missing, "fetching chunks that did not come");
        let copies = self.broker.copies(self.manifest, missing).await?;
        for (index, place) in copies.iter() {
            if bench.part()?.held().contains(index) {
                continue;
            }
            if let Some((chunk, payload)) = self.broker.chunk_at(self.manifest, place.sequence).await? {
                let fate = bench.work(move |part| part.write(&chunk, payload.clone())).await?;
                extra.note(index, fate);
            }
        }
        Ok(copies)
    }

    /// Asks for chunks of which no sound copy is stored, unless they were asked for.
    async fn ask(&self, missing: ChunkSet, copies: &Copies, extra: &mut Extra) -> Result<(), ReceiveError> {
        let Some(report) = self.report() else {
            return Err(ReceiveError::ChunksMissing { transfer: self.manifest.transfer, missing });
        };
        report.ask_once(&missing, copies).await?;
        extra.asked = missing;
        Ok(())
    }
}

impl Extra {
    fn note(&mut self, index: u64, fate: Fate) {
        if fate == Fate::Written && self.asked.contains(index) {
            self.repaired_chunks += 1;
        }
    }
}
