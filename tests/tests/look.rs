//! Looking around: what is stored, who has it, who lags behind, what happened; ids by their beginnings; and nothing done in silence.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::time::Duration;

use async_nats::jetstream::{AckKind, consumer::PullConsumer};
use futures_util::StreamExt;
use natsfer_tests::steps::{drain, list, number, receiving, send, send_stdin, sending, staged_files, text};
use natsfer_tests::{
    Command, Output, Proxy, Server, consumer, document, eventually, files, our_binary, producer, program,
};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);
const MIB: u64 = 1 << 20;
/// They differ in their tenth digit.
const IDS: [&str; 3] =
    ["abcdef0120000000000000000000000f", "abcdef0121000000000000000000000f", "ffff0000000000000000000000000000"];

/// A command of `natsfer-consumer`, split at blanks.
fn reading(server: &Server, line: &str) -> Command {
    consumer(line.split(' ')).server(server)
}

async fn read(server: &Server, line: &str) -> Output {
    reading(server, line).run().await.success()
}

async fn send_as(server: &Server, id: &str, name: &str, bytes: &[u8]) {
    send_stdin(server, &["--transfer-id", id], name, bytes.to_vec()).await;
}

async fn receiver(server: &Server, name: &str) -> Value {
    read(server, &format!("receivers {name} --json")).await.json_lines().remove(0)
}

/// What waits for a receiver: files, bytes, and whether that is exact.
async fn lag(server: &Server, name: &str) -> (u64, u64, bool) {
    let receiver = receiver(server, name).await;
    (number(&receiver, "waiting_files"), number(&receiver, "waiting_bytes"), receiver["exact"] == true)
}

async fn inbox(server: &Server, name: &str) -> PullConsumer {
    server.jetstream().await.get_stream("NATSFER").await.unwrap().get_consumer(name).await.unwrap()
}

#[tokio::test]
async fn both_programs_look_around_alike() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    files::random_file(home.path().join("big.bin"), 3 * MIB, 1);
    let sent = send(&server, &["-c", "invoices.eu", "--meta", "project=x"], &[home.path().join("big.bin")]).await;
    drain(&server, "billing", home.path().join("inbox"), &["-c", "invoices.>"]).await;
    let id = text(&sent[0], "transfer");
    for line in ["list", "status", &format!("status {id}"), &format!("show {id}"), "receivers", "history"] {
        for json in [false, true] {
            let arguments = || line.split(' ').chain(json.then_some("--json"));
            let [one, other] = [consumer(arguments()), producer(arguments())];
            let (one, other) = (one.server(&server).run().await.success(), other.server(&server).run().await.success());
            assert!(!one.stdout.is_empty(), "{}", one.command);
            if json {
                assert_eq!(one.json_lines(), other.json_lines());
            } else {
                assert_eq!(one.text().lines().count(), other.text().lines().count());
            }
        }
    }
}

#[tokio::test]
async fn a_transfer_is_named_by_the_beginning_of_its_id_everywhere() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    for (id, name) in IDS.into_iter().zip(["one", "two", "three"]) {
        send_as(&server, id, name, name.as_bytes()).await;
    }
    // Refused by a receiver, to be tried again.
    let strict = receiving(&server, "strict", home.path().join("strict"), &["--drain", "--max-size", "1"]);
    let _ = strict.run().await.exited(1);
    let into = home.path().join("again");
    let into = into.to_str().unwrap();
    let lines = [
        "show ID",
        "status ID",
        "cat ID",
        "verify ID",
        &format!("replay ID --into {into}"),
        &format!("retry ID -n strict --into {into}"),
    ];
    for line in lines {
        for prefix in ["abcdef01", "abcd"] {
            let errors = reading(&server, &line.replace("ID", prefix)).run().await.exited(1).errors();
            let all = errors.contains(IDS[0]) && errors.contains(IDS[1]) && !errors.contains(IDS[2]);
            assert!(all && errors.contains("default, one") && errors.contains("default, two"), "{line}: {errors}");
        }
        let output = read(&server, &line.replace("ID", "abcdef0121")).await;
        assert!(output.text().contains("two"), "{}", output.command);
        let errors = reading(&server, &line.replace("ID", "0000")).run().await.exited(1).errors();
        let next_step = if line.starts_with("retry") { "`rejected -n strict`" } else { "`list`" };
        assert!(errors.contains("0000") && errors.contains(next_step), "{line}: {errors}");
        let wrong = reading(&server, &line.replace("ID", "abc")).run().await.exited(2);
        assert!(wrong.errors().contains("4 to 32"), "{}", wrong.errors());
    }
    let ambiguous = producer(["cancel", "abcd"]).server(&server).run().await.exited(1);
    assert!(ambiguous.errors().contains("2 transfers") && list(&server, &[]).await.len() == 3);
    let cancelled = producer(["cancel", "ffff"]).server(&server).run().await.success();
    assert!(cancelled.text().contains(IDS[2]) && list(&server, &[]).await.len() == 2);
    let elsewhere = reading(&server, "cat abcdef0120 -c other").run().await.exited(1);
    assert!(elsewhere.errors().contains("channel other"), "{}", elsewhere.errors());
}

