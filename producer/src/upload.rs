//! One source on its way into the stream: which transfer it is, and what of it is stored already.

use std::path::Path;

use bytes::Bytes;
use natsfer_common::{
    Closing, ClosingRecord, Compressor, Encoding, FileName, Inline, LinkEstimate, Manifest, SendPlan, StoredTransfer,
    Totals, TransferId, Verdict, blocking, broker::Broker, header,
};
use tokio::sync::watch;

use crate::{
    ProducerError, Progress, SendOptions, Sent, SentStatus,
    attempt::Attempt,
    chunks::Chunks,
    cutter::Buffers,
    input::Input,
    patience::Patience,
    producer::Link,
    source::{Source, Version},
};

/// Sources that agree in name, size and mtime and differ in their bytes are told apart by a number; nobody has so many.
const MOST_REVISIONS: u32 = 1_000;

/// One call of a `send_…` method.
pub(crate) struct Upload {
    pub(crate) broker: Broker,
    pub(crate) link: Link,
    pub(crate) buffers: Buffers,
    pub(crate) options: SendOptions,
    pub(crate) progress: watch::Sender<Progress>,
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

impl Upload {
    pub(crate) async fn run(self, source: Source) -> Result<Sent, ProducerError> {
        let name = self.options.name.clone().ok_or(ProducerError::NoName)?;
        let path = source.path(&name);
        let unreadable = |source| ProducerError::Read { path: path.clone(), source };
        let link = self.link.estimate(&self.broker).await?;
        let mut manifest = self.manifest(&name, source.version(), link)?;
        let chunk_size = manifest.chunk_size.bytes() as usize;
        let mut input = Input::read(source, chunk_size).await.map_err(unreadable)?;
        // A given id is the only one; so is the random one of a source that has none.
        let fixed = match self.options.transfer {
            None if input.source().transfer_id(&manifest.channel, &name, 0).is_none() => {
                Some(TransferId::random().map_err(unreadable)?)
            }
            given => given,
        };
        for revision in 0..MOST_REVISIONS {
            let derived = input.source().transfer_id(&manifest.channel, &name, revision);
            let transfer = fixed.or(derived).unwrap_or(manifest.transfer);
            manifest.transfer = transfer;
            let attempt = Attempt::new(transfer).map_err(unreadable)?;
            let patience = Patience::new(self.broker.clone(), transfer, self.options.stall_timeout);
            let again = input.again().filter(|_| fixed.is_none());
            match self.send_as(manifest.clone(), input, &attempt, &patience, &path).await? {
                Some(sent) => return Ok(sent),
                // Another transfer has this id: the next revision.
                None => input = again.ok_or(ProducerError::IdTaken { transfer })?,
            }
        }
        Err(ProducerError::IdTaken { transfer: manifest.transfer })
    }

