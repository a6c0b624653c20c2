//! A consumer being read for as long as it takes: one that is lost is made anew, where the reading was.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use jiff::Timestamp;

use super::{
    Acknowledgement, Broker, BrokerError, ConsumerSpec, ConsumerState, Delivery, FlowPlace, StartAt, headers::Headers,
    pulls::Pulls,
};
use crate::arrivals::{Arrival, Arrivals};

/// Rest before a consumer that went away is made anew.
const REST: Duration = Duration::from_millis(500);

/// The messages of a consumer, for as long as is read. A message may come twice.
#[derive(Debug)]
pub struct Follow {
    broker: Broker,
    source: Source,
    state: State,
    /// The last message that came. Looked at before it is relied on.
    last: Option<Last>,
    /// Messages behind it, as the server said with it; behind the beginning, before one came.
    behind: u64,
    /// How many times the consumer was made anew.
    renewals: u64,
}

/// What is read.
#[derive(Debug)]
enum Source {
    /// A consumer over a transfer that is pulled from.
    Consumer { spec: ConsumerSpec, place: FlowPlace },
    /// Headers on these subjects of the control stream.
    Headers { filters: Vec<String> },
}

/// How it is read.
#[derive(Debug)]
enum Reading {
    Pulls(Pulls),
    Headers(Headers),
}

/// Whether the consumer is there.
#[derive(Debug)]
enum State {
    Standing {
        reading: Reading,
        /// Which of the consumer's deliveries came.
        arrivals: Arrivals,
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

/// A consumer that nobody reads any more.
#[derive(Debug)]
#[must_use = "it stays at the server until it is deleted"]
pub struct LeftConsumer {
    broker: Broker,
    spec: ConsumerSpec,
}

impl LeftConsumer {
    /// Deletes it.
    ///
    /// # Errors
    /// When the server does not answer, which removes it in time.
    pub async fn delete(self) -> Result<(), BrokerError> {
        self.broker.delete_consumer(&self.spec.stream, &self.spec.name).await.map(drop)
    }
}

/// What a consumer has to deliver, as its server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outstanding {
    /// Messages that it has not delivered.
    pub undelivered: u64,
    /// Messages that it has delivered, and that were not taken yet.
    pub on_their_way: u64,
    /// Messages that it has delivered in all.
    pub delivered: u64,
    /// How many times it was made anew: all that is outstanding has begun to come anew then.
    pub renewals: u64,
}

impl Outstanding {
    /// Whether nothing is to come.
    pub fn is_empty(&self) -> bool {
        self.undelivered == 0 && self.on_their_way == 0
    }
}

impl Broker {
    /// Follows these subjects of the control stream, from the message of this sequence on. Headers only.
    ///
    /// # Errors
    /// When the server does not answer, or refuses.
    pub async fn follow(&self, filters: Vec<String>, from: u64) -> Result<Follow, BrokerError> {
        let start = StartAt::Sequence(from.max(1));
        let (headers, behind) = self.headers(self.stream().control(), filters.clone(), start).await?;
        let (source, state) = (Source::Headers { filters }, State::read(Reading::Headers(headers), 0));
        Ok(Follow { broker: self.clone(), source, state, last: None, behind, renewals: 0 })
    }

