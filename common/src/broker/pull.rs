//! Messages from a pull consumer, within a byte budget, for as long as it takes.

use std::time::Duration;

use async_nats::{HeaderMap, Message, Subscriber, jetstream};
use bytes::Bytes;
use futures_util::StreamExt;
use jiff::Timestamp;
use serde_json::json;
use tokio::time::Instant;

use super::{
    Broker, BrokerError, FlowPlace,
    heartbeats::{Heartbeats, Silence},
    line::Line,
    pull_window::{PullRequest, PullWindow, TooLarge},
    violations::Denials,
};
use crate::{cut_off::TooSlow, human_bytes, read_ahead::Look};

/// How long the server keeps a request that it cannot fill.
const EXPIRES: Duration = Duration::from_secs(30);
/// How often the server says that it is still there while it has nothing to deliver.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// Rest after a refusal that asking again at once would only repeat.
const REST: Duration = Duration::from_millis(250);

/// Bytes of a header, or of a small file inside its manifest's message, usually at most. One that is larger is asked for again, with
/// more bytes.
const SMALL: u64 = 64 * 1024;

/// How much to ask for. However much: all readers of a connection together ask for no more than the line takes in about two seconds, and
/// for no more than [`Broker::set_read_window`] says, but each for one message.
#[derive(Debug, Clone)]
pub enum PullSettings {
    /// The messages of a transfer, as many as the line takes.
    Flow {
        /// Of which transfer.
        place: FlowPlace,
        /// How many are stored, and will be delivered.
        stored: u64,
    },
    /// The messages of a transfer that flows over another connection as well.
    Beside {
        /// Bytes of the largest message.
        message: u64,
    },
    /// Small messages, as many as the line takes.
    Small,
    /// Single messages, as many as [`Pull::want`] says.
    Single {
        /// Bytes that they usually have at most. A larger one takes a round trip more.
        usual: u64,
    },
}

impl PullSettings {
    /// Single messages of an inbox.
    pub fn inbox() -> Self {
        Self::Single { usual: SMALL }
    }
}

/// A pull consumer being read. Dropping it ends its subscription; the consumer stays.
#[derive(Debug)]
pub struct Pull {
    broker: Broker,
    stream: String,
    consumer: String,
    /// Where is asked.
    subject: String,
    denials: Denials,
    inbox: String,
    subscriber: Subscriber,
    window: PullWindow,
    place: Option<FlowPlace>,
    heartbeats: Heartbeats,
    rest_until: Option<Instant>,
    /// A request that counts as asked, and is not sent.
    unsent: Option<PullRequest>,
    requests: u64,
}

/// One message from a consumer.
#[derive(Debug)]
pub struct Delivery {
    message: Message,
    /// Its sequence in the stream.
    pub stream_sequence: u64,
    /// How many messages the consumer had delivered with this one.
    pub consumer_sequence: u64,
    /// How many times this message was delivered, this one included.
    pub delivered: u64,
    /// How many messages wait behind it.
    pub pending: u64,
    /// When the server stored it.
    pub published_at: Timestamp,
}

impl Delivery {
    pub(super) fn new(message: Message, broker: &Broker) -> Option<Self> {
        let message = jetstream::Message { message, context: broker.jetstream.clone() };
        let info = message.info().ok()?;
        let (stream_sequence, consumer_sequence) = (info.stream_sequence, info.consumer_sequence);
        let (delivered, pending) = (u64::try_from(info.delivered).unwrap_or(1), info.pending);
        let published_at = Timestamp::from_nanosecond(info.published.unix_timestamp_nanos()).ok()?;
        let message = message.message;
        Some(Self { message, stream_sequence, consumer_sequence, delivered, pending, published_at })
    }

    /// The subject it was published on.
    pub fn subject(&self) -> &str {
        &self.message.subject
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(self.message.headers.as_ref(), name)
    }

    /// Its payload.
    pub fn payload(&self) -> Bytes {
        self.message.payload.clone()
    }

    /// Where to acknowledge it; good for as long as the consumer exists.
    pub fn ack_subject(&self) -> String {
        self.message.reply.as_deref().unwrap_or_default().to_owned()
    }
}

