//! One transfer on its way in.

use bytes::Bytes;
use jiff::Timestamp;
use natsfer_common::{Manifest, broker::Broker};

use crate::{
    Landing, Limits, ReceiveError, SaveOptions, Saved, TargetDirectory, TransferReader, Unwanted, cursor::Cursor,
    flow::Flows, inline::decode_inline, origin::Origin, report::Before, save::Save, target::Names,
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
}

impl Incoming {
    /// What the file is.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
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
        let Self { broker, manifest, opened_at, payload, crc32, origin, flows, limits } = self;
        let (owner, delivered) = (origin.owner(), origin.delivered());
        // What the whole directory may not take, no file may.
        let limits = limits.also_within(target.max_disk());
        let (broker, manifest, limits) = (&broker, &manifest, &limits);
        let names = if limits.unwanted.contains(&Unwanted::Unportable) { Names::Folded } else { Names::AsStored };
        let target = &target.with_names(names);
        let save =
            Save { broker, owner: &owner, manifest, opened_at, target, options, limits, flows: &flows, delivered };
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
