//! The pair of streams that belong together.

use std::{fmt, str::FromStr};

/// Longest name, in bytes.
const MAX_LENGTH: usize = 64;

/// The name of the pair of streams: `NATSFER` holds what is said about transfers, `NATSFER_DATA` their chunks.
///
/// The subject prefix is the name in lower case, so that one name says everything and two pairs in one account never
/// share a subject.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StreamName(String);

/// The text is not a stream name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{}' is not a stream name: 1 to 64 ASCII letters, digits, '-' and '_'", .0.escape_debug())]
pub struct StreamNameError(String);

impl StreamName {
    /// The stream of manifests and closing records.
    pub fn control(&self) -> &str {
        &self.0
    }

    /// The stream of chunks.
    pub fn data(&self) -> String {
        format!("{}_DATA", self.0)
    }

    /// The first token of every subject.
    pub fn prefix(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

impl Default for StreamName {
    /// `NATSFER`.
    fn default() -> Self {
        Self("NATSFER".into())
    }
}

impl FromStr for StreamName {
    type Err = StreamNameError;

    fn from_str(text: &str) -> Result<Self, StreamNameError> {
        let fits = (1..=MAX_LENGTH).contains(&text.len());
        if fits && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
            Ok(Self(text.into()))
        } else {
            Err(StreamNameError(text.chars().take(100).collect()))
        }
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
