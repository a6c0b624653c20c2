//! A receiver as a service: what it takes, where it puts it, what it runs for each file, and who hears of it.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::pull;
use futures_util::StreamExt;
use natsfer_tests::steps::{
    consumers, drain, list, number, receipts, receiving, send, send_stdin, sending, staged_files, text,
};
use natsfer_tests::{Pipe, Proxy, Server, consumer, eventually, files, producer};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);
/// A file in chunks.
const CHUNKED: [&str; 2] = ["--chunk-size", "64KiB"];

async fn start() -> (Server, tempfile::TempDir) {
    let server = Server::start().await;
    let _ = producer(["init"]).server(&server).run().await.success();
    (server, tempfile::tempdir().unwrap())
}

/// Sends a small file of this name.
async fn send_named(server: &Server, options: &[&str], name: &str, bytes: &str) -> Value {
    send_stdin(server, options, name, bytes.as_bytes().to_vec()).await
}

/// The names of all files below a directory but for natsfer's own, sorted.
fn landed(inbox: &Path) -> Vec<String> {
    fn walk(directory: &Path, below: &str, names: &mut Vec<String>) {
        for entry in directory.read_dir().into_iter().flatten().flatten() {
            let name = format!("{below}{}", entry.file_name().to_str().unwrap());
            match entry.file_type().unwrap().is_dir() {
                true if name == ".natsfer" => {}
                true => walk(&entry.path(), &format!("{name}/"), names),
                false => names.push(name),
            }
        }
    }
    let mut names = Vec::new();
    walk(inbox, "", &mut names);
    names.sort();
    names
}

/// The events of this kind.
fn events<'a>(lines: &'a [Value], kind: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["event"] == kind).collect()
}

/// What `natsfer-consumer hooks --json` lists: which files' commands are how.
async fn hooks(inbox: &Path) -> Vec<Value> {
    consumer(["hooks", "--json", "--into"]).arg(inbox).run().await.success().json_lines()
}

// Selection.

#[tokio::test]
async fn files_are_chosen_by_name_size_and_metadata() {
    let (server, home) = start().await;
    for (name, size, meta) in [
        ("a.csv", 10, "kind=order"),
        ("b.csv", 3_000, "kind=order"),
        ("old/c.csv", 3_000, "kind=invoice"),
        ("d.txt", 3_000, "kind=order"),
        ("e.csv.tmp", 10, "kind="),
    ] {
        send_named(&server, &["--meta", meta], name, &"x".repeat(size)).await;
    }
    files::random_file(home.path().join("big.csv"), 300_000, 1);
    send(&server, &CHUNKED, &[home.path().join("big.csv")]).await;
    let all = ["a.csv", "b.csv", "big.csv", "d.txt", "e.csv.tmp", "old/c.csv"];
    let cases: [(&[&str], &[&str]); 9] = [
        (&[], &all),
        (&["--match", "*.csv"], &["a.csv", "b.csv", "big.csv"]),
        (&["--match", "*.txt", "--match", "old/*"], &["d.txt", "old/c.csv"]),
        (&["--match", "**/*.csv", "--exclude", "b*", "--exclude", "old/**"], &["a.csv"]),
        (&["--match-size", "11..3000"], &["b.csv", "d.txt", "old/c.csv"]),
        (&["--match-size", "100KiB.."], &["big.csv"]),
        (&["--match-size", "..10"], &["a.csv", "e.csv.tmp"]),
        (&["--match-meta", "kind=o*", "--match-size", "..2K"], &["a.csv"]),
        (&["--match-meta", "kind=*", "--match", "big.csv"], &[]),
    ];
    for (index, (options, expected)) in cases.into_iter().enumerate() {
        let (name, inbox) = (format!("r{index}"), home.path().join(format!("in{index}")));
        let received = drain(&server, &name, &inbox, options).await;
        assert_eq!(landed(&inbox), expected, "{options:?}");
        assert_eq!(received.len(), expected.len(), "{options:?}: {received:?}");
        // What was passed over is done, and has no receipt.
        assert!(drain(&server, &name, &inbox, &[]).await.is_empty(), "{options:?}");
        assert_eq!(receipts(&server).await.iter().filter(|(who, _)| *who == name).count(), expected.len());
        let again = home.path().join(format!("again{index}"));
        let replay = consumer(["replay", "-c", ">", "--into"]).arg(&again).args(options).server(&server);
        let _ = replay.run().await.success();
        assert_eq!(landed(&again), expected, "replay {options:?}");
    }
    assert!(consumers(&server, "NATSFER_DATA").await.is_empty());
}

