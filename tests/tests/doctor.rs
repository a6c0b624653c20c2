//! `doctor`: what is as it should be, what is not, and what to change; and that looking changes nothing.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_nats::jetstream;
use natsfer_tests::steps::{consumers, drain, receiving, send, sending, stream};
use natsfer_tests::{Address, Command, Server, consumer, document, files, our_binary, producer, program};
use serde_json::{Value, json};

const MIB: u64 = 1 << 20;

fn for_producer(server: &(impl Address + ?Sized), options: &[&str]) -> Command {
    producer(["doctor", "--json"]).args(options).server(server)
}

fn for_consumer(server: &(impl Address + ?Sized), options: &[&str]) -> Command {
    consumer(["doctor", "--json"]).args(options).server(server)
}

/// The findings that are not in order.
async fn wrong(command: Command, code: i32) -> Vec<Value> {
    let mut findings = command.run().await.exited(code).json_lines();
    findings.retain(|finding| finding["verdict"] != "ok");
    findings
}

/// Whether there is one of this verdict about this, with these words in what was found or what to change.
#[track_caller]
fn has(findings: &[Value], verdict: &str, check: &str, words: &str) {
    let is_it = |finding: &&Value| {
        let text = format!("{} {}", finding["found"], finding["change"]);
        finding["verdict"] == verdict
            && finding["check"] == check
            && text.contains(words)
            && finding["change"].is_string()
    };
    assert!(findings.iter().any(|finding| is_it(&finding)), "no {verdict} of {check} with '{words}': {findings:#?}");
}

/// All that can be told from outside of whether something was left or taken.
async fn state(server: &Server) -> Value {
    let mut all = Vec::new();
    for name in ["NATSFER", "NATSFER_DATA"] {
        let stream = stream(server, name).await;
        let inboxes = stream["consumer_detail"].as_array().into_iter().flatten();
        let inboxes = inboxes.map(|inbox| {
            json!([inbox["name"], inbox["num_pending"], inbox["num_ack_pending"], inbox["delivered"]["consumer_seq"]])
        });
        all.push(json!([stream["state"]["last_seq"], stream["state"]["messages"], inboxes.collect::<Value>()]));
    }
    all.into()
}

/// Every path below a directory.
fn listing(directory: &Path) -> BTreeSet<PathBuf> {
    let below = directory.read_dir().unwrap().map(|entry| entry.unwrap().path());
    below.flat_map(|path| if path.is_dir() { listing(&path) } else { [path].into() }).collect()
}

#[tokio::test]
async fn where_all_is_well_it_says_so_and_leaves_nothing_behind() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (outbox, inbox) = (home.path().join("outbox"), home.path().join("inbox"));
    files::tree(&outbox, 4, 0..2_000_000, 1);
    // Nothing is there yet.
    let findings = wrong(for_producer(&server, &[]), 0).await;
    has(&findings, "warn", "stream NATSFER", "natsfer-producer init");
    assert_eq!((findings.len(), state(&server).await), (2, state(&server).await));
    assert!(stream(&server, "NATSFER").await.is_null());

    send(&server, &[], &[outbox.join(".")]).await;
    let _ = receiving(&server, "billing", &inbox, &["--count", "2"]).run().await.success();
    let (before, files) = (state(&server).await, listing(&inbox));
    let inbox_text = inbox.to_str().unwrap();
    for command in [
        for_producer(&server, &["--wait-for", "billing"]),
        for_consumer(&server, &["-n", "billing", "--into", inbox_text]),
        for_consumer(&server, &[]),
    ] {
        assert_eq!(wrong(command, 0).await, Vec::<Value>::new());
        assert_eq!(state(&server).await, before);
    }
    assert_eq!(listing(&inbox), files);
    drain(&server, "billing", &inbox, &[]).await;
    files::assert_same(&outbox, &inbox);
    let text = consumer(["doctor", "-n", "billing"]).server(&server).run().await.success();
    assert!(text.text().lines().all(|line| line.starts_with("ok    ")), "{}", text.text());
    assert!(text.errors().contains("nothing is wrong"), "{}", text.errors());
}

