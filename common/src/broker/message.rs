//! Single stored messages, by their subject.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use async_nats::{HeaderMap, Message, StatusCode};
use base64::Engine as _;
use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Broker, BrokerError, code, pull::header};
use crate::{ClosingRecord, TransferId, header as name};

/// A message read by itself.
#[derive(Debug)]
pub struct StoredMessage {
    /// Its subject.
    pub subject: String,
    /// Its sequence in the stream.
    pub sequence: u64,
    /// When the server stored it.
    pub stored_at: Timestamp,
    headers: Option<HeaderMap>,
    /// Its payload.
    pub payload: Bytes,
}

impl StoredMessage {
    /// Reads an answer to a direct request (ADR-31); `None` if it is none.
    fn direct(answer: Message) -> Option<Self> {
        let field = |name| header(answer.headers.as_ref(), name).map(str::to_owned);
        let sequence = field("Nats-Sequence")?.parse().ok()?;
        let (subject, stored_at) = (field("Nats-Subject")?, field("Nats-Time-Stamp")?.parse().ok()?);
        Some(Self { subject, sequence, stored_at, headers: answer.headers, payload: answer.payload })
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(self.headers.as_ref(), name)
    }

    /// What it says of a transfer's end; `None` if that cannot be read.
    pub fn closing_record(&self, transfer: TransferId) -> Option<ClosingRecord> {
        ClosingRecord::from_header(self.header(name::CLOSING)?, transfer).ok()
    }
}

#[derive(Deserialize)]
struct RawAnswer {
    message: RawMessage,
}

#[derive(Deserialize)]
struct RawMessage {
    subject: String,
    seq: u64,
    time: String,
    #[serde(default)]
    hdrs: String,
    #[serde(default)]
    data: String,
}

impl Broker {
    /// The last message on a subject, if there is one. Any replica answers; it may lag behind the leader.
    ///
    /// # Errors
    /// When the stream does not exist, or the server does not answer.
    pub async fn last_message(&self, stream: &str, subject: &str) -> Result<Option<StoredMessage>, BrokerError> {
        let what = format!("reading a message of stream {stream}");
        // What is asked for stands in the request's subject, to which permissions can hold a user.
        let request = format!("{}.DIRECT.GET.{stream}.{subject}", self.api_prefix);
        let ask = || async {
            match self.request(&what, request.clone(), None, Bytes::new()).await {
                // Direct access is off, or the stream does not exist.
                Err(BrokerError::NoResponders { .. }) => Ok(None),
                answer => answer.map(Some),
            }
        };
        match self.patiently(&what, ask).await? {
            Some(answer) if answer.status == Some(StatusCode::NOT_FOUND) => Ok(None),
            Some(answer) => match StoredMessage::direct(answer) {
                Some(message) => Ok(Some(message)),
                None => self.last_message_of_leader(stream, subject).await,
            },
            None => self.last_message_of_leader(stream, subject).await,
        }
    }

    /// The last message on a subject, as the stream's leader knows it: slower, and never behind.
    ///
    /// # Errors
    /// When the stream does not exist, or the server does not answer.
    pub async fn last_message_of_leader(
        &self, stream: &str, subject: &str,
    ) -> Result<Option<StoredMessage>, BrokerError> {
        self.ask_leader(stream, &json!({ "last_by_subj": subject })).await
    }

    /// The last message on a subject, by its leader's word. Who may not ask the leader takes a replica's.
    ///
    /// # Errors
    /// When the stream does not exist, or the server does not answer.
    pub async fn latest_message(&self, stream: &str, subject: &str) -> Result<Option<StoredMessage>, BrokerError> {
        match self.last_message_of_leader(stream, subject).await {
            Err(BrokerError::Denied { .. }) => self.last_message(stream, subject).await,
            message => message,
        }
    }

    /// The last message on a subject that is known to have had one: a replica that has none may lag, and the leader is asked.
    /// Who may not ask it takes the replica's word.
    ///
    /// # Errors
    /// When the stream does not exist, or the server does not answer.
    pub async fn known_message(&self, stream: &str, subject: &str) -> Result<Option<StoredMessage>, BrokerError> {
        if let Some(message) = self.last_message(stream, subject).await? {
            return Ok(Some(message));
        }
        match self.last_message_of_leader(stream, subject).await {
            Err(BrokerError::Denied { .. }) => Ok(None),
            answer => answer,
        }
    }

    /// The message of this sequence, as the stream's leader knows it.
    pub(super) async fn message_of_leader(
        &self, stream: &str, sequence: u64,
    ) -> Result<Option<StoredMessage>, BrokerError> {
        self.ask_leader(stream, &json!({ "seq": sequence })).await
    }

    /// What is asked for stands in the request: who may ask for one message may ask for all. Whoever may not is told so by the
    /// server once for each connection, whose log is for real attempts.
    async fn ask_leader(&self, stream: &str, query: &Value) -> Result<Option<StoredMessage>, BrokerError> {
        let what = format!("reading a message of stream {stream}");
        if let Some(violation) = self.denied_leaders.of(stream, self.connects()) {
            return Err(BrokerError::Denied { what, violation });
        }
        match self.api::<RawAnswer>(&what, &format!("STREAM.MSG.GET.{stream}"), query).await {
            Ok(RawAnswer { message }) => Ok(Some(message.read(&what)?)),
            Err(error) if error.is(code::MESSAGE_NOT_FOUND) => Ok(None),
            Err(BrokerError::Denied { what, violation }) => {
                self.denied_leaders.note(stream, self.connects(), &violation);
                Err(BrokerError::Denied { what, violation })
            }
            Err(error) => Err(error),
        }
    }
}

/// The streams whose leader this user may not ask, and the server's words when it was tried.
#[derive(Debug, Clone, Default)]
pub(super) struct DeniedLeaders(Arc<Mutex<BTreeMap<String, Denial>>>);

/// Good for one connection: the next one may have other rights.
#[derive(Debug)]
struct Denial {
    connection: u64,
    violation: String,
}

impl DeniedLeaders {
    fn of(&self, stream: &str, connection: u64) -> Option<String> {
        let denials = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        denials.get(stream).filter(|denial| denial.connection == connection).map(|denial| denial.violation.clone())
    }

    fn note(&self, stream: &str, connection: u64, violation: &str) {
        let denial = Denial { connection, violation: violation.to_owned() };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(stream.to_owned(), denial);
    }
}

impl RawMessage {
    fn read(self, what: &str) -> Result<StoredMessage, BrokerError> {
        let decode = |text: &str| {
            base64::engine::general_purpose::STANDARD
                .decode(text)
                .map_err(|error| BrokerError::Answer { what: what.into(), source: serde::de::Error::custom(error) })
        };
        let mut headers = HeaderMap::new();
        let block = decode(&self.hdrs)?;
        for line in String::from_utf8_lossy(&block).lines().skip(1) {
            let pair = line.split_once(':').map(|(name, value)| (name.parse(), value.trim().parse()));
            if let Some((Ok(name), Ok(value))) = pair {
                headers.append::<async_nats::HeaderName, async_nats::HeaderValue>(name, value);
            }
        }
        let payload = decode(&self.data)?.into();
        let unreadable = |error| BrokerError::Answer { what: what.into(), source: serde::de::Error::custom(error) };
        Ok(StoredMessage {
            subject: self.subject,
            sequence: self.seq,
            stored_at: self.time.parse().map_err(unreadable)?,
            headers: Some(headers),
            payload,
        })
    }
}
