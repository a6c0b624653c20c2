//! What operators and servers set up otherwise than natsfer would: kept to, or named at once.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::time::Duration;

use async_nats::jetstream::stream;
use natsfer_tests::steps::{drain, list, send, sending, text};
use natsfer_tests::{Server, consumer, files, producer};

const SOON: Duration = Duration::from_secs(60);
const MIB: u64 = 1 << 20;

/// Changes a stream's configuration.
async fn edit(server: &Server, name: &str, change: impl FnOnce(&mut stream::Config)) {
    let jetstream = server.jetstream().await;
    let mut config = jetstream.get_stream(name).await.unwrap().cached_info().config.clone();
    change(&mut config);
    jetstream.update_stream(config).await.unwrap();
}

async fn init(server: &Server, options: &[&str]) {
    let _ = producer(["init"]).args(options).server(server).run().await.success();
}

fn renamed(from: &str, to: &str) -> Option<stream::SubjectTransform> {
    Some(stream::SubjectTransform { source: from.into(), destination: to.into() })
}

/// Nobody would find what is stored under other subjects: nothing is sent, and no source goes.
#[tokio::test]
async fn a_stream_that_renames_subjects_is_refused_before_anything_is_sent() {
    for (name, from) in [("NATSFER", "natsfer.>"), ("NATSFER", "natsfer.open.>"), ("NATSFER_DATA", "natsfer.data.>")] {
        let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
        let (small, large) = (home.path().join("outbox/small"), home.path().join("large"));
        files::random_file(&small, 100, 1);
        files::random_file(&large, 3 * MIB, 2);
        init(&server, &[]).await;
        edit(&server, name, |config| config.subject_transform = renamed(from, "site1.>")).await;
        let refused = sending(&server, &[], &[&small, &large]).run().await.exited(1).errors();
        assert_eq!(refused.matches("has a subject_transform").count(), 2, "{refused}");
        for command in ["init", "doctor"] {
            let told = producer([command]).server(&server).run().await.exited(1);
            assert!(format!("{}{}", told.text(), told.errors()).contains("subject_transform"), "{}", told.errors());
        }
        let watching = producer(["watch", "--then", "delete", "--settle", "0s"]).arg(home.path().join("outbox"));
        let watching = watching.server(&server).spawn().await;
        watching.log_line(SOON, |line| line.contains("subject_transform")).await;
        watching.terminate();
        let _ = watching.wait().await;
        assert!(small.exists());
        assert_eq!(list(&server, &[]).await, Vec::<serde_json::Value>::new());
    }
}

/// Who may not look at streams looks at the message.
#[tokio::test]
async fn an_acknowledgement_alone_is_not_believed() {
    let accounts = "accounts { A { jetstream: enabled, users: [ { user: operator, password: secret-of-the-tests }, \
                    { user: sender, password: secret-of-the-tests, permissions: { publish: { deny: [\"$JS.API.STREAM.INFO.>\"] } } } ] } }";
    let server = Server::builder().config_line(accounts).login("operator", "secret-of-the-tests").start().await;
    let home = tempfile::tempdir().unwrap();
    let small = home.path().join("small");
    files::random_file(&small, 100, 1);
    let login = |user: &str| format!("nats://{user}:secret-of-the-tests@127.0.0.1:{}", server.port());
    let _ = producer(["init"]).server(login("operator").as_str()).run().await.success();
    let _ = sending(login("sender").as_str(), &["--name", "before"], &[&small]).run().await.success();
    edit(&server, "NATSFER", |config| config.subject_transform = renamed("natsfer.>", "site1.natsfer.>")).await;
    let refused = sending(login("sender").as_str(), &[], &[&small]).run().await.exited(1).errors();
    assert!(refused.contains("does not have it where receivers look"), "{refused}");
}

/// What only worries is told by the doctor; what keeps files from being sent is not asked of a receiver.
#[tokio::test]
async fn other_settings_are_told_by_what_they_mean() {
    let server = Server::start().await;
    init(&server, &[]).await;
    edit(&server, "NATSFER", |config| {
        config.allow_rollup = true;
        config.max_age = Duration::from_secs(5 * 60);
        config.republish =
            Some(stream::Republish { source: ">".into(), destination: "copy.>".into(), headers_only: false });
    })
    .await;
    let told = producer(["doctor"]).server(&server).run().await.success().text();
    for words in ["allow_rollup_hdrs", "copy.>", "after 300 s"] {
        assert!(told.lines().any(|line| line.starts_with("warn") && line.contains(words)), "{words}: {told}");
    }
    edit(&server, "NATSFER_DATA", |config| config.sealed = true).await;
    assert!(producer(["doctor"]).server(&server).run().await.exited(1).text().contains("is sealed"));
    assert!(consumer(["doctor"]).server(&server).run().await.success().text().contains("is sealed"));
}

