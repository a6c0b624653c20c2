//! Stored copies that are lost or damaged: noticed, asked for, sent again, and landed.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::{self, message::StreamMessage};
use natsfer_tests::steps::{drain, list, nothing_left_but, number, receipts, receiving, send, sending, stream, text};
use natsfer_tests::{Output, Proxy, Server, consumer, eventually, files, producer};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);
const SIZE: u64 = 5_000_000;
const CHUNKS: u64 = 20;
const OPTIONS: [&str; 2] = ["--chunk-size", "256KiB"];

/// A message of the data stream, by the chunk in it.
async fn chunk_message(data: &jetstream::stream::Stream, index: u64) -> StreamMessage {
    // The only transfer in the stream, sent without a hitch: chunk 0 is its first message.
    let message = data.get_raw_message(index + 1).await.unwrap();
    assert_eq!(message.headers.get("Natsfer-Chunk").unwrap().as_str(), index.to_string());
    message
}

fn without_ids(headers: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::new();
    for (name, values) in headers.iter() {
        if !name.to_string().starts_with("Nats-") {
            values.iter().for_each(|value| kept.append(name.clone(), value.clone()));
        }
    }
    kept
}

/// Puts another copy in a message's place at the end of the stream, with its payload altered.
async fn alter(context: &jetstream::Context, stream: &str, message: &StreamMessage) {
    context.get_stream(stream).await.unwrap().delete_message(message.sequence).await.unwrap();
    let mut payload = message.payload.to_vec();
    payload[0] ^= 1;
    let (subject, headers) = (message.subject.clone(), without_ids(&message.headers));
    context.publish_with_headers(subject, headers, payload.into()).await.unwrap().await.unwrap();
}

async fn verify_as_producer(server: &Server, path: &Path) -> Output {
    producer(["verify", "--json"]).arg(path).server(server).run().await
}

async fn verify_as_consumer(server: &Server, id: &str) -> Output {
    consumer(["verify", "--json", id]).server(server).run().await
}

async fn asked(server: &Server) -> u64 {
    let subjects = server.jetstream().await.get_stream("NATSFER").await.unwrap();
    let mut filtered = subjects.info_with_subjects("natsfer.repair.>").await.unwrap();
    let mut count = 0;
    while let Some(subject) = futures_util::StreamExt::next(&mut filtered).await {
        count += subject.unwrap().1 as u64;
    }
    count
}

#[tokio::test]
async fn chunks_deleted_or_altered_are_sent_again_and_nothing_else_is() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (source, inbox) = (home.path().join("big.bin"), home.path().join("inbox"));
    files::random_file(&source, SIZE, 1);
    let sent = send(&server, &OPTIONS, &[&source]).await;
    let id = text(&sent[0], "transfer");
    assert_eq!(number(&sent[0], "chunks"), CHUNKS);
    assert_eq!(verify_as_consumer(&server, id).await.success().json_lines()[0]["state"], "whole");
    assert_eq!(verify_as_producer(&server, &source).await.success().json_lines()[0]["state"], "whole");

    let context = server.jetstream().await;
    let data = context.get_stream("NATSFER_DATA").await.unwrap();
    for index in [3, 7, 8] {
        data.delete_message(chunk_message(&data, index).await.sequence).await.unwrap();
    }
    alter(&context, "NATSFER_DATA", &chunk_message(&data, 15).await).await;
    for found in [verify_as_consumer(&server, id).await, verify_as_producer(&server, &source).await] {
        let found = found.exited(1).json_lines().remove(0);
        assert_eq!(found["missing"], serde_json::json!([[3, 3], [7, 8]]), "{found}");
        assert_eq!(found["damaged"], serde_json::json!([[15, 15]]), "{found}");
    }

    let daemon = receiving(&server, "r", &inbox, &["--patience", "1s"]).spawn().await;
    eventually("the receiver asks", SOON, || async { (asked(&server).await == 1).then_some(()) }).await;
    // It waits without asking again and again, and goes on when it is answered.
    let repaired = send(&server, &OPTIONS, &[&source]).await.remove(0);
    assert_eq!(repaired["status"], "repaired", "{repaired}");
    assert_eq!(number(&repaired, "published_chunks"), 4, "{repaired}");
    let received = daemon.event(SOON, |event| event["event"] == "received").await;
    assert_eq!(number(&received, "repaired_chunks"), 4, "{received}");
    files::assert_same(&source, inbox.join("big.bin"));
    assert_eq!(asked(&server).await, 1);

    assert_eq!(send(&server, &OPTIONS, &[&source]).await[0]["status"], "unchanged");
    assert_eq!(verify_as_consumer(&server, id).await.success().json_lines()[0]["state"], "whole");
    daemon.terminate();
    let _ = daemon.wait().await.success();
    assert_eq!(receipts(&server).await, [("r".to_owned(), id.to_owned())]);
    drain(&server, "later", home.path().join("later"), &[]).await;
    files::assert_same(&source, home.path().join("later/big.bin"));
    // The request is still there: it was answered, and nothing is read for it once more.
    let waited =
        sending(&server, &[&OPTIONS[..], &["--wait-for", "later,r"]].concat(), &[&source]).run().await.success();
    assert!(!waited.errors().contains("asked to send chunks again"), "{}", waited.errors());
    nothing_left_but(&server, &["later", "r"]).await;
}

