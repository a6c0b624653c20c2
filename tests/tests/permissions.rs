//! Users who may do their work and nothing more, on streams that an operator made.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::time::Duration;

use natsfer_tests::steps::{consumers, drain, list, receiving, send, sending, stream, text};
use natsfer_tests::{Proxy, Server, document, eventually, files, producer};

/// docs/security.md's users, and a few more: one who receives and may not say so, one who may do all but remove messages, and
/// one who may do nothing.
const MORE: &str = r#"users: [
  { user: mute, password: secret-of-the-tests, permissions: {
      subscribe: ["_INBOX.>"]
      publish: [
        "$JS.API.CONSUMER.*.NATSFER.>", "$JS.API.CONSUMER.*.NATSFER_DATA.>",
        "$JS.API.CONSUMER.MSG.NEXT.NATSFER.>", "$JS.API.CONSUMER.MSG.NEXT.NATSFER_DATA.>",
        "$JS.API.DIRECT.GET.NATSFER.>", "$JS.ACK.NATSFER.>", "$JS.ACK.NATSFER_DATA.>", "$JS.FC.>"
      ] } }
  { user: keeper, password: secret-of-the-tests, permissions: { publish: { deny: ["$JS.API.STREAM.PURGE.>"] } } }
  { user: onlooker, password: secret-of-the-tests, permissions: { subscribe: ["_INBOX.>"], publish: ["elsewhere"] } }
"#;

async fn start() -> Server {
    document::start(&document::block("conf users").replacen("users: [", MORE, 1)).await
}

/// The server as this user reaches it.
fn url(server: &Server, user: &str) -> String {
    document::url(&server.url(), user)
}

/// Who may not say that it has a file, has it all the same.
#[tokio::test]
async fn a_receiver_that_may_not_speak_receives() {
    let (server, home) = (start().await, tempfile::tempdir().unwrap());
    let (outbox, inbox) = (home.path().join("outbox"), home.path().join("inbox"));
    files::tree(&outbox, 8, 0..2_500_000, 1);
    let (operator, mute) = (url(&server, "operator"), url(&server, "mute"));
    assert_eq!(send(operator.as_str(), &[], &[outbox.join(".")]).await.len(), 8);
    assert_eq!(drain(mute.as_str(), "mute", &inbox, &[]).await.len(), 8);
    files::assert_same(&outbox, &inbox);
    assert!(consumers(&server, "NATSFER_DATA").await.is_empty());
}

#[tokio::test]
async fn who_may_not_publish_is_told_so_in_time() {
    let (server, home) = (start().await, tempfile::tempdir().unwrap());
    files::random_file(home.path().join("small.bin"), 100, 1);
    files::random_file(home.path().join("large.bin"), 3_000_000, 2);
    let onlooker = url(&server, "onlooker");
    for name in ["small.bin", "large.bin"] {
        let output = sending(onlooker.as_str(), &[], &[home.path().join(name)]).run().await.exited(1);
        let errors = output.errors().to_lowercase();
        assert!(errors.contains("permission") && errors.contains("natsfer.open.default."), "{errors}");
        assert!(errors.contains(name), "{errors}");
        assert!(output.elapsed < Duration::from_secs(10), "{:?}", output.elapsed);
    }
}

#[tokio::test]
async fn who_may_not_receive_is_told_so_in_time() {
    let (server, home) = (start().await, tempfile::tempdir().unwrap());
    let onlooker = url(&server, "onlooker");
    let output = receiving(onlooker.as_str(), "none", home.path(), &["--drain"]).run().await.exited(1);
    assert!(output.errors().to_lowercase().contains("permission"), "{}", output.errors());
    assert!(output.elapsed < Duration::from_secs(10), "{:?}", output.elapsed);
}

