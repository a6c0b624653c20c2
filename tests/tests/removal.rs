//! Transfers that are taken back or removed: receivers drop what they have of them, and nothing is left.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::path::Path;
use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::{HeaderMap, HeaderValue};
use futures_util::StreamExt;
use natsfer_tests::steps::{drain, list, nothing_left_but, receiving, send, sending, staged_files, stream, text};
use natsfer_tests::{Command, Proxy, Running, Server, eventually, files, producer};

const SOON: Duration = Duration::from_secs(60);
const MIB: u64 = 1 << 20;

async fn messages(server: &Server, name: &str) -> u64 {
    stream(server, name).await["state"]["messages"].as_u64().unwrap()
}

async fn in_part(inbox: &Path, receiver: &str) {
    eventually("a part is there", SOON, || async { (!staged_files(inbox, receiver).is_empty()).then_some(()) }).await;
}

async fn no_part(inbox: &Path, receiver: &str) {
    eventually("no part is left", SOON, || async { staged_files(inbox, receiver).is_empty().then_some(()) }).await;
}

#[tokio::test]
async fn a_cancelled_transfer_is_dropped_by_those_who_receive_it_and_those_who_come_later() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (source, inbox, away) = (home.path().join("big.bin"), home.path().join("inbox"), home.path().join("away"));
    files::random_file(&source, 24 * MIB, 1);
    let sent = send(&server, &[], &[&source]).await;
    let id = text(&sent[0], "transfer");
    let slow = Proxy::to(&server.url()).await;
    slow.rate(4 * MIB);
    // One is receiving it, another was and is away.
    let offline = receiving(&slow, "offline", &away, &[]).spawn().await;
    in_part(&away, "offline").await;
    offline.kill();
    let _ = offline.wait().await;
    let live = receiving(&slow, "live", &inbox, &[]).spawn().await;
    in_part(&inbox, "live").await;

    let cancelled = producer(["cancel", id, "--reason", "wrong customer"]).server(&server).run().await.success();
    assert!(cancelled.text().contains("cancelled"), "{}", cancelled.text());
    no_part(&inbox, "live").await;
    live.log_line(SOON, |line| line.contains("wrong customer")).await;
    live.terminate();
    let _ = live.wait().await.success();
    drain(&server, "offline", &away, &["--takeover", "2s"]).await;
    no_part(&away, "offline").await;
    drain(&server, "later", home.path().join("later"), &[]).await;
    for receiver in ["inbox", "away", "later"] {
        assert!(!home.path().join(receiver).join("big.bin").exists(), "{receiver} has it");
    }
    assert_eq!(list(&server, &[]).await[0]["state"], "cancelled");
    // Nothing but its mark.
    assert_eq!(messages(&server, "NATSFER_DATA").await, 1);

    // Sent again, it is another transfer.
    let again = send(&server, &[], &[&source]).await;
    assert_ne!(text(&again[0], "transfer"), id);
    drain(&server, "later", home.path().join("later"), &[]).await;
    files::assert_same(&source, home.path().join("later/big.bin"));
    nothing_left_but(&server, &["later", "live", "offline"]).await;
}

/// It stops long before its end, and takes what it has published since with it.
#[tokio::test]
async fn a_sender_whose_transfer_is_cancelled_stops_and_says_so() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let source = home.path().join("big.bin");
    files::random_file(&source, 64 * MIB, 2);
    let slow = Proxy::to(&server.url()).await;
    slow.rate(2 * MIB);
    let sender = sending(&slow, &["--window", "512KiB"], &[&source]).spawn().await;
    let opened = eventually("the transfer is open", SOON, || async { list(&server, &[]).await.pop() }).await;
    let id = text(&opened, "transfer");
    eventually("some of it is stored", SOON, || async { (messages(&server, "NATSFER_DATA").await > 3).then_some(()) })
        .await;
    let cancel = producer(["cancel", id, "--reason", "wrong customer"]).server(&server).run();
    let _ = cancel.await.success();
    let output = sender.wait().await.exited(1);
    let errors = output.errors();
    assert!(errors.contains("was cancelled while it was sent: wrong customer"), "{errors}");
    // All of it would take half a minute.
    assert!(output.elapsed < Duration::from_secs(20), "{:?}", output.elapsed);
    assert_eq!(list(&server, &[]).await.len(), 1, "it was not sent under another id");
    assert_eq!(messages(&server, "NATSFER_DATA").await, 1, "nothing but its mark");
}