/// A producer that waits for receipts answers by itself.
#[tokio::test]
async fn a_running_producer_answers() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (source, inbox) = (home.path().join("big.bin"), home.path().join("inbox"));
    files::random_file(&source, SIZE, 2);
    let waiting = [&OPTIONS[..], &["--wait-for", "r"]].concat();
    let sender = sending(&server, &waiting, &[&source]).spawn().await;
    sender.event(SOON, |event| event["event"] == "sent").await;
    let data = server.jetstream().await.get_stream("NATSFER_DATA").await.unwrap();
    data.delete_message(chunk_message(&data, 5).await.sequence).await.unwrap();

    let received = drain(&server, "r", &inbox, &[]).await.remove(0);
    assert_eq!(number(&received, "repaired_chunks"), 1, "{received}");
    let landed = sender.event(SOON, |event| event["event"] == "landed").await;
    assert_eq!((text(&landed, "receiver"), text(&landed, "name")), ("r", "big.bin"));
    let _ = sender.wait().await.success();
    files::assert_same(&source, inbox.join("big.bin"));
    nothing_left_but(&server, &["r"]).await;
}

#[tokio::test]
async fn a_small_file_stored_damaged_is_replaced() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (source, inbox) = (home.path().join("small.bin"), home.path().join("inbox"));
    files::random_file(&source, 1_000, 3);
    let id = text(&send(&server, &[], &[&source]).await[0], "transfer").to_owned();
    let context = server.jetstream().await;
    let control = context.get_stream("NATSFER").await.unwrap();
    alter(&context, "NATSFER", &control.get_raw_message(1).await.unwrap()).await;
    assert_eq!(verify_as_consumer(&server, &id).await.exited(1).json_lines()[0]["state"], "damaged");
    assert_eq!(verify_as_producer(&server, &source).await.exited(1).json_lines()[0]["state"], "damaged");

    let daemon = receiving(&server, "r", &inbox, &[]).spawn().await;
    eventually("the receiver asks", SOON, || async { (asked(&server).await == 1).then_some(()) }).await;
    // Refused for good, the damaged message is done with; the file is not.
    eventually("the receiver waits", SOON, || async {
        let status = producer(["status", "--json", &id]).server(&server).run().await.success().json_lines().remove(0);
        (status["state"] == "waiting").then_some(())
    })
    .await;
    assert_eq!(send(&server, &[], &[&source]).await[0]["status"], "repaired");
    daemon.event(SOON, |event| event["event"] == "received").await;
    files::assert_same(&source, inbox.join("small.bin"));
    assert_eq!(send(&server, &[], &[&source]).await[0]["status"], "unchanged");
    daemon.terminate();
    // One message was refused for good.
    let _ = daemon.wait().await;
}