#[tokio::test]
async fn what_is_stored_is_chosen_and_ordered() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let outbox = home.path().join("outbox");
    for (name, size) in [("b.csv", 300), ("a.txt", 100), ("deep/c.csv", 200)] {
        files::random_file(outbox.join(name), size, size);
        send(&server, &["-c", if size == 300 { "eu" } else { "us" }], &[outbox.join(".")]).await;
    }
    files::random_file(home.path().join("gone.bin"), 2 * MIB, 4);
    let gone = send(&server, &["-c", "us"], &[home.path().join("gone.bin")]).await;
    let _ = producer(["cancel", text(&gone[0], "transfer")]).server(&server).run().await.success();
    let names = |entries: &[Value]| entries.iter().map(|entry| text(entry, "name").to_owned()).collect::<Vec<_>>();
    let cases: [(&[&str], &[&str]); 10] = [
        (&["*.csv", "-c", "us"], &["b.csv"]),
        (&["**/*.csv", "-c", "us"], &["b.csv", "deep/c.csv"]),
        (&["*.csv", "a.*", "-c", "us", "--sort", "name"], &["a.txt", "b.csv"]),
        (&["--state", "cancelled"], &["gone.bin"]),
        (&["--state", "open"], &[]),
        (&["-c", "us", "--state", "complete,open", "--sort", "name"], &["a.txt", "b.csv", "deep/c.csv"]),
        (&["-c", "us", "--state", "complete", "--sort", "size"], &["a.txt", "deep/c.csv", "b.csv"]),
        (&["-c", "us", "--state", "complete", "--sort", "size", "-r"], &["b.csv", "deep/c.csv", "a.txt"]),
        (&["--since", "1h", "-c", "eu"], &["b.csv"]),
        (&["--until", "1h"], &[]),
    ];
    for (options, expected) in cases {
        assert_eq!(names(&list(&server, options).await), *expected, "{options:?}");
    }
    assert!(list(&server, &["a.txt"]).await[0]["digest"].as_str().unwrap().starts_with("blake3:"));
}

/// What a table shows names its transfer, whatever else is stored; and names stay in their column.
#[tokio::test]
async fn ids_in_tables_are_as_long_as_they_must_be() {
    let server = Server::start().await;
    send_as(&server, IDS[2], "日本語.txt", b"x").await;
    let one = read(&server, "list").await;
    assert!(one.text().contains("\nffff0000  complete"), "{}", one.text());
    assert!(one.errors().contains("1 transfer, 1 B"), "{}", one.errors());
    for (id, name) in IDS.into_iter().zip(["one", "two"]) {
        send_as(&server, id, name, name.as_bytes()).await;
    }
    let all = read(&server, "list").await.text();
    let shown: Vec<&str> = all.lines().skip(1).map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(shown, ["ffff000000", "abcdef0120", "abcdef0121"]);
    let column = all.lines().next().unwrap().find("NAME").unwrap();
    assert!(all.lines().skip(1).all(|line| line.is_char_boundary(column) && !line[column..].starts_with(' ')), "{all}");
    // Also of those that are not shown.
    assert!(read(&server, "list one").await.text().contains("abcdef0120  "));
}

