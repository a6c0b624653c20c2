//! Messages that the server pushes, headers alone, until there are no more.
//!
//! Only the consumer's creation is asked for. Its subject carries the filter, so that permissions can hold a user to channels;
//! the right to pull is for consumers by name, whoever they belong to, and is not needed.

use std::time::Duration;

use async_nats::{Message, StatusCode, Subscriber};
use futures_util::StreamExt;

use super::{
    Broker, BrokerError, ConsumerKind, ConsumerSpec, Delivery, StartAt,
    consumer::{Existing, PUSH_HEARTBEAT, name_of_its_own},
    headers::LOOK,
    heartbeats::Heartbeats,
    pull::header,
    violations::Denials,
};

/// Where the server's questions are answered.
const FLOW: &str = "$JS.FC.";
/// What its heartbeats are taken to be: a server that is busy is late with them.
const HEARTBEAT: Duration = PUSH_HEARTBEAT.saturating_mul(3);

/// Headers as they are pushed, in order and without gaps. Dropped, its consumer is gone soon: the server removes one to whose
/// inbox nobody listens.
#[derive(Debug)]
pub(super) struct Push {
    broker: Broker,
    stream: String,
    consumer: String,
    subscriber: Subscriber,
    /// Messages that have come.
    seen: u64,
    /// Kept here, because whoever reads may give up and ask again.
    heartbeats: Heartbeats,
    /// Whether the server was kept from hearing that it may go on.
    denials: Option<Denials>,
}

impl Broker {
    /// Has the headers of all messages on these subjects pushed from there on, and says how many there are now. Each try has
    /// a consumer of another name: it lives on one server, and the last try may have gone to one that is away.
    ///
    /// # Errors
    /// When the server does not answer, or refuses.
    pub(super) async fn push(
        &self, stream: &str, filters: Vec<String>, start: StartAt,
    ) -> Result<(Push, u64), BrokerError> {
        let once = self.with_patience(Duration::ZERO);
        let what = format!("looking at stream {stream}");
        self.patiently(&what, || async {
            let inbox = self.client.new_inbox();
            let name = name_of_its_own(LOOK, &inbox);
            let subscriber = self.client.subscribe(inbox.clone()).await;
            let subscriber = subscriber.map_err(|_| BrokerError::Closed { what: what.clone() })?;
            let (kind, filters) = (ConsumerKind::Push { inbox }, filters.clone());
            let spec = ConsumerSpec { stream: stream.into(), name, filters, start, headers_only: true, kind };
            // On a connection that is made from now on, it is forgotten.
            let heartbeats = Heartbeats::new(self, HEARTBEAT);
            let state = once.create_consumer_now(&spec, Existing::Update).await?;
            let push = Push {
                broker: self.clone(),
                stream: spec.stream,
                consumer: spec.name,
                subscriber,
                seen: 0,
                heartbeats,
                denials: None,
            };
            Ok((push, state.pending))
        })
        .await
    }
}

impl Push {
    /// The next message's headers; `None` when all there is has come, for now.
    ///
    /// # Cancel safety
    /// Cancel safe: no message is lost.
    ///
    /// # Errors
    /// When messages were lost, the consumer is gone, or the connection is closed: it is to be begun again.
    pub(super) async fn next(&mut self) -> Result<Option<Delivery>, BrokerError> {
        loop {
            let denied = async {
                match &mut self.denials {
                    Some(denials) => denials.next().await,
                    None => std::future::pending().await,
                }
            };
            let came = tokio::select! {
                biased;
                came = self.subscriber.next() => came,
                // On another connection the server has forgotten it.
                _ = self.heartbeats.lost() => return Err(self.gone()),
                violation = denied => {
                    let what = format!("reading the headers of stream {}", self.stream);
                    return Err(BrokerError::Denied { what, violation });
                }
            };
            let Some(message) = came else {
                return Err(BrokerError::Closed { what: format!("reading stream {}", self.stream) });
            };
            self.heartbeats.heard();
            match message.status {
                None => {
                    let Some(delivery) = Delivery::new(message, &self.broker) else { continue };
                    self.seen += 1;
                    // Nothing is delivered twice by such a consumer: what was lost with a connection shows as a gap.
                    return if delivery.consumer_sequence == self.seen { Ok(Some(delivery)) } else { Err(self.gone()) };
                }
                Some(StatusCode::IDLE_HEARTBEAT) => {
                    if self.lets_flow(&message).await {
                        continue;
                    }
                    let delivered = header(message.headers.as_ref(), "Nats-Last-Consumer").and_then(|n| n.parse().ok());
                    return if delivered == Some(self.seen) { Ok(None) } else { Err(self.gone()) };
                }
                Some(_) => return Err(self.gone()),
            }
        }
    }

    /// Answers the server's question whether all that it has sent has come, if it is one: before that it sends no more.
    async fn lets_flow(&mut self, message: &Message) -> bool {
        let stalled = header(message.headers.as_ref(), "Nats-Consumer-Stalled").map(str::to_owned);
        let question = message.reply.as_ref().map(ToString::to_string).or(stalled);
        // Whoever else writes into the inbox is not to choose what is published here.
        let Some(question) = question.filter(|subject| subject.starts_with(FLOW)) else { return false };
        self.denials = Some(self.broker.denials(&question));
        // It is asked again.
        let _ = self.broker.client.publish(question, "".into()).await;
        true
    }

    fn gone(&self) -> BrokerError {
        BrokerError::ConsumerGone { stream: self.stream.clone(), consumer: self.consumer.clone() }
    }
}
