//! Publishing with the server's acknowledgement, and acknowledging to it.

use async_nats::HeaderMap;
use bytes::Bytes;
use serde::Deserialize;

use super::{Broker, BrokerError, code, connection::read_answer};
use crate::header;

/// The server's word that a message is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Stored {
    /// Its sequence in the stream.
    #[serde(rename = "seq")]
    pub sequence: u64,
    /// A message of the same id was there already, within the duplicate window: nothing new was stored.
    #[serde(default)]
    pub duplicate: bool,
}

/// What to tell the server about a delivered message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acknowledgement {
    /// It is done.
    Done,
    /// It is being worked on: keep it for this process.
    InProgress,
    /// Deliver it again after this long.
    Again(std::time::Duration),
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
    /// When the stream is full, missing, or refuses the message; or no answer comes: the message may be stored all the same.
    pub async fn publish(
        &self, subject: String, headers: &[(&'static str, String)], payload: Bytes,
    ) -> Result<Stored, BrokerError> {
        let what = format!("publishing on {subject}");
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.as_str());
        }
        read_answer(&what, &self.request(&what, subject, Some(map), payload).await?)
    }

    /// Publishes a message that its subject takes once: `false` if there is one already. The server compares, so that of two
    /// publishers only one succeeds. Creates the streams if it turns out that they do not exist.
    ///
    /// # Errors
    /// As for [`Broker::publish`], and when the streams are missing and this user may not create them.
    pub async fn publish_once(
        &self, subject: String, headers: &[(&'static str, String)], payload: Bytes,
    ) -> Result<bool, BrokerError> {
        let mut headers = headers.to_vec();
        headers.push((header::EXPECTED_LAST_SUBJECT_SEQUENCE, "0".into()));
        let published = match self.publish(subject.clone(), &headers, payload.clone()).await {
            Err(error) if self.created_for(&error).await? => self.publish(subject, &headers, payload).await,
            result => result,
        };
        match published {
            Ok(_) => Ok(true),
            Err(error) if error.is(code::WRONG_LAST_SEQUENCE) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Tells the server about a delivered message, without waiting for its answer: it may be lost with the connection, and the
    /// message is then delivered again.
    pub async fn acknowledge(&self, ack_subject: &str, acknowledgement: Acknowledgement) {
        if let Err(error) = self.client.publish(ack_subject.to_owned(), acknowledgement.to_payload()).await {
            tracing::debug!(%error, "an acknowledgement could not be sent");
        }
    }

    /// Tells the server about a delivered message, and waits until it says that it knows.
    ///
    /// # Errors
    /// When no answer comes. The server may know all the same.
    pub async fn confirm(&self, ack_subject: &str, acknowledgement: Acknowledgement) -> Result<(), BrokerError> {
        let payload = acknowledgement.to_payload();
        self.request("confirming an acknowledgement", ack_subject.to_owned(), None, payload).await.map(drop)
    }
}
