//! Every size at which something could be off by one, every codec and every digest.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::path::Path;
use std::time::Duration;

use natsfer_tests::steps::{drain, nothing_left_but, number, send, send_stdin, sending, stream, text};
use natsfer_tests::{Proxy, Server, files};
use sha2::{Digest, Sha256};

const CHUNK: u64 = 64 * 1024;
const MIB: u64 = 1 << 20;

/// Nothing, one byte, around one chunk, around several, and many chunks with a short last one.
const SIZES: [u64; 10] =
    [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK - 1, 3 * CHUNK, 3 * CHUNK + 1, 100 * CHUNK + 12_345];

/// A file that fits in one message travels in its manifest's message, and has no chunks of its own.
fn chunks_of(size: u64, chunk: u64) -> u64 {
    if size <= chunk { 0 } else { size.div_ceil(chunk) }
}

fn sha256(path: &Path) -> String {
    let digest = Sha256::digest(std::fs::read(path).unwrap());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn every_size_around_a_chunk_of_64_kib() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (outbox, inbox) = (home.path().join("outbox"), home.path().join("inbox"));
    for (seed, size) in (0..).zip(SIZES) {
        files::random_file(outbox.join(size.to_string()), size, seed);
    }
    let sent = send(&server, &["--chunk-size", "64KiB"], &[outbox.join(".")]).await;
    assert_eq!(sent.len(), SIZES.len());
    let mut messages = 0;
    for event in &sent {
        let size = number(event, "size");
        assert_eq!(text(event, "name"), size.to_string());
        assert_eq!(number(event, "chunks"), chunks_of(size, CHUNK), "{event}");
        assert_eq!(number(event, "published_chunks"), number(event, "chunks"), "{event}");
        assert_eq!((number(event, "stored_bytes"), number(event, "published_bytes")), (size, size), "{event}");
        messages += number(event, "chunks") + u64::from(size > CHUNK);
    }
    assert_eq!(stream(&server, "NATSFER_DATA").await["state"]["messages"], messages);
    assert_eq!(drain(&server, "sizes", &inbox, &[]).await.len(), SIZES.len());
    files::assert_same(&outbox, &inbox);
    nothing_left_but(&server, &["sizes"]).await;
}

#[tokio::test]
async fn every_size_around_chunks_of_the_default_size() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (outbox, inbox) = (home.path().join("outbox"), home.path().join("inbox"));
    // Whatever is chosen, a message has at most 1 MiB with its headers, for which 4 KiB are set aside.
    for base in [256 << 10, 512 << 10, (1 << 20) - 4096, 1 << 20, 3 << 20, 17 << 20] {
        for size in [base - 1, base, base + 1] {
            files::random_file(outbox.join(size.to_string()), size, size);
        }
    }
    let sent = send(&server, &[], &[outbox.join(".")]).await;
    for event in sent.iter().filter(|event| event["chunks"] != 0) {
        let per_chunk = number(event, "size").div_ceil(number(event, "chunks"));
        assert!(per_chunk <= 1 << 20, "{event}");
    }
    drain(&server, "sizes", &inbox, &[]).await;
    files::assert_same(&outbox, &inbox);
}

/// Where messages must be small, files of more than one are small too.
#[tokio::test]
async fn a_server_that_takes_small_messages_only() {
    let (server, home) = (Server::builder().max_payload(32 * 1024).start().await, tempfile::tempdir().unwrap());
    let (outbox, inbox) = (home.path().join("outbox"), home.path().join("inbox"));
    for size in [20_000, 28_672, 28_673, 40_000, 65_535, 65_536, 65_537, 1_000_000] {
        files::random_file(outbox.join(size.to_string()), size, size);
    }
    assert_eq!(send(&server, &[], &[outbox.join(".")]).await.len(), 8);
    assert_eq!(drain(&server, "small", &inbox, &[]).await.len(), 8);
    files::assert_same(&outbox, &inbox);
}

