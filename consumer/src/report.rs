//! What a receiver says about a transfer: that it has it, that chunks of it are needed again, or that it has rejected it.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use natsfer_common::{
    ChunkSet, Digest, FileName, Kind, Manifest, Receipt, ReceiverName, Rejection, RejectionState, RepairRequest,
    broker::{Broker, BrokerError, Copies, code},
    header,
    metrics::REPAIR_REQUESTS,
};

use crate::ReceiveError;

/// How long to try to publish a rejection.
const REJECTION_PATIENCE: Duration = Duration::from_secs(10);

/// One receiver's voice about one transfer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Report<'a> {
    pub(crate) broker: &'a Broker,
    pub(crate) receiver: &'a ReceiverName,
    pub(crate) manifest: &'a Manifest,
}

/// Whether a receipt may have been published before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Before {
    /// It cannot.
    No,
    /// An earlier run, or another process of the name, may have done so.
    Perhaps,
}

/// Whether room in the stream is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    Awaited,
    NotAwaited,
}

impl Report<'_> {
    /// Says that the file is here: synced, under its name, at this path below the directory if it was landed. Said once for each receiver and opening of the transfer, which its
    /// manifest's sequence in the stream tells.
    pub(crate) async fn landed(
        &self, digest: Digest, size: u64, path: Option<FileName>, opened: u64, before: Before, room: Room,
    ) -> Result<(), ReceiveError> {
        let Manifest { transfer, name, .. } = self.manifest;
        // Who may not look says it again.
        if before == Before::Perhaps && self.has_said(digest, size).await? {
            return Ok(());
        }
        let receipt = Receipt::new(*transfer, self.receiver.clone(), digest, size, Timestamp::now())
            .with_names(name.clone(), path);
        let record = receipt.to_header().map_err(|source| ReceiveError::Record { transfer: *transfer, source })?;
        // Two processes say one thing, stored once; opened again after a removal, it is another.
        let id = format!("{transfer}-receipt-{}-{opened}", self.receiver);
        self.publish(Kind::Receipt, vec![(header::RECEIPT, record), (header::MESSAGE_ID, id)], room).await
    }

    /// Whether this receiver has said that it has the file. Who may not look has not.
    pub(crate) async fn has_said(&self, digest: Digest, size: u64) -> Result<bool, ReceiveError> {
        let Manifest { transfer, channel, .. } = self.manifest;
        match self.broker.receipts(channel, *transfer).await {
            Ok(receipts) => {
                Ok(receipts.iter().any(|receipt| receipt.receiver == *self.receiver && receipt.is_of(digest, size)))
            }
            Err(BrokerError::Denied { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The chunks among these that this receiver has asked for already, and of which no copy was stored since.
    pub(crate) async fn awaited(&self, missing: &ChunkSet, copies: &Copies) -> Result<ChunkSet, ReceiveError> {
        let Manifest { transfer, channel, .. } = self.manifest;
        let mut awaited = ChunkSet::default();
        let requests = match self.broker.repair_requests(channel, *transfer).await {
            // Who may not look asks again.
            Err(BrokerError::Denied { .. }) => return Ok(awaited),
            requests => requests?,
        };
        for (request, at) in requests {
            if request.receiver == *self.receiver {
                let answered = copies.iter().filter(|(_, copy)| copy.stored_at > at).map(|(index, _)| index).collect();
                awaited = awaited.union(&missing.intersection(&request.chunks).without(&answered));
            }
        }
        Ok(awaited)
    }

    /// Asks for those of the chunks that are not awaited already.
    pub(crate) async fn ask_once(&self, missing: &ChunkSet, copies: &Copies) -> Result<(), ReceiveError> {
        let awaited = self.awaited(missing, copies).await?;
        self.ask(&missing.without(&awaited)).await
    }

    /// Asks for chunks.
    pub(crate) async fn ask(&self, chunks: &ChunkSet) -> Result<(), ReceiveError> {
        if chunks.is_empty() {
            return Ok(());
        }
        let transfer = self.manifest.transfer;
        tracing::warn!(%transfer, %chunks, "no sound copy of these is stored: asking for them to be sent again");
        let request = RepairRequest::new(transfer, self.receiver.clone(), chunks);
        let record = request.to_header().map_err(|source| ReceiveError::Record { transfer, source })?;
        metrics::counter!(REPAIR_REQUESTS).increment(1);
        self.publish(Kind::Repair, vec![(header::REPAIR, record)], Room::Awaited).await
    }

    /// Says that it is rejected, or not any more: kept in view, and seen by whoever listens.
    pub(crate) async fn rejection(&self, opened: u64, state: RejectionState) {
        let Manifest { transfer, channel, .. } = self.manifest;
        let rejection = Rejection::new(self.manifest, self.receiver.clone(), opened, Timestamp::now(), state);
        reject(self.broker, self.broker.subjects().of(Kind::Reject, channel, *transfer), &rejection).await;
    }

    async fn publish(&self, kind: Kind, headers: Vec<(&'static str, String)>, room: Room) -> Result<(), ReceiveError> {
        let Manifest { transfer, channel, .. } = self.manifest;
        let broker = match room {
            Room::Awaited => self.broker.clone(),
            Room::NotAwaited => self.broker.without_waiting_for_room(),
        };
        let subject = self.broker.subjects().of(kind, channel, *transfer);
        match broker.say(subject, &headers, Bytes::new()).await {
            Ok(()) => Ok(()),
            Err(BrokerError::Denied { violation, .. }) => {
                tracing::warn!(%transfer, "no {} is published: {violation}", kind.as_str());
                Ok(())
            }
            Err(error) if error.is(code::STREAM_SEALED) => {
                tell_archive(self.broker, &error);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Says once for each connection that nothing can be said of files on it.
fn tell_archive(broker: &Broker, why: &BrokerError) {
    if broker.begins_silence() {
        tracing::warn!("files are received, and nobody is told: no receipts can be stored in an archive ({why})");
    }
}

/// Publishes a rejection. Where that is not possible, the log has it: nobody waits for long, because the transfer is off the
/// inbox either way.
pub(crate) async fn reject(broker: &Broker, subject: String, rejection: &Rejection) {
    let broker = broker.with_patience(REJECTION_PATIENCE).without_waiting_for_room();
    let record = match rejection.to_header() {
        Ok(record) => record,
        Err(error) => return tracing::warn!(subject, "a rejection cannot be written: {error}"),
    };
    if let Err(error) = broker.say(subject.clone(), &[(header::REJECTION, record)], Bytes::new()).await {
        if error.is(code::STREAM_SEALED) {
            return tell_archive(&broker, &error);
        }
        tracing::warn!(subject, "a rejection could not be published, and will not be listed: {error}");
    }
}
