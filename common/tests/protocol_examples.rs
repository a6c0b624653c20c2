//! PROTOCOL.md's example messages are what this code writes and reads, byte for byte.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::collections::BTreeMap;

use bytes::Bytes;
use natsfer_common::{
    Channel, ChunkHeader, ChunkSize, Closing, ClosingRecord, DigestAlgorithm, Encoding, FileName, Inline, Kind,
    Manifest, Receipt, RecordError, Rejection, RejectionReason, RejectionState, RepairRequest, StreamName, Subject,
    Subjects, Totals, TransferId, header,
};

const PROTOCOL: &str = include_str!("../../PROTOCOL.md");
const FILE: &[u8] = b"abcdefghijklmnopqrstuvwxyz";
const CHUNK: usize = 16;
const MTIME: &str = "2026-11-23T11:53:13.123456789Z";
const NONCE: &str = "0123456789abcdef";

/// A message as PROTOCOL.md shows it: its subject, the header block, an empty line, and the payload as text.
#[derive(Debug, PartialEq, Eq)]
struct Message {
    subject: String,
    headers: Vec<(String, String)>,
    payload: String,
}

impl Message {
    fn new(subject: String, headers: impl IntoIterator<Item = (&'static str, String)>, payload: &[u8]) -> Self {
        let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self { subject, headers, payload: String::from_utf8(payload.into()).unwrap() }
    }

    /// The example of this name, from its fenced block.
    fn example(name: &str) -> Self {
        let (_, rest) = PROTOCOL.split_once(&format!("```text {name}\n")).expect("an example of that name");
        let (block, _) = rest.split_once("\n```").unwrap();
        let (subject, rest) = block.split_once("\nNATS/1.0\n").unwrap();
        let (headers, payload) = rest.split_once("\n\n").unwrap_or((rest.trim_end(), ""));
        let header = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self {
            subject: subject.into(),
            headers: headers.lines().map(|line| header(line).unwrap()).collect(),
            payload: payload.into(),
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

fn channel() -> Channel {
    "letters.eu".parse().unwrap()
}

/// As the producer derives it from a file: size and mtime, little-endian.
fn transfer() -> TransferId {
    let name: FileName = "2026/größe.txt".parse().unwrap();
    let mtime: jiff::Timestamp = MTIME.parse().unwrap();
    let version = [&(FILE.len() as u64).to_le_bytes()[..], &mtime.as_nanosecond().to_le_bytes()[..]].concat();
    TransferId::derive(&channel(), &name, &version, 0)
}

fn manifest() -> Manifest {
    let chunk_size = ChunkSize::new(CHUNK as u32).unwrap();
    let mut manifest = Manifest::new(transfer(), channel(), "2026/größe.txt".parse().unwrap(), chunk_size);
    manifest.size = Some(FILE.len() as u64);
    manifest.media_type = Some("text/plain".into());
    manifest.mtime = Some(MTIME.parse().unwrap());
    manifest.mode = Some(0o640);
    manifest.metadata = BTreeMap::from([("from".into(), "Zoë".into())]);
    manifest
}

fn subjects() -> Subjects {
    Subjects::new(&StreamName::default())
}

fn open(manifest: &Manifest, payload: &[u8], crc32: Option<String>) -> Message {
    let headers = crc32.map(|crc32| (header::CRC32, crc32)).into_iter().chain([
        (header::MANIFEST, manifest.to_header().unwrap()),
        (header::EXPECTED_LAST_SUBJECT_SEQUENCE, "0".into()),
        (header::MESSAGE_ID, format!("{}-open-{NONCE}", manifest.transfer)),
    ]);
    Message::new(subjects().open(&manifest.channel, manifest.transfer), headers, payload)
}

fn inline() -> (Manifest, Message) {
    let mut manifest = manifest();
    manifest.chunk_size = ChunkSize::new(1 << 20).unwrap();
    manifest.inline = Some(Inline { encoding: Encoding::Identity, digest: DigestAlgorithm::Blake3.digest(FILE) });
    let message = open(&manifest, FILE, Some(format!("{:08x}", crc32fast::hash(FILE))));
    (manifest, message)
}

fn chunk() -> (ChunkHeader, Message) {
    let raw = &FILE[CHUNK..];
    let (length, crc32) = (raw.len() as u32, crc32fast::hash(raw));
    let chunk = ChunkHeader { index: 1, offset: CHUNK as u64, length, crc32, encoding: Encoding::Identity };
    let id = (header::MESSAGE_ID, format!("{}-1-{crc32:08x}-{NONCE}", transfer()));
    let headers = chunk.to_headers().into_iter().chain([id]);
    (chunk, Message::new(subjects().data(&channel(), transfer()), headers, raw))
}

fn closing(closing: Closing, behind: Option<u64>) -> (ClosingRecord, Message) {
    let record = ClosingRecord::new(transfer(), closing);
    let id = (header::MESSAGE_ID, format!("{}-closing-{NONCE}", transfer()));
    let behind = behind.map(|sequence| (header::EXPECTED_LAST_SUBJECT_SEQUENCE, sequence.to_string()));
    let headers = [(header::CLOSING, record.to_header().unwrap())].into_iter().chain(behind).chain([id]);
    let message = Message::new(subjects().data(&channel(), transfer()), headers, b"");
    (record, message)
}

fn complete() -> (ClosingRecord, Message) {
    let (size, digest) = (FILE.len() as u64, DigestAlgorithm::Blake3.digest(FILE));
    closing(Closing::Complete(Totals { chunks: 2, size, stored_bytes: size, digest }), Some(2))
}

fn cancelled() -> (ClosingRecord, Message) {
    closing(Closing::Cancelled { reason: "the source changed while it was sent".into() }, None)
}

fn receipt() -> (Receipt, Message) {
    let (receiver, landed_at) = ("billing".parse().unwrap(), "2026-11-23T12:00:00Z".parse().unwrap());
    let digest = DigestAlgorithm::Blake3.digest(FILE);
    let receipt = Receipt::new(transfer(), receiver, digest, FILE.len() as u64, landed_at)
        .with_names(manifest().name, Some("letters.eu/größe (1).txt".parse().unwrap()));
    let id = (header::MESSAGE_ID, format!("{}-receipt-billing-17", transfer()));
    let headers = [(header::RECEIPT, receipt.to_header().unwrap()), id];
    (receipt, Message::new(subjects().of(Kind::Receipt, &channel(), transfer()), headers, b""))
}

fn repair() -> (RepairRequest, Message) {
    let chunks = [0..1, 3..8].into_iter().collect();
    let request = RepairRequest::new(transfer(), "billing".parse().unwrap(), &chunks);
    let headers = [(header::REPAIR, request.to_header().unwrap())];
    (request, Message::new(subjects().of(Kind::Repair, &channel(), transfer()), headers, b""))
}

fn rejection() -> (Rejection, Message) {
    let state = RejectionState::rejected(RejectionReason::TooLarge, "the file has 26 bytes");
    let at = "2026-11-23T12:00:00Z".parse().unwrap();
    let rejection = Rejection::new(&manifest(), "billing".parse().unwrap(), 17, at, state);
    let headers = [(header::REJECTION, rejection.to_header().unwrap())];
    (rejection, Message::new(subjects().of(Kind::Reject, &channel(), transfer()), headers, b""))
}

fn parse(message: &Message) -> Subject {
    subjects().parse(&message.subject).unwrap()
}

#[test]
fn the_examples_are_what_the_code_writes() {
    assert_eq!(Message::example("open-chunked"), open(&manifest(), b"", None));
    assert_eq!(Message::example("open-inline"), inline().1);
    assert_eq!(Message::example("chunk"), chunk().1);
    assert_eq!(Message::example("closing-complete"), complete().1);
    assert_eq!(Message::example("closing-cancelled"), cancelled().1);
    assert_eq!(Message::example("receipt"), receipt().1);
    assert_eq!(Message::example("repair"), repair().1);
    assert_eq!(Message::example("rejection"), rejection().1);
}

#[test]
fn the_code_reads_the_examples() {
    for (name, expected) in [("open-chunked", manifest()), ("open-inline", inline().0)] {
        let example = Message::example(name);
        let read = Manifest::from_header(example.header(header::MANIFEST).unwrap(), &parse(&example)).unwrap();
        assert_eq!(read, expected, "{name}");
    }
    let example = Message::example("chunk");
    let read = ChunkHeader::from_headers(|name| example.header(name), manifest().chunk_size).unwrap();
    assert_eq!(read, chunk().0);
    let raw = read.encoding.decode(Bytes::from(example.payload), read.length as usize).unwrap();
    assert_eq!(crc32fast::hash(&raw), read.crc32);
    for (name, expected) in [("closing-complete", complete().0), ("closing-cancelled", cancelled().0)] {
        let example = Message::example(name);
        let Subject { transfer, .. } = parse(&example);
        let read = ClosingRecord::from_header(example.header(header::CLOSING).unwrap(), transfer).unwrap();
        assert_eq!(read, expected, "{name}");
    }
    let example = Message::example("receipt");
    let read = Receipt::from_header(example.header(header::RECEIPT).unwrap(), parse(&example).transfer);
    assert_eq!(read.unwrap(), receipt().0);
    let example = Message::example("repair");
    let read = RepairRequest::from_header(example.header(header::REPAIR).unwrap(), parse(&example).transfer);
    assert_eq!(read.unwrap(), repair().0);
    let example = Message::example("rejection");
    let read = Rejection::from_header(example.header(header::REJECTION).unwrap(), Some(parse(&example).transfer));
    assert_eq!(read.unwrap(), rejection().0);
}

#[test]
fn unknown_fields_are_ignored_and_unknown_needs_refused() {
    let example = Message::example("open-chunked");
    let read = |field: &str| {
        let text = example.header(header::MANIFEST).unwrap().replacen('{', &format!("{{{field},"), 1);
        Manifest::from_header(&text, &parse(&example))
    };
    assert_eq!(read(r#""later":{"x":1}"#).unwrap(), manifest());
    assert_eq!(read(r#""requires":[]"#).unwrap(), manifest());
    assert!(matches!(read(r#""requires":["later"]"#), Err(RecordError::Requires(_))));
}

/// The page describes the derivation in words; this follows the words, not the code.
#[test]
fn the_transfer_id_is_derived_as_described() {
    let mut hasher = blake3::Hasher::new_derive_key("natsfer 2026-11-23 transfer id v1");
    let nanoseconds: i128 = 1_795_434_793_123_456_789;
    let version = [&26_u64.to_le_bytes()[..], &nanoseconds.to_le_bytes()[..]].concat();
    for field in ["letters.eu".as_bytes(), "2026/größe.txt".as_bytes(), &version, &0_u32.to_le_bytes()] {
        hasher.update(&(field.len() as u64).to_le_bytes());
        hasher.update(field);
    }
    let id: String = hasher.finalize().as_bytes()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(id, transfer().to_string());
    assert!(PROTOCOL.contains(&nanoseconds.to_string()) && PROTOCOL.contains(&id));
}
