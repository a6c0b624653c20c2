//! Where a transfer comes from, and who is told how it ended.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use natsfer_common::{
    Digest, FileName, Manifest, RejectionReason, RejectionState,
    broker::{Acknowledgement, Broker, BrokerError},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    Failure, Limits, ReceiveError,
    hold::Hold,
    report::{Before, Report, Room},
    staging::Owner,
};

/// Longest time a transfer that could not be received now is left alone before it is tried again.
const LONGEST_REST: Duration = Duration::from_secs(15);
/// Transfers that may wait before they are left alone for longer.
const MANY: u64 = 500;

/// One of a receiver's hands. It can be let go before the transfer is done, where only words are to be said of it.
#[derive(Debug)]
pub(crate) struct Hand {
    permit: Mutex<Option<OwnedSemaphorePermit>>,
    /// Places for those that wait without a hand.
    waiting: Arc<Semaphore>,
}

impl Hand {
    pub(crate) fn new(permit: OwnedSemaphorePermit, waiting: Arc<Semaphore>) -> Self {
        Self { permit: Mutex::new(Some(permit)), waiting }
    }

    /// Lets another transfer have the hand, for a place among those that wait; keeps it where there is no such place.
    fn let_go(&self) -> Option<OwnedSemaphorePermit> {
        let place = self.waiting.clone().try_acquire_owned().ok()?;
        drop(self.permit.lock().unwrap_or_else(PoisonError::into_inner).take());
        Some(place)
    }
}

/// Which try to receive a transfer this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// The first one.
    First,
    /// The server delivers the transfer again, for this many times in all, and would deliver it once more.
    Redelivered(u64),
    /// Somebody asks for a transfer that was rejected: it does not come by itself.
    Requested,
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
        /// One of the receiver's hands, until it is let go.
        hand: Hand,
    },
    /// Off the inbox: the receiver had rejected it, and tries it again.
    Rejected {
        /// The receiver.
        owner: Owner,
        /// Its manifest's sequence in the control stream.
        sequence: u64,
    },
    /// Looked up: nobody's progress changes.
    Replay,
}

impl Origin {
    /// Says, for a receiver, that it has the file, and where. `before` is what the file itself tells of that; the hold may tell more.
    pub(crate) async fn report(
        &self, broker: &Broker, manifest: &Manifest, digest: Digest, size: u64, path: Option<FileName>, before: Before,
    ) -> Result<(), ReceiveError> {
        let Some((report, sequence)) = self.voice(broker, manifest) else { return Ok(()) };
        let may_be_said = match self {
            Self::Inbox { hold, delivered, .. } => *delivered > 1 || hold.may_be_lost(broker),
            Self::Rejected { .. } | Self::Replay => true,
        };
        let before = if may_be_said { Before::Perhaps } else { before };
        match report.landed(digest, size, path.clone(), sequence, before, Room::NotAwaited).await {
            Err(ReceiveError::Broker(full)) if full.is_full() => {}
            said => return said,
        }
        // The file is here, and others can land; of what has landed and waits for room to say so, there are only so many.
        let waits = if let Self::Inbox { hand, .. } = self { hand.let_go() } else { None };
        let said = report.landed(digest, size, path, sequence, Before::Perhaps, Room::Awaited).await;
        drop(waits);
        said
    }

    /// Whether the receiver has said that it has the file.
    pub(crate) async fn has_said(
        &self, broker: &Broker, manifest: &Manifest, digest: Digest, size: u64,
    ) -> Result<bool, ReceiveError> {
        match self.voice(broker, manifest) {
            Some((report, _)) => report.has_said(digest, size).await,
            None => Ok(false),
        }
    }

