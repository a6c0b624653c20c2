//! What tells one run's messages from another's.

use natsfer_common::{ChunkHeader, TransferId, header};

/// One run of sending one transfer. The server stores one message per id within its duplicate window: a retry in the same
/// run must not store twice, whereas another run must be able to store again what was purged meanwhile.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    pub(crate) transfer: TransferId,
    nonce: String,
}

impl Attempt {
    pub(crate) fn new(transfer: TransferId) -> std::io::Result<Self> {
        let mut nonce = TransferId::random()?.to_string();
        nonce.truncate(16);
        Ok(Self { transfer, nonce })
    }

    /// The id header of the manifest's message.
    pub(crate) fn open(&self) -> (&'static str, String) {
        (header::MESSAGE_ID, format!("{}-open-{}", self.transfer, self.nonce))
    }

    /// The id header of the closing record's messages: they lie in two streams, and ids count within one.
    pub(crate) fn closing(&self) -> (&'static str, String) {
        (header::MESSAGE_ID, format!("{}-closing-{}", self.transfer, self.nonce))
    }

    /// Whether a message of this id is of this run.
    pub(crate) fn has(&self, id: &str) -> bool {
        id.ends_with(&format!("-{}", self.nonce))
    }

    /// The id header of a chunk's message.
    pub(crate) fn chunk(&self, chunk: &ChunkHeader) -> (&'static str, String) {
        let ChunkHeader { index, crc32, .. } = chunk;
        (header::MESSAGE_ID, format!("{}-{index}-{crc32:08x}-{}", self.transfer, self.nonce))
    }
}
