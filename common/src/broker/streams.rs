//! The pair of streams: created with sound settings, or used as an operator made them.

use std::{fmt, time::Duration};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use super::{Attempt, Broker, BrokerError, Permission, code};
use crate::{count, selects};

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

/// Something in a stream that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamDifference {
    /// The stream.
    pub stream: String,
    /// What it means.
    pub importance: Importance,
    /// What was found, and what comes of it.
    pub found: String,
    /// What to do about it.
    pub change: String,
}

/// What a difference in a stream means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Importance {
    /// It is not what was asked for.
    Asked,
    /// Files do not arrive like this, or not all of them.
    Needed,
    /// Something is slower, or riskier, than it has to be.
    Advised,
}

impl fmt::Display for StreamDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stream {} {}: {}", self.stream, self.found, self.change)
    }
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

/// How a stream is set up. A number of 0 or less is no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct StreamConfig {
    /// What it takes.
    pub subjects: Vec<String>,
    /// `limits`, `interest` or `workqueue`.
    pub retention: String,
    /// What a full stream does: `new` refuses messages, `old` removes some.
    pub discard: String,
    /// `file` or `memory`.
    pub storage: String,
    /// Copies of every message.
    pub num_replicas: u64,
    /// Most bytes.
    pub max_bytes: i64,
    /// Most messages.
    pub max_msgs: i64,
    /// Most messages on each subject.
    pub max_msgs_per_subject: i64,
    /// Most bytes in a message.
    pub max_msg_size: i64,
    /// Most consumers.
    pub max_consumers: i64,
    /// Nanoseconds after which messages are removed.
    pub max_age: u64,
    /// Nanoseconds for which message ids are remembered.
    pub duplicate_window: u64,
    /// Whether replicas answer for it.
    pub allow_direct: bool,
    /// Whether publications are not acknowledged.
    pub no_ack: bool,
    /// Whether it takes nothing any more.
    pub sealed: bool,
    /// Whether it cannot be purged.
    pub deny_purge: bool,
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
        let making = self.making_streams.lock().await;
        let made = self.create_streams(&StreamSettings::default()).await;
        drop(making);
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

/// How long a message id is remembered at least, for a publication whose acknowledgement was lost to be stored once.
const LEAST_DUPLICATE_WINDOW: Duration = Duration::from_secs(30);

