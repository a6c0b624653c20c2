//! Publishing one transfer's chunks within a window of bytes, and closing it.

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use natsfer_common::{Closing, Digest, Manifest, SendError, SendPlan, blocking};
use tokio::time::Instant;

use crate::{
    ProducerError, Sent, SentStatus,
    attempt::Attempt,
    patience::Patience,
    prepare::{Preparation, Prepared, Preparing, SharedPlan},
    source::Source,
    upload::Upload,
};

/// Everything that sending one transfer's chunks needs.
pub(crate) struct Chunks<'a> {
    pub(crate) upload: &'a Upload,
    pub(crate) manifest: &'a Manifest,
    pub(crate) attempt: &'a Attempt,
    pub(crate) patience: &'a Patience,
    pub(crate) path: &'a Path,
}

impl Chunks<'_> {
    /// Publishes what is missing, and closes. `looked_at` is the source, to see whether it changed meanwhile. `None` if
    /// what is stored was cut from other bytes, perhaps by a run that goes on: it is left alone.
    pub(crate) async fn send(
        &self, plan: SendPlan, reader: impl io::Read + Send + 'static, looked_at: Option<Source>,
    ) -> Result<Option<Sent>, ProducerError> {
        let plan = Arc::new(Mutex::new(plan));
        let started = Instant::now();
        let digest = match self.publish_all(&plan, reader).await {
            Ok(digest) => digest,
            Err(Stop::Foreign) => return Ok(None),
            Err(Stop::Failed(error)) => return Err(error),
        };
        let unreadable = |source| ProducerError::Read { path: self.path.into(), source };
        let changed = match looked_at {
            Some(source) => blocking(move || source.has_changed()).await.map_err(unreadable)?,
            None => false,
        };
        if changed {
            return Err(self.cancel(None).await);
        }
        // The preparing thread has ended: nobody else holds the plan, and nobody else would offer to it.
        let plan = match Arc::try_unwrap(plan) {
            Ok(plan) => plan.into_inner().unwrap_or_else(PoisonError::into_inner),
            Err(_) => return Err(unreadable(io::Error::other("the preparing thread did not end"))),
        };
        let (published, resumed_from) = (plan.published(), plan.resumed_from());
        let record = match plan.close(digest) {
            Ok(record) => record,
            Err(SendError::SourceChanged { .. }) => return Ok(None),
            Err(error) => return Err(self.cancel(Some(error)).await),
        };
        let Closing::Complete(totals) = record.closing.clone() else { return Err(self.cancel(None).await) };
        self.upload.close(self.manifest, record.closing, self.attempt, self.patience).await?;
        self.upload.link.note(published.bytes, started.elapsed());
        let Manifest { transfer, channel, name, .. } = self.manifest.clone();
        Ok(Some(Sent {
            transfer,
            channel,
            name,
            size: totals.size,
            chunks: totals.chunks,
            stored_bytes: totals.stored_bytes,
            published_chunks: published.chunks,
            published_bytes: published.bytes,
            resumed_from,
            digest,
            status: if resumed_from > 0 { SentStatus::Resumed } else { SentStatus::Sent },
        }))
    }

    /// Publishes every chunk that is not stored, until the server has acknowledged all of them.
    async fn publish_all(&self, plan: &SharedPlan, reader: impl io::Read + Send + 'static) -> Result<Digest, Stop> {
        let Upload { options, progress, buffers, .. } = self.upload;
        let mut prepared = Preparing {
            chunk_size: self.manifest.chunk_size.bytes() as usize,
            compression: options.compression,
            digest: self.manifest.digest_algorithm,
            plan: plan.clone(),
            buffers: buffers.clone(),
        }
        .start(reader);
        let unreadable = |source| Stop::Failed(ProducerError::Read { path: self.path.into(), source });
        let (mut in_flight, mut in_flight_bytes) = (FuturesUnordered::new(), 0);
        let mut digest = None;
        loop {
            tokio::select! {
                preparation = prepared.recv(), if digest.is_none() && (in_flight.is_empty() || in_flight_bytes < options.window) => {
                    match preparation {
                        Some(Preparation::Chunk(chunk)) => {
                            in_flight_bytes += chunk.payload.len() as u64;
                            progress.send_modify(|progress| progress.bytes_read += u64::from(chunk.chunk.length));
                            in_flight.push(self.publish(chunk));
                        }
                        Some(Preparation::Stored(length)) => progress.send_modify(|progress| {
                            progress.bytes_read += u64::from(length);
                            progress.bytes_stored += u64::from(length);
                        }),
                        Some(Preparation::End(found)) => digest = Some(found),
                        Some(Preparation::Foreign) => return Err(Stop::Foreign),
                        Some(Preparation::Unreadable(source)) => return Err(unreadable(source)),
                        None => return Err(unreadable(io::Error::other("the preparing thread died"))),
                    }
                }
                Some(stored) = in_flight.next(), if !in_flight.is_empty() => {
                    let Prepared { chunk, payload } = stored.map_err(Stop::Failed)?;
                    let bytes = payload.len() as u64;
                    in_flight_bytes -= bytes;
                    plan.lock().unwrap_or_else(PoisonError::into_inner).acknowledge(chunk.index, bytes);
                    progress.send_modify(|progress| progress.bytes_stored += u64::from(chunk.length));
                    buffers.give_back(payload);
                }
                else => break,
            }
        }
        // The channel is empty; its thread drops the plan as it ends.
        while prepared.recv().await.is_some() {}
        digest.ok_or_else(|| unreadable(io::Error::other("the source has no end")))
    }

    /// Publishes one chunk until it is stored.
    async fn publish(&self, prepared: Prepared) -> Result<Prepared, ProducerError> {
        let Manifest { transfer, channel, .. } = self.manifest;
        let broker = &self.upload.broker;
        let subject = broker.subjects().data(channel, *transfer);
        let mut headers = prepared.chunk.to_headers().to_vec();
        headers.push(self.attempt.chunk(&prepared.chunk));
        let payload = &prepared.payload;
        self.patience.until(|| broker.publish(subject.clone(), &headers, payload.clone())).await?;
        Ok(prepared)
    }

    /// Takes the transfer back, and says why.
    async fn cancel(&self, source: Option<SendError>) -> ProducerError {
        let transfer = self.manifest.transfer;
        let reason = "the source changed while it was sent".to_owned();
        let closing = Closing::Cancelled { reason };
        if let Err(error) = self.upload.close(self.manifest, closing, self.attempt, self.patience).await {
            return error;
        }
        ProducerError::SourceChanged { path: self.path.into(), transfer, source }
    }
}

/// Why publishing stopped.
enum Stop {
    /// The source is not what is stored.
    Foreign,
    /// Something failed.
    Failed(ProducerError),
}