/// At its end, too, where there was no time to look in between.
#[tokio::test]
async fn a_sender_that_finds_its_transfer_cancelled_at_the_end_leaves_nothing_behind() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let source = home.path().join("big.bin");
    files::random_file(&source, 12 * MIB, 2);
    let slow = Proxy::to(&server.url()).await;
    slow.rate(4 * MIB);
    let sender = sending(&slow, &[], &[&source]).spawn().await;
    let opened = eventually("the transfer is open", SOON, || async { list(&server, &[]).await.pop() }).await;
    let _ = producer(["cancel", text(&opened, "transfer")]).server(&server).run().await.success();
    let errors = sender.wait().await.exited(1).errors();
    assert!(errors.contains("was cancelled while it was sent"), "{errors}");
    assert_eq!(messages(&server, "NATSFER_DATA").await, 1, "nothing but its mark");
}

/// Another run has completed it from what the source was: that is whole, and stays.
#[tokio::test]
async fn a_source_that_changes_does_not_take_back_what_another_run_has_completed() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (source, inbox) = (home.path().join("big.bin"), home.path().join("inbox"));
    files::random_file(&source, 16 * MIB, 5);
    let before = std::fs::read(&source).unwrap();
    let slow = Proxy::to(&server.url()).await;
    slow.rate(4 * MIB);
    let sender = sending(&slow, &[], &[&source]).spawn().await;
    eventually("some of it is stored", SOON, || async {
        (stream(&server, "NATSFER_DATA").await["state"]["messages"].as_u64()? > 1).then_some(())
    })
    .await;
    send(&server, &[], &[&source]).await;
    // Another file takes its name: what is being sent is still the old one.
    files::random_file(home.path().join("new"), 16 * MIB, 6);
    std::fs::rename(home.path().join("new"), &source).unwrap();
    let errors = sender.wait().await.exited(1).errors();
    assert!(errors.contains("changed while it was sent"), "{errors}");
    assert_eq!(list(&server, &[]).await[0]["state"], "complete");
    drain(&server, "r", &inbox, &[]).await;
    assert!(std::fs::read(inbox.join("big.bin")).unwrap() == before);
}

/// Appended to, cut, or replaced: what is stored would be neither the old file nor the new one.
#[tokio::test]
async fn a_source_that_changes_while_it_is_sent_is_cancelled_with_the_reason() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let slow = Proxy::to(&server.url()).await;
    slow.rate(8 * MIB);
    for how in ["appended", "cut", "replaced"] {
        let source = home.path().join(how);
        files::random_file(&source, 12 * MIB, 3);
        let sender = sending(&slow, &["-c", how], &[&source]).spawn().await;
        eventually("the transfer is open", SOON, || async { list(&server, &["-c", how]).await.pop() }).await;
        match how {
            "appended" => {
                use std::io::Write as _;
                std::fs::File::options().append(true).open(&source).unwrap().write_all(b"more").unwrap();
            }
            "cut" => std::fs::File::options().write(true).open(&source).unwrap().set_len(MIB).unwrap(),
            _ => {
                files::random_file(home.path().join("new"), 12 * MIB, 4);
                std::fs::rename(home.path().join("new"), &source).unwrap();
            }
        }
        let errors = sender.wait().await.exited(1).errors();
        assert!(errors.contains("changed while it was sent"), "{how}: {errors}");
        assert_eq!(list(&server, &["-c", how]).await[0]["state"], "cancelled", "{how}");
        // And then what there is now.
        send(&server, &["-c", how], &[&source]).await;
        drain(&server, how, home.path().join("inbox").join(how), &["-c", how]).await;
        files::assert_same(&source, home.path().join("inbox").join(how).join(how));
    }
}