#[tokio::test]
async fn all_of_a_transfer_is_shown() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let source = home.path().join("big.bin");
    files::random_file(&source, MIB, 1);
    let sent =
        send(&server, &["--chunk-size", "256KiB", "--meta", "a=\u{1b}[2J", "--media-type", "x/y"], &[&source]).await;
    let id = text(&sent[0], "transfer").to_owned();
    drain(&server, "happy", home.path().join("happy"), &[]).await;
    let strict = receiving(&server, "strict", home.path().join("strict"), &["--drain", "--max-size", "1"]);
    let _ = strict.run().await.exited(1);
    // A chunk is lost, and asked for.
    let data = server.jetstream().await.get_stream("NATSFER_DATA").await.unwrap();
    data.delete_message(2).await.unwrap();
    let poor = receiving(&server, "poor", home.path().join("poor"), &[]).spawn().await;
    let show = async || read(&server, &format!("show --json {}", &id[..8])).await.json_lines().remove(0);
    let shown = eventually("a repair is asked for", SOON, async || {
        let shown = show().await;
        (!shown["repairs"].as_array().unwrap().is_empty()).then_some(shown)
    })
    .await;
    poor.terminate();
    let _ = poor.wait().await;
    for (field, expected) in [
        ("state", json!("complete")),
        ("name", json!("big.bin")),
        ("size", json!(MIB)),
        ("media_type", json!("x/y")),
        ("chunk_size", json!(256 << 10)),
        ("chunks", json!(4)),
        ("chunks_stored", json!(3)),
        ("encodings", json!({"identity": 3})),
        ("digest", sent[0]["digest"].clone()),
        ("metadata", json!({"a": "\u{1b}[2J"})),
    ] {
        assert_eq!(shown[field], expected, "{field} in {shown}");
    }
    assert_eq!((&shown["repairs"][0]["receiver"], &shown["repairs"][0]["chunks"]), (&json!("poor"), &json!([[1, 1]])));
    let states: Vec<_> =
        shown["receivers"].as_array().unwrap().iter().map(|r| (text(r, "receiver"), text(r, "state"))).collect();
    assert!(states.contains(&("happy", "landed")) && states.contains(&("strict", "rejected")), "{states:?}");
    assert!(shown["receivers"][0]["landed_at"].is_string(), "{shown}");

    let told = read(&server, &format!("show {id}")).await.text();
    for words in ["3 of 4 chunks", "send its source again", "poor asked for chunks 1", "\\u{1b}[2J", "x/y"] {
        assert!(told.contains(words), "{words} in {told}");
    }
    assert!(!told.contains('\u{1b}'));
}

#[tokio::test]
async fn receivers_are_shown_with_what_waits_for_them() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let outbox = home.path().join("outbox");
    for size in [1_000, 2_000, 3 * MIB, 4_000] {
        files::random_file(outbox.join(size.to_string()), size, size);
    }
    let none = read(&server, "receivers").await;
    assert!(none.stdout.is_empty() && none.errors().contains("no receiver"), "{}", none.errors());
    // Made, and behind from the beginning.
    drain(&server, "late", home.path().join("late"), &[]).await;
    assert_eq!(lag(&server, "late").await, (0, 0, true));
    send(&server, &["-c", "a"], &[outbox.join(".")]).await;
    files::random_file(home.path().join("elsewhere"), 500, 1);
    let other = send(&server, &["-c", "b"], &[home.path().join("elsewhere")]).await;
    assert_eq!(lag(&server, "late").await, (5, 7_500 + 3 * MIB, true));
    drain(&server, "only-a", home.path().join("a"), &["-c", "a"]).await;
    assert_eq!(lag(&server, "only-a").await, (0, 0, true));
    let strict = receiving(&server, "strict", home.path().join("strict"), &["--drain", "--max-size", "2KiB"]);
    let _ = strict.run().await.exited(1);
    let all = read(&server, "receivers --json").await.json_lines();
    let told: Vec<_> =
        all.iter().map(|r| (text(r, "receiver"), number(r, "waiting_files"), number(r, "rejected"))).collect();
    assert_eq!(told, [("late", 5, 0), ("only-a", 0, 0), ("strict", 0, 2)]);
    assert_eq!(all[1]["channels"], json!(["a"]));
    assert!(all.iter().all(|receiver| receiver["state"] == "absent"), "{all:?}");
    // What is taken back waits for nobody.
    let _ = producer(["cancel", text(&other[0], "transfer")]).server(&server).run().await.success();
    assert_eq!(lag(&server, "late").await.0, 4);

    let daemon = receiving(&server, "only-a", home.path().join("a"), &["-c", "a"]).spawn().await;
    eventually("it listens", SOON, async || (receiver(&server, "only-a").await["state"] == "listening").then_some(()))
        .await;
    daemon.terminate();
    let _ = daemon.wait().await.success();
    eventually("it is gone", SOON, async || (receiver(&server, "only-a").await["state"] == "absent").then_some(()))
        .await;
    let unknown = reading(&server, "receivers typo").run().await.exited(1);
    assert!(unknown.errors().contains("no receiver 'typo'"), "{}", unknown.errors());
}