#[tokio::test]
async fn a_server_that_is_not_there_or_does_not_let_in_is_a_failure() {
    let findings = wrong(for_producer("nats://127.0.0.1:1", &[]), 1).await;
    has(&findings, "fail", "connection", "--server URL");
    let server = document::start(&document::block("conf users")).await;
    let url = format!("nats://producer:hunter2@127.0.0.1:{}", server.port());
    let findings = wrong(for_producer(url.as_str(), &[]), 1).await;
    has(&findings, "fail", "connection", "--creds");
    assert!(!format!("{findings:?}").contains("hunter2"));
}

#[tokio::test]
async fn without_jetstream_it_says_where_to_enable_it() {
    let accounts = "accounts { JS: { jetstream: enabled, users: [{ user: operator, password: secret-of-the-tests }] }, \
                    PLAIN: { users: [{ user: plain, password: secret-of-the-tests }] } }";
    let server = Server::builder().config_line(accounts).login("operator", document::SECRET).start().await;
    let plain = document::url(&server.url(), "plain");
    for command in [for_producer(plain.as_str(), &[]), for_consumer(plain.as_str(), &["-n", "r"])] {
        has(&wrong(command, 1).await, "fail", "JetStream", "jetstream: enabled");
    }
}

/// Who asks no doctor, and waits, is told where to look, too; and waits on, for somebody may be about to enable it.
#[tokio::test]
async fn where_no_jetstream_answers_who_waits_is_told_of_it() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    files::random_file(home.path().join("a"), 100, 1);
    let nowhere = ["-v", "--js-domain", "nowhere"];
    for command in [
        sending(&server, &nowhere, &[home.path().join("a")]),
        receiving(&server, "r", home.path().join("in"), &nowhere),
    ] {
        let waiting = command.spawn().await;
        let is_told = |line: &str| line.contains("WARN") && line.contains("JetStream is not there");
        waiting.log_line(Duration::from_secs(60), is_told).await;
        // Tries come 2 s apart at most: for longer than streams that never were there are waited for.
        let mut tries = 0;
        let is_tried_often = |line: &str| {
            tries += u32::from(line.contains("waiting for the server"));
            tries > 12
        };
        waiting.log_line(Duration::from_secs(60), is_tried_often).await;
        assert!(waiting.is_running());
        waiting.kill();
    }
}

#[tokio::test]
async fn an_old_server_works_and_a_newer_one_is_advised() {
    let (server, home) = (Server::builder().version("2.10.26").start().await, tempfile::tempdir().unwrap());
    files::random_file(home.path().join("a"), 100, 1);
    send(&server, &[], &[home.path().join("a")]).await;
    for command in [for_producer(&server, &[]), for_consumer(&server, &["-n", "r"])] {
        let findings = wrong(command, 0).await;
        has(&findings, "warn", "server", "2.14.3");
        assert_eq!(findings.len(), 1, "{findings:?}");
    }
}

#[tokio::test]
async fn streams_with_other_settings_are_told_with_how_to_change_them() {
    let server = Server::start().await;
    let jetstream = server.jetstream().await;
    let control = jetstream::stream::Config {
        name: "NATSFER".into(),
        subjects: vec!["natsfer.open.>".into(), "natsfer.close.>".into()],
        max_age: Duration::from_secs(3_600),
        ..Default::default()
    };
    let data = jetstream::stream::Config {
        name: "NATSFER_DATA".into(),
        subjects: vec!["natsfer.data.>".into()],
        storage: jetstream::stream::StorageType::Memory,
        discard: jetstream::stream::DiscardPolicy::Old,
        max_messages_per_subject: 5,
        duplicate_window: Duration::from_millis(100),
        max_message_size: 100_000,
        ..Default::default()
    };
    jetstream.create_stream(control).await.unwrap();
    jetstream.create_stream(data).await.unwrap();
    let findings = wrong(for_producer(&server, &[]), 1).await;
    has(&findings, "fail", "stream NATSFER", "natsfer.receipt.>");
    has(&findings, "warn", "stream NATSFER", "--discard=new");
    has(&findings, "warn", "stream NATSFER", "shorter time than the chunks");
    has(&findings, "warn", "stream NATSFER", "--allow-direct");
    has(&findings, "fail", "stream NATSFER_DATA", "--max-msgs-per-subject=-1");
    for words in ["--discard=new", "kept in memory", "--dupe-window=2m", "--max-msg-size=-1"] {
        has(&findings, "warn", "stream NATSFER_DATA", words);
    }
    // What is needed, `init` demands, too.
    let init = producer(["init"]).server(&server).run().await.exited(1);
    assert!(init.errors().contains("natsfer.receipt.>"), "{}", init.errors());
}

