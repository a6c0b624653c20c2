//! One source on its way into the stream: which transfer it is, and what of it is stored already.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use natsfer_common::{
    ALWAYS_INLINE, ChunkSize, Closing, Compression, FileName, Inline, LinkEstimate, MOST_STORED, Manifest,
    StoredTransfer, Totals, TransferId, Verdict,
    broker::{Broker, BrokerError, Discard, Pacer, Stored, code},
    header,
};
use tokio::sync::watch;

use crate::{
    ProducerError, Progress, SendOptions, Sent, SentStatus,
    attempt::Attempt,
    chunks::{Chunks, Outcome},
    closing::MOST_LOOKS,
    cutter::Buffers,
    inline_file::InlineFile,
    input::Input,
    lanes::Lanes,
    patience::Patience,
    source::{Source, Version},
    suitability::{MessageRoom, ensure_found, ensure_suitable},
    tombstone::Tombstone,
    turns::Turns,
};

/// Sources that agree in name, size and mtime and differ in their bytes are told apart by a number; nobody has so many.
pub(crate) const MOST_REVISIONS: u32 = 1_000;

/// What a source of unknown length is taken for when the line is measured, in bytes.
const UNKNOWN_SIZE: u64 = 1 << 20;

/// How often a transfer may be lost from the stream while it is sent, manifest and all.
const MOST_LOSSES: u32 = 3;

/// How often a limit for messages may show that is lower than was known.
const MOST_SHRINKS: u32 = 12;

/// How often chunks may be pushed out of a stream that discards what is old, before another try would only push out more.
const MOST_PUSHED_OUT: u32 = 2;

/// One call of a `send_…` method.
pub(crate) struct Upload {
    /// For everything but chunks.
    pub(crate) broker: Broker,
    pub(crate) lanes: Lanes,
    pub(crate) buffers: Buffers,
    pub(crate) pacer: Pacer,
    pub(crate) turns: Turns,
    pub(crate) options: SendOptions,
    pub(crate) progress: watch::Sender<Progress>,
}

