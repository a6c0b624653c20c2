//! Finding what is stored: single messages, and the headers of a transfer's chunks.

use std::ops::ControlFlow;

use async_nats::{HeaderMap, Message, StatusCode};
use base64::Engine as _;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Broker, BrokerError, ConsumerKind, ConsumerSpec, Delivery, Pull, PullSettings, StartAt, code, pull::header,
};
use crate::{
    Channel, ChunkHeader, ClosingRecord, Manifest, StoredChunk, StoredTransfer, Subject, TransferId, header as name,
};

/// A message read by itself.
#[derive(Debug)]
pub struct StoredMessage {
    /// Its subject.
    pub subject: String,
    /// Its sequence in the stream.
    pub sequence: u64,
    /// When the server stored it (RFC 3339).
    pub time: String,
    headers: Option<HeaderMap>,
    /// Its payload.
    pub payload: Bytes,
}

impl StoredMessage {
    /// Reads an answer to a direct request (ADR-31); `None` if it is none.
    fn direct(answer: Message) -> Option<Self> {
        let field = |name| header(answer.headers.as_ref(), name).map(str::to_owned);
        let sequence = field("Nats-Sequence")?.parse().ok()?;
        let (subject, time) = (field("Nats-Subject")?, field("Nats-Time-Stamp")?);
        Some(Self { subject, sequence, time, headers: answer.headers, payload: answer.payload })
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(self.headers.as_ref(), name)
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
        self.message(stream, &json!({ "last_by_subj": subject })).await
    }

    /// The message of this sequence, if there is one. Any replica answers; it may lag behind the leader.
    ///
    /// # Errors
    /// When the stream does not exist, or the server does not answer.
    pub async fn message_at(&self, stream: &str, sequence: u64) -> Result<Option<StoredMessage>, BrokerError> {
        self.message(stream, &json!({ "seq": sequence })).await
    }

    async fn message(&self, stream: &str, query: &Value) -> Result<Option<StoredMessage>, BrokerError> {
        let what = format!("reading a message of stream {stream}");
        let subject = format!("{}.DIRECT.GET.{stream}", self.api_prefix);
        match self.request(&what, subject, None, query.to_string().into()).await {
            Ok(answer) if answer.status == Some(StatusCode::NOT_FOUND) => Ok(None),
            Ok(answer) => match StoredMessage::direct(answer) {
                Some(message) => Ok(Some(message)),
                None => self.leader_message(stream, query).await,
            },
            // Direct access is off.
            Err(BrokerError::NoResponders { .. }) => self.leader_message(stream, query).await,
            Err(error) => Err(error),
        }
    }