#[tokio::test]
async fn ten_thousand_files_are_passed_over_quickly_over_a_slow_line() {
    let (server, home) = start().await;
    let (context, outbox) = (server.jetstream().await, home.path().join("outbox"));
    files::text_file(outbox.join("one.txt"), 100, 1);
    send(&server, &[], &[outbox.join("one.txt")]).await;
    // Ten thousand more like it, made here: to send that many takes longer than what is tried.
    let stream = context.get_stream("NATSFER").await.unwrap();
    let one = stream.get_raw_message(1).await.unwrap();
    let id = one.subject.rsplit('.').next().unwrap().to_owned();
    let mut acks = Vec::new();
    for index in 0..10_000 {
        let other = format!("{index:032x}");
        let mut headers = HeaderMap::new();
        let manifest = one.headers.get("Natsfer-Manifest").unwrap().as_str().replace(&id, &other);
        headers.insert("Natsfer-Manifest", manifest);
        headers.insert("Natsfer-Crc32", one.headers.get("Natsfer-Crc32").unwrap().clone());
        let subject = one.subject.replace(&id, &other);
        acks.push(context.publish_with_headers(subject, headers, one.payload.clone()).await.unwrap());
        if acks.len() == 500 {
            for ack in acks.drain(..) {
                ack.await.unwrap();
            }
        }
    }
    send_named(&server, &[], "wanted.csv", "a,b").await;
    let far = Proxy::to(&server.url()).await;
    far.latency(Duration::from_millis(10));
    let inbox = home.path().join("inbox");
    let started = Instant::now();
    let received = drain(&far, "r", &inbox, &["--match", "*.csv"]).await;
    assert_eq!((received.len(), landed(&inbox)), (1, vec!["wanted.csv".to_owned()]));
    // One round trip of 20 ms for each hand would take 50 s and more.
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    assert_eq!(receipts(&server).await.len(), 1);
}

/// Standard input has no size before its end.
#[tokio::test]
async fn a_size_that_is_not_known_yet_is_judged_at_the_end() {
    let (server, home) = start().await;
    let (inbox, pipe) = (home.path().join("inbox"), Pipe::new(home.path().join("pipe")));
    send_stdin(&server, &CHUNKED, "small", vec![7; 100_000]).await;
    let sender = sending(&server, &[&CHUNKED[..], &["--name", "large"]].concat(), &["-"]).stdin_file(pipe.path());
    let sender = sender.spawn().await;
    pipe.write(&vec![7; 150_000]).await;
    eventually("it is opened", SOON, || async { (list(&server, &[]).await.len() == 2).then_some(()) }).await;
    let options = ["--match-size", "150K..", "--drain"];
    let unfinished = receiving(&server, "r", &inbox, &options).run().await.success();
    assert!(unfinished.json_lines().is_empty() && landed(&inbox).is_empty());
    assert!(unfinished.errors().contains("is not finished by its sender"), "{}", unfinished.errors());
    // Nothing of it was fetched.
    assert!(staged_files(&inbox, "r").is_empty() && consumers(&server, "NATSFER_DATA").await.is_empty());
    pipe.write(&vec![7; 10_000]).await;
    pipe.close();
    let _ = sender.wait().await.success();
    drain(&server, "r", &inbox, &options[..2]).await;
    assert_eq!(landed(&inbox), ["large"]);
    assert_eq!(receipts(&server).await.len(), 1);
    assert!(staged_files(&inbox, "r").is_empty() && consumers(&server, "NATSFER_DATA").await.is_empty());
}

#[tokio::test]
async fn a_sender_is_told_that_it_was_passed_over_and_a_count_counts_what_lands() {
    let (server, home) = start().await;
    let (outbox, inbox) = (home.path().join("outbox"), home.path().join("inbox"));
    for name in ["a.txt", "b.csv", "c.txt", "d.csv", "e.csv"] {
        files::text_file(outbox.join(name), 500, name.len() as u64);
    }
    let sender = sending(&server, &["--wait-for", "r"], &[outbox.join(".")]).spawn().await;
    sender.log_line(SOON, |line| line.contains("everything is stored")).await;
    let counted = receiving(&server, "r", &inbox, &["--match", "*.csv", "--count", "2"]).run().await.success();
    assert_eq!(counted.json_lines().len(), 2);
    drain(&server, "r", &inbox, &["--match", "*.csv"]).await;
    assert_eq!(landed(&inbox), ["b.csv", "d.csv", "e.csv"]);
    let said = sender.wait().await.exited(1).json_lines();
    let passed: BTreeSet<_> = events(&said, "not_landed").iter().map(|event| text(event, "name")).collect();
    assert_eq!(passed, BTreeSet::from(["a.txt", "c.txt"]));
    assert!(events(&said, "not_landed").iter().all(|event| event["reason"] == "passed_over"), "{said:?}");
}

#[tokio::test]
async fn only_what_is_selected_is_tried_again() {
    let (server, home) = start().await;
    let inbox = home.path().join("inbox");
    for name in ["a.csv", "b.txt"] {
        send_named(&server, &[], name, "too much").await;
    }
    let _ = receiving(&server, "r", &inbox, &["--drain", "--max-size", "1"]).run().await.exited(1);
    let retry = consumer(["retry", "-n", "r", "--all", "--match", "*.csv", "--into"]).arg(&inbox);
    let _ = retry.server(&server).run().await.success();
    assert_eq!(landed(&inbox), ["a.csv"]);
    let rejected = consumer(["rejected", "--json", "-n", "r"]).server(&server).run().await.success().json_lines();
    assert_eq!((rejected.len(), text(&rejected[0], "name")), (1, "b.txt"));
}

