//! The pair of streams: created with sound settings, or used as an operator made them.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::{Broker, BrokerError, code};

/// How the streams are created. What is `None` is left to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamSettings {
    /// Copies of every message, 1 to 5.
    pub replicas: u8,
    /// Most bytes that each of the two streams may take.
    pub max_bytes: Option<u64>,
    /// Age at which messages of both streams are removed.
    pub max_age: Option<Duration>,
}

/// What was found or made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamsReport {
    /// Streams that were created.
    pub created: Vec<String>,
    /// What an operator may want to change in a stream that stood already.
    pub advice: Vec<String>,
}

impl Default for StreamSettings {
    /// One copy, no limits.
    fn default() -> Self {
        Self { replicas: 1, max_bytes: None, max_age: None }
    }
}

impl StreamSettings {
    /// With so many copies of every message.
    #[must_use]
    pub fn with_replicas(mut self, replicas: u8) -> Self {
        self.replicas = replicas;
        self
    }

    /// With a limit on each stream's size, in bytes.
    #[must_use]
    pub fn with_max_bytes(mut self, bytes: Option<u64>) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// With a limit on the messages' age.
    #[must_use]
    pub fn with_max_age(mut self, age: Option<Duration>) -> Self {
        self.max_age = age;
        self
    }
}

#[derive(Deserialize)]
struct StreamInfo {
    config: StreamConfig,
    state: StreamState,
}

#[derive(Deserialize)]
struct StreamState {
    last_seq: u64,
}

#[derive(Deserialize)]
struct StreamConfig {
    #[serde(default)]
    subjects: Vec<String>,
    discard: String,
    storage: String,
    num_replicas: u64,
    #[serde(default)]
    max_bytes: i64,
    #[serde(default)]
    max_age: u64,
    #[serde(default)]
    allow_direct: bool,
}