    /// Tells the server that all up to this message is dealt with, unless the consumer that delivered it is gone.
    pub async fn acknowledge_to(&self, place: &AckPlace) {
        if place.consumer.strong_count() > 0 {
            self.acknowledge(&place.subject, Acknowledgement::Done).await;
        }
    }
}

impl Follow {
    /// Reads a consumer that stands over a transfer, in this state.
    ///
    /// # Errors
    /// When the connection is closed.
    pub async fn standing(
        broker: &Broker, spec: ConsumerSpec, consumer: &ConsumerState, place: FlowPlace,
    ) -> Result<Self, BrokerError> {
        let state = State::read(pull(broker, &spec, &place, consumer.pending).await?, consumer.delivered);
        let source = Source::Consumer { spec, place };
        Ok(Self { broker: broker.clone(), source, state, last: None, behind: consumer.pending, renewals: 0 })
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
            let State::Standing { reading, arrivals, .. } = &mut self.state else {
                match self.renew().await {
                    // It has been waited for, and is waited for on.
                    Err(error) if self.broker.waits_for(&error) => {}
                    result => result?,
                }
                continue;
            };
            match reading.next().await {
                Ok(delivery) => {
                    if reading.has_reconnected() {
                        arrivals.others_are_lost();
                    }
                    if arrivals.came(delivery.consumer_sequence) == Arrival::Latest {
                        self.behind = delivery.pending;
                        let (sequence, stored_at) = (delivery.stream_sequence, delivery.published_at);
                        self.last = Some(Last { sequence, subject: delivery.subject().to_owned(), stored_at });
                    }
                    return Ok(delivery);
                }
                Err(BrokerError::ConsumerGone { consumer, .. }) => {
                    match self.source {
                        Source::Consumer { .. } => tracing::info!(consumer, "the consumer is gone; making it anew"),
                        // The server forgets it whenever the connection is away for a while.
                        Source::Headers { .. } => tracing::debug!(consumer, "listening anew"),
                    }
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

    /// Whether more is stored behind the last message, as the server said with it, and will come by itself, unless the connection
    /// ends: see [`Follow::reconnection`].
    pub fn has_more(&self) -> bool {
        self.behind > 0
    }

    /// Whether all that is known to be stored was asked for, but for the last message at most.
    pub fn has_asked_for_nearly_all(&self) -> bool {
        matches!(&self.state, State::Standing { reading: Reading::Pulls(pulls), .. } if pulls.have_asked_for_nearly_all())
    }

    /// Waits until a connection is another one than when the last message came.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub fn reconnection(&self) -> impl Future<Output = ()> + Send + use<> {
        let reconnection = match &self.state {
            State::Standing { reading: Reading::Pulls(pulls), .. } => Some(pulls.reconnection()),
            _ => None,
        };
        async move {
            match reconnection {
                Some(reconnection) => reconnection.await,
                None => std::future::pending().await,
            }
        }
    }

    /// Whether messages before the last one are still on their way: over several connections they come in no order.
    pub fn has_gaps(&self) -> bool {
        matches!(&self.state, State::Standing { arrivals, .. } if arrivals.has_gaps())
    }

    /// Behind the last message that came; where the reading began, before one came.
    pub fn position(&self) -> StartAt {
        match (&self.last, &self.source) {
            (Some(last), _) => StartAt::Sequence(last.sequence.saturating_add(1)),
            (None, Source::Consumer { spec, .. }) => spec.start,
            (None, Source::Headers { .. }) => StartAt::First,
        }
    }

    /// When the last message that came was stored, by the server's clock.
    pub fn last_stored_at(&self) -> Option<Timestamp> {
        self.last.as_ref().map(|last| last.stored_at)
    }

    /// What is still to come by itself. A consumer that is gone is made anew for it: there is no other way to know. Where headers are
    /// followed, it is what was behind the last message when it came.
    ///
    /// The answer comes behind all that the server had delivered before.
    ///
    /// # Cancel safety
    /// Cancel safe: no message is lost, and a consumer that is being made anew is so with the next call, of this or
    /// [`Follow::next`].
    ///
    /// # Errors
    /// When the server does not answer, or refuses.
    pub async fn outstanding(&mut self) -> Result<Outstanding, BrokerError> {
        loop {
            let State::Standing { arrivals, .. } = &self.state else {
                self.renew().await?;
                continue;
            };
            let renewals = self.renewals;
            let Source::Consumer { spec, .. } = &self.source else {
                return Ok(Outstanding { undelivered: self.behind, on_their_way: 0, delivered: 0, renewals });
            };
            if let Some(state) = self.broker.consumer(&spec.stream, &spec.name).await? {
                let (undelivered, delivered) = (state.pending, state.delivered);
                return Ok(Outstanding {
                    undelivered,
                    on_their_way: arrivals.missing_of(delivered),
                    delivered,
                    renewals,
                });
            }
            self.state = State::Lost;
        }
    }

    /// Goes on behind the last message if that is still where it was, otherwise from the beginning.
    ///
    /// Cancel safe: it is lost until all is done, and what was begun is begun again.
    async fn renew(&mut self) -> Result<(), BrokerError> {
        tokio::time::sleep(REST).await;
        let Self { broker, source, last, .. } = self;
        let start = match last {
            None => None,
            Some(Last { sequence, subject, stored_at }) => {
                let stream = match source {
                    Source::Consumer { spec, .. } => &spec.stream,
                    Source::Headers { .. } => broker.stream().control(),
                };
                let stands = broker.stored_at(stream, subject, *sequence).await? == Some(*stored_at);
                Some(if stands { StartAt::Sequence(*sequence + 1) } else { StartAt::First })
            }
        };
        let reading = match source {
            Source::Consumer { spec, place } => {
                spec.start = start.unwrap_or(spec.start);
                // It may stand after all, with another start: the server was only starting.
                broker.delete_consumer(&spec.stream, &spec.name).await?;
                self.behind = broker.create_consumer(spec).await?.pending;
                pull(broker, spec, place, self.behind).await?
            }
            Source::Headers { filters } => {
                let start = start.unwrap_or(StartAt::First);
                let (headers, behind) = broker.headers(broker.stream().control(), filters.clone(), start).await?;
                self.behind = behind;
                Reading::Headers(headers)
            }
        };
        self.state = State::read(reading, 0);
        self.renewals += 1;
        Ok(())
    }

    /// Waits for a server that is away no longer than this from now on.
    pub fn hurry(&mut self, patience: Duration) {
        self.broker = self.broker.with_patience(patience);
    }

    /// Ends the reading: no consumer is left.
    ///
    /// # Cancel safety
    /// Dropped, the consumer may be left; the server removes it in time.
    ///
    /// # Errors
    /// When the server does not answer. A consumer that is left is removed by it in time.
    pub async fn close(self) -> Result<(), BrokerError> {
        match self.leave().await {
            Some(consumer) => consumer.delete().await,
            None => Ok(()),
        }
    }

    /// Ends the reading, and leaves the consumer over a transfer to be deleted later.
    ///
    /// # Cancel safety
    /// Dropped, the consumer is left; the server removes it in time.
    pub async fn leave(self) -> Option<LeftConsumer> {
        let Self { broker, source, state, .. } = self;
        match state {
            State::Standing { reading: Reading::Headers(headers), .. } => headers.close().await,
            // Who pulls would be told by its deletion that the consumer is gone.
            other => drop(other),
        }
        match source {
            Source::Consumer { spec, .. } => Some(LeftConsumer { broker, spec }),
            Source::Headers { .. } => None,
        }
    }
}

impl State {
    fn read(reading: Reading, seen: u64) -> Self {
        Self::Standing { reading, arrivals: Arrivals::behind(seen), consumer: Arc::default() }
    }
}

impl Reading {
    /// Cancel safe.
    async fn next(&mut self) -> Result<Delivery, BrokerError> {
        match self {
            Self::Pulls(pulls) => pulls.next().await,
            Self::Headers(headers) => loop {
                if let Some(delivery) = headers.next().await? {
                    return Ok(delivery);
                }
            },
        }
    }

    /// Whether what was on its way comes no more. Headers are listened to anew then.
    fn has_reconnected(&mut self) -> bool {
        match self {
            Self::Pulls(pulls) => pulls.has_reconnected(),
            Self::Headers(_) => false,
        }
    }
}

async fn pull(broker: &Broker, spec: &ConsumerSpec, place: &FlowPlace, stored: u64) -> Result<Reading, BrokerError> {
    Ok(Reading::Pulls(Pulls::new(broker, &spec.stream, &spec.name, place, stored).await?))
}