/// Its message is newer than the receipt then, and the receiver does not say again that it has the file.
#[tokio::test]
async fn a_receipt_counts_that_is_older_than_the_message_it_is_about() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (source, inbox) = (home.path().join("small.bin"), home.path().join("inbox"));
    files::random_file(&source, 1_000, 10);
    send(&server, &[], &[&source]).await;
    drain(&server, "r", &inbox, &[]).await;
    let context = server.jetstream().await;
    let control = context.get_stream("NATSFER").await.unwrap();
    alter(&context, "NATSFER", &control.get_raw_message(1).await.unwrap()).await;
    let lines = sending(&server, &["--wait-for", "r"], &[&source]).run().await.success().json_lines();
    assert_eq!((text(&lines[0], "status"), text(&lines[1], "event")), ("repaired", "landed"), "{lines:?}");
}

/// One replica of the message may be bad, and another one is looked at by the sender.
#[tokio::test]
async fn a_small_file_that_is_asked_for_is_published_again_once() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let source = home.path().join("small.bin");
    files::random_file(&source, 1_000, 11);
    let id = text(&send(&server, &[], &[&source]).await[0], "transfer").to_owned();
    let request = serde_json::json!({ "version": 1, "transfer": id, "receiver": "r", "chunks": [[0, 0]] }).to_string();
    let mut headers = HeaderMap::new();
    headers.insert("Natsfer-Repair", request);
    let subject = format!("natsfer.repair.default.{id}");
    let context = server.jetstream().await;
    context.publish_with_headers(subject, headers, "".into()).await.unwrap().await.unwrap();
    let statuses = [send(&server, &[], &[&source]).await, send(&server, &[], &[&source]).await];
    assert_eq!(statuses.each_ref().map(|events| text(&events[0], "status")), ["repaired", "unchanged"]);

    // Who waits and hears of it later leaves it at that.
    let sender = sending(&server, &["--wait-for", "r"], &[&source]).spawn().await;
    drain(&server, "r", home.path().join("inbox"), &[]).await;
    let output = sender.wait().await.success();
    assert!(!output.errors().contains("asked to send chunks again"), "{}", output.errors());
    files::assert_same(&source, home.path().join("inbox/small.bin"));
}

#[tokio::test]
async fn a_transfer_that_cannot_be_sent_again_is_not_waited_for() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let outbox = home.path().join("outbox");
    fs::create_dir(&outbox).unwrap();
    let (lost, other) = (outbox.join("lost.bin"), home.path().join("other.bin"));
    files::random_file(&lost, SIZE, 12);
    files::random_file(&other, SIZE, 13);
    let waiting = [&OPTIONS[..], &["--concurrency", "1", "--wait-for", "r"]].concat();
    let sender = sending(&server, &waiting, &[&lost, &other]).spawn().await;
    sender.log_line(SOON, |line| line.contains("everything is stored")).await;
    let data = server.jetstream().await.get_stream("NATSFER_DATA").await.unwrap();
    data.delete_message(chunk_message(&data, 5).await.sequence).await.unwrap();
    fs::remove_file(&lost).unwrap();

    let daemon = receiving(&server, "r", home.path().join("inbox"), &["--patience", "1s"]).spawn().await;
    let output = sender.wait().await.exited(1);
    let lines = output.json_lines();
    let of = |event: &str| lines.iter().find(|line| line["event"] == event).unwrap();
    assert_eq!((text(of("not_landed"), "name"), text(of("not_landed"), "reason")), ("lost.bin", "not_sent_again"));
    assert_eq!(text(of("landed"), "name"), "other.bin");
    assert!(output.errors().contains("was not sent again"), "{}", output.errors());
    daemon.terminate();
    let _ = daemon.wait().await.success();
}

