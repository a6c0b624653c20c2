//! How a stream is set up, and what of that natsfer cannot work with.

use std::{fmt, time::Duration};

use serde::Deserialize;

use super::StreamSettings;
use crate::{ALWAYS_INLINE, MESSAGE_OVERHEAD, count, human_bytes, overlap, selects};

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
    /// Nothing can be sent; what is stored can be received.
    NeededToSend,
    /// Something is slower, or riskier, than it has to be.
    Advised,
}

impl Importance {
    /// Whether nothing may be sent like this.
    pub fn forbids_sending(self) -> bool {
        matches!(self, Self::Needed | Self::NeededToSend)
    }
}

impl fmt::Display for StreamDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stream {} {}: {}", self.stream, self.found, self.change)
    }
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
    /// Whether a subject that has its most messages refuses more, instead of losing the oldest.
    pub discard_new_per_subject: bool,
    /// Whether publications are not acknowledged.
    pub no_ack: bool,
    /// Whether it takes nothing any more.
    pub sealed: bool,
    /// Whether it cannot be purged.
    pub deny_purge: bool,
    /// Whether a message may remove all before it.
    pub allow_rollup_hdrs: bool,
    /// Whether it takes counters only.
    pub allow_msg_counter: bool,
    /// `async` where it acknowledges before it writes.
    pub persist_mode: String,
    /// Under which other subject it stores what it takes.
    pub subject_transform: Option<SubjectMapping>,
    /// Under which other subject it publishes what it has stored.
    pub republish: Option<SubjectMapping>,
    /// The stream that it is a copy of.
    pub mirror: Option<StreamOrigin>,
    /// The streams that it copies from.
    pub sources: Option<Vec<StreamOrigin>>,
    /// What its consumers may have.
    pub consumer_limits: ConsumerLimits,
}

/// Subjects that become others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct SubjectMapping {
    /// Those it holds for; all if it is empty.
    pub src: String,
    /// What they become.
    pub dest: String,
}

/// Another stream, that messages come from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct StreamOrigin {
    /// Its name.
    pub name: String,
}

/// What a stream grants its consumers; 0 is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ConsumerLimits {
    /// Most nanoseconds for which a consumer is kept that nobody uses.
    pub inactive_threshold: i64,
    /// Most messages that are delivered and not acknowledged.
    pub max_ack_pending: i64,
}

impl SubjectMapping {
    /// The subjects it holds for.
    fn source(&self) -> &str {
        if self.src.is_empty() { ">" } else { &self.src }
    }

    /// Whether it changes any of these subjects.
    fn changes(&self, subjects: &[String]) -> bool {
        self.source() != self.dest && subjects.iter().any(|subject| overlap(self.source(), subject))
    }
}

/// How long a message id is remembered at least, for a publication whose acknowledgement was lost to be stored once.
const LEAST_DUPLICATE_WINDOW: Duration = Duration::from_secs(30);

/// The smallest chunk, with its headers.
const LEAST_MESSAGE: u64 = ALWAYS_INLINE as u64 + MESSAGE_OVERHEAD as u64;

/// Fewer unacknowledged messages than that are told of.
const FEW_UNACKNOWLEDGED: i64 = 10_000;

/// An age below which it is thought that nobody meant it.
const SHORT_AGE: Duration = Duration::from_secs(600);
/// Messages on a subject that no file needs: it has as many as chunks.
const ENOUGH_MESSAGES: i64 = 1_000_000;

