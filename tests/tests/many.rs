//! Many small files: what a directory of sources, mails or sensor readings is.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::time::Duration;

use natsfer_tests::steps::{drain, list, nothing_left_but, number, sending, stream};
use natsfer_tests::{Server, files};

const COUNT: usize = 10_000;

#[tokio::test]
async fn ten_thousand_small_files_take_one_message_each() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (outbox, inbox) = (home.path().join("outbox"), home.path().join("inbox"));
    files::tree(&outbox, COUNT, 10..4000, 1);
    let sent = sending(&server, &[], &[outbox.join(".")]).run().await.success();
    assert_eq!(sent.json_lines().len(), COUNT);
    assert_eq!(number(&stream(&server, "NATSFER").await["state"], "messages"), COUNT as u64);
    assert_eq!(stream(&server, "NATSFER_DATA").await["state"]["messages"].as_u64().unwrap_or(0), 0);

    let started = std::time::Instant::now();
    assert_eq!(list(&server, &[]).await.len(), COUNT);
    assert!(started.elapsed() < Duration::from_secs(5), "listed in {:?}", started.elapsed());

    assert_eq!(drain(&server, "many", &inbox, &["--concurrency", "16"]).await.len(), COUNT);
    files::assert_same(&outbox, &inbox);
    nothing_left_but(&server, &["many"]).await;
}
