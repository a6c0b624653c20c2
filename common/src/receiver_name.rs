//! Receivers' durable names.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Longest name, in bytes: with a transfer id after it, a consumer's name stays below the 255 bytes NATS advises.
const MAX_LENGTH: usize = 64;

/// A receiver's durable name, such as `billing`: ASCII letters, digits, `-` and `_`, as NATS allows in consumer names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReceiverName(String);

/// The text is not a receiver's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{}' is not a receiver's name: 1 to 64 ASCII letters, digits, '-' and '_'", .0.escape_debug())]
pub struct ReceiverNameError(String);

impl ReceiverName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ReceiverName {
    type Err = ReceiverNameError;

    fn from_str(text: &str) -> Result<Self, ReceiverNameError> {
        let fits = (1..=MAX_LENGTH).contains(&text.len());
        if fits && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
            Ok(Self(text.into()))
        } else {
            Err(ReceiverNameError(text.chars().take(100).collect()))
        }
    }
}

impl TryFrom<String> for ReceiverName {
    type Error = ReceiverNameError;

    fn try_from(text: String) -> Result<Self, ReceiverNameError> {
        text.parse()
    }
}

impl From<ReceiverName> for String {
    fn from(name: ReceiverName) -> Self {
        name.0
    }
}

impl fmt::Display for ReceiverName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
