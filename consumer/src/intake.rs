//! The chunks of one transfer on their way into its part.

use std::sync::Arc;

use crate::{
    Failure, ReceiveError,
    bench::Bench,
    checkpoint::Checkpoint,
    cursor::{Cursor, Held, LeftCursor, Piece},
    flow::Flow,
    presence::{closed, is_the_same, is_there},
    save::Save,
};
use bytes::Bytes;
use futures_util::FutureExt as _;
use natsfer_common::{
    ChunkHeader, ChunkSet, Closing, ClosingRecord, Event, Fate, Next, Progress, Reception, Totals,
    broker::{AckPlace, Copies, Fetch},
    joined,
};
use tokio_util::task::AbortOnDropHandle;

/// What a transfer has cost beyond the file itself.
#[derive(Debug, Default)]
pub(crate) struct Extra {
    /// Bytes of the file that came once more than needed.
    pub(crate) refetched_bytes: u64,
    /// Chunks that came after they had been asked for.
    pub(crate) repaired_chunks: u64,
    /// Chunks that were asked for.
    pub(crate) asked: ChunkSet,
}

/// Reads a transfer's chunks into its part, and acknowledges what is on disk.
pub(crate) struct Intake<'a> {
    save: &'a Save<'a>,
    pub(crate) bench: &'a mut Bench,
    extra: &'a mut Extra,
    cursor: Cursor,
    /// What came and is not written yet.
    batch: Batch,
    /// Bytes of it, at most, but for the last chunk.
    most_batched: u64,
    checkpoint: Checkpoint,
    /// Whether the transfer is still the same, being asked.
    same: Option<AbortOnDropHandle<Result<(), ReceiveError>>>,
}

/// Chunks that came while others were written, and what came behind them.
#[derive(Debug, Default)]
struct Batch {
    chunks: Vec<(ChunkHeader, Bytes)>,
    /// Which of them an earlier run was given.
    again: ChunkSet,
    bytes: u64,
    /// Where the last of them is acknowledged.
    place: Option<AckPlace>,
    end: Option<Result<(ClosingRecord, AckPlace), ReceiveError>>,
}

impl Batch {
    fn take(&mut self, came: Result<(Piece, AckPlace), ReceiveError>) {
        match came {
            Ok((Piece::Chunk { chunk, payload, again }, place)) => {
                self.bytes += (payload.len() as u64).max(u64::from(chunk.length));
                if again {
                    self.again.insert(chunk.index);
                }
                self.chunks.push((chunk, payload));
                self.place = Some(place);
            }
            Ok((Piece::Closing(record), place)) => self.end = Some(Ok((record, place))),
            Err(error) => self.end = Some(Err(error)),
        }
    }

    fn has_room(&self, most: u64) -> bool {
        self.end.is_none() && self.bytes < most
    }
}

impl<'a> Intake<'a> {
    /// Goes on behind what the part holds, with as many bytes asked for ahead as the flow allows.
    pub(crate) async fn open(
        save: &'a Save<'a>, bench: &'a mut Bench, extra: &'a mut Extra, flow: &Flow,
    ) -> Result<Self, ReceiveError> {
        let held = bench.part()?.held().clone();
        save.progress.begin(save.manifest, &held);
        let behind = save.read_marks.mark(save.manifest, save.broker.epoch()).and_then(|mark| mark.behind);
        let held = Held { chunks: &held, behind };
        let cursor = Cursor::open(save.broker, save.owner, save.manifest, save.opened_at, held, flow).await?;
        let (batch, most_batched) = (Batch::default(), flow.batch);
        Ok(Self { save, bench, extra, cursor, batch, most_batched, checkpoint: Checkpoint::new(), same: None })
    }

    /// Ends the reading, which has failed with this error. No cursor is left, unless the server is away; what waits for its
    /// sender is remembered. No task holds the part files afterwards.
    pub(crate) async fn fail(mut self, error: &ReceiveError) {
        // It has failed already, if this does.
        let _ = self.checkpoint.finish(self.bench, self.save.broker).await;
        let Save { broker, manifest, read_marks, .. } = self.save;
        self.cursor.hurry();
        if error.has_read_all_stored() {
            match self.cursor.mark(broker).await {
                Some(mark) => read_marks.leave(manifest, mark),
                // What an earlier try had read to is not where this one was.
                None => read_marks.forget(manifest),
            }
        }
        match error.failure() {
            Failure::Passing if !broker.is_connected() => self.cursor.pause().await,
            _ => self.cursor.close().await,
        }
    }

