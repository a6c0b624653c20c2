//! One transfer on its way in.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use jiff::Timestamp;
use natsfer_common::{
    FileName, Manifest, blocking,
    broker::Broker,
    metrics::{
        DELIVERY_SECONDS, PUT_BACK, RECEIVE_SECONDS, RECEIVED_BYTES, RECEIVED_FILES, RECEIVING, REFETCHED_BYTES,
        REJECTED_FILES, REPAIRED_CHUNKS, UnderWay,
    },
};
use tokio::{sync::OnceCell, time::Instant};

use crate::{
    Choice, Failure, Landed, Layout, Limits, Placed, Progress, ReceiveError, SaveOptions, Saved, Selection,
    TargetDirectory, TransferReader, Unwanted,
    cursor::Cursor,
    flow::Flows,
    inline::decode_inline,
    origin::{Attempt, Origin},
    presence::{closing, is_there},
    progress::Meter,
    read_marks::ReadMarks,
    save::{Done, Save},
    staging::Owner,
    target::Names,
};

/// A transfer, known by its manifest. It ends in one consuming call; dropped without one, it goes back to the server at once.
#[derive(Debug)]
pub struct Incoming {
    pub(crate) broker: Broker,
    pub(crate) manifest: Manifest,
    /// When the server stored it.
    pub(crate) opened_at: Timestamp,
    /// The message's payload and checksum header, for a file that came inside it.
    pub(crate) payload: Bytes,
    pub(crate) crc32: Option<String>,
    pub(crate) origin: Origin,
    pub(crate) flows: Flows,
    pub(crate) limits: Limits,
    pub(crate) progress: Meter,
    /// Which files are taken.
    pub(crate) selection: Arc<Selection>,
    /// What is remembered of those that wait.
    pub(crate) read_marks: ReadMarks,
}

impl Incoming {
    /// What the file is.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The connection it comes over.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// How far it is while it is saved, now and at every change until that ends. Ask for it before saving.
    pub fn progress(&self) -> impl Stream<Item = Progress> + Send + Unpin + use<> {
        self.progress.watch()
    }

    /// The whole file, verified, if it came inside its manifest's message.
    ///
    /// # Errors
    /// When it is damaged, or beyond the receiver's limits.
    pub fn inline(&self) -> Option<Result<Bytes, ReceiveError>> {
        let inline = self.manifest.inline?;
        if let Err(error) = self.limits.admit(&self.manifest, &self.manifest.name) {
            return Some(Err(error));
        }
        Some(decode_inline(&self.manifest, inline, self.payload.clone(), self.crc32.as_deref()))
    }

    /// Where the file is to stand.
    ///
    /// # Errors
    /// When what its sender says makes no name of it.
    pub fn place(&self, layout: &Layout) -> Result<FileName, ReceiveError> {
        let owner = self.origin.owner();
        let receiver = if let Owner::Receiver(receiver) = &owner { Some(receiver) } else { None };
        Placed { manifest: &self.manifest, published_at: self.opened_at, receiver }.name(layout)
    }

    /// Lands the file in a directory, under the name it was sent with or where the layout has it: whole and verified, or not at
    /// all.
    ///
    /// # Cancel safety
    /// Dropped half-way, the transfer goes back to the server, and what was received stays for the next try, with this
    /// or another process on the same directory.
    ///
    /// # Errors
    /// [`ReceiveError::failure`] says what follows: a passing failure has put the transfer back, to be tried again after a
    /// rest; a final one has taken it off the receiver's inbox.
    pub async fn save_into(self, target: &TargetDirectory, options: &SaveOptions) -> Result<Saved, ReceiveError> {
        self.land_into(target, options).await?.settle().await
    }

    /// As [`Incoming::save_into`], and stops before anybody is told, for those who have to note something first.
    ///
    /// # Cancel safety
    /// As for [`Incoming::save_into`].
    ///
    /// # Errors
    /// As for [`Incoming::save_into`].
    pub async fn land_into(self, target: &TargetDirectory, options: &SaveOptions) -> Result<Landed, ReceiveError> {
        // What the whole directory may not take, no file may.
        let limits = self.limits.clone().also_within(target.max_disk());
        let _under_way = UnderWay::new(RECEIVING);
        let started = Instant::now();
        let result = match self.land(target, options, &limits).await {
            Err(error @ ReceiveError::Disk { .. }) => {
                let target = target.clone();
                Err(blocking(move || target.instead(error)).await)
            }
            Err(error) => Err(error),
            saved => saved,
        };
        let result = match result {
            Err(error) => Err(self.unless_gone(error.within_directory(target.max_disk())).await),
            saved => saved,
        };
        count(&result, started, self.opened_at);
        let Self { broker, manifest, opened_at: published_at, origin, .. } = self;
        let mut error = match result {
            Ok(Done { saved, cursor }) => return Ok(Landed { broker, manifest, published_at, origin, saved, cursor }),
            Err(error) => error,
        };
        if error.is_unfinished()
            && let Err(few) = origin.ensure_few_wait(&broker, &manifest, &limits).await
        {
            // What is on disk stays, for those who try it again.
            error = few;
        }
        origin.settle(&broker, &manifest, Some(&error)).await;
        Err(error)
    }

