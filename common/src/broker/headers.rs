//! The headers of all messages on some subjects, as they come.

use std::time::Duration;

use super::{Broker, BrokerError, ConsumerKind, ConsumerSpec, Delivery, Pull, PullSettings, StartAt, push::Push};

/// What the names of consumers that are pulled from begin with.
const LOOK: &str = "look";
/// How often a reading that stands still is looked into.
const TICK: Duration = Duration::from_millis(500);
/// How long it may stand still while there is more.
const SILENCE: Duration = Duration::from_secs(20);
/// Bytes asked for ahead.
const WINDOW: u64 = 4 << 20;

/// Headers in order and without gaps.
#[derive(Debug)]
pub(super) enum Headers {
    /// As the server pushes them: no right is needed but to create the consumer, whose filter the request's subject shows.
    Pushed(Box<Push>),
    /// Pulled, where JetStream is elsewhere: what another account pushes does not arrive.
    Pulled(Box<Pulled>),
}

/// A consumer that is pulled from.
#[derive(Debug)]
pub(super) struct Pulled {
    broker: Broker,
    stream: String,
    consumer: String,
    pull: Pull,
    /// Messages that have come.
    seen: u64,
}

impl Broker {
    /// Begins to read the headers of all messages on these subjects from there on, and says how many there are now.
    ///
    /// # Errors
    /// When the server does not answer, or refuses.
    pub(super) async fn headers(
        &self, stream: &str, filters: Vec<String>, start: StartAt,
    ) -> Result<(Headers, u64), BrokerError> {
        if !self.reaches_elsewhere() {
            let (push, pending) = self.push(stream, filters, start).await?;
            return Ok((Headers::Pushed(Box::new(push)), pending));
        }
        let (stream, name, kind) = (stream.to_owned(), LOOK.to_owned(), ConsumerKind::Look);
        let mut spec = ConsumerSpec { stream, name, filters, start, headers_only: true, kind };
        let pending = self.create_consumer(&mut spec).await?.pending;
        let pull = Pull::new(self, &spec.stream, &spec.name, PullSettings::Flow { window: WINDOW }).await?;
        let pulled = Pulled { broker: self.clone(), stream: spec.stream, consumer: spec.name, pull, seen: 0 };
        Ok((Headers::Pulled(Box::new(pulled)), pending))
    }
}

impl Headers {
    /// The next message's headers; `None` when all there is has come, for now.
    ///
    /// # Cancel safety
    /// Cancel safe: no message is lost.
    ///
    /// # Errors
    /// When messages were lost, the consumer is gone, or the connection is closed: it is to be begun again.
    pub(super) async fn next(&mut self) -> Result<Option<Delivery>, BrokerError> {
        match self {
            Self::Pushed(push) => push.next().await,
            Self::Pulled(pulled) => pulled.next().await,
        }
    }

    /// Ends the reading: no consumer is left, or none for long.
    pub(super) async fn close(self) {
        if let Self::Pulled(pulled) = self {
            let Pulled { broker, stream, consumer, pull, .. } = *pulled;
            drop(pull);
            // Best effort: the server removes it by itself soon.
            let _ = broker.delete_consumer(&stream, &consumer).await;
        }
    }
}

impl Pulled {
    async fn next(&mut self) -> Result<Option<Delivery>, BrokerError> {
        let Self { broker, stream, consumer, pull, seen } = self;
        let mut silent = Duration::ZERO;
        loop {
            if let Ok(delivery) = tokio::time::timeout(TICK, pull.next()).await {
                let delivery = delivery?;
                *seen += 1;
                // Nothing is delivered twice by such a consumer: what was lost with a connection shows as a gap.
                return match delivery.consumer_sequence == *seen {
                    true => Ok(Some(delivery)),
                    false => Err(BrokerError::ConsumerGone { stream: stream.clone(), consumer: consumer.clone() }),
                };
            }
            match broker.consumer(stream, consumer).await? {
                Some(state) if (state.pending, state.delivered) == (0, *seen) => return Ok(None),
                Some(_) if silent < SILENCE => silent += TICK,
                _ => return Err(BrokerError::ConsumerGone { stream: stream.clone(), consumer: consumer.clone() }),
            }
        }
    }
}
