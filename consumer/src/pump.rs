//! The chunks of one transfer on their way to whoever reads it.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use natsfer_common::{
    Assembler, ChunkHeader, ChunkSet, Digest, Event, Hasher, Manifest, Next, PartError, Placement, Reception, Totals,
    broker::{Broker, Copies, Fetch},
};
use tokio::sync::mpsc;

use crate::{
    ReceiveError,
    cursor::{self, Cursor},
    flow::Flow,
    presence::{closed, is_there},
    report::Report,
    staging::Owner,
};

/// Chunks that came before their turn are kept up to so many bytes; beyond that they are fetched again when their turn comes.
const MOST_EARLY: usize = 16 << 20;

/// How long nothing may come of a transfer that its sender has not closed.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the pump hands over.
#[derive(Debug)]
pub(crate) enum Piece {
    /// The next bytes.
    Bytes(Bytes),
    /// The end: size and digest agree.
    End(u64, Digest),
}

/// Puts chunks in order and hands them out.
pub(crate) struct Pump {
    broker: Broker,
    flow: Flow,
    owner: Owner,
    manifest: Manifest,
    assembler: Assembler,
    hasher: Hasher,
    early: BTreeMap<u64, Bytes>,
    early_bytes: usize,
    /// The chunk whose turn it is.
    next: u64,
    sender: mpsc::Sender<Result<Piece, ReceiveError>>,
}

/// The reader has gone.
struct Gone;

impl Pump {
    /// Begins with the first chunk; takes no file of more bytes than `most`.
    pub(crate) fn new(
        broker: &Broker, owner: Owner, manifest: &Manifest, most: u64, flow: Flow,
        sender: mpsc::Sender<Result<Piece, ReceiveError>>,
    ) -> Self {
        Self {
            broker: broker.clone(),
            flow,
            assembler: Assembler::new(manifest).within(most),
            hasher: manifest.digest_algorithm.hasher(),
            early: BTreeMap::new(),
            early_bytes: 0,
            next: 0,
            owner,
            manifest: manifest.clone(),
            sender,
        }
    }

    /// Until the end, an error, or the reader's going. No cursor is left.
    pub(crate) async fn run(mut self, mut cursor: Cursor) {
        let sender = self.sender.clone();
        let result = tokio::select! {
            result = self.pump(&mut cursor) => result,
            () = sender.closed() => Ok(None),
        };
        if sender.is_closed() {
            cursor.hurry();
        }
        cursor.close().await;
        // The reader may have gone.
        let _ = match result {
            Ok(Some(Totals { size, digest, .. })) => self.sender.send(Ok(Piece::End(size, digest))).await,
            Ok(None) => return,
            Err(error) => self.sender.send(Err(error)).await,
        };
    }

    /// Until the last chunk is handed out and the digest agrees; `None` if the reader has gone.
    async fn pump(&mut self, cursor: &mut Cursor) -> Result<Option<Totals>, ReceiveError> {
        let transfer = self.manifest.transfer;
        let (mut reception, mut event) = (Reception::default(), Event::Begun);
        loop {
            event = match reception.next(event, self.assembler.progress()) {
                Next::Read => self.next(cursor).await?,
                Next::LookForClose => {
                    if let Some(record) = self.broker.closing_anywhere(&self.manifest).await? {
                        self.assembler.close(record)?;
                    }
                    Event::Looked
                }
                Next::Refetch(missing) => {
                    if self.refetch(missing).await?.is_err() {
                        return Ok(None);
                    }
                    Event::Refetched
                }
                Next::Ask(missing) | Next::AwaitRepair(missing) => {
                    return Err(ReceiveError::ChunksMissing { transfer, missing });
                }
                Next::Unfinished => {
                    is_there(&self.broker, &self.manifest).await?;
                    return Err(ReceiveError::Stalled { transfer });
                }
                Next::Land(totals) => return self.verify(totals).map(|()| Some(totals)),
            };
            if self.hand_out().await.is_err() {
                return Ok(None);
            }
        }
    }