// Layout.

#[tokio::test]
async fn files_stand_where_the_layout_says() {
    let (server, home) = start().await;
    let sent = send_named(&server, &["-c", "invoices.eu", "--meta", "customer=acme"], "in/a.tar.gz", "x").await;
    files::random_file(home.path().join("big.bin"), 300_000, 1);
    send(&server, &[&CHUNKED[..], &["-c", "plain"]].concat(), &[home.path().join("big.bin")]).await;
    let (id, listed) = (text(&sent, "transfer"), list(&server, &["-c", "invoices.>"]).await);
    let date = &text(&listed[0], "published_at")[..10];
    for (index, (layout, first, second)) in [
        ("{channel}/{name}", "invoices.eu/in/a.tar.gz", "plain/big.bin"),
        ("{channel/}/{file}", "invoices/eu/a.tar.gz", "plain/big.bin"),
        (
            "{date}/{meta.customer:-none}/{dir}/{file}",
            &*format!("{date}/acme/in/a.tar.gz"),
            &*format!("{date}/none/big.bin"),
        ),
        ("{ext}/{stem}-{receiver}{.ext}", "tar.gz/a-r.tar.gz", "bin/big-r.bin"),
    ]
    .into_iter()
    .enumerate()
    {
        let layout = layout.replace("{receiver}", "r");
        let (name, inbox) = (format!("r{index}"), home.path().join(format!("in{index}")));
        let received = drain(&server, &name, &inbox, &["--layout", &layout]).await;
        let mut expected = [first, second];
        expected.sort_unstable();
        assert_eq!(landed(&inbox), expected, "{layout}");
        let event = received.iter().find(|event| event["transfer"] == id).unwrap();
        // As it was sent, and where it is.
        assert_eq!((text(event, "name"), text(event, "path")), ("in/a.tar.gz", inbox.join(first).to_str().unwrap()));
        let again = home.path().join(format!("again{index}"));
        let replay = consumer(["replay", "-c", ">", "--layout", &layout, "--into"]).arg(&again).server(&server);
        let _ = replay.run().await.success();
        assert_eq!(landed(&again), expected, "replay {layout}");
    }
    for wrong in ["{nam}", "../{name}", "/{name}", "{channel}/", "{name", ".natsfer/{name}"] {
        let output = receiving(&server, "w", home.path().join("w"), &["--layout", wrong]).run().await.exited(2);
        assert!(output.errors().contains("is not a layout"), "{}", output.errors());
    }
    let replay = consumer(["replay", "-c", ">", "--layout", "{receiver}/{name}", "--into"]).arg(home.path().join("w"));
    let _ = replay.server(&server).run().await.exited(2);
    assert!(!home.path().join("w").exists());
}

#[tokio::test]
async fn metadata_leads_nowhere_outside() {
    let (server, home) = start().await;
    let (around, inbox) = (home.path().join("around"), home.path().join("around/inbox"));
    std::fs::create_dir_all(around.join("secret")).unwrap();
    let hostile =
        ["..", "../secret", "/etc", ".", ".natsfer", "a/b", "", "\u{1b}[2J", "\u{202e}", "x\ny", &"x".repeat(300)];
    for (index, value) in hostile.iter().enumerate() {
        send_named(&server, &["--meta", &format!("to={value}")], &format!("{index}.txt"), "evil").await;
    }
    send_named(&server, &["--meta", "to=here"], "good.txt", "good").await;
    let layout = ["--layout", "{meta.to}/{file}", "--drain"];
    let output = receiving(&server, "r", &inbox, &layout).run().await.exited(1);
    assert_eq!(landed(&inbox), ["here/good.txt"]);
    assert_eq!(landed(&around), ["inbox/here/good.txt"]);
    let lines = output.json_lines();
    let rejected = events(&lines, "rejected");
    assert_eq!(rejected.len(), hostile.len(), "{lines:?}");
    assert!(rejected.iter().all(|event| event["reason"] == "name"), "{lines:?}");
    assert!(!output.errors().contains(['\u{1b}', '\u{202e}']), "{}", output.errors());
    // By another layout they can be had.
    let retry = consumer(["retry", "-n", "r", "--all", "--layout", "all/{file}", "--into"]).arg(&inbox);
    let _ = retry.server(&server).run().await.success();
    assert_eq!(landed(&inbox).len(), hostile.len() + 1);
}

