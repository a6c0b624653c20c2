//! Whether a transfer is still there to be received.

use jiff::Timestamp;
use natsfer_common::{
    Closing, ClosingRecord, Contradiction, Manifest, Totals,
    broker::{Broker, BrokerError, StoredMessage},
};

use crate::ReceiveError;

/// What the close subject says. Fails when the transfer was taken back.
pub(crate) async fn closing(broker: &Broker, manifest: &Manifest) -> Result<Option<Totals>, ReceiveError> {
    let Manifest { transfer, channel, .. } = manifest;
    match broker.closing_record(channel, *transfer).await?.map(|record| record.closing) {
        Some(Closing::Complete(totals)) => Ok(Some(totals)),
        Some(Closing::Cancelled { reason }) => Err(Contradiction::Cancelled { transfer: *transfer, reason }.into()),
        None => Ok(None),
    }
}

/// What a closing record that came behind the chunks comes to; `None` if it does not count. A cancellation counts on the close
/// subject alone: removed and sent again under its id, a transfer may have an old one among its chunks.
pub(crate) async fn closed(
    broker: &Broker, manifest: &Manifest, came: ClosingRecord,
) -> Result<Option<ClosingRecord>, BrokerError> {
    match came.closing {
        Closing::Complete(_) => Ok(Some(came)),
        Closing::Cancelled { .. } => {
            let standing = broker.closing_record_of_leader(&manifest.channel, manifest.transfer).await?;
            // A complete one says nothing of what has been delivered.
            Ok(standing.filter(|record| matches!(record.closing, Closing::Cancelled { .. })))
        }
    }
}

/// Fails when the transfer's id stands for another one now: it was removed, and something else sent under its id. A replica that
/// lags may show the one before: the leader is asked before that is believed. Who may not look takes it for the same.
pub(crate) async fn is_the_same(broker: &Broker, manifest: &Manifest) -> Result<(), ReceiveError> {
    let Manifest { transfer, channel, .. } = manifest;
    let is_another = |message: Option<&StoredMessage>| {
        let now = message.and_then(|message| message.manifest(channel, *transfer));
        now.is_some_and(|now| now != *manifest)
    };
    let open = broker.subjects().open(channel, *transfer);
    let shown = match broker.last_message(broker.stream().control(), &open).await {
        Err(BrokerError::Denied { .. }) => return Ok(()),
        shown => shown?,
    };
    if !is_another(shown.as_ref()) {
        return Ok(());
    }
    match broker.opened(channel, *transfer).await {
        Err(BrokerError::Denied { .. }) => Err(ReceiveError::NoSuchTransfer { transfer: *transfer }),
        Err(error) => Err(error.into()),
        Ok(known) if is_another(known.as_ref()) => Err(ReceiveError::NoSuchTransfer { transfer: *transfer }),
        Ok(_) => Ok(()),
    }
}

/// Whether the transfer's id was opened again since.
pub(crate) async fn is_opened_anew(broker: &Broker, manifest: &Manifest, opened_at: Timestamp) -> bool {
    match broker.opened(&manifest.channel, manifest.transfer).await {
        Ok(Some(opened)) => opened.stored_at != opened_at,
        // Removed, or not known.
        _ => false,
    }
}

/// Fails when the transfer was taken back or removed: what does not come of it then never will.
pub(crate) async fn is_there(broker: &Broker, manifest: &Manifest) -> Result<(), ReceiveError> {
    closing(broker, manifest).await?;
    let Manifest { transfer, channel, .. } = manifest;
    match broker.opened(channel, *transfer).await {
        Ok(None) => Err(ReceiveError::NoSuchTransfer { transfer: *transfer }),
        // Who may not look takes it for there.
        Ok(Some(_)) | Err(BrokerError::Denied { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