/// What came of opening a transfer.
enum Opening {
    /// It is new, and its manifest is there in the control stream.
    New(u64),
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
        let size = source.version().map_or(UNKNOWN_SIZE, |version| version.size);
        let checking = ensure_suitable(&self.broker);
        let (link, checked) = match source.version() {
            Some(_) if size <= ALWAYS_INLINE.into() => (LinkEstimate::default(), checking.await),
            _ => self.broker.estimate_beside(size, checking).await,
        };
        let suitable = checked?;
        let mut room = suitable.room;
        let version = source.version();
        let mut manifest = self.manifest(&name, version, link, room)?;
        if manifest.mtime.is_none() && source.version().is_some_and(|version| version.modified.is_some()) {
            tracing::warn!("{}: its mtime is beyond what can be sent (year 9999), and is left out", path.display());
        }
        let chunk_size = manifest.chunk_size.bytes() as usize;
        if let Some(size) = version.map(|version| version.size).filter(|size| *size > chunk_size as u64)
            && self.options.compression == Compression::None
        {
            suitable.ensure_fits(size, manifest.chunk_size.count(size))?;
        }
        let mut input = Input::read(source, chunk_size).await.map_err(unreadable)?;
        // A given id is the only one; so is the random one of a source that has none.
        let fixed = match self.options.transfer {
            None if input.source().transfer_id(&manifest.channel, &name, 0).is_none() => {
                Some(TransferId::random().map_err(unreadable)?)
            }
            given => given,
        };
        let (mut revision, mut losses, mut shrinks) = (0, 0, 0);
        while revision < MOST_REVISIONS {
            // It may have shown meanwhile that less is taken.
            manifest.chunk_size = self.chunk_size(link, room)?;
            let derived = input.source().transfer_id(&manifest.channel, &name, revision);
            let transfer = fixed.or(derived).unwrap_or(manifest.transfer);
            manifest.transfer = transfer;
            let attempt = Attempt::new(transfer).map_err(unreadable)?;
            let patience = Patience::new(self.broker.clone(), transfer, self.options.stall_timeout);
            let again = input.again();
            let _turn = self.turns.take(transfer).await;
            input = match (self.send_as(manifest.clone(), input, &attempt, &patience, &path, room).await, again) {
                (Ok(Some(sent)), _) => return Ok(sent),
                // Another transfer has this id: the next revision.
                (Ok(None), Some(again)) if fixed.is_none() => {
                    revision += 1;
                    again
                }
                (Ok(None), _) => return Err(ProducerError::IdTaken { transfer }),
                (Err(ProducerError::Broker(error)), Some(again)) if error.is_too_large() && shrinks < MOST_SHRINKS => {
                    shrinks += 1;
                    room = room.with_smaller_inline(&error);
                    again
                }
                (Err(ProducerError::ChunksTooLarge { given: false, source, .. }), Some(again))
                    if shrinks < MOST_SHRINKS =>
                {
                    shrinks += 1;
                    revision += 1;
                    room = room.with_smaller_chunks(&source);
                    again
                }
                (Err(ProducerError::Removed { .. } | ProducerError::Lost { .. }), Some(again))
                    if losses < MOST_LOSSES =>
                {
                    tracing::warn!(%transfer, "it was removed, or the stream has lost it or was made anew: beginning anew");
                    losses += 1;
                    again
                }
                (Err(error @ ProducerError::Removed { .. }), _) => {
                    // Nobody would ever find them.
                    self.clear(transfer).await;
                    return Err(error);
                }
                (Err(error), _) => return Err(error),
            };
        }
        Err(ProducerError::IdTaken { transfer: manifest.transfer })
    }

    /// The manifest, but for its id, which depends on what is stored already.
    fn manifest(
        &self, name: &FileName, version: Option<Version>, link: LinkEstimate, room: MessageRoom,
    ) -> Result<Manifest, ProducerError> {
        let options = &self.options;
        let chunk_size = self.chunk_size(link, room)?;
        let nobody = TransferId::derive(&options.channel, name, b"", 0);
        let mut manifest = Manifest::new(nobody, options.channel.clone(), name.clone(), chunk_size);
        manifest.size = version.map(|version| version.size);
        manifest.mtime = version.and_then(|version| version.mtime());
        manifest.mode = version.and_then(|version| version.mode);
        manifest.digest_algorithm = options.digest;
        manifest.metadata = options.metadata.clone();
        let guessed = || mime_guess::from_path(name.as_str()).first_raw().map(str::to_owned);
        manifest.media_type = options.media_type.clone().or_else(guessed);
        Ok(manifest)
    }

    fn chunk_size(&self, link: LinkEstimate, room: MessageRoom) -> Result<ChunkSize, ProducerError> {
        Ok(self.options.chunk_size.choose(link, self.broker.max_payload().min(room.chunk))?)
    }

    /// Sends the source as this transfer; `None` if the id belongs to other bytes.
    async fn send_as(
        &self, manifest: Manifest, input: Input, attempt: &Attempt, patience: &Patience, path: &Path, room: MessageRoom,
    ) -> Result<Option<Sent>, ProducerError> {
        let mut inline = None;
        if let Some(raw) = input.whole().cloned()
            && manifest.size.is_none_or(|size| size == raw.len() as u64)
        {
            let most = self.broker.max_payload().min(MOST_STORED as usize).min(room.inline);
            inline = InlineFile::new(manifest.clone(), raw, self.options.compression, most).await;
        }
        let opening = match &inline {
            Some(file) => self.open(&file.manifest, file.payload.clone(), &file.headers(attempt), patience).await?,
            None => self.open(&manifest, Bytes::new(), &opening_headers(&manifest, attempt)?, patience).await?,
        };
        if let Opening::Known(stored) = &opening
            && stored.manifest.name != manifest.name
        {
            let (transfer, name) = (manifest.transfer, stored.manifest.name.clone());
            // A derived id depends on the name: what somebody else has put there is passed over.
            return self.options.transfer.map_or(Ok(None), |_| Err(ProducerError::OtherName { transfer, name }));
        }
        let stored = match (opening, inline) {
            (Opening::Unreadable, _) => return Ok(None),
            (Opening::New(sequence), Some(file)) => {
                ensure_found(&self.broker, &file.manifest, sequence, self.options.evidence).await?;
                return Ok(Some(file.sent(sequence)));
            }
            (Opening::New(sequence), None) => StoredTransfer::new(manifest, sequence),
            (Opening::Known(stored), Some(file)) if stored.manifest.inline.is_some() => {
                return Box::pin(self.renew_inline(&stored, file, attempt, patience)).await;
            }
            (Opening::Known(stored), None) if stored.manifest.inline.is_some() => {
                let unreadable = |source| ProducerError::Read { path: path.into(), source };
                let (size, inline) = (stored.manifest.size.unwrap_or(0), stored.manifest.inline);
                let Some(Inline { digest, .. }) = inline else { return Ok(None) };
                let totals = Totals { chunks: 0, size, stored_bytes: 0, digest };
                // Small enough when it was sent, and not now.
                let same = input.has(size, digest).await.map_err(unreadable)?;
                return Ok(same.then(|| Sent::before(&stored.manifest, totals, stored.sequence)));
            }
            (Opening::Known(stored), _) => *stored,
        };
        let transfer = stored.manifest.transfer;
        // Large, and not there for small files: every move of a send would move room for it.
        let sent = Box::pin(self.send_chunks(stored, input, patience, path)).await;
        match &sent {
            Err(ProducerError::Cancelled { transfer, .. }) => self.clear(*transfer).await,
            Err(ProducerError::Broker(why @ BrokerError::NeverFits { .. })) => {
                self.take_back_whole(transfer, why).await;
            }
            _ => {}
        }
        sent
    }

    /// Removes what this run has published of a transfer since somebody cancelled or removed it. Best effort: this user may not be
    /// allowed to.
    async fn clear(&self, transfer: TransferId) {
        let tombstone = Tombstone { broker: &self.broker, channel: &self.options.channel, transfer };
        if let Err(error) = tombstone.clear().await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(%transfer, error, "it was taken back, and chunks of it may stay in the stream");
        }
    }

    /// Goes on with what the stream holds of a transfer in chunks, until it is whole; `None` if the id belongs to other bytes.
    async fn send_chunks(
        &self, mut stored: StoredTransfer, mut input: Input, patience: &Patience, path: &Path,
    ) -> Result<Option<Sent>, ProducerError> {
        let unreadable = |source| ProducerError::Read { path: path.into(), source };
        let Manifest { transfer, channel, .. } = stored.manifest.clone();
        let mut pushed_out = 0;
        for _ in 0..MOST_LOOKS {
            let again = input.again();
            match stored.verdict() {
                Verdict::Abandon => {
                    if !matches!(stored.closing(), Some(Closing::Cancelled { .. })) {
                        // Nobody can put it together: receivers are told, and get it under another id.
                        let reason = "what is stored of it contradicts itself; it was sent again".to_owned();
                        Tombstone { broker: &self.broker, channel: &channel, transfer }.place(reason).await?;
                    }
                    return Ok(None);
                }
                Verdict::Repair { totals } => {
                    let source =
                        again.as_ref().and_then(Input::again).ok_or(ProducerError::NotRepairable { transfer })?;
                    if !source.has(totals.size, totals.digest).await.map_err(unreadable)? {
                        return Ok(None);
                    }
                }
                Verdict::Whole { .. } | Verdict::Resume => {}
            }
            // Of its own each time: what was acknowledged to the last one may be gone, and is to be stored again.
            let attempt = Attempt::new(transfer).map_err(unreadable)?;
            let looked_at = input.source().again();
            let chunks = Chunks::new(self, &attempt, patience, path);
            match chunks.send(stored, input.reader(), looked_at).await? {
                Outcome::Sent(sent) => return Ok(Some(*sent)),
                Outcome::Foreign => return Ok(None),
                Outcome::LookAgain if self.pushes_out().await => {
                    pushed_out += 1;
                    if pushed_out >= MOST_PUSHED_OUT {
                        return Err(ProducerError::PushedOut { transfer });
                    }
                }
                Outcome::LookAgain => {}
                Outcome::TooLarge(source) => {
                    let given = self.options.transfer.is_some();
                    if !given && again.is_some() {
                        // It stands in nobody's way: what is sent now has another id.
                        if let Err(error) = self.take_back_chunks(transfer, &source).await {
                            tracing::warn!(%transfer, %error, "what was sent of it before could not be taken back");
                        }
                    }
                    return Err(ProducerError::ChunksTooLarge { transfer, given, source });
                }
            }
            tracing::info!(%transfer, "the stream holds something else than was sent: looking again");
            stored = match self.broker.stored_transfer(&channel, transfer).await? {
                Some(stored) => stored,
                // The manifest, too: somebody removed it, or the stream was recreated, or came back from an older disk.
                None => return Err(ProducerError::Removed { transfer }),
            };
            if let Some(Closing::Cancelled { reason }) = stored.closing() {
                return Err(ProducerError::Cancelled { transfer, reason: reason.clone() });
            }
            input = match again {
                Some(again) => again,
                None => return Err(self.lose(&stored, &attempt).await),
            };
        }
        Err(ProducerError::Lost { transfer })
    }

    /// Says that what is stored is not what was sent, where the source can be read only once. If this run has listed the transfer as
    /// complete, it is taken back: receivers would wait for a sender that nobody can be.
    async fn lose(&self, stored: &StoredTransfer, attempt: &Attempt) -> ProducerError {
        let Manifest { transfer, ref channel, .. } = stored.manifest;
        let lost = ProducerError::Lost { transfer };
        if matches!(stored.verdict(), Verdict::Whole { .. }) {
            return lost;
        }
        let reason = "the stream does not hold what was sent of it, and its source can be read only once".to_owned();
        match (Tombstone { broker: &self.broker, channel, transfer }).place_over(attempt, reason.clone()).await {
            Ok(true) => ProducerError::Cancelled { transfer, reason },
            Ok(false) => lost,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(%transfer, error, "it may be listed as complete: `natsfer-producer cancel` takes it back");
                lost
            }
        }
    }

    /// Whether the data stream removes what is old to take what is new.
    async fn pushes_out(&self) -> bool {
        let pair = self.broker.stream_pair(Duration::MAX).await;
        pair.data_capacity().is_some_and(|most| most.discard == Discard::Old)
    }

    /// Fails as for a full stream where the control stream has too little left for what receivers are to say; and for good where the
    /// message can never fit.
    async fn ensure_room_to_open(&self, bytes: u64) -> Result<(), BrokerError> {
        if self.broker.has_room_to_open(bytes).await {
            return Ok(());
        }
        let pair = self.broker.stream_pair(Duration::MAX).await;
        pair.control_capacity().map_or(Ok(()), |most| most.ensure_fits(bytes, 1))?;
        let description = "the control stream keeps its last quarter for what receivers say".to_owned();
        Err(BrokerError::Refused { what: "opening a transfer".into(), code: code::STREAM_FULL[0], description })
    }

    /// Takes back what was published of a file that can never be stored whole, so that it holds nobody up.
    async fn take_back_whole(&self, transfer: TransferId, why: &BrokerError) {
        let broker = &self.broker.without_waiting_for_room();
        let tombstone = Tombstone { broker, channel: &self.options.channel, transfer };
        match tombstone.place(why.to_string()).await {
            Ok(()) => self.clear(transfer).await,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(%transfer, error, "what is stored of it stays: `natsfer-producer cancel` removes it");
            }
        }
    }

    /// Takes back a transfer whose chunks are larger than is taken now, so that its source can be sent as another one.
    async fn take_back_chunks(&self, transfer: TransferId, why: &BrokerError) -> Result<(), ProducerError> {
        tracing::warn!(%transfer, "its chunks are too large now: it is taken back, and sent anew in smaller ones: {why}");
        let reason = "its chunks are larger than the server takes now; it was sent again in smaller ones".to_owned();
        Tombstone { broker: &self.broker, channel: &self.options.channel, transfer }.place(reason).await?;
        self.clear(transfer).await;
        Ok(())
    }

    /// Deals with a small file that is there already: one that is stored damaged, or that a receiver has asked for since, is
    /// published again.
    async fn renew_inline(
        &self, stored: &StoredTransfer, file: InlineFile, attempt: &Attempt, patience: &Patience,
    ) -> Result<Option<Sent>, ProducerError> {
        let Some(inline) = stored.manifest.inline else { return Ok(None) };
        if Some(inline.digest) != file.manifest.inline.map(|inline| inline.digest) {
            return Ok(None);
        }
        let Manifest { transfer, channel, .. } = &stored.manifest;
        let subject = self.broker.subjects().open(channel, *transfer);
        let headers = file.headers(attempt);
        for _ in 0..MOST_LOOKS {
            let message = self.broker.latest_message(self.broker.stream().control(), &subject).await?;
            let Some(message) = message else { return Err(ProducerError::Removed { transfer: *transfer }) };
            let sound = inline.decode(&stored.manifest, message.payload.clone(), message.header(header::CRC32)).is_ok();
            if sound && !self.is_asked_for(&stored.manifest, message.stored_at).await? {
                let (size, digest) = (stored.manifest.size.unwrap_or(0), inline.digest);
                let totals = Totals { chunks: 0, size, stored_bytes: message.payload.len() as u64, digest };
                return Ok(Some(Sent::before(&stored.manifest, totals, message.sequence)));
            }
            let publish =
                || self.broker.publish_behind(subject.clone(), &headers, file.payload.clone(), message.sequence);
            // Otherwise somebody else has repaired it, or removed it.
            if let Some(Stored { sequence, .. }) = patience.until(publish).await? {
                return Ok(Some(Sent { status: SentStatus::Repaired, ..file.sent(sequence) }));
            }
        }
        Err(ProducerError::Lost { transfer: *transfer })
    }

    /// Whether a receiver has asked for a small file since it was stored: what is sound here may be damaged on the replica that
    /// served the receiver.
    async fn is_asked_for(&self, manifest: &Manifest, stored_at: Timestamp) -> Result<bool, ProducerError> {
        let Manifest { transfer, channel, .. } = manifest;
        match self.broker.asked_since(channel, *transfer, stored_at).await {
            Ok(receivers) => Ok(!receivers.is_empty()),
            Err(BrokerError::Denied { violation, .. }) => {
                tracing::warn!(%transfer, "requests for repair are not looked at: {violation}");
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Publishes the manifest, unless there is one: the server compares, so that two runs cannot both open a transfer.
    async fn open(
        &self, manifest: &Manifest, payload: Bytes, headers: &[(&'static str, String)], patience: &Patience,
    ) -> Result<Opening, ProducerError> {
        let Manifest { transfer, channel, .. } = manifest;
        let subject = self.broker.subjects().open(channel, *transfer);
        let _share = if payload.is_empty() { None } else { Some(self.broker.reserve(payload.len()).await) };
        let bytes = payload.len() + headers.iter().map(|(_, value)| value.len()).sum::<usize>();
        let publish = async || {
            self.pacer.pass(payload.len()).await;
            self.ensure_room_to_open(bytes as u64).await?;
            self.broker.publish_once(subject.clone(), headers, payload.clone()).await
        };
        let opened = patience.until(publish).await?;
        if let Some(Stored { sequence, .. }) = opened {
            return Ok(Opening::New(sequence));
        }
        let stored = Box::pin(self.broker.stored_transfer(channel, *transfer)).await?;
        Ok(stored.map_or(Opening::Unreadable, |stored| Opening::Known(Box::new(stored))))
    }
}

/// The headers of a manifest that has its message for itself.
fn opening_headers(manifest: &Manifest, attempt: &Attempt) -> Result<[(&'static str, String); 2], ProducerError> {
    let transfer = manifest.transfer;
    let record = manifest.to_header().map_err(|source| ProducerError::Manifest { transfer, source })?;
    Ok([(header::MANIFEST, record), attempt.open()])
}
