//! Choosing what to receive, replay and read, and saying it wrongly.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use natsfer_tests::steps::{
    consumers, drain, list, nothing_left_but, number, receiving, send, send_stdin, sending, stream, text,
};
use natsfer_tests::{Output, Proxy, Server, consumer, eventually, files, producer};
use serde_json::Value;

fn names(events: &[Value]) -> BTreeSet<&str> {
    events.iter().map(|event| text(event, "name")).collect()
}

async fn send_named(server: &Server, channel: &str, names: &[&str]) {
    for name in names {
        send_stdin(server, &["-c", channel], name, format!("{channel} {name}").into_bytes()).await;
    }
}

async fn replay(server: &Server, into: &Path, options: &[&str]) -> Output {
    consumer(["replay", "--json", "--into"]).arg(into).args(options).server(server).run().await
}

/// When the file of this name was published.
fn published_at<'a>(listed: &'a [Value], name: &str) -> &'a str {
    text(listed.iter().find(|entry| entry["name"] == name).unwrap(), "published_at")
}

#[tokio::test]
async fn a_channel_is_replayed_between_points_in_time_and_by_name() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    send_named(&server, "invoices.eu", &["1.csv", "2.csv", "reports/3.csv"]).await;
    send_named(&server, "invoices.us", &["4.txt", "5.csv"]).await;
    send_named(&server, "other", &["6.csv"]).await;
    let listed = list(&server, &[]).await;
    let (second, fourth) = (published_at(&listed, "2.csv"), published_at(&listed, "4.txt"));
    let cases: [(&[&str], &[&str]); 9] = [
        (&["-c", "invoices.eu"], &["1.csv", "2.csv", "reports/3.csv"]),
        (&["-c", "invoices.*"], &["1.csv", "2.csv", "reports/3.csv", "4.txt", "5.csv"]),
        (&["-c", ">", "--since", fourth], &["4.txt", "5.csv", "6.csv"]),
        (&["-c", ">", "--until", second], &["1.csv", "2.csv"]),
        (&["-c", ">", "--since", second, "--until", fourth], &["2.csv", "reports/3.csv", "4.txt"]),
        (&["-c", "invoices.>", "--match", "*.csv"], &["1.csv", "2.csv", "5.csv"]),
        (&["-c", "invoices.>", "--match", "**/*.csv", "--since", second], &["2.csv", "reports/3.csv", "5.csv"]),
        (&["-c", ">", "--since", "1h"], &["1.csv", "2.csv", "reports/3.csv", "4.txt", "5.csv", "6.csv"]),
        (&["-c", ">", "--until", "1h"], &[]),
    ];
    for (index, (options, expected)) in cases.into_iter().enumerate() {
        let into = home.path().join(index.to_string());
        let events = replay(&server, &into, options).await.success().json_lines();
        assert_eq!(names(&events), BTreeSet::from_iter(expected.iter().copied()), "{options:?}");
        for name in expected {
            let bytes = std::fs::read_to_string(into.join(name)).unwrap();
            assert!(bytes.ends_with(&format!(" {name}")), "{bytes}");
        }
    }
    nothing_left_but(&server, &[]).await;
}

#[tokio::test]
async fn replaying_and_reading_disturb_no_receivers_progress() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (outbox, inbox) = (home.path().join("outbox"), home.path().join("inbox"));
    files::tree(&outbox, 6, 0..1_500_000, 1);
    send(&server, &[], &[outbox.join(".")]).await;
    let _ = receiving(&server, "slow", &inbox, &["--count", "2"]).run().await.success();
    let progress = || async {
        let inbox = &stream(&server, "NATSFER").await["consumer_detail"][0];
        assert_eq!(inbox["name"], "slow");
        (number(inbox, "num_pending"), number(inbox, "num_ack_pending"), inbox["ack_floor"]["stream_seq"].clone())
    };
    let before = progress().await;
    assert_eq!(before.0 + before.1, 4);

    let again = home.path().join("again");
    assert_eq!(replay(&server, &again, &["-c", ">"]).await.success().json_lines().len(), 6);
    files::assert_same(&outbox, &again);
    for entry in list(&server, &[]).await {
        let _ = consumer(["cat", text(&entry, "transfer")]).server(&server).run().await.success();
    }
    assert_eq!(progress().await, before);
    assert_eq!(drain(&server, "slow", &inbox, &[]).await.len(), 4);
    files::assert_same(&outbox, &inbox);
    nothing_left_but(&server, &["slow"]).await;
}

