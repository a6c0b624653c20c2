//! A receiver's word that it has a file.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Digest, FileName, ReceiverName, RecordError, TransferId, record};

/// What a receiver publishes once a file is verified, synced and under its name: only then can a producer let go of its source,
/// and services learn that it is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The record's version.
    version: u32,
    /// The transfer.
    pub transfer: TransferId,
    /// Who has it.
    pub receiver: ReceiverName,
    /// The digest of what it has.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// When it landed, by the receiver's clock.
    pub landed_at: Timestamp,
    /// The name it was sent under.
    #[serde(default, deserialize_with = "record::optional", skip_serializing_if = "Option::is_none")]
    pub name: Option<FileName>,
    /// Where it stands below the receiver's directory. None where it was read and not landed, or where that is no name to send
    /// a file under: one that only its number makes too long.
    #[serde(default, deserialize_with = "record::optional", skip_serializing_if = "Option::is_none")]
    pub path: Option<FileName>,
}

impl Receipt {
    /// The receipt of this receiver for this file.
    pub fn new(transfer: TransferId, receiver: ReceiverName, digest: Digest, size: u64, landed_at: Timestamp) -> Self {
        Self { version: record::VERSION, transfer, receiver, digest, size, landed_at, name: None, path: None }
    }

    /// With the name it was sent under, and where it stands.
    #[must_use]
    pub fn with_names(mut self, name: FileName, path: Option<FileName>) -> Self {
        (self.name, self.path) = (Some(name), path);
        self
    }

    /// Whether it is for these bytes: anybody may have written it, and an earlier one may be of others.
    pub fn is_of(&self, digest: Digest, size: u64) -> bool {
        (self.digest, self.size) == (digest, size)
    }

    /// The header's text.
    ///
    /// # Errors
    /// Those of writing JSON; it is never too long.
    pub fn to_header(&self) -> Result<String, RecordError> {
        record::write(self)
    }

    /// Reads and checks the header of a message about this transfer.
    ///
    /// # Errors
    /// When it is malformed, too new, or speaks of another transfer.
    pub fn from_header(text: &str, transfer: TransferId) -> Result<Self, RecordError> {
        let receipt: Self = record::read(text)?;
        if receipt.transfer != transfer {
            return Err(RecordError::Contradiction("it is about another transfer than its subject names"));
        }
        Ok(receipt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt() -> Receipt {
        let digest = crate::DigestAlgorithm::Sha256.digest(b"");
        let at = "2026-11-23T12:00:00.123456789Z".parse().unwrap();
        let receiver = "r".repeat(64).parse().unwrap();
        Receipt::new("0".repeat(32).parse().unwrap(), receiver, digest, i64::MAX as u64, at)
    }

    #[test]
    fn the_longest_names_fit() {
        // What takes most room once it is escaped.
        for component in ["é".repeat(127), "\"".repeat(254)] {
            let longest = format!("{component}/").repeat(15) + &component[..74];
            let name: FileName = longest.parse().unwrap();
            let receipt = receipt().with_names(name.clone(), Some(name));
            let header = receipt.to_header().unwrap();
            assert_eq!(Receipt::from_header(&header, receipt.transfer).unwrap(), receipt);
        }
    }

    #[test]
    fn names_that_cannot_be_read_count_as_absent() {
        let header = receipt().to_header().unwrap();
        for (field, value) in [("name", r#""../x""#), ("path", r#""/etc/passwd""#), ("path", "7"), ("name", "null")] {
            let odd = header.replacen('{', &format!("{{\"{field}\":{value},"), 1);
            assert_eq!(Receipt::from_header(&odd, receipt().transfer).unwrap(), receipt(), "{odd}");
        }
    }

    #[test]
    fn one_without_names_is_read_as_before() {
        let header = receipt().to_header().unwrap();
        assert!(!header.contains("name") && !header.contains("path"), "{header}");
        assert_eq!(Receipt::from_header(&header, receipt().transfer).unwrap(), receipt());
    }
}
