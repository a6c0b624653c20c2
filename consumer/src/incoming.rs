//! One transfer on its way in.

use bytes::Bytes;
use futures_util::Stream;
use jiff::Timestamp;
use natsfer_common::{
    Manifest,
    broker::Broker,
    metrics::{
        DELIVERY_SECONDS, PUT_BACK, RECEIVE_SECONDS, RECEIVED_BYTES, RECEIVED_FILES, RECEIVING, REFETCHED_BYTES,
        REJECTED_FILES, REPAIRED_CHUNKS, UnderWay,
    },
};
use tokio::time::Instant;

use crate::{
    Failure, Landing, Limits, Progress, ReceiveError, SaveOptions, Saved, TargetDirectory, TransferReader, Unwanted,
    cursor::Cursor, flow::Flows, inline::decode_inline, origin::Origin, progress::Noting, report::Before, save::Save,
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
    pub(crate) progress: Noting,
}

impl Incoming {
    /// What the file is.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
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
        if let Err(error) = self.limits.admit(&self.manifest) {
            return Some(Err(error));
        }
        Some(decode_inline(&self.manifest, inline, self.payload.clone(), self.crc32.as_deref()))
    }

    /// Lands the file in a directory, under the name it was sent with: whole and verified, or not at all.
    ///
    /// # Cancel safety
    /// Dropped half-way, the transfer goes back to the server, and what was received stays for the next try, with this
    /// or another process on the same directory.
    ///
    /// # Errors
    /// [`ReceiveError::failure`] says what follows: a passing failure has put the transfer back, to be tried again after a
    /// rest; a final one has taken it off the receiver's inbox.
    pub async fn save_into(self, target: &TargetDirectory, options: &SaveOptions) -> Result<Saved, ReceiveError> {
        let _under_way = UnderWay::new(RECEIVING);
        let started = Instant::now();
        let Self { broker, manifest, opened_at, payload, crc32, origin, flows, limits, progress } = self;
        let (owner, delivered) = (origin.owner(), origin.delivered());
        // What the whole directory may not take, no file may.
        let limits = limits.also_within(target.max_disk());
        let (broker, manifest, limits) = (&broker, &manifest, &limits);
        let names = if limits.unwanted.contains(&Unwanted::Unportable) { Names::Folded } else { Names::AsStored };
        let target = &target.with_names(names);
        let save = Save {
            broker,
            owner: &owner,
            manifest,
            opened_at,
            target,
            options,
            limits,
            flows: &flows,
            delivered,
            progress,
        };
        let mut result = save.run(payload, crc32).await;
        if let Ok(saved) = &result
            && saved.landing != Landing::Skipped
        {
            let before = if saved.landing == Landing::Landed { Before::No } else { Before::Perhaps };
            // Before the inbox forgets it: whoever takes it up after a crash says it then.
            let told = origin.report(broker, manifest, saved.digest, saved.size, before).await;
            result = told.and(result);
        } else if let Err(ReceiveError::Stalled { .. }) = &result
            && let Err(error) = origin.ensure_few_wait(broker, manifest, limits).await
        {
            // The server's consumers are few. What is on disk stays, for those who try it again.
            Cursor::forget(broker, &owner, manifest).await;
            result = Err(error);
        }
        count(&result, started, opened_at);
        origin.settle(broker, manifest, result.as_ref().err()).await;
        result
    }

    /// Reads the file as it comes, in order, each chunk verified before it is given out. The digest is compared at the end:
    /// a read fails then if it differs. Call [`TransferReader::finish`] once what was read is dealt with.
    ///
    /// # Errors
    /// When the server does not let its chunks be read.
    pub async fn read(self) -> Result<TransferReader, ReceiveError> {
        TransferReader::open(self).await
    }

    /// Takes the transfer for done without receiving it.
    pub async fn skip(self) {
        self.forget_cursor().await;
        self.origin.skip().await;
    }

    /// Takes the transfer off the receiver's inbox as unacceptable. The reason is logged, and kept in view: see
    /// [`crate::Rejections`].
    pub async fn reject(self, reason: &str) {
        self.forget_cursor().await;
        self.origin.refuse(&self.broker, &self.manifest, reason).await;
    }

    /// An earlier try may have left one.
    async fn forget_cursor(&self) {
        if self.origin.delivered() > 1 {
            Cursor::forget(&self.broker, &self.origin.owner(), &self.manifest).await;
        }
    }
}

fn count(result: &Result<Saved, ReceiveError>, started: Instant, opened_at: Timestamp) {
    match result {
        Ok(saved) => {
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
