//! What a file is.

use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, de::IgnoredAny};

use crate::{
    Channel, ChunkSize, Digest, DigestAlgorithm, Encoding, FileName, RecordError, Subject, TransferId, header, record,
};

/// Why a file inside its manifest's message is not the one that was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InlineError {
    /// It cannot be decoded, or its checksum differs.
    #[error("{0}")]
    Damaged(String),
    /// Its digest differs.
    #[error("its digest is {found}, its sender says {expected}")]
    DigestMismatch {
        /// What the sender says.
        expected: Digest,
        /// What is there.
        found: Digest,
    },
}

/// What a sender says about a file besides its bytes, in its own words.
pub type Metadata = BTreeMap<String, String>;

/// The manifest of one transfer: what the file is, published before its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The record's version.
    version: u32,
    /// The transfer's id.
    pub transfer: TransferId,
    /// The channel it is on.
    pub channel: Channel,
    /// The name to land it under.
    pub name: FileName,
    /// Its size in bytes, when it is known before the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Bytes in every chunk but the last.
    pub chunk_size: ChunkSize,
    /// What the closing record's digest is computed with.
    pub digest_algorithm: DigestAlgorithm,
    /// Its media type (RFC 6838), if the sender gave or guessed one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// When the source was last modified. What is no time, or beyond what this reader knows of, counts as not said.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "time_if_readable")]
    pub mtime: Option<Timestamp>,
    /// Permission bits, at most `0o777`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// The sender's own words about it.
    #[serde(default, skip_serializing_if = "Metadata::is_empty")]
    pub metadata: Metadata,
    /// Present when the whole file is in this message's payload: there are then no chunks and no closing record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inline: Option<Inline>,
}

/// How a small file stands in the payload of its manifest's message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inline {
    /// How its bytes are encoded.
    pub encoding: Encoding,
    /// The whole file's digest, raw.
    pub digest: Digest,
}

fn time_if_readable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Said {
        Text(String),
        Other(IgnoredAny),
    }
    Ok(match Said::deserialize(deserializer)? {
        Said::Text(text) => text.parse().ok(),
        Said::Other(IgnoredAny) => None,
    })
}

impl Inline {
    /// The file, given its manifest, and its message's payload and checksum header.
    ///
    /// # Errors
    /// When the payload is damaged, or another file's.
    pub fn decode(self, manifest: &Manifest, payload: Bytes, crc32: Option<&str>) -> Result<Bytes, InlineError> {
        let length = manifest.size.and_then(|size| usize::try_from(size).ok()).unwrap_or(0);
        let decoded = self.encoding.decode(payload, length);
        let raw = decoded.map_err(|error| InlineError::Damaged(error.to_string()))?;
        if crc32 != Some(&format!("{:08x}", crc32fast::hash(&raw))) {
            return Err(InlineError::Damaged(format!("header {} does not agree", header::CRC32)));
        }
        let (expected, found) = (self.digest, manifest.digest_algorithm.digest(&raw));
        if found == expected { Ok(raw) } else { Err(InlineError::DigestMismatch { expected, found }) }
    }
}

impl Manifest {
    /// A manifest with what every transfer has.
    pub fn new(transfer: TransferId, channel: Channel, name: FileName, chunk_size: ChunkSize) -> Self {
        Self {
            version: record::VERSION,
            transfer,
            channel,
            name,
            size: None,
            chunk_size,
            digest_algorithm: DigestAlgorithm::default(),
            media_type: None,
            mtime: None,
            mode: None,
            metadata: Metadata::new(),
            inline: None,
        }
    }

    /// The header's text.
    ///
    /// # Errors
    /// When the record would be over 32 KiB: too much metadata.
    pub fn to_header(&self) -> Result<String, RecordError> {
        record::write(self)
    }