#[tokio::test]
async fn a_receiver_whose_hands_are_full_is_seen() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    files::random_file(home.path().join("big.bin"), 20 * MIB, 1);
    send(&server, &[], &[home.path().join("big.bin")]).await;
    let slow = Proxy::to(&server.url()).await;
    slow.rate(2 * MIB);
    let inbox = home.path().join("inbox");
    let busy = receiving(&slow, "busy", &inbox, &["--concurrency", "1"]).spawn().await;
    eventually("it has begun", SOON, || async { (!staged_files(&inbox, "busy").is_empty()).then_some(()) }).await;
    let seen = eventually("it reads", SOON, async || {
        Some(receiver(&server, "busy").await).filter(|receiver| receiver["state"] == "receiving")
    })
    .await;
    assert_eq!(
        (number(&seen, "taken"), number(&seen, "waiting_files"), number(&seen, "waiting_bytes")),
        (1, 1, 20 * MIB)
    );
    busy.kill();
}

/// Which of those it was given are done, the server does not tell; what the receiver says does.
#[tokio::test]
async fn where_it_cannot_be_known_it_says_about() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    drain(&server, "silent", home.path().join("silent"), &[]).await;
    let outbox = home.path().join("outbox");
    for size in [100, 200, 400] {
        files::random_file(outbox.join(size.to_string()), size, size);
    }
    send(&server, &["--concurrency", "1"], &[outbox.join(".")]).await;
    let mut messages = inbox(&server, "silent").await.fetch().max_messages(3).messages().await.unwrap();
    let mut held = Vec::new();
    while let Some(message) = messages.next().await {
        held.push(message.unwrap());
    }
    assert_eq!(lag(&server, "silent").await, (3, 700, true));
    // The second of them is done, and nobody says so.
    held[1].double_ack().await.unwrap();
    assert_eq!(lag(&server, "silent").await, (2, 700, false));
    assert!(read(&server, "receivers").await.text().contains("~700 B"));
    held[0].double_ack_with(AckKind::Ack).await.unwrap();
    assert_eq!(lag(&server, "silent").await, (1, 400, true));
}

#[tokio::test]
async fn looking_at_receivers_that_are_done_reads_next_to_nothing() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let outbox = home.path().join("outbox");
    files::tree(&outbox, 1_000, 10..100, 1);
    send(&server, &["--concurrency", "64"], &[outbox.join(".")]).await;
    drain(&server, "done", home.path().join("inbox"), &["--concurrency", "64"]).await;
    let proxy = Proxy::to(&server.url()).await;
    let seen = consumer(["receivers", "--json"]).server(&proxy).run().await.success().json_lines();
    assert_eq!((seen.len(), number(&seen[0], "waiting_files")), (1, 0));
    assert!(proxy.bytes_down() < 100_000, "{} bytes were read", proxy.bytes_down());
}

fn events(lines: &[Value]) -> Vec<(String, String)> {
    lines.iter().map(|line| (text(line, "event").into(), line["name"].as_str().unwrap_or_default().into())).collect()
}

