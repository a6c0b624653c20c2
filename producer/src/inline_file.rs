//! A file that travels in its manifest's message.

use bytes::Bytes;
use natsfer_common::{Compression, Compressor, Encoding, Inline, Manifest, Totals, blocking, header};

use crate::{Sent, SentStatus, attempt::Attempt};

/// So many bytes are digested and compressed in less time than it takes to hand them to another thread and back.
const AT_ONCE: usize = 16 * 1024;

/// The message to be.
pub(crate) struct InlineFile {
    pub(crate) manifest: Manifest,
    pub(crate) payload: Bytes,
    /// The manifest, as it stands in its header.
    record: String,
    crc32: u32,
}

impl InlineFile {
    /// Digests and compresses the whole file; `None` if it does not fit in one message of so many bytes, its headers included.
    pub(crate) async fn new(
        mut manifest: Manifest, raw: Bytes, compression: Compression, max_message: usize,
    ) -> Option<Self> {
        /// Of the other headers, which are of fixed lengths.
        const OTHER_HEADERS: usize = 512;
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
        // One that cannot be written is reported where it is published by itself.
        let record = manifest.to_header().ok()?;
        let fits = record.len() + OTHER_HEADERS + payload.len() <= max_message;
        fits.then_some(Self { manifest, payload, record, crc32 })
    }

    /// The headers of its message.
    pub(crate) fn headers(&self, attempt: &Attempt) -> Vec<(&'static str, String)> {
        let crc32 = format!("{:08x}", self.crc32);
        vec![(header::CRC32, crc32), (header::MANIFEST, self.record.clone()), attempt.open()]
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
