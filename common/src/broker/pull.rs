//! Messages from a pull consumer, within a byte budget, for as long as it takes.

use std::time::Duration;

use async_nats::{HeaderMap, Message, Subscriber, jetstream};
use bytes::Bytes;
use futures_util::StreamExt;
use jiff::Timestamp;
use serde_json::json;
use tokio::time::Instant;

use super::{
    Broker, BrokerError,
    pull_window::{PullRequest, PullWindow, TooLarge},
    violations::Denials,
};

/// How long the server keeps a request that it cannot fill.
const EXPIRES: Duration = Duration::from_secs(30);
/// How often the server says that it is still there while it has nothing to deliver.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// Silence after which every request is taken for lost.
const SILENCE: Duration = Duration::from_secs(5);
/// Rest after a refusal that asking again at once would only repeat.
const REST: Duration = Duration::from_millis(250);

/// How much to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullSettings {
    /// A flow of messages, with at most so many bytes under way.
    Flow {
        /// Bytes; the server keeps a few requests that have them together.
        window: u64,
    },
    /// Single messages, as many as [`Pull::want`] says.
    Single,
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
    heard: Instant,
    rest_until: Option<Instant>,
    requests: u64,
    /// The connection on which was asked last.
    connection: u64,
    presence: Presence,
}

/// Whether the server gives signs of itself.
#[derive(Debug, PartialEq, Eq)]
enum Presence {
    There,
    Silent,
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

/// Reads one header.
pub(super) fn header<'a>(headers: Option<&'a HeaderMap>, name: &str) -> Option<&'a str> {
    headers?.get(name).map(async_nats::HeaderValue::as_str)
}

/// What a request's end means.
enum Status {
    Heartbeat,
    EndedByBytes,
    Ended,
    Lost,
    Gone,
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
        let inbox = broker.client.new_inbox();
        let subscriber = broker
            .client
            .subscribe(format!("{inbox}.*"))
            .await
            .map_err(|_| BrokerError::Closed { what: format!("reading consumer {consumer} on stream {stream}") })?;
        let window = match settings {
            PullSettings::Flow { window } => {
                let message = broker.max_payload() as u64 + 64 * 1024;
                PullWindow::of_bytes(window, message)
            }
            PullSettings::Single => PullWindow::of_messages(),
        };
        Ok(Self {
            broker: broker.clone(),
            stream: stream.into(),
            consumer: consumer.into(),
            denials: broker.denials(&subject),
            subject,
            inbox,
            subscriber,
            window,
            heard: Instant::now(),
            rest_until: None,
            requests: 0,
            connection: broker.connects(),
            presence: Presence::There,
        })
    }

    /// How many single messages are wanted from now on, those under way included.
    pub fn want(&mut self, messages: u64) {
        self.window.want(messages);
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
            let wake = self.rest_until.unwrap_or(self.heard + SILENCE);
            let came = tokio::select! {
                biased;
                came = tokio::time::timeout_at(wake, self.subscriber.next()) => came,
                violation = self.denials.next() => return Err(BrokerError::Denied { what: self.what(), violation }),
            };
            let message = match came {
                Ok(Some(message)) => message,
                Ok(None) => return Err(BrokerError::Closed { what: self.what() }),
                Err(_) if self.rest_until.is_some() => continue,
                Err(_) => {
                    if std::mem::replace(&mut self.presence, Presence::Silent) == Presence::There {
                        tracing::warn!(
                            consumer = self.consumer,
                            stream = self.stream,
                            "no sign of the server: waiting for it"
                        );
                    }
                    self.heard = Instant::now();
                    self.window.lost();
                    continue;
                }
            };
            self.heard = Instant::now();
            let gone = message.status.is_some_and(|status| status == async_nats::StatusCode::NO_RESPONDERS);
            if !gone && std::mem::replace(&mut self.presence, Presence::There) == Presence::Silent {
                tracing::info!(consumer = self.consumer, stream = self.stream, "the server is back");
            }
            let Some(status) = message.status else {
                self.window.received(message.payload.len() as u64);
                match Delivery::new(message, &self.broker) {
                    Some(delivery) => return Ok(delivery),
                    None => continue,
                }
            };
            let undelivered =
                header(message.headers.as_ref(), "Nats-Pending-Messages").and_then(|count| count.parse().ok());
            match classify(status.as_u16(), message.description.as_deref().unwrap_or_default()) {
                Status::Heartbeat => {}
                Status::Ended => self.window.ended(undelivered),
                Status::EndedByBytes => self.window.ended_by_bytes(undelivered).map_err(|TooLarge { limit }| {
                    BrokerError::MessageTooLarge { stream: self.stream.clone(), limit }
                })?,
                Status::Lost => {
                    self.window.lost();
                    self.rest_until = Some(Instant::now() + REST);
                }
                Status::Gone => {
                    self.broker.note_lost_consumer();
                    self.window.lost();
                    let (stream, consumer) = (self.stream.clone(), self.consumer.clone());
                    return Err(BrokerError::ConsumerGone { stream, consumer });
                }
            }
        }
    }

    async fn ask(&mut self) -> Result<(), BrokerError> {
        if !self.broker.is_connected() {
            // The client would keep every request, and send all of them at once when the server is back.
            self.rest_until = Some(Instant::now() + REST);
            return Ok(());
        }
        let connection = self.broker.connects();
        if std::mem::replace(&mut self.connection, connection) != connection {
            tracing::debug!(consumer = self.consumer, stream = self.stream, "asking on another connection");
            // What was asked on the last one is forgotten, or comes all the same: a window more at most.
            self.window.lost();
            self.heard = Instant::now();
        }
        while let Some(asked @ PullRequest { batch, max_bytes }) = self.window.due() {
            let mut request = json!({
                "batch": batch,
                "expires": EXPIRES.as_nanos() as u64,
                "idle_heartbeat": HEARTBEAT.as_nanos() as u64,
            });
            if let Some(max_bytes) = max_bytes {
                request["max_bytes"] = json!(max_bytes);
            }
            self.requests += 1;
            let reply = format!("{}.{}", self.inbox, self.requests);
            let client = &self.broker.client;
            let published = client.publish_with_reply(self.subject.clone(), reply, request.to_string().into()).await;
            published.map_err(|_| BrokerError::Closed { what: self.what() })?;
            self.window.asked(asked);
            // While nothing was asked for, silence meant nothing.
            self.heard = Instant::now();
        }
        Ok(())
    }

    fn what(&self) -> String {
        format!("reading consumer {} on stream {}", self.consumer, self.stream)
    }
}

/// The server's status messages (nats-server, `server/consumer.go`; ADR-13).
fn classify(status: u16, description: &str) -> Status {
    let description = description.to_ascii_lowercase();
    match status {
        100 => Status::Heartbeat,
        404 | 408 => Status::Ended,
        409 if description.contains("exceeds maxbytes") => Status::EndedByBytes,
        409 if description.contains("consumer deleted") || description.contains("consumer is push") => Status::Gone,
        409 if description.contains("batch completed") => Status::Ended,
        // Leadership change, server shutdown, too many requests waiting.
        409 => Status::Lost,
        503 => Status::Gone,
        _ => Status::Lost,
    }
}
