//! What was sent.

use natsfer_common::{Channel, Digest, FileName, Manifest, Totals, TransferId};
use serde::{Deserialize, Serialize};

/// A transfer that is whole in the stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Its manifest's sequence in the control stream: what receivers say about it comes behind. Not serialised, and 0 when read
    /// back: a stream that was made anew uses sequences again.
    #[serde(skip)]
    pub sequence: u64,
}

impl Sent {
    /// A transfer that was whole before, of which nothing was published.
    pub(crate) fn before(manifest: &Manifest, totals: Totals, sequence: u64) -> Self {
        let Manifest { transfer, channel, name, .. } = manifest.clone();
        let Totals { chunks, size, stored_bytes, digest } = totals;
        Self {
            transfer,
            channel,
            name,
            size,
            chunks,
            stored_bytes,
            published_chunks: 0,
            published_bytes: 0,
            resumed_from: size,
            digest,
            status: SentStatus::Unchanged,
            sequence,
        }
    }
}

/// What a call had to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SentStatus {
    /// All of it.
    Sent,
    /// What was missing.
    Resumed,
    /// Chunks that were lost, damaged, or asked for by a receiver.
    Repaired,
    /// Nothing: it was whole already.
    Unchanged,
}

impl SentStatus {
    /// Its name, for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Resumed => "resumed",
            Self::Repaired => "repaired",
            Self::Unchanged => "unchanged",
        }
    }
}
