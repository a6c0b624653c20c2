//! Saving one transfer: pull, verify, write, acknowledge, land.

use std::{io::Write as _, path::PathBuf, time::Duration};

use bytes::Bytes;
use natsfer_common::{
    Channel, ChunkSet, Closing, ClosingRecord, Digest, FileName, Inline, Manifest, Progress, Totals, TransferId,
    blocking, broker::Broker, header,
};

use crate::{
    ConflictPolicy, Landing, ReceiveError, SaveOptions, TargetDirectory,
    cursor::{Cursor, Piece},
    flow::Flows,
    landing::{Forecast, forecast, land},
    part::{Fate, Part, finish_file},
    staging::{Owner, Staging},
};

/// A transfer that was saved.
#[derive(Debug, Clone)]
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
}

/// Everything a save needs.
pub(crate) struct Save<'a> {
    pub(crate) broker: &'a Broker,
    pub(crate) owner: &'a Owner,
    pub(crate) manifest: &'a Manifest,
    pub(crate) target: &'a TargetDirectory,
    pub(crate) options: &'a SaveOptions,
    pub(crate) flows: &'a Flows,
}

impl Save<'_> {
    fn saved(&self, landing: Landing, path: PathBuf, size: u64, digest: Digest) -> Saved {
        let Manifest { transfer, channel, name, .. } = self.manifest.clone();
        Saved { transfer, channel, name, path, size, digest, landing }
    }

    /// A file that came inside its manifest's message.
    pub(crate) async fn inline(
        self, inline: Inline, payload: Bytes, crc32: Option<String>,
    ) -> Result<Saved, ReceiveError> {
        let raw = decode_inline(self.manifest, inline, payload, crc32.as_deref())?;
        let (manifest, target, owner) = (self.manifest.clone(), self.target.clone(), self.owner.clone());
        let policy = self.options.on_conflict;
        let (size, digest) = (raw.len() as u64, inline.digest);
        let (landing, path) = blocking(move || land_inline(&manifest, &target, &owner, policy, &raw, digest)).await?;
        Ok(self.saved(landing, path, size, digest))
    }

    /// A file in chunks.
    pub(crate) async fn chunks(self) -> Result<Saved, ReceiveError> {
        let record = self.broker.closing_record(&self.manifest.channel, self.manifest.transfer).await?;
        let known = match record.map(|record| record.closing) {
            Some(Closing::Complete(totals)) => Some(totals),
            Some(Closing::Cancelled { reason }) => {
                self.forget().await;
                let transfer = self.manifest.transfer;
                return Err(natsfer_common::Contradiction::Cancelled { transfer, reason }.into());
            }
            None => None,
        };
        let content = known.map(|totals: Totals| (totals.size, totals.digest));
        let (name, target, policy) = (self.manifest.name.clone(), self.target.clone(), self.options.on_conflict);
        if let Forecast::Settled(landing, path) = blocking(move || forecast(&target, &name, policy, content)).await?
            && let Some((size, digest)) = content
        {
            self.forget().await;
            return Ok(self.saved(landing, path, size, digest));
        }
        self.transfer(known).await
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

    async fn transfer(&self, known: Option<Totals>) -> Result<Saved, ReceiveError> {
        let (target, owner, manifest) = (self.target.clone(), self.owner.clone(), self.manifest.clone());
        let mut part = blocking(move || Part::open(&target, &owner, &manifest)).await?;
        if let Some(totals) = known {
            let record = ClosingRecord::new(self.manifest.transfer, Closing::Complete(totals));
            (part, _) = on_part(part, move |part| part.close(record)).await?;
        }
        let flow = self.flows.open().await;
        let mut cursor = Cursor::open(self.broker, self.owner, self.manifest, part.held(), flow.window).await?;
        let received = self.receive(part, &mut cursor).await;
        let result = match received {
            Ok((part, totals)) => {
                let policy = self.options.on_conflict;
                blocking(move || part.land(totals, policy))
                    .await
                    .map(|(landing, path, digest)| self.saved(landing, path, totals.size, digest))
            }
            Err(error) => Err(error),
        };
        match &result {
            Err(error) if error.failure() == crate::Failure::Passing => cursor.pause().await,
            _ => cursor.close().await,
        }
        result
    }

    /// Receives until every chunk is here.
    async fn receive(&self, mut part: Part, cursor: &mut Cursor) -> Result<(Part, Totals), ReceiveError> {
        loop {
            if let Progress::Whole(totals) = part.progress() {
                return Ok((part, totals));
            }
            let piece;
            (part, piece) = self.next(part, cursor).await?;
            match piece {
                Some(Piece::Chunk { chunk, payload, ack_subject }) => {
                    let durable;
                    (part, durable) =
                        on_part(part, move |part| part.write(&chunk, payload).and_then(|_| part.checkpoint_if_due()))
                            .await?;
                    if durable {
                        cursor.acknowledge(&ack_subject).await;
                    }
                }
                Some(Piece::Closing(record)) => {
                    let progress;
                    (part, progress) = on_part(part, move |part| part.close(record)).await?;
                    if let Progress::Missing(missing) = progress {
                        part = self.refetch(part, cursor, missing).await?;
                    }
                }
                // Silence. What is missing of a closed transfer will not come by itself any more.
                None => match part.progress() {
                    Progress::Missing(missing) => part = self.refetch(part, cursor, missing).await?,
                    _ => part = self.look_for_close(part).await?,
                },
            }
        }
    }

    /// The next message, or `None` after a silence as long as is allowed. Checkpoints are written meanwhile.
    async fn next(&self, mut part: Part, cursor: &mut Cursor) -> Result<(Part, Option<Piece>), ReceiveError> {
        const TICK: Duration = Duration::from_secs(1);
        let started = tokio::time::Instant::now();
        let mut next = std::pin::pin!(cursor.next());
        loop {
            match tokio::time::timeout(TICK, &mut next).await {
                Ok(Ok(piece)) => return Ok((part, Some(piece))),
                Ok(Err(error)) => return Err(give_up(part, error).await),
                Err(_) if started.elapsed() >= self.options.patience => return Ok((part, None)),
                Err(_) => (part, _) = on_part(part, Part::checkpoint_if_due).await?,
            }
        }
    }

    /// Nothing comes of an open transfer: it has stalled, unless its closing record was missed.
    async fn look_for_close(&self, part: Part) -> Result<Part, ReceiveError> {
        let transfer = self.manifest.transfer;
        match self.broker.closing_record(&self.manifest.channel, transfer).await {
            Ok(Some(record)) => on_part(part, move |part| part.close(record)).await.map(|(part, _)| part),
            // What was received is kept for the next try.
            Ok(None) => Err(give_up(part, ReceiveError::Stalled { transfer }).await),
            Err(error) => Err(give_up(part, error).await),
        }
    }

    /// Fetches chunks by themselves that did not come, or came damaged: every stored copy, until one is sound.
    async fn refetch(&self, mut part: Part, cursor: &Cursor, missing: ChunkSet) -> Result<Part, ReceiveError> {
        let transfer = self.manifest.transfer;
        tracing::info!(%transfer, chunks = %missing, "fetching chunks that did not come");
        let mut damaged = 0;
        let places = match cursor.locate(&missing).await {
            Ok(places) => places,
            Err(error) => return Err(give_up(part, error).await),
        };
        for sequence in places.into_values().flatten() {
            match cursor.fetch(sequence).await {
                Ok(None) => {}
                Ok(Some((chunk, payload))) => {
                    let fate;
                    (part, fate) = on_part(part, move |part| part.write(&chunk, payload)).await?;
                    damaged += u64::from(fate == Fate::Damaged);
                }
                Err(error) => return Err(give_up(part, error).await),
            }
        }
        match part.progress() {
            Progress::Missing(missing) => {
                let reason = format!("{damaged} damaged copies were found");
                Err(give_up(part, ReceiveError::ChunksMissing { transfer, missing, reason }).await)
            }
            _ => Ok(part),
        }
    }
}

