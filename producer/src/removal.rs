//! Taking transfers back, and removing them: whole transfers only.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use natsfer_common::{
    Channel, ChannelFilter, Kind, Manifest, ReceiverName, TransferId,
    broker::{Broker, BrokerError, CatalogEntry, TransferState},
};

use crate::{ProducerError, tombstone::Tombstone};

/// Which transfers to remove.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Pruning {
    /// On these channels.
    pub channels: ChannelFilter,
    /// Only those to which nothing has happened for so long, by this machine's clock.
    pub older_than: Option<Duration>,
    /// Of the complete ones only those that all these receivers have landed, by their receipts.
    pub delivered_to: Vec<ReceiverName>,
    /// Only those in one of these states.
    pub states: Vec<PruneState>,
}

/// How far a transfer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PruneState {
    /// Its sender has not finished it.
    Open,
    /// It is all there.
    Complete,
    /// It was taken back.
    Cancelled,
}

impl PruneState {
    fn of(state: &TransferState) -> Self {
        match state {
            TransferState::Open => Self::Open,
            TransferState::Complete { .. } => Self::Complete,
            TransferState::Cancelled { .. } => Self::Cancelled,
        }
    }
}

impl Pruning {
    /// On these channels.
    #[must_use]
    pub fn with_channels(mut self, channels: ChannelFilter) -> Self {
        self.channels = channels;
        self
    }

    /// To which nothing has happened for so long.
    #[must_use]
    pub fn with_older_than(mut self, age: Option<Duration>) -> Self {
        self.older_than = age;
        self
    }

    /// Of the complete ones those that all these receivers have landed.
    #[must_use]
    pub fn with_delivered_to(mut self, receivers: Vec<ReceiverName>) -> Self {
        self.delivered_to = receivers;
        self
    }

    /// In one of these states.
    #[must_use]
    pub fn with_states(mut self, states: Vec<PruneState>) -> Self {
        self.states = states;
        self
    }

    /// The transfers that are to go, oldest first.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn select(&self, broker: &Broker) -> Result<Vec<CatalogEntry>, ProducerError> {
        let mut selected = Vec::new();
        for entry in broker.catalog(&self.channels).await? {
            if self.states.contains(&PruneState::of(&entry.state)) && self.may_go(broker, &entry).await? {
                selected.push(entry);
            }
        }
        Ok(selected)
    }

    async fn may_go(&self, broker: &Broker, entry: &CatalogEntry) -> Result<bool, BrokerError> {
        let Manifest { transfer, channel, .. } = &entry.manifest;
        if let Some(age) = self.older_than {
            let mut changed_at = entry.changed_at;
            if entry.state == TransferState::Open {
                // Its last chunk says whether it is still being sent.
                let data = broker.subjects().data(channel, *transfer);
                let last = broker.last_message_of_leader(&broker.stream().data(), &data).await?;
                changed_at = last.map_or(changed_at, |last| changed_at.max(last.stored_at));
            }
            let age = SignedDuration::try_from(age).unwrap_or(SignedDuration::MAX);
            if Timestamp::now().duration_since(changed_at) < age {
                return Ok(false);
            }
        }
        let TransferState::Complete { digest, .. } = entry.state else { return Ok(true) };
        if self.delivered_to.is_empty() {
            return Ok(true);
        }
        let receipts = broker.receipts(channel, *transfer).await?;
        let has =
            |name: &ReceiverName| receipts.iter().any(|receipt| receipt.receiver == *name && receipt.digest == digest);
        Ok(self.delivered_to.iter().all(has))
    }
}

/// Takes a transfer back: whoever has not received it yet never will, and drops what it has of it. Its chunks are removed;
/// that it was cancelled, and why, stays. Says how many messages were removed.
///
/// # Errors
/// When the server does not answer, or this user may not remove messages: the transfer is then cancelled all the same.
pub async fn cancel(broker: &Broker, manifest: &Manifest, reason: String) -> Result<u64, ProducerError> {
    let Manifest { transfer, ref channel, .. } = *manifest;
    if manifest.inline.is_some() {
        // The file is in its manifest's message: what is removed cannot be received. Sent again, it has the same id, and what
        // was said about it before must not count.
        return purge_control(broker, channel, transfer).await;
    }
    let tombstone = Tombstone { broker, channel, transfer };
    // Known before chunks go, so that nobody takes them for lost; and said once more behind them.
    tombstone.place(reason.clone()).await?;
    let removed = broker.purge(&broker.stream().data(), &broker.subjects().data(channel, transfer)).await?;
    tombstone.place(reason).await?;
    Ok(removed)
}

/// Removes every trace of a transfer from the streams. Says how many messages there were.
///
/// # Errors
/// When the server does not answer, or this user may not remove messages. Repeated, it goes on.
pub async fn remove(broker: &Broker, manifest: &Manifest) -> Result<u64, ProducerError> {
    let Manifest { transfer, ref channel, .. } = *manifest;
    let data = broker.stream().data();
    let mut removed = 0;
    if manifest.inline.is_none() {
        // Whoever is receiving it is told.
        Tombstone { broker, channel, transfer }.place("it was removed from the stream".into()).await?;
        removed += broker.purge(&data, &broker.subjects().data(channel, transfer)).await?;
        for cursor in broker.consumers(&data).await? {
            if cursor.name.ends_with(&format!("-{transfer}")) {
                broker.delete_consumer(&data, &cursor.name).await?;
            }
        }
    }
    Ok(removed + purge_control(broker, channel, transfer).await?)
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
