//! One source on its way into the stream: which transfer it is, and what of it is stored already.

use std::io::{self, Cursor, Read};

use bytes::Bytes;
use futures_util::FutureExt;
use natsfer_common::{
    Closing, ClosingRecord, Compressor, Digest, Encoding, FileName, Inline, LinkEstimate, Manifest, SendPlan,
    StoredTransfer, TransferId, Verdict,
    broker::{Broker, code},
    header,
};
use tokio::sync::watch;

use crate::{
    ProducerError, Progress, SendOptions, Sent, SentStatus,
    attempt::Attempt,
    chunks::Chunks,
    cutter::{Buffers, cut},
    patience::Patience,
    prepare::digest,
    producer::Link,
    source::{Source, Version},
};

/// Sources that agree in name, size and mtime and differ in their bytes are told apart by a number; nobody has so many.
const MOST_REVISIONS: u32 = 1_000;

/// One call of a `send_…` method.
pub(crate) struct Upload {
    pub(crate) broker: Broker,
    pub(crate) link: Link,
    pub(crate) options: SendOptions,
    pub(crate) progress: watch::Sender<Progress>,
}

/// A source whose first bytes were read already.
struct Input {
    head: Bytes,
    rest: Source,
    /// Whether the head is all there is.
    whole: bool,
}

/// What came of opening a transfer.
enum Opening {
    /// It is new.
    New,
    /// There is one of this id.
    Known(Box<StoredTransfer>),
    /// There is something of this id that cannot be read.
    Unreadable,
}

/// Runs blocking work off the runtime.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Blocking work is only cancelled when the runtime goes away, and this task with it.
            Err(_) => std::future::pending().await,
        },
    }
}

impl Input {
    fn reader(self) -> impl Read + Send + 'static {
        Cursor::new(self.head).chain(self.rest)
    }

    /// Whether these bytes have this size and digest.
    async fn has(self, size: u64, expected: Digest) -> io::Result<bool> {
        let mut reader = self.reader();
        let found = blocking(move || digest(&mut reader, expected.algorithm())).await?;
        Ok(found == (size, expected))
    }

    /// A second reader over the same bytes; `None` where they can be read only once.
    fn again(&self) -> Option<Self> {
        match self.rest.again() {
            Some(rest) => Some(Self { head: Bytes::new(), rest, whole: false }),
            None if self.whole => {
                let head = self.head.clone();
                Some(Self { head: head.clone(), rest: Source::Bytes(Bytes::new()), whole: true })
            }
            None => None,
        }
    }
}

impl Upload {
    pub(crate) async fn run(self, source: Source) -> Result<Sent, ProducerError> {
        let name = self.options.name.clone().ok_or(ProducerError::NoName)?;
        let path = source.path(&name);
        let version = source.version();
        let link = self.link.estimate(&self.broker).await?;
        let template = self.template(&name, version, link)?;
        let chunk_size = template.chunk_size.bytes() as usize;
        let mut input = self
            .read_head(source, chunk_size)
            .await
            .map_err(|source| ProducerError::Read { path: path.clone(), source })?;
        for revision in 0..MOST_REVISIONS {
            let given = self.options.transfer.filter(|_| revision == 0);
            let transfer = match given.or_else(|| input.rest.transfer_id(&template.channel, &name, revision)) {
                Some(transfer) => transfer,
                None if revision == 0 => {
                    TransferId::random().map_err(|source| ProducerError::Read { path: path.clone(), source })?
                }
                None => {
                    return Err(ProducerError::IdTaken {
                        transfer: self.options.transfer.unwrap_or(template.transfer),
                    });
                }
            };
            let mut manifest = template.clone();
            manifest.transfer = transfer;
            let attempt =
                Attempt::new(transfer).map_err(|source| ProducerError::Read { path: path.clone(), source })?;
            let patience = Patience::new(transfer, self.options.stall_timeout);
            let again = input.again();
            match self.send_as(manifest, input, &attempt, &patience, &path).await? {
                Some(sent) => return Ok(sent),
                // Another transfer has this id: the next revision.
                None => input = again.ok_or(ProducerError::IdTaken { transfer })?,
            }
        }
        Err(ProducerError::IdTaken { transfer: template.transfer })
    }

