//! A publisher that writes natsfer's messages by hand: honest, until somebody changes a word.

use std::time::Duration;

use async_nats::{HeaderMap, jetstream};
use bytes::Bytes;
use natsfer_tests::Server;
use serde_json::{Value, json};

/// Bytes in a chunk.
pub(crate) const CHUNK: usize = 1_000;

/// A transfer about to be published.
pub(crate) struct Forgery {
    pub(crate) id: String,
    /// Where the manifest goes.
    pub(crate) open: String,
    /// Where chunks and the closing record go.
    pub(crate) data: String,
    pub(crate) close: String,
    pub(crate) manifest: Value,
    /// The record as text instead, where it is to be something else than JSON.
    pub(crate) manifest_text: Option<String>,
    /// Headers and payload beside the manifest.
    pub(crate) inline: Option<(HeaderMap, Bytes)>,
    pub(crate) chunks: Vec<Chunk>,
    pub(crate) closing: Value,
}

/// A message with a chunk.
#[derive(Clone)]
pub(crate) struct Chunk {
    pub(crate) index: String,
    pub(crate) offset: String,
    pub(crate) length: String,
    pub(crate) crc32: String,
    pub(crate) encoding: String,
    pub(crate) payload: Bytes,
}

impl Chunk {
    /// An honest one.
    pub(crate) fn new(index: usize, raw: &[u8]) -> Self {
        Self {
            index: index.to_string(),
            offset: (index * CHUNK).to_string(),
            length: raw.len().to_string(),
            crc32: crc32(raw),
            encoding: "identity".into(),
            payload: Bytes::copy_from_slice(raw),
        }
    }

    fn headers(&self) -> HeaderMap {
        headers([
            ("Natsfer-Chunk", &self.index),
            ("Natsfer-Offset", &self.offset),
            ("Natsfer-Length", &self.length),
            ("Natsfer-Crc32", &self.crc32),
            ("Natsfer-Encoding", &self.encoding),
        ])
    }
}

impl Forgery {
    /// An honest transfer of these bytes, in chunks.
    pub(crate) fn new(number: usize, name: &str, bytes: &[u8]) -> Self {
        let id = format!("{number:032x}");
        let chunks: Vec<_> = bytes.chunks(CHUNK).enumerate().map(|(index, raw)| Chunk::new(index, raw)).collect();
        Self {
            open: format!("natsfer.open.forged.{id}"),
            data: format!("natsfer.data.forged.{id}"),
            close: format!("natsfer.close.forged.{id}"),
            manifest: json!({
                "version": 1, "transfer": id, "channel": "forged", "name": name, "size": bytes.len(), "chunk_size": CHUNK,
                "digest_algorithm": "blake3",
            }),
            manifest_text: None,
            inline: None,
            closing: json!({
                "version": 1, "transfer": id, "state": "complete", "chunks": chunks.len(), "size": bytes.len(),
                "stored_bytes": bytes.len(), "digest": digest(bytes),
            }),
            chunks,
            id,
        }
    }

    /// An honest transfer of these bytes, in one message.
    pub(crate) fn inline(number: usize, name: &str, bytes: &[u8]) -> Self {
        let mut forgery = Self::new(number, name, bytes);
        forgery.chunks.clear();
        forgery.manifest["chunk_size"] = json!(1 << 20);
        forgery.manifest["inline"] = json!({ "encoding": "identity", "digest": digest(bytes) });
        let headers = headers([("Natsfer-Crc32", &crc32(bytes))]);
        forgery.inline = Some((headers, Bytes::copy_from_slice(bytes)));
        forgery
    }
}

/// Publishes what others would not.
pub(crate) struct Forger(jetstream::Context);

impl Forger {
    pub(crate) async fn new(server: &Server) -> Self {
        let mut context = server.jetstream().await;
        context.set_timeout(Duration::from_secs(10));
        Self(context)
    }

    /// Publishes a transfer, each message stored before the next.
    pub(crate) async fn publish(&self, forgery: &Forgery) {
        let manifest = forgery.manifest_text.clone().unwrap_or_else(|| forgery.manifest.to_string());
        let (mut open, payload) = forgery.inline.clone().unwrap_or_default();
        open.insert("Natsfer-Manifest", manifest.as_str());
        self.message(&forgery.open, open, payload).await;
        self.finish(forgery).await;
    }

    /// Publishes what comes behind the manifest.
    pub(crate) async fn finish(&self, forgery: &Forgery) {
        for chunk in &forgery.chunks {
            self.message(&forgery.data, chunk.headers(), chunk.payload.clone()).await;
        }
        if forgery.inline.is_none() && !forgery.closing.is_null() {
            for subject in [&forgery.data, &forgery.close] {
                let closing = headers([("Natsfer-Closing", &forgery.closing.to_string())]);
                self.message(subject, closing, Bytes::new()).await;
            }
        }
    }

    /// Publishes one message, and waits until it is stored.
    pub(crate) async fn message(&self, subject: &str, headers: HeaderMap, payload: Bytes) {
        let stored = self.0.publish_with_headers(subject.to_owned(), headers, payload).await;
        let stored = stored.unwrap().await;
        stored.unwrap_or_else(|error| panic!("not stored on {subject}: {error}"));
    }
}

pub(crate) fn headers<'a>(pairs: impl IntoIterator<Item = (&'static str, &'a String)>) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.insert(name, value.as_str());
    }
    map
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    format!("blake3:{}", blake3::hash(bytes))
}

pub(crate) fn crc32(bytes: &[u8]) -> String {
    format!("{:08x}", crc32fast::hash(bytes))
}

/// 64 MiB of zeros, compressed to some KiB.
pub(crate) fn zstd_bomb() -> Bytes {
    zstd::encode_all(&vec![0; 64 << 20][..], 1).unwrap().into()
}

/// The same as a gzip member.
pub(crate) fn gzip_bomb() -> Bytes {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut encoder, &vec![0; 64 << 20]).unwrap();
    encoder.finish().unwrap().into()
}