    /// Asks the stream's leader: slower, and never behind.
    async fn leader_message(&self, stream: &str, query: &Value) -> Result<Option<StoredMessage>, BrokerError> {
        let what = format!("reading a message of stream {stream}");
        match self.api::<RawAnswer>(&what, &format!("STREAM.MSG.GET.{stream}"), query).await {
            Ok(RawAnswer { message }) => Ok(Some(message.read(&what)?)),
            Err(error) if error.is(code::MESSAGE_NOT_FOUND) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A transfer's closing record, if it was closed.
    ///
    /// # Errors
    /// When the server does not answer. A record that cannot be read counts as none.
    pub async fn closing_record(
        &self, channel: &Channel, transfer: TransferId,
    ) -> Result<Option<ClosingRecord>, BrokerError> {
        let message = self.last_message(self.stream().control(), &self.subjects().close(channel, transfer)).await?;
        let record = message.as_ref().and_then(|message| message.header(name::CLOSING));
        Ok(record.and_then(|text| ClosingRecord::from_header(text, transfer).ok()))
    }

    /// What the stream holds of the transfer with this id, known to be there: its manifest and whatever of its chunks and
    /// closing record.
    ///
    /// # Errors
    /// When the server does not answer. A manifest that cannot be read is answered as `None`, like none at all.
    pub async fn stored_transfer(
        &self, channel: &Channel, transfer: TransferId,
    ) -> Result<Option<StoredTransfer>, BrokerError> {
        let subject = self.subjects().open(channel, transfer);
        let control = self.stream().control();
        let open = match self.last_message(control, &subject).await? {
            // The server has just said that there is one: the replica that answered lags.
            None => self.leader_message(control, &json!({ "last_by_subj": subject })).await?,
            open => open,
        };
        let Some(open) = open else { return Ok(None) };
        let subject = Subject { channel: channel.clone(), transfer };
        let manifest = open.header(name::MANIFEST).and_then(|text| Manifest::from_header(text, &subject).ok());
        let Some(manifest) = manifest else { return Ok(None) };
        let mut stored = StoredTransfer::new(manifest);
        if stored.manifest.inline.is_none() {
            self.scan(&stored.manifest.clone(), |_, scanned| {
                match scanned {
                    Scanned::Chunk(chunk, stored_bytes) => {
                        let ChunkHeader { index, crc32, length, .. } = chunk;
                        stored.chunk(index, StoredChunk { crc32, length, stored_bytes });
                    }
                    Scanned::Closing(record) => stored.close(record.closing),
                }
                ControlFlow::Continue(())
            })
            .await?;
        }
        Ok(Some(stored))
    }

    /// Goes through the headers of a transfer's messages in stream order, with each one's stream sequence, without moving
    /// their payloads. Messages that are none of the protocol's are passed over.
    ///
    /// # Errors
    /// When the server does not answer, or the listing was interrupted.
    pub async fn scan(
        &self, manifest: &Manifest, mut visit: impl FnMut(u64, Scanned) -> ControlFlow<()>,
    ) -> Result<(), BrokerError> {
        let filter = self.subjects().data(&manifest.channel, manifest.transfer);
        self.look(self.stream().data(), vec![filter], StartAt::First, true, |delivery| {
            let header = |name| delivery.header(name);
            let scanned = match header(name::CLOSING) {
                Some(text) => ClosingRecord::from_header(text, manifest.transfer).ok().map(Scanned::Closing),
                None => ChunkHeader::from_headers(header, manifest.chunk_size).ok().map(|chunk| {
                    let size = header(name::MESSAGE_SIZE).and_then(|size| size.parse().ok());
                    Scanned::Chunk(chunk, size.unwrap_or(0))
                }),
            };
            scanned.map_or(ControlFlow::Continue(()), |scanned| visit(delivery.stream_sequence, scanned))
        })
        .await
    }

    /// Goes through all messages that a stream holds now on these subjects, until `visit` breaks.
    pub(super) async fn look(
        &self, stream: String, filters: Vec<String>, start: StartAt, headers_only: bool,
        mut visit: impl FnMut(&Delivery) -> ControlFlow<()>,
    ) -> Result<(), BrokerError> {
        let name = format!("look-{}", self.client.new_inbox().rsplit('.').next().unwrap_or_default());
        let spec = ConsumerSpec { stream, name, filters, start, headers_only, kind: ConsumerKind::Look };
        let state = match self.create_consumer_now(&spec).await {
            // Looking creates nothing.
            Err(error) if error.is(code::STREAM_NOT_FOUND) => return Ok(()),
            state => state?,
        };
        let ConsumerSpec { stream, name, .. } = &spec;
        let result = self.look_through(stream, name, state.pending, &mut visit).await;
        // Best effort: the server removes it by itself soon.
        let _ = self.delete_consumer(stream, name).await;
        result
    }

    async fn look_through(
        &self, stream: &str, consumer: &str, pending: u64, visit: &mut impl FnMut(&Delivery) -> ControlFlow<()>,
    ) -> Result<(), BrokerError> {
        if pending == 0 {
            return Ok(());
        }
        let mut pull = Pull::new(self, stream, consumer, PullSettings::Flow { window: 4 << 20 }).await?;
        for expected in 1..=pending {
            let interrupted = || BrokerError::Interrupted { stream: stream.into() };
            let delivery = match tokio::time::timeout(LOOK_SILENCE, pull.next()).await {
                Err(_) | Ok(Err(BrokerError::ConsumerGone { .. })) => return Err(interrupted()),
                Ok(delivery) => delivery?,
            };
            // Nothing is delivered twice by such a consumer: what was lost with a connection shows as a gap.
            if delivery.consumer_sequence != expected {
                return Err(interrupted());
            }
            if visit(&delivery).is_break() || delivery.pending == 0 {
                break;
            }
        }
        Ok(())
    }
}

/// How long a listing may stand still.
const LOOK_SILENCE: std::time::Duration = std::time::Duration::from_secs(20);

/// One message of a transfer, as its headers tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scanned {
    /// A chunk, and how many bytes its payload has.
    Chunk(ChunkHeader, u64),
    /// A closing record.
    Closing(ClosingRecord),
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
        Ok(StoredMessage {
            subject: self.subject,
            sequence: self.seq,
            time: self.time,
            headers: Some(headers),
            payload,
        })
    }
}
