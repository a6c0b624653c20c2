//! Memory stays bounded, whatever the size.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::time::Duration;

use natsfer_tests::steps::{list, number, receiving, sending, text};
use natsfer_tests::{Server, consumer, files};

const MIB: u64 = 1 << 20;

/// Eight times what the larger bound allows is enough to see a leak; the promise is about 1.5 GiB, which takes an optimised
/// build to be done in good time.
const SIZE: u64 = if cfg!(debug_assertions) { 512 * MIB } else { 1536 * MIB };

const LIMIT: Duration = Duration::from_secs(600);

#[tokio::test]
async fn one_large_file() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (source, inbox) = (home.path().join("large.bin"), home.path().join("inbox"));
    files::random_file(&source, SIZE, 1);
    let sent = sending(&server, &[], &[&source]).limit(LIMIT).run().await.success();
    assert!(sent.peak_rss_bytes <= 32 * MIB, "send used {} KiB", sent.peak_rss_bytes >> 10);

    let received = receiving(&server, "large", &inbox, &["--drain"]).limit(LIMIT).run().await.success();
    assert!(received.peak_rss_bytes <= 64 * MIB, "receive used {} KiB", received.peak_rss_bytes >> 10);
    assert_eq!(received.json_lines()[0]["digest"], sent.json_lines()[0]["digest"]);
    files::assert_same(&source, inbox.join("large.bin"));

    let id = text(&sent.json_lines()[0], "transfer").to_owned();
    let range = format!("{}-{}", 10 * MIB, 10 * MIB + 99);
    let cat = consumer(["cat", &id, "--range", &range]).server(&server).run().await.success();
    assert_eq!(cat.stdout.len(), 100);
    assert!(cat.peak_rss_bytes <= 64 * MIB, "cat used {} KiB", cat.peak_rss_bytes >> 10);
}

/// Each has its share of the window, and no more: the server cuts off whoever has more than 64 MiB waiting.
#[tokio::test]
async fn several_large_files_at_once_are_within_what_the_server_allows() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (outbox, inbox) = (home.path().join("outbox"), home.path().join("inbox"));
    for seed in 0..4 {
        files::random_file(outbox.join(format!("{seed}.bin")), SIZE / 4, seed);
    }
    let _ = sending(&server, &[], &[outbox.join(".")]).limit(LIMIT).run().await.success();
    let received = receiving(&server, "r", &inbox, &["--drain"]).limit(LIMIT).run().await.success();
    assert!(received.peak_rss_bytes <= 64 * MIB, "receive used {} KiB", received.peak_rss_bytes >> 10);
    let refetched: Vec<_> = received.json_lines().iter().map(|line| number(line, "refetched_bytes")).collect();
    assert_eq!(refetched, [0; 4]);
    let cut_off = number(&server.monitor("/varz").await.unwrap(), "slow_consumers");
    assert_eq!(cut_off, 0, "{}", received.errors());
    files::assert_same(&outbox, &inbox);
}

#[tokio::test]
async fn several_files_at_once_that_compress() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (outbox, inbox) = (home.path().join("outbox"), home.path().join("inbox"));
    for seed in 0..6 {
        files::json_logs(outbox.join(format!("{seed}.json")), 24 * MIB, seed);
    }
    let sent = sending(&server, &["--compression", "zstd"], &[outbox.join(".")]).limit(LIMIT).run().await.success();
    assert!(sent.peak_rss_bytes <= 32 * MIB, "send used {} KiB", sent.peak_rss_bytes >> 10);
    let listed = list(&server, &[]).await;
    assert!(listed.iter().all(|entry| number(entry, "stored_bytes") < 16 * MIB), "{listed:?}");
    let received = receiving(&server, "logs", &inbox, &["--drain"]).limit(LIMIT).run().await.success();
    assert!(received.peak_rss_bytes <= 64 * MIB, "receive used {} KiB", received.peak_rss_bytes >> 10);
    files::assert_same(&outbox, &inbox);
}

#[tokio::test]
async fn a_directory_of_small_files() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (outbox, inbox) = (home.path().join("outbox"), home.path().join("inbox"));
    files::tree(&outbox, 5_000, 10..4000, 1);
    let sent = sending(&server, &[], &[outbox.join(".")]).run().await.success();
    assert!(sent.peak_rss_bytes <= 32 * MIB, "send used {} KiB", sent.peak_rss_bytes >> 10);
    let received = receiving(&server, "small", &inbox, &["--drain"]).run().await.success();
    assert!(received.peak_rss_bytes <= 64 * MIB, "receive used {} KiB", received.peak_rss_bytes >> 10);
}
