//! Publishing one transfer's chunks within a window of bytes, and closing it.

use std::{
    io,
    path::Path,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{
    FutureExt, StreamExt,
    future::{Fuse, FusedFuture},
    stream::FuturesUnordered,
};
use natsfer_common::{
    AcknowledgedChunk, Closing, Digest, Ending, Manifest, SendError, SendPlan, StoredTransfer, blocking,
    broker::{BrokerError, Discard, Stored},
    header,
    metrics::{PUBLISH_SECONDS, PUBLISHED_BYTES, PUBLISHED_CHUNKS},
};
use tokio::{sync::watch, time::Instant};

use crate::{
    ProducerError, Sent, SentStatus,
    attempt::Attempt,
    closing::End,
    lanes::Place,
    patience::Patience,
    prepare::{Preparation, Prepared, Preparing, SharedPlan},
    recovery::Recovery,
    source::Source,
    suitability::Growth,
    upload::Upload,
};

/// How often to look whether the transfer has ended, while chunks are published: nothing else tells before the close. Less often where
/// looking takes long, so that it takes no more than this part of the time.
const LOOK_EVERY: Duration = Duration::from_secs(5);
const LOOKING: u32 = 10;
const LOOK_AT_LEAST_EVERY: Duration = Duration::from_secs(60);

/// How the streams are set up is looked at no more often.
const MOMENT: Duration = Duration::from_secs(60);

/// Everything that sending one transfer's chunks needs.
pub(crate) struct Chunks<'a> {
    upload: &'a Upload,
    attempt: &'a Attempt,
    patience: &'a Patience,
    path: &'a Path,
    recovery: Recovery,
    /// Whether the first chunk is stored, which expects to be the first one.
    begun: watch::Sender<bool>,
}

/// What came of sending.
pub(crate) enum Outcome {
    /// The transfer is whole and closed.
    Sent(Box<Sent>),
    /// What is stored was cut from other bytes, perhaps by a run that goes on: it is left alone.
    Foreign,
    /// The stream does not hold what it acknowledged, or something else besides: look again, and go on from there.
    LookAgain,
    /// Its chunks are larger than is taken now.
    TooLarge(BrokerError),
}

impl<'a> Chunks<'a> {
    pub(crate) fn new(upload: &'a Upload, attempt: &'a Attempt, patience: &'a Patience, path: &'a Path) -> Self {
        Self { upload, attempt, patience, path, recovery: Recovery::default(), begun: watch::Sender::new(false) }
    }

    /// Publishes what is missing of what the stream holds, and closes. `looked_at` is the source, to see whether it changed
    /// meanwhile.
    pub(crate) async fn send(
        &self, stored: StoredTransfer, reader: impl io::Read + Send + 'static, looked_at: Option<Source>,
    ) -> Result<Outcome, ProducerError> {
        let (manifest, sequence, closed) = (stored.manifest.clone(), stored.sequence, stored.closing().is_some());
        let plan = Arc::new(Mutex::new(SendPlan::resume(stored)));
        // Of what another run completes meanwhile nothing more is published; but what can be read only once is read to its end.
        let watch = if closed || looked_at.is_none() { Watch::Removal } else { Watch::End };
        let Published { digest, seen } = match self.publish_all(&manifest, &plan, reader, watch).await {
            Ok(published) => published,
            Err(Stop::Foreign) => return Ok(Outcome::Foreign),
            Err(Stop::LookAgain) => return Ok(Outcome::LookAgain),
            Err(Stop::Failed(ProducerError::Broker(error))) if error.is_too_large() => {
                return Ok(Outcome::TooLarge(error));
            }
            Err(Stop::Failed(error)) => return Err(error),
        };
        let unreadable = |source| ProducerError::Read { path: self.path.into(), source };
        // The preparing thread has ended: nobody else holds the plan, and nobody else would offer to it.
        let plan = match Arc::try_unwrap(plan) {
            Ok(plan) => plan.into_inner().unwrap_or_else(PoisonError::into_inner),
            Err(_) => return Err(unreadable(io::Error::other("the preparing thread did not end"))),
        };
        let (published, resumed_from) = (plan.published(), plan.resumed_from());
        let acknowledged = plan.last_sequence();
        let ending = plan.close(digest);
        let changed = match looked_at {
            // What stands closed is what it is, whatever became of the source meanwhile.
            Some(source) if !closed => blocking(move || source.has_changed()).await.map_err(unreadable)?,
            _ => false,
        };
        let (broker, attempt, patience) = (&self.upload.broker, self.attempt, self.patience);
        let end = End { broker, attempt, patience, manifest: &manifest };
        let (totals, status) = match ending {
            _ if changed => return Err(end.cancel(self.path, None).await),
            Ok(Ending::Close(totals)) => {
                if !end.close(totals, acknowledged, seen).await? {
                    return Ok(Outcome::LookAgain);
                }
                (totals, if resumed_from > 0 { SentStatus::Resumed } else { SentStatus::Sent })
            }
            Ok(Ending::Closed(totals)) => {
                end.ensure_listed(totals).await?;
                (totals, if published.chunks > 0 { SentStatus::Repaired } else { SentStatus::Unchanged })
            }
            Err(SendError::SourceChanged { .. } | SendError::ClosedOtherwise { .. }) => return Ok(Outcome::Foreign),
            Err(_) if closed => return Ok(Outcome::Foreign),
            Err(error) => return Err(end.cancel(self.path, Some(error)).await),
        };
        Ok(Outcome::Sent(Box::new(Sent {
            published_chunks: published.chunks,
            published_bytes: published.bytes,
            resumed_from,
            status,
            ..Sent::before(&manifest, totals, sequence)
        })))
    }

