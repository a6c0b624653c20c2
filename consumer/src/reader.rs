//! Reading a transfer as it comes.

use std::{
    collections::BTreeMap,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use natsfer_common::{
    Assembler, ChunkHeader, ChunkSet, Digest, Event, Hasher, Manifest, Next, PartError, Placement, Reception, Totals,
    broker::{Acknowledgement, Broker, BrokerError},
};
use tokio::{
    io::{AsyncRead, ReadBuf},
    sync::mpsc,
    task::JoinHandle,
};

use crate::{
    Incoming, ReceiveError,
    cursor::{self, Cursor},
    flow::Flow,
    incoming::Origin,
    inline::decode_inline,
    presence::is_there,
    report::{Before, Report},
    staging::Owner,
};

/// Chunks that came before their turn are kept up to so many bytes; beyond that they are fetched again when their turn comes.
const MOST_EARLY: usize = 16 << 20;

/// How long nothing may come of a transfer that its sender has not closed.
const PATIENCE: Duration = Duration::from_secs(10);

/// A transfer's bytes, in order. Reading to the end has verified them; [`TransferReader::finish`] then takes the transfer for
/// done.
///
/// Dropped earlier, or never finished, the transfer goes back to the server and comes again.
#[derive(Debug)]
pub struct TransferReader {
    broker: Broker,
    manifest: Manifest,
    origin: Option<Origin>,
    pieces: mpsc::Receiver<Result<Piece, ReceiveError>>,
    current: Bytes,
    state: State,
    /// Ends by itself when nobody takes its pieces any more.
    pump: JoinHandle<()>,
}

/// How far the reading is.
#[derive(Debug)]
enum State {
    /// More may come.
    Reading,
    /// Everything came, and is verified.
    Verified { size: u64, digest: Digest },
    /// It ended in this error.
    Failed(Arc<ReceiveError>),
}

/// What the pump hands over.
#[derive(Debug)]
enum Piece {
    /// The next bytes.
    Bytes(Bytes),
    /// The end: size and digest agree.
    End(u64, Digest),
}

impl TransferReader {
    pub(crate) async fn open(incoming: Incoming) -> Result<Self, ReceiveError> {
        let Incoming { broker, manifest, opened_at, payload, crc32, origin, flows } = incoming;
        // Two chunks ahead: one being read, one ready.
        let (sender, pieces) = mpsc::channel(2);
        let pump = match manifest.inline {
            Some(inline) => {
                let raw = decode_inline(&manifest, inline, payload, crc32.as_deref());
                let owner = origin.owner();
                let (broker, manifest) = (broker.clone(), manifest.clone());
                tokio::spawn(async move {
                    let size = raw.as_ref().ok().map(|raw| raw.len() as u64);
                    if let (None, Owner::Receiver(receiver)) = (size, &owner) {
                        // The sender publishes the whole message again, and it comes as a new one.
                        let report = Report { broker: &broker, receiver, manifest: &manifest };
                        let asked = report.ask(&[0].into_iter().collect()).await;
                        asked.unwrap_or_else(|error| tracing::warn!("a damaged file was not asked for: {error}"));
                    }
                    // The reader may have gone.
                    let _ = sender.send(raw.map(Piece::Bytes)).await;
                    if let Some(size) = size {
                        let _ = sender.send(Ok(Piece::End(size, inline.digest))).await;
                    }
                })
            }
            None => {
                // A reader keeps nothing on disk, hence begins at the beginning, whatever was read before.
                let owner = origin.owner();
                let flow = flows.open().await;
                let none = ChunkSet::default();
                let opened = Cursor::open(&broker, &owner, &manifest, opened_at, &none, flow.window).await;
                let cursor = match opened {
                    Ok(cursor) => cursor,
                    Err(error) => {
                        origin.settle(Some(&error)).await;
                        return Err(error);
                    }
                };
                let pump = Pump {
                    broker: broker.clone(),
                    _flow: flow,
                    assembler: Assembler::new(&manifest),
                    hasher: manifest.digest_algorithm.hasher(),
                    early: BTreeMap::new(),
                    early_bytes: 0,
                    next: 0,
                    owner,
                    manifest: manifest.clone(),
                    sender,
                };
                tokio::spawn(pump.run(cursor))
            }
        };
        let current = Bytes::new();
        Ok(Self { broker, manifest, origin: Some(origin), pieces, current, state: State::Reading, pump })
    }

    /// What the file is.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Ends the reading, once what was read is dealt with. A transfer that was read to its end is taken for done, and its
    /// sender told so by a receipt; one whose
    /// reading failed is put back or given up, as [`ReceiveError::failure`] says; any other goes back to the server at once, and
    /// comes again.
    pub async fn finish(mut self) {
        let Some(origin) = self.origin.take() else { return };
        match &self.state {
            State::Reading => {}
            State::Verified { size, digest } => {
                // The pump ends by itself: it has handed over the end.
                let _ = (&mut self.pump).await;
                let told = origin.report(&self.broker, &self.manifest, *digest, *size, Before::No).await;
                if let Err(error) = &told {
                    tracing::warn!(transfer = %self.manifest.transfer, "no receipt could be published: {error}");
                }
                origin.settle(told.err().as_ref()).await;
            }
            State::Failed(error) => origin.settle(Some(error)).await,
        }
    }

    /// Takes the transfer off the receiver's inbox as unacceptable, however much of it was read. The reason is logged.
    pub async fn reject(mut self, reason: &str) {
        tracing::warn!(transfer = %self.manifest.transfer, name = %self.manifest.name, reason, "rejected");
        self.pieces.close();
        // Nothing but its panic could fail, and that has been reported.
        let _ = (&mut self.pump).await;
        if let Some(origin) = self.origin.take() {
            origin.finish(Acknowledgement::Never).await;
        }
    }
}

/// The transfer goes back once its cursor is gone: the next process would have it deleted under its hands.
impl Drop for TransferReader {
    fn drop(&mut self) {
        let Some(origin) = self.origin.take() else { return };
        self.pieces.close();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let pump = std::mem::replace(&mut self.pump, runtime.spawn(async {}));
            runtime.spawn(async move {
                // Nothing but its panic could fail, and that has been reported.
                let _ = pump.await;
                drop(origin);
            });
        }
    }
}

