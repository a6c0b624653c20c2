//! A receiver's word that it has refused a transfer for good.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{FileName, Manifest, ReceiverName, RecordError, TransferId, record};

/// Longest explanation, in characters: it may quote what a stranger wrote.
const MOST_DETAIL: usize = 1_000;

/// What a receiver publishes when it takes a transfer off its inbox without having it, or has it after all. The last one of a
/// receiver counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// The record's version.
    version: u32,
    /// The transfer; none where neither subject nor manifest could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfer: Option<TransferId>,
    /// The file's name, where the manifest could be read.
    #[serde(default, deserialize_with = "record::optional", skip_serializing_if = "Option::is_none")]
    pub name: Option<FileName>,
    /// Who has rejected it.
    pub receiver: ReceiverName,
    /// The sequence in the control stream of the message that opened it. Others than natsfer may not say it.
    #[serde(default, deserialize_with = "record::optional", skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// When, by the receiver's clock.
    pub at: Timestamp,
    /// That it was rejected, or is not any more.
    #[serde(flatten)]
    pub state: RejectionState,
}

/// How a receiver stands to a transfer that it has rejected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum RejectionState {
    /// It is off the inbox, and does not come again by itself.
    Rejected {
        /// Why, for programs.
        reason: RejectionReason,
        /// Why, in words; empty where that was not said.
        #[serde(default)]
        detail: String,
    },
    /// It is not rejected any more: it was tried again, and has landed or is not needed.
    Withdrawn,
}

/// Why a receiver has rejected a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RejectionReason {
    /// Its subject or manifest cannot be read, or needs a newer natsfer.
    Unreadable,
    /// Its messages contradict themselves, each other, or the bytes.
    Contradiction,
    /// It is larger than this receiver takes.
    TooLarge,
    /// Its name cannot be landed under, or is of a kind that this receiver does not take.
    Name,
    /// A file of its name stands there already.
    Exists,
    /// Its sender has not finished it, and too many wait like that.
    Abandoned,
    /// The service that received it has refused it.
    Refused,
    /// Something else: the words tell.
    #[serde(other)]
    Other,
}

impl RejectionReason {
    /// As it stands on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Contradiction => "contradiction",
            Self::TooLarge => "too_large",
            Self::Name => "name",
            Self::Exists => "exists",
            Self::Abandoned => "abandoned",
            Self::Refused => "refused",
            Self::Other => "other",
        }
    }
}

impl RejectionState {
    /// It is rejected, for this reason. Of the words, the first thousand characters are kept.
    pub fn rejected(reason: RejectionReason, detail: &str) -> Self {
        Self::Rejected { reason, detail: detail.chars().take(MOST_DETAIL).collect() }
    }
}

impl Rejection {
    /// This receiver's word about the transfer of this manifest, opened by the message of this sequence.
    pub fn new(
        manifest: &Manifest, receiver: ReceiverName, sequence: u64, at: Timestamp, state: RejectionState,
    ) -> Self {
        let (transfer, name) = (Some(manifest.transfer), Some(manifest.name.clone()));
        Self { transfer, name, ..Self::unreadable(receiver, sequence, at, state) }
    }

    /// This receiver's word about a message from which no transfer could be read.
    pub fn unreadable(receiver: ReceiverName, sequence: u64, at: Timestamp, state: RejectionState) -> Self {
        Self { version: record::VERSION, transfer: None, name: None, receiver, sequence: Some(sequence), at, state }
    }

    /// The header's text.
    ///
    /// # Errors
    /// Those of writing JSON; it is never too long.
    pub fn to_header(&self) -> Result<String, RecordError> {
        record::write(self)
    }

    /// Reads and checks the header of a message about this transfer, or about none.
    ///
    /// # Errors
    /// When it is malformed, too new, or speaks of another transfer.
    pub fn from_header(text: &str, transfer: Option<TransferId>) -> Result<Self, RecordError> {
        let rejection: Self = record::read(text)?;
        if rejection.transfer != transfer {
            return Err(RecordError::Contradiction("it is about another transfer than its subject names"));
        }
        Ok(rejection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejection_is_read_back_and_an_unknown_reason_is_other() {
        let at = "2026-11-23T12:00:00Z".parse().unwrap();
        let detail = "\u{1b}[2J".repeat(1_000);
        let state = RejectionState::rejected(RejectionReason::TooLarge, &detail);
        let rejection = Rejection::unreadable("billing".parse().unwrap(), 7, at, state);
        let header = rejection.to_header().unwrap();
        assert_eq!(Rejection::from_header(&header, None).unwrap(), rejection);
        assert!(Rejection::from_header(&header, Some("0".repeat(32).parse().unwrap())).is_err());
        for (left_out, kept) in [(r#""sequence":7,"#, ""), (r#""sequence":7"#, r#""name":"../x""#)] {
            let odd = header.replace(left_out, kept);
            assert_ne!(odd, header);
            let read = Rejection::from_header(&odd, None).unwrap();
            assert_eq!((read.sequence, read.name, &read.state), (None, None, &rejection.state));
        }
        let wordless = r#"{"version":1,"receiver":"r","at":"2026-11-23T12:00:00Z","state":"rejected","reason":"name"}"#;
        let state = RejectionState::rejected(RejectionReason::Name, "");
        assert_eq!(Rejection::from_header(wordless, None).unwrap().state, state);
        let later = header.replace("too_large", "unheard_of");
        let state = Rejection::from_header(&later, None).unwrap().state;
        assert!(matches!(state, RejectionState::Rejected { reason: RejectionReason::Other, .. }));
    }
}
