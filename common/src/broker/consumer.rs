//! Consumers: durable inboxes and cursors, and short-lived ones for looking around.

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Broker, BrokerError, code, consumer_grant::Grant};
use crate::{overlap, selects};

/// A pull consumer to be.
#[derive(Debug, Clone)]
pub struct ConsumerSpec {
    /// The stream it reads.
    pub stream: String,
    /// Its name.
    pub name: String,
    /// The subjects it reads; one is put into the creating subject, so that permissions can hold receivers to it.
    pub filters: Vec<String>,
    /// Where it begins.
    pub start: StartAt,
    /// Only headers, no payloads.
    pub headers_only: bool,
    /// What acknowledging means, and how long the server waits for it.
    pub kind: ConsumerKind,
}

/// Where a consumer begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    /// With the oldest message.
    First,
    /// With the message of this sequence, or the next one there is.
    Sequence(u64),
}

/// What a consumer is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConsumerKind {
    /// Durable; each message is acknowledged by itself.
    Inbox {
        /// Time after which an unacknowledged message goes to another process.
        ack_wait: Duration,
    },
    /// Durable; an acknowledgement covers all before it. Its state is in memory: the receiver's journal can rebuild it.
    Cursor,
    /// Nothing is acknowledged; the server removes it when it is not used for half a minute.
    Look,
    /// Nothing is acknowledged, nor asked for: it delivers by itself. The server removes it soon when nobody listens.
    Push {
        /// Where it delivers.
        inbox: String,
    },
}

/// What the server does where a consumer of this name stands with other settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Existing {
    /// It changes the settings, as far as they can be changed.
    Update,
    /// It refuses.
    Keep,
}

impl Existing {
    /// As the server reads it.
    fn action(self) -> &'static str {
        match self {
            Self::Update => "",
            Self::Keep => "create",
        }
    }
}

/// Where a consumer stands.
#[derive(Debug, Clone)]
pub struct ConsumerState {
    /// Its name.
    pub name: String,
    /// Messages it has yet to deliver.
    pub pending: u64,
    /// Messages delivered and not acknowledged.
    pub unacknowledged: u64,
    /// Every matching message up to this stream sequence is acknowledged.
    pub acknowledged_to: u64,
    /// How many messages it has delivered, repetitions included.
    pub delivered: u64,
    /// The last stream sequence it delivered.
    pub delivered_to: u64,
    /// The subjects it reads.
    pub filters: Vec<String>,
    /// Whether it is a receiver's, and not one for looking around.
    pub durable: bool,
    /// Requests for messages that wait to be served: somebody is there.
    pub waiting_pulls: u64,
    /// When it delivered, or was told of, a message last.
    pub last_active: Option<Timestamp>,
    /// When the server said so, by its clock.
    pub at: Option<Timestamp>,
    /// For how long an operator has paused it.
    pub paused: Option<Duration>,
    /// How many messages it delivers that are not acknowledged, at most; less than 1 is no limit.
    pub max_unacknowledged: i64,
}

impl ConsumerState {
    /// Whether it is a receiver's inbox to which messages on this subject go.
    pub fn listens_to(&self, subject: &str) -> bool {
        self.durable && self.filters.iter().any(|filter| selects(filter, subject))
    }

    /// Whether it is a receiver's inbox to which messages that this filter selects can go.
    pub fn listens_to_some(&self, subjects: &str) -> bool {
        self.durable && self.filters.iter().any(|filter| overlap(filter, subjects))
    }
}

#[derive(Deserialize)]
struct ConsumerInfo {
    name: String,
    num_pending: u64,
    num_ack_pending: u64,
    #[serde(default)]
    num_waiting: u64,
    ack_floor: SequencePair,
    delivered: SequencePair,
    config: ConsumerConfig,
    #[serde(default)]
    ts: Option<Timestamp>,
    #[serde(default)]
    paused: bool,
    /// In nanoseconds.
    #[serde(default)]
    pause_remaining: u64,
}

#[derive(Deserialize)]
struct SequencePair {
    consumer_seq: u64,
    stream_seq: u64,
    #[serde(default)]
    last_active: Option<Timestamp>,
}

#[derive(Deserialize)]
struct ConsumerConfig {
    #[serde(default)]
    filter_subject: Option<String>,
    #[serde(default)]
    filter_subjects: Vec<String>,
    #[serde(default)]
    durable_name: Option<String>,
    #[serde(default)]
    max_ack_pending: i64,
}