#[tokio::test]
async fn history_tells_what_happened_and_goes_on() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (big, small) = (home.path().join("big.bin"), home.path().join("small.txt"));
    files::random_file(&big, 2 * MIB, 1);
    files::random_file(&small, 10, 2);
    let nothing = read(&server, "history").await;
    assert!(nothing.stdout.is_empty() && nothing.errors().contains("has happened"), "{}", nothing.errors());
    let sent = send(&server, &["-c", "eu"], &[&big]).await;
    send(&server, &["-c", "us"], &[&small]).await;
    drain(&server, "r", home.path().join("inbox"), &["--concurrency", "1"]).await;
    let strict = receiving(&server, "strict", home.path().join("strict"), &["--drain", "--max-size", "100"]);
    let _ = strict.run().await.exited(1);
    let pairs = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).into(), (*b).into())).collect::<Vec<_>>();
    let all = read(&server, "history --json").await.json_lines();
    let of_big = [("published", "big.bin"), ("complete", "big.bin"), ("landed", "big.bin"), ("rejected", "big.bin")];
    let of_small = [("published", "small.txt"), ("landed", "small.txt"), ("landed", "small.txt")];
    assert_eq!(all.len(), of_big.len() + of_small.len(), "{all:?}");
    assert!(all.is_sorted_by_key(|line| number(line, "sequence")), "{all:?}");
    for (options, expected) in
        [("-c eu", &of_big[..]), ("--match big.*", &of_big), ("-c us --match *", &of_small), ("--match x", &[])]
    {
        assert_eq!(
            events(&read(&server, &format!("history --json {options}")).await.json_lines()),
            pairs(expected),
            "{options}"
        );
    }
    let last = read(&server, "history --json --limit 2").await.json_lines();
    assert_eq!(last, all[all.len() - 2..]);
    let since = text(&all[2], "at");
    assert_eq!(read(&server, &format!("history --json --since {since}")).await.json_lines(), all[2..]);
    let told = read(&server, "history").await.text();
    let line = told.lines().find(|line| line.contains("rejected")).unwrap();
    assert!(line.contains("big.bin") && line.contains("by strict: too_large"), "{line}");

    let following = reading(&server, "history --json --follow --limit 1").spawn().await;
    following.event(SOON, |event| event["sequence"] == all[all.len() - 1]["sequence"]).await;
    let _ = producer(["cancel", text(&sent[0], "transfer")]).server(&server).run().await.success();
    following.event(SOON, |event| event["event"] == "cancelled" && event["name"] == "big.bin").await;
    files::random_file(home.path().join("new.txt"), 10, 3);
    send(&server, &[], &[home.path().join("new.txt")]).await;
    following.event(SOON, |event| event["event"] == "published" && event["name"] == "new.txt").await;
    following.interrupt();
    let _ = following.wait().await.success();
}

#[tokio::test]
async fn where_nothing_is_done_that_is_said() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let into = home.path().to_str().unwrap();
    let says = async |command: Command, words: &str| {
        let output = command.server(&server).run().await.success();
        assert!(output.stdout.is_empty(), "{}: {}", output.command, output.text());
        assert!(output.errors().contains(words), "{}: {}", output.command, output.errors());
    };
    says(consumer(["list"]), "there is no stream NATSFER").await;
    let empty = home.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    says(producer(["send"]).arg(&empty), "nothing to send: there is no file in").await;
    let forget = consumer(["forget", "-n", "typo"]).server(&server).run().await.exited(1).errors();
    assert!(forget.starts_with("error: there is no receiver 'typo'"), "{forget}");
    says(producer(["status"]), "there is no stream NATSFER").await;
    send_as(&server, IDS[0], "a", b"a").await;
    says(consumer(["list", "-c", "eu"]), "nothing is stored on channel eu").await;
    says(consumer(["list", "*.csv"]), "nothing matches of the 1 transfer").await;
    says(consumer(["list", "*.csv", "--json"]), "nothing matches").await;
    says(producer(["prune", "--older-than", "1h"]), "is to be removed").await;
    says(consumer(["replay", "-c", "eu", "--into", into]), "nothing on stream NATSFER matches").await;
    let rejected = consumer(["rejected", "-n", "typo"]).server(&server).run().await.exited(1).errors();
    assert!(rejected.contains("there is no receiver 'typo'"), "{rejected}");
    drain(&server, "r", home.path(), &[]).await;
    says(consumer(["rejected", "-n", "r"]), "receiver 'r' has rejected nothing").await;
    says(consumer(["retry", "-n", "r", "--all", "--into", into]), "receiver 'r' has rejected nothing").await;
}

