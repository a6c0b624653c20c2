//! What was sent.

use natsfer_common::{Channel, Digest, FileName, TransferId};
use serde::Serialize;

/// A transfer that is whole in the stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Sent {
    /// Its id.
    pub transfer: TransferId,
    /// Its channel.
    pub channel: Channel,
    /// Its name.
    pub name: FileName,
    /// Its size in bytes.
    pub size: u64,
    /// How many chunk messages it has: none for a file that travels inside its manifest's message.
    pub chunks: u64,
    /// Bytes of payload it takes in the stream, as encoded.
    pub stored_bytes: u64,
    /// Chunk messages that this call published.
    pub published_chunks: u64,
    /// Bytes of payload that this call published, as encoded.
    pub published_bytes: u64,
    /// Bytes of the source that were stored before.
    pub resumed_from: u64,
    /// Its digest.
    pub digest: Digest,
    /// What this call had to do.
    pub status: SentStatus,
}

/// What a call had to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SentStatus {
    /// All of it.
    Sent,
    /// What was missing.
    Resumed,
    /// Nothing: it was whole already.
    Unchanged,
}