#[tokio::test]
async fn prune_removes_whole_transfers_and_only_those_that_were_meant() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let path = |name: &str| home.path().join(name);
    for (seed, name) in ["delivered", "half", "abandoned"].into_iter().enumerate() {
        files::random_file(path(name), 6 * MIB, seed as u64);
    }
    files::random_file(path("small"), 100, 9);
    send(&server, &[], &[path("delivered"), path("small")]).await;
    for receiver in ["a", "b"] {
        drain(&server, receiver, path(receiver), &[]).await;
    }
    send(&server, &[], &[path("half")]).await;
    drain(&server, "a", path("a"), &[]).await;
    let slow = Proxy::to(&server.url()).await;
    slow.rate(2 * MIB);
    let sender = sending(&slow, &[], &[path("abandoned")]).spawn().await;
    eventually("some of it is stored", SOON, || async {
        (list(&server, &[]).await.len() == 4 && messages(&server, "NATSFER_DATA").await > 15).then_some(())
    })
    .await;
    sender.kill();
    let _ = sender.wait().await;
    // What was on its way has come, or never will.
    drop(slow);
    eventually("the sender has gone", SOON, || async { server.connection_names().await.is_empty().then_some(()) })
        .await;
    // A receiver has a part of it, and is away when it is removed.
    let daemon = receiving(&server, "a", path("a"), &["--patience", "1s"]).spawn().await;
    in_part(&path("a"), "a").await;
    daemon.kill();
    let _ = daemon.wait().await;

    let prune = async |options: &[&str]| {
        let output = producer(["prune", "--json"]).args(options).server(&server).run().await.success();
        let mut names: Vec<_> = output.json_lines().iter().map(|line| text(line, "name").to_owned()).collect();
        names.sort();
        names
    };
    let _ = producer(["prune"]).server(&server).run().await.exited(2);
    let _ = producer(["prune", "--state", "complete"]).server(&server).run().await.exited(2);
    assert_eq!(prune(&["--delivered-to", "a,b", "--dry-run"]).await, ["delivered", "small"]);
    assert_eq!(list(&server, &[]).await.len(), 4);
    assert_eq!(prune(&["--delivered-to", "a,b"]).await, ["delivered", "small"]);
    assert_eq!(prune(&["--older-than", "1h"]).await, [""; 0]);
    assert_eq!(prune(&["--state", "open", "--older-than", "0s"]).await, ["abandoned"]);
    let left: Vec<_> = list(&server, &[]).await.iter().map(|entry| text(entry, "name").to_owned()).collect();
    assert_eq!(left, ["half"]);
    drain(&server, "a", path("a"), &["--takeover", "2s"]).await;
    no_part(&path("a"), "a").await;
    assert_eq!(prune(&["--older-than", "0s"]).await, ["half"]);
    assert_eq!((messages(&server, "NATSFER").await, messages(&server, "NATSFER_DATA").await), (0, 0));

    // What was removed can be sent again.
    send(&server, &[], &[path("abandoned"), path("small")]).await;
    assert_eq!(drain(&server, "c", path("c"), &[]).await.len(), 2);
    nothing_left_but(&server, &["a", "b", "c"]).await;
}

/// A receiver that does not hear of it at once drops its part all the same, and asks for nothing.
#[tokio::test]
async fn what_is_pruned_under_a_receiver_is_dropped_by_it() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (source, inbox) = (home.path().join("big.bin"), home.path().join("inbox"));
    files::random_file(&source, 12 * MIB, 5);
    send(&server, &[], &[&source]).await;
    let slow = Proxy::to(&server.url()).await;
    slow.rate(2 * MIB);
    let receiver = receiving(&slow, "r", &inbox, &["--patience", "1s"]).spawn().await;
    in_part(&inbox, "r").await;
    // What is on its way stays there, while all is removed.
    slow.black_hole(true);
    let _ = producer(["prune", "--older-than", "0s"]).server(&server).run().await.success();
    assert_eq!((messages(&server, "NATSFER").await, messages(&server, "NATSFER_DATA").await), (0, 0));
    slow.black_hole(false);
    no_part(&inbox, "r").await;
    receiver.log_line(SOON, |line| line.contains("removed")).await;
    receiver.terminate();
    let _ = receiver.wait().await.success();
    assert_eq!(messages(&server, "NATSFER").await, 0, "it asked for what was removed");
    nothing_left_but(&server, &["r"]).await;
}