impl StreamConfig {
    /// What is otherwise than natsfer needs it in a stream that should take these subjects, or than it is asked for.
    pub fn differences(&self, name: &str, subjects: &[String], settings: &StreamSettings) -> Vec<StreamDifference> {
        use Importance::{Advised, Asked, Needed};
        let mut all = Vec::new();
        let mut add = |importance, found: String, change: String| {
            all.push(StreamDifference { stream: name.into(), importance, found, change });
        };
        let edit = |flags: String| format!("nats stream edit {name} {flags}");
        let anew =
            || "remove it and run `natsfer-producer init`, which makes it anew: what it holds is lost".to_owned();
        let missing: Vec<_> =
            subjects.iter().filter(|wanted| !self.subjects.iter().any(|taken| selects(taken, wanted))).collect();
        if !missing.is_empty() {
            let change = edit(format!("--subjects='{}'", subjects.join(",")));
            add(
                Needed,
                format!("does not take {missing:?}, on which natsfer publishes; it takes {:?}", self.subjects),
                change,
            );
        }
        if self.retention != "limits" {
            add(Needed, format!("has retention '{}': files go before every receiver has them", self.retention), anew());
        }
        if self.max_msgs_per_subject > 0 {
            let most = count(self.max_msgs_per_subject.unsigned_abs(), "message");
            let found = format!("keeps {most} on a subject: files lose chunks");
            add(Needed, found, edit("--max-msgs-per-subject=-1".into()));
        }
        if self.no_ack {
            add(Needed, "acknowledges nothing: what is sent is never known to be stored".into(), anew());
        }
        if self.sealed {
            add(Needed, "is sealed: it takes nothing any more".into(), anew());
        }
        if self.discard != "new" {
            let found = "has 'discard: old', which removes the head of files that are still being sent";
            add(Advised, found.into(), edit("--discard=new".into()));
        }
        if self.storage != "file" {
            add(Advised, "is kept in memory: files are lost when the server stops".into(), anew());
        }
        if !self.allow_direct {
            let found = "has 'allow_direct' off: looking things up is slower, and needs rights over the whole stream";
            add(Advised, found.into(), edit("--allow-direct".into()));
        }
        if self.duplicate_window > 0 && u128::from(self.duplicate_window) < LEAST_DUPLICATE_WINDOW.as_nanos() {
            let found = format!(
                "remembers message ids for {} ms: what is sent again after a lost acknowledgement is stored twice",
                self.duplicate_window / 1_000_000
            );
            add(Advised, found, edit("--dupe-window=2m".into()));
        }
        if self.deny_purge {
            let found = "has 'deny_purge': nothing can be cancelled or pruned, only max_age removes it";
            add(
                Advised,
                found.into(),
                "where that is not meant, remove it and make it anew: it cannot be edited".into(),
            );
        }
        if let Some(replicas) = settings.replicas.filter(|replicas| self.num_replicas != u64::from(*replicas)) {
            let found = format!("has {}, not {replicas}", count(self.num_replicas, "replica"));
            add(Asked, found, edit(format!("--replicas={replicas}")));
        }
        if let Some(bytes) = settings.max_bytes.filter(|bytes| i64::try_from(*bytes) != Ok(self.max_bytes)) {
            add(Asked, format!("has max_bytes {}, not {bytes}", self.max_bytes), edit(format!("--max-bytes={bytes}")));
        }
        if let Some(age) = settings.max_age.filter(|age| age.as_nanos() != u128::from(self.max_age)) {
            let (has, wanted) = (self.max_age / 1_000_000_000, age.as_secs());
            add(Asked, format!("has max_age {has} s, not {wanted} s"), edit(format!("--max-age={wanted}s")));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn as_made() -> StreamConfig {
        StreamConfig {
            subjects: vec!["natsfer.data.>".into()],
            retention: "limits".into(),
            discard: "new".into(),
            storage: "file".into(),
            num_replicas: 1,
            max_bytes: -1,
            max_msgs: -1,
            max_msgs_per_subject: -1,
            max_msg_size: -1,
            max_consumers: -1,
            duplicate_window: 120_000_000_000,
            allow_direct: true,
            ..StreamConfig::default()
        }
    }

    fn found(change: impl Fn(&mut StreamConfig), settings: &StreamSettings) -> Vec<(Importance, String)> {
        let mut config = as_made();
        change(&mut config);
        let differences = config.differences("NATSFER_DATA", &["natsfer.data.>".into()], settings);
        differences.into_iter().map(|difference| (difference.importance, difference.to_string())).collect()
    }

    #[test]
    fn what_natsfer_makes_is_as_it_should_be() {
        assert_eq!(found(|_| (), &StreamSettings::default()), []);
        assert_eq!(found(|config| config.subjects = vec!["natsfer.>".into()], &StreamSettings::default()), []);
        assert_eq!(found(|config| config.num_replicas = 3, &StreamSettings::default()), []);
    }

    #[test]
    fn each_setting_is_told_with_what_to_change() {
        type Change = fn(&mut StreamConfig);
        let cases: [(Change, Importance, &str); 9] = [
            (|c| c.subjects = vec!["other.>".into()], Importance::Needed, "--subjects='natsfer.data.>'"),
            (|c| c.retention = "workqueue".into(), Importance::Needed, "natsfer-producer init"),
            (|c| c.max_msgs_per_subject = 1, Importance::Needed, "--max-msgs-per-subject=-1"),
            (|c| c.no_ack = true, Importance::Needed, "acknowledges nothing"),
            (|c| c.discard = "old".into(), Importance::Advised, "--discard=new"),
            (|c| c.storage = "memory".into(), Importance::Advised, "kept in memory"),
            (|c| c.allow_direct = false, Importance::Advised, "--allow-direct"),
            (|c| c.duplicate_window = 100_000_000, Importance::Advised, "--dupe-window=2m"),
            (|c| c.deny_purge = true, Importance::Advised, "deny_purge"),
        ];
        for (change, importance, words) in cases {
            let found = found(change, &StreamSettings::default());
            assert!(
                matches!(&found[..], [(as_said, text)] if *as_said == importance && text.contains(words)),
                "{found:?}"
            );
        }
    }

    #[test]
    fn what_was_asked_for_is_compared() {
        let settings = StreamSettings::default()
            .with_replicas(3)
            .with_max_bytes(Some(5))
            .with_max_age(Some(Duration::from_secs(60)));
        let differing = found(|_| (), &settings);
        assert!(differing.len() == 3 && differing.iter().all(|(importance, _)| *importance == Importance::Asked));
        assert!(differing[0].1.contains("nats stream edit NATSFER_DATA --replicas=3"), "{differing:?}");
        let agree = |config: &mut StreamConfig| {
            (config.num_replicas, config.max_bytes, config.max_age) = (3, 5, 60_000_000_000);
        };
        assert_eq!(found(agree, &settings), []);
    }
}