    /// Ends the reading of a file that has landed. Its cursor is to be deleted; where the server is away, that is not waited for
    /// for long, since the receipt and the inbox do not need it.
    pub(crate) async fn end(mut self) -> LeftCursor {
        self.cursor.hurry();
        self.cursor.leave().await
    }

    /// Fails when the transfer's id stands for another one now. That is asked for when the last chunks are: their sender had said
    /// before what they are of, and the answer takes no time of its own.
    pub(crate) async fn ensure_same(&mut self) -> Result<(), ReceiveError> {
        let asked = self.same.take().unwrap_or_else(|| self.ask_whether_same());
        joined(asked).await
    }

    fn ask_whether_same(&self) -> AbortOnDropHandle<Result<(), ReceiveError>> {
        let (broker, manifest) = (self.save.broker.clone(), self.save.manifest.clone());
        AbortOnDropHandle::new(tokio::spawn(async move { is_the_same(&broker, &manifest).await }))
    }

    /// Does what [`Reception`] says, until every chunk is here. `known` is how the transfer was closed, if it was.
    pub(crate) async fn fill(&mut self, known: Option<Totals>) -> Result<Totals, ReceiveError> {
        let (broker, manifest) = (self.save.broker, self.save.manifest);
        let transfer = manifest.transfer;
        if let Some(totals) = known {
            self.close(ClosingRecord::new(transfer, Closing::Complete(totals))).await?;
        }
        let (mut reception, mut event, mut copies) = (Reception::default(), Event::Begun, Copies::default());
        loop {
            event = match reception.next(event, self.bench.progress()) {
                Next::Read => self.next().await?,
                Next::LookForClose => {
                    let record = match self.cursor.reads_all() {
                        // It would have come.
                        true => broker.closing_record(&manifest.channel, transfer).await?,
                        false => broker.closing_anywhere(manifest).await?,
                    };
                    if let Some(record) = record {
                        self.close(record).await?;
                    }
                    Event::Looked
                }
                Next::Refetch(missing) => {
                    // What comes now was not on its way.
                    self.same = None;
                    copies = broker.copies(manifest, &missing).await?;
                    self.refetch(&missing, &copies).await?;
                    Event::Refetched
                }
                Next::Ask(missing) => {
                    self.same = None;
                    self.ask(missing, &copies).await?;
                    Event::Asked
                }
                Next::Land(totals) => {
                    // Whether that failed, only its own end says.
                    self.checkpoint.finish(self.bench, broker).await?;
                    return Ok(totals);
                }
                // What was received is kept for the next try.
                Next::Unfinished => {
                    self.checkpoint.write(self.bench, broker).await?;
                    is_there(broker, manifest).await?;
                    return Err(ReceiveError::Stalled { transfer });
                }
                Next::AwaitRepair(missing) => {
                    self.checkpoint.write(self.bench, broker).await?;
                    return Err(ReceiveError::ChunksMissing { transfer, missing });
                }
            }
        }
    }

    async fn close(&mut self, record: ClosingRecord) -> Result<(), ReceiveError> {
        if let Closing::Complete(totals) = record.closing {
            self.save.progress.close(totals.size);
        }
        self.bench.work(move |part| part.close(record.clone()).map(drop)).await
    }

    /// What comes next and counts, written; or a silence that is the sender's.
    async fn next(&mut self) -> Result<Event, ReceiveError> {
        loop {
            if !self.batch.chunks.is_empty() {
                return self.write().await;
            }
            if let Some(end) = self.batch.end.take() {
                let (record, place) = end?;
                self.checkpoint.covers(place);
                if let Some(record) = closed(self.save.broker, self.save.manifest, record).await? {
                    self.close(record).await?;
                    return Ok(Event::Closed);
                }
                continue;
            }
            // Asks for what is due, at least.
            if let Some(came) = self.cursor.next().now_or_never() {
                self.batch.take(came);
                continue;
            }
            if self.same.is_none() && self.cursor.has_asked_for_nearly_all() && self.bench.progress() != Progress::Open
            {
                self.same = Some(self.ask_whether_same());
            }
            match self.within_patience().await? {
                Some(came) => self.batch.take(Ok(came)),
                None if self.cursor.will_go_on().await? => {}
                None => return Ok(Event::Silence),
            }
        }
    }