    /// Publishes every chunk that is not stored, until the server has acknowledged all of them.
    async fn publish_all(
        &self, manifest: &Manifest, plan: &SharedPlan, reader: impl io::Read + Send + 'static, watch: Watch,
    ) -> Result<Published, Stop> {
        let Upload { broker, lanes, options, progress, buffers, .. } = self.upload;
        let link = broker.estimate(manifest.size.unwrap_or(0)).await;
        let mut prepared = Preparing {
            chunk_size: manifest.chunk_size.bytes() as usize,
            compression: options.compression,
            digest: manifest.digest_algorithm,
            plan: plan.clone(),
            buffers: buffers.clone(),
            lanes: lanes.clone(),
            link,
        }
        .start(reader);
        let lock = || plan.lock().unwrap_or_else(PoisonError::into_inner);
        let unreadable = |source| Stop::Failed(ProducerError::Read { path: self.path.into(), source });
        let mut in_flight = FuturesUnordered::new();
        // Of a transfer that is new, the first chunk is only stored if nothing lies on its subject.
        let mut first = lock().last_sequence() == 0;
        self.begun.send_replace(!first);
        let (mut digest, mut unwanted) = (None, None);
        let mut ended = pin!(self.ended(manifest, watch));
        // A look at what is stored goes beside the last chunks, where none of them can push out others; what is acknowledged since it
        // began is added to it.
        let looks = !lock().is_closed() && broker.stream_pair(Duration::MAX).await.keeps_chunks();
        let (mut looking, mut look) = (pin!(Fuse::terminated()), Look::default());
        loop {
            let reading = digest.is_none() && unwanted.is_none();
            tokio::select! {
                preparation = prepared.recv(), if reading => {
                    match preparation {
                        Some(Preparation::Chunk(chunk)) => {
                            progress.send_modify(|progress| progress.bytes_read += u64::from(chunk.chunk.length));
                            self.recovery.begin(chunk.chunk.index, lock().last_sequence());
                            in_flight.push(self.publish(manifest, plan, chunk, std::mem::take(&mut first)));
                        }
                        Some(Preparation::Stored(length)) => progress.send_modify(|progress| {
                            progress.bytes_read += u64::from(length);
                            progress.bytes_stored += u64::from(length);
                            progress.bytes_found += u64::from(length);
                        }),
                        Some(Preparation::End(found)) => {
                            digest = Some(found);
                            if looks {
                                look.known_to = lock().last_sequence();
                                looking.set(broker.stored_of(manifest).fuse());
                            }
                        }
                        Some(Preparation::Foreign) => return Err(Stop::Foreign),
                        Some(Preparation::Unreadable(source)) => return Err(unreadable(source)),
                        None => return Err(unreadable(io::Error::other("the preparing thread died"))),
                    }
                }
                Some(published) = in_flight.next(), if !in_flight.is_empty() => {
                    let (Prepared { chunk, payload, place }, stored) = published?;
                    self.begun.send_if_modified(|begun| !std::mem::replace(begun, true));
                    self.recovery.end(chunk.index);
                    let (stored_bytes, sequence) = (payload.len() as u64, stored.sequence);
                    lock().acknowledge(chunk.index, stored_bytes, sequence);
                    if digest.is_some() {
                        look.since.push(AcknowledgedChunk { chunk, stored_bytes, sequence });
                    }
                    progress.send_modify(|progress| progress.bytes_stored += u64::from(chunk.length));
                    buffers.give_back(payload);
                    drop(place);
                }
                // It is made again where it fails, and tells then why.
                found = &mut looking, if !looking.is_terminated() => look.found = found.unwrap_or_default(),
                // What is under way is waited for: it may be stored all the same, and is to be removed.
                why = &mut ended, if reading => unwanted = Some(why),
                else => break,
            }
        }
        if let Some(why) = unwanted {
            return Err(why);
        }
        // The channel is empty; its thread drops the plan as it ends.
        while prepared.recv().await.is_some() {}
        let digest = digest.ok_or_else(|| unreadable(io::Error::other("the source has no end")))?;
        Ok(Published { digest, seen: look.complete() })
    }