/// Of a limit that the server does not tell when it greets, it says only that it was broken, by ending the connection.
#[tokio::test]
async fn a_limit_of_the_account_or_the_stream_makes_chunks_smaller() {
    let accounts = "accounts { A { jetstream: enabled, limits: { max_payload: 100000 }, \
                    users: [ { user: a, password: secret-of-the-tests } ] } }";
    let server = Server::builder().config_line(accounts).login("a", "secret-of-the-tests").start().await;
    let url = format!("nats://a:secret-of-the-tests@127.0.0.1:{}", server.port());
    let home = tempfile::tempdir().unwrap();
    let (outbox, inbox) = (home.path().join("outbox"), home.path().join("inbox"));
    // In chunks; in its manifest's message, if that were taken.
    files::random_file(outbox.join("large"), 3 * MIB, 1);
    files::random_file(outbox.join("medium"), 300_000, 2);
    let sent = sending(url.as_str(), &[], &[outbox.join(".")]).run().await.success();
    assert!(sent.errors().contains("max_payload of this account or user"), "{}", sent.errors());
    let told = producer(["doctor"]).server(url.as_str()).run().await.success().text();
    assert!(told.contains("this account or user may have less"), "{told}");
    let too_large = sending(url.as_str(), &["--chunk-size", "512KiB", "--name", "other"], &[outbox.join("large")]);
    let too_large = too_large.run().await.exited(1).errors();
    assert!(too_large.contains("max_payload"), "{too_large}");
    drain(url.as_str(), "r", &inbox, &[]).await;
    files::assert_same(&outbox, &inbox);
    // Of a stream.
    let server = Server::start().await;
    init(&server, &[]).await;
    for name in ["NATSFER", "NATSFER_DATA"] {
        edit(&server, name, |config| config.max_message_size = 60_000).await;
    }
    send(&server, &[], &[outbox.join(".")]).await;
    let inbox = home.path().join("second");
    drain(&server, "r", &inbox, &[]).await;
    files::assert_same(&outbox, &inbox);
}

/// Sending again gets through, whatever the limit has become meanwhile.
#[tokio::test]
async fn a_transfer_whose_chunks_do_not_fit_any_more_is_sent_anew() {
    let home = tempfile::tempdir().unwrap();
    let source = home.path().join("big");
    files::random_file(&source, 24 * MIB, 1);
    // The server's own, while it is under way.
    let server = Server::builder().max_payload(2 << 20).start().await;
    let slow = ["--rate", "4MiB", "--compression", "none", "--chunk-size", "1MiB"];
    let sender = sending(&server, &slow, &[&source]).spawn().await;
    natsfer_tests::eventually("some of it is stored", SOON, || async {
        let stream = server.jetstream().await.get_stream("NATSFER_DATA").await.ok()?;
        (stream.cached_info().state.messages > 3).then_some(())
    })
    .await;
    sender.kill();
    let _ = sender.end().await;
    server.set_config_lines(&["max_payload: 262144"]);
    server.restart().await;
    let sent = send(&server, &["--compression", "none"], &[&source]).await;
    assert_eq!(text(&sent[0], "event"), "sent");
    drain(&server, "r", home.path().join("first"), &[]).await;
    files::assert_same(&source, home.path().join("first/big"));
    // Nothing of the first try is left in the way.
    let states: Vec<_> = list(&server, &[]).await.iter().map(|entry| text(entry, "state").to_owned()).collect();
    assert_eq!(states, ["cancelled", "complete"]);
    // The stream's, with a complete transfer that has lost a chunk.
    let server = Server::start().await;
    send(&server, &["--compression", "none"], &[&source]).await;
    let data = server.jetstream().await.get_stream("NATSFER_DATA").await.unwrap();
    data.delete_message(3).await.unwrap();
    edit(&server, "NATSFER_DATA", |config| config.max_message_size = 262_144).await;
    send(&server, &["--compression", "none"], &[&source]).await;
    drain(&server, "r", home.path().join("second"), &[]).await;
    files::assert_same(&source, home.path().join("second/big"));
    // An id that was given is no other's: that is said.
    let server = Server::start().await;
    let given = ["--compression", "none", "--chunk-size", "512KiB", "--name", "n", "--transfer-id", "00112233445566778899aabbccddeeff"];
    init(&server, &[]).await;
    let sender = sending(&server, &[&given[..], &["--rate", "2MiB"]].concat(), &["-"]);
    let sender = sender.stdin_bytes(std::fs::read(&source).unwrap()).spawn().await;
    natsfer_tests::eventually("some of it is stored", SOON, || async {
        let stream = server.jetstream().await.get_stream("NATSFER_DATA").await.ok()?;
        (stream.cached_info().state.messages > 3).then_some(())
    })
    .await;
    sender.kill();
    let _ = sender.end().await;
    edit(&server, "NATSFER_DATA", |config| config.max_message_size = 262_144).await;
    let given = [&given[..2], &given[4..]].concat();
    let refused = sending(&server, &given, &["-"]).stdin_bytes(std::fs::read(&source).unwrap()).run().await.exited(1);
    assert!(refused.errors().contains("too large now; choose another id"), "{}", refused.errors());
}