#[tokio::test]
async fn names_that_the_layout_makes_one_follow_the_policy() {
    let (server, home) = start().await;
    for (channel, bytes) in [("one", "first"), ("two", "second"), ("three", "third")] {
        send_named(&server, &["-c", channel], &format!("{channel}/x.txt"), bytes).await;
    }
    let inbox = |policy: &str| home.path().join(policy);
    let read = |policy: &str, name: &str| std::fs::read_to_string(inbox(policy).join("all").join(name)).unwrap();
    for policy in ["rename", "overwrite", "skip", "fail"] {
        let options = ["--layout", "all/{file}", "--on-conflict", policy, "--drain", "--concurrency", "1"];
        let output = receiving(&server, policy, inbox(policy), &options).run().await;
        let _ = output.exited(i32::from(policy == "fail"));
    }
    assert_eq!(landed(&inbox("rename")), ["all/x (1).txt", "all/x (2).txt", "all/x.txt"]);
    for policy in ["overwrite", "skip", "fail"] {
        assert_eq!(landed(&inbox(policy)), ["all/x.txt"], "{policy}");
    }
    assert_eq!([read("rename", "x.txt"), read("rename", "x (2).txt")], ["first", "third"]);
    assert_eq!(read("overwrite", "x.txt"), "third");
    assert_eq!([read("skip", "x.txt"), read("fail", "x.txt")], ["first", "first"]);
    // Many at once, and the last one stays.
    let options = ["--layout", "all/{file}", "--on-conflict", "overwrite", "--concurrency", "16"];
    drain(&server, "many", home.path().join("many"), &options).await;
    assert_eq!(read("many", "x.txt"), "third");
}

/// What is refused for its name is what it would have.
#[tokio::test]
async fn a_name_that_is_made_is_refused_like_one_that_is_sent() {
    let (server, home) = start().await;
    let inbox = home.path().join("inbox");
    send_named(&server, &["--meta", "to=.ssh"], "authorized_keys", "x").await;
    send_named(&server, &["--meta", "to=ssh"], ".hidden/keys", "y").await;
    let options = ["--layout", "{meta.to}/{file}", "--refuse", "hidden", "--drain"];
    let _ = receiving(&server, "r", &inbox, &options).run().await.exited(1);
    assert_eq!(landed(&inbox), ["ssh/keys"]);
}

// Commands.

/// Copies the environment of each command into a file of its own.
const REMEMBER: &str = r#"env -0 > "$(pwd)/../env.$NATSFER_TRANSFER""#;