#[tokio::test]
async fn a_full_stream_is_a_failure() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let _ = producer(["init", "--max-bytes", "4MiB"]).server(&server).run().await.success();
    files::random_file(home.path().join("big"), 3_400_000, 1);
    send(&server, &["--compression", "none"], &[home.path().join("big")]).await;
    let findings = wrong(for_producer(&server, &[]), 1).await;
    has(&findings, "fail", "stream NATSFER_DATA", "is full");
    has(&findings, "fail", "stream NATSFER_DATA", "natsfer-producer prune");
}

/// The subjects that a user of docs/security.md may publish on: each is needed for something.
fn rights(user: &str) -> Vec<String> {
    let block = document::block("conf users");
    let of_user = block.split_once(&format!("user: {user},")).unwrap().1;
    let allowed = of_user.split_once("allow: [").unwrap().1.split_once(']').unwrap().0;
    let quoted = allowed.lines().filter(|line| !line.trim_start().starts_with('#'));
    let quoted = quoted.flat_map(|line| line.split('"').skip(1).step_by(2).map(str::to_owned));
    // Tried by a round trip, or by none: the new form of acknowledgements.
    quoted.filter(|right| right != "natsfer.ping" && !right.starts_with("$JS.ACK.*.*.")).collect()
}

/// Users who may do all but one thing.
fn users_without(rights: &[String]) -> String {
    let mut users = String::new();
    for (number, right) in rights.iter().enumerate() {
        let denied = format!("permissions: {{ publish: {{ deny: [\"{right}\"] }} }}");
        let _ = writeln!(users, "{{ user: without{number}, password: {}, {denied} }}", document::SECRET);
    }
    let operator = format!("{{ user: operator, password: {} }}", document::SECRET);
    format!("accounts {{ FILES {{ jetstream: enabled, users: [ {operator}\n{users} ] }} }}")
}

fn selects(right: &str, told: &str) -> bool {
    let mut told = told.split('.');
    for token in right.split('.') {
        match (token, told.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (token, Some(other)) if token == other => {}
            _ => return false,
        }
    }
    told.next().is_none()
}

/// Every right of docs/security.md is missed where it is denied, by the name it is permitted under.
async fn each_is_missed(user: &str, run: impl Fn(&str) -> Command) {
    let rights = rights(user);
    assert!(rights.len() > 12, "{rights:?}");
    let server = document::start(&users_without(&rights)).await;
    for (number, right) in rights.iter().enumerate() {
        let url = document::url(&server.url(), &format!("without{number}"));
        let mut findings = run(url.as_str()).run().await.json_lines();
        findings.retain(|finding| finding["verdict"] != "ok");
        let tells = |finding: &Value| {
            let found = finding["found"].as_str().unwrap();
            let denied = found.strip_prefix("not permitted: ").and_then(|rest| rest.split(';').next());
            denied.is_some_and(|denied| denied.split(", ").any(|denied| selects(right, denied)))
                && finding["change"].as_str().unwrap().contains("permitted")
        };
        assert!(findings.iter().any(tells), "without {right}: {findings:#?}");
    }
}

#[tokio::test]
async fn each_right_that_a_producer_lacks_is_told() {
    each_is_missed("producer", |url| for_producer(url, &["-c", "invoices.eu", "--wait-for", "billing"])).await;
}

#[tokio::test]
async fn each_right_that_a_receiver_lacks_is_told() {
    each_is_missed("billing", |url| for_consumer(url, &["-n", "billing", "-c", "invoices.>"])).await;
}