/// Reads one header. One that is there several times counts as absent: some clients read the first of them, and some the last.
pub(super) fn header<'a>(headers: Option<&'a HeaderMap>, name: &str) -> Option<&'a str> {
    let mut values = headers?.get_all(name);
    values.next().filter(|_| values.next().is_none()).map(async_nats::HeaderValue::as_str)
}

/// What a request's end means.
enum Status {
    Heartbeat,
    EndedByBytes,
    Ended,
    Lost,
    Gone,
    /// So many messages may be asked for at a time.
    BatchLimit(u64),
}

impl Pull {
    /// Begins to read an existing consumer. Nothing is asked for before [`Pull::next`].
    ///
    /// # Errors
    /// When the connection is closed.
    pub async fn new(
        broker: &Broker, stream: &str, consumer: &str, settings: PullSettings,
    ) -> Result<Self, BrokerError> {
        let subject = format!("{}.CONSUMER.MSG.NEXT.{stream}.{consumer}", broker.api_prefix);
        broker.note_connection();
        let inbox = broker.client.new_inbox();
        let subscriber = broker
            .client
            .subscribe(format!("{inbox}.*"))
            .await
            .map_err(|_| BrokerError::Closed { what: format!("reading consumer {consumer} on stream {stream}") })?;
        let (window, place) = match settings {
            PullSettings::Flow { place, stored } => {
                (PullWindow::flow(place.message()).with_stored(stored, place.usual()), Some(place))
            }
            PullSettings::Beside { message } => (PullWindow::flow(message), None),
            PullSettings::Small => (PullWindow::flow(SMALL), None),
            PullSettings::Single { usual } => (PullWindow::single(usual), None),
        };
        let pull = Self {
            broker: broker.clone(),
            stream: stream.into(),
            consumer: consumer.into(),
            denials: broker.denials(&subject),
            subject,
            inbox,
            subscriber,
            window,
            place,
            heartbeats: Heartbeats::new(broker, HEARTBEAT),
            rest_until: None,
            unsent: None,
            requests: 0,
        };
        pull.warn_if_too_slow().await;
        Ok(pull)
    }

    /// So many messages are known to be stored for it.
    pub(super) fn knows_stored(&mut self, stored: u64) {
        self.window.knows_stored(stored);
    }

    /// How many single messages are wanted from now on, those under way included.
    pub fn want(&mut self, messages: u64) {
        self.window.want(messages);
    }

    /// The line of its connection.
    pub(super) fn line(&self) -> Line {
        self.broker.line.clone()
    }

    /// How often its connection was made.
    pub(super) fn connects(&self) -> u64 {
        self.broker.connects()
    }

    /// Whether all that is known to be stored was asked for, but for the last message at most.
    pub(super) fn has_asked_for_nearly_all(&self) -> bool {
        self.window.has_asked_for_nearly_all()
    }

    /// Whether messages were asked for that may still come.
    pub fn awaits(&self) -> bool {
        self.window.awaits()
    }

    /// The next message. Waits as long as there is none, also through the server's absence: whoever calls decides how
    /// long is too long.
    ///
    /// # Cancel safety
    /// Cancel safe: no message is lost.
    ///
    /// # Errors
    /// When the consumer is gone or must not be read, the connection is closed, or a message is too large for any request.
    pub async fn next(&mut self) -> Result<Delivery, BrokerError> {
        loop {
            if self.rest_until.is_none_or(|until| until <= Instant::now()) {
                self.rest_until = None;
                self.ask().await?;
            }
            let (resting, awaits, look) = (self.rest_until, self.window.awaits(), self.look());
            let came = tokio::select! {
                biased;
                came = self.subscriber.next() => came,
                violation = self.denials.next() => return Err(BrokerError::Denied { what: self.what(), violation }),
                silence = self.heartbeats.lost(), if awaits => {
                    match silence {
                        Silence::Reconnected => self.reconnected().await,
                        Silence::Unserved => {
                            let Self { consumer, stream, .. } = self;
                            tracing::warn!(consumer, stream, "the server does not serve what was asked of it: asking anew");
                            self.lost();
                        }
                    }
                    continue;
                }
                () = until(resting) => continue,
                () = tokio::time::sleep(look.unwrap_or_default()), if look.is_some() => continue,
            };
            let Some(message) = came else { return Err(BrokerError::Closed { what: self.what() }) };
            self.heartbeats.heard();
            let Some(status) = message.status else {
                if let Some(delivery) = self.deliver(message) {
                    return Ok(delivery);
                }
                continue;
            };
            let field = |name| header(message.headers.as_ref(), name).and_then(|number| number.parse().ok());
            let (undelivered, left) = (field("Nats-Pending-Messages"), field("Nats-Pending-Bytes"));
            let status = classify(status.as_u16(), message.description.as_deref().unwrap_or_default());
            self.note(status, undelivered, left)?;
        }
    }

