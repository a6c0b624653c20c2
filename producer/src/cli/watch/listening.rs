//! What receivers say, if anybody waits for them.

use std::time::Duration;

use natsfer_common::broker::Broker;
use natsfer_producer::{Channel, Deliveries, ProducerError, ReceiverName, Sent, TransferId, Word};

/// Rest when receivers cannot be listened to.
const DEAF: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) enum Listening {
    /// Nobody is waited for.
    ToNobody,
    To(Box<Deliveries>),
}

impl Listening {
    /// Begins as soon as that can be done.
    pub(super) async fn begin(
        broker: &Broker, channel: &Channel, awaited: Vec<(Sent, Vec<ReceiverName>)>,
    ) -> anyhow::Result<Self> {
        loop {
            match Deliveries::on(broker, channel, awaited.clone()).await {
                Err(ProducerError::Broker(error)) if error.is_passing() => {
                    tracing::warn!("cannot listen to receivers ({error}). Trying again.");
                    tokio::time::sleep(DEAF).await;
                }
                deliveries => return Ok(Self::To(Box::new(deliveries?))),
            }
        }
    }

    /// These are waited for, too.
    pub(super) fn add(&mut self, sent: &Sent, receivers: &[ReceiverName]) {
        if let Self::To(deliveries) = self {
            deliveries.add(sent, receivers.iter().cloned());
        }
    }

    /// The next word. Cancel safe.
    pub(super) async fn next(&mut self) -> Word {
        let Self::To(deliveries) = self else { return std::future::pending().await };
        loop {
            match deliveries.next().await {
                Ok(Some(word)) => return word,
                Ok(None) => {}
                // Files are sent all the same, and those that are sent wait.
                Err(error) => {
                    tracing::warn!("receivers cannot be heard: {:#}. Trying again.", anyhow::Error::from(error));
                }
            }
            tokio::time::sleep(DEAF).await;
        }
    }

    /// This receiver will be left without: whoever else waits for the transfer is not waited for any more if it was awaited.
    pub(super) fn give_up(&mut self, transfer: TransferId, receiver: &ReceiverName) {
        if let Self::To(deliveries) = self
            && deliveries.awaited().any(|awaited| awaited == (transfer, receiver))
        {
            deliveries.give_up(transfer);
        }
    }

    /// Who is waited for, and how many more receipts are.
    pub(super) fn awaited(&self) -> Option<(TransferId, &ReceiverName, usize)> {
        let Self::To(deliveries) = self else { return None };
        let (transfer, receiver) = deliveries.awaited().next()?;
        Some((transfer, receiver, deliveries.outstanding() - 1))
    }
}