impl StreamConfig {
    /// What is otherwise than natsfer needs it in a stream that should take these subjects, or than it is asked for.
    pub fn differences(&self, name: &str, subjects: &[String], settings: &StreamSettings) -> Vec<StreamDifference> {
        use Importance::{Advised, Asked, Needed, NeededToSend};
        let mut all = Vec::new();
        let mut add = |importance, found: String, change: String| {
            all.push(StreamDifference { stream: name.into(), importance, found, change });
        };
        let edit = |flags: String| format!("nats stream edit {name} {flags}");
        let anew =
            || "remove it and run `natsfer-producer init`, which makes it anew: what it holds is lost".to_owned();
        if let Some(mirror) = &self.mirror {
            let found = format!("is a mirror of {}: it takes nothing itself", mirror.name);
            add(NeededToSend, found, "send to the stream that it mirrors".into());
        }
        let missing: Vec<_> =
            subjects.iter().filter(|wanted| !self.subjects.iter().any(|taken| selects(taken, wanted))).collect();
        if !missing.is_empty() && self.mirror.is_none() {
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
        if let Some(mapping) = self.subject_transform.as_ref().filter(|mapping| mapping.changes(subjects)) {
            let (from, to) = (mapping.source(), &mapping.dest);
            let found = format!(
                "has a subject_transform from '{from}' to '{to}': nobody finds what is stored under other subjects"
            );
            add(Needed, found, "remove the transform: nats stream edit, and leave out subject_transform".into());
        }
        if self.max_msgs_per_subject > 0 {
            let most = count(self.max_msgs_per_subject.unsigned_abs(), "message");
            let found = match self.discard_new_per_subject {
                true => format!("takes {most} on a subject: files have more chunks"),
                false => format!("keeps {most} on a subject: files lose chunks"),
            };
            // A file has as many messages as chunks on its subject.
            let importance = if self.max_msgs_per_subject < ENOUGH_MESSAGES { Needed } else { Advised };
            add(importance, found, edit("--max-msgs-per-subject=-1".into()));
        }
        if self.no_ack {
            add(Needed, "acknowledges nothing: what is sent is never known to be stored".into(), anew());
        }
        if self.sealed {
            let found = "is sealed: it takes nothing any more; what it holds can be received";
            add(NeededToSend, found.into(), anew());
        }
        if self.allow_msg_counter {
            add(NeededToSend, "has 'allow_msg_counter': it takes counters, and no files".into(), anew());
        }
        if let Ok(most @ 1..) = u64::try_from(self.max_msg_size)
            && most < LEAST_MESSAGE
        {
            let found = format!(
                "takes messages up to {}: the smallest chunk has {}",
                human_bytes(most),
                human_bytes(LEAST_MESSAGE)
            );
            add(NeededToSend, found, edit("--max-msg-size=-1".into()));
        }
        if let Some(mapping) = &self.republish {
            let found = format!(
                "publishes what it stores once more, on '{}': whoever may subscribe there reads it",
                mapping.dest
            );
            add(Advised, found, "where that is not meant, leave out republish: nats stream edit".into());
        }
        if let Some(sources) = self.sources.as_ref().filter(|sources| !sources.is_empty()) {
            let names: Vec<_> = sources.iter().map(|source| source.name.as_str()).collect();
            let found = format!("also takes what comes into {}: files of others can be among it", names.join(", "));
            add(Advised, found, "where that is not meant, leave out sources: nats stream edit".into());
        }
        if let granted @ 1..FEW_UNACKNOWLEDGED = self.consumer_limits.max_ack_pending {
            let found = format!(
                "grants consumers {granted} unacknowledged messages: a receiver with so many files that wait for their senders takes no others"
            );
            add(Advised, found, edit("--limit-consumer-max-pending=1000000".into()));
        }
        if let unused @ 1.. = self.consumer_limits.inactive_threshold {
            let found = format!(
                "removes consumers that nobody uses for {} s: a receiver that is away for longer begins anew",
                unused / 1_000_000_000
            );
            add(Advised, found, "leave out inactive_threshold in its consumer_limits: nats stream edit".into());
        }
        if self.persist_mode == "async" {
            let found =
                "has 'persist_mode: async': it acknowledges before it writes, and loses that when the server is killed";
            add(Advised, found.into(), anew());
        }
        if self.allow_rollup_hdrs {
            let found = "has 'allow_rollup_hdrs': whoever may publish can remove everything with one message";
            add(Advised, found.into(), edit("--no-allow-rollup".into()));
        }
        if settings.max_age.is_none() && self.max_age > 0 && u128::from(self.max_age) < SHORT_AGE.as_nanos() {
            let found = format!(
                "removes messages after {} s: a receiver that is away for longer misses files",
                self.max_age / 1_000_000_000
            );
            add(Advised, found, edit("--max-age=1d".into()));
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
        let mapped = |src: &str, dest: &str| Some(SubjectMapping { src: src.into(), dest: dest.into() });
        assert_eq!(found(|config| config.subject_transform = mapped("other.>", "x.>"), &StreamSettings::default()), []);
        assert_eq!(found(|config| config.subject_transform = mapped(">", ">"), &StreamSettings::default()), []);
        let cases: [(Change, Importance, &str); 22] = [
            (
                |c| c.subject_transform = Some(SubjectMapping { src: String::new(), dest: "a.>".into() }),
                Importance::Needed,
                "from '>' to 'a.>'",
            ),
            (
                |c| {
                    c.subject_transform =
                        Some(SubjectMapping { src: "natsfer.data.*.*".into(), dest: "a.$1.$2".into() })
                },
                Importance::Needed,
                "subject_transform",
            ),
            (
                |c| c.republish = Some(SubjectMapping { src: ">".into(), dest: "copy.>".into() }),
                Importance::Advised,
                "copy.>",
            ),
            (|c| c.mirror = Some(StreamOrigin { name: "HUB".into() }), Importance::NeededToSend, "HUB"),
            (|c| c.sources = Some(vec![StreamOrigin { name: "HUB".into() }]), Importance::Advised, "HUB"),
            (|c| c.sealed = true, Importance::NeededToSend, "sealed"),
            (|c| c.allow_msg_counter = true, Importance::NeededToSend, "counters"),
            (|c| c.max_msg_size = 10_000, Importance::NeededToSend, "--max-msg-size=-1"),
            (|c| c.persist_mode = "async".into(), Importance::Advised, "persist_mode"),
            (|c| c.allow_rollup_hdrs = true, Importance::Advised, "rollup"),
            (|c| c.consumer_limits.max_ack_pending = 500, Importance::Advised, "500 unacknowledged"),
            (|c| c.consumer_limits.inactive_threshold = 60_000_000_000, Importance::Advised, "for 60 s"),
            (|c| c.max_age = 1_000_000_000, Importance::Advised, "after 1 s"),
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
            .with_max_age(Some(Duration::from_secs(172_800)));
        let differing = found(|_| (), &settings);
        assert!(differing.len() == 3 && differing.iter().all(|(importance, _)| *importance == Importance::Asked));
        assert!(differing[0].1.contains("nats stream edit NATSFER_DATA --replicas=3"), "{differing:?}");
        let agree = |config: &mut StreamConfig| {
            (config.num_replicas, config.max_bytes, config.max_age) = (3, 5, 172_800_000_000_000);
        };
        assert_eq!(found(agree, &settings), []);
    }
}