    async fn land(
        &self, target: &TargetDirectory, options: &SaveOptions, limits: &Limits,
    ) -> Result<Done, ReceiveError> {
        self.ensure_taken().await?;
        let name = self.place(&options.layout)?;
        let names = if limits.unwanted.contains(&Unwanted::Unportable) { Names::Folded } else { Names::AsStored };
        let Self { broker, manifest, opened_at, payload, crc32, origin, flows, progress, read_marks, .. } = self;
        let save = Save {
            broker,
            owner: &origin.owner(),
            manifest,
            name: &name,
            opened_at: *opened_at,
            target: &target.with_names(names),
            options,
            limits,
            flows,
            attempt: origin.attempt(),
            progress,
            read_marks,
            known: OnceCell::new(),
        };
        save.run(payload.clone(), crc32.clone()).await
    }

    /// What its sender has taken back is not rejected, whatever else is wrong with it: trying it again could never help.
    async fn unless_gone(&self, error: ReceiveError) -> ReceiveError {
        if error.rejection().is_none() {
            return error;
        }
        match is_there(&self.broker, &self.manifest).await {
            Err(gone) if gone.failure() == Failure::Cancelled => gone,
            // Who cannot look rejects it.
            _ => error,
        }
    }

    /// Fails unless it is selected. Where only its size decides, its end is looked for.
    pub(crate) async fn ensure_taken(&self) -> Result<(), ReceiveError> {
        let (manifest, transfer) = (&self.manifest, self.manifest.transfer);
        let mut choice = self.selection.choose(manifest, None);
        if choice == Choice::OnSize {
            let totals = closing(&self.broker, manifest).await?;
            choice = self.selection.choose(manifest, totals.map(|totals| totals.size));
        }
        match choice {
            Choice::Taken => Ok(()),
            Choice::PassedOver(why) => Err(ReceiveError::PassedOver { transfer, why }),
            Choice::OnSize => {
                is_there(&self.broker, manifest).await?;
                Err(ReceiveError::SizeUnknown { transfer })
            }
        }
    }

    /// Reads the file as it comes, in order, each chunk verified before it is given out. The digest is compared at the end:
    /// a read fails then if it differs. Call [`TransferReader::finish`] once what was read is dealt with.
    ///
    /// # Cancel safety
    /// Dropped half-way, the transfer goes back to the server, and comes again; its cursor may be left, for the next try.
    ///
    /// # Errors
    /// When the server does not let its chunks be read.
    pub async fn read(self) -> Result<TransferReader, ReceiveError> {
        TransferReader::open(self).await
    }

    /// Takes the transfer for done without receiving it.
    ///
    /// # Cancel safety
    /// Dropped half-way, the transfer goes back to the server, and comes again. Once the inbox is being told, that goes on.
    pub async fn skip(self) {
        self.forget_cursor().await;
        self.origin.skip().await;
    }

    /// Takes the transfer off the receiver's inbox as unacceptable. The reason is logged, and kept in view: see
    /// [`crate::Rejections`].
    ///
    /// # Cancel safety
    /// Dropped half-way, the reason may be in view, and the transfer goes back to the server, and comes again. Once the inbox is
    /// being told, that goes on.
    pub async fn reject(self, reason: &str) {
        self.forget_cursor().await;
        self.origin.refuse(&self.broker, &self.manifest, reason).await;
    }

    /// An earlier try may have left one.
    async fn forget_cursor(&self) {
        if self.origin.attempt() != Attempt::First {
            Cursor::forget(&self.broker, &self.origin.owner(), &self.manifest).await;
        }
    }
}

fn count(result: &Result<Done, ReceiveError>, started: Instant, opened_at: Timestamp) {
    match result {
        Ok(Done { saved, .. }) => {
            metrics::counter!(RECEIVED_FILES, "landing" => saved.landing.as_str()).increment(1);
            metrics::counter!(RECEIVED_BYTES).increment(saved.size);
            metrics::counter!(REFETCHED_BYTES).increment(saved.refetched_bytes);
            metrics::counter!(REPAIRED_CHUNKS).increment(saved.repaired_chunks);
            metrics::histogram!(RECEIVE_SECONDS).record(started.elapsed());
            // By two clocks: not exact, and never negative.
            let delivery = Timestamp::now().duration_since(opened_at).as_secs_f64();
            metrics::histogram!(DELIVERY_SECONDS).record(delivery.max(0.0));
        }
        Err(error) => match (error.failure(), error.rejection()) {
            (Failure::Passing, _) => metrics::counter!(PUT_BACK).increment(1),
            (_, Some(reason)) => metrics::counter!(REJECTED_FILES, "reason" => reason.as_str()).increment(1),
            _ => {}
        },
    }
}