/// A sender that cannot begin anew stops, and leaves no chunks that no manifest leads to.
#[tokio::test]
async fn what_is_pruned_under_its_sender_leaves_nothing_behind() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let source = home.path().join("dump.sql");
    files::random_file(&source, 32 * MIB, 6);
    let slow = Proxy::to(&server.url()).await;
    slow.rate(2 * MIB);
    let command = sending(&slow, &["--chunk-size", "256KiB", "--name", "dump.sql"], &["-"]);
    let sender = command.stdin_file(&source).spawn().await;
    eventually("some of it is stored", SOON, || async {
        (stream(&server, "NATSFER_DATA").await["state"]["messages"].as_u64()? > 1).then_some(())
    })
    .await;
    let _ = producer(["prune", "--older-than", "0s"]).server(&server).run().await.success();
    let errors = sender.wait().await.exited(1).errors();
    assert!(errors.contains("was removed from the stream while it was sent"), "{errors}");
    assert_eq!((messages(&server, "NATSFER").await, messages(&server, "NATSFER_DATA").await), (0, 0));
}

/// Put back, it does not come again once it is removed: a receiver looks for itself, every minute.
#[tokio::test]
async fn what_is_pruned_while_it_waits_for_its_sender_is_dropped_by_a_receiver_at_work() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (source, inbox) = (home.path().join("big.bin"), home.path().join("inbox"));
    files::random_file(&source, 12 * MIB, 7);
    let slow = Proxy::to(&server.url()).await;
    slow.rate(2 * MIB);
    let receiver = receiving(&server, "r", &inbox, &["--patience", "1s"]).spawn().await;
    let sender = sending(&slow, &[], &[&source]).spawn().await;
    in_part(&inbox, "r").await;
    sender.kill();
    let _ = sender.wait().await;
    drop(slow);
    receiver.log_line(SOON, |line| line.contains("put back for later")).await;
    let _ = producer(["prune", "--older-than", "0s"]).server(&server).run().await.success();
    receiver.log_line(3 * SOON, |line| line.contains("removed what was left")).await;
    no_part(&inbox, "r").await;
    receiver.terminate();
    let _ = receiver.wait().await.success();
    nothing_left_but(&server, &["r"]).await;
}

/// Its chunks are read to the end by whoever was reading the old one: nothing lands under the old name, nor with a receipt.
#[tokio::test]
async fn what_is_sent_under_the_id_of_a_removed_transfer_is_not_taken_for_it() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (source, inbox) = (home.path().join("big.bin"), home.path().join("inbox"));
    files::random_file(&source, 24 * MIB, 11);
    let id = "abcdefabcdefabcdefabcdefabcdefab";
    let sending = |name: &str, options: &[&str]| {
        sending(&server, &[&["--transfer-id", id, "--name", name], options].concat(), &["-"]).stdin_file(&source)
    };
    let _ = sending("old.bin", &[]).run().await.success();
    let slow = Proxy::to(&server.url()).await;
    slow.rate(4 * MIB);
    let receiver = receiving(&slow, "r", &inbox, &[]).spawn().await;
    in_part(&inbox, "r").await;
    let _ = producer(["prune", "--older-than", "0s"]).server(&server).run().await.success();
    let waiting = sending("new.bin", &["--wait-for", "r"]).run();
    let landed = waiting.await.success();
    assert!(inbox.join("new.bin").exists(), "{}", landed.text());
    assert!(!inbox.join("old.bin").exists());
    receiver.terminate();
    let _ = receiver.wait().await.success();
    nothing_left_but(&server, &["r"]).await;
}

/// It counts where lists find it. What a purge has overtaken behind the chunks is of an earlier life of that id.
#[tokio::test]
async fn a_cancellation_that_stands_only_among_the_chunks_takes_nothing_back() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (source, inbox) = (home.path().join("big.bin"), home.path().join("inbox"));
    files::random_file(&source, 12 * MIB, 8);
    let slow = Proxy::to(&server.url()).await;
    slow.rate(2 * MIB);
    let receiver = receiving(&server, "r", &inbox, &["--patience", "1s"]).spawn().await;
    let sender = sending(&slow, &[], &[&source]).spawn().await;
    eventually("some of it is stored", SOON, || async {
        (stream(&server, "NATSFER_DATA").await["state"]["messages"].as_u64()? > 1).then_some(())
    })
    .await;
    sender.kill();
    let _ = sender.wait().await;
    let id = text(&list(&server, &[]).await[0], "transfer").to_owned();
    let record = serde_json::json!({"version": 1, "transfer": id, "state": "cancelled", "reason": "an old one"});
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Natsfer-Closing", record.to_string());
    let data = format!("natsfer.data.default.{id}");
    server.jetstream().await.publish_with_headers(data, headers, "".into()).await.unwrap().await.unwrap();
    let sent = send(&server, &[], &[&source]).await.remove(0);
    assert_eq!((text(&sent, "transfer"), text(&sent, "status")), (id.as_str(), "resumed"));
    receiver.event(SOON, |event| event["name"] == "big.bin").await;
    receiver.terminate();
    let _ = receiver.wait().await.success();
    drain(&server, "later", home.path().join("later"), &[]).await;
    for receiver in ["inbox", "later"] {
        files::assert_same(&source, home.path().join(receiver).join("big.bin"));
    }
}