#[tokio::test]
async fn a_receiver_that_is_not_there_is_told_at_once_and_waited_for() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let source = home.path().join("a.txt");
    files::random_file(&source, 10, 1);
    drain(&server, "billing", home.path().join("billing"), &[]).await;
    drain(&server, "other", home.path().join("other"), &["-c", "elsewhere"]).await;
    let sender = sending(&server, &["--wait-for", "biling,other,billing"], &[&source]).spawn().await;
    sender.log_line(SOON, |line| line.contains("there is no receiver 'biling'")).await;
    sender.log_line(SOON, |line| line.contains("'other' does not listen on channel default")).await;
    sender.log_line(SOON, |line| line.contains("receivers of channel default: billing")).await;
    sender.event(SOON, |event| event["event"] == "sent").await;
    drain(&server, "billing", home.path().join("billing"), &[]).await;
    sender.event(SOON, |event| event["receiver"] == "billing").await;
    // It comes after all.
    drain(&server, "biling", home.path().join("biling"), &[]).await;
    sender.event(SOON, |event| event["receiver"] == "biling").await;
    assert!(sender.is_running());
    sender.kill();
    let quiet = sending(&server, &["--wait-for", "billing"], &[&source]).run().await.success();
    assert!(!quiet.errors().contains("receiver '"), "{}", quiet.errors());
}

/// What waits for a receiver that is not there fills the stream, whether it is sent, watched for or pruned by.
#[tokio::test]
async fn a_mistyped_receiver_or_channel_is_told_by_prune_and_watch() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    drain(&server, "billing", home.path().join("billing"), &["-c", "invoices.>"]).await;
    let prune = async |options: &[&str]| {
        producer(["prune", "--delivered-to"]).args(options).server(&server).run().await.success().errors()
    };
    let warned = prune(&["billing,nope"]).await;
    assert!(warned.contains("there is no receiver 'nope'") && warned.contains("channel >: billing"), "{warned}");
    assert!(prune(&["billing", "-c", "orders"]).await.contains("'billing' does not listen on channel orders"));
    assert!(!prune(&["billing", "-c", "*.eu"]).await.contains("WARN"));

    let outbox = home.path().join("outbox");
    std::fs::create_dir(&outbox).unwrap();
    let watcher = producer(["watch", "-c", "typo"]).arg(&outbox).server(&server).spawn().await;
    let there = "no receiver listens on channel typo; there are: billing (on invoices.>)";
    watcher.log_line(SOON, |line| line.contains("WARN") && line.contains(there)).await;
}

/// The name of a stream may be mistyped: that streams were made is said once, however many files miss them.
#[tokio::test]
async fn streams_that_are_made_on_the_way_are_told_of() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    files::tree(home.path().join("outbox"), 6, 0..1_000, 1);
    let told = "created streams NATSFRE and NATSFRE_DATA, without limits";
    let options = ["--stream", "NATSFRE"];
    let errors = sending(&server, &options, &[home.path().join("outbox")]).run().await.success().errors();
    assert_eq!(errors.matches(told).count(), 1, "{errors}");
    let inbox = home.path().join("inbox");
    let again = receiving(&server, "r", &inbox, &["--drain", "--stream", "NATSFRE"]).run().await.success().errors();
    assert!(!again.contains("created"), "{again}");
    let receive = receiving(&server, "r", &inbox, &["--drain", "--stream", "OTHER"]).run().await.success().errors();
    assert!(receive.contains("created streams OTHER and OTHER_DATA, without limits"), "{receive}");
    let init = producer(["init", "--stream", "THIRD"]).server(&server).run().await.success().errors();
    assert!(!init.contains("created streams"), "{init}");
}

