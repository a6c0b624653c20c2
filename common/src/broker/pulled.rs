//! A consumer that is pulled from for a while, in order and without gaps.

use std::time::Duration;

use tokio::time::Instant;

use super::{Broker, BrokerError, ConsumerKind, ConsumerSpec, Delivery, Pull, PullSettings, StartAt};

/// How often a reading that stands still is looked into.
const TICK: Duration = Duration::from_millis(500);
/// How often nothing may have changed when it was looked into while there is more. What the server says of it comes behind what it has
/// delivered, however slow the line is.
const MOST_LOOKS: u32 = 40;

/// The messages of a consumer that only looks around. Dropped, its consumer is removed by the server in time.
#[derive(Debug)]
pub(super) struct Pulled {
    broker: Broker,
    stream: String,
    consumer: String,
    pull: Pull,
    /// Messages that it has yet to deliver, as far as is known.
    pending: u64,
    /// Messages that have come.
    seen: u64,
    /// When to look into it, while it stands still; kept here, because whoever reads may give up and ask again.
    look_at: Option<Instant>,
    /// How often it was looked into since something came, and there was more.
    looks: u32,
}

impl Broker {
    /// Begins to pull. Of the name only the first word is kept; the kind is for looking around.
    ///
    /// # Errors
    /// When the server does not answer, or refuses.
    pub(super) async fn pulled(
        &self, stream: &str, name: &str, filters: Vec<String>, start: StartAt, headers_only: bool,
        settings: PullSettings,
    ) -> Result<Pulled, BrokerError> {
        let (stream, name, kind) = (stream.to_owned(), name.to_owned(), ConsumerKind::Look);
        let mut spec = ConsumerSpec { stream, name, filters, start, headers_only, kind };
        let pending = self.create_consumer(&mut spec).await?.pending;
        let mut pull = Pull::new(self, &spec.stream, &spec.name, settings).await?;
        pull.knows_stored(pending);
        let (broker, stream, consumer) = (self.clone(), spec.stream, spec.name);
        Ok(Pulled { broker, stream, consumer, pull, pending, seen: 0, look_at: None, looks: 0 })
    }
}

impl Pulled {
    /// Messages that it has yet to deliver, as far as is known.
    pub(super) fn pending(&self) -> u64 {
        self.pending
    }

    /// Asks for so many more messages: see [`Pull::want`].
    pub(super) fn want(&mut self, messages: u64) {
        self.pull.want(messages);
    }

    /// The next message; `None` when all there is has come, for now.
    ///
    /// # Cancel safety
    /// Cancel safe: no message is lost.
    ///
    /// # Errors
    /// When messages were lost, the consumer is gone, or the connection is closed: it is to be begun again.
    pub(super) async fn next(&mut self) -> Result<Option<Delivery>, BrokerError> {
        loop {
            let look_at = *self.look_at.get_or_insert_with(|| Instant::now() + TICK);
            if let Ok(delivery) = tokio::time::timeout_at(look_at, self.pull.next()).await {
                let delivery = delivery?;
                (self.look_at, self.looks) = (None, 0);
                self.seen += 1;
                self.pending = delivery.pending;
                // Nothing is delivered twice by such a consumer: what was lost with a connection shows as a gap.
                return if delivery.consumer_sequence == self.seen { Ok(Some(delivery)) } else { Err(self.gone()) };
            }
            // A server that has lost messages may have promised more than there are.
            let state = self.broker.consumer(&self.stream, &self.consumer).await?;
            self.look_at = None;
            match state {
                Some(state) if (state.pending, state.delivered) == (0, self.seen) => {
                    (self.pending, self.looks) = (0, 0);
                    return Ok(None);
                }
                Some(_) if self.looks < MOST_LOOKS => self.looks += 1,
                _ => return Err(self.gone()),
            }
        }
    }

    /// Ends the reading: no consumer is left.
    pub(super) async fn close(self) {
        let Self { broker, stream, consumer, pull, .. } = self;
        // It would be told of the deletion.
        drop(pull);
        // Best effort: the server removes it by itself soon.
        let _ = broker.delete_consumer(&stream, &consumer).await;
    }

    fn gone(&self) -> BrokerError {
        BrokerError::ConsumerGone { stream: self.stream.clone(), consumer: self.consumer.clone() }
    }
}
