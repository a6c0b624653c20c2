//! Publishing with the server's acknowledgement, and acknowledging to it.

use std::time::Duration;

use async_nats::HeaderMap;
use bytes::Bytes;
use serde::Deserialize;

use super::{
    Broker, BrokerError, code,
    connection::{Counts, Outgoing, read_answer},
};
use crate::{Kind, Subject, header, in_flight::Order};

/// The server's word that a message is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Its sequence in the stream.
    pub sequence: u64,
    /// A message of the same id was there already, within the duplicate window: nothing new was stored.
    pub duplicate: bool,
}

/// The server's word as it comes, with the domain of the stream that has stored the message.
#[derive(Deserialize)]
struct Answer {
    seq: u64,
    #[serde(default)]
    duplicate: bool,
    #[serde(default)]
    domain: Option<String>,
}

/// What to tell the server about a delivered message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acknowledgement {
    /// It is done.
    Done,
    /// It is being worked on: keep it for this process.
    InProgress,
    /// Deliver it again after this long.
    Again(Duration),
    /// Never deliver it again.
    Never,
}

impl Acknowledgement {
    /// As the server reads it (nats-server, `server/consumer.go`).
    fn to_payload(&self) -> Bytes {
        match self {
            Self::Done => Bytes::from_static(b"+ACK"),
            Self::InProgress => Bytes::from_static(b"+WPI"),
            Self::Again(delay) => format!("-NAK {{\"delay\": {}}}", delay.as_nanos()).into(),
            Self::Never => Bytes::from_static(b"+TERM"),
        }
    }
}

impl Broker {
    /// Publishes one message and waits until the server has stored it. Does not create streams.
    ///
    /// # Errors
    /// When the stream is full, missing, in another domain, or refuses the message; or no answer comes: the message may be stored
    /// all the same.
    pub async fn publish(
        &self, subject: String, headers: &[(&'static str, String)], payload: Bytes,
    ) -> Result<Stored, BrokerError> {
        let what = format!("publishing on {subject}");
        let mut map = HeaderMap::new();
        let mut bytes = payload.len() + subject.len();
        for (name, value) in headers {
            bytes += name.len() + value.len();
            map.insert(*name, value.as_str());
        }
        let order = match self.subjects().kind(&subject) {
            // What is stored in one stream is answered in the order in which it was sent.
            Some(Kind::Data) => Order::AsSent,
            _ => Order::Any,
        };
        let counts = Counts::Message { order, bytes };
        let answer = self.exchange(&what, Outgoing { subject, headers: Some(map), payload, counts }).await?;
        let answer: Answer = read_answer(&what, &answer)?;
        if order == Order::Any {
            self.note_stream(self.stream().control());
        }
        match &self.domain {
            // A stream here that takes the same subjects was faster, or there is none in that domain.
            Some(domain) if answer.domain.as_deref() != Some(domain.as_str()) => {
                let other = answer.domain.unwrap_or_else(|| "none".into());
                Err(BrokerError::OtherDomain { what, domain: domain.clone(), other })
            }
            _ => Ok(Stored { sequence: answer.seq, duplicate: answer.duplicate }),
        }
    }

    /// Publishes a message if the last one on its subject has this sequence, 0 for none: `None` if it has not. The server
    /// compares, so that of two publishers only one succeeds.
    ///
    /// # Errors
    /// As for [`Broker::publish`].
    pub async fn publish_behind(
        &self, subject: String, headers: &[(&'static str, String)], payload: Bytes, last: u64,
    ) -> Result<Option<Stored>, BrokerError> {
        let mut headers = headers.to_vec();
        headers.push((header::EXPECTED_LAST_SUBJECT_SEQUENCE, last.to_string()));
        match self.publish(subject, &headers, payload).await {
            Ok(stored) => Ok(Some(stored)),
            Err(error) if error.is(code::WRONG_LAST_SEQUENCE) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Publishes a message that its subject takes once: `None` if there is one already. Creates the streams if it turns out
    /// that they do not exist.
    ///
    /// # Errors
    /// As for [`Broker::publish`], and when the streams are missing and this user may not create them.
    pub async fn publish_once(
        &self, subject: String, headers: &[(&'static str, String)], payload: Bytes,
    ) -> Result<Option<Stored>, BrokerError> {
        // Whoever publishes tries again: waiting here, too, would be told twice, and without the reason.
        let at_once = self.with_patience(Duration::ZERO);
        match self.publish_behind(subject.clone(), headers, payload.clone(), 0).await {
            // Boxed: rare, and large to be carried along by every send.
            Err(error) if Box::pin(at_once.created_for(&error, self.readable_about(&subject))).await? => {
                Box::pin(self.publish_behind(subject, headers, payload, 0)).await
            }
            result => result,
        }
    }

    /// What whoever publishes about this transfer may read: what receivers ask for.
    fn readable_about(&self, subject: &str) -> Option<String> {
        let Subject { channel, transfer } = self.subjects().parse(subject).ok()?;
        Some(self.subjects().of(Kind::Repair, &channel, transfer))
    }

    /// Publishes what is harmless to publish twice, again and again while the server is away or its stream full.
    ///
    /// # Errors
    /// As for [`Broker::publish`], when waiting did not help.
    pub async fn say(
        &self, subject: String, headers: &[(&'static str, String)], payload: Bytes,
    ) -> Result<(), BrokerError> {
        let what = format!("publishing on {subject}");
        self.patiently(&what, || self.publish(subject.clone(), headers, payload.clone())).await.map(drop)
    }

    /// Tells the server about a delivered message, without waiting for its answer: it may be lost with the connection, and the
    /// message is then delivered again. Nothing is kept for a server that is away: `false`, then.
    pub async fn acknowledge(&self, ack_subject: &str, acknowledgement: Acknowledgement) -> bool {
        if !self.is_connected() {
            return false;
        }
        let sent = self.client.publish(ack_subject.to_owned(), acknowledgement.to_payload()).await;
        sent.inspect_err(|error| tracing::debug!(%error, "an acknowledgement could not be sent")).is_ok()
    }

    /// Tells the server about a delivered message, and waits until it says that it knows. Tried once: by the time a server is
    /// back that was away, it may have given the message to somebody else.
    ///
    /// # Errors
    /// When there is no connection, or no answer comes, as from a consumer that is gone. The server may know all the same.
    pub async fn confirm(&self, ack_subject: &str, acknowledgement: &Acknowledgement) -> Result<(), BrokerError> {
        let what = "confirming an acknowledgement";
        if !self.is_connected() {
            return Err(BrokerError::Disconnected { what: what.into() });
        }
        self.request(what, ack_subject.to_owned(), None, acknowledgement.to_payload()).await.map(drop)
    }
}
