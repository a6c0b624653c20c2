//! Names of the message headers. See PROTOCOL.md.
//!
//! What is said travels in headers, a file's bytes in payloads: a lister asks the server for headers alone, however many
//! small files travel inside their manifests' messages.

/// A transfer's manifest (JSON), on `open`.
pub const MANIFEST: &str = "Natsfer-Manifest";
/// A transfer's closing record (JSON), on `data` and again on `close`.
pub const CLOSING: &str = "Natsfer-Closing";
/// A receiver's receipt (JSON), on `receipt`.
pub const RECEIPT: &str = "Natsfer-Receipt";
/// A receiver's request for chunks (JSON), on `repair`.
pub const REPAIR: &str = "Natsfer-Repair";
/// A receiver's word that it has refused a transfer for good (JSON), on `reject`.
pub const REJECTION: &str = "Natsfer-Rejection";
/// A chunk's index, from 0.
pub const CHUNK: &str = "Natsfer-Chunk";
/// Where the chunk's bytes begin in the file.
pub const OFFSET: &str = "Natsfer-Offset";
/// How many bytes of the file the chunk holds, once decoded.
pub const LENGTH: &str = "Natsfer-Length";
/// CRC32 of those bytes: eight lower-case hexadecimal digits.
pub const CRC32: &str = "Natsfer-Crc32";
/// How they are encoded in the payload.
pub const ENCODING: &str = "Natsfer-Encoding";
/// JetStream's own: messages of one id within the stream's duplicate window are stored once.
pub const MESSAGE_ID: &str = "Nats-Msg-Id";
/// JetStream's own: store only if the subject's last message has this sequence; 0 for none.
pub const EXPECTED_LAST_SUBJECT_SEQUENCE: &str = "Nats-Expected-Last-Subject-Sequence";
/// JetStream's own: on a message sent without its payload, how long that is.
pub const MESSAGE_SIZE: &str = "Nats-Msg-Size";