impl From<ConsumerInfo> for ConsumerState {
    fn from(info: ConsumerInfo) -> Self {
        let mut filters = info.config.filter_subjects;
        filters.extend(info.config.filter_subject);
        Self {
            name: info.name,
            pending: info.num_pending,
            unacknowledged: info.num_ack_pending,
            acknowledged_to: info.ack_floor.stream_seq,
            delivered: info.delivered.consumer_seq,
            delivered_to: info.delivered.stream_seq,
            filters,
            durable: info.config.durable_name.is_some(),
            waiting_pulls: info.num_waiting,
            last_active: info.delivered.last_active.max(info.ack_floor.last_active),
            at: info.ts,
            paused: info.paused.then(|| Duration::from_nanos(info.pause_remaining)),
            max_unacknowledged: info.config.max_ack_pending,
        }
    }
}

/// How long the server keeps a consumer that nobody uses.
const ABANDONED_CURSOR: Duration = Duration::from_secs(7 * 24 * 3600);
const UNUSED_LOOK: Duration = Duration::from_secs(30);
/// So short that thousands of them, one after the other, do not add up.
const UNHEARD_PUSH: Duration = Duration::from_secs(1);
pub(super) const PUSH_HEARTBEAT: Duration = Duration::from_millis(500);
/// Far above what fits in a window: the bound on bytes is the pull's.
const CURSOR_MAX_UNACKNOWLEDGED: u64 = 65_536;
/// Parked and failed transfers count as unacknowledged; they must never hold up the others.
pub(super) const INBOX_MAX_UNACKNOWLEDGED: u64 = 1_000_000;
/// What is on its way over a slow line is not to come again. What was lost with a connection is fetched by itself.
const CURSOR_ACK_WAIT: Duration = Duration::from_secs(3600);