/// docs/security.md's users have what their work needs; what they are not to do is told, and no warning.
#[tokio::test]
async fn the_published_rights_are_enough() {
    let server = document::start(&document::block("conf users")).await;
    let url = |user| document::url(&server.url(), user);
    let is_about = |finding: &&Value, check: &str| finding["check"] == format!("rights: {check}");
    let sender = for_producer(url("producer").as_str(), &["-c", "invoices.eu", "--wait-for", "billing"]);
    let sender = sender.run().await.success().json_lines();
    for (check, denied) in
        [("cancel, prune", "$JS.API.STREAM.PURGE.NATSFER"), ("init", "$JS.API.STREAM.CREATE.NATSFER")]
    {
        let lines: Vec<_> = sender.iter().filter(|finding| is_about(finding, check)).collect();
        assert!(lines.len() == 1 && lines[0]["found"].to_string().contains(denied), "{sender:#?}");
    }
    let is_warning = |finding: &&Value| finding["verdict"] != "ok";
    let warned: Vec<_> = sender.iter().filter(is_warning).map(|finding| &finding["check"]).collect();
    assert_eq!(warned, ["receiver billing"], "there is none yet");
    let elsewhere = wrong(for_producer(url("producer").as_str(), &["-c", "payroll"]), 1).await;
    has(&elsewhere, "fail", "rights: send", "natsfer.open.payroll.*");
    let receiver = wrong(for_consumer(url("billing").as_str(), &["-n", "billing", "-c", "invoices.>"]), 0).await;
    assert_eq!(receiver, Vec::<Value>::new());
    let other = wrong(for_consumer(url("billing").as_str(), &["-n", "archive", "-c", "invoices.>"]), 1).await;
    has(&other, "fail", "rights: receive", "CONSUMER.MSG.NEXT.NATSFER.archive");
    let auditor = wrong(for_consumer(url("auditor").as_str(), &["-c", "invoices.>"]), 1).await;
    has(&auditor, "fail", "rights: list, replay", "natsfer.data.invoices.>");
}

/// Before the operator has made the streams, a user who may not make them can do nothing: that is said, and soon.
#[tokio::test]
async fn streams_that_are_absent_and_may_not_be_made_are_a_failure() {
    let users = document::block("conf users");
    let server = Server::builder().config_line(&users).login("operator", document::SECRET).start().await;
    let url = |user| document::url(&server.url(), user);
    let (sender, billing, auditor) = (url("producer"), url("billing"), url("auditor"));
    for command in [
        for_producer(sender.as_str(), &["-c", "invoices.eu"]),
        for_consumer(billing.as_str(), &["-n", "billing", "-c", "invoices.>"]),
        for_consumer(auditor.as_str(), &["-c", "invoices.>"]),
    ] {
        has(&wrong(command, 1).await, "fail", "stream NATSFER", "have the operator run `natsfer-producer init`");
    }
    let home = tempfile::tempdir().unwrap();
    files::random_file(home.path().join("a"), 100, 1);
    for command in [
        sending(sender.as_str(), &["-c", "invoices.eu"], &[home.path().join("a")]),
        receiving(billing.as_str(), "billing", home.path().join("in"), &["-c", "invoices.>", "--drain"]),
    ] {
        let output = command.run().await.exited(1);
        assert!(output.errors().contains("have the operator run `natsfer-producer init"), "{}", output.errors());
        assert!(output.elapsed < Duration::from_secs(10), "{:?}", output.elapsed);
    }
}

/// A channel may be mistyped: where there are receivers and none listens on it, that is said.
#[tokio::test]
async fn a_channel_on_which_nobody_listens_is_warned_of_where_there_are_receivers() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let _ = producer(["init"]).server(&server).run().await.success();
    assert_eq!(wrong(for_producer(&server, &["-c", "typo"]), 0).await, Vec::<Value>::new());
    drain(&server, "billing", home.path().join("inbox"), &["-c", "invoices.>"]).await;
    let findings = wrong(for_producer(&server, &["-c", "typo"]), 0).await;
    has(&findings, "warn", "receivers", "billing (on invoices.>)");
    assert_eq!(wrong(for_producer(&server, &["-c", "invoices.eu"]), 0).await, Vec::<Value>::new());
}

#[tokio::test]
async fn who_cannot_hear_answers_is_told_of_the_inbox() {
    let users = "users: [ { user: operator, password: secret-of-the-tests }, { user: own, password: secret-of-the-tests, \
                 permissions: { subscribe: [\"_INBOX_own.>\"] } } ]";
    let accounts = format!("accounts {{ FILES {{ jetstream: enabled, {users} }} }}");
    let server = document::start(&accounts).await;
    let own = document::url(&server.url(), "own");
    let findings = wrong(for_producer(own.as_str(), &[]), 1).await;
    has(&findings, "fail", "rights: hear answers", "--inbox-prefix");
    assert_eq!(wrong(for_producer(own.as_str(), &["--inbox-prefix", "_INBOX_own"]), 0).await, Vec::<Value>::new());
}