    /// Writes the chunks that came, while more come.
    async fn write(&mut self) -> Result<Event, ReceiveError> {
        let Self { bench, cursor, batch, most_batched, .. } = self;
        let Batch { chunks, again, place, end, .. } = std::mem::take(batch);
        batch.end = end;
        let chunks = Arc::new(chunks);
        let (written, mut fates) = (chunks.clone(), Vec::new());
        let fates = {
            let mut writing = std::pin::pin!(bench.work(move |part| {
                // On a disk that was full, behind those that are written.
                while fates.len() < written.len() {
                    fates.extend(part.write(&written[fates.len()..])?);
                }
                Ok(std::mem::take(&mut fates))
            }));
            loop {
                tokio::select! {
                    biased;
                    fates = &mut writing => break fates?,
                    came = cursor.next(), if batch.has_room(*most_batched) => batch.take(came),
                }
            }
        };
        for ((chunk, _), fate) in chunks.iter().zip(&fates) {
            if again.contains(chunk.index) || *fate != Fate::Written {
                self.extra.refetched_bytes += u64::from(chunk.length);
            }
            self.note(chunk, *fate);
        }
        if let Some(place) = place {
            self.checkpoint.covers(place);
        }
        self.checkpoint.begin_if_due(self.bench, self.save.broker).await?;
        Ok(if fates.contains(&Fate::Damaged) { Event::Damaged } else { Event::Chunk })
    }

    /// The next message; `None` if none came for as long as is allowed. Checkpoints are written meanwhile.
    async fn within_patience(&mut self) -> Result<Option<(Piece, AckPlace)>, ReceiveError> {
        let Self { save, bench, cursor, checkpoint, .. } = self;
        let mut silence = std::pin::pin!(cursor.silence(save.options.patience));
        let mut next = std::pin::pin!(cursor.next());
        loop {
            tokio::select! {
                biased;
                came = &mut next => return came.map(Some),
                () = &mut silence => break,
                written = checkpoint.go_on(bench, save.broker) => written?,
            }
        }
        // What is asked next may take long.
        checkpoint.write(bench, save.broker).await?;
        Ok(None)
    }

    /// Fetches chunks by themselves that did not come, or came damaged: every stored copy, until one is sound.
    async fn refetch(&mut self, missing: &ChunkSet, copies: &Copies) -> Result<(), ReceiveError> {
        let Save { broker, manifest, .. } = self.save;
        is_there(broker, manifest).await?;
        tracing::info!(transfer = %manifest.transfer, chunks = %missing, "fetching chunks that did not come");
        let fetch = broker.fetch(manifest, copies);
        let fetched = self.refetch_each(missing, copies, &fetch).await;
        fetch.close().await;
        fetched
    }

    async fn refetch_each(
        &mut self, missing: &ChunkSet, copies: &Copies, fetch: &Fetch<'_>,
    ) -> Result<(), ReceiveError> {
        for index in missing.iter() {
            for place in copies.of(index) {
                if self.bench.part()?.held().contains(index) {
                    break;
                }
                if let Some((chunk, payload)) = fetch.chunk_at(*place).await? {
                    let fetched = [(chunk, payload)];
                    let fates = self.bench.work(move |part| part.write(&fetched)).await?;
                    fates.into_iter().for_each(|fate| self.note(&chunk, fate));
                }
            }
            self.checkpoint.begin_if_due(self.bench, self.save.broker).await?;
        }
        Ok(())
    }

    fn note(&mut self, chunk: &ChunkHeader, fate: Fate) {
        if fate == Fate::Written {
            self.save.progress.add(chunk.length.into());
        }
        self.extra.note(chunk.index, fate);
    }

    /// Asks for chunks of which no sound copy is stored, unless they were asked for.
    async fn ask(&mut self, missing: ChunkSet, copies: &Copies) -> Result<(), ReceiveError> {
        let Some(report) = self.save.report() else {
            return Err(ReceiveError::ChunksMissing { transfer: self.save.manifest.transfer, missing });
        };
        report.ask_once(&missing, copies).await?;
        self.extra.asked = missing;
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