/// Does something blocking with a part. If that fails, the part is dealt with as the failure says.
async fn on_part<T: Send + 'static>(
    mut part: Part, work: impl FnOnce(&mut Part) -> Result<T, ReceiveError> + Send + 'static,
) -> Result<(Part, T), ReceiveError> {
    let (part, result) = blocking(move || {
        let result = work(&mut part);
        (part, result)
    })
    .await;
    match result {
        Ok(done) => Ok((part, done)),
        Err(error) => Err(give_up(part, error).await),
    }
}

/// Drops the part of a transfer that will never be whole; keeps the others.
async fn give_up(part: Part, error: impl Into<ReceiveError>) -> ReceiveError {
    let error = error.into();
    let passing = error.failure() == crate::Failure::Passing;
    blocking(move || if passing { drop(part) } else { part.discard() }).await;
    error
}

/// Checks a file that came inside its manifest's message.
pub(crate) fn decode_inline(
    manifest: &Manifest, inline: Inline, payload: Bytes, crc32: Option<&str>,
) -> Result<Bytes, ReceiveError> {
    let transfer = manifest.transfer;
    let damaged = |reason: String| ReceiveError::InlineDamaged { transfer, reason };
    let length = manifest.size.and_then(|size| usize::try_from(size).ok()).unwrap_or(0);
    let raw = inline.encoding.decode(payload, length).map_err(|error| damaged(error.to_string()))?;
    if crc32 != Some(&format!("{:08x}", crc32fast::hash(&raw))) {
        return Err(damaged(format!("header {} does not agree", header::CRC32)));
    }
    let (expected, found) = (inline.digest, manifest.digest_algorithm.digest(&raw));
    if found != expected {
        return Err(ReceiveError::DigestMismatch { transfer, expected, found });
    }
    Ok(raw)
}

fn land_inline(
    manifest: &Manifest, target: &TargetDirectory, owner: &Owner, policy: ConflictPolicy, raw: &[u8], digest: Digest,
) -> Result<(Landing, PathBuf), ReceiveError> {
    let content = (raw.len() as u64, digest);
    if let Forecast::Settled(landing, path) = forecast(target, &manifest.name, policy, Some(content))? {
        return Ok((landing, path));
    }
    let staging = Staging::open(target, owner, manifest.transfer)?;
    let disk = |source| ReceiveError::Disk { doing: "cannot write", path: target.path_of(&manifest.name), source };
    // Held, and with it its lock, until the file has its name.
    let Some(mut file) = staging.locked(&staging.part).map_err(disk)? else {
        return Err(ReceiveError::Busy { transfer: manifest.transfer });
    };
    let written = file.set_len(0).and_then(|()| file.write_all(raw)).and_then(|()| finish_file(&file, manifest));
    let landed =
        written.map_err(disk).and_then(|()| land(&staging.dir, &staging.part, target, &manifest.name, policy, content));
    if landed.is_err() {
        staging.clear();
    }
    landed
}
