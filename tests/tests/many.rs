//! Many small files: what a directory of sources, mails or sensor readings is.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use natsfer_tests::steps::{drain, list, nothing_left_but, number, send, sending, stream, text};
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

/// The server takes few consumers, and makes them slowly.
#[tokio::test]
async fn small_files_that_are_sent_again_take_no_consumers() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let outbox = home.path().join("outbox");
    files::tree(&outbox, 100, 10..4000, 2);
    send(&server, &[], &[outbox.join(".")]).await;
    let client = server.jetstream().await.client();
    let mut made = client.subscribe("$JS.EVENT.ADVISORY.CONSUMER.CREATED.>").await.unwrap();
    client.flush().await.unwrap();
    let again = send(&server, &[], &[outbox.join(".")]).await;
    assert!(again.len() == 100 && again.iter().all(|sent| text(sent, "status") == "unchanged"));
    // It takes a few itself. What the server has said before comes before that.
    list(&server, &[]).await;
    let first = tokio::time::timeout(Duration::from_secs(60), made.next()).await.unwrap().unwrap();
    let rest = std::iter::from_fn(|| made.next().now_or_never().flatten());
    let subjects: Vec<_> = std::iter::once(first).chain(rest).map(|message| message.subject.to_string()).collect();
    assert!(subjects.len() < 10, "{subjects:?}");
}
