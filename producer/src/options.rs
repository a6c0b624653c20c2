//! What can be chosen for a transfer.

use std::time::Duration;

use natsfer_common::{Channel, ChunkSizing, Compression, DigestAlgorithm, FileName, Metadata, TransferId};

/// How something is sent.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SendOptions {
    /// The channel; `default` by default.
    pub channel: Channel,
    /// The name to send it under; a file's own by default.
    pub name: Option<FileName>,
    /// What to compress.
    pub compression: Compression,
    /// How large the chunks are.
    pub chunk_size: ChunkSizing,
    /// How the whole file is digested.
    pub digest: DigestAlgorithm,
    /// The sender's own words.
    pub metadata: Metadata,
    /// The media type; guessed from the name by default.
    pub media_type: Option<String>,
    /// The transfer's id, for a reader that can be read again from its beginning: a second send with the id goes on where
    /// the first one ended. Derived from the source, or random, by default.
    pub transfer: Option<TransferId>,
    /// How long nothing may move before the send fails; 5 minutes by default. There is no limit on how long it takes.
    pub stall_timeout: Duration,
    /// What shows that a small file is stored.
    pub evidence: Evidence,
}

/// What shows that a small file is stored where receivers look for it. Chunks are looked at in any case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Evidence {
    /// The server's acknowledgement, with how the streams were set up some seconds ago.
    #[default]
    Acknowledgement,
    /// The message itself: for a source that will be removed. A round trip more.
    Message,
}

impl Default for SendOptions {
    fn default() -> Self {
        Self {
            channel: Channel::default(),
            name: None,
            compression: Compression::default(),
            chunk_size: ChunkSizing::default(),
            digest: DigestAlgorithm::default(),
            metadata: Metadata::new(),
            media_type: None,
            transfer: None,
            stall_timeout: Duration::from_secs(300),
            evidence: Evidence::default(),
        }
    }
}

impl SendOptions {
    /// On this channel.
    #[must_use]
    pub fn with_channel(mut self, channel: Channel) -> Self {
        self.channel = channel;
        self
    }

    /// Under this name.
    #[must_use]
    pub fn with_name(mut self, name: FileName) -> Self {
        self.name = Some(name);
        self
    }

    /// With this compression.
    #[must_use]
    pub fn with_compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// In chunks of this size.
    #[must_use]
    pub fn with_chunk_size(mut self, chunk_size: ChunkSizing) -> Self {
        self.chunk_size = chunk_size;
        self
    }

    /// With this digest.
    #[must_use]
    pub fn with_digest(mut self, digest: DigestAlgorithm) -> Self {
        self.digest = digest;
        self
    }

    /// With one more of the sender's own words.
    #[must_use]
    pub fn with_metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// With this media type.
    #[must_use]
    pub fn with_media_type(mut self, media_type: impl Into<String>) -> Self {
        self.media_type = Some(media_type.into());
        self
    }

    /// With this id.
    #[must_use]
    pub fn with_transfer(mut self, transfer: TransferId) -> Self {
        self.transfer = Some(transfer);
        self
    }

    /// Failing when nothing moves for so long.
    #[must_use]
    pub fn with_stall_timeout(mut self, after: Duration) -> Self {
        self.stall_timeout = after;
        self
    }

    /// With this evidence that a small file is stored.
    #[must_use]
    pub fn with_evidence(mut self, evidence: Evidence) -> Self {
        self.evidence = evidence;
        self
    }
}