/// A consumer's name that no other one has, from a word and the client's newest inbox.
pub(super) fn name_of_its_own(word: &str, inbox: &str) -> String {
    format!("{word}-{}", inbox.rsplit('.').next().unwrap_or_default())
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl ConsumerSpec {
    /// As it is asked for, within what the server grants.
    fn config(&self, grant: Grant) -> Value {
        let mut config = json!({
            "name": self.name,
            "replay_policy": "instant",
            "headers_only": self.headers_only,
        });
        match self.start {
            StartAt::First => config["deliver_policy"] = json!("all"),
            StartAt::Sequence(sequence) => {
                config["deliver_policy"] = json!("by_start_sequence");
                config["opt_start_seq"] = json!(sequence);
            }
        }
        match &self.filters[..] {
            [one] => config["filter_subject"] = json!(one),
            several => config["filter_subjects"] = json!(several),
        }
        let kind = match &self.kind {
            ConsumerKind::Inbox { ack_wait } => json!({
                "durable_name": self.name,
                "ack_policy": "explicit",
                "ack_wait": nanoseconds(*ack_wait),
                "max_deliver": -1,
                "max_ack_pending": grant.unacknowledged(INBOX_MAX_UNACKNOWLEDGED),
            }),
            ConsumerKind::Cursor => json!({
                "durable_name": self.name,
                "ack_policy": "all",
                "ack_wait": nanoseconds(CURSOR_ACK_WAIT),
                "max_deliver": -1,
                "max_ack_pending": grant.unacknowledged(CURSOR_MAX_UNACKNOWLEDGED),
                "mem_storage": true,
                "inactive_threshold": nanoseconds(grant.unused(ABANDONED_CURSOR)),
            }),
            // A stream that limits unacknowledged messages would set its limit, and then refuse that without acknowledgements.
            ConsumerKind::Look => json!({
                "ack_policy": "none",
                "max_ack_pending": -1,
                "mem_storage": true,
                "num_replicas": 1,
                "inactive_threshold": nanoseconds(grant.unused(UNUSED_LOOK)),
            }),
            ConsumerKind::Push { inbox } => json!({
                "deliver_subject": inbox,
                "flow_control": true,
                "idle_heartbeat": nanoseconds(PUSH_HEARTBEAT),
                "ack_policy": "none",
                "max_ack_pending": -1,
                "mem_storage": true,
                "num_replicas": 1,
                "inactive_threshold": nanoseconds(grant.unused(UNHEARD_PUSH)),
            }),
        };
        if let (Value::Object(config), Value::Object(kind)) = (&mut config, kind) {
            config.extend(kind);
        }
        config
    }
}

impl Broker {
    /// Creates the consumer; one that stands already with the same settings is used as it is. Creates the streams first if
    /// they do not exist, but not to look around.
    ///
    /// A consumer for looking around is given a name of its own, of which only the first word is kept, with each try: it lives
    /// on one server, and the last try may have gone to one that is away, and would wait for it.
    ///
    /// # Errors
    /// When the server refuses, as it does when the consumer stands with other settings.
    pub async fn create_consumer(&self, spec: &mut ConsumerSpec) -> Result<ConsumerState, BrokerError> {
        if spec.kind == ConsumerKind::Look {
            let (named, state) = self.create_look(spec).await?;
            *spec = named;
            return Ok(state);
        }
        self.create_consumer_or_streams(spec, Existing::Update).await
    }

    /// As [`Broker::create_consumer`], and leaves one that stands with other settings as it is: `None` then.
    ///
    /// # Errors
    /// When the server refuses for another reason.
    pub async fn create_consumer_unless_other(
        &self, spec: &ConsumerSpec,
    ) -> Result<Option<ConsumerState>, BrokerError> {
        match self.create_consumer_or_streams(spec, Existing::Keep).await {
            Ok(state) => Ok(Some(state)),
            Err(error) if error.is(code::CONSUMER_EXISTS) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn create_consumer_or_streams(
        &self, spec: &ConsumerSpec, existing: Existing,
    ) -> Result<ConsumerState, BrokerError> {
        match self.create_consumer_now(spec, existing).await {
            Err(error) if self.created_for(&error, None).await? => self.create_consumer_now(spec, existing).await,
            result => result,
        }
    }

    async fn create_look(&self, spec: &ConsumerSpec) -> Result<(ConsumerSpec, ConsumerState), BrokerError> {
        let once = self.with_patience(Duration::ZERO);
        let what = format!("looking at stream {}", spec.stream);
        self.patiently(&what, || async {
            let word = spec.name.split('-').next().unwrap_or_default();
            let name = name_of_its_own(word, &self.client.new_inbox());
            let spec = ConsumerSpec { name, ..spec.clone() };
            let state = once.create_consumer_now(&spec, Existing::Update).await?;
            Ok((spec, state))
        })
        .await
    }

    pub(super) async fn create_consumer_now(
        &self, spec: &ConsumerSpec, existing: Existing,
    ) -> Result<ConsumerState, BrokerError> {
        let ConsumerSpec { stream, name, .. } = spec;
        let subject = match &spec.filters[..] {
            [filter] => format!("CONSUMER.CREATE.{stream}.{name}.{filter}"),
            _ => format!("CONSUMER.CREATE.{stream}.{name}"),
        };
        let what = format!("creating consumer {name} on stream {stream}");
        loop {
            let grant = self.grants.of(stream);
            let request = json!({ "stream_name": stream, "config": spec.config(grant), "action": existing.action() });
            match self.api::<ConsumerInfo>(&what, &subject, &request).await {
                Ok(info) => {
                    self.note_stream(stream);
                    return Ok(info.into());
                }
                // Tried again within the limit that the server names, if that is news.
                Err(BrokerError::Refused { code, description, .. })
                    if self.grants.narrow(stream, grant, code, &description) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Where the consumer stands; `None` if there is no such consumer or stream.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn consumer(&self, stream: &str, name: &str) -> Result<Option<ConsumerState>, BrokerError> {
        let what = format!("reading consumer {name} on stream {stream}");
        match self.api::<ConsumerInfo>(&what, &format!("CONSUMER.INFO.{stream}.{name}"), &json!({})).await {
            Ok(info) => Ok(Some(info.into())),
            Err(error) if error.is(code::CONSUMER_NOT_FOUND) || error.is(code::STREAM_NOT_FOUND) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Deletes the consumer; `false` if there is none.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn delete_consumer(&self, stream: &str, name: &str) -> Result<bool, BrokerError> {
        let what = format!("deleting consumer {name} on stream {stream}");
        match self.api::<Value>(&what, &format!("CONSUMER.DELETE.{stream}.{name}"), &json!({})).await {
            Ok(_) => Ok(true),
            Err(error) if error.is(code::CONSUMER_NOT_FOUND) || error.is(code::STREAM_NOT_FOUND) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[derive(Deserialize)]
struct ConsumerPage {
    total: usize,
    #[serde(default)]
    consumers: Option<Vec<ConsumerInfo>>,
}

impl Broker {
    /// A stream's consumers; none if there is no such stream.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn consumers(&self, stream: &str) -> Result<Vec<ConsumerState>, BrokerError> {
        let mut all = Vec::new();
        loop {
            let what = format!("listing the consumers of stream {stream}");
            let request = json!({ "offset": all.len() });
            match self.api::<ConsumerPage>(&what, &format!("CONSUMER.LIST.{stream}"), &request).await {
                Ok(page) => {
                    let consumers = page.consumers.unwrap_or_default();
                    let last = consumers.is_empty() || all.len() + consumers.len() >= page.total;
                    all.extend(consumers.into_iter().map(ConsumerState::from));
                    if last {
                        return Ok(all);
                    }
                }
                Err(error) if error.is(code::STREAM_NOT_FOUND) => return Ok(all),
                Err(error) => return Err(error),
            }
        }
    }
}