#[tokio::test]
async fn every_compression_with_every_digest() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let outbox = home.path().join("outbox");
    files::text_file(outbox.join("prose.txt"), 700_000, 1);
    files::json_logs(outbox.join("logs.json"), 900_000, 2);
    files::random_file(outbox.join("photo.jpg"), 500_000, 3);
    files::text_file(outbox.join("tiny.txt"), 10, 4);
    for digest in ["blake3", "sha256"] {
        for compression in ["auto", "none", "gzip", "zstd"] {
            let channel = format!("{compression}.{digest}");
            let options = ["-c", &channel, "--compression", compression, "--digest", digest, "--chunk-size", "128KiB"];
            for event in send(&server, &options, &[outbox.join(".")]).await {
                let (name, size, stored) =
                    (text(&event, "name"), number(&event, "size"), number(&event, "stored_bytes"));
                let source = outbox.join(name);
                let expected = if digest == "blake3" { files::digest(&source) } else { sha256(&source) };
                assert_eq!(text(&event, "digest"), format!("{digest}:{expected}"));
                match (compression, name) {
                    ("none", _) | (_, "photo.jpg" | "tiny.txt") => assert_eq!(stored, size, "{event}"),
                    // As the link is busy or not.
                    ("auto", _) => assert!(stored <= size, "{event}"),
                    _ => assert!(stored < size * 2 / 3, "{event}"),
                }
            }
            let inbox = home.path().join(&channel);
            let name = format!("{compression}-{digest}");
            assert_eq!(drain(&server, &name, &inbox, &["-c", &channel]).await.len(), 4);
            files::assert_same(&outbox, &inbox);
        }
    }
}

#[tokio::test]
async fn what_shrinks_is_compressed_where_the_sender_waits_for_the_link() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (logs, photo, inbox) =
        (home.path().join("logs.json"), home.path().join("photo.jpg"), home.path().join("inbox"));
    files::json_logs(&logs, 4 * MIB, 1);
    files::random_file(&photo, MIB, 2);
    let slow = Proxy::to(&server.url()).await;
    slow.rate(MIB);
    let sent = send(&slow, &["--chunk-size", "64KiB", "--window", "256KiB"], &[&logs, &photo]).await;
    for event in &sent {
        let (size, stored) = (number(event, "size"), number(event, "stored_bytes"));
        match text(event, "name") {
            "photo.jpg" => assert_eq!(stored, size, "{event}"),
            _ => assert!(stored < size * 2 / 3, "{event}"),
        }
    }
    drain(&server, "sizes", &inbox, &[]).await;
    files::assert_same(&logs, inbox.join("logs.json"));
}

#[tokio::test]
async fn standard_input_of_unknown_length() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let inbox = home.path().join("inbox");
    let mut contents = Vec::new();
    for size in SIZES {
        let mut bytes = vec![0; usize::try_from(size).unwrap()];
        files::Random::new(size).fill(&mut bytes);
        let sent = send_stdin(&server, &["--chunk-size", "64KiB"], &format!("in/{size}"), bytes.clone()).await;
        assert_eq!((number(&sent, "size"), number(&sent, "chunks")), (size, chunks_of(size, CHUNK)), "{sent}");
        assert_eq!(text(&sent, "digest"), format!("blake3:{}", blake3::hash(&bytes)));
        contents.push((size, bytes));
    }
    assert_eq!(drain(&server, "stdin", &inbox, &[]).await.len(), SIZES.len());
    for (size, bytes) in contents {
        assert!(std::fs::read(inbox.join("in").join(size.to_string())).unwrap() == bytes, "{size} bytes differ");
    }
}

#[tokio::test]
async fn a_sparse_file_of_more_than_4_gib() {
    const SIZE: u64 = (4 << 30) + 12_345;
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (source, inbox) = (home.path().join("disk.img"), home.path().join("inbox"));
    files::sparse_file(&source, SIZE);
    let limit = Duration::from_secs(600);
    let sent = sending(&server, &["--compression", "zstd"], &[&source]).limit(limit).run().await.success().json_lines();
    assert_eq!(number(&sent[0], "size"), SIZE);
    assert!(number(&sent[0], "stored_bytes") < SIZE / 100, "zeros shrink: {sent:?}");
    let received = drain(&server, "images", &inbox, &[]).await;
    assert_eq!(number(&received[0], "size"), SIZE);
    assert_eq!(std::fs::metadata(inbox.join("disk.img")).unwrap().len(), SIZE);
    let digest = format!("blake3:{}", files::digest(&source));
    assert_eq!(text(&sent[0], "digest"), digest);
    assert_eq!(text(&received[0], "digest"), digest);
    assert_eq!(format!("blake3:{}", files::digest(inbox.join("disk.img"))), digest);
}