impl Broker {
    /// Creates the streams that do not exist yet; checks those that do, and leaves them as they are.
    ///
    /// # Errors
    /// When the server refuses, or this user may not.
    pub async fn create_streams(&self, settings: &StreamSettings) -> Result<StreamsReport, BrokerError> {
        let mut report = StreamsReport { created: Vec::new(), advice: Vec::new() };
        let (data, subjects) = (self.stream().data(), self.subjects());
        // Where the control stream is found, the other is taken to be there: it comes last, should this be dropped half-way.
        let pair = [
            (data, subjects.data_stream(), "chunks of files"),
            (self.stream().control().to_owned(), subjects.control_stream(), "what is said about transfers"),
        ];
        for (name, subjects, holds) in pair {
            match self.stream_info(&name).await {
                Ok(info) => report.advice.extend(advise(&name, &info.config, &subjects, settings)),
                Err(error) if error.is(code::STREAM_NOT_FOUND) => {
                    if self.create_stream(&name, &subjects, holds, settings).await? {
                        report.created.push(name);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(report)
    }

    async fn create_stream(
        &self, name: &str, subjects: &[String], holds: &str, settings: &StreamSettings,
    ) -> Result<bool, BrokerError> {
        let config = json!({
            "name": name,
            "description": format!("natsfer: {holds}"),
            "subjects": subjects,
            "retention": "limits",
            "storage": "file",
            // A full stream is an error to wait on; `old` would eat the head of a transfer that is still being sent.
            "discard": "new",
            "num_replicas": settings.replicas,
            "max_bytes": settings.max_bytes.map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
            "max_age": settings.max_age.map_or(0, |age| u64::try_from(age.as_nanos()).unwrap_or(u64::MAX)),
            "allow_direct": true,
            "allow_rollup_hdrs": false,
        });
        let (what, subject) = (format!("creating stream {name}"), format!("STREAM.CREATE.{name}"));
        let created: Result<serde_json::Value, _> = self.without_waiting_for_room().api(&what, &subject, &config).await;
        match created {
            Ok(_) => {
                tracing::debug!(stream = name, replicas = settings.replicas, "created the stream");
                Ok(true)
            }
            // Another process was faster.
            Err(error) if error.is(code::STREAM_NAME_EXISTS) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn stream_info(&self, name: &str) -> Result<StreamInfo, BrokerError> {
        self.api(&format!("reading stream {name}"), &format!("STREAM.INFO.{name}"), &json!({})).await
    }

    /// The sequence of the control stream's last message, now.
    ///
    /// # Errors
    /// When the stream does not exist, or the server does not answer.
    pub async fn last_control_sequence(&self) -> Result<u64, BrokerError> {
        Ok(self.stream_info(self.stream().control()).await?.state.last_seq)
    }

    /// Removes all messages on this subject, and says how many there were.
    ///
    /// # Errors
    /// When the stream does not allow it, or this user may not.
    pub async fn purge(&self, stream: &str, subject: &str) -> Result<u64, BrokerError> {
        self.purge_as(stream, &json!({ "filter": subject })).await
    }

    /// Removes the messages on this subject up to this sequence, and says how many there were.
    ///
    /// # Errors
    /// As for [`Broker::purge`].
    pub async fn purge_to(&self, stream: &str, subject: &str, last: u64) -> Result<u64, BrokerError> {
        // The server keeps the one it is told, and what is behind it.
        self.purge_as(stream, &json!({ "filter": subject, "seq": last.saturating_add(1) })).await
    }

    async fn purge_as(&self, stream: &str, request: &serde_json::Value) -> Result<u64, BrokerError> {
        #[derive(Deserialize)]
        struct Purged {
            purged: u64,
        }
        let what = format!("removing the messages on {}", request["filter"].as_str().unwrap_or_default());
        match self.api::<Purged>(&what, &format!("STREAM.PURGE.{stream}"), request).await {
            Ok(Purged { purged }) => Ok(purged),
            Err(error) if error.is(code::STREAM_NOT_FOUND) => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Creates the streams if this error says that they are not there, and whether it did: what failed is then to be tried once
    /// more. They are never looked for beforehand: a user without permission to create, or even to look at, streams can use
    /// those that exist.
    pub(super) async fn created_for(&self, error: &BrokerError) -> Result<bool, BrokerError> {
        let missing = error.is(code::STREAM_NOT_FOUND) || matches!(error, BrokerError::NoResponders { .. });
        if !missing {
            return Ok(false);
        }
        match self.create_streams(&StreamSettings::default()).await {
            Ok(_) => Ok(true),
            // The first error says more: the streams may be there, and only not answer now.
            Err(BrokerError::Denied { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// What is risky in a stream that stands already, or not as this call asks for it.
fn advise(name: &str, config: &StreamConfig, subjects: &[String], settings: &StreamSettings) -> Vec<String> {
    let mut advice = Vec::new();
    let mut add = |text: String| advice.push(format!("stream {name}: {text}"));
    if !subjects.iter().all(|subject| config.subjects.contains(subject)) {
        add(format!("takes {:?}, natsfer publishes on {subjects:?}", config.subjects));
    }
    if config.discard != "new" {
        add("'discard: old' removes the head of files that are still being sent; set 'discard: new'".into());
    }
    if config.storage != "file" {
        add("is kept in memory: files are lost when the server stops".into());
    }
    if !config.allow_direct {
        add("'allow_direct' is off: looking things up is slower".into());
    }
    if settings.replicas != 1 && config.num_replicas != u64::from(settings.replicas) {
        add(format!("has {} replicas, not {}; edit the stream to change it", config.num_replicas, settings.replicas));
    }
    if settings.max_bytes.is_some_and(|bytes| i64::try_from(bytes) != Ok(config.max_bytes)) {
        add(format!("has max_bytes {}; edit the stream to change it", config.max_bytes));
    }
    if settings.max_age.is_some_and(|age| age.as_nanos() != u128::from(config.max_age)) {
        add(format!("has max_age {} s; edit the stream to change it", config.max_age / 1_000_000_000));
    }
    advice
}