/// The environment that was remembered for a transfer.
fn environment(home: &Path, transfer: &str) -> Vec<(String, String)> {
    let bytes = std::fs::read(home.join(format!("env.{transfer}"))).unwrap();
    let variables = bytes.split(|byte| *byte == 0).filter_map(|pair| str::from_utf8(pair).ok()?.split_once('='));
    variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[tokio::test]
async fn a_command_is_told_everything_and_no_secret() {
    let users = "authorization { user: me, password: hunter2 }";
    let server = Server::builder().config_line(users).login("me", "hunter2").start().await;
    let url = server.url().replace("nats://", "nats://me:hunter2@");
    let _ = producer(["init"]).server(url.as_str()).run().await.success();
    let home = tempfile::tempdir().unwrap();
    let inbox = home.path().join("inbox");
    let evil = "; touch pwned; $(touch pwned) `touch pwned` \" ' & | \\ .txt";
    let options = ["-c", "a.b", "--meta", "order-id=$(touch pwned)\n; touch pwned", "--meta", "secret=x"];
    let sent = send_stdin(url.as_str(), &options, evil, b"evil".to_vec()).await;
    let received =
        receiving(url.as_str(), "r", &inbox, &["--layout", "{channel}/{name}", "--drain", "--exec", REMEMBER])
            .env("NATS_PASSWORD", "hunter2")
            .env("NATSFER_META_SPOOFED", "hunter2")
            .env("MINE", "kept")
            .run()
            .await
            .success()
            .json_lines();
    let exec = events(&received, "exec");
    assert_eq!((exec.len(), text(exec[0], "state")), (1, "succeeded"), "{received:?}");
    let told = environment(home.path(), text(&sent, "transfer"));
    let value = |name: &str| told.iter().find(|(told, _)| told == name).map(|(_, value)| value.as_str());
    let path = inbox.join("a.b").join(evil);
    for (name, expected) in [
        ("NATSFER_PATH", path.to_str().unwrap()),
        ("NATSFER_NAME", evil),
        ("NATSFER_CHANNEL", "a.b"),
        ("NATSFER_TRANSFER", text(&sent, "transfer")),
        ("NATSFER_SIZE", "4"),
        ("NATSFER_DIGEST", text(&sent, "digest")),
        ("NATSFER_RECEIVER", "r"),
        ("NATSFER_META_ORDER_ID", "$(touch pwned)\n; touch pwned"),
        ("NATSFER_MEDIA_TYPE", "text/plain"),
        ("NATSFER_TRY", "1"),
        ("MINE", "kept"),
    ] {
        assert_eq!(value(name), Some(expected), "{name} in {told:?}");
    }
    assert_eq!(std::fs::read(value("NATSFER_PATH").unwrap()).unwrap(), b"evil");
    let manifest: Value = serde_json::from_str(value("NATSFER_MANIFEST").unwrap()).unwrap();
    assert_eq!((text(&manifest, "name"), &manifest["metadata"]["secret"]), (evil, &json!("x")));
    assert!(value("NATSFER_PUBLISHED_AT").is_some_and(|at| at.starts_with("20")));
    assert!(!told.iter().any(|(name, value)| name.starts_with("NATS_") || value.contains("hunter2")), "{told:?}");
    assert!(value("NATSFER_META_SPOOFED").is_none());
    assert!(!home.path().join("pwned").exists() && !inbox.join("pwned").exists());
    assert!(hooks(&inbox).await.is_empty());
}

#[tokio::test]
async fn a_command_that_fails_is_tried_again_and_holds_up_neither_landing_nor_others() {
    let (server, home) = start().await;
    let inbox = home.path().join("inbox");
    // The first file's fails twice.
    let command = r#"echo "$NATSFER_NAME $NATSFER_TRY" >> ../log; echo said; test "$NATSFER_NAME" != 1 || test "$NATSFER_TRY" = 3"#;
    for name in ["1", "2", "3"] {
        send_named(&server, &[], name, name).await;
    }
    let output = receiving(&server, "r", &inbox, &["--drain", "--exec", command]).run().await.success();
    assert!(output.elapsed > Duration::from_secs(2), "it rests: {:?}", output.elapsed);
    assert!(output.errors().contains("exec: said"), "{}", output.errors());
    let log = std::fs::read_to_string(home.path().join("log")).unwrap();
    let (mut first, again): (Vec<_>, Vec<_>) = log.lines().partition(|run| run.ends_with(" 1"));
    // Files that are received at once land in any order.
    first.sort_unstable();
    assert_eq!((first, again), (vec!["1 1", "2 1", "3 1"], vec!["1 2", "1 3"]));
    assert!(log.ends_with("1 2\n1 3\n"), "the others were not held up: {log}");
    let lines = output.json_lines();
    let mut states: Vec<_> =
        events(&lines, "exec").iter().map(|event| (text(event, "name"), text(event, "state"))).collect();
    states[..3].sort_unstable();
    let expected = [("1", "retrying"), ("2", "succeeded"), ("3", "succeeded"), ("1", "retrying"), ("1", "succeeded")];
    assert_eq!(states, expected);
    assert_eq!(landed(&inbox), ["1", "2", "3"]);
    assert!(hooks(&inbox).await.is_empty());
    assert!(drain(&server, "r", &inbox, &["--exec", command]).await.is_empty());
}

#[tokio::test]
async fn a_command_that_has_failed_for_good_is_listed_and_can_be_run_again() {
    let (server, home) = start().await;
    let inbox = home.path().join("inbox");
    let sent = send_named(&server, &[], "bad.csv", "x").await;
    let id = text(&sent, "transfer");
    let failing = ["--exec", "echo out; echo cannot import >&2; exit 7", "--exec-tries", "2"];
    let output = receiving(&server, "r", &inbox, &[&failing[..], &["--drain"]].concat()).run().await.exited(1);
    assert!(output.errors().contains("it exited with 7"), "{}", output.errors());
    // It has landed all the same, and its sender knows.
    assert_eq!((landed(&inbox), receipts(&server).await.len()), (vec!["bad.csv".to_owned()], 1));
    let listed = hooks(&inbox).await;
    assert_eq!(listed.len(), 1, "{listed:?}");
    let hook = &listed[0];
    assert_eq!((text(hook, "transfer"), text(hook, "state"), text(hook, "receiver")), (id, "failed", "r"));
    assert_eq!((number(hook, "tries"), number(hook, "exit_code")), (2, 7));
    assert!(text(hook, "output").contains("cannot import") && text(hook, "output").contains("out"), "{hook}");
    assert!(hook["failed_at"].is_string() && hook["noted_at"].is_string(), "{hook}");
    let shown = consumer(["hooks", "--into"]).arg(&inbox).run().await.success().text();
    assert!(shown.contains(&id[..8]) && shown.contains("it exited with 7"), "{shown}");
    // It does not run by itself any more.
    drain(&server, "r", &inbox, &["--exec", "touch ../ran"]).await;
    assert!(!home.path().join("ran").exists());

    let unknown = "0".repeat(32);
    let retry = |id: &str| consumer(["hooks", "--retry", id, "--into"]).arg(&inbox);
    assert!(retry(&unknown).run().await.exited(1).errors().contains(&unknown));
    let _ = retry(id).run().await.success();
    assert_eq!(text(&hooks(&inbox).await[0], "state"), "pending");
    let without = receiving(&server, "r", &inbox, &["--drain"]).run().await.success();
    assert!(without.errors().contains("1 command of earlier runs is still to be run"), "{}", without.errors());
    let again = drain(&server, "r", &inbox, &["--exec", "touch ../ran"]).await;
    assert_eq!(text(events(&again, "exec")[0], "state"), "succeeded");
    assert!(home.path().join("ran").exists() && hooks(&inbox).await.is_empty());

    // A receiver that is running does it at once.
    send_named(&server, &[], "worse.csv", "y").await;
    let _ = receiving(&server, "r", &inbox, &[&failing[..], &["--drain"]].concat()).run().await.exited(1);
    let daemon = receiving(&server, "r", &inbox, &["--exec", "true"]).spawn().await;
    let _ = consumer(["hooks", "--retry-all", "--into"]).arg(&inbox).run().await.success();
    daemon.event(SOON, |event| event["event"] == "exec" && event["state"] == "succeeded").await;
    daemon.terminate();
    let _ = daemon.wait().await.success();
    assert!(hooks(&inbox).await.is_empty());
}

/// As from a variable that was never set: nothing would be run, and nobody told.
#[tokio::test]
async fn options_of_a_command_that_is_none_are_wrong_usage() {
    let (server, home) = start().await;
    for options in [&["--exec", ""][..], &["--exec", " "], &["--exec-tries", "2"], &["--exec-concurrency", "2"]] {
        let output = receiving(&server, "r", home.path().join("inbox"), options).run().await.exited(2);
        assert!(output.errors().contains("--exec"), "{}", output.errors());
    }
}

/// What somebody has put among the commands to be run stops neither a receiver nor `hooks`.
#[tokio::test]
async fn what_is_no_command_holds_up_no_other() {
    let (server, home) = start().await;
    let inbox = home.path().join("inbox");
    send_named(&server, &[], "bad.csv", "x").await;
    let failing = ["--exec", "exit 7", "--exec-tries", "1", "--drain"];
    let _ = receiving(&server, "r", &inbox, &failing).run().await.exited(1);
    let shelf = |shelf: &str| inbox.join(".natsfer/exec/r").join(shelf);
    let [garbage, pipe, link] = ["1", "2", "3"].map(|digit| format!("{:0>16}-{}.json", digit, digit.repeat(32)));
    std::fs::write(shelf("failed").join(&garbage), "garbage").unwrap();
    let _fifo = Pipe::new(shelf("pending").join(&pipe));
    std::os::unix::fs::symlink("nowhere", shelf("pending").join(&link)).unwrap();

    let retried = consumer(["hooks", "--retry-all", "--into"]).arg(&inbox).run().await.exited(1);
    assert!(retried.errors().contains(&garbage), "{}", retried.errors());
    let options = ["--exec", "touch ../ran", "--drain"];
    let run = receiving(&server, "r", &inbox, &options).run().await.exited(1).json_lines();
    assert_eq!(events(&run, "exec").iter().filter(|event| event["state"] == "succeeded").count(), 1, "{run:?}");
    assert!(home.path().join("ran").exists());
    // Nobody looks at them again by himself.
    assert_eq!(shelf("pending").read_dir().unwrap().count(), 0);
    let listed = consumer(["hooks", "--into"]).arg(&inbox).run().await.exited(1);
    assert!([garbage, pipe, link].iter().all(|name| listed.errors().contains(name)), "{}", listed.errors());
}

/// Killed at any moment, as by a power cut of the process: each file's command has run in the end, and nothing is left.
#[tokio::test]
async fn no_command_is_lost_when_the_receiver_is_killed() {
    let (server, home) = start().await;
    let (outbox, inbox) = (home.path().join("outbox"), home.path().join("inbox"));
    files::tree(&outbox, 40, 10..200_000, 1);
    send(&server, &CHUNKED, &[outbox.join(".")]).await;
    let command = r#"echo "$NATSFER_TRANSFER" >> ../log"#;
    let options = ["--exec", command, "--takeover", "2s"];
    let runs = || std::fs::read_to_string(home.path().join("log")).unwrap_or_default();
    let distinct = || runs().lines().map(str::to_owned).collect::<BTreeSet<_>>().len();
    let mut random = files::Random::new(7);
    let mut kills = 0;
    while distinct() < 40 && kills < 30 {
        let victim = receiving(&server, "r", &inbox, &options).spawn().await;
        let (before, more) = (landed(&inbox).len(), usize::try_from(random.below(4)).unwrap());
        // At a moment that comes with the files: between a landing and its command, often.
        eventually("some more have landed", SOON, || async {
            (landed(&inbox).len() > before + more || distinct() == 40 || landed(&inbox).len() == 40).then_some(())
        })
        .await;
        victim.kill();
        let _ = victim.wait().await;
        kills += 1;
    }
    assert!(kills >= 5, "killed {kills} times only");
    // Killed while it noted a run: few of the kills come in that moment.
    std::fs::write(inbox.join(".natsfer/exec/r/pending/half.json.new"), "{").unwrap();
    drain(&server, "r", &inbox, &options).await;
    assert_eq!(distinct(), 40, "{}", runs());
    assert!(hooks(&inbox).await.is_empty());
    assert_eq!(landed(&inbox.join(".natsfer")), ["exec/r/lock"], "nothing that was half done is left");
    std::fs::remove_dir_all(inbox.join(".natsfer")).unwrap();
    files::assert_same(&outbox, &inbox);
}

/// The file has landed, and nobody could note its command: somebody took its place away. It is here, and comes again.
#[tokio::test]
async fn a_file_that_is_here_already_has_its_command_run_once() {
    let (server, home) = start().await;
    let inbox = home.path().join("inbox");
    send_named(&server, &[], "a", "same").await;
    // As after a crash between landing and noting.
    std::fs::create_dir_all(&inbox).unwrap();
    std::fs::write(inbox.join("a"), "same").unwrap();
    let command = ["--exec", r#"echo "$NATSFER_NAME" >> ../log"#];
    let lines = drain(&server, "r", &inbox, &command).await;
    assert_eq!(events(&lines, "received")[0]["identical"], true);
    let control = server.jetstream().await.get_stream("NATSFER").await.unwrap();
    control.delete_consumer("r").await.unwrap();
    // The server has forgotten what was done: the file is recognised, and its command was noted when its receipt was said.
    let lines = drain(&server, "r", &inbox, &command).await;
    assert_eq!((events(&lines, "received").len(), events(&lines, "exec").len()), (1, 0), "{lines:?}");
    assert_eq!(std::fs::read_to_string(home.path().join("log")).unwrap(), "a\n");
}

#[tokio::test]
async fn a_command_that_takes_too_long_is_killed_with_all_it_started() {
    let (server, home) = start().await;
    let inbox = home.path().join("inbox");
    send_named(&server, &[], "a", "x").await;
    let command = "sleep 1000 & echo $! > ../child; echo $$ > ../shell; wait";
    let options = ["--exec", command, "--exec-timeout", "1s", "--exec-tries", "1", "--drain"];
    let output = receiving(&server, "r", &inbox, &options).run().await.exited(1);
    assert!(output.errors().contains("it was killed after 1s"), "{}", output.errors());
    for who in ["child", "shell"] {
        let id = std::fs::read_to_string(home.path().join(who)).unwrap();
        eventually(&format!("{who} is gone"), SOON, || async { gone(id.trim()).then_some(()) }).await;
    }
}

/// Whether no such process is there, or only its remains.
fn gone(id: &str) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{id}/stat"));
    state.map_or(true, |state| state.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')))
}

#[tokio::test]
async fn a_receiver_that_is_stopped_lets_a_command_end_or_runs_it_again() {
    let (server, home) = start().await;
    let inbox = home.path().join("inbox");
    send_named(&server, &[], "a", "x").await;
    // It ends soon after the receiver was told to stop.
    let quick = "touch ../began; while ! test -e ../go; do sleep 0.05; done; touch ../ended";
    let daemon = receiving(&server, "r", &inbox, &["--exec", quick]).spawn().await;
    let is_there = |name: &'static str| {
        let path = home.path().join(name);
        move || std::future::ready(path.exists().then_some(()))
    };
    eventually("it has begun", SOON, is_there("began")).await;
    daemon.terminate();
    daemon.log_line(SOON, |line| line.contains("stopping")).await;
    std::fs::write(home.path().join("go"), "").unwrap();
    let lines = daemon.wait().await.success().json_lines();
    assert!(home.path().join("ended").exists());
    assert_eq!(text(events(&lines, "exec")[0], "state"), "succeeded");

    send_named(&server, &[], "b", "x").await;
    let slow = "echo $$ >> ../slow; test $(wc -l < ../slow) = 2 || sleep 1000";
    let daemon = receiving(&server, "r", &inbox, &["--exec", slow]).spawn().await;
    eventually("it has begun", SOON, is_there("slow")).await;
    daemon.terminate();
    let output = daemon.wait().await.success();
    assert!(output.elapsed < Duration::from_secs(60), "{:?}", output.elapsed);
    assert_eq!(text(events(&output.json_lines(), "exec")[0], "state"), "interrupted");
    let id = std::fs::read_to_string(home.path().join("slow")).unwrap();
    eventually("it is gone", SOON, || async { gone(id.trim()).then_some(()) }).await;
    // That was no try.
    assert_eq!((text(&hooks(&inbox).await[0], "state"), number(&hooks(&inbox).await[0], "tries")), ("pending", 0));
    let lines = drain(&server, "r", &inbox, &["--exec", slow]).await;
    assert_eq!(text(events(&lines, "exec")[0], "state"), "succeeded");
}

/// Two processes of a name share a directory: one of them runs the commands, and the other when that one is gone.
#[tokio::test]
async fn processes_that_share_files_run_each_command_once() {
    let (server, home) = start().await;
    let (outbox, inbox) = (home.path().join("outbox"), home.path().join("inbox"));
    files::tree(&outbox, 30, 10..2_000, 3);
    let options = ["--exec", r#"echo "$NATSFER_TRANSFER" >> ../log"#];
    let first = receiving(&server, "r", &inbox, &options).spawn().await;
    let second = receiving(&server, "r", &inbox, &options).spawn().await;
    send(&server, &[], &[outbox.join(".")]).await;
    let runs = || std::fs::read_to_string(home.path().join("log")).unwrap_or_default();
    eventually("all have run", SOON, || async { (runs().lines().count() == 30).then_some(()) }).await;
    first.kill();
    let _ = first.wait().await;
    send_named(&server, &[], "last", "x").await;
    eventually("the other takes over", SOON, || async { (runs().lines().count() == 31).then_some(()) }).await;
    second.terminate();
    let _ = second.wait().await.success();
    assert_eq!(runs().lines().collect::<BTreeSet<_>>().len(), 31, "each once");
}

// Events.

fn receipt(headers: Option<&HeaderMap>) -> Value {
    serde_json::from_str(headers.unwrap().get("Natsfer-Receipt").unwrap().as_str()).unwrap()
}

/// A service in any language: no natsfer, only NATS.
#[tokio::test]
async fn services_hear_of_each_file_that_lands() {
    let (server, home) = start().await;
    let inbox = home.path().join("inbox");
    let client = async_nats::connect(server.url()).await.unwrap();
    let mut live = client.subscribe("natsfer.receipt.invoices.>").await.unwrap();
    client.flush().await.unwrap();
    let sent = send_named(&server, &["-c", "invoices.eu"], "in/grün.pdf", "12345").await;
    send_named(&server, &["-c", "other"], "b.pdf", "x").await;
    drain(&server, "billing", &inbox, &["--layout", "{channel}/{name}"]).await;

    let message = tokio::time::timeout(SOON, live.next()).await.unwrap().unwrap();
    assert_eq!(message.subject.as_str(), format!("natsfer.receipt.invoices.eu.{}", text(&sent, "transfer")));
    let event = receipt(message.headers.as_ref());
    assert_eq!((text(&event, "receiver"), text(&event, "name")), ("billing", "in/grün.pdf"));
    assert_eq!((text(&event, "path"), number(&event, "size")), ("invoices.eu/in/grün.pdf", 5));
    assert_eq!(text(&event, "digest"), text(&sent, "digest"));
    assert_eq!(std::fs::read(inbox.join(text(&event, "path"))).unwrap(), b"12345");

    // One that was away is told of all it missed, and goes on where it was.
    let stream = server.jetstream().await.get_stream("NATSFER").await.unwrap();
    let config = pull::Config {
        durable_name: Some("indexer".into()),
        filter_subject: "natsfer.receipt.invoices.>".into(),
        ..Default::default()
    };
    let durable = stream.create_consumer(config.clone()).await.unwrap();
    let mut messages = durable.messages().await.unwrap();
    let message = tokio::time::timeout(SOON, messages.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(text(&receipt(message.headers.as_ref()), "path"), "invoices.eu/in/grün.pdf");
    message.double_ack().await.unwrap();
    drop((messages, durable));
    send_named(&server, &["-c", "invoices.us"], "next.pdf", "x").await;
    drain(&server, "billing", &inbox, &["--layout", "{channel}/{name}"]).await;
    let durable = stream.get_or_create_consumer("indexer", config).await.unwrap();
    let message = tokio::time::timeout(SOON, durable.messages().await.unwrap().next()).await.unwrap().unwrap().unwrap();
    assert_eq!(text(&receipt(message.headers.as_ref()), "path"), "invoices.us/next.pdf");
}

/// Process 1 of a container is given what commands leave behind, and waits for it.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn as_process_1_it_leaves_no_zombies_and_hands_on_signals() {
    let (server, home) = start().await;
    let children = |parent: i32| {
        let listed = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
        listed.split_whitespace().map(|child| child.parse().unwrap()).collect::<Vec<i32>>()
    };
    let ours = tokio::task::spawn_blocking(|| natsfer_tests::our_binary("natsfer-consumer")).await.unwrap().unwrap();
    let namespace = ["-Urpf", "--kill-child"];
    let receiver = natsfer_tests::program("unshare", namespace).arg(ours).server(&server).args([
        "receive",
        "--json",
        "-n",
        "r",
        "--exec",
        "(sleep 0.1; touch \"$NATSFER_PATH.left\") & :",
        "--into",
    ]);
    let inbox = home.path().join("inbox");
    let receiver = receiver.arg(&inbox).spawn().await;
    for number in 0..3 {
        send_named(&server, &[], &format!("f{number}"), "x").await;
    }
    eventually("what the commands leave behind has ended", SOON, || async {
        (0..3).all(|number| inbox.join(format!("f{number}.left")).exists()).then_some(())
    })
    .await;
    let first = children(receiver.id())[0];
    eventually("nothing is left but the receiver", SOON, || async { (children(first).len() == 1).then_some(()) }).await;
    rustix::process::kill_process(rustix::process::Pid::from_raw(first).unwrap(), rustix::process::Signal::TERM)
        .unwrap();
    let output = receiver.wait().await.success();
    assert!(output.errors().contains("stopping"), "{}", output.errors());
}
