//! Processes killed half-way through a file: the next one goes on, and does not begin again.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::path::Path;
use std::time::Duration;

use natsfer_tests::steps::{drain, nothing_left_but, number, receiving, send, sending, stream};
use natsfer_tests::{Proxy, Server, eventually, files};

const SOON: Duration = Duration::from_secs(60);
const MIB: u64 = 1 << 20;

/// How long a receiver's journal and part file are.
fn staged(inbox: &Path, receiver: &str) -> (u64, u64) {
    let length = |ending: &str| {
        let entries = inbox.join(".natsfer/receivers").join(receiver).read_dir().into_iter().flatten().flatten();
        let mut files = entries.filter(|entry| entry.path().extension().is_some_and(|found| found == ending));
        files.next().and_then(|file| file.metadata().ok()).map_or(0, |data| data.len())
    };
    (length("journal"), length("part"))
}

#[tokio::test]
async fn a_receiver_killed_half_way_fetches_only_the_rest() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (source, inbox) = (home.path().join("big.bin"), home.path().join("inbox"));
    files::random_file(&source, 32 * MIB, 1);
    send(&server, &["--chunk-size", "256KiB"], &[&source]).await;

    let slow = Proxy::to(&server.url()).await;
    slow.rate(6 * MIB);
    let options = ["--takeover", "2s"];
    let victim = receiving(&slow, "phoenix", &inbox, &options).spawn().await;
    eventually("a good part of it is journaled", SOON, || async {
        let (journal, part) = staged(&inbox, "phoenix");
        // An entry names a chunk in a few bytes, and 16 MiB take several checkpoints of a second each.
        (journal > 200 && part >= 16 * MIB).then_some(())
    })
    .await;
    victim.kill();
    let _ = victim.wait().await;
    assert!(!inbox.join("big.bin").exists());

    let fast = Proxy::to(&server.url()).await;
    let received = receiving(&fast, "phoenix", &inbox, &options).arg("--count=1").run().await.success();
    assert_eq!(number(&received.json_lines()[0], "size"), 32 * MIB);
    files::assert_same(&source, inbox.join("big.bin"));
    assert!(fast.bytes_down() < 28 * MIB, "{} bytes were fetched again", fast.bytes_down());
    nothing_left_but(&server, &["phoenix"]).await;
}

#[tokio::test]
async fn a_sender_killed_half_way_publishes_only_the_rest() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (source, inbox) = (home.path().join("big.bin"), home.path().join("inbox"));
    files::random_file(&source, 32 * MIB, 2);
    let slow = Proxy::to(&server.url()).await;
    slow.rate(8 * MIB);
    let options = ["--chunk-size", "256KiB"];
    let victim = sending(&slow, &options, &[&source]).spawn().await;
    eventually("a good part of it is stored", SOON, || async {
        (stream(&server, "NATSFER_DATA").await["state"]["messages"].as_u64()? >= 40).then_some(())
    })
    .await;
    victim.kill();
    let _ = victim.wait().await;

    let resumed = send(&server, &options, &[&source]).await;
    assert_eq!(resumed[0]["status"], "resumed", "{resumed:?}");
    assert!(number(&resumed[0], "resumed_from") >= 10 * MIB, "{resumed:?}");
    assert!(number(&resumed[0], "published_bytes") <= 22 * MIB, "{resumed:?}");
    assert_eq!(number(&resumed[0], "chunks"), 128);
    assert_eq!(send(&server, &options, &[&source]).await[0]["status"], "unchanged");
    drain(&server, "after", &inbox, &[]).await;
    files::assert_same(&source, inbox.join("big.bin"));
    nothing_left_but(&server, &["after"]).await;
}
