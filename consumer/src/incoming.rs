//! One transfer on its way in.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use natsfer_common::{
    Digest, Manifest,
    broker::{Acknowledgement, Broker},
};
use tokio::sync::OwnedSemaphorePermit;

use crate::{
    Failure, Landing, ReceiveError, SaveOptions, Saved, TargetDirectory, TransferReader,
    cursor::Cursor,
    flow::Flows,
    hold::Hold,
    inline::decode_inline,
    report::{Before, Report},
    save::Save,
    staging::Owner,
};

/// Longest time a transfer that could not be received now is left alone before it is tried again.
const LONGEST_REST: Duration = Duration::from_secs(15);

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
}

/// Where a transfer comes from, and what is to be done with it afterwards.
#[derive(Debug)]
pub(crate) enum Origin {
    /// From a receiver's inbox.
    Inbox {
        /// The receiver.
        owner: Owner,
        /// Its claim on the transfer.
        hold: Hold,
        /// How many times it was delivered.
        delivered: u64,
        /// One of the receiver's hands.
        permit: OwnedSemaphorePermit,
    },
    /// Looked up: nobody's progress changes.
    Replay,
}

impl Incoming {
    /// What the file is.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The whole file, verified, if it came inside its manifest's message.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn inline(&self) -> Option<Result<Bytes, ReceiveError>> {
        let inline = self.manifest.inline?;
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
        let Self { broker, manifest, opened_at, payload, crc32, origin, flows } = self;
        let owner = origin.owner();
        let delivered = origin.delivered();
        let (broker, manifest) = (&broker, &manifest);
        let save = Save { broker, owner: &owner, manifest, opened_at, target, options, flows: &flows, delivered };
        let mut result = match manifest.inline {
            Some(inline) => save.inline(inline, payload, crc32).await,
            None => save.chunks().await,
        };
        if let Ok(saved) = &result
            && saved.landing != Landing::Skipped
        {
            let before = if saved.landing == Landing::Landed { Before::No } else { Before::Perhaps };
            // Before the inbox forgets it: whoever takes it up after a crash says it then.
            let told = origin.report(broker, manifest, saved.digest, saved.size, before).await;
            result = told.and(result);
        }
        origin.settle(result.as_ref().err()).await;
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
        self.origin.finish(Acknowledgement::Done).await;
    }

    /// Takes the transfer off the receiver's inbox as unacceptable. The reason is logged.
    pub async fn reject(self, reason: &str) {
        tracing::warn!(transfer = %self.manifest.transfer, name = %self.manifest.name, reason, "rejected");
        self.forget_cursor().await;
        self.origin.finish(Acknowledgement::Never).await;
    }
}

impl Incoming {
    /// An earlier try may have left one.
    async fn forget_cursor(&self) {
        if let Origin::Inbox { delivered: 2.., owner, .. } = &self.origin {
            Cursor::forget(&self.broker, owner, &self.manifest).await;
        }
    }
}

impl Origin {
    /// Says, for a receiver, that it has the file. `before` is what the file itself tells of that; the hold may tell more.
    pub(crate) async fn report(
        &self, broker: &Broker, manifest: &Manifest, digest: Digest, size: u64, before: Before,
    ) -> Result<(), ReceiveError> {
        match self {
            Self::Inbox { owner: Owner::Receiver(receiver), hold, delivered, .. } => {
                let before = if *delivered > 1 || hold.may_be_lost(broker) { Before::Perhaps } else { before };
                Report { broker, receiver, manifest }.landed(digest, size, hold.sequence, before).await
            }
            _ => Ok(()),
        }
    }

    /// How many times the transfer was delivered.
    pub(crate) fn delivered(&self) -> u64 {
        if let Self::Inbox { delivered, .. } = self { *delivered } else { 1 }
    }

    pub(crate) fn owner(&self) -> Owner {
        match self {
            Self::Inbox { owner, .. } => owner.clone(),
            Self::Replay => Owner::Replay,
        }
    }

    /// Tells the server how it ended.
    pub(crate) async fn settle(self, error: Option<&ReceiveError>) {
        let delivered = self.delivered();
        let acknowledgement = match error.map(ReceiveError::failure) {
            None | Some(Failure::Cancelled) => Acknowledgement::Done,
            Some(Failure::Final) => Acknowledgement::Never,
            Some(Failure::Passing) => Acknowledgement::Again(rest(delivered)),
        };
        self.finish(acknowledgement).await;
    }

    pub(crate) async fn finish(self, acknowledgement: Acknowledgement) {
        if let Self::Inbox { hold, permit, .. } = self {
            hold.settle(acknowledgement).await;
            drop(permit);
        }
    }
}

/// How long to leave a transfer alone after so many deliveries: 1 s, doubling up to 15 s.
fn rest(delivered: u64) -> Duration {
    let doublings = u32::try_from(delivered.saturating_sub(1)).unwrap_or(u32::MAX).min(10);
    Duration::from_secs(1 << doublings).min(LONGEST_REST)
}
