//! The subjects of one pair of streams. The kind of message comes first, so that a consumer filters on it and
//! permissions can be given per kind and channel.

use crate::{Channel, ChannelFilter, ReceiverName, StreamName, TransferId};

/// Builds and reads the subjects below one prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subjects {
    prefix: String,
}

/// What a message is, by the second token of its subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A manifest.
    Open,
    /// A chunk, or the closing record behind them.
    Data,
    /// The closing record again, for lists.
    Close,
    /// A receiver's receipt.
    Receipt,
    /// A receiver's request for chunks.
    Repair,
    /// A receiver's word that it has refused a transfer for good.
    Reject,
}

impl Kind {
    /// What is said about transfers: all but chunks.
    pub const CONTROL: [Self; 5] = [Self::Open, Self::Close, Self::Receipt, Self::Repair, Self::Reject];

    /// The token.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Data => "data",
            Self::Close => "close",
            Self::Receipt => "receipt",
            Self::Repair => "repair",
            Self::Reject => "reject",
        }
    }
}

/// What a subject of ours names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The channel it is on.
    pub channel: Channel,
    /// The transfer it belongs to.
    pub transfer: TransferId,
}

/// A subject that is not `<prefix>.<kind>.<channel>.<id>`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("subject '{}' is not <prefix>.<kind>.<channel>.<transfer id>", .0.escape_debug())]
pub struct SubjectError(String);

impl Subjects {
    /// The subjects of this pair of streams.
    pub fn new(stream: &StreamName) -> Self {
        Self { prefix: stream.prefix() }
    }

    /// Where messages of one kind about one transfer are published.
    pub fn of(&self, kind: Kind, channel: &Channel, transfer: TransferId) -> String {
        format!("{}.{}.{channel}.{transfer}", self.prefix, kind.as_str())
    }

    /// Where a transfer's manifest is published.
    pub fn open(&self, channel: &Channel, transfer: TransferId) -> String {
        self.of(Kind::Open, channel, transfer)
    }

    /// Where its chunks and, after them, its closing record are published.
    pub fn data(&self, channel: &Channel, transfer: TransferId) -> String {
        self.of(Kind::Data, channel, transfer)
    }

    /// Where its closing record is published again, for lists and history.
    pub fn close(&self, channel: &Channel, transfer: TransferId) -> String {
        self.of(Kind::Close, channel, transfer)
    }

    /// Where a receiver says that it has refused a message in which no channel and id can be read: no transfer's subject is as
    /// short.
    pub fn unreadable(&self, receiver: &ReceiverName) -> String {
        format!("{}.{}.{receiver}", self.prefix, Kind::Reject.as_str())
    }

    /// The messages of one kind about every transfer on these channels.
    pub fn filter(&self, kind: Kind, channels: &ChannelFilter) -> String {
        format!("{}.{}.{}", self.prefix, kind.as_str(), channels.subject_tail())
    }

    /// The channels that a filter over one kind of message selects, if it is such a filter.
    pub fn channels(&self, kind: Kind, filter: &str) -> Option<ChannelFilter> {
        let rest =
            filter.strip_prefix(&self.prefix)?.strip_prefix('.')?.strip_prefix(kind.as_str())?.strip_prefix('.')?;
        let channels = match rest.strip_suffix("*.>") {
            Some(head) => format!("{head}>"),
            None => rest.strip_suffix(".*")?.to_owned(),
        };
        channels.parse().ok()
    }

    /// What the control stream takes: everything but chunks.
    pub fn control_stream(&self) -> Vec<String> {
        Kind::CONTROL.map(|kind| format!("{}.{}.>", self.prefix, kind.as_str())).into()
    }

    /// What the data stream takes.
    pub fn data_stream(&self) -> Vec<String> {
        vec![format!("{}.{}.>", self.prefix, Kind::Data.as_str())]
    }

    /// Reads a subject of any kind.
    ///
    /// # Errors
    /// When it has another prefix, or its channel or id is malformed: such messages can lie in the stream, since the
    /// server stores whatever a publisher was allowed to name.
    pub fn parse(&self, subject: &str) -> Result<Subject, SubjectError> {
        let read = || {
            let rest = subject.strip_prefix(&self.prefix)?.strip_prefix('.')?;
            let (_kind, rest) = rest.split_once('.')?;
            let (channel, transfer) = rest.rsplit_once('.')?;
            Some(Subject { channel: channel.parse().ok()?, transfer: transfer.parse().ok()? })
        };
        read().ok_or_else(|| SubjectError(subject.chars().take(300).collect()))
    }

    /// What kind of message a subject is of.
    pub fn kind(&self, subject: &str) -> Option<Kind> {
        let token = subject.strip_prefix(&self.prefix)?.strip_prefix('.')?.split('.').next()?;
        [Kind::Data].into_iter().chain(Kind::CONTROL).find(|kind| kind.as_str() == token)
    }
}

/// Whether a filter, with NATS's wildcards, selects a subject.
pub fn selects(filter: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    for wanted in filter.split('.') {
        match (wanted, tokens.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (wanted, Some(token)) if wanted == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

/// Whether there can be a subject that both filters select.
pub fn overlap(one: &str, other: &str) -> bool {
    let (mut one, mut other) = (one.split('.'), other.split('.'));
    loop {
        match (one.next(), other.next()) {
            (None, None) => return true,
            (None, _) | (_, None) => return false,
            (Some(">"), _) | (_, Some(">")) => return true,
            (Some(a), Some(b)) if a != b && a != "*" && b != "*" => return false,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_overlap_where_a_subject_can_be_of_both() {
        for (one, other) in [("a.b", "a.b"), ("a.*", "a.b"), ("a.>", "*.b.c"), (">", "a"), ("a.*.*", "a.b.>")] {
            assert!(overlap(one, other) && overlap(other, one), "{one} {other}");
        }
        for (one, other) in [("a.b", "a.c"), ("a.*", "a"), ("a.>", "a"), ("a.>", "b.>"), ("*.b", "*.c")] {
            assert!(!overlap(one, other) && !overlap(other, one), "{one} {other}");
        }
    }

    #[test]
    fn a_filter_tells_its_channels() {
        let subjects = Subjects::new(&StreamName::default());
        for channels in [">", "a", "a.*", "a.>", "*.b", "a.b"] {
            let filter: ChannelFilter = channels.parse().unwrap();
            assert_eq!(subjects.channels(Kind::Open, &subjects.filter(Kind::Open, &filter)), Some(filter));
        }
        for other in ["natsfer.close.*.>", "natsfer.>", "natsfer.open.a", "other.open.*.>"] {
            assert_eq!(subjects.channels(Kind::Open, other), None, "{other}");
        }
    }

    #[test]
    fn subjects_are_read_back() {
        let subjects = Subjects::new(&StreamName::default());
        let (channel, transfer) = ("a.b".parse().unwrap(), "0".repeat(32).parse().unwrap());
        for subject in [subjects.open(&channel, transfer), subjects.data(&channel, transfer)] {
            assert_eq!(subjects.parse(&subject), Ok(Subject { channel: channel.clone(), transfer }));
        }
        assert_eq!(subjects.kind(&subjects.close(&channel, transfer)), Some(Kind::Close));
        assert_eq!(subjects.kind("natsfer.other.a"), None);
        for bad in
            ["", "natsfer", "natsfer.open", "natsfer.open.a", "other.open.a.b", "natsfer.open.*.0", "natsferx.open.a.b"]
        {
            assert!(subjects.parse(bad).is_err(), "{bad:?} was read");
        }
    }
}
