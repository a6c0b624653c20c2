//! A transfer taken from the inbox: kept for this process while it is worked on, then settled or put back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use natsfer_common::broker::{Acknowledgement, Broker, BrokerError, Delivery};
use tokio::{sync::oneshot, time::Instant};
use tokio_util::task::TaskTracker;

use crate::{account::Open, ledger::Entry};

/// How long to wait until the server says that it knows. One that has forgotten what it delivered never does.
const CONFIRMATION: Duration = Duration::from_secs(10);

/// Tells the server, ten times in the takeover time, that the transfer is being worked on. Dropped, it puts the transfer
/// back at once.
#[derive(Debug)]
pub(crate) struct Hold {
    settle: oneshot::Sender<Settlement>,
    /// The delivered message's sequence in its stream.
    pub(crate) sequence: u64,
    /// The broker's epoch when it was delivered.
    epoch: u64,
    lapsed: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Settlement {
    acknowledgement: Acknowledgement,
    settled: oneshot::Sender<()>,
}

/// One delivery of an inbox.
#[derive(Debug)]
struct Held {
    broker: Broker,
    ack_subject: String,
    /// What was delivered, and where it was.
    subject: String,
    sequence: u64,
    /// The broker's epoch then.
    epoch: u64,
    /// The server was not told in time, and may have given the transfer to another process.
    lapsed: Arc<AtomicBool>,
}

impl Hold {
    pub(crate) fn new(
        broker: &Broker, delivery: &Delivery, takeover: Duration, entry: Option<Entry>, open: Open, tasks: &TaskTracker,
    ) -> Self {
        let (settle, settlement) = oneshot::channel();
        let lapsed = Arc::<AtomicBool>::default();
        let (sequence, epoch) = (delivery.stream_sequence, broker.epoch());
        let held = Held {
            broker: broker.clone(),
            ack_subject: delivery.ack_subject(),
            subject: delivery.subject().to_owned(),
            sequence,
            epoch,
            lapsed: lapsed.clone(),
        };
        tasks.spawn(held.keep(takeover, entry, open, settlement));
        Self { settle, sequence, epoch, lapsed }
    }

    /// Whether another process may have been given the transfer meanwhile: this one stood still for too long, or was cut off.
    pub(crate) fn may_be_lost(&self, broker: &Broker) -> bool {
        self.lapsed.load(Ordering::Relaxed) || broker.epoch() != self.epoch
    }

    /// Settles it; on return the server knows, or could not be reached: it will then deliver the transfer again, which is
    /// harmless.
    pub(crate) async fn settle(self, acknowledgement: Acknowledgement) {
        let (settled, done) = oneshot::channel();
        if self.settle.send(Settlement { acknowledgement, settled }).is_ok() {
            // An error says that the keeping task is gone with the runtime.
            let _ = done.await;
        }
    }
}

impl Held {
    async fn keep(
        self, takeover: Duration, entry: Option<Entry>, open: Open, mut settlement: oneshot::Receiver<Settlement>,
    ) {
        let Self { broker, ack_subject, .. } = &self;
        let mut interval = tokio::time::interval(takeover / 10);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut renewed = interval.tick().await;
        let settlement = loop {
            tokio::select! {
                biased;
                settlement = &mut settlement => break settlement,
                _ = interval.tick() => {
                    if renewed.elapsed() >= takeover {
                        self.lapsed.store(true, Ordering::Relaxed);
                    }
                    if broker.acknowledge(ack_subject, Acknowledgement::InProgress).await {
                        renewed = Instant::now();
                        entry.as_ref().inspect(|entry| entry.renewed());
                    }
                }
            }
        };
        match settlement {
            // Dropped without a word: on a server that stays away, its wait decides.
            Err(_) => {
                if let Err(error) = self.confirm(Acknowledgement::Again(Duration::ZERO)).await {
                    tracing::debug!(subject = self.subject, "not put back: {error}");
                }
            }
            Ok(Settlement { acknowledgement, settled }) => {
                let is_done = matches!(acknowledgement, Acknowledgement::Done | Acknowledgement::Never);
                match self.confirm(acknowledgement).await {
                    Ok(()) if is_done && self.broker.epoch() == self.epoch => open.done(),
                    Ok(()) => {}
                    Err(error) => tracing::warn!(
                        subject = self.subject,
                        "an acknowledgement was not confirmed; the transfer will come again: {error}"
                    ),
                }
                // Whoever waits may have gone.
                let _ = settled.send(());
            }
        }
        drop(entry);
    }

    async fn confirm(&self, acknowledgement: Acknowledgement) -> Result<(), BrokerError> {
        let broker = self.broker.with_patience(CONFIRMATION);
        let (once, acknowledgement) = (broker.with_patience(Duration::ZERO), &acknowledgement);
        let confirmed = broker.patiently("confirming an acknowledgement", || async {
            if self.is_anothers(&once).await? {
                tracing::info!(subject = self.subject, "not acknowledged: the server has another message in its place");
                return Ok(());
            }
            once.confirm(&self.ack_subject, acknowledgement).await
        });
        confirmed.await
    }

    /// Whether the server, which may be another one than before, has another message of this sequence. Acknowledged, that would
    /// be done without having been received.
    async fn is_anothers(&self, broker: &Broker) -> Result<bool, BrokerError> {
        if broker.epoch() == self.epoch {
            return Ok(false);
        }
        let stored_at = broker.stored_at(broker.stream().control(), &self.subject, self.sequence).await?;
        Ok(stored_at.is_none())
    }
}