    /// The manifest, but for its id, which depends on what is stored already.
    fn manifest(
        &self, name: &FileName, version: Option<Version>, link: LinkEstimate,
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

    /// Sends the source as this transfer; `None` if the id belongs to other bytes.
    async fn send_as(
        &self, manifest: Manifest, input: Input, attempt: &Attempt, patience: &Patience, path: &Path,
    ) -> Result<Option<Sent>, ProducerError> {
        if let Some(raw) = input.whole().cloned()
            && manifest.size.is_none_or(|size| size == raw.len() as u64)
        {
            let crc32 = (header::CRC32, format!("{:08x}", crc32fast::hash(&raw)));
            let (manifest, payload) = self.inline(manifest.clone(), raw).await;
            if fits(&manifest, payload.len(), self.broker.max_payload())? {
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
                let looked_at = input.source().again();
                chunks.send(SendPlan::new(&manifest), input.reader(), looked_at).await
            }
            Opening::Known(stored) => self.go_on(*stored, input, attempt, patience, path).await,
            Opening::Unreadable => Ok(None),
        }
    }

    /// Deals with a transfer that the stream knows already.
    async fn go_on(
        &self, stored: StoredTransfer, input: Input, attempt: &Attempt, patience: &Patience, path: &Path,
    ) -> Result<Option<Sent>, ProducerError> {
        let unreadable = |source| ProducerError::Read { path: path.into(), source };
        let manifest = stored.manifest.clone();
        if let Some(inline) = manifest.inline {
            let size = manifest.size.unwrap_or(0);
            let unchanged = input.has(size, inline.digest).await.map_err(unreadable)?;
            let subject = self.broker.subjects().open(&manifest.channel, manifest.transfer);
            let control = self.broker.stream().control();
            let message = patience.until(|| self.broker.last_message(control, &subject)).await?;
            let payload = message.map(|message| message.payload).unwrap_or_default();
            return Ok(unchanged.then(|| sent_inline(&manifest, &payload, SentStatus::Unchanged)));
        }
        match stored.verdict() {
            Verdict::Abandon => Ok(None),
            Verdict::Whole { totals } => {
                if !input.has(totals.size, totals.digest).await.map_err(unreadable)? {
                    return Ok(None);
                }
                self.list(&manifest, totals, attempt, patience).await?;
                Ok(Some(sent_before(manifest, totals)))
            }
            Verdict::Resume => {
                let looked_at = input.source().again();
                let chunks = Chunks { upload: self, manifest: &manifest, attempt, patience, path };
                chunks.send(SendPlan::resume(stored), input.reader(), looked_at).await
            }
        }
    }

    /// Makes sure that a whole transfer is listed as such: an earlier run may have died between its two closing records.
    async fn list(
        &self, manifest: &Manifest, totals: Totals, attempt: &Attempt, patience: &Patience,
    ) -> Result<(), ProducerError> {
        let Manifest { transfer, channel, .. } = manifest;
        if patience.until(|| self.broker.closing_record(channel, *transfer)).await?.is_none() {
            self.close(manifest, Closing::Complete(totals), attempt, patience).await?;
        }
        Ok(())
    }

    /// The manifest and payload of a file that travels in one message.
    async fn inline(&self, mut manifest: Manifest, raw: Bytes) -> (Manifest, Bytes) {
        let (compression, algorithm) = (self.options.compression, manifest.digest_algorithm);
        let size = raw.len() as u64;
        let (digest, encoding, payload) = blocking(move || {
            let digest = algorithm.digest(&raw);
            match Compressor::new(compression).compress(&raw) {
                Some((encoding, payload)) => (digest, encoding, payload.into()),
                None => (digest, Encoding::Identity, raw),
            }
        })
        .await;
        manifest.size = Some(size);
        manifest.inline = Some(Inline { encoding, digest });
        (manifest, payload)
    }

    /// Publishes the manifest, unless there is one: the server compares, so that two runs cannot both open a transfer.
    async fn open(
        &self, manifest: &Manifest, payload: Bytes, mut headers: Vec<(&'static str, String)>, attempt: &Attempt,
        patience: &Patience,
    ) -> Result<Opening, ProducerError> {
        let Manifest { transfer, channel, .. } = manifest;
        let record = manifest.to_header().map_err(|source| ProducerError::Manifest { transfer: *transfer, source })?;
        headers.extend([(header::MANIFEST, record), attempt.open()]);
        let subject = self.broker.subjects().open(channel, *transfer);
        let opened = patience.until(|| self.broker.publish_once(subject.clone(), &headers, payload.clone())).await?;
        if opened {
            return Ok(Opening::New);
        }
        let stored = patience.until(|| self.broker.stored_transfer(channel, *transfer)).await?;
        Ok(stored.map_or(Opening::Unreadable, |stored| Opening::Known(Box::new(stored))))
    }

    /// Publishes a closing record: behind the chunks, and again for lists.
    ///
    /// Fails with [`ProducerError::IdTaken`] when another run has ended the transfer otherwise.
    pub(crate) async fn close(
        &self, manifest: &Manifest, closing: Closing, attempt: &Attempt, patience: &Patience,
    ) -> Result<(), ProducerError> {
        let Manifest { transfer, channel, .. } = manifest;
        let record = ClosingRecord::new(*transfer, closing.clone()).to_header();
        let record = record.map_err(|source| ProducerError::Manifest { transfer: *transfer, source })?;
        let subjects = self.broker.subjects();
        let (data, close) = (subjects.data(channel, *transfer), subjects.close(channel, *transfer));
        let headers = [(header::CLOSING, record), attempt.closing()];
        patience.until(|| self.broker.publish(data.clone(), &headers, Bytes::new())).await?;
        // A transfer ends once: the first record stands.
        if patience.until(|| self.broker.publish_once(close.clone(), &headers, Bytes::new())).await? {
            return Ok(());
        }
        let standing = patience.until(|| self.broker.closing_record(channel, *transfer)).await?;
        if standing.is_some_and(|standing| standing.closing != closing) {
            return Err(ProducerError::IdTaken { transfer: *transfer });
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

fn sent_before(manifest: Manifest, totals: Totals) -> Sent {
    let Manifest { transfer, channel, name, .. } = manifest;
    let Totals { chunks, size, stored_bytes, digest } = totals;
    let (published_chunks, published_bytes, status) = (0, 0, SentStatus::Unchanged);
    Sent {
        transfer,
        channel,
        name,
        size,
        chunks,
        stored_bytes,
        published_chunks,
        published_bytes,
        resumed_from: size,
        digest,
        status,
    }
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
