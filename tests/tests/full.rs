//! No room: a full stream makes the sender wait, a full disk the receiver.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_nats::jetstream::stream::{Config, DiscardPolicy};
use natsfer_tests::steps::{drain, list, receipts, receiving, send, sending, text};
use natsfer_tests::{Server, eventually, files, our_binary, producer, program};

const SOON: Duration = Duration::from_secs(60);
const MIB: u64 = 1 << 20;

#[tokio::test]
async fn a_full_stream_is_waited_for() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (first, second) = (home.path().join("first"), home.path().join("second"));
    files::random_file(&first, 12 * MIB, 1);
    files::random_file(&second, 12 * MIB, 2);
    let _ = producer(["init", "--max-bytes", "16MiB"]).server(&server).run().await.success();
    send(&server, &[], &[&first]).await;
    let sender = sending(&server, &[], &[&second]).spawn().await;
    sender.log_line(SOON, |line| line.contains("the stream is full: waiting for room")).await;
    let first_id = list(&server, &[]).await.iter().find(|entry| entry["name"] == "first").unwrap().clone();
    assert!(sender.is_running());
    let _ = producer(["cancel", text(&first_id, "transfer")]).server(&server).run().await.success();
    let sent = sender.wait().await.success();
    assert!(sent.errors().contains("going on"), "{}", sent.errors());
    drain(&server, "r", home.path().join("inbox"), &[]).await;
    files::assert_same(&second, home.path().join("inbox/second"));
}

/// What can never be stored whole is refused by the stream's limits, or as soon as that shows, and stays in nobody's way.
#[tokio::test]
async fn a_file_that_can_never_fit_is_refused_and_blocks_nobody() {
    for discard in [DiscardPolicy::New, DiscardPolicy::Old] {
        let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
        let (large, small) = (home.path().join("large"), home.path().join("small"));
        files::random_file(&large, 24 * MIB, 1);
        files::random_file(&small, 6 * MIB, 2);
        let _ = producer(["init", "--max-bytes", "10MiB"]).server(&server).run().await.success();
        let jetstream = server.jetstream().await;
        let mut data = jetstream.get_stream("NATSFER_DATA").await.unwrap();
        jetstream.update_stream(Config { discard, ..data.cached_info().config.clone() }).await.unwrap();
        // Whether it can be compressed shows only while it is sent.
        for compression in ["none", "zstd"] {
            let refused = sending(&server, &["--compression", compression], &[&large]).run().await.exited(1).errors();
            assert!(refused.contains("can never fit") && refused.contains("max_bytes"), "{refused}");
        }
        let published = data.info().await.unwrap().state.last_sequence;
        assert!(published <= 24, "{published} messages of at most 512 KiB");
        send(&server, &["--compression", "none"], &[&small]).await;
        drain(&server, "r", home.path().join("inbox"), &[]).await;
        files::assert_same(&small, home.path().join("inbox/small"));
    }
}

/// Receipts have room, so that what is delivered can be pruned, and what waits for room comes.
#[tokio::test]
async fn a_full_control_stream_is_emptied_by_pruning() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (outbox, inbox) = (home.path().join("outbox"), home.path().join("inbox"));
    files::tree(&outbox, 120, 0..400, 1);
    let _ = producer(["init", "--max-bytes", "40KiB"]).server(&server).run().await.success();
    let sender = sending(&server, &[], &[outbox.join(".")]).spawn().await;
    sender.log_line(SOON, |line| line.contains("the stream is full: waiting for room")).await;
    let receiver = receiving(&server, "r", &inbox, &[]).spawn().await;
    eventually("all has come", Duration::from_secs(200), || async {
        let _ = producer(["prune", "--delivered-to", "r"]).server(&server).run().await.success();
        (!sender.is_running()).then_some(())
    })
    .await;
    let _ = sender.wait().await.success();
    eventually("all is landed, told and pruned", Duration::from_secs(200), || async {
        let _ = producer(["prune", "--delivered-to", "r"]).server(&server).run().await.success();
        list(&server, &[]).await.is_empty().then_some(())
    })
    .await;
    receiver.terminate();
    let _ = receiver.wait().await.success();
    files::assert_same(&outbox, &inbox);
}

/// A receiver on a small disk of its own, as its process sees it.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_is_waited_for_and_holds_nobody_else_up() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (source, inbox) = (home.path().join("big.bin"), home.path().join("inbox"));
    fs::create_dir(&inbox).unwrap();
    files::random_file(&source, 12 * MIB, 3);
    send(&server, &[], &[&source]).await;
    // A file system in a mount namespace: no right beyond the process's own is needed.
    let script = "mount -t tmpfs -o size=16m tmpfs \"$2\" && head -c 8388608 /dev/zero > \"$2/filler\" && exec \"$1\" \
                  receive --json -n small --into \"$2\"";
    let consumer = our_binary("natsfer-consumer").unwrap();
    let arguments = ["--map-root-user", "--mount", "sh", "-c", script, "sh"].map(Into::into);
    let arguments: Vec<PathBuf> = arguments.into_iter().chain([consumer, inbox.clone()]).collect();
    let small = program("unshare", arguments).server(&server).spawn().await;
    small.log_line(SOON, |line| line.contains("the disk is full: waiting for room")).await;

    // Nobody else is held up, nor another file of this receiver that fits.
    drain(&server, "other", home.path().join("other"), &[]).await;
    files::assert_same(&source, home.path().join("other/big.bin"));
    files::random_file(home.path().join("empty"), 0, 4);
    send(&server, &[], &[home.path().join("empty")]).await;
    small.event(SOON, |event| event["name"] == "empty").await;
    assert_eq!(receipts(&server).await.len(), 2);

    // What the receiver sees is below its process's root.
    let seen = |path: &Path| PathBuf::from(format!("/proc/{}/root", small.id())).join(path.strip_prefix("/").unwrap());
    fs::remove_file(seen(&inbox.join("filler"))).unwrap();
    let received = small.event(SOON, |event| event["name"] == "big.bin").await;
    assert_eq!(received["refetched_bytes"], 0, "{received}");
    assert!(fs::read(seen(&inbox.join("big.bin"))).unwrap() == fs::read(&source).unwrap());
    small.terminate();
    let _ = small.wait().await.success();
}

#[tokio::test]
async fn a_file_beyond_the_processs_limit_is_rejected_and_the_others_come() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let inbox = home.path().join("inbox");
    for (name, size) in [("large", 12 * MIB), ("small", 1_000)] {
        files::random_file(home.path().join(name), size, size);
        send(&server, &[], &[home.path().join(name)]).await;
    }
    let script = "ulimit -f 8192 && exec \"$1\" receive --json --drain -n limited --into \"$2\"";
    let arguments = ["-c".into(), script.into(), "sh".into(), our_binary("natsfer-consumer").unwrap(), inbox.clone()];
    let received = program("sh", arguments).server(&server).run().await.exited(1);
    assert!(received.errors().contains("File too large"), "{}", received.errors());
    files::assert_same(home.path().join("small"), inbox.join("small"));
    assert!(!inbox.join("large").exists());
}