    /// How soon to look again whether there is something to ask for, if that is to be seen in anything but what comes. Messages other than
    /// a transfer's are too short for it.
    fn look(&self) -> Option<Duration> {
        self.place.as_ref()?;
        // Nothing is asked for before it is over.
        if self.rest_until.is_some() {
            return None;
        }
        let bytes = self.broker.line.bytes_in();
        self.broker.inflow.with(|ahead, now| match ahead.look(now, bytes) {
            Look::Seen => Some(Duration::ZERO),
            Look::Again(after) => Some(after),
            Look::Enough => self.window.due_after(now, ahead),
        })
    }

    /// A message came.
    fn deliver(&mut self, message: Message) -> Option<Delivery> {
        let bytes = message.length as u64;
        let delivery = Delivery::new(message, &self.broker);
        let stored = delivery.as_ref().map_or(0, |delivery| delivery.pending);
        self.broker.inflow.with(|ahead, now| self.window.received(now, bytes, stored, ahead));
        self.moved();
        delivery
    }

    /// The server says something of a request.
    fn note(&mut self, status: Status, undelivered: Option<u64>, left: Option<u64>) -> Result<(), BrokerError> {
        let (window, inflow) = (&mut self.window, &self.broker.inflow);
        match status {
            Status::Heartbeat => inflow.with(|ahead, _| window.idle(ahead)),
            Status::Ended => inflow.with(|ahead, _| window.ended(undelivered, ahead)),
            Status::EndedByBytes => {
                let ended = inflow.with(|ahead, _| window.ended_by_bytes(undelivered, left, ahead));
                ended.map_err(|TooLarge { limit }| BrokerError::MessageTooLarge {
                    stream: self.stream.clone(),
                    limit,
                })?;
            }
            Status::Lost => {
                self.lost();
                self.rest_until = Some(Instant::now() + REST);
            }
            Status::BatchLimit(most) => {
                self.window.limit_batch(most);
                // Nothing comes of those that are refused; what was granted of others comes all the same.
                self.lost();
            }
            Status::Gone => {
                self.broker.note_lost_consumer();
                self.lost();
                let (stream, consumer) = (self.stream.clone(), self.consumer.clone());
                return Err(BrokerError::ConsumerGone { stream, consumer });
            }
        }
        self.moved();
        Ok(())
    }

    /// What was asked on the last connection is forgotten.
    ///
    /// Cancel safe, but a warning may have to wait for the next reconnection.
    async fn reconnected(&mut self) {
        self.lost();
        self.heartbeats.asked();
        self.broker.note_connection();
        self.warn_if_too_slow().await;
    }

    /// Says, once for all who read, that the server ends connections before a message has come whole.
    ///
    /// Cancel safe, but the warning may have to wait for the next reconnection.
    async fn warn_if_too_slow(&self) {
        let message = self.window.largest();
        let too_slow = self.broker.inflow.with(|ahead, _| ahead.too_slow_for(message));
        let Some(TooSlow { rate, takes }) = too_slow else { return };
        if !self.has_some().await {
            return;
        }
        self.broker.inflow.with(|ahead, _| ahead.told_too_slow());
        let whose = match &self.place {
            Some(place) => format!("transfer {}", place.transfer()),
            None => format!("consumer {}", self.consumer),
        };
        tracing::warn!(
            "{whose}: no message comes whole before the server ends the connection. One of {} takes {:.0} s at the {}/s that came. \
             nats-server closes a connection to which it could not write for its `write_deadline` (10 s), or for which more waits than \
             its `max_pending` (64 MiB). What helps: larger ones in the server's configuration, `write_timeout: retry` from nats-server \
             2.12.2 on, or sending in smaller chunks",
            human_bytes(message),
            takes.as_secs_f64(),
            human_bytes(rate as u64),
        );
    }