    /// Who speaks about the transfer, and the sequence of the message that opened it; nobody for a replay.
    fn voice<'a>(&'a self, broker: &'a Broker, manifest: &'a Manifest) -> Option<(Report<'a>, u64)> {
        let (owner, sequence) = match self {
            Self::Inbox { owner, hold, .. } => (owner, hold.sequence),
            Self::Rejected { owner, sequence } => (owner, *sequence),
            Self::Replay => return None,
        };
        let Owner::Receiver(receiver) = owner else { return None };
        Some((Report { broker, receiver, manifest }, sequence))
    }

    /// Which try to receive the transfer this is.
    pub(crate) fn attempt(&self) -> Attempt {
        match self {
            Self::Inbox { delivered: ..=1, .. } | Self::Replay => Attempt::First,
            Self::Inbox { delivered, .. } => Attempt::Redelivered(*delivered),
            Self::Rejected { .. } => Attempt::Requested,
        }
    }

    pub(crate) fn owner(&self) -> Owner {
        match self {
            Self::Inbox { owner, .. } | Self::Rejected { owner, .. } => owner.clone(),
            Self::Replay => Owner::Replay,
        }
    }

    /// Fails if more transfers wait for this receiver than are allowed: one whose sender is silent is then given up.
    pub(crate) async fn ensure_few_wait(
        &self, broker: &Broker, manifest: &Manifest, limits: &Limits,
    ) -> Result<(), ReceiveError> {
        let (waiting, limit) = (self.waiting(broker).await?, limits.max_open);
        match waiting > limit {
            true => Err(ReceiveError::Abandoned { transfer: manifest.transfer, waiting, limit }),
            false => Ok(()),
        }
    }

    /// How many transfers the receiver was given that are neither done nor given up.
    async fn waiting(&self, broker: &Broker) -> Result<u64, BrokerError> {
        let Self::Inbox { owner: Owner::Receiver(receiver), .. } = self else { return Ok(0) };
        match broker.consumer(broker.stream().control(), receiver.as_str()).await {
            // Who may not look does not count.
            Err(BrokerError::Denied { .. }) => Ok(0),
            inbox => Ok(inbox?.map_or(0, |inbox| inbox.unacknowledged)),
        }
    }

    /// Tells whoever must know how it ended.
    pub(crate) async fn settle(self, broker: &Broker, manifest: &Manifest, error: Option<&ReceiveError>) {
        if let Some((error, reason)) = error.and_then(|error| Some((error, error.rejection()?))) {
            self.record(broker, manifest, RejectionState::rejected(reason, &error.in_full())).await;
        } else if error.is_none_or(|error| error.failure() == Failure::Cancelled)
            && self.was_rejected(broker, manifest).await
        {
            self.record(broker, manifest, RejectionState::Withdrawn).await;
        }
        let acknowledgement = match error.map(ReceiveError::failure) {
            None | Some(Failure::Cancelled | Failure::PassedOver) => Acknowledgement::Done,
            Some(Failure::Final) => Acknowledgement::Never,
            Some(Failure::Passing) => {
                // Those whose senders have not finished are few already. A server that is away is not waited for.
                let waiting = match error.is_some_and(ReceiveError::is_unfinished) || !broker.is_connected() {
                    true => 0,
                    false => self.waiting(&broker.with_patience(Duration::ZERO)).await.unwrap_or(0),
                };
                Acknowledgement::Again(rest(self.attempt(), waiting))
            }
        };
        self.finish(acknowledgement).await;
    }

    /// Whether this receiver has said that it does not want it. One that is delivered again may have been rejected by a process
    /// that died before the server knew.
    async fn was_rejected(&self, broker: &Broker, manifest: &Manifest) -> bool {
        if self.attempt() == Attempt::First {
            return false;
        }
        let Some((report, _)) = self.voice(broker, manifest) else { return false };
        // Who may not look, or cannot, leaves it as it is.
        let rejections = broker.rejections_of(&manifest.channel, manifest.transfer).await;
        rejections.is_ok_and(|rejections| rejections.contains_key(report.receiver))
    }

    /// Takes it for done.
    pub(crate) async fn skip(self) {
        self.finish(Acknowledgement::Done).await;
    }

    /// Takes it off the inbox: whoever received it does not want it.
    pub(crate) async fn refuse(self, broker: &Broker, manifest: &Manifest, reason: &str) {
        tracing::warn!(transfer = %manifest.transfer, name = %manifest.name, reason, "rejected");
        self.record(broker, manifest, RejectionState::rejected(RejectionReason::Refused, reason)).await;
        self.finish(Acknowledgement::Never).await;
    }

    /// Before the inbox forgets it.
    async fn record(&self, broker: &Broker, manifest: &Manifest, state: RejectionState) {
        if let Some((report, sequence)) = self.voice(broker, manifest) {
            report.rejection(sequence, state).await;
        }
    }

    async fn finish(self, acknowledgement: Acknowledgement) {
        if let Self::Inbox { hold, hand, .. } = self {
            hold.settle(acknowledgement).await;
            drop(hand);
        }
    }
}

/// How long to leave a transfer alone after so many deliveries: 1 s, doubling up to 15 s; and longer where so many wait that looking
/// at them would be all that is done.
fn rest(attempt: Attempt, waiting: u64) -> Duration {
    // What is not delivered is not left alone either.
    let delivered = if let Attempt::Redelivered(delivered) = attempt { delivered } else { 1 };
    let doublings = u32::try_from(delivered.saturating_sub(1)).unwrap_or(u32::MAX).min(10);
    let rest = Duration::from_secs(1 << doublings).min(LONGEST_REST);
    // Within a u32: the server keeps count of fewer than a million.
    rest.saturating_mul((waiting / MANY).clamp(1, 10_000) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_received_is_looked_at_less_often_the_more_there_is_of_it() {
        let again = Attempt::Redelivered;
        assert_eq!(rest(Attempt::First, 1).as_secs(), 1);
        assert_eq!([2, 4, 5, 100].map(|delivered| rest(again(delivered), 1).as_secs()), [2, 8, 15, 15]);
        let rests = [0, 500, 999, 1_000, 1_000_000].map(|waiting| rest(again(9), waiting).as_secs());
        assert_eq!(rests, [15, 15, 15, 30, 30_000]);
    }
}
