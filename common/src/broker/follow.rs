//! A consumer being read for as long as it takes: one that is lost is made anew, where the reading was.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use jiff::Timestamp;

use super::{
    Acknowledgement, Broker, BrokerError, ConsumerKind, ConsumerSpec, Delivery, Pull, PullSettings, StartAt, look::LOOK,
};

/// Rest before a consumer that went away is made anew.
const REST: Duration = Duration::from_millis(500);
/// Bytes asked for ahead of what is said about transfers.
const WINDOW: u64 = 1 << 20;

/// The messages of a consumer, for as long as is read. A message may come twice.
#[derive(Debug)]
pub struct Follow {
    broker: Broker,
    spec: ConsumerSpec,
    window: u64,
    state: State,
    /// The last message that came. Looked at before it is relied on.
    last: Option<Last>,
}

/// Whether the consumer is there.
#[derive(Debug)]
enum State {
    Standing {
        pull: Box<Pull>,
        /// Held by this consumer's acknowledgements.
        consumer: Arc<()>,
    },
    /// It is to be made anew. Nobody reads it: whoever did would be told by its deletion that it is gone.
    Lost,
}

/// What tells a message from another one of the same sequence: a stream that was recreated, or came back from an older disk,
/// uses them again.
#[derive(Debug)]
struct Last {
    sequence: u64,
    subject: String,
    stored_at: Timestamp,
}

/// Where a message is acknowledged, and with it all before it. Good for as long as its consumer is.
#[derive(Debug)]
pub struct AckPlace {
    subject: String,
    consumer: Weak<()>,
}

impl Broker {
    /// Follows these subjects of the control stream, from the message of this sequence on. Headers only.
    ///
    /// # Errors
    /// When the server does not answer, or refuses.
    pub async fn follow(&self, filters: Vec<String>, from: u64) -> Result<Follow, BrokerError> {
        let (stream, name) = (self.stream().control().to_owned(), LOOK.to_owned());
        let start = StartAt::Sequence(from.max(1));
        let mut spec = ConsumerSpec { stream, name, filters, start, headers_only: true, kind: ConsumerKind::Look };
        self.create_consumer(&mut spec).await?;
        Follow::standing(self, spec, WINDOW).await
    }

    /// Tells the server that all up to this message is dealt with, unless the consumer that delivered it is gone.
    pub async fn acknowledge_to(&self, place: &AckPlace) {
        if place.consumer.strong_count() > 0 {
            self.acknowledge(&place.subject, Acknowledgement::Done).await;
        }
    }
}

impl Follow {
    /// Reads a consumer that stands, with so many bytes asked for ahead.
    ///
    /// # Errors
    /// When the connection is closed.
    pub async fn standing(broker: &Broker, spec: ConsumerSpec, window: u64) -> Result<Self, BrokerError> {
        let state = State::read(broker, &spec, window).await?;
        Ok(Self { broker: broker.clone(), spec, window, state, last: None })
    }

    /// The next message. Waits for it, also through the server's absence.
    ///
    /// # Cancel safety
    /// Cancel safe: no message is lost.
    ///
    /// # Errors
    /// When the connection is closed, or the server refuses.
    pub async fn next(&mut self) -> Result<Delivery, BrokerError> {
        loop {
            let State::Standing { pull, .. } = &mut self.state else {
                match self.renew().await {
                    // It has been waited for, and is waited for on.
                    Err(error) if error.is_passing() => {}
                    result => result?,
                }
                continue;
            };
            match pull.next().await {
                Ok(delivery) => {
                    let (sequence, stored_at) = (delivery.stream_sequence, delivery.published_at);
                    self.last = Some(Last { sequence, subject: delivery.subject().to_owned(), stored_at });
                    return Ok(delivery);
                }
                Err(BrokerError::ConsumerGone { consumer, .. }) => {
                    tracing::info!(consumer, "the consumer is gone; making it anew");
                    self.state = State::Lost;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Where the message that came last is acknowledged.
    pub fn place(&self, delivery: &Delivery) -> AckPlace {
        let consumer = match &self.state {
            State::Standing { consumer, .. } => Arc::downgrade(consumer),
            State::Lost => Weak::new(),
        };
        AckPlace { subject: delivery.ack_subject(), consumer }
    }

    /// When the last message that came was stored, by the server's clock.
    pub fn last_stored_at(&self) -> Option<Timestamp> {
        self.last.as_ref().map(|last| last.stored_at)
    }

    /// How many messages the consumer has not delivered yet, or delivered and not been acknowledged; `None` if it is gone.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn pending(&self) -> Result<Option<u64>, BrokerError> {
        let state = self.broker.consumer(&self.spec.stream, &self.spec.name).await?;
        Ok(state.map(|state| state.pending + state.unacknowledged))
    }

    /// Goes on behind the last message if that is still where it was, otherwise from the beginning.
    async fn renew(&mut self) -> Result<(), BrokerError> {
        tokio::time::sleep(REST).await;
        let Self { broker, spec, window, last, .. } = self;
        if let Some(Last { sequence, subject, stored_at }) = last {
            let message = broker.message_at(&spec.stream, *sequence).await?;
            let stands = message.is_some_and(|message| message.subject == *subject && message.stored_at == *stored_at);
            spec.start = if stands { StartAt::Sequence(*sequence + 1) } else { StartAt::First };
        }
        // It may stand after all, with another start: the server was only starting.
        broker.delete_consumer(&spec.stream, &spec.name).await?;
        broker.create_consumer(spec).await?;
        self.state = State::read(broker, spec, *window).await?;
        Ok(())
    }

    /// Waits for a server that is away no longer than this from now on.
    pub fn hurry(&mut self, patience: Duration) {
        self.broker = self.broker.with_patience(patience);
    }

    /// Ends the reading: no consumer is left.
    ///
    /// # Errors
    /// When the server does not answer. A consumer that is left is removed by it in time.
    pub async fn close(self) -> Result<(), BrokerError> {
        let Self { broker, spec, state, .. } = self;
        drop(state);
        broker.delete_consumer(&spec.stream, &spec.name).await.map(drop)
    }
}

impl State {
    async fn read(broker: &Broker, spec: &ConsumerSpec, window: u64) -> Result<Self, BrokerError> {
        let pull = Pull::new(broker, &spec.stream, &spec.name, PullSettings::Flow { window }).await?;
        Ok(Self::Standing { pull: Box::new(pull), consumer: Arc::default() })
    }
}
