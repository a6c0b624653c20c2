//! What receivers say, if anybody waits for them: heard in a task of its own, which gets on however much else happens.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, bail};
use natsfer_common::broker::Broker;
use natsfer_producer::{Channel, Deliveries, ProducerError, ReceiverName, Sent, TransferId, Word};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

/// Rest when receivers cannot be listened to.
const DEAF: Duration = Duration::from_secs(5);
/// Orders leave the listening alone for so long: whatever it looks up when one comes, it looks up from the beginning.
const UNDISTURBED: Duration = Duration::from_secs(2);
/// Words that are heard ahead.
const AHEAD: usize = 16;

#[derive(Debug)]
pub(super) enum Listening {
    /// Nobody is waited for.
    ToNobody,
    To {
        orders: mpsc::UnboundedSender<Order>,
        words: mpsc::Receiver<Word>,
        /// One, which ends with this.
        task: JoinSet<()>,
    },
}

/// What the listening is told.
#[derive(Debug)]
pub(super) enum Order {
    Add(Box<Sent>, BTreeSet<ReceiverName>),
    GiveUp(TransferId, BTreeSet<ReceiverName>),
}

impl Listening {
    /// Begins as soon as that can be done.
    pub(super) async fn begin(
        broker: &Broker, channel: &Channel, awaited: Vec<(Sent, Vec<ReceiverName>)>,
    ) -> anyhow::Result<Self> {
        let deliveries = loop {
            match Deliveries::on(broker, channel, awaited.clone()).await {
                Err(ProducerError::Broker(error)) if error.is_passing() => {
                    tracing::warn!("cannot listen to receivers ({error}). Trying again.");
                    sleep(DEAF).await;
                }
                deliveries => break deliveries?,
            }
        };
        // Unbounded: of two sides that wait for each other, neither gets on.
        let (orders, ordered) = mpsc::unbounded_channel();
        let (heard, words) = mpsc::channel(AHEAD);
        let mut task = JoinSet::new();
        task.spawn(listen(deliveries, ordered, heard));
        Ok(Self::To { orders, words, task })
    }

    /// These are waited for, too.
    pub(super) fn add(&self, sent: &Sent, receivers: &BTreeSet<ReceiverName>) {
        self.order(|| Order::Add(Box::new(sent.clone()), receivers.clone()));
    }

    /// These receivers will be left without: whoever else waits for the transfer is not waited for any more if one of them was
    /// awaited.
    pub(super) fn give_up(&self, transfer: TransferId, receivers: BTreeSet<ReceiverName>) {
        self.order(|| Order::GiveUp(transfer, receivers));
    }

    fn order(&self, order: impl FnOnce() -> Order) {
        if let Self::To { orders, .. } = self {
            // Where nobody takes it, the next word is an error.
            let _ = orders.send(order());
        }
    }

    /// The next word. Cancel safe.
    pub(super) async fn next(&mut self) -> anyhow::Result<Word> {
        let Self::To { words, task, .. } = self else { return std::future::pending().await };
        if let Some(word) = words.recv().await {
            return Ok(word);
        }
        task.join_next().await.transpose().context("a task failed")?;
        bail!("receivers are not listened to any more");
    }
}

impl Order {
    fn give(self, deliveries: &mut Deliveries) {
        match self {
            Self::Add(sent, receivers) => deliveries.add(&sent, receivers),
            Self::GiveUp(transfer, receivers) => {
                if deliveries.awaited().any(|(id, name)| id == transfer && receivers.contains(name)) {
                    deliveries.give_up(transfer);
                }
            }
        }
    }
}

/// Listens until nobody wants to know any more.
async fn listen(mut deliveries: Deliveries, mut orders: mpsc::UnboundedReceiver<Order>, words: mpsc::Sender<Word>) {
    let mut undisturbed_until = Instant::now();
    loop {
        while let Ok(order) = orders.try_recv() {
            order.give(&mut deliveries);
        }
        let order = async {
            sleep_until(undisturbed_until).await;
            orders.recv().await
        };
        let heard = tokio::select! {
            heard = deliveries.next() => heard,
            order = order => {
                let Some(order) = order else { return };
                order.give(&mut deliveries);
                undisturbed_until = Instant::now() + UNDISTURBED;
                continue;
            }
        };
        match heard {
            Ok(Some(word)) => {
                if words.send(word).await.is_err() {
                    return;
                }
                continue;
            }
            Ok(None) => {}
            // Files are sent all the same, and those that are sent wait.
            Err(error) => {
                tracing::warn!("receivers cannot be heard: {:#}. Trying again.", anyhow::Error::from(error));
            }
        }
        sleep(DEAF).await;
    }
}