    /// Reads and checks the header of a message that came on this subject.
    ///
    /// # Errors
    /// When it is malformed, too new, contradicts itself, or speaks of another transfer than its subject does.
    pub fn from_header(text: &str, subject: &Subject) -> Result<Self, RecordError> {
        let manifest: Self = record::read(text).map_err(|error| refused_name(text).unwrap_or(error))?;
        let contradiction = |what| Err(RecordError::Contradiction(what));
        if manifest.transfer != subject.transfer || manifest.channel != subject.channel {
            return contradiction("its transfer or channel is not its subject's");
        }
        if manifest.size.is_some_and(|size| i64::try_from(size).is_err()) {
            return contradiction("no file system takes a file of its size");
        }
        if manifest.mode.is_some_and(|mode| mode > 0o777) {
            return contradiction("its mode has bits beyond the permissions 0777");
        }
        match (manifest.inline, manifest.size) {
            (Some(_), None) => return contradiction("the file is inside, but its size is not given"),
            (Some(inline), _) if inline.digest.algorithm() != manifest.digest_algorithm => {
                return contradiction("its digest is of another algorithm than it names");
            }
            (Some(_), Some(size)) if size > u64::from(manifest.chunk_size.bytes()) => {
                return contradiction("the file inside is larger than a chunk");
            }
            _ => {}
        }
        Ok(manifest)
    }
}

/// Why the name is refused, if it is the name that is.
fn refused_name(text: &str) -> Option<RecordError> {
    #[derive(Deserialize)]
    struct Named {
        name: String,
    }
    let Named { name } = record::read(text).ok()?;
    name.parse::<FileName>().err().map(RecordError::Name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject() -> Subject {
        Subject { channel: "a".parse().unwrap(), transfer: "0".repeat(32).parse().unwrap() }
    }

    fn manifest() -> Manifest {
        let Subject { channel, transfer } = subject();
        Manifest::new(transfer, channel, "é/x".parse().unwrap(), ChunkSize::new(4096).unwrap())
    }

    #[test]
    fn a_manifest_is_read_back() {
        let mut manifest = manifest();
        manifest.size = Some(4096);
        manifest.mtime = Some("2026-11-23T11:53:13.123456789Z".parse().unwrap());
        manifest.mode = Some(0o640);
        manifest.metadata.insert("kind".into(), "\r\nInjected: ü".into());
        let digest = DigestAlgorithm::Blake3.digest(b"x");
        manifest.inline = Some(Inline { encoding: Encoding::Zstd, digest });
        let header = manifest.to_header().unwrap();
        assert!(header.is_ascii() && !header.contains(['\r', '\n']));
        assert_eq!(Manifest::from_header(&header, &subject()).unwrap(), manifest);
    }

    #[test]
    fn lies_are_refused() {
        let with = |change: &dyn Fn(&mut Manifest)| {
            let mut manifest = manifest();
            change(&mut manifest);
            Manifest::from_header(&manifest.to_header().unwrap(), &subject())
        };
        let inline = Inline { encoding: Encoding::Identity, digest: DigestAlgorithm::Sha256.digest(b"") };
        assert!(with(&|_| ()).is_ok());
        assert!(with(&|m| m.channel = "b".parse().unwrap()).is_err());
        assert!(with(&|m| m.transfer = "1".repeat(32).parse().unwrap()).is_err());
        assert!(with(&|m| m.size = Some(u64::MAX)).is_err());
        assert!(with(&|m| m.mode = Some(0o4755)).is_err());
        assert!(with(&|m| m.inline = Some(inline)).is_err());
        assert!(with(&|m| (m.inline, m.size) = (Some(inline), Some(1))).is_err(), "another algorithm");
        // It refuses nothing.
        for mtime in
            [r#""+010000-01-01T00:00:00Z""#, r#""yesterday""#, "1", "null", "[{}]", r#""2026-11-23T11:53:13Z""#]
        {
            let header = manifest().to_header().unwrap();
            let header = format!("{},\"mtime\":{mtime}}}", header.strip_suffix('}').unwrap());
            let read = Manifest::from_header(&header, &subject()).unwrap();
            assert_eq!(read.mtime.is_some(), mtime.contains("2026"), "{mtime}");
        }
        let name = manifest().to_header().unwrap().replace("\\u00e9/x", "../x");
        assert!(matches!(Manifest::from_header(&name, &subject()), Err(RecordError::Name(_))));
    }
}