    /// Fails if all of the transfer can never be in the stream at once, by what was stored of it so far and how the stream was seen,
    /// no longer ago than this. `only` is for streams of this kind.
    async fn ensure_can_fit(
        &self, only: Option<Discard>, plan: &SharedPlan, next: usize, age: Duration,
    ) -> Result<(), BrokerError> {
        let pair = self.upload.broker.stream_pair(age).await;
        let Some(most) = pair.data_capacity().filter(|most| only.is_none_or(|only| only == most.discard)) else {
            return Ok(());
        };
        let published = plan.lock().unwrap_or_else(PoisonError::into_inner).published();
        let growth = {
            let progress = self.upload.progress.borrow();
            let read = progress.bytes_stored.saturating_sub(progress.bytes_found);
            Growth { read, stored: published.bytes, size: progress.size }
        };
        most.ensure_fits(growth.expected(next as u64), published.chunks)
    }

    /// Publishes one chunk until it is stored.
    async fn publish(
        &self, manifest: &Manifest, plan: &SharedPlan, prepared: Prepared, first: bool,
    ) -> Result<(Prepared, Stored), Stop> {
        let Place { broker, .. } = &prepared.place;
        if !first && self.upload.lanes.are_several() {
            // Over another connection it could come before the first one. The sender lives as long as this.
            let _ = self.begun.subscribe().wait_for(|begun| *begun).await;
        }
        let subject = broker.subjects().data(&manifest.channel, manifest.transfer);
        let mut headers = prepared.chunk.to_headers().to_vec();
        headers.push(self.attempt.chunk(&prepared.chunk));
        let payload = &prepared.payload;
        // The epoch in which it was sent last; 0 before that.
        let sent_in = AtomicU64::new(0);
        let publish = || async {
            let (epoch, before) = (broker.epoch(), sent_in.load(Ordering::Relaxed));
            if before != 0
                && before != epoch
                && let Some(stored) = self.recovery.stored(self.upload, manifest, &prepared.chunk).await?
            {
                return Ok(Some(stored));
            }
            sent_in.store(epoch, Ordering::Relaxed);
            self.upload.pacer.pass(payload.len()).await;
            // What is old is pushed out without a word.
            self.ensure_can_fit(Some(Discard::Old), plan, payload.len(), MOMENT).await?;
            let asked = Instant::now();
            let stored = match first {
                true => broker.publish_behind(subject.clone(), &headers, payload.clone(), 0).await,
                false => broker.publish(subject.clone(), &headers, payload.clone()).await.map(Some),
            };
            if let Ok(Some(_)) = stored {
                metrics::counter!(PUBLISHED_CHUNKS).increment(1);
                metrics::counter!(PUBLISHED_BYTES).increment(payload.len() as u64);
                metrics::histogram!(PUBLISH_SECONDS).record(asked.elapsed());
            }
            if stored.as_ref().is_err_and(BrokerError::is_full) {
                self.ensure_can_fit(None, plan, payload.len(), Duration::from_secs(1)).await?;
            }
            stored
        };
        let stored = match self.patience.until(publish).await.map_err(Stop::Failed)? {
            Some(stored) => stored,
            None => {
                let found = self.upload.broker.first_message(&broker.stream().data(), &subject).await;
                let found = found.map_err(|error| Stop::Failed(error.into()))?;
                let id = found.as_ref().and_then(|message| message.header(header::MESSAGE_ID)).unwrap_or_default();
                let sequence = found.as_ref().map_or(0, |message| message.stream_sequence);
                if id == self.attempt.chunk(&prepared.chunk).1 {
                    // The server's word of it was lost, and it knew the id no more when it was tried again.
                    Stored { sequence, duplicate: true }
                } else if self.attempt.has(id) {
                    // Another chunk of this run was stored while this one was refused for a while.
                    let publish = || broker.publish(subject.clone(), &headers, payload.clone());
                    self.patience.until(publish).await.map_err(Stop::Failed)?
                } else {
                    return Err(Stop::LookAgain);
                }
            }
        };
        Ok((prepared, stored))
    }

