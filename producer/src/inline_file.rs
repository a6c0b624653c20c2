//! A file that travels in its manifest's message.

use bytes::Bytes;
use natsfer_common::{Compression, Compressor, Encoding, Inline, Manifest, Totals, blocking, header};

use crate::{Sent, SentStatus};

/// So many bytes are digested and compressed in less time than it takes to hand them to another thread and back.
const AT_ONCE: usize = 16 * 1024;

/// The message to be.
pub(crate) struct InlineFile {
    pub(crate) manifest: Manifest,
    pub(crate) payload: Bytes,
    crc32: u32,
}

impl InlineFile {
    /// Digests and compresses the whole file.
    pub(crate) async fn new(mut manifest: Manifest, raw: Bytes, compression: Compression) -> Self {
        let algorithm = manifest.digest_algorithm;
        manifest.size = Some(raw.len() as u64);
        let tiny = raw.len() <= AT_ONCE;
        let work = move || {
            let (digest, crc32) = (algorithm.digest(&raw), crc32fast::hash(&raw));
            match Compressor::unhurried(compression).compress(&raw) {
                Some((encoding, payload)) => (digest, crc32, encoding, payload.into()),
                None => (digest, crc32, Encoding::Identity, raw),
            }
        };
        let (digest, crc32, encoding, payload) = if tiny { work() } else { blocking(work).await };
        manifest.inline = Some(Inline { encoding, digest });
        Self { manifest, payload, crc32 }
    }

    /// Whether it fits in one message. A manifest that cannot be written is reported where it is published.
    pub(crate) fn fits(&self, max_payload: usize) -> bool {
        /// Of the other headers, which are of fixed lengths.
        const OTHER_HEADERS: usize = 512;
        let record = self.manifest.to_header();
        record.is_ok_and(|record| record.len() + OTHER_HEADERS + self.payload.len() <= max_payload)
    }

    /// The headers of its message, but for the manifest.
    pub(crate) fn headers(&self) -> Vec<(&'static str, String)> {
        vec![(header::CRC32, format!("{:08x}", self.crc32))]
    }

    /// It was published, and is there in the control stream.
    pub(crate) fn sent(self, sequence: u64) -> Sent {
        let Self { manifest, payload, .. } = self;
        let digest = manifest.inline.map_or_else(|| manifest.digest_algorithm.digest(b""), |inline| inline.digest);
        let stored_bytes = payload.len() as u64;
        let totals = Totals { chunks: 0, size: manifest.size.unwrap_or(0), stored_bytes, digest };
        let sent = Sent::before(&manifest, totals, sequence);
        Sent { published_bytes: stored_bytes, resumed_from: 0, status: SentStatus::Sent, ..sent }
    }
}