#[tokio::test]
async fn receivers_choose_channels_with_wildcards() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    for channel in ["invoices.eu", "invoices.us", "invoices.us.ca", "orders"] {
        send_named(&server, channel, &[&format!("{channel}.txt")]).await;
    }
    let cases: [(&str, &str, &[&str]); 4] = [
        ("one", "invoices.eu", &["invoices.eu.txt"]),
        ("level", "invoices.*", &["invoices.eu.txt", "invoices.us.txt"]),
        ("below", "invoices.>", &["invoices.eu.txt", "invoices.us.txt", "invoices.us.ca.txt"]),
        ("all", ">", &["invoices.eu.txt", "invoices.us.txt", "invoices.us.ca.txt", "orders.txt"]),
    ];
    for (name, channels, expected) in cases {
        let events = drain(&server, name, home.path().join(name), &["-c", channels]).await;
        assert_eq!(names(&events), BTreeSet::from_iter(expected.iter().copied()), "{channels}");
        let listed = list(&server, &["-c", channels]).await;
        assert_eq!(names(&listed), BTreeSet::from_iter(expected.iter().copied()), "{channels}");
    }
    let changed = receiving(&server, "one", home.path().join("one"), &["-c", "orders", "--drain"]);
    let errors = changed.run().await.exited(1).errors();
    assert!(errors.contains("one") && errors.contains("invoices.eu"), "{errors}");
}

#[tokio::test]
async fn a_range_fetches_only_the_chunks_it_needs() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let source = home.path().join("big.bin");
    files::random_file(&source, 24 << 20, 1);
    let sent = send(&server, &["--chunk-size", "64KiB"], &[&source]).await;
    let bytes = std::fs::read(&source).unwrap();
    let (id, end) = (text(&sent[0], "transfer"), bytes.len());
    let proxy = Proxy::to(&server.url()).await;
    for (argument, expected) in [
        ("0-0", 0..1),
        ("65535-65536", 65_535..65_537),
        ("12000000-12500000", 12_000_000..12_500_001),
        ("-100", end - 100..end),
        ("25165000-", 25_165_000..end),
        ("25165800-99999999999", 25_165_800..end),
    ] {
        let cat = consumer(["cat", id, "--range", argument]).server(&proxy).run().await.success();
        assert!(cat.stdout == bytes[expected], "{argument} gave {} bytes", cat.stdout.len());
    }
    assert!(proxy.bytes_down() < 4 << 20, "{} bytes were fetched", proxy.bytes_down());
    nothing_left_but(&server, &[]).await;
}

#[tokio::test]
async fn wrong_usage_exits_2_and_says_how_it_is_meant() {
    let server = Server::start().await;
    for arguments in [
        &["send"][..],
        &["send", "-"],
        &["send", "-c", "a..b", "x"],
        &["send", "-c", "a.*", "x"],
        &["send", "--chunk-size", "1KiB", "x"],
        &["send", "--compression", "rar", "x"],
        &["send", "--digest", "md5", "x"],
        &["send", "--meta", "novalue", "x"],
        &["send", "--name", "../x", "x"],
        &["send", "--name", "x", "a", "b"],
        &["init", "--replicas", "0"],
        &["nonsense"],
    ] {
        let output = producer(arguments).server(&server).run().await.exited(2);
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{arguments:?}");
    }
    for arguments in [
        &["receive", "--into", "x"][..],
        &["receive", "-n", "a"],
        &["receive", "-n", "a.b", "--into", "x"],
        &["receive", "-n", "a", "--into", "x", "--drain", "--count", "1"],
        &["receive", "-n", "a", "--into", "x", "--on-conflict", "panic"],
        &["replay", "--into", "x"],
        &["replay", "not-an-id", "--into", "x"],
        &["replay", "-c", "x", "--since", "yesterday", "--into", "x"],
        &["cat"],
        &["cat", "0123456789abcdef0123456789abcdef", "--range", "9-1"],
    ] {
        let output = consumer(arguments).server(&server).run().await.exited(2);
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{arguments:?}");
    }
    assert!(!Path::new("x").exists());
}