/// Publishes the first chunk that is stored once more, as another run would: with this CRC, or its own.
async fn again_by_another(context: &Context, crc32: Option<&str>) {
    let chunk = context.get_stream("NATSFER_DATA").await.unwrap().get_raw_message(1).await.unwrap();
    let mut headers = HeaderMap::new();
    for (name, values) in chunk.headers.iter().filter(|(name, _)| !name.to_string().starts_with("Nats-")) {
        let crc32 = crc32.filter(|_| name.to_string() == "Natsfer-Crc32");
        headers.insert(name.clone(), crc32.map_or_else(|| values[0].clone(), HeaderValue::from));
    }
    context.publish_with_headers(chunk.subject, headers, chunk.payload).await.unwrap().await.unwrap();
}

/// Starts sending over a long line, and returns when the sender's look before the close is answered: what the sender does about
/// it comes a round trip later.
async fn about_to_close(server: &Server, line: &Proxy, sender: Command) -> Running {
    line.latency(Duration::from_millis(400));
    let mut answers = server.client().await.subscribe("_INBOX.>").await.unwrap();
    let sender = sender.spawn().await;
    let looked = async {
        while let Some(answer) = answers.next().await {
            // The last token is how many are yet to come.
            let reply = answer.reply.map(|reply| reply.to_string()).unwrap_or_default();
            if reply.starts_with("$JS.ACK.NATSFER_DATA.") && reply.ends_with(".0") {
                return;
            }
        }
    };
    tokio::time::timeout(SOON, looked).await.unwrap();
    sender
}

/// Listed as complete, it would be waited for, and nobody could send what it lacks.
#[tokio::test]
async fn what_is_contradicted_while_it_is_closed_is_taken_back_if_it_was_read_once() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let _ = producer(["init"]).server(&server).run().await.success();
    let (context, line) = (server.jetstream().await, Proxy::to(&server.url()).await);
    let options = ["--name", "piped", "--transfer-id", "00000000000000000000000000000001", "--chunk-size", "256KiB"];
    let piped = sending(&line, &options, &["-"]).stdin_bytes(vec![7; MIB as usize]);
    let sender = about_to_close(&server, &line, piped).await;
    again_by_another(&context, Some("00000000")).await;
    let errors = sender.wait().await.exited(1).errors();
    assert!(errors.contains("its source can be read only once"), "{errors}");
    assert_eq!(list(&server, &[]).await[0]["state"], "cancelled");
    drain(&server, "r", home.path().join("inbox"), &[]).await;
    assert!(!home.path().join("inbox/piped").exists());
    assert_eq!(messages(&server, "NATSFER_DATA").await, 1, "nothing but its mark");
}

/// Whole, and listed: that another run never ceases to publish behind its chunks is no failure.
#[tokio::test]
async fn a_transfer_is_sent_though_another_run_publishes_behind_it_all_the_time() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let _ = producer(["init"]).server(&server).run().await.success();
    let (context, line) = (server.jetstream().await, Proxy::to(&server.url()).await);
    let source = home.path().join("big.bin");
    files::random_file(&source, MIB, 3);
    let sender = about_to_close(&server, &line, sending(&line, &["--chunk-size", "256KiB"], &[&source])).await;
    let mut often = tokio::time::interval(Duration::from_millis(200));
    let publishing = async {
        loop {
            often.tick().await;
            again_by_another(&context, None).await;
        }
    };
    let output = tokio::select! {
        output = sender.wait() => output.success(),
        () = publishing => unreachable!("it does not end"),
    };
    assert_eq!(text(&output.json_lines()[0], "status"), "sent");
    drain(&server, "r", home.path().join("inbox"), &[]).await;
    files::assert_same(&source, home.path().join("inbox/big.bin"));
}

