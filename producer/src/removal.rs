//! Taking transfers back, and removing them: whole transfers only.

use natsfer_common::{
    Kind, Manifest,
    broker::{Broker, BrokerError, CatalogEntry},
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
pub async fn cancel(broker: &Broker, entry: &CatalogEntry, reason: String) -> Result<Cancellation, ProducerError> {
    // What is taken back makes room.
    let broker = &broker.without_waiting_for_room();
    let Manifest { transfer, ref channel, .. } = entry.manifest;
    ensure_listed(broker, entry).await?;
    if entry.manifest.inline.is_some() {
        // What is removed cannot be received. Sent again, it has the same id, and what was said about it before must not count.
        return Ok(Cancellation::Removed(purge(broker, entry, &CONTROL).await?));
    }
    let tombstone = Tombstone { broker, channel, transfer };
    // Known before chunks go, so that nobody takes them for lost; and said once more behind them.
    match tombstone.place(reason.clone()).await {
        // What was said of it goes first, then, and all of it where that is not enough.
        Err(ProducerError::Broker(full)) if full.is_full() => {
            let mut removed = purge(broker, entry, &[Kind::Receipt, Kind::Repair, Kind::Reject]).await?;
            match tombstone.place(reason).await {
                Err(ProducerError::Broker(full)) if full.is_full() => {
                    removed += purge(broker, entry, &[Kind::Data]).await?;
                    return Ok(Cancellation::Removed(removed + purge(broker, entry, &CONTROL).await?));
                }
                placed => placed?,
            }
        }
        placed => placed?,
    }
    match purge(broker, entry, &[Kind::Data]).await {
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
    /// Finds out whether this user may look for messages and remove them, and which cursors there are.
    ///
    /// # Errors
    /// When the server does not answer, or this user may not; nothing was removed.
    pub async fn new(broker: &'a Broker) -> Result<Self, ProducerError> {
        let data = broker.stream().data();
        // Nothing is stored there, in neither stream.
        let nothing = format!("{}.nothing", broker.stream().prefix());
        for stream in [broker.stream().control(), &data] {
            broker.purge(stream, &nothing).await?;
            broker.last_message_of_leader(stream, &nothing).await?;
        }
        let cursors = broker.consumers(&data).await?.into_iter().map(|cursor| cursor.name).collect();
        Ok(Self { broker, cursors })
    }

    /// Removes every trace of a transfer from the streams, as it was listed: one that was opened under its id since stays. Says
    /// how many messages there were.
    ///
    /// # Cancel safety
    /// Dropped half-way, the transfer is cancelled, if there was room to say so, and its manifest still there: repeated, it goes
    /// on.
    ///
    /// # Errors
    /// When the server does not answer. Repeated, it goes on.
    pub async fn remove(&self, entry: &CatalogEntry) -> Result<u64, ProducerError> {
        let Self { broker, cursors } = self;
        let Manifest { transfer, ref channel, .. } = entry.manifest;
        let data = broker.stream().data();
        let mut removed = 0;
        ensure_listed(broker, entry).await?;
        if entry.manifest.inline.is_none() {
            // Whoever is receiving it is told. Without room for that, they find it gone.
            let broker = &broker.without_waiting_for_room();
            match (Tombstone { broker, channel, transfer }).place("it was removed from the stream".into()).await {
                Err(ProducerError::Broker(full)) if full.is_full() => tracing::debug!(%transfer, "not marked: {full}"),
                placed => placed?,
            }
            removed += purge(broker, entry, &[Kind::Data]).await?;
            for cursor in cursors.iter().filter(|name| name.ends_with(&format!("-{transfer}"))) {
                match broker.delete_consumer(&data, cursor).await {
                    // The server removes what nobody uses by itself.
                    Err(BrokerError::Denied { violation, .. }) => tracing::warn!("{cursor} is left: {violation}"),
                    deleted => _ = deleted?,
                }
            }
        }
        Ok(removed + purge(broker, entry, &CONTROL).await?)
    }
}

/// Removes one transfer, as a [`Remover`] does.
///
/// # Errors
/// See [`Remover::new`] and [`Remover::remove`].
pub async fn remove(broker: &Broker, entry: &CatalogEntry) -> Result<u64, ProducerError> {
    Remover::new(broker).await?.remove(entry).await
}

/// What is said about a transfer, the manifest last: as long as it is there, the transfer is found, and its removal can be
/// repeated.
const CONTROL: [Kind; 5] = [Kind::Receipt, Kind::Repair, Kind::Reject, Kind::Close, Kind::Open];

/// Fails if the transfer was removed since it was listed; one that was opened under its id since is another one.
async fn ensure_listed(broker: &Broker, entry: &CatalogEntry) -> Result<(), ProducerError> {
    match is_listed(broker, entry).await? {
        true => Ok(()),
        false => Err(ProducerError::NoSuchTransfer { transfer: entry.manifest.transfer }),
    }
}

/// Whether a transfer is still there as it was listed, and was not opened anew.
pub(crate) async fn is_listed(broker: &Broker, entry: &CatalogEntry) -> Result<bool, BrokerError> {
    let opened = broker.opened(&entry.manifest.channel, entry.manifest.transfer).await?;
    Ok(opened.is_some_and(|opened| opened.sequence == entry.sequence))
}

/// Removes what lies on these subjects of a transfer, and says how many messages there were: none if another one has its id by
/// now.
async fn purge(broker: &Broker, entry: &CatalogEntry, kinds: &[Kind]) -> Result<u64, BrokerError> {
    let Manifest { transfer, ref channel, .. } = entry.manifest;
    let mut found = Vec::new();
    for kind in kinds {
        let stream = if *kind == Kind::Data { broker.stream().data() } else { broker.stream().control().to_owned() };
        let subject = broker.subjects().of(*kind, channel, transfer);
        let last = broker.last_message_of_leader(&stream, &subject).await?;
        found.extend(last.map(|last| (stream, subject, last.sequence)));
    }
    // As long as this one's manifest stands, all that was found is this one's: another lies behind.
    if !is_listed(broker, entry).await? {
        return Ok(0);
    }
    let mut removed = 0;
    for (stream, subject, last) in found {
        removed += broker.purge_to(&stream, &subject, last).await?;
    }
    Ok(removed)
}
