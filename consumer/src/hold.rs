//! A transfer taken from the inbox: kept for this process while it is worked on, then settled or put back.

use std::time::Duration;

use natsfer_common::broker::{Acknowledgement, Broker};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

/// Attempts to have the server confirm that a transfer is done, before leaving it to redelivery.
const CONFIRMATIONS: u32 = 5;
/// Rest between them.
const REST: Duration = Duration::from_millis(500);

/// Tells the server, every third of the takeover time, that the transfer is being worked on. Dropped, it puts the transfer
/// back at once.
#[derive(Debug)]
pub(crate) struct Hold {
    settle: oneshot::Sender<Settlement>,
}

#[derive(Debug)]
struct Settlement {
    acknowledgement: Acknowledgement,
    settled: oneshot::Sender<()>,
}

impl Hold {
    pub(crate) fn new(broker: Broker, ack_subject: String, takeover: Duration, tasks: &TaskTracker) -> Self {
        let (settle, settlement) = oneshot::channel();
        tasks.spawn(keep(broker, ack_subject, takeover, settlement));
        Self { settle }
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

async fn keep(broker: Broker, ack_subject: String, takeover: Duration, mut settlement: oneshot::Receiver<Settlement>) {
    let mut interval = tokio::time::interval(takeover / 3);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    interval.tick().await;
    let settlement = loop {
        tokio::select! {
            biased;
            settlement = &mut settlement => break settlement,
            _ = interval.tick() => broker.acknowledge(&ack_subject, Acknowledgement::InProgress).await,
        }
    };
    match settlement {
        // Dropped without a word.
        Err(_) => broker.acknowledge(&ack_subject, Acknowledgement::Again(Duration::ZERO)).await,
        Ok(Settlement { acknowledgement, settled }) => {
            for attempt in 1..=CONFIRMATIONS {
                match broker.confirm(&ack_subject, acknowledgement.clone()).await {
                    Ok(()) => break,
                    Err(error) => {
                        tracing::warn!(%error, attempt, "the server did not confirm an acknowledgement");
                        tokio::time::sleep(REST).await;
                    }
                }
            }
            // Whoever waits may have gone.
            let _ = settled.send(());
        }
    }
}