/// A late second run's chunks, of other bytes, lie behind its end: it is whole, and stays.
#[tokio::test]
async fn what_comes_behind_the_end_of_a_complete_transfer_does_not_take_it_back() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let source = home.path().join("big.bin");
    files::random_file(&source, 3 * MIB, 9);
    let first = send(&server, &[], &[&source]).await.remove(0);
    let context = server.jetstream().await;
    again_by_another(&context, Some("00000000")).await;
    let second = send(&server, &[], &[&source]).await.remove(0);
    assert_eq!((text(&second, "transfer"), text(&second, "status")), (text(&first, "transfer"), "unchanged"));
    assert_eq!(list(&server, &[]).await[0]["state"], "complete");
    // And what is missing of it is sent again.
    let data = context.get_stream("NATSFER_DATA").await.unwrap();
    data.delete_message(2).await.unwrap();
    let third = send(&server, &[], &[&source]).await.remove(0);
    assert_eq!((text(&third, "transfer"), text(&third, "status")), (text(&first, "transfer"), "repaired"));
    drain(&server, "r", home.path().join("inbox"), &[]).await;
    files::assert_same(&source, home.path().join("inbox/big.bin"));
}

/// Making room must not need any.
#[tokio::test]
async fn full_streams_are_emptied_all_the_same() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    for name in ["taken-back", "removed"] {
        files::random_file(home.path().join(name), 3 * MIB, 10);
    }
    let sent = send(&server, &[], &[home.path().join("taken-back"), home.path().join("removed")]).await;
    let context = server.jetstream().await;
    let fill = async |name: &str| {
        let mut stream = context.get_stream(name).await.unwrap();
        let info = stream.info().await.unwrap();
        let full = async_nats::jetstream::stream::Config {
            max_messages: i64::try_from(info.state.messages).unwrap(),
            ..info.config.clone()
        };
        context.update_stream(full).await.unwrap();
    };
    fill("NATSFER_DATA").await;
    let id = text(sent.iter().find(|sent| sent["name"] == "taken-back").unwrap(), "transfer");
    let cancelled = producer(["cancel", id]).server(&server).run().await.success();
    assert!(cancelled.elapsed < SOON, "it waited for room: {:?}", cancelled.elapsed);
    for name in ["NATSFER", "NATSFER_DATA"] {
        fill(name).await;
    }
    let pruned = producer(["prune", "--older-than", "0s"]).server(&server).run().await.success();
    assert!(pruned.elapsed < SOON, "it waited for room: {:?}", pruned.elapsed);
    assert_eq!((messages(&server, "NATSFER").await, messages(&server, "NATSFER_DATA").await), (0, 0));
}

/// However many senders have gone away half-way, what others send is received.
#[tokio::test]
async fn abandoned_transfers_hold_nobody_up() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let context = server.jetstream().await;
    files::random_file(home.path().join("first"), 100, 1);
    send(&server, &[], &[home.path().join("first")]).await;
    for number in 0..60u64 {
        let id = format!("{number:032x}");
        let manifest = serde_json::json!({
            "version": 1, "transfer": id, "channel": "default", "name": format!("open-{number}"), "chunk_size": 65536,
            "digest_algorithm": "blake3",
        });
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Natsfer-Manifest", manifest.to_string());
        let subject = format!("natsfer.open.default.{id}");
        context.publish_with_headers(subject, headers, "".into()).await.unwrap().await.unwrap();
    }
    let inbox = home.path().join("inbox");
    let daemon = receiving(&server, "r", &inbox, &["--patience", "1s", "--concurrency", "2"]).spawn().await;
    daemon.event(SOON, |event| event["name"] == "first").await;
    // All are parked once, and come again and again: two hands would be full of them.
    daemon.log_line(SOON, |line| line.contains("put back for later") && line.contains(&format!("{:032x}", 59))).await;
    for number in 0..5 {
        let name = format!("later-{number}");
        files::random_file(home.path().join(&name), 2 * MIB, number);
        send(&server, &[], &[home.path().join(&name)]).await;
        daemon.event(SOON, |event| event["name"] == name).await;
    }
    daemon.terminate();
    let _ = daemon.wait().await.success();
}
