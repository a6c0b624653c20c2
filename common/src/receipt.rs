//! A receiver's word that it has a file.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Digest, ReceiverName, RecordError, TransferId, record};

/// What a receiver publishes once a file is verified, synced and under its name: only then can a producer let go of its source.
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
}

impl Receipt {
    /// The receipt of this receiver for this file.
    pub fn new(transfer: TransferId, receiver: ReceiverName, digest: Digest, size: u64, landed_at: Timestamp) -> Self {
        Self { version: record::VERSION, transfer, receiver, digest, size, landed_at }
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
