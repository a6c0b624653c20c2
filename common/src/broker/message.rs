//! Single stored messages, by their subject.

use async_nats::{HeaderMap, Message, StatusCode};
use base64::Engine as _;
use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Broker, BrokerError, code, pull::header};
use crate::{Channel, ClosingRecord, Manifest, Subject, TransferId, header as name};

/// What an answer has beside the message, in bytes: field names, time, and a subject of ordinary length.
const ANSWER_AROUND_MESSAGE: usize = 1024;

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

    /// Reads the answer of a stream's leader.
    #[cfg(feature = "fuzzing")]
    #[doc(hidden)]
    pub fn from_answer(answer: &[u8]) -> Option<Self> {
        let RawAnswer { message } = serde_json::from_slice(answer).ok()?;
        message.read("fuzzing").ok()
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(self.headers.as_ref(), name)
    }

    /// About how long the leader's answer with it is, in bytes: JSON with all in Base64.
    fn leaders_answer(&self) -> usize {
        let lines = self.headers.iter().flat_map(HeaderMap::iter).flat_map(|(name, values)| {
            values.iter().map(|value| AsRef::<str>::as_ref(name).len() + value.as_str().len() + 4)
        });
        (self.payload.len() + lines.sum::<usize>()).div_ceil(3) * 4 + ANSWER_AROUND_MESSAGE
    }

    /// The manifest with which it opens a transfer; `None` if that cannot be read.
    pub fn manifest(&self, channel: &Channel, transfer: TransferId) -> Option<Manifest> {
        Manifest::from_header(self.header(name::MANIFEST)?, &Subject { channel: channel.clone(), transfer }).ok()
    }

    /// What it says of a transfer's end; `None` if that cannot be read.
    pub fn closing_record(&self, transfer: TransferId) -> Option<ClosingRecord> {
        ClosingRecord::from_header(self.header(name::CLOSING)?, transfer).ok()
    }
}

/// What a replica says of a subject's last message.
enum Direct {
    Message(StoredMessage),
    None,
    /// Direct access is off, or the stream does not exist.
    NoAnswer,
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
        match self.direct_message(stream, subject).await? {
            Direct::Message(message) => Ok(Some(message)),
            Direct::None => Ok(None),
            Direct::NoAnswer => self.last_message_of_leader(stream, subject).await,
        }
    }

    /// Asks any replica for the last message on a subject. What is asked for stands in the request's subject, to which permissions
    /// can hold a user.
    async fn direct_message(&self, stream: &str, subject: &str) -> Result<Direct, BrokerError> {
        let what = format!("reading a message of stream {stream}");
        let request = format!("{}.DIRECT.GET.{stream}.{subject}", self.api_prefix);
        let ask = || async {
            match self.request(&what, request.clone(), None, Bytes::new()).await {
                Err(BrokerError::NoResponders { .. }) => Ok(Direct::NoAnswer),
                Err(error) => Err(error),
                Ok(answer) if answer.status == Some(StatusCode::NOT_FOUND) => Ok(Direct::None),
                Ok(answer) => Ok(StoredMessage::direct(answer).map_or(Direct::NoAnswer, Direct::Message)),
            }
        };
        self.patiently(&what, ask).await
    }

    /// The last message on a subject, as the stream's leader knows it: slower, and never behind. Of a large message in a
    /// JetStream elsewhere any replica's word is taken.
    ///
    /// # Errors
    /// When the stream does not exist, or the server does not answer.
    pub async fn last_message_of_leader(
        &self, stream: &str, subject: &str,
    ) -> Result<Option<StoredMessage>, BrokerError> {
        if self.reaches_elsewhere() {
            match self.direct_message(stream, subject).await {
                // The leader's answer is a third longer. A leaf node on the way ends its connection over one that is too long.
                Ok(Direct::Message(message)) if message.leaders_answer() > self.max_payload() => {
                    return Ok(Some(message));
                }
                Ok(_) | Err(BrokerError::Denied { .. }) => {}
                Err(error) => return Err(error),
            }
        }
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
        match self.api_unless_denied::<RawAnswer>(&what, &format!("STREAM.MSG.GET.{stream}"), query).await {
            Ok(RawAnswer { message }) => Ok(Some(message.read(&what)?)),
            Err(error) if error.is(code::MESSAGE_NOT_FOUND) => Ok(None),
            Err(error) => Err(error),
        }
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