    /// Waits until nothing more is to be published of the transfer, and says why.
    async fn ended(&self, manifest: &Manifest, watch: Watch) -> Stop {
        let mut rest = LOOK_EVERY;
        loop {
            tokio::time::sleep(rest).await;
            let began = Instant::now();
            let looked = self.look(manifest, watch).await;
            rest = (began.elapsed() * LOOKING).clamp(LOOK_EVERY, LOOK_AT_LEAST_EVERY);
            match looked {
                Ok(None) => {}
                Ok(Some(why)) => return why,
                // If the server is away, publishing says so.
                Err(error) => tracing::debug!(transfer = %manifest.transfer, "not looked at: {error}"),
            }
        }
    }

    async fn look(&self, manifest: &Manifest, watch: Watch) -> Result<Option<Stop>, BrokerError> {
        let (broker, Manifest { transfer, channel, .. }) = (&self.upload.broker, manifest);
        match broker.closing_record_of_leader(channel, *transfer).await?.map(|record| record.closing) {
            Some(Closing::Cancelled { reason }) => {
                return Ok(Some(Stop::Failed(ProducerError::Cancelled { transfer: *transfer, reason })));
            }
            Some(Closing::Complete(_)) if watch == Watch::End => return Ok(Some(Stop::LookAgain)),
            _ => {}
        }
        let opened = broker.opened(channel, *transfer).await?;
        Ok(opened.is_none().then_some(Stop::Failed(ProducerError::Removed { transfer: *transfer })))
    }
}

/// All chunks are published and acknowledged.
struct Published {
    /// The source's digest.
    digest: Digest,
    /// A look at what is stored, completed by the last acknowledgements.
    seen: Option<StoredTransfer>,
}

/// A look at what is stored while the last chunks are on their way.
#[derive(Default)]
struct Look {
    found: Option<StoredTransfer>,
    /// All that was acknowledged before it has no higher sequence.
    known_to: u64,
    since: Vec<AcknowledgedChunk>,
}

impl Look {
    fn complete(self) -> Option<StoredTransfer> {
        self.found?.completed(self.known_to, &self.since)
    }
}

/// What ends the publishing before the source does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watch {
    /// That the transfer was cancelled, or removed.
    Removal,
    /// Also that another run has completed it.
    End,
}

/// Why publishing stopped.
enum Stop {
    /// The source is not what is stored.
    Foreign,
    /// Something lies on the subject of a transfer that was thought new, or another run has completed it.
    LookAgain,
    /// Something failed.
    Failed(ProducerError),
}
