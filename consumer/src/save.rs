//! Saving one transfer: pull, verify, write, acknowledge, land.

use std::{path::PathBuf, time::Duration};

use bytes::Bytes;
use natsfer_common::{
    Channel, ChunkSet, Digest, FileName, Inline, Manifest, Progress, Totals, TransferId, broker::Broker, header,
};

use crate::{
    ConflictPolicy, Landing, ReceiveError, SaveOptions, TargetDirectory,
    cursor::{Cursor, Piece},
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
    pub(crate) window: u64,
}

/// Runs blocking work off the runtime. It ends even when nobody waits for it any more.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Blocking work is only cancelled when the runtime goes away, and this task with it.
            Err(_) => std::future::pending().await,
        },
    }
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
            Some(natsfer_common::Closing::Complete(totals)) => Some(totals),
            Some(natsfer_common::Closing::Cancelled { reason }) => {
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
        self.transfer().await
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
        if let Owner::Receiver(receiver) = self.owner {
            let name = format!("{receiver}-{}", self.manifest.transfer);
            // None there is the usual case; one that cannot be deleted is removed by the server in time.
            let _ = self.broker.delete_consumer(&self.broker.stream().data(), &name).await;
        }
    }

    async fn transfer(&self) -> Result<Saved, ReceiveError> {
        let (target, owner, manifest) = (self.target.clone(), self.owner.clone(), self.manifest.clone());
        let part = blocking(move || Part::open(&target, &owner, &manifest)).await?;
        let mut cursor = Cursor::open(self.broker, self.owner, self.manifest, part.held(), self.window).await?;
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
        let mut unacknowledged = None;
        let mut silent = Duration::ZERO;
        const TICK: Duration = Duration::from_millis(1_000);
        loop {
            if let Progress::Whole(totals) = part.progress() {
                return Ok((part, totals));
            }
            let piece = tokio::time::timeout(TICK, cursor.next()).await;
            let durable;
            match piece {
                Ok(piece) => {
                    silent = Duration::ZERO;
                    match piece? {
                        Piece::Chunk { chunk, payload, ack_subject } => {
                            let written;
                            (part, written) = blocking(move || {
                                let result = part.write(&chunk, payload).and_then(|_| part.checkpoint_if_due());
                                (part, result)
                            })
                            .await;
                            durable = match written {
                                Ok(durable) => durable,
                                Err(error) => return Err(give_up(part, error).await),
                            };
                            unacknowledged = Some(ack_subject);
                        }
                        Piece::Closing(record) => match part.close(record) {
                            Ok(Progress::Missing(missing)) => {
                                part = self.refetch(part, cursor, missing).await?;
                                continue;
                            }
                            Ok(_) => continue,
                            Err(error) => return Err(give_up(part, error).await),
                        },
                    }
                }
                Err(_) => {
                    silent += TICK;
                    if silent >= self.options.patience {
                        // What was received is kept for the next try.
                        blocking(move || drop(part)).await;
                        return Err(ReceiveError::Stalled { transfer: self.manifest.transfer });
                    }
                    let result;
                    (part, result) = blocking(move || {
                        let result = part.checkpoint_if_due();
                        (part, result)
                    })
                    .await;
                    durable = result?;
                }
            }
            if durable && let Some(ack_subject) = unacknowledged.take() {
                cursor.acknowledge(&ack_subject).await;
            }
        }
    }

    /// Fetches chunks by themselves that did not come, or came damaged: every stored copy, until one is sound.
    async fn refetch(&self, mut part: Part, cursor: &Cursor, missing: ChunkSet) -> Result<Part, ReceiveError> {
        let transfer = self.manifest.transfer;
        tracing::info!(%transfer, chunks = %missing, "fetching chunks that did not come");
        let mut copies = 0;
        for sequence in cursor.locate(&missing).await?.into_values().flatten() {
            let Some((chunk, payload)) = cursor.fetch(sequence).await? else { continue };
            let fate;
            (part, fate) = blocking(move || {
                let fate = part.write(&chunk, payload);
                (part, fate)
            })
            .await;
            copies += u64::from(matches!(fate, Ok(Fate::Damaged)));
            if let Err(error) = fate {
                return Err(give_up(part, error).await);
            }
        }
        match part.progress() {
            Progress::Missing(missing) => {
                let reason = format!("{copies} damaged copies were found");
                Err(give_up(part, ReceiveError::ChunksMissing { transfer, missing, reason }).await)
            }
            _ => Ok(part),
        }
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
    let write = || {
        let mut file = staging.file(&staging.part)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Ok(false),
            Err(std::fs::TryLockError::Error(error)) => return Err(error),
        }
        file.set_len(0)?;
        std::io::Write::write_all(&mut file, raw)?;
        finish_file(&file, manifest)?;
        Ok(true)
    };
    match write() {
        Ok(true) => land(&staging.dir, &staging.part, target, &manifest.name, policy, content),
        Ok(false) => Err(ReceiveError::Busy { transfer: manifest.transfer }),
        Err(source) => {
            staging.clear();
            Err(ReceiveError::Disk { doing: "cannot write", path: target.path_of(&manifest.name), source })
        }
    }
}
