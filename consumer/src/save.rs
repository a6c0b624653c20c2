//! Saving one transfer into a directory: what of it is needed, receiving that, landing the file.

use std::path::PathBuf;

use bytes::Bytes;
use jiff::Timestamp;
use natsfer_common::{
    Channel, ChunkSet, Digest, FileName, Inline, Manifest, Totals, TransferId, blocking,
    broker::{Broker, Copies},
};
use tokio::sync::OnceCell;

use crate::{
    Failure, Landing, Limits, ReceiveError, SaveOptions, TargetDirectory,
    bench::Bench,
    cursor::{Cursor, LeftCursor},
    flow::Flows,
    inline::{SmallFile, decode_inline},
    intake::{Extra, Intake},
    landing::{Forecast, forecast},
    origin::Attempt,
    part_files::PartFiles,
    presence::{closing, is_opened_anew},
    progress::Meter,
    read_marks::{Mark, ReadMarks},
    report::Report,
    room::Room,
    staging::{Discarded, Owner, StagingDirectory},
};

/// Every so many deliveries, a transfer that was put back is looked into, whatever seems to have happened to it.
const LOOK_INTO: u64 = 16;

/// A transfer that was saved.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Saved {
    /// Its id.
    pub transfer: TransferId,
    /// The channel it came on.
    pub channel: Channel,
    /// The name it was sent under.
    pub name: FileName,
    /// Where it is.
    pub path: PathBuf,
    /// The same, below the directory.
    pub below_target: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// Its digest.
    pub digest: Digest,
    /// What became of it.
    pub landing: Landing,
    /// Bytes of the file that came once more than needed in this call: an earlier run was given them already, or they came
    /// twice, or damaged.
    pub refetched_bytes: u64,
    /// Chunks that were stored damaged or not at all, and came after they had been asked for.
    pub repaired_chunks: u64,
}

/// A transfer that was saved, before anybody was told.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) saved: Saved,
    /// Its cursor, if it was read through one.
    pub(crate) cursor: Option<LeftCursor>,
}

impl From<Saved> for Done {
    fn from(saved: Saved) -> Self {
        Self { saved, cursor: None }
    }
}

/// Everything a save needs.
pub(crate) struct Save<'a> {
    pub(crate) broker: &'a Broker,
    pub(crate) owner: &'a Owner,
    pub(crate) manifest: &'a Manifest,
    /// Where it is to land.
    pub(crate) name: &'a FileName,
    /// When the server stored the manifest.
    pub(crate) opened_at: Timestamp,
    pub(crate) target: &'a TargetDirectory,
    pub(crate) options: &'a SaveOptions,
    pub(crate) limits: &'a Limits,
    pub(crate) flows: &'a Flows,
    /// Which try this is.
    pub(crate) attempt: Attempt,
    pub(crate) progress: &'a Meter,
    pub(crate) read_marks: &'a ReadMarks,
    /// How it was closed, if it was, once that is looked up.
    pub(crate) known: OnceCell<Option<Totals>>,
}

