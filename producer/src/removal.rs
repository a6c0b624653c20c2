//! Taking transfers back, and removing them: whole transfers only.

use natsfer_common::{
    Channel, Kind, Manifest, TransferId,
    broker::{Broker, BrokerError},
};

use crate::{ProducerError, tombstone::Tombstone};

/// What became of a transfer that was taken back.
#[derive(Debug)]
pub enum Cancellation {
    /// Nothing is left of it but its mark: so many messages were removed.
    Removed(u64),
    /// It is cancelled, and receivers drop what they have of it; but its chunks are still in the stream.
    Kept(BrokerError),
}

/// Takes a transfer back: whoever has not received it yet never will, and drops what it has of it. Its chunks are removed,
/// where this user may; that it was cancelled, and why, stays.
///
/// # Cancel safety
/// Dropped half-way, the transfer may be cancelled and its chunks be there: repeated, it goes on.
///
/// # Errors
/// When the server does not answer, or this user may not publish the cancellation. A small file has none, for it is in its
/// manifest's message: it is only removed, and not to be allowed to is an error.
pub async fn cancel(broker: &Broker, manifest: &Manifest, reason: String) -> Result<Cancellation, ProducerError> {
    let Manifest { transfer, ref channel, .. } = *manifest;
    if manifest.inline.is_some() {
        // What is removed cannot be received. Sent again, it has the same id, and what was said about it before must not count.
        return Ok(Cancellation::Removed(purge_control(broker, channel, transfer).await?));
    }
    let tombstone = Tombstone { broker, channel, transfer };
    // Known before chunks go, so that nobody takes them for lost; and said once more behind them.
    tombstone.place(reason).await?;
    match tombstone.purge().await {
        Ok(removed) => {
            tombstone.repeat().await?;
            Ok(Cancellation::Removed(removed))
        }
        Err(error) => Ok(Cancellation::Kept(error)),
    }
}

/// Removes transfers, every trace of them. Whoever has one is allowed to: a transfer is not half removed for lack of rights.
#[derive(Debug)]
pub struct Remover<'a> {
    broker: &'a Broker,
    /// The cursors of all transfers.
    cursors: Vec<String>,
}

impl<'a> Remover<'a> {
    /// Finds out whether this user may remove messages, and which cursors there are.
    ///
    /// # Errors
    /// When the server does not answer, or this user may not; nothing was removed.
    pub async fn new(broker: &'a Broker) -> Result<Self, ProducerError> {
        let data = broker.stream().data();
        // Nothing is stored there, in neither stream.
        let nothing = format!("{}.nothing", broker.stream().prefix());
        for stream in [broker.stream().control(), &data] {
            broker.purge(stream, &nothing).await?;
        }
        let cursors = broker.consumers(&data).await?.into_iter().map(|cursor| cursor.name).collect();
        Ok(Self { broker, cursors })
    }

    /// Removes every trace of a transfer from the streams. Says how many messages there were.
    ///
    /// # Cancel safety
    /// Dropped half-way, the transfer is cancelled, and its manifest still there: repeated, it goes on.
    ///
    /// # Errors
    /// When the server does not answer. Repeated, it goes on.
    pub async fn remove(&self, manifest: &Manifest) -> Result<u64, ProducerError> {
        let Self { broker, cursors } = self;
        let Manifest { transfer, ref channel, .. } = *manifest;
        let data = broker.stream().data();
        let mut removed = 0;
        if manifest.inline.is_none() {
            // Whoever is receiving it is told. Without room for that, they find it gone.
            match (Tombstone { broker, channel, transfer }).place("it was removed from the stream".into()).await {
                Err(ProducerError::Broker(full)) if full.is_full() => tracing::debug!(%transfer, "not marked: {full}"),
                placed => placed?,
            }
            removed += broker.purge(&data, &broker.subjects().data(channel, transfer)).await?;
            for cursor in cursors.iter().filter(|name| name.ends_with(&format!("-{transfer}"))) {
                match broker.delete_consumer(&data, cursor).await {
                    // The server removes what nobody uses by itself.
                    Err(BrokerError::Denied { violation, .. }) => tracing::warn!("{cursor} is left: {violation}"),
                    deleted => _ = deleted?,
                }
            }
        }
        Ok(removed + purge_control(broker, channel, transfer).await?)
    }
}

/// Removes one transfer, as a [`Remover`] does.
///
/// # Errors
/// See [`Remover::new`] and [`Remover::remove`].
pub async fn remove(broker: &Broker, manifest: &Manifest) -> Result<u64, ProducerError> {
    Remover::new(broker).await?.remove(manifest).await
}

/// The manifest last: as long as it is there, the transfer is found, and this can be repeated.
async fn purge_control(broker: &Broker, channel: &Channel, transfer: TransferId) -> Result<u64, ProducerError> {
    let mut removed = 0;
    for kind in [Kind::Receipt, Kind::Repair, Kind::Close, Kind::Open] {
        let subject = broker.subjects().of(kind, channel, transfer);
        removed += broker.purge(broker.stream().control(), &subject).await?;
    }
    Ok(removed)
}