    /// Whether the consumer has anything that did not come: one that has nothing brings nothing on a fast line, either.
    async fn has_some(&self) -> bool {
        let state = self.broker.with_patience(Duration::ZERO).consumer(&self.stream, &self.consumer).await;
        state.is_ok_and(|state| state.is_some_and(|state| state.pending > 0 || state.unacknowledged > 0))
    }

    /// Nothing comes of what was asked.
    fn lost(&mut self) {
        self.unsent = None;
        self.broker.inflow.with(|ahead, _| self.window.lost(ahead));
        self.moved();
    }

    /// Makes known what has changed to others who read.
    fn moved(&self) {
        if let Some(place) = &self.place {
            place.set_flowing(self.window.flows());
        }
        self.broker.inflow.moved();
    }

    async fn ask(&mut self) -> Result<(), BrokerError> {
        if !self.broker.is_connected() {
            // The client would keep every request, and send all of them at once when the server is back.
            self.rest_until = Some(Instant::now() + REST);
            return Ok(());
        }
        if self.heartbeats.is_stale() {
            self.reconnected().await;
        }
        let before = self.requests;
        while self.is_due() {
            let Some(PullRequest { batch, max_bytes }) = self.unsent else { break };
            let request = json!({
                "batch": batch,
                "max_bytes": max_bytes,
                "expires": EXPIRES.as_nanos() as u64,
                "idle_heartbeat": HEARTBEAT.as_nanos() as u64,
            });
            self.requests += 1;
            let reply = format!("{}.{}", self.inbox, self.requests);
            let client = &self.broker.client;
            let published = client.publish_with_reply(self.subject.clone(), reply, request.to_string().into()).await;
            published.map_err(|_| BrokerError::Closed { what: self.what() })?;
            self.unsent = None;
            self.heartbeats.asked();
        }
        if self.requests != before {
            self.moved();
        }
        Ok(())
    }

    /// Whether there is a request to send. What it asks for counts from now on, so that others do not ask for it as well.
    fn is_due(&mut self) -> bool {
        if self.unsent.is_none() {
            let Self { broker, window, unsent, .. } = self;
            *unsent = broker.inflow.with(|ahead, now| {
                let due = window.due(now, ahead)?;
                window.asked(now, due, ahead);
                Some(due)
            });
        }
        self.unsent.is_some()
    }

    fn what(&self) -> String {
        format!("reading consumer {} on stream {}", self.consumer, self.stream)
    }
}

impl Drop for Pull {
    fn drop(&mut self) {
        self.broker.inflow.with(|ahead, _| self.window.lost(ahead));
        if let Some(place) = &self.place {
            place.set_flowing(false);
        }
        self.broker.inflow.moved();
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

const BATCH_LIMIT: &str = "exceeded maxrequestbatch of ";

/// The server's status messages (nats-server, `server/consumer.go`; ADR-13).
fn classify(status: u16, description: &str) -> Status {
    let description = description.to_ascii_lowercase();
    match status {
        100 => Status::Heartbeat,
        404 | 408 => Status::Ended,
        409 if description.contains("exceeds maxbytes") => Status::EndedByBytes,
        409 if description.contains("consumer deleted") || description.contains("consumer is push") => Status::Gone,
        409 if description.contains("batch completed") => Status::Ended,
        409 if description.starts_with(BATCH_LIMIT) => {
            description[BATCH_LIMIT.len()..].trim().parse().map_or(Status::Lost, Status::BatchLimit)
        }
        // Leadership change, server shutdown, too many requests waiting.
        409 => Status::Lost,
        503 => Status::Gone,
        _ => Status::Lost,
    }
}
