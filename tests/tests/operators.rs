//! What operators and servers set up otherwise than natsfer would: kept to, or named at once.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::time::Duration;

use async_nats::jetstream::stream;
use natsfer_tests::steps::{drain, list, number, receipts, receiving, send, sending, text};
use natsfer_tests::{Running, Server, consumer, eventually, files, producer};
use serde_json::{Value, json};

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

/// Kills a sender once some of its file is stored.
async fn kill_half_way(server: &Server, sender: Running) {
    eventually("some of it is stored", SOON, || async {
        let stream = server.jetstream().await.get_stream("NATSFER_DATA").await.ok()?;
        (stream.cached_info().state.messages > 3).then_some(())
    })
    .await;
    sender.kill();
    let _ = sender.end().await;
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
        assert_eq!(list(&server, &[]).await, Vec::<Value>::new());
    }
}

/// Also while it is at work: before a source goes, its message is looked for where receivers look.
#[tokio::test]
async fn a_source_goes_only_if_its_message_is_found() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let outbox = home.path().join("outbox");
    let (first, second) = (outbox.join("first"), outbox.join("second"));
    files::random_file(&first, 100, 1);
    init(&server, &[]).await;
    let watching = producer(["watch", "--json", "--then", "delete", "--settle", "0s"]).arg(&outbox).server(&server);
    let watching = watching.spawn().await;
    watching.event(SOON, |event| event["event"] == "deleted").await;
    edit(&server, "NATSFER", |config| config.subject_transform = renamed("natsfer.>", "site1.natsfer.>")).await;
    files::random_file(&second, 100, 2);
    let is_told = |line: &str| line.contains("where receivers look for it") || line.contains("subject_transform");
    watching.log_line(SOON, is_told).await;
    watching.terminate();
    let _ = watching.wait().await;
    assert!(second.exists() && !first.exists());
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
    kill_half_way(&server, sender).await;
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
    let given = [
        "--compression",
        "none",
        "--chunk-size",
        "512KiB",
        "--name",
        "n",
        "--transfer-id",
        "00112233445566778899aabbccddeeff",
    ];
    init(&server, &[]).await;
    let sender = sending(&server, &[&given[..], &["--rate", "2MiB"]].concat(), &["-"]);
    let sender = sender.stdin_bytes(std::fs::read(&source).unwrap()).spawn().await;
    kill_half_way(&server, sender).await;
    edit(&server, "NATSFER_DATA", |config| config.max_message_size = 262_144).await;
    let given = [&given[..2], &given[4..]].concat();
    let refused = sending(&server, &given, &["-"]).stdin_bytes(std::fs::read(&source).unwrap()).run().await.exited(1);
    assert!(refused.errors().contains("too large now; choose another id"), "{}", refused.errors());
}

/// Asks JetStream's API.
async fn api(server: &Server, subject: &str, request: Value) -> Value {
    let answer = server.client().await.request(format!("$JS.API.{subject}"), request.to_string().into()).await.unwrap();
    serde_json::from_slice(&answer.payload).unwrap()
}

/// What server, account and stream grant consumers is taken, where it is less than is asked for.
#[tokio::test]
async fn consumers_are_kept_to_what_is_granted() {
    let login = ["a", "secret-of-the-tests"];
    let of_account = "accounts { A { users: [ { user: a, password: secret-of-the-tests } ], \
                      jetstream { max_file: 1GB, max_mem: 1MB, max_ack_pending: 50 } } }";
    let servers = [
        (Server::builder().jetstream_line("limits { max_ack_pending: 50, max_request_batch: 3 }").start().await, None),
        (Server::builder().config_line(of_account).login(login[0], login[1]).start().await, Some(login)),
        (Server::start().await, None),
    ];
    let home = tempfile::tempdir().unwrap();
    let outbox = home.path().join("outbox");
    files::tree(&outbox, 70, 0..3_000, 1);
    files::random_file(outbox.join("large"), 4 * MIB, 1);
    for (number, (server, login)) in servers.iter().enumerate() {
        let inbox = home.path().join(number.to_string());
        let login = login.map(|[user, password]| format!("{user}:{password}@")).unwrap_or_default();
        let url = format!("nats://{login}127.0.0.1:{}", server.port());
        let _ = producer(["init"]).server(url.as_str()).run().await.success();
        if number == 2 {
            for name in ["NATSFER", "NATSFER_DATA"] {
                let mut config = api(server, &format!("STREAM.INFO.{name}"), json!({})).await["config"].take();
                config["consumer_limits"] =
                    json!({ "max_ack_pending": 50, "inactive_threshold": 3_600_000_000_000_u64 });
                let edited = api(server, &format!("STREAM.UPDATE.{name}"), config).await;
                assert!(edited["error"].is_null(), "{edited}");
            }
        }
        send(url.as_str(), &["--chunk-size", "16KiB"], &[outbox.join(".")]).await;
        drain(url.as_str(), "r", &inbox, &[]).await;
        files::assert_same(&outbox, &inbox);
        let told = consumer(["doctor", "-n", "r"]).server(url.as_str()).run().await.success().text();
        assert!(number == 0 || told.contains("50 unacknowledged"), "{told}");
    }
}