    /// The next message that counts, or a silence that is the sender's.
    async fn next(&mut self, cursor: &mut Cursor) -> Result<Event, ReceiveError> {
        loop {
            let silence = cursor.silence(PATIENCE);
            let came = tokio::select! {
                biased;
                came = cursor.next() => Some(came?),
                () = silence => None,
            };
            let came = match came {
                Some(came) => came,
                None if cursor.will_go_on().await? => continue,
                None => return Ok(Event::Silence),
            };
            match came {
                (cursor::Piece::Chunk { chunk, payload, .. }, place) => {
                    self.take(chunk, payload)?;
                    self.broker.acknowledge_to(&place).await;
                    return Ok(Event::Chunk);
                }
                (cursor::Piece::Closing(record), _) => {
                    if let Some(record) = closed(&self.broker, &self.manifest, record).await? {
                        self.assembler.close(record)?;
                        return Ok(Event::Closed);
                    }
                }
            }
        }
    }

    /// Takes one chunk, if it is sound.
    fn take(&mut self, chunk: ChunkHeader, payload: Bytes) -> Result<(), ReceiveError> {
        if self.assembler.place(&chunk)? == Placement::Held {
            return Ok(());
        }
        let early = chunk.index != self.next;
        if early && self.early_bytes + chunk.length as usize > MOST_EARLY {
            return Ok(());
        }
        let raw = match chunk.encoding.decode(payload, chunk.length as usize) {
            Ok(raw) if crc32fast::hash(&raw) == chunk.crc32 => raw,
            _ => {
                tracing::warn!(transfer = %self.manifest.transfer, index = chunk.index, "a chunk arrived damaged");
                return Ok(());
            }
        };
        self.assembler.written(&chunk);
        self.early_bytes += raw.len();
        self.early.insert(chunk.index, raw);
        Ok(())
    }

    async fn hand_out(&mut self) -> Result<(), Gone> {
        while let Some(raw) = self.early.remove(&self.next) {
            self.early_bytes -= raw.len();
            self.next += 1;
            self.hasher.update(&raw);
            self.hand_over(raw).await?;
        }
        Ok(())
    }

    /// A reader that takes its time holds up no other transfer.
    async fn hand_over(&self, raw: Bytes) -> Result<(), Gone> {
        let permit = match self.sender.try_reserve() {
            Ok(permit) => permit,
            Err(_) => {
                self.flow.place.set_flowing(false);
                let permit = self.sender.reserve().await.map_err(|_| Gone)?;
                self.flow.place.set_flowing(true);
                permit
            }
        };
        permit.send(Ok(Piece::Bytes(raw)));
        Ok(())
    }

    /// Fetches, in order, the chunks that did not come, came damaged, or came too early to be kept. Asks for those of which
    /// no sound copy is stored.
    async fn refetch(&mut self, missing: ChunkSet) -> Result<Result<(), Gone>, ReceiveError> {
        is_there(&self.broker, &self.manifest).await?;
        let (broker, manifest) = (self.broker.clone(), self.manifest.clone());
        let copies = broker.copies(&manifest, &missing).await?;
        let fetch = broker.fetch(&manifest, &copies);
        let fetched = self.refetch_by(&fetch, &missing, &copies).await;
        fetch.close().await;
        fetched
    }

    async fn refetch_by(
        &mut self, fetch: &Fetch<'_>, missing: &ChunkSet, copies: &Copies,
    ) -> Result<Result<(), Gone>, ReceiveError> {
        let transfer = self.manifest.transfer;
        for index in missing.iter() {
            for place in copies.of(index) {
                if self.assembler.held().contains(index) {
                    break;
                }
                if let Some((chunk, payload)) = fetch.chunk_at(*place).await? {
                    self.take(chunk, payload)?;
                }
            }
            if self.hand_out().await.is_err() {
                return Ok(Err(Gone));
            }
            if !self.assembler.held().contains(index) {
                let absent = missing.without(&copies.chunks()).union(&[index].into_iter().collect());
                if let Owner::Receiver(receiver) = &self.owner {
                    let report = Report { broker: &self.broker, receiver, manifest: &self.manifest };
                    report.ask_once(&absent, copies).await?;
                }
                return Err(ReceiveError::ChunksMissing { transfer, missing: absent });
            }
        }
        Ok(Ok(()))
    }

    fn verify(&mut self, totals: Totals) -> Result<(), ReceiveError> {
        let hasher = std::mem::replace(&mut self.hasher, self.manifest.digest_algorithm.hasher());
        let (expected, found, transfer) = (totals.digest, hasher.finish(), self.manifest.transfer);
        if found == expected { Ok(()) } else { Err(PartError::DigestMismatch { transfer, expected, found }.into()) }
    }
}