/// Who may read some channels alone, and look at no other receiver, says which channels.
#[tokio::test]
async fn a_limited_user_looks_around_on_its_channels() {
    let server = document::start(&document::block("conf users")).await;
    let home = tempfile::tempdir().unwrap();
    let [operator, billing] = ["operator", "billing"].map(|user| document::url(&server.url(), user));
    files::random_file(home.path().join("big.bin"), 2 * MIB, 1);
    let sent = send(operator.as_str(), &["-c", "invoices.eu"], &[home.path().join("big.bin")]).await.remove(0);
    drain(billing.as_str(), "billing", home.path().join("inbox"), &["-c", "invoices.>"]).await;
    let id = &text(&sent, "transfer")[..8];
    let run = async |line: &str| consumer(line.split(' ')).server(billing.as_str()).run().await;
    assert_eq!(run(&format!("cat {id} -c invoices.>")).await.success().stdout.len() as u64, 2 * MIB);
    let _ = run(&format!("verify {id} -c invoices.>")).await.success();
    let shown = run(&format!("show {id} -c invoices.> --json")).await.success().json_lines().remove(0);
    assert_eq!((&shown["receivers"][0]["state"], &shown["chunks_stored"]), (&json!("landed"), &shown["chunks"]));
    assert_eq!(shown["not_permitted"], json!(["receivers that have not landed it"]));
    assert_eq!(number(&run("receivers billing --json").await.success().json_lines()[0], "waiting_files"), 0);
    assert_eq!(run("history -c invoices.> --json").await.success().json_lines().len(), 3);
    let denied = run(&format!("cat {id}")).await.exited(1);
    assert!(denied.errors().contains("`doctor` shows what this user may do"), "{}", denied.errors());
}

#[tokio::test]
async fn verify_tells_size_and_digest() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let source = home.path().join("big.bin");
    files::random_file(&source, 2 * MIB, 1);
    let sent = send(&server, &[], &[&source]).await.remove(0);
    let by_id = read(&server, &format!("verify --json {}", &text(&sent, "transfer")[..8])).await.json_lines().remove(0);
    let by_file =
        producer(["verify", "--json"]).arg(&source).server(&server).run().await.success().json_lines().remove(0);
    for verified in [by_id, by_file] {
        assert_eq!((&verified["size"], &verified["digest"]), (&json!(2 * MIB), &sent["digest"]), "{verified}");
    }
}

/// As in a shell, where what is enough is taken.
#[tokio::test]
async fn a_reader_that_goes_away_is_no_error() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let source = home.path().join("big.bin");
    files::random_file(&source, 8 * MIB, 1);
    let sent = send(&server, &[], &[&source]).await.remove(0);
    let consumer = our_binary("natsfer-consumer").unwrap();
    for range in ["", "--range 0-"] {
        let line = format!(
            "{} cat {} {range} | head -c 10; exit ${{PIPESTATUS[0]}}",
            consumer.display(),
            text(&sent, "transfer")
        );
        let cat = program("bash", ["-c", &line]).server(&server).run().await.success();
        assert_eq!((cat.stdout.len(), cat.errors().as_str()), (10, ""), "{line}");
    }
}

#[tokio::test]
async fn init_fails_where_the_streams_are_not_as_asked() {
    let server = Server::start().await;
    let init = async |options: &[&str]| producer([&["init"], options].concat()).server(&server).run().await;
    let _ = init(&["--max-bytes", "1GiB"]).await.success();
    let same = init(&["--max-bytes", "1GiB"]).await.success();
    assert!(same.text().contains("exists  NATSFER"), "{}", same.text());
    let _ = init(&[]).await.success();
    let other = init(&["--max-bytes", "2GiB", "--max-age", "1h", "--replicas", "2"]).await.exited(1);
    for words in
        ["has max_bytes 1073741824, not 2147483648", "--max-bytes=2147483648", "--max-age=3600s", "--replicas=2"]
    {
        assert!(other.errors().contains(words), "{words}: {}", other.errors());
    }
}

#[tokio::test]
async fn wrong_usage_shows_how_the_command_is_meant() {
    let usage = |program: &str, line: &[&str]| {
        let command = if program == "producer" { producer(line) } else { consumer(line) };
        async move { command.run().await.exited(2).errors() }
    };
    for line in [&["prune"][..], &["prune", "--state", "complete"], &["send", "-"], &["send", "--name", "x", "a", "b"]]
    {
        let errors = usage("producer", line).await;
        assert!(errors.contains(&format!("Usage: natsfer-producer {}", line[0])), "{errors}");
    }
    assert!(usage("producer", &["list", "--user", "me"]).await.contains("Usage: natsfer-producer"));
    assert!(usage("consumer", &["show"]).await.contains("Usage: natsfer-consumer show"));
    let help = producer(["prune", "--help"]).run().await.success().text();
    assert!(help.contains("never selected by its state alone"), "{help}");
}
