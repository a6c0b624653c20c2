//! The main job on three servers that each keep a copy.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::time::Duration;

use natsfer_tests::steps::{drain, receiving, send, sending, staged_files, text};
use natsfer_tests::{Cluster, Proxy, consumer, eventually, files, producer};

const SOON: Duration = Duration::from_secs(120);

#[tokio::test]
async fn three_copies_of_everything() {
    let (cluster, home) = (Cluster::start(3).await, tempfile::tempdir().unwrap());
    let init = producer(["init", "--replicas", "3", "--max-bytes", "4GiB"]).server(&cluster).run().await.success();
    assert!(
        init.text().contains("created  NATSFER") && init.text().contains("created  NATSFER_DATA"),
        "{}",
        init.text()
    );
    let outbox = home.path().join("outbox");
    files::random_file(outbox.join("large.bin"), 40_000_000, 1);
    files::tree(outbox.join("small"), 30, 0..5_000, 2);
    let sent = send(&cluster, &[], &[outbox.join(".")]).await;
    assert_eq!(sent.len(), 31);

    let inbox = home.path().join("inbox");
    // Whoever comes while a new leader is elected waits for it.
    cluster.kill(cluster.leader_of("NATSFER_DATA").await).await;
    assert_eq!(drain(&cluster, "r", &inbox, &[]).await.len(), 31);
    files::assert_same(&outbox, &inbox);

    let large = sent.iter().find(|event| event["name"] == "large.bin").unwrap();
    let range = ["cat", text(large, "transfer"), "--range", "39999990-"];
    assert_eq!(consumer(range).server(&cluster).run().await.success().stdout.len(), 10);
}

/// The leader dies while a file is on its way: that costs seconds.
#[tokio::test]
async fn a_leader_killed_while_files_are_sent_and_received() {
    let (cluster, home) = (Cluster::start(3).await, tempfile::tempdir().unwrap());
    let _ = producer(["init", "--replicas", "3", "--max-bytes", "4GiB"]).server(&cluster).run().await.success();
    let (outbox, inbox) = (home.path().join("outbox"), home.path().join("inbox"));
    files::random_file(outbox.join("large.bin"), 60_000_000, 3);
    files::tree(outbox.join("small"), 20, 0..5_000, 4);
    let receiver = receiving(&cluster, "r", &inbox, &[]).spawn().await;
    let sender = sending(&cluster, &[], &[outbox.join(".")]).spawn().await;
    eventually("a part is here", SOON, || async { (!staged_files(&inbox, "r").is_empty()).then_some(()) }).await;
    let victim = cluster.leader_of("NATSFER_DATA").await;
    cluster.kill(victim).await;
    let sent = sender.wait().await.success().json_lines();
    assert_eq!(sent.len(), 21);
    for event in &sent {
        receiver.event(SOON, |received| received["name"] == event["name"]).await;
    }
    cluster.restart(victim).await;
    receiver.terminate();
    let _ = receiver.wait().await.success();
    files::assert_same(&outbox, &inbox);
}

/// Two of three servers are away for longer than a server takes to start: nobody answers for the streams, and both sides wait.
#[tokio::test]
async fn a_cluster_without_a_quorum_is_waited_for() {
    let (cluster, home) = (Cluster::start(3).await, tempfile::tempdir().unwrap());
    let _ = producer(["init", "--replicas", "3", "--max-bytes", "4GiB"]).server(&cluster).run().await.success();
    let (source, inbox) = (home.path().join("large.bin"), home.path().join("inbox"));
    files::random_file(&source, 24_000_000, 5);
    let proxy = Proxy::to(&cluster.server(0).url()).await;
    proxy.rate(4_000_000);
    let receiver = receiving(cluster.server(0), "r", &inbox, &[]).spawn().await;
    let sender = sending(&proxy, &[], &[&source]).spawn().await;
    eventually("a part is here", SOON, || async { (!staged_files(&inbox, "r").is_empty()).then_some(()) }).await;
    for away in [1, 2] {
        cluster.server(away).pause();
    }
    sender.log_line(SOON, |line| line.contains("waiting for the server")).await;
    // Nothing shows when the time that is tried out here has passed.
    tokio::time::sleep(Duration::from_secs(15)).await;
    for away in [1, 2] {
        cluster.server(away).resume();
    }
    let _ = sender.wait().await.success();
    receiver.event(SOON, |received| received["name"] == "large.bin").await;
    files::assert_same(&source, inbox.join("large.bin"));
    receiver.terminate();
    let _ = receiver.wait().await.success();
}
