//! Reading a transfer as it comes.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use natsfer_common::{
    ChunkSet, Digest, Manifest,
    broker::{Broker, BrokerError},
};
use tokio::{
    io::{AsyncRead, ReadBuf},
    sync::mpsc,
    task::JoinHandle,
};

use crate::{
    Incoming, Limits, ReceiveError,
    cursor::{Cursor, Held},
    inline::decode_inline,
    origin::Origin,
    pump::{Piece, Pump},
    report::{Before, Report},
    staging::Owner,
};

/// A transfer's bytes, in order. Reading to the end has verified them; [`TransferReader::finish`] then takes the transfer for
/// done.
///
/// Dropped earlier, or never finished, the transfer goes back to the server and comes again.
#[derive(Debug)]
pub struct TransferReader {
    broker: Broker,
    manifest: Manifest,
    limits: Limits,
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

impl TransferReader {
    pub(crate) async fn open(incoming: Incoming) -> Result<Self, ReceiveError> {
        let taken = incoming.ensure_taken().await;
        let Incoming { broker, manifest, opened_at, payload, crc32, origin, flows, limits, .. } = incoming;
        if let Err(error) = taken.and_then(|()| limits.admit(&manifest, &manifest.name)) {
            origin.settle(&broker, &manifest, Some(&error)).await;
            return Err(error);
        }
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
                let flow = flows.open(&broker, &manifest).await;
                let none = Held { chunks: &ChunkSet::default(), behind: None };
                let opened = Cursor::open(&broker, &owner, &manifest, opened_at, none, &flow).await;
                let cursor = match opened {
                    Ok(cursor) => cursor,
                    Err(error) => {
                        origin.settle(&broker, &manifest, Some(&error)).await;
                        return Err(error);
                    }
                };
                let pump = Pump::new(&broker, owner, &manifest, limits.most(&manifest), flow, sender);
                tokio::spawn(pump.run(cursor))
            }
        };
        let current = Bytes::new();
        Ok(Self { broker, manifest, limits, origin: Some(origin), pieces, current, state: State::Reading, pump })
    }

    /// What the file is.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Ends the reading, once what was read is dealt with. A transfer that was read to its end is taken for done, and its
    /// sender told so by a receipt; one whose reading failed is put back or given up, as [`ReceiveError::failure`] says; any
    /// other goes back to the server at once, and comes again.
    pub async fn finish(mut self) {
        let (size, digest) = match &self.state {
            // Dropping puts it back.
            State::Reading => return,
            State::Verified { size, digest } => (*size, *digest),
            State::Failed(error) => {
                if let Some(origin) = self.origin.take() {
                    let few = match **error {
                        ReceiveError::Stalled { .. } => {
                            origin.ensure_few_wait(&self.broker, &self.manifest, &self.limits).await
                        }
                        _ => Ok(()),
                    };
                    let error = few.as_ref().err().unwrap_or(error);
                    origin.settle(&self.broker, &self.manifest, Some(error)).await;
                }
                return;
            }
        };
        let Some(origin) = self.origin.take() else { return };
        // The pump ends by itself: it has handed over the end.
        let _ = (&mut self.pump).await;
        let told = origin.report(&self.broker, &self.manifest, digest, size, None, Before::No).await;
        if let Err(error) = &told {
            tracing::warn!(transfer = %self.manifest.transfer, "no receipt could be published: {error}");
        }
        origin.settle(&self.broker, &self.manifest, told.err().as_ref()).await;
    }

    /// Takes the transfer off the receiver's inbox as unacceptable, however much of it was read. The reason is logged, and kept in
    /// view: see [`crate::Rejections`].
    pub async fn reject(mut self, reason: &str) {
        self.pieces.close();
        // Nothing but its panic could fail, and that has been reported.
        let _ = (&mut self.pump).await;
        if let Some(origin) = self.origin.take() {
            origin.refuse(&self.broker, &self.manifest, reason).await;
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