const OFF: &str = "accounts { A { users: [ { user: a, password: secret-of-the-tests } ] } }";
const ON: &str = "accounts { A { jetstream: enabled, users: [ { user: a, password: secret-of-the-tests } ] } }";

/// Where JetStream is off for a while, who works waits for it and says so, and who looks is told so at once.
#[tokio::test]
async fn jetstream_may_be_off_for_a_while() {
    let server = Server::builder().config_line(ON).login("a", "secret-of-the-tests").start().await;
    let url = format!("nats://a:secret-of-the-tests@127.0.0.1:{}", server.port());
    let home = tempfile::tempdir().unwrap();
    let (source, inbox) = (home.path().join("big"), home.path().join("inbox"));
    files::random_file(&source, 16 * MIB, 1);
    let receiver = receiving(url.as_str(), "r", &inbox, &[]).spawn().await;
    let sender = sending(url.as_str(), &["--rate", "4MiB", "--compression", "none"], &[&source]).spawn().await;
    eventually("some of it is stored", SOON, || async {
        let stream = server.jetstream().await.get_stream("NATSFER_DATA").await.ok()?;
        (stream.cached_info().state.messages > 3).then_some(())
    })
    .await;
    server.set_config_lines(&[OFF]);
    server.reload().await;
    let is_told = |line: &str| line.contains("JetStream is not there");
    sender.log_line(SOON, is_told).await;
    receiver.log_line(SOON, is_told).await;
    // Who comes meanwhile is told so, too.
    let late = [
        sending(url.as_str(), &["--name", "late"], &[&source]),
        receiving(url.as_str(), "s", home.path().join("s"), &[]),
    ];
    for late in late {
        let late = late.spawn().await;
        late.log_line(SOON, is_told).await;
        late.terminate();
        let _ = late.wait().await;
    }
    for looking in
        [consumer(["list"]), consumer(["receivers"]), producer(["history"]), producer(["history", "--follow"])]
    {
        let told = looking.server(url.as_str()).limit(Duration::from_secs(60)).run().await.exited(1).errors();
        assert!(is_told(&told), "{told}");
    }
    assert!(receiver.is_running() && sender.is_running());
    server.set_config_lines(&[ON]);
    server.reload().await;
    let _ = sender.wait().await.success();
    receiver.event(SOON, |event| event["event"] == "received").await;
    receiver.terminate();
    let _ = receiver.wait().await.success();
    files::assert_same(&source, inbox.join("big"));
}

/// Over WebSocket, as where only a proxy for the web leads to the server.
#[tokio::test]
async fn a_websocket_is_a_way_too() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    drop(taken);
    let line = format!("websocket {{ listen: \"127.0.0.1:{port}\", no_tls: true }}");
    let (server, home) = (Server::builder().config_line(line).start().await, tempfile::tempdir().unwrap());
    let (url, outbox, inbox) =
        (format!("ws://127.0.0.1:{port}"), home.path().join("outbox"), home.path().join("inbox"));
    files::tree(&outbox, 5, 0..2_000_000, 1);
    send(url.as_str(), &[], &[outbox.join(".")]).await;
    drain(url.as_str(), "r", &inbox, &[]).await;
    files::assert_same(&outbox, &inbox);
    // A port that takes none.
    for scheme in ["ws", "wss"] {
        let wrong = format!("{scheme}://127.0.0.1:{}", server.port());
        let told = consumer(["list"]).server(wrong.as_str()).run().await.exited(1).errors();
        assert!(told.contains("does it take WebSockets") && told.lines().count() == 1, "{told}");
    }
}

