//! Which transfers are to be removed.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use natsfer_common::{
    ChannelFilter, Manifest, ReceiverName,
    broker::{Broker, BrokerError, CatalogEntry, TransferState},
};

use crate::{ProducerError, removal::is_listed};

/// Which transfers to remove.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Pruning {
    /// On these channels.
    pub channels: ChannelFilter,
    /// Only those to which nothing has happened for so long, by the server's clock.
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

/// A selection that nobody can have meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CarelessPruning {
    /// Open transfers, whatever their age: what is being sent now is among them.
    #[error("open transfers are selected without an age: what is being sent now must not be removed")]
    Open,
    /// Complete transfers, whatever their age, whoever has landed them.
    #[error("complete transfers are selected without an age, and without receivers that have landed them")]
    Complete,
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

    /// Whether this can be meant: what is open needs an age, what is complete an age or receivers.
    ///
    /// # Errors
    /// When it cannot.
    pub fn check(&self) -> Result<(), CarelessPruning> {
        if self.older_than.is_some() {
            Ok(())
        } else if self.states.contains(&PruneState::Open) {
            Err(CarelessPruning::Open)
        } else if self.states.contains(&PruneState::Complete) && self.delivered_to.is_empty() {
            Err(CarelessPruning::Complete)
        } else {
            Ok(())
        }
    }

    /// The transfers that are to go, oldest first. By the time each of them is removed, something may have happened to it: see
    /// [`Pruning::still_selects`].
    ///
    /// # Errors
    /// When the selection fails its [check](Self::check), or the server does not answer.
    pub async fn select(&self, broker: &Broker) -> Result<Vec<CatalogEntry>, ProducerError> {
        self.check()?;
        let mut selected = Vec::new();
        let catalog = broker.catalog(&self.channels).await?;
        let before = self.before(broker).await?;
        for entry in catalog {
            if self.states.contains(&PruneState::of(&entry.state)) && self.may_go(broker, &entry, before).await? {
                selected.push(entry);
            }
        }
        Ok(selected)
    }

    /// Whether a transfer that was selected is to go now, too: it may have been sent on, closed, or removed and sent again
    /// meanwhile.
    ///
    /// # Errors
    /// As for [`Pruning::select`].
    pub async fn still_selects(&self, broker: &Broker, selected: &CatalogEntry) -> Result<bool, ProducerError> {
        self.check()?;
        let before = self.before(broker).await?;
        match now(broker, selected).await? {
            Some(entry) if self.states.contains(&PruneState::of(&entry.state)) => {
                Ok(self.may_go(broker, &entry, before).await?)
            }
            _ => Ok(false),
        }
    }

    /// Only what has happened before this goes, if an age was given.
    async fn before(&self, broker: &Broker) -> Result<Option<Timestamp>, ProducerError> {
        let Some(age) = self.older_than else { return Ok(None) };
        ends_before(age, broker.server_time().await?).map(Some)
    }

    async fn may_go(
        &self, broker: &Broker, entry: &CatalogEntry, before: Option<Timestamp>,
    ) -> Result<bool, BrokerError> {
        let Manifest { transfer, channel, .. } = &entry.manifest;
        if let Some(before) = before {
            let mut changed_at = entry.changed_at;
            if entry.state == TransferState::Open {
                // Its last chunk says whether it is still being sent.
                let data = broker.subjects().data(channel, *transfer);
                let last = broker.last_message_of_leader(&broker.stream().data(), &data).await?;
                changed_at = last.map_or(changed_at, |last| changed_at.max(last.stored_at));
            }
            if changed_at > before {
                return Ok(false);
            }
        }
        let TransferState::Complete { digest, size, .. } = entry.state else { return Ok(true) };
        if self.delivered_to.is_empty() {
            return Ok(true);
        }
        let receipts = broker.receipts(channel, *transfer).await?;
        let has = |name: &ReceiverName| {
            receipts.iter().any(|receipt| receipt.receiver == *name && receipt.is_of(digest, size))
        };
        Ok(self.delivered_to.iter().all(has))
    }
}

/// When something of this age must have happened last, by the server's clock, by which all times are: this machine's may differ, and
/// says nothing where the server does not.
fn ends_before(age: Duration, server_time: Option<Timestamp>) -> Result<Timestamp, ProducerError> {
    Ok(earlier(server_time.ok_or(ProducerError::NoServerTime)?, age))
}

/// So long before; the earliest time there is where that would be earlier still.
fn earlier(now: Timestamp, age: Duration) -> Timestamp {
    let age = SignedDuration::try_from(age).unwrap_or(SignedDuration::MAX);
    now.checked_sub(age).unwrap_or(Timestamp::MIN)
}

/// What became of a transfer since it was listed; `None` if it is gone, or was opened anew.
async fn now(broker: &Broker, listed: &CatalogEntry) -> Result<Option<CatalogEntry>, BrokerError> {
    let Manifest { transfer, channel, .. } = &listed.manifest;
    if !is_listed(broker, listed).await? {
        return Ok(None);
    }
    let mut entry = listed.clone();
    let close = broker.subjects().close(channel, *transfer);
    let close = broker.last_message_of_leader(broker.stream().control(), &close).await?;
    let Some(close) = close else { return Ok(Some(entry)) };
    entry.changed_at = entry.changed_at.max(close.stored_at);
    if let Some(record) = close.closing_record(*transfer) {
        entry.state = record.closing.into();
    }
    Ok(Some(entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_may_be_longer_than_time_has_been() {
        let now = Timestamp::from_second(1_000).unwrap();
        assert_eq!(earlier(now, Duration::from_secs(400)), Timestamp::from_second(600).unwrap());
        assert_eq!(earlier(now, Duration::MAX), Timestamp::MIN);
    }

    #[test]
    fn ages_go_by_the_server_s_clock_alone() {
        let (hour, age) = (SignedDuration::from_hours(1), Duration::from_secs(600));
        // Ahead of this machine's, and behind it.
        for skew in [hour, SignedDuration::ZERO, -hour] {
            let server_time = Timestamp::now() + skew;
            let before = ends_before(age, Some(server_time)).unwrap();
            let of_minutes = |minutes| server_time - SignedDuration::from_mins(minutes);
            assert!(of_minutes(11) < before && of_minutes(9) > before, "{skew}");
        }
        assert!(matches!(ends_before(age, None), Err(ProducerError::NoServerTime)));
    }

    #[test]
    fn what_is_being_sent_or_awaited_is_not_selected_by_default() {
        use PruneState::{Cancelled, Complete, Open};
        let pruning = |states: &[PruneState]| Pruning::default().with_states(states.to_vec());
        assert_eq!(pruning(&[Cancelled]).check(), Ok(()));
        assert_eq!(pruning(&[Cancelled, Complete]).check(), Err(CarelessPruning::Complete));
        assert_eq!(pruning(&[Complete, Open]).check(), Err(CarelessPruning::Open));
        let delivered = |states| pruning(states).with_delivered_to(vec!["a".parse().unwrap()]);
        assert_eq!(delivered(&[Complete]).check(), Ok(()));
        assert_eq!(delivered(&[Complete, Open]).check(), Err(CarelessPruning::Open));
        assert_eq!(pruning(&[Complete, Open]).with_older_than(Some(Duration::ZERO)).check(), Ok(()));
    }
}