impl Save<'_> {
    fn saved(&self, landing: Landing, path: PathBuf, size: u64, digest: Digest, extra: &Extra) -> Saved {
        let Manifest { transfer, channel, name, .. } = self.manifest.clone();
        let Extra { refetched_bytes, repaired_chunks, .. } = *extra;
        let below_target = path.strip_prefix(self.target.path()).unwrap_or(&path).to_path_buf();
        Saved { transfer, channel, name, path, below_target, size, digest, landing, refetched_bytes, repaired_chunks }
    }

    /// Who may speak about it; a replay may not.
    pub(crate) fn report(&self) -> Option<Report<'_>> {
        let Owner::Receiver(receiver) = self.owner else { return None };
        Some(Report { broker: self.broker, receiver, manifest: self.manifest })
    }

    /// Saves it, unless it is more than may come.
    pub(crate) async fn run(self, payload: Bytes, crc32: Option<String>) -> Result<Done, ReceiveError> {
        self.limits.admit(self.manifest, self.name)?;
        match self.manifest.inline {
            Some(inline) => self.inline(inline, payload, crc32).await,
            None => self.chunks().await,
        }
    }

    /// A file that came inside its manifest's message.
    async fn inline(self, inline: Inline, payload: Bytes, crc32: Option<String>) -> Result<Done, ReceiveError> {
        let raw = match decode_inline(self.manifest, inline, payload, crc32.as_deref()) {
            Ok(raw) => raw,
            Err(error @ ReceiveError::InlineDamaged { .. }) => {
                if let Some(report) = self.report() {
                    // The sender publishes the whole message again, and it comes as a new one.
                    report.ask(&[0].into_iter().collect()).await?;
                }
                return Err(error);
            }
            // What its sender says contradicts itself: it would say the same again.
            Err(error) => return Err(error),
        };
        let (size, digest, policy) = (raw.len() as u64, inline.digest, self.options.on_conflict);
        let mut room = Room::new(self.manifest.transfer);
        loop {
            let (manifest, target, owner) = (self.manifest.clone(), self.target.clone(), self.owner.clone());
            let (name, raw) = (self.name.clone(), raw.clone());
            match self.target.group.land(SmallFile { manifest, name, target, owner, policy, raw, digest }).await {
                Ok((landing, path)) => return Ok(self.saved(landing, path, size, digest, &Extra::default()).into()),
                Err(ReceiveError::Disk { source, .. }) if room.try_again(&source).await => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// A file in chunks. Unless it is to be tried again, nothing of it is left but the file.
    async fn chunks(self) -> Result<Done, ReceiveError> {
        let mut result = self.try_chunks().await;
        if result.as_ref().is_err_and(ReceiveError::is_about_bytes)
            && is_opened_anew(self.broker, self.manifest, self.opened_at).await
        {
            // What came is another transfer's, which is received by itself.
            result = Err(ReceiveError::NoSuchTransfer { transfer: self.manifest.transfer });
        }
        if result.as_ref().is_err_and(|error| error.failure() != Failure::Passing) {
            self.forget().await;
        }
        if !result.as_ref().is_err_and(ReceiveError::has_read_all_stored) {
            self.read_marks.forget(self.manifest);
        }
        result
    }

    async fn try_chunks(&self) -> Result<Done, ReceiveError> {
        // Where nothing stands in its place, it is needed, however it ends: that is looked up beside its first chunks.
        let is_needed = self.attempt == Attempt::First && matches!(self.forecast(None).await?, Forecast::Free);
        if !is_needed {
            let content = self.known().await?.map(|Totals { size, digest, .. }| (size, digest));
            if let Forecast::Settled(landing, path) = self.forecast(content).await?
                && let Some((size, digest)) = content
            {
                self.forget().await;
                return Ok(self.saved(landing, path, size, digest, &Extra::default()).into());
            }
        }
        let mut extra = Extra::default();
        // What somebody asks for is read, and its sender waited for.
        if let Attempt::Redelivered(delivered) = self.attempt
            && !delivered.is_multiple_of(LOOK_INTO)
            && let Some(report) = self.report()
        {
            self.anything_new(report, self.known().await?, &mut extra).await?;
        }
        let mut bench = Bench::open(self.target, self.owner, self.manifest, self.name, self.limits).await?;
        let kept = !bench.part()?.held().is_empty();
        match self.receive(&mut bench, &mut extra).await {
            Err(error) if kept && error.is_about_bytes() => {
                // Removed, and sent again with other bytes under the same id: what an earlier run kept is of the first ones.
                tracing::warn!(transfer = %self.manifest.transfer, "beginning anew, without what an earlier run kept: {error}");
                bench.discard().await;
                bench = Bench::open(self.target, self.owner, self.manifest, self.name, self.limits).await?;
                self.receive(&mut bench, &mut extra).await
            }
            result => result,
        }
    }

    /// What is known of its place, given its content where that is known.
    async fn forecast(&self, content: Option<(u64, Digest)>) -> Result<Forecast, ReceiveError> {
        let (name, target, policy) = (self.name.clone(), self.target.clone(), self.options.on_conflict);
        blocking(move || {
            let forecast = forecast(&target, &target.parent(&name)?, &name, policy, content)?;
            target.ensure_in_place()?;
            Ok(forecast)
        })
        .await
    }

    /// How it was closed, if it was when this was asked first. Fails when it was taken back.
    async fn known(&self) -> Result<Option<Totals>, ReceiveError> {
        self.known.get_or_try_init(|| closing(self.broker, self.manifest)).await.copied()
    }

    /// Drops what an earlier run left of a transfer that is not needed any more, unless another process works on it.
    async fn forget(&self) {
        let (target, owner, transfer) = (self.target.clone(), self.owner.clone(), self.manifest.transfer);
        let discard =
            move || StagingDirectory::open(&target, &owner).map(|staging| staging.discard(&transfer.to_string()));
        // One that cannot be opened has nothing that could be used.
        if blocking(discard).await.unwrap_or(Discarded::Nothing) != Discarded::InUse {
            Cursor::forget(self.broker, self.owner, self.manifest).await;
        }
    }

    /// A transfer that was put back comes again and again, until it can be received. As long as nothing has happened to it, it
    /// is put back at once, without reading its part from disk: however many there are, they do not hold up others.
    async fn anything_new(
        &self, report: Report<'_>, known: Option<Totals>, extra: &mut Extra,
    ) -> Result<(), ReceiveError> {
        let transfer = self.manifest.transfer;
        let all_read = self.is_all_read(known).await?;
        let Some(totals) = known else {
            return if all_read { Err(ReceiveError::Stalled { transfer }) } else { Ok(()) };
        };
        let missing = self.claimed().await.missing(totals.chunks);
        if missing.is_empty() {
            return Ok(());
        }
        // Without looking at what is stored: an answer would show in the cursor.
        extra.asked = report.awaited(&missing, &Copies::default()).await?;
        if all_read && missing.without(&extra.asked).is_empty() {
            return Err(ReceiveError::ChunksMissing { transfer, missing });
        }
        Ok(())
    }

    /// Whether all that is stored has been read, as far as that shows without reading it.
    async fn is_all_read(&self, known: Option<Totals>) -> Result<bool, ReceiveError> {
        let epoch = self.broker.epoch();
        let mark = self.read_marks.mark(self.manifest, epoch);
        let stored = self.broker.stored_messages(self.manifest).await?;
        match (mark, stored) {
            (Some(Mark { messages: Some(read), .. }), Some(stored)) => Ok(read == stored),
            (Some(Mark { behind: Some(behind), .. }), None) => Ok(!self.broker.has_more(self.manifest, behind).await?),
            (None, Some(stored)) => {
                // Left by another process: as many chunks as there are messages, but for the closing record.
                let all_read = self.claimed().await.len() + u64::from(known.is_some()) == stored;
                if all_read {
                    // It may have died before it could delete its cursor.
                    Cursor::forget(self.broker, self.owner, self.manifest).await;
                    self.read_marks.leave(self.manifest, Mark { messages: Some(stored), behind: None, epoch });
                }
                Ok(all_read)
            }
            _ => Ok(false),
        }
    }

    /// The chunks that are here, as far as the journal says.
    async fn claimed(&self) -> ChunkSet {
        let (target, owner, manifest) = (self.target.clone(), self.owner.clone(), self.manifest.clone());
        let limits = self.limits.clone();
        blocking(move || PartFiles::claimed(&target, &owner, &manifest, &limits)).await
    }

    /// Fills the part with what comes, until the file can be landed.
    async fn receive(&self, bench: &mut Bench, extra: &mut Extra) -> Result<Done, ReceiveError> {
        let flow = self.flows.open(self.broker, self.manifest).await;
        let (intake, known) = tokio::join!(Intake::open(self, bench, extra, &flow), self.known());
        let mut intake = intake?;
        let landed = async {
            let totals = intake.fill(known?).await?;
            let finished = intake.bench.finish(totals).await;
            // Of another transfer, no bytes are wrong.
            intake.ensure_same().await?;
            finished?;
            Ok((intake.bench.land(totals, self.options.on_conflict).await?, totals.size))
        };
        match landed.await {
            Ok(((landing, path, digest), size)) => {
                let cursor = Some(intake.end().await);
                Ok(Done { saved: self.saved(landing, path, size, digest, extra), cursor })
            }
            Err(error) => {
                intake.fail(&error).await;
                Err(error)
            }
        }
    }
}