#[tokio::test]
async fn the_receiver_is_looked_at() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    drain(&server, "billing", home.path().join("inbox"), &["-c", "invoices.>"]).await;
    let findings = wrong(for_consumer(&server, &["-n", "billing", "-c", "orders"]), 1).await;
    has(&findings, "fail", "receiver billing", "natsfer-consumer forget -n billing");
    assert_eq!(wrong(for_consumer(&server, &["-n", "billing"]), 0).await, Vec::<Value>::new());
    files::random_file(home.path().join("a"), 1_000, 1);
    send(&server, &["-c", "invoices.eu"], &[home.path().join("a")]).await;
    let strict = ["-c", "invoices.>", "--drain", "--max-size", "1"];
    let _ = receiving(&server, "billing", home.path().join("inbox"), &strict).run().await.exited(1);
    has(&wrong(for_consumer(&server, &["-n", "billing"]), 0).await, "warn", "receiver billing", "has rejected 1 file");
    let inbox = home.path().join("inbox");
    let failing = ["-c", "invoices.>", "--drain", "--exec", "exit 7", "--exec-tries", "1"];
    send(&server, &["-c", "invoices.eu", "--name", "b"], &[home.path().join("a")]).await;
    let _ = receiving(&server, "billing", &inbox, &failing).run().await.exited(1);
    let findings = wrong(for_consumer(&server, &["-n", "billing", "--into", inbox.to_str().unwrap()]), 0).await;
    has(&findings, "warn", "commands", "1 command has failed for good");
    has(&findings, "warn", "commands", "--retry-all");
    let stranger = wrong(for_producer(&server, &["--wait-for", "typo"]), 0).await;
    has(&stranger, "warn", "receiver typo", "receivers");
    assert_eq!(consumers(&server, "NATSFER").await, ["billing"]);
}

#[tokio::test]
async fn a_directory_that_cannot_be_used_is_a_failure() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let _ = producer(["init"]).server(&server).run().await.success();
    let in_the_way = home.path().join("file");
    std::fs::write(&in_the_way, "").unwrap();
    for path in [&in_the_way, &in_the_way.join("below")] {
        let findings = wrong(for_consumer(&server, &["--into", path.to_str().unwrap()]), 1).await;
        has(&findings, "fail", "directory", "another directory");
    }
    // One that is not there is not made.
    let missing = home.path().join("missing/inbox");
    assert_eq!(wrong(for_consumer(&server, &["--into", missing.to_str().unwrap()]), 0).await, Vec::<Value>::new());
    assert!(!home.path().join("missing").exists());
}

/// File systems of its own, as its process sees them: one that cannot be written to, one where `.natsfer` is elsewhere, a full one.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn file_systems_that_do_not_do_are_failures() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let _ = producer(["init"]).server(&server).run().await.success();
    let run = |mounts: &str| {
        let inbox = home.path().join("inbox");
        std::fs::create_dir_all(&inbox).unwrap();
        let script = format!("{mounts} && exec \"$1\" doctor --json --into \"$2\"");
        let arguments = ["--map-root-user", "--mount", "sh", "-c", &script, "sh"].map(PathBuf::from);
        let paths = [our_binary("natsfer-consumer").unwrap(), inbox];
        program("unshare", arguments.into_iter().chain(paths)).server(&server)
    };
    let read_only = wrong(run("mount -t tmpfs -o ro tmpfs \"$2\""), 1).await;
    has(&read_only, "fail", "directory", "mount it for writing");
    let split = "mount -t tmpfs tmpfs \"$2\" && mkdir \"$2/.natsfer\" && mount -t tmpfs tmpfs \"$2/.natsfer\"";
    has(&wrong(run(split), 0).await, "warn", "directory", "another file system");
    let full = format!(
        "mount -t tmpfs -o size={} tmpfs \"$2\" && {{ head -c {} /dev/zero > \"$2/x\" || true; }}",
        MIB,
        2 * MIB
    );
    let full = wrong(run(&full), 1).await;
    has(&full, "fail", "disk", "0 B of 1.0 MiB free");
    has(&full, "fail", "directory", "make room");
    let few = wrong(run("mount -t tmpfs -o nr_inodes=100 tmpfs \"$2\""), 0).await;
    has(&few, "warn", "disk", "inodes");
}
