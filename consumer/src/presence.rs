//! Whether a transfer is still there to be received.

use natsfer_common::{
    Closing, ClosingRecord, Contradiction, Manifest, Totals,
    broker::{Broker, BrokerError},
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
        Closing::Cancelled { .. } => broker.closing_record_of_leader(&manifest.channel, manifest.transfer).await,
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