/// What the disk loses, the server drops without a word.
#[tokio::test]
async fn a_bit_flipped_on_the_servers_disk_is_noticed_and_repaired() {
    let (server, home) = (Server::builder().sync_always().start().await, tempfile::tempdir().unwrap());
    let (source, inbox) = (home.path().join("big.bin"), home.path().join("inbox"));
    files::random_file(&source, SIZE, 4);
    let id = text(&send(&server, &OPTIONS, &[&source]).await[0], "transfer").to_owned();
    server.stop().await;
    let blocks = walk(server.store_dir()).into_iter().filter(|path| path.extension().is_some_and(|end| end == "blk"));
    let largest = blocks.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let mut bytes = fs::read(&largest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(&largest, bytes).unwrap();
    // Its index would hide the damage from the server.
    walk(server.store_dir())
        .into_iter()
        .filter(|path| path.ends_with("index.db"))
        .for_each(|path| fs::remove_file(path).unwrap());
    server.restart().await;

    let found = verify_as_consumer(&server, &id).await.exited(1).json_lines().remove(0);
    assert_eq!(found["state"], "damaged", "{found}");
    let daemon = receiving(&server, "r", &inbox, &["--patience", "1s"]).spawn().await;
    eventually("the receiver asks", SOON, || async { (asked(&server).await == 1).then_some(()) }).await;
    assert_eq!(send(&server, &OPTIONS, &[&source]).await[0]["status"], "repaired");
    daemon.event(SOON, |event| event["event"] == "received").await;
    files::assert_same(&source, inbox.join("big.bin"));
    daemon.terminate();
    let _ = daemon.wait().await.success();
}

/// Sequences are used again, chunks and closing records are gone: sender and receivers go by what is there.
#[tokio::test]
async fn a_server_that_comes_back_from_an_older_disk_is_filled_again() {
    let (server, home) = (Server::builder().sync_always().start().await, tempfile::tempdir().unwrap());
    let outbox = home.path().join("outbox");
    fs::create_dir(&outbox).unwrap();
    let (first, second) = (outbox.join("first.bin"), outbox.join("second.bin"));
    files::random_file(&first, SIZE, 5);
    files::random_file(&second, SIZE, 6);
    send(&server, &OPTIONS, &[&first]).await;
    let early = receiving(&server, "early", home.path().join("early"), &[]).spawn().await;
    early.event(SOON, |event| event["event"] == "received").await;
    server.stop().await;
    let older = home.path().join("older");
    server.snapshot_store(&older);
    server.restart().await;
    send(&server, &OPTIONS, &[&second]).await;
    early.event(SOON, |event| event["name"] == "second.bin").await;

    server.stop().await;
    server.restore_store(&older);
    server.restart().await;
    // Another file takes the sequences of the second one.
    let third = outbox.join("third.bin");
    files::random_file(&third, SIZE, 7);
    send(&server, &OPTIONS, &[&third]).await;
    early.event(SOON, |event| event["name"] == "third.bin").await;
    assert_eq!(list(&server, &[]).await.len(), 2);
    let all = send(&server, &OPTIONS, &[outbox.join(".")]).await;
    let statuses: Vec<_> = all.iter().map(|event| (text(event, "name"), text(event, "status"))).collect();
    assert!(
        statuses.contains(&("second.bin", "sent")) && statuses.contains(&("third.bin", "unchanged")),
        "{statuses:?}"
    );
    drain(&server, "late", home.path().join("late"), &[]).await;
    files::assert_same(&outbox, home.path().join("late"));
    eventually("nothing awaits the early receiver", SOON, || async {
        let inbox = stream(&server, "NATSFER").await["consumer_detail"]
            .as_array()?
            .iter()
            .find(|c| c["name"] == "early")?
            .clone();
        (inbox["num_pending"] == 0 && inbox["num_ack_pending"] == 0).then_some(())
    })
    .await;
    early.terminate();
    let _ = early.wait().await.success();
    files::assert_same(&outbox, home.path().join("early"));
}

/// Removed, and sent again at once: the server's window for duplicates must not swallow it.
#[tokio::test]
async fn what_is_purged_and_sent_again_is_stored_again() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let source = home.path().join("big.bin");
    files::random_file(&source, SIZE, 8);
    send(&server, &OPTIONS, &[&source]).await;
    server.jetstream().await.get_stream("NATSFER_DATA").await.unwrap().purge().await.unwrap();
    let again = send(&server, &OPTIONS, &[&source]).await.remove(0);
    assert_eq!((again["status"].as_str(), number(&again, "published_chunks")), (Some("repaired"), CHUNKS));
    drain(&server, "r", home.path().join("inbox"), &[]).await;
    files::assert_same(&source, home.path().join("inbox/big.bin"));
}

