//! The subjects of one pair of streams. The kind of message comes first, so that a consumer filters on it and
//! permissions can be given per kind and channel.

use crate::{Channel, ChannelFilter, StreamName, TransferId};

/// Builds and reads the subjects below one prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subjects {
    prefix: String,
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

    /// Where a transfer's manifest is published.
    pub fn open(&self, channel: &Channel, transfer: TransferId) -> String {
        format!("{}.open.{channel}.{transfer}", self.prefix)
    }

    /// Where its chunks and, after them, its closing record are published.
    pub fn data(&self, channel: &Channel, transfer: TransferId) -> String {
        format!("{}.data.{channel}.{transfer}", self.prefix)
    }

    /// Where its closing record is published again, for lists and history.
    pub fn close(&self, channel: &Channel, transfer: TransferId) -> String {
        format!("{}.close.{channel}.{transfer}", self.prefix)
    }

    /// The manifests of every transfer on these channels.
    pub fn open_filter(&self, channels: &ChannelFilter) -> String {
        format!("{}.open.{}", self.prefix, channels.subject_tail())
    }

    /// The closing records of every transfer on these channels.
    pub fn close_filter(&self, channels: &ChannelFilter) -> String {
        format!("{}.close.{}", self.prefix, channels.subject_tail())
    }

    /// What the control stream takes: everything but chunks.
    pub fn control_stream(&self) -> Vec<String> {
        ["open", "close", "receipt", "repair"].map(|kind| format!("{}.{kind}.>", self.prefix)).into()
    }

    /// What the data stream takes.
    pub fn data_stream(&self) -> Vec<String> {
        vec![format!("{}.data.>", self.prefix)]
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

    /// Whether the subject is one of a transfer's closing records for lists.
    pub fn is_close(&self, subject: &str) -> bool {
        subject.strip_prefix(&self.prefix).is_some_and(|rest| rest.starts_with(".close."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_read_back() {
        let subjects = Subjects::new(&StreamName::default());
        let (channel, transfer) = ("a.b".parse().unwrap(), "0".repeat(32).parse().unwrap());
        for subject in [subjects.open(&channel, transfer), subjects.data(&channel, transfer)] {
            assert_eq!(subjects.parse(&subject), Ok(Subject { channel: channel.clone(), transfer }));
        }
        for bad in
            ["", "natsfer", "natsfer.open", "natsfer.open.a", "other.open.a.b", "natsfer.open.*.0", "natsferx.open.a.b"]
        {
            assert!(subjects.parse(bad).is_err(), "{bad:?} was read");
        }
    }
}