#[tokio::test]
async fn a_wrong_password_is_told_at_once_and_not_shown() {
    let (server, home) = (start().await, tempfile::tempdir().unwrap());
    files::random_file(home.path().join("a"), 100, 1);
    let url = format!("nats://producer:hunter2@127.0.0.1:{}", server.port());
    let output = sending(url.as_str(), &[], &[home.path().join("a")]).run().await.exited(1);
    let errors = output.errors();
    assert!(errors.to_lowercase().contains("authorization"), "{errors}");
    assert!(!errors.contains("hunter2"), "{errors}");
    assert!(output.elapsed < Duration::from_secs(10), "{:?}", output.elapsed);
}

/// Whoever may not remove messages is told so before anything happens to a transfer.
#[tokio::test]
async fn prune_without_the_right_to_purge_leaves_everything_as_it_is() {
    let (server, home) = (start().await, tempfile::tempdir().unwrap());
    let (operator, keeper) = (url(&server, "operator"), url(&server, "keeper"));
    files::random_file(home.path().join("small.bin"), 100, 1);
    files::random_file(home.path().join("large.bin"), 3_000_000, 2);
    send(operator.as_str(), &[], &[home.path().join("small.bin"), home.path().join("large.bin")]).await;
    let last = || async {
        let (control, data) = (stream(&server, "NATSFER").await, stream(&server, "NATSFER_DATA").await);
        (control["state"]["last_seq"].clone(), data["state"]["last_seq"].clone())
    };
    let before = last().await;
    let prune = producer(["prune", "--older-than", "0s"]).server(keeper.as_str()).run().await.exited(1);
    let errors = prune.errors();
    assert!(errors.contains("nothing was removed") && errors.contains("not permitted"), "{errors}");
    assert_eq!(last().await, before);
    let states: Vec<_> = list(operator.as_str(), &[]).await.iter().map(|entry| entry["state"].clone()).collect();
    assert_eq!(states, ["complete", "complete"]);

    let _ = producer(["prune", "--older-than", "0s"]).server(operator.as_str()).run().await.success();
    assert!(list(operator.as_str(), &[]).await.is_empty());
}

/// To cancel is to publish; that the chunks stay is said.
#[tokio::test]
async fn cancelling_without_the_right_to_purge_says_that_the_chunks_stay() {
    let (server, home) = (start().await, tempfile::tempdir().unwrap());
    let (operator, keeper) = (url(&server, "operator"), url(&server, "keeper"));
    files::random_file(home.path().join("large.bin"), 3_000_000, 2);
    let sent = send(operator.as_str(), &[], &[home.path().join("large.bin")]).await;
    let cancel = producer(["cancel", text(&sent[0], "transfer")]).server(keeper.as_str()).run().await.exited(1);
    assert!(
        cancel.text().starts_with("cancelled  ") && cancel.text().contains("still in the stream"),
        "{}",
        cancel.text()
    );
    let errors = cancel.errors();
    assert!(errors.contains("its chunks were not removed") && errors.contains("not permitted"), "{errors}");
    assert_eq!(list(operator.as_str(), &[]).await[0]["state"], "cancelled");
    assert!(drain(operator.as_str(), "r", home.path().join("inbox"), &[]).await.is_empty());
}

/// A sender with no right but to send still takes back what its source has left behind.
#[tokio::test]
async fn a_limited_sender_cancels_what_its_source_has_changed_under() {
    let (server, home) = (start().await, tempfile::tempdir().unwrap());
    let source = home.path().join("large.bin");
    files::random_file(&source, 12 << 20, 3);
    let slow = Proxy::to(&server.url()).await;
    slow.rate(4 << 20);
    let address = document::url(&slow.url(), "producer");
    let sender = sending(address.as_str(), &["-c", "invoices.eu"], &[&source]).spawn().await;
    let operator = url(&server, "operator");
    let soon = Duration::from_secs(60);
    eventually("it is open", soon, || async { list(operator.as_str(), &[]).await.pop() }).await;
    std::fs::File::options().write(true).open(&source).unwrap().set_len(1 << 20).unwrap();
    let errors = sender.wait().await.exited(1).errors();
    assert!(errors.contains("changed while it was sent"), "{errors}");
    assert_eq!(list(operator.as_str(), &[]).await[0]["state"], "cancelled");
}
