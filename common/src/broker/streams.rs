//! The pair of streams: created with sound settings, or used as an operator made them.

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use super::{Attempt, Broker, BrokerError, Permission, StreamConfig, StreamDifference, code};

/// How the streams are created. What is `None` is left to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamSettings {
    /// Copies of every message, 1 to 5; `None` is one, and takes any number in a stream that stands already.
    pub replicas: Option<u8>,
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
    /// What is otherwise in a stream that stood already.
    pub differences: Vec<StreamDifference>,
}

impl Default for StreamSettings {
    /// One copy, no limits.
    fn default() -> Self {
        Self { replicas: None, max_bytes: None, max_age: None }
    }
}

impl StreamSettings {
    /// With so many copies of every message.
    #[must_use]
    pub fn with_replicas(mut self, replicas: u8) -> Self {
        self.replicas = Some(replicas);
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
pub(super) struct StreamInfo {
    pub(super) config: StreamConfig,
    pub(super) state: StreamState,
    /// When the server said so, by its clock.
    #[serde(default)]
    pub(super) ts: Option<Timestamp>,
}

/// What a stream holds.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct StreamState {
    pub(super) messages: u64,
    pub(super) bytes: u64,
    pub(super) last_seq: u64,
    #[serde(default)]
    pub(super) consumer_count: u64,
}

impl Broker {
    /// Creates the streams that do not exist yet; checks those that do, and leaves them as they are.
    ///
    /// # Errors
    /// When the server refuses, or this user may not.
    pub async fn create_streams(&self, settings: &StreamSettings) -> Result<StreamsReport, BrokerError> {
        let mut report = StreamsReport { created: Vec::new(), differences: Vec::new() };
        let (data, subjects) = (self.stream().data(), self.subjects());
        // Where the control stream is found, the other is taken to be there: it comes last, should this be dropped half-way.
        let pair = [
            (data, subjects.data_stream(), "chunks of files"),
            (self.stream().control().to_owned(), subjects.control_stream(), "what is said about transfers"),
        ];
        for (name, subjects, holds) in pair {
            match self.stream_info(&name).await {
                Ok(info) => report.differences.extend(info.config.differences(&name, &subjects, settings)),
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
            "num_replicas": settings.replicas.unwrap_or(1),
            "max_bytes": settings.max_bytes.map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
            "max_age": settings.max_age.map_or(0, |age| u64::try_from(age.as_nanos()).unwrap_or(u64::MAX)),
            "allow_direct": true,
            "allow_rollup_hdrs": false,
        });
        let (what, subject) = (format!("creating stream {name}"), format!("STREAM.CREATE.{name}"));
        let created: Result<serde_json::Value, _> = self.without_waiting_for_room().api(&what, &subject, &config).await;
        match created {
            Ok(_) => {
                tracing::debug!(stream = name, replicas = settings.replicas.unwrap_or(1), "created the stream");
                Ok(true)
            }
            // Another process was faster.
            Err(error) if error.is(code::STREAM_NAME_EXISTS) => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn stream_info(&self, name: &str) -> Result<StreamInfo, BrokerError> {
        let info = self.api(&format!("reading stream {name}"), &format!("STREAM.INFO.{name}"), &json!({})).await?;
        self.note_stream(name);
        Ok(info)
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
    /// those that exist. Such a user may know a subject of the control stream that it may read.
    ///
    /// # Errors
    /// When the server refuses; [`BrokerError::NotMade`] where it says that they are not there, and this user may not create them.
    pub(super) async fn created_for(&self, error: &BrokerError, readable: Option<String>) -> Result<bool, BrokerError> {
        use BrokerError::{NoJetStream, NoResponders, NoStream};
        let unanswered = matches!(error, NoResponders { .. } | NoJetStream { .. } | NoStream { .. });
        if !unanswered && !error.is(code::STREAM_NOT_FOUND) {
            return Ok(false);
        }
        if self.has_seen_streams() {
            // Whoever restores them finds their place free.
            let is_gone = error.is(code::STREAM_NOT_FOUND)
                || matches!(self.absence(error).await, Some(NoStream { .. }))
                || matches!(error, NoStream { .. });
            let stream = self.stream().control().to_owned();
            return if is_gone {
                Err(BrokerError::StreamsGone { what: "using the streams".into(), stream })
            } else {
                Ok(false)
            };
        }
        let making = self.making_streams.lock().await;
        let made = self.create_streams(&StreamSettings::default()).await;
        drop(making);
        self.forget_streams().await;
        match made {
            Ok(StreamsReport { mut created, .. }) => {
                // The stream's name may be mistyped, and a disk has an end.
                if !created.is_empty() {
                    created.sort();
                    tracing::info!("created {}, without limits", named(&created));
                }
                Ok(true)
            }
            Err(BrokerError::Denied { .. }) => {
                let control = self.stream().control();
                let is_absent = match readable {
                    _ if error.is(code::STREAM_NOT_FOUND) => true,
                    Some(filter) => {
                        let attempt = Attempt::CreateConsumer { stream: control.into(), name: None, filter };
                        self.may(&attempt).await == Permission::NoStream
                    }
                    None => false,
                };
                // Otherwise the first error says more: the streams may be there, and only not answer now.
                if is_absent { Err(BrokerError::NotMade { stream: control.into() }) } else { Ok(false) }
            }
            Err(error) => Err(error),
        }
    }
}

/// Streams, for people.
fn named(streams: &[String]) -> String {
    format!("stream{} {}", if streams.len() == 1 { "" } else { "s" }, streams.join(" and "))
}
