//! Transfer ids: derived from what is sent, so that sending again finds the earlier work.

use std::{fmt, str::FromStr};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use crate::{Channel, FileName};

const LENGTH: usize = 16;
/// Separates this use of BLAKE3 from every other (BLAKE3's key derivation mode).
const CONTEXT: &str = "natsfer 2026-11-23 transfer id v1";

/// Names one transfer: 128 bits, written as 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TransferId([u8; LENGTH]);

/// The text is not 32 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{}' is not a transfer id (32 lower-case hexadecimal digits)", .0.escape_debug())]
pub struct TransferIdError(String);

impl TransferId {
    /// The id of a source that can be named again: same channel, name and `version` of the content (a file's size and
    /// mtime, or the digest of bytes in memory) give the same id.
    ///
    /// `revision` tells apart sources that agree in all of these and differ in their bytes: 0 for the first.
    pub fn derive(channel: &Channel, name: &FileName, version: &[u8], revision: u32) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
        for field in [channel.as_str().as_bytes(), name.as_str().as_bytes(), version, &revision.to_le_bytes()] {
            hasher.update(&(field.len() as u64).to_le_bytes());
            hasher.update(field);
        }
        let mut id = [0; LENGTH];
        hasher.finalize_xof().fill(&mut id);
        Self(id)
    }

    /// A fresh id, for a source that cannot be named again, such as a pipe.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub fn random() -> std::io::Result<Self> {
        let mut id = [0; LENGTH];
        getrandom::fill(&mut id).map_err(std::io::Error::other)?;
        Ok(Self(id))
    }
}

impl FromStr for TransferId {
    type Err = TransferIdError;

    fn from_str(text: &str) -> Result<Self, TransferIdError> {
        crate::digest::parse_hex(text).map(Self).ok_or_else(|| TransferIdError(text.chars().take(64).collect()))
    }
}

impl TryFrom<String> for TransferId {
    type Error = TransferIdError;

    fn try_from(text: String) -> Result<Self, TransferIdError> {
        text.parse()
    }
}

impl From<TransferId> for String {
    fn from(id: TransferId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for TransferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&HEXLOWER.encode_display(&self.0), f)
    }
}

impl fmt::Debug for TransferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_stable_and_tell_sources_apart() {
        let (channel, name) = ("a".parse().unwrap(), "b".parse().unwrap());
        let id = TransferId::derive(&channel, &name, b"v", 0);
        assert_eq!(id, TransferId::derive(&channel, &name, b"v", 0));
        assert_eq!(id, id.to_string().parse().unwrap());
        assert_ne!(id, TransferId::derive(&channel, &name, b"v", 1));
        // Field lengths are hashed too: moving a byte from one field to the next gives another id.
        assert_ne!(
            TransferId::derive(&"ab".parse().unwrap(), &"c".parse().unwrap(), b"", 0),
            TransferId::derive(&"a".parse().unwrap(), &"bc".parse().unwrap(), b"", 0),
        );
    }

    #[test]
    fn only_the_canonical_form_is_read() {
        for bad in ["", "0", &"0".repeat(31), &"0".repeat(33), &"A".repeat(32), &"g".repeat(32), "ä*>.."] {
            assert!(bad.parse::<TransferId>().is_err(), "{bad:?} was taken");
        }
    }
}