/// A drain that left something out has not done what was asked.
#[tokio::test]
async fn a_drain_that_refuses_a_manifest_fails() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    send_named(&server, "a", &["x"]).await;
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Natsfer-Manifest", r#"{"version":2}"#);
    let subject = format!("natsfer.open.a.{:032x}", 1);
    server.jetstream().await.publish_with_headers(subject, headers, "".into()).await.unwrap().await.unwrap();
    let drain = receiving(&server, "r", home.path(), &["--drain"]).run().await.exited(1);
    assert!(drain.errors().contains("version 2"), "{}", drain.errors());
    assert!(home.path().join("x").exists());
    // It does not come again.
    let _ = receiving(&server, "r", home.path(), &["--drain"]).run().await.success();
}

/// Nothing could be landed in it ever again: whoever starts it again has it made anew.
#[tokio::test]
async fn a_receiver_whose_directory_is_removed_ends() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let inbox = home.path().join("inbox");
    let receiver = receiving(&server, "r", &inbox, &[]).spawn().await;
    eventually("it listens", Duration::from_secs(60), || async {
        (consumers(&server, "NATSFER").await == ["r"]).then_some(())
    })
    .await;
    // While it starts it still makes files there, which a removal in one go can meet.
    eventually("its directory is gone", Duration::from_secs(60), || async { std::fs::remove_dir_all(&inbox).ok() })
        .await;
    send_named(&server, "a", &["x"]).await;
    let errors = receiver.wait().await.exited(1).errors();
    assert!(errors.contains("the target directory") && errors.contains("was removed"), "{errors}");
    drain(&server, "r", &inbox, &["--takeover", "2s"]).await;
    assert!(inbox.join("x").exists());
}

#[tokio::test]
async fn what_is_not_there_is_an_error_with_its_id() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    send_named(&server, "default", &["a"]).await;
    let id = "0123456789abcdef0123456789abcdef";
    let cat = consumer(["cat", id]).server(&server).run().await.exited(1);
    assert!(cat.stdout.is_empty() && cat.errors().contains(id), "{}", cat.errors());
    let replayed = replay(&server, home.path(), &[id]).await.exited(1);
    assert!(replayed.errors().contains(id), "{}", replayed.errors());
}

#[tokio::test]
async fn with_json_standard_output_has_nothing_but_json() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let outbox = home.path().join("outbox");
    files::tree(&outbox, 3, 0..200_000, 1);
    let chatty = ["-vv"];
    let sent = sending(&server, &chatty, &[outbox.join(".")]).run().await.success();
    let received = receiving(&server, "json", home.path().join("inbox"), &["-vv", "--drain"]).run().await.success();
    let listed = consumer(["list", "--json", "-vv"]).server(&server).run().await.success();
    let replayed = replay(&server, &home.path().join("again"), &["-vv", "-c", ">"]).await.success();
    for output in [sent, received, listed, replayed] {
        assert!(!output.stderr.is_empty(), "{} has something to say", output.command);
        assert_eq!(output.json_lines().len(), 3, "{}", output.command);
        assert_eq!(output.text().lines().count(), 3, "{}", output.command);
    }
}