    /// What every revision's manifest has.
    fn template(
        &self,
        name: &FileName,
        version: Option<Version>,
        link: LinkEstimate,
    ) -> Result<Manifest, ProducerError> {
        let options = &self.options;
        let chunk_size = options.chunk_size.choose(link, self.broker.max_payload())?;
        let nobody = TransferId::derive(&options.channel, name, b"", 0);
        let mut manifest = Manifest::new(nobody, options.channel.clone(), name.clone(), chunk_size);
        manifest.size = version.map(|version| version.size);
        manifest.mtime = version.and_then(|version| version.mtime);
        manifest.mode = version.and_then(|version| version.mode);
        manifest.digest_algorithm = options.digest;
        manifest.metadata = options.metadata.clone();
        let guessed = || mime_guess::from_path(name.as_str()).first_raw().map(str::to_owned);
        manifest.media_type = options.media_type.clone().or_else(guessed);
        Ok(manifest)
    }

    /// Reads the source's first bytes, where it may be small enough for one message.
    async fn read_head(&self, mut source: Source, chunk_size: usize) -> io::Result<Input> {
        if source.version().is_some_and(|version| version.size > chunk_size as u64) {
            return Ok(Input { head: Bytes::new(), rest: source, whole: false });
        }
        blocking(move || {
            // One byte more than a chunk tells whether there is more.
            let head = cut(&mut source, chunk_size + 1, &Buffers::default())?.unwrap_or_default().freeze();
            let whole = head.len() <= chunk_size;
            Ok(Input { head, rest: source, whole })
        })
        .await
    }

    /// Sends the source as this transfer; `None` if the id belongs to other bytes.
    async fn send_as(
        &self,
        manifest: Manifest,
        input: Input,
        attempt: &Attempt,
        patience: &Patience,
        path: &std::path::Path,
    ) -> Result<Option<Sent>, ProducerError> {
        if input.whole && manifest.size.is_none_or(|size| size == input.head.len() as u64) {
            let (manifest, payload) = self.inline(manifest.clone(), input.head.clone()).await;
            if fits(&manifest, payload.len(), self.broker.max_payload())? {
                let crc32 = (header::CRC32, format!("{:08x}", crc32fast::hash(&input.head)));
                match self.open(&manifest, payload.clone(), vec![crc32], attempt, patience).await? {
                    Opening::New => return Ok(Some(sent_inline(&manifest, &payload, SentStatus::Sent))),
                    Opening::Known(stored) => return self.go_on(*stored, input, attempt, patience, path).await,
                    Opening::Unreadable => return Ok(None),
                }
            }
        }
        match self.open(&manifest, Bytes::new(), Vec::new(), attempt, patience).await? {
            Opening::New => {
                let chunks = Chunks { upload: self, manifest: &manifest, attempt, patience, path };
                let looked_at = input.rest.again();
                chunks.send(SendPlan::new(&manifest), input.reader(), looked_at).await.map(Some)
            }
            Opening::Known(stored) => self.go_on(*stored, input, attempt, patience, path).await,
            Opening::Unreadable => Ok(None),
        }
    }

    /// Deals with a transfer that the stream knows already.
    async fn go_on(
        &self,
        stored: StoredTransfer,
        input: Input,
        attempt: &Attempt,
        patience: &Patience,
        path: &std::path::Path,
    ) -> Result<Option<Sent>, ProducerError> {
        let unreadable = |source| ProducerError::Read { path: path.into(), source };
        let manifest = stored.manifest.clone();
        if let Some(inline) = manifest.inline {
            let size = manifest.size.unwrap_or(0);
            let unchanged = input.has(size, inline.digest).await.map_err(unreadable)?;
            let subject = self.broker.subjects().open(&manifest.channel, manifest.transfer);
            let message = self.broker.last_message(self.broker.stream().control(), &subject).await?;
            let payload = message.map(|message| message.payload).unwrap_or_default();
            return Ok(unchanged.then(|| sent_inline(&manifest, &payload, SentStatus::Unchanged)));
        }
        match stored.verdict() {
            Verdict::Abandon => Ok(None),
            Verdict::Whole { totals } => {
                let unchanged = input.has(totals.size, totals.digest).await.map_err(unreadable)?;
                Ok(unchanged.then_some(Sent {
                    transfer: manifest.transfer,
                    channel: manifest.channel,
                    name: manifest.name,
                    size: totals.size,
                    chunks: totals.chunks,
                    stored_bytes: totals.stored_bytes,
                    published_chunks: 0,
                    published_bytes: 0,
                    resumed_from: totals.size,
                    digest: totals.digest,
                    status: SentStatus::Unchanged,
                }))
            }
            Verdict::Resume => {
                let rereadable = input.again().is_some();
                let looked_at = input.rest.again();
                let chunks = Chunks { upload: self, manifest: &manifest, attempt, patience, path };
                match chunks.send(SendPlan::resume(stored), input.reader(), looked_at).await {
                    Ok(sent) => Ok(Some(sent)),
                    // Stored from other bytes: that transfer is cancelled, this source gets the next revision.
                    Err(ProducerError::SourceChanged { source: Some(_), .. }) if rereadable => Ok(None),
                    Err(error) => Err(error),
                }
            }
        }
    }

