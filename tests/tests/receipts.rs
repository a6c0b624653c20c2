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
    assert!(text.contains("big.bin") && text.contains("a         landed  since 20"), "{text}");
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

/// What a sender that waits says of those that will not have it.
fn not_landed(lines: &[Value]) -> Vec<(String, String, String)> {
    let field = |line: &Value, name| text(line, name).to_owned();
    let mut said: Vec<_> = lines
        .iter()
        .filter(|line| line["event"] == "not_landed")
        .map(|line| (field(line, "name"), field(line, "receiver"), field(line, "reason")))
        .collect();
    said.sort();
    said
}

fn reason(name: &str, receiver: &str, reason: &str) -> (String, String, String) {
    (name.to_owned(), receiver.to_owned(), reason.to_owned())
}

#[tokio::test]
async fn a_receiver_that_passes_over_a_file_is_not_waited_for() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (outbox, inbox) = (home.path().join("outbox"), home.path().join("inbox"));
    files::random_file(outbox.join("big.bin"), 3 * MIB, 1);
    files::random_file(outbox.join("free.bin"), 3 * MIB, 2);
    files::random_file(outbox.join("small.bin"), 300, 3);
    for taken in ["big.bin", "small.bin"] {
        files::random_file(inbox.join(taken), 200, 4);
    }
    let sender = sending(&server, &["--wait-for", "r"], &[outbox.join(".")]).spawn().await;
    sender.log_line(SOON, |line| line.contains("everything is stored")).await;
    let received = drain(&server, "r", &inbox, &["--on-conflict", "skip"]).await;
    assert_eq!(received.iter().filter(|event| event["event"] == "skipped").count(), 2, "{received:?}");
    let output = sender.wait().await.exited(1);
    let lines = output.json_lines();
    assert_eq!(
        not_landed(&lines),
        [reason("big.bin", "r", "passed_over"), reason("small.bin", "r", "passed_over")],
        "{lines:?}"
    );
    let landed: Vec<_> = lines.iter().filter(|line| line["event"] == "landed").map(|line| text(line, "name")).collect();
    assert_eq!(landed, ["free.bin"]);
    assert!(output.errors().contains("'r' has not landed big.bin"), "{}", output.errors());
    nothing_left_but(&server, &["r"]).await;
}

#[tokio::test]
async fn a_transfer_that_is_taken_back_or_removed_is_not_waited_for() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let outbox = home.path().join("outbox");
    files::random_file(outbox.join("big.bin"), 3 * MIB, 1);
    // A small one is removed without a mark.
    files::random_file(outbox.join("small.bin"), 300, 2);
    let sender = sending(&server, &["--wait-for", "a,b"], &[outbox.join(".")]).spawn().await;
    sender.log_line(SOON, |line| line.contains("everything is stored")).await;
    drain(&server, "a", home.path().join("a"), &[]).await;
    for _ in 0..2 {
        sender.event(SOON, |event| event["event"] == "landed").await;
    }
    for entry in natsfer_tests::steps::list(&server, &[]).await {
        let cancel = producer(["cancel", text(&entry, "transfer"), "--reason", "wrong customer"]);
        let _ = cancel.server(&server).run().await.success();
    }
    let output = sender.wait().await.exited(1);
    let lines = output.json_lines();
    assert_eq!(not_landed(&lines), [reason("big.bin", "b", "cancelled"), reason("small.bin", "b", "removed")]);
    assert!(output.errors().contains("wrong customer"), "{}", output.errors());
    nothing_left_but(&server, &["a"]).await;
}

/// Anybody may write a receipt, and one can be of what a file was before.
#[tokio::test]
async fn a_receipt_of_other_bytes_does_not_count() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let source = home.path().join("small.bin");
    files::random_file(&source, 300, 1);
    let sent = send(&server, &[], &[&source]).await.remove(0);
    let id = text(&sent, "transfer");
    let other = serde_json::json!({
        "version": 1, "transfer": id, "receiver": "r", "digest": format!("blake3:{}", "0".repeat(64)), "size": 300,
        "landed_at": "2026-01-01T00:00:00Z",
    });
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Natsfer-Receipt", other.to_string());
    let subject = format!("natsfer.receipt.default.{id}");
    let context = server.jetstream().await;
    context.publish_with_headers(subject, headers, "".into()).await.unwrap().await.unwrap();
    assert_eq!(status(&server, id).await, standing(&[]));
    let sender = sending(&server, &["--wait-for", "r"], &[&source]).spawn().await;
    sender.log_line(SOON, |line| line.contains("everything is stored")).await;
    drain(&server, "r", home.path().join("inbox"), &[]).await;
    let lines = sender.wait().await.success().json_lines();
    let landed: Vec<_> = lines.iter().filter(|line| line["event"] == "landed").collect();
    assert_eq!(landed.len(), 1, "{lines:?}");
    assert_eq!(landed[0]["digest"], sent["digest"]);
    assert_eq!(status(&server, id).await, standing(&[("r", "landed")]));
}

/// So many are followed by their channels.
#[tokio::test]
async fn many_files_are_waited_for() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let outbox = home.path().join("outbox");
    files::tree(&outbox, 80, 0..500, 5);
    let sender = sending(&server, &["--wait-for", "r"], &[outbox.join(".")]).spawn().await;
    sender.log_line(SOON, |line| line.contains("everything is stored")).await;
    drain(&server, "r", home.path().join("inbox"), &[]).await;
    let lines = sender.wait().await.success().json_lines();
    assert_eq!(lines.iter().filter(|line| line["event"] == "landed").count(), 80);
}

/// Who may not look at the others' places hears what they say all the same.
#[tokio::test]
async fn a_sender_that_may_not_look_at_receivers_waits_without() {
    const USERS: &str = r#"accounts { APP { jetstream: enabled, users: [
        { user: operator, password: secret }
        { user: sender, password: secret, permissions: { publish: {
            deny: ["$JS.API.STREAM.MSG.GET.>", "$JS.API.CONSUMER.INFO.>"] } } }
    ] } }"#;
    let server = Server::builder().config_line(USERS).login("operator", "secret").start().await;
    let home = tempfile::tempdir().unwrap();
    files::random_file(home.path().join("small.bin"), 300, 1);
    let url = |user: &str| format!("nats://{user}:secret@127.0.0.1:{}", server.port());
    let options = ["-v", "--wait-for", "r"];
    let sender = sending(url("sender").as_str(), &options, &[home.path().join("small.bin")]).spawn().await;
    sender.log_line(SOON, |line| line.contains("not all looked at") && line.contains("CONSUMER.INFO.NATSFER.r")).await;
    // A replica shows that the transfer is there.
    sender.log_line(SOON, |line| line.contains("denied something") && line.contains("STREAM.MSG.GET.NATSFER")).await;
    drain(url("operator").as_str(), "r", home.path().join("inbox"), &[]).await;
    let lines = sender.wait().await.success().json_lines();
    assert_eq!(text(&lines[1], "event"), "landed");
}
