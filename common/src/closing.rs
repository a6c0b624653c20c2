//! How a transfer ended.

use serde::{Deserialize, Serialize};

use crate::{ChunkSize, Digest, RecordError, TransferId, record};

/// The last message of a transfer: that it is complete, or why it never will be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosingRecord {
    /// The record's version.
    version: u32,
    /// The transfer it closes.
    pub transfer: TransferId,
    /// How it ended.
    #[serde(flatten)]
    pub closing: Closing,
}

/// How a transfer ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum Closing {
    /// Every chunk is stored.
    Complete(Totals),
    /// The sender gave up; what was received of it is to be dropped.
    Cancelled {
        /// Why, in words.
        reason: String,
    },
}

/// What a complete file must agree with before it lands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// How many chunks it has.
    pub chunks: u64,
    /// Its size in bytes.
    pub size: u64,
    /// Bytes of its chunks' payloads, as encoded.
    pub stored_bytes: u64,
    /// The digest of its raw bytes.
    pub digest: Digest,
}

impl ClosingRecord {
    /// The closing record of this transfer.
    pub fn new(transfer: TransferId, closing: Closing) -> Self {
        Self { version: record::VERSION, transfer, closing }
    }

    /// The header's text.
    ///
    /// # Errors
    /// When the record would be over 32 KiB: an endless reason.
    pub fn to_header(&self) -> Result<String, RecordError> {
        record::write(self)
    }

    /// Reads and checks the header of a message about this transfer.
    ///
    /// # Errors
    /// When it is malformed, too new, or speaks of another transfer.
    pub fn from_header(text: &str, transfer: TransferId) -> Result<Self, RecordError> {
        let record: Self = record::read(text)?;
        if record.transfer != transfer {
            return Err(RecordError::Contradiction("it closes another transfer than its subject names"));
        }
        Ok(record)
    }
}

impl Totals {
    /// Whether both are of the same file, however its chunks are encoded.
    pub fn same_file(&self, other: &Self) -> bool {
        (self.chunks, self.size, self.digest) == (other.chunks, other.size, other.digest)
    }

    /// Whether count and size can both be true of a file in such chunks.
    pub fn fit(&self, chunk_size: ChunkSize) -> bool {
        i64::try_from(self.size).is_ok() && chunk_size.count(self.size) == self.chunks
    }
}