    /// The manifest and payload of a file that travels in one message.
    async fn inline(&self, mut manifest: Manifest, head: Bytes) -> (Manifest, Bytes) {
        let (compression, algorithm) = (self.options.compression, manifest.digest_algorithm);
        let size = head.len() as u64;
        let (digest, encoding, payload) = blocking(move || {
            let digest = algorithm.digest(&head);
            match Compressor::new(compression).compress(&head) {
                Some((encoding, payload)) => (digest, encoding, payload.into()),
                None => (digest, Encoding::Identity, head),
            }
        })
        .await;
        manifest.size = Some(size);
        manifest.inline = Some(Inline { encoding, digest });
        (manifest, payload)
    }

    /// Publishes the manifest, unless there is one: the server compares, so that two runs cannot both open a transfer.
    async fn open(
        &self,
        manifest: &Manifest,
        payload: Bytes,
        mut headers: Vec<(&'static str, String)>,
        attempt: &Attempt,
        patience: &Patience,
    ) -> Result<Opening, ProducerError> {
        let Manifest { transfer, channel, .. } = manifest;
        let record = manifest.to_header().map_err(|source| ProducerError::Manifest { transfer: *transfer, source })?;
        headers.extend([
            (header::MANIFEST, record),
            (header::EXPECTED_LAST_SUBJECT_SEQUENCE, "0".into()),
            attempt.open(),
        ]);
        let subject = self.broker.subjects().open(channel, *transfer);
        let opened = patience
            .until(|| {
                let publish = self.broker.publish_first(subject.clone(), &headers, payload.clone());
                publish.map(|published| match published {
                    Ok(_) => Ok(true),
                    Err(error) if error.is(code::WRONG_LAST_SEQUENCE) => Ok(false),
                    Err(error) => Err(error),
                })
            })
            .await?;
        if opened {
            return Ok(Opening::New);
        }
        let stored = patience.until(|| self.broker.stored_transfer(channel, *transfer)).await?;
        Ok(stored.map_or(Opening::Unreadable, |stored| Opening::Known(Box::new(stored))))
    }

    /// Publishes a closing record: behind the chunks, and again for lists.
    pub(crate) async fn close(
        &self,
        manifest: &Manifest,
        closing: Closing,
        attempt: &Attempt,
        patience: &Patience,
    ) -> Result<(), ProducerError> {
        let Manifest { transfer, channel, .. } = manifest;
        let record = ClosingRecord::new(*transfer, closing).to_header();
        let record = record.map_err(|source| ProducerError::Manifest { transfer: *transfer, source })?;
        let subjects = self.broker.subjects();
        for (kind, subject) in
            [("data", subjects.data(channel, *transfer)), ("close", subjects.close(channel, *transfer))]
        {
            let headers = [(header::CLOSING, record.clone()), attempt.closing(kind)];
            patience.until(|| self.broker.publish_first(subject.clone(), &headers, Bytes::new())).await?;
        }
        Ok(())
    }
}

/// Whether a file fits in its manifest's message.
fn fits(manifest: &Manifest, payload: usize, max_payload: usize) -> Result<bool, ProducerError> {
    /// Of the other headers, which are of fixed lengths.
    const OTHER_HEADERS: usize = 512;
    let record =
        manifest.to_header().map_err(|source| ProducerError::Manifest { transfer: manifest.transfer, source })?;
    Ok(record.len() + OTHER_HEADERS + payload <= max_payload)
}

fn sent_inline(manifest: &Manifest, payload: &Bytes, status: SentStatus) -> Sent {
    let size = manifest.size.unwrap_or(0);
    let Manifest { transfer, channel, name, inline, digest_algorithm, .. } = manifest.clone();
    let published = status == SentStatus::Sent;
    Sent {
        transfer,
        channel,
        name,
        size,
        chunks: 0,
        stored_bytes: payload.len() as u64,
        published_chunks: 0,
        published_bytes: if published { payload.len() as u64 } else { 0 },
        resumed_from: if published { 0 } else { size },
        digest: inline.map_or_else(|| digest_algorithm.digest(b""), |inline| inline.digest),
        status,
    }
}