/// What is sealed is read, and nobody is told that it was.
#[tokio::test]
async fn an_archive_is_received() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (outbox, inbox) = (home.path().join("outbox"), home.path().join("inbox"));
    files::tree(&outbox, 4, 0..2_000_000, 1);
    send(&server, &[], &[outbox.join(".")]).await;
    for name in ["NATSFER", "NATSFER_DATA"] {
        edit(&server, name, |config| config.sealed = true).await;
    }
    let received = receiving(&server, "r", &inbox, &["--drain"]).run().await.success().errors();
    assert_eq!(received.matches("no receipts can be stored in an archive").count(), 1, "{received}");
    files::assert_same(&outbox, &inbox);
    assert_eq!(receipts(&server).await, []);
    let refused = sending(&server, &["--name", "new"], &[outbox.join(".")]).run().await.exited(2);
    drop(refused);
    files::random_file(home.path().join("new"), 10, 1);
    let refused = sending(&server, &[], &[home.path().join("new")]).run().await.exited(1).errors();
    assert!(refused.contains("is sealed"), "{refused}");
}

/// Silence has a reason: an operator's pause is told when it begins, and when it ends.
#[tokio::test]
async fn a_paused_inbox_is_told() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let source = home.path().join("a");
    files::random_file(&source, 100, 1);
    drain(&server, "r", home.path().join("inbox"), &[]).await;
    let pause = |until: &'static str| api(&server, "CONSUMER.PAUSE.NATSFER.r", json!({ "pause_until": until }));
    let paused = pause("2099-01-01T00:00:00Z").await;
    assert_eq!(paused["paused"], true, "{paused}");
    send(&server, &[], &[&source]).await;
    let receiver = receiving(&server, "r", home.path().join("inbox"), &[]).spawn().await;
    receiver.log_line(SOON, |line| line.contains("has paused this receiver's inbox")).await;
    let told = consumer(["doctor", "-n", "r"]).server(&server).run().await.success().text();
    assert!(told.contains("has paused its inbox"), "{told}");
    assert!(consumer(["receivers"]).server(&server).run().await.success().text().contains("paused"));
    let _ = pause("2000-01-01T00:00:00Z").await;
    receiver.event(SOON, |event| event["event"] == "received").await;
    receiver.terminate();
    let _ = receiver.wait().await.success();
}

/// Copies that several senders have stored take room, too.
#[tokio::test]
async fn a_list_counts_copies() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let source = home.path().join("a");
    files::random_file(&source, 3 * MIB, 1);
    send(&server, &["--compression", "none"], &[&source]).await;
    assert_eq!(number(&list(&server, &[]).await[0], "stored_bytes"), 3 * MIB);
    let (jetstream, mut copies) = (server.jetstream().await, 0);
    let data = jetstream.get_stream("NATSFER_DATA").await.unwrap();
    for sequence in 1..=4 {
        let chunk = data.get_raw_message(sequence).await.unwrap();
        let mut headers = async_nats::HeaderMap::new();
        for (name, values) in
            chunk.headers.iter().filter(|(name, _)| AsRef::<str>::as_ref(*name).starts_with("Natsfer-"))
        {
            headers.insert(name.clone(), values[0].clone());
        }
        copies += chunk.payload.len() as u64;
        let _ = jetstream.publish_with_headers(chunk.subject, headers, chunk.payload).await.unwrap().await.unwrap();
    }
    let listed = list(&server, &[]).await;
    assert!(listed[0].to_string().contains(&(3 * MIB + copies).to_string()), "{listed:?}");
}

/// An operator may be about to restore them: nobody at work makes the streams anew.
#[tokio::test]
async fn streams_that_are_gone_are_made_by_an_operator() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (first, second) = (home.path().join("outbox/first"), home.path().join("outbox/second"));
    files::random_file(&first, 100, 1);
    let receiver = receiving(&server, "r", home.path().join("inbox"), &[]).spawn().await;
    let watcher = producer(["watch", "--settle", "0s"]).arg(home.path().join("outbox")).server(&server).spawn().await;
    receiver.event(SOON, |event| event["name"] == "first").await;
    for name in ["NATSFER", "NATSFER_DATA"] {
        server.jetstream().await.delete_stream(name).await.unwrap();
    }
    files::random_file(&second, 100, 2);
    let are_gone = |line: &str| line.contains("not made anew while somebody may restore them");
    watcher.log_line(SOON, are_gone).await;
    receiver.log_line(SOON, are_gone).await;
    assert!(server.jetstream().await.get_stream("NATSFER").await.is_err());
    init(&server, &[]).await;
    receiver.event(SOON, |event| event["name"] == "second").await;
    for running in [receiver, watcher] {
        running.terminate();
        let _ = running.wait().await;
    }
}
