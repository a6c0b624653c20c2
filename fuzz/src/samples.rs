//! What seeds are made of: PROTOCOL.md's examples, which `common/tests/protocol_examples.rs` keeps valid.

use natsfer_common::{ChunkSize, DigestAlgorithm, Encoding, Inline, Manifest, StreamName, Subject, Subjects, header};

const PROTOCOL: &str = include_str!("../../PROTOCOL.md");
/// The examples' file.
pub(crate) const FILE: &[u8] = b"abcdefghijklmnopqrstuvwxyz";

/// The example message of this name, with its subject, its headers, and its payload.
pub(crate) fn message(name: &str) -> &'static str {
    let (_, rest) = PROTOCOL.split_once(&format!("```text {name}\n")).unwrap();
    rest.split_once("\n```").unwrap().0
}

/// A header of an example message.
pub(crate) fn header(name: &str, header: &str) -> &'static str {
    let mut pairs = message(name).lines().filter_map(|line| line.split_once(": "));
    pairs.find(|(found, _)| *found == header).unwrap().1
}

pub(crate) fn subjects() -> Subjects {
    Subjects::new(&StreamName::default())
}

/// The channel and id of every example.
pub(crate) fn subject() -> Subject {
    subjects().parse(message("chunk").lines().next().unwrap()).unwrap()
}

/// The example's manifest, of chunks of 16 bytes.
pub(crate) fn manifest() -> Manifest {
    Manifest::from_header(header("open-chunked", header::MANIFEST), &subject()).unwrap()
}

/// The same for a file of unknown size in such chunks, without what does not matter.
pub(crate) fn bare(chunk_size: u32) -> Manifest {
    let Subject { channel, transfer } = subject();
    Manifest::new(transfer, channel, "a".parse().unwrap(), ChunkSize::new(chunk_size).unwrap())
}

/// A manifest with the file inside.
pub(crate) fn inline(encoding: Encoding, algorithm: DigestAlgorithm) -> Manifest {
    let mut manifest = bare(4096);
    manifest.digest_algorithm = algorithm;
    manifest.size = Some(FILE.len() as u64);
    manifest.inline = Some(Inline { encoding, digest: algorithm.digest(FILE) });
    manifest
}