/// The manifest alone is lost: what lies on its subject is found before it is published over.
#[tokio::test]
async fn a_lost_manifest_is_published_again_above_its_chunks() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let source = home.path().join("big.bin");
    files::random_file(&source, SIZE, 9);
    send(&server, &OPTIONS, &[&source]).await;
    let control = server.jetstream().await.get_stream("NATSFER").await.unwrap();
    control.delete_message(1).await.unwrap();
    let again = send(&server, &OPTIONS, &[&source]).await.remove(0);
    assert_eq!(number(&again, "published_chunks"), 0, "{again}");
    drain(&server, "r", home.path().join("inbox"), &[]).await;
    files::assert_same(&source, home.path().join("inbox/big.bin"));

    // In chunks of another size, nothing that is stored fits: the file goes under another id.
    control.delete_message(3).await.unwrap();
    send(&server, &["--chunk-size", "128KiB"], &[&source]).await;
    let received: Vec<Value> = drain(&server, "s", home.path().join("other"), &[]).await;
    assert_eq!(received.len(), 1, "{received:?}");
    files::assert_same(&source, home.path().join("other/big.bin"));
}

/// A file whose first id is taken by something unreadable is found under the next one.
#[tokio::test]
async fn verify_goes_on_behind_a_manifest_that_cannot_be_read() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let source = home.path().join("big.bin");
    files::random_file(&source, SIZE, 10);
    let first = text(&send(&server, &OPTIONS, &[&source]).await[0], "transfer").to_owned();
    let _ = producer(["prune", "--older-than", "0s"]).server(&server).run().await.success();
    let subject = format!("natsfer.open.default.{first}");
    server.jetstream().await.publish(subject, "junk".into()).await.unwrap().await.unwrap();
    assert_eq!(verify_as_producer(&server, &source).await.exited(1).json_lines()[0]["state"], "absent");
    let second = text(&send(&server, &OPTIONS, &[&source]).await[0], "transfer").to_owned();
    assert_ne!(first, second);
    let verified = verify_as_producer(&server, &source).await.success().json_lines().remove(0);
    assert_eq!((text(&verified, "state"), text(&verified, "transfer")), ("whole", second.as_str()));
}

/// Taken back while it is repaired: not repaired.
#[tokio::test]
async fn what_is_cancelled_while_it_is_repaired_is_not_told_as_repaired() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let source = home.path().join("big.bin");
    files::random_file(&source, 3 * SIZE, 11);
    let id = text(&send(&server, &OPTIONS, &[&source]).await[0], "transfer").to_owned();
    let messages = || async { stream(&server, "NATSFER_DATA").await["state"]["messages"].as_u64() };
    server.jetstream().await.get_stream("NATSFER_DATA").await.unwrap().purge().await.unwrap();
    let slow = Proxy::to(&server.url()).await;
    slow.rate(4 << 20);
    let sender = sending(&slow, &[&OPTIONS[..], &["--window", "256KiB"]].concat(), &[&source]).spawn().await;
    eventually("it is being repaired", SOON, || async { (messages().await? > 2).then_some(()) }).await;
    let _ = producer(["cancel", id.as_str(), "--reason", "enough"]).server(&server).run().await.success();
    let errors = sender.wait().await.exited(1).errors();
    assert!(errors.contains("was cancelled while it was sent: enough"), "{errors}");
    assert_eq!(messages().await, Some(1), "nothing but its mark");
}

fn walk(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(walk(&path)) } else { found.push(path) }
    }
    found
}