impl AsyncRead for TransferReader {
    fn poll_read(
        mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.current.is_empty() {
            match &self.state {
                State::Reading => {}
                State::Verified { .. } => return Poll::Ready(Ok(())),
                State::Failed(error) => return Poll::Ready(Err(io::Error::other(error.clone()))),
            }
            match ready!(self.pieces.poll_recv(context)) {
                Some(Ok(Piece::Bytes(bytes))) => self.current = bytes,
                Some(Ok(Piece::End(size, digest))) => self.state = State::Verified { size, digest },
                Some(Err(error)) => self.state = State::Failed(Arc::new(error)),
                // The pump died without a word.
                None => {
                    let error = BrokerError::Closed { what: "reading a transfer".into() };
                    self.state = State::Failed(Arc::new(error.into()));
                }
            }
        }
        let length = self.current.len().min(buffer.remaining());
        buffer.put_slice(&self.current[..length]);
        self.current.advance(length);
        Poll::Ready(Ok(()))
    }
}

/// Puts chunks in order and hands them out.
struct Pump {
    broker: Broker,
    _flow: Flow,
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
    async fn run(mut self, mut cursor: Cursor) {
        let sender = self.sender.clone();
        let result = tokio::select! {
            result = self.pump(&mut cursor) => result,
            () = sender.closed() => Ok(None),
        };
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
                Next::Unfinished => return Err(ReceiveError::Stalled { transfer }),
                Next::Land(totals) => return self.verify(totals).map(|()| Some(totals)),
            };
            if self.hand_out().await.is_err() {
                return Ok(None);
            }
        }
    }

    async fn next(&mut self, cursor: &mut Cursor) -> Result<Event, ReceiveError> {
        let came = loop {
            match tokio::time::timeout(cursor.patience(PATIENCE), cursor.next()).await {
                Ok(came) => break came?,
                Err(_) if cursor.will_go_on().await? => {}
                Err(_) => return Ok(Event::Silence),
            }
        };
        match came {
            (cursor::Piece::Chunk { chunk, payload, .. }, place) => {
                self.take(chunk, payload)?;
                self.broker.acknowledge_to(&place).await;
                Ok(Event::Chunk)
            }
            (cursor::Piece::Closing(record), _) => {
                self.assembler.close(record)?;
                Ok(Event::Closed)
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
            self.sender.send(Ok(Piece::Bytes(raw))).await.map_err(|_| Gone)?;
        }
        Ok(())
    }

    /// Fetches, in order, the chunks that did not come, came damaged, or came too early to be kept. Asks for those of which
    /// no sound copy is stored.
    async fn refetch(&mut self, missing: ChunkSet) -> Result<Result<(), Gone>, ReceiveError> {
        is_there(&self.broker, &self.manifest).await?;
        let transfer = self.manifest.transfer;
        let copies = self.broker.copies(&self.manifest, &missing).await?;
        for index in missing.iter() {
            for place in copies.of(index) {
                if let Some((chunk, payload)) = self.broker.chunk_at(&self.manifest, place.sequence).await?
                    && !self.assembler.held().contains(index)
                {
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
                    report.ask_once(&absent, &copies).await?;
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
