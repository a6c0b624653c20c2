//! The main job on three servers that each keep a copy.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use natsfer_tests::steps::{drain, send, text};
use natsfer_tests::{Cluster, consumer, files, producer};

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
    assert_eq!(drain(&cluster, "r", &inbox, &[]).await.len(), 31);
    files::assert_same(&outbox, &inbox);

    let large = sent.iter().find(|event| event["name"] == "large.bin").unwrap();
    let range = ["cat", text(large, "transfer"), "--range", "39999990-"];
    assert_eq!(consumer(range).server(&cluster).run().await.success().stdout.len(), 10);
}
