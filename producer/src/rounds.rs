//! What nobody says: that a transfer is gone, or that a receiver is done with it and does not have it. It is looked up, in
//! rounds.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Bound,
    time::Duration,
};

use natsfer_common::{
    Receipt, ReceiverName,
    broker::{Broker, BrokerError, ConsumerState, StoredMessage, code},
};
use tokio::time::{Instant, Interval, MissedTickBehavior};

use crate::deliveries::{Awaited, Key};

/// How often a round begins.
const EVERY: Duration = Duration::from_secs(10);
/// Transfers looked at in one round; the next one goes on behind them.
const MOST_TRANSFERS: usize = 100;
/// Bytes of small files inside manifests that come along with one round.
const MOST_BYTES: u64 = 8 << 20;

/// Looks at the awaited transfers, some at a time.
#[derive(Debug)]
pub(crate) struct Rounds {
    broker: Broker,
    ticks: Interval,
    /// The rest of this round.
    queue: VecDeque<Key>,
    /// Where the last round ended.
    last: Option<Key>,
    /// Where the receivers stood in this round.
    inboxes: BTreeMap<ReceiverName, Option<ConsumerState>>,
    sight: Sight,
}

/// What this user may look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sight {
    /// Transfers and receivers.
    All,
    /// Whether transfers are there, not where receivers stand.
    Transfers,
    Nothing,
}

/// What became of one transfer.
#[derive(Debug)]
pub(crate) enum Found {
    /// Nothing new.
    Nothing,
    /// It is not in the stream.
    Removed,
    /// These receivers are done with it. Those that have it have published one of the receipts.
    Done { receivers: BTreeSet<ReceiverName>, receipts: Vec<Receipt> },
}

impl Rounds {
    pub(crate) fn new(broker: &Broker) -> Self {
        let mut ticks = tokio::time::interval_at(Instant::now() + EVERY, EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (queue, last, inboxes) = Default::default();
        // The next round comes before a server is back that is away.
        Self { broker: broker.with_patience(EVERY), ticks, queue, last, inboxes, sight: Sight::All }
    }

    /// Ends when the next round is due. Cancel safe.
    pub(crate) async fn due(&mut self) {
        self.ticks.tick().await;
    }

    /// Begins a round behind the last one.
    pub(crate) fn begin(&mut self, awaited: &BTreeMap<Key, Awaited>) {
        self.inboxes.clear();
        self.queue.clear();
        if self.sight == Sight::Nothing {
            return;
        }
        let behind = self.last.take().map_or(Bound::Unbounded, Bound::Excluded);
        let mut bytes = 0;
        for (key, awaited) in awaited.range((behind, Bound::Unbounded)) {
            if self.queue.len() >= MOST_TRANSFERS || bytes >= MOST_BYTES {
                self.last = self.queue.back().cloned();
                return;
            }
            if !awaited.receivers.is_empty() {
                bytes += awaited.inline.unwrap_or(0);
                self.queue.push_back(key.clone());
            }
        }
    }

    /// Whose turn it is.
    pub(crate) fn next(&self) -> Option<Key> {
        self.queue.front().cloned()
    }

    /// That one needs no look.
    pub(crate) fn pass(&mut self) {
        self.queue.pop_front();
    }

    /// Looks at the transfer whose turn it is.
    ///
    /// # Cancel safety
    /// Cancel safe: its turn stays.
    pub(crate) async fn look(&mut self, key: &Key, awaited: &Awaited) -> Result<Found, BrokerError> {
        let found = match self.look_at(key, awaited).await {
            Err(error) if error.is_passing() => {
                tracing::debug!("the round ends: {error}");
                self.queue.clear();
                Found::Nothing
            }
            found => found?,
        };
        self.pass();
        Ok(found)
    }

    async fn look_at(&mut self, key: &Key, awaited: &Awaited) -> Result<Found, BrokerError> {
        let (channel, transfer) = key;
        let subject = self.broker.subjects().open(channel, *transfer);
        // Receivers before the transfer, and receipts last: a message that is published meanwhile must not count as done, and
        // a receipt comes before the acknowledgement.
        for receiver in &awaited.receivers {
            self.note_inbox(receiver).await?;
        }
        let opened = match self.opened(key).await {
            Ok(Some(opened)) => opened,
            Ok(None) => return Ok(Found::Removed),
            Err(error) => return self.narrow(Sight::Nothing, error),
        };
        let is_done = |receiver: &&ReceiverName| {
            let inbox = self.inboxes.get(*receiver).and_then(Option::as_ref);
            inbox.is_some_and(|inbox| inbox.listens_to(&subject) && inbox.acknowledged_to >= opened.sequence)
        };
        let mut receivers: BTreeSet<_> = awaited.receivers.iter().filter(is_done).cloned().collect();
        if receivers.is_empty() {
            return Ok(Found::Nothing);
        }
        if awaited.inline.is_some() {
            match self.broker.asked_since(channel, *transfer, opened.stored_at).await {
                Ok(waiting) => receivers.retain(|receiver| !waiting.contains(receiver)),
                Err(error) => return self.narrow(Sight::Transfers, error),
            }
        }
        match self.broker.receipts(channel, *transfer).await {
            Ok(receipts) => Ok(Found::Done { receivers, receipts }),
            Err(error) => self.narrow(Sight::Transfers, error),
        }
    }

    async fn note_inbox(&mut self, receiver: &ReceiverName) -> Result<(), BrokerError> {
        if self.sight == Sight::All && !self.inboxes.contains_key(receiver) {
            match self.broker.consumer(self.broker.stream().control(), receiver.as_str()).await {
                Ok(inbox) => _ = self.inboxes.insert(receiver.clone(), inbox),
                Err(error) => _ = self.narrow(Sight::Transfers, error)?,
            }
        }
        Ok(())
    }

    /// The transfer's manifest; none where there is no stream.
    async fn opened(&self, (channel, transfer): &Key) -> Result<Option<StoredMessage>, BrokerError> {
        match self.broker.opened(channel, *transfer).await {
            Err(error) if error.is(code::STREAM_NOT_FOUND) => Ok(None),
            result => result,
        }
    }

    /// Does without what is denied, from now on.
    fn narrow(&mut self, sight: Sight, error: BrokerError) -> Result<Found, BrokerError> {
        let BrokerError::Denied { violation, .. } = error else { return Err(error) };
        tracing::debug!("what has become of transfers is not all looked at: {violation}");
        self.sight = sight;
        self.inboxes.clear();
        Ok(Found::Nothing)
    }
}
