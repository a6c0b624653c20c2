//! Who has a file, and how far the others are.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::time::Duration;

use natsfer_tests::steps::{drain, nothing_left_but, receipts, receiving, send, sending, staged_files, text};
use natsfer_tests::{Proxy, Server, eventually, files, producer};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);
const MIB: u64 = 1 << 20;

async fn status(server: &Server, id: &str) -> Vec<(String, String)> {
    let lines = producer(["status", "--json", id]).server(server).run().await.success().json_lines();
    lines.iter().map(|line| (text(line, "receiver").to_owned(), text(line, "state").to_owned())).collect()
}

fn standing(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(receiver, state)| ((*receiver).to_owned(), (*state).to_owned())).collect()
}

#[tokio::test]
async fn a_sender_waits_for_those_it_names_and_sees_the_others() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let outbox = home.path().join("outbox");
    files::random_file(outbox.join("big.bin"), 20 * MIB, 1);
    files::tree(&outbox, 5, 0..5_000, 2);
    // A receiver of other channels is not among them.
    drain(&server, "elsewhere", home.path().join("elsewhere"), &["-c", "other"]).await;
    let sender = sending(&server, &["--wait-for", "a,b"], &[outbox.join(".")]).spawn().await;
    let mut ids = Vec::new();
    for _ in 0..6 {
        let sent = sender.event(SOON, |event| event["event"] == "sent" && !ids.contains(&event["transfer"])).await;
        ids.push(sent["transfer"].clone());
    }
    drain(&server, "a", home.path().join("a"), &[]).await;
    let slow = Proxy::to(&server.url()).await;
    slow.rate(4 * MIB);
    let b = receiving(&slow, "b", home.path().join("b"), &[]).spawn().await;
    eventually("b has begun", SOON, || async { (!staged_files(&home.path().join("b"), "b").is_empty()).then_some(()) })
        .await;
    let big =
        natsfer_tests::steps::list(&server, &[]).await.into_iter().find(|entry| entry["name"] == "big.bin").unwrap();
    let big = text(&big, "transfer");
    let during = eventually("b's cursor is seen", SOON, || async {
        Some(status(&server, big).await).filter(|status| status[1].1 == "receiving")
    })
    .await;
    assert_eq!(during, standing(&[("a", "landed"), ("b", "receiving")]));
    assert!(sender.is_running());
    slow.rate(None);
    let landed: Vec<Value> =
        sender.wait().await.success().json_lines().into_iter().filter(|line| line["event"] == "landed").collect();
    assert_eq!(landed.len(), 12, "{landed:?}");
    assert_eq!(status(&server, big).await, standing(&[("a", "landed"), ("b", "landed")]));
    let text = producer(["status", big]).server(&server).run().await.success().text();
    assert!(text.contains("big.bin") && text.contains("a  landed     since 20"), "{text}");
    b.terminate();
    let _ = b.wait().await.success();
    nothing_left_but(&server, &["a", "b", "elsewhere"]).await;

    // What they have already is not waited for.
    let again = sending(&server, &["--wait-for", "a,b"], &[outbox.join(".")]).run().await.success().json_lines();
    assert!(again.iter().filter(|line| line["event"] == "sent").all(|line| line["status"] == "unchanged"), "{again:?}");
    assert_eq!(receipts(&server).await.len(), 12);
}

/// Delivered again, as after a crash before the inbox knew: recognised, and said once.
#[tokio::test]
async fn a_receipt_is_published_once_for_each_receiver() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (outbox, inbox) = (home.path().join("outbox"), home.path().join("inbox"));
    files::random_file(outbox.join("big.bin"), 3 * MIB, 1);
    files::random_file(outbox.join("small.bin"), 300, 2);
    send(&server, &[], &[outbox.join(".")]).await;
    drain(&server, "r", &inbox, &[]).await;
    // The server forgets what the receiver is done with.
    let control = server.jetstream().await.get_stream("NATSFER").await.unwrap();
    control.delete_consumer("r").await.unwrap();
    let again = drain(&server, "r", &inbox, &[]).await;
    assert!(again.len() == 2 && again.iter().all(|event| event["identical"] == true), "{again:?}");
    assert_eq!(receipts(&server).await.len(), 2);
    // What is left as it is was not landed.
    std::fs::write(outbox.join("small.bin"), "other bytes").unwrap();
    send(&server, &[], &[outbox.join("small.bin")]).await;
    let skipped = drain(&server, "r", &inbox, &["--on-conflict", "skip"]).await;
    assert_eq!(skipped[0]["event"], "skipped");
    assert_eq!(receipts(&server).await.len(), 2);
    assert_eq!(status(&server, text(&skipped[0], "transfer")).await, standing(&[("r", "done")]));
}
