//! Processes killed half-way through a file: the next one goes on, and does not begin again.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::path::Path;
use std::time::Duration;

use async_nats::jetstream;
use futures_util::StreamExt as _;
use natsfer_tests::steps::{drain, nothing_left_but, number, receiving, send, sending, staged_files, stream};
use natsfer_tests::{Proxy, Server, eventually, files};

const SOON: Duration = Duration::from_secs(60);
const MIB: u64 = 1 << 20;

/// How long a receiver's journal and part file are.
fn staged(inbox: &Path, receiver: &str) -> (u64, u64) {
    let length = |ending: &str| {
        let entries = inbox.join(".natsfer/receivers").join(receiver).read_dir().into_iter().flatten().flatten();
        let mut files = entries.filter(|entry| entry.path().extension().is_some_and(|found| found == ending));
        files.next().and_then(|file| file.metadata().ok()).map_or(0, |data| data.len())
    };
    (length("journal"), length("part"))
}

#[tokio::test]
async fn a_receiver_killed_half_way_fetches_only_the_rest() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (source, inbox) = (home.path().join("big.bin"), home.path().join("inbox"));
    files::random_file(&source, 32 * MIB, 1);
    send(&server, &["--chunk-size", "256KiB"], &[&source]).await;

    let slow = Proxy::to(&server.url()).await;
    slow.rate(6 * MIB);
    let options = ["--takeover", "2s"];
    let victim = receiving(&slow, "phoenix", &inbox, &options).spawn().await;
    eventually("a good part of it is journaled", SOON, || async {
        let (journal, part) = staged(&inbox, "phoenix");
        // An entry names a chunk in a few bytes, and 16 MiB take several checkpoints of a second each.
        (journal > 200 && part >= 16 * MIB).then_some(())
    })
    .await;
    victim.kill();
    let _ = victim.wait().await;
    assert!(!inbox.join("big.bin").exists());

    let fast = Proxy::to(&server.url()).await;
    let received = receiving(&fast, "phoenix", &inbox, &options).arg("--count=1").run().await.success();
    assert_eq!(number(&received.json_lines()[0], "size"), 32 * MIB);
    files::assert_same(&source, inbox.join("big.bin"));
    assert!(fast.bytes_down() < 28 * MIB, "{} bytes were fetched again", fast.bytes_down());
    nothing_left_but(&server, &["phoenix"]).await;
}

/// Nobody else can hold what a killed process held: the next one has it at once, whatever the takeover time, and also the
/// files that it held without having received anything of them.
#[tokio::test]
async fn a_receiver_killed_and_started_again_need_not_wait_to_be_given_its_files() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (outbox, inbox) = (home.path().join("outbox"), home.path().join("inbox"));
    for seed in 0..6 {
        files::random_file(outbox.join(format!("{seed}.bin")), 6 * MIB, seed);
    }
    send(&server, &["--chunk-size", "256KiB"], &[outbox.join(".")]).await;
    let slow = Proxy::to(&server.url()).await;
    slow.rate(6 * MIB);
    let options = ["--takeover", "10m"];
    let victim = receiving(&slow, "phoenix", &inbox, &options).spawn().await;
    eventually("some of it is here", SOON, || async { (slow.bytes_down() > 4 * MIB).then_some(()) }).await;
    victim.kill();
    let _ = victim.wait().await;
    let fast = Proxy::to(&server.url()).await;
    let received = drain(&fast, "phoenix", &inbox, &options).await;
    assert_eq!(received.len(), 6, "{received:?}");
    files::assert_same(&outbox, &inbox);
    // What was written is not fetched again, though it was never acknowledged.
    let (before, after) = (slow.bytes_down(), fast.bytes_down());
    assert!(before + after < 36 * MIB + 18 * MIB, "{before} and {after} bytes were fetched");
    nothing_left_but(&server, &["phoenix"]).await;
}

/// What the server gave a process that died before it had read it is in no ledger, and may be another's: it is waited for, and
/// that is said.
#[tokio::test]
async fn what_a_killed_process_had_not_read_is_told_and_waited_for() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let inbox = home.path().join("inbox");
    drain(&server, "phoenix", &inbox, &["--takeover", "5s"]).await;
    for name in ["given", "waiting"] {
        files::random_file(home.path().join(name), 100, 1);
        send(&server, &[], &[home.path().join(name)]).await;
    }
    let control = server.jetstream().await.get_stream("NATSFER").await.unwrap();
    let consumer: jetstream::consumer::PullConsumer = control.get_consumer("phoenix").await.unwrap();
    let mut given = consumer.fetch().max_messages(1).messages().await.unwrap();
    assert!(given.next().await.is_some());
    let next = receiving(&server, "phoenix", &inbox, &["--takeover", "5s", "--drain"]).run().await.success();
    assert_eq!(next.json_lines().len(), 2);
    let said = next.errors();
    assert!(said.contains("1 file to be received, and 1 that was taken before"), "{said}");
    assert!(said.contains("waiting for 1 file that") && said.contains("within 5s (--takeover)"), "{said}");
}

/// A journal or a part that is not what it was is not believed.
#[tokio::test]
async fn what_is_damaged_on_the_receivers_disk_is_fetched_again() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (source, inbox) = (home.path().join("big.bin"), home.path().join("inbox"));
    files::random_file(&source, 16 * MIB, 4);
    send(&server, &["--chunk-size", "256KiB"], &[&source]).await;
    for (number, damage) in
        ["part torn", "part altered", "part gone", "journal torn", "journal altered", "journal gone"]
            .into_iter()
            .enumerate()
    {
        let name = format!("r{number}");
        let slow = Proxy::to(&server.url()).await;
        slow.rate(16 * MIB);
        let victim = receiving(&slow, &name, &inbox, &[]).spawn().await;
        eventually("a part is here", SOON, || async { (staged(&inbox, &name).1 > 4 * MIB).then_some(()) }).await;
        victim.kill();
        let _ = victim.wait().await;
        let (file, how) = damage.split_once(' ').unwrap();
        let path = staged_files(&inbox, &name).into_iter().find(|path| path.extension().unwrap() == file).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        match how {
            "torn" => bytes.truncate(bytes.len() * 2 / 3),
            "altered" => {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
            }
            _ => bytes.clear(),
        }
        if how == "gone" {
            std::fs::remove_file(&path).unwrap()
        } else {
            std::fs::write(&path, bytes).unwrap()
        }
        let received = drain(&server, &name, &inbox, &["--on-conflict", "overwrite"]).await;
        assert_eq!(received.len(), 1, "{damage}: {received:?}");
        files::assert_same(&source, inbox.join("big.bin"));
        std::fs::remove_file(inbox.join("big.bin")).unwrap();
    }
}

/// Another file under the part's name is not taken for what was received.
#[tokio::test]
async fn a_part_that_somebody_replaces_or_cuts_is_not_landed() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let source = home.path().join("big.bin");
    files::random_file(&source, 16 * MIB, 9);
    send(&server, &[], &[&source]).await;
    for how in ["replaced", "linked"] {
        let inbox = home.path().join(how);
        let slow = Proxy::to(&server.url()).await;
        slow.rate(4 * MIB);
        let receiver = receiving(&slow, how, &inbox, &["--count", "1"]).spawn().await;
        eventually("a part is there", SOON, || async { (staged(&inbox, how).1 > 4 * MIB).then_some(()) }).await;
        let part = staged_files(&inbox, how).into_iter().find(|path| path.extension().unwrap() == "part").unwrap();
        let other = home.path().join("other");
        if how == "replaced" {
            std::fs::copy(&part, &other).unwrap();
            std::fs::rename(&other, &part).unwrap();
        } else {
            std::fs::remove_file(&part).unwrap();
            std::os::unix::fs::symlink(&source, &part).unwrap();
        }
        receiver.log_line(SOON, |line| line.contains("has changed or replaced its part file")).await;
        slow.rate(None);
        let _ = receiver.wait().await.success();
        let landed = inbox.join("big.bin");
        assert!(landed.symlink_metadata().unwrap().is_file(), "{how}");
        files::assert_same(&source, landed);
    }
}

/// A pipe that is read again from its beginning.
#[tokio::test]
async fn standard_input_with_an_id_goes_on_where_it_ended() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let source = home.path().join("dump.sql");
    files::random_file(&source, 16 * MIB, 5);
    let slow = Proxy::to(&server.url()).await;
    slow.rate(8 * MIB);
    let id = "abcdefabcdefabcdefabcdefabcdefab";
    let command = || natsfer_tests::producer(["send", "--json", "--name", "dump.sql", "--transfer-id", id, "-"]);
    let victim = command().stdin_file(&source).server(&slow).spawn().await;
    eventually("a good part of it is stored", SOON, || async {
        (stream(&server, "NATSFER_DATA").await["state"]["bytes"].as_u64()? >= 6 * MIB).then_some(())
    })
    .await;
    victim.kill();
    let _ = victim.wait().await;
    let resumed = command().stdin_file(&source).server(&server).run().await.success().json_lines().remove(0);
    assert_eq!(resumed["status"], "resumed", "{resumed}");
    assert!(number(&resumed, "resumed_from") >= 5 * MIB, "{resumed}");
    let again = command().stdin_file(&source).server(&server).run().await.success().json_lines().remove(0);
    assert_eq!(again["status"], "unchanged", "{again}");
    drain(&server, "after", home.path().join("inbox"), &[]).await;
    let bytes = |path| std::fs::read(path).unwrap();
    assert!(bytes(home.path().join("inbox/dump.sql")) == bytes(source));
}

/// The server's word of it is lost, and the server has forgotten its id by the time it is tried again. It is not taken for somebody
/// else's, which a source that is read once could not go on from.
#[tokio::test]
async fn a_first_chunk_is_known_again_whose_acknowledgement_was_lost() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let source = home.path().join("dump.sql");
    files::random_file(&source, 3 * MIB, 8);
    let _ = natsfer_tests::producer(["init"]).server(&server).run().await.success();
    let context = server.jetstream().await;
    let mut data = context.get_stream("NATSFER_DATA").await.unwrap();
    let config = data.info().await.unwrap().config.clone();
    let forgetful = jetstream::stream::Config { duplicate_window: Duration::from_millis(100), ..config };
    context.update_stream(forgetful).await.unwrap();
    let slow = Proxy::to(&server.url()).await;
    slow.latency(Duration::from_secs(1));
    let command = sending(&slow, &["--name", "dump.sql"], &["-"]);
    let sender = command.stdin_file(&source).spawn().await;
    eventually("a chunk is stored", SOON, || async {
        (stream(&server, "NATSFER_DATA").await["state"]["messages"].as_u64()? > 0).then_some(())
    })
    .await;
    slow.cut();
    slow.latency(Duration::ZERO);
    let sent = sender.wait().await.success().json_lines().remove(0);
    assert_eq!(sent["status"], "sent", "{sent}");
    let stored = stream(&server, "NATSFER_DATA").await["state"]["messages"].as_u64().unwrap();
    assert!(stored > number(&sent, "chunks"), "{stored} messages, hence nothing was tried again: {sent}");
    drain(&server, "r", home.path().join("inbox"), &[]).await;
    let bytes = |path| std::fs::read(path).unwrap();
    assert!(bytes(home.path().join("inbox/dump.sql")) == bytes(source));
}

/// What a receiver kept of the first bytes is not mixed with the second ones.
#[tokio::test]
async fn standard_input_sent_again_with_other_bytes_after_a_removal_replaces_what_was_kept() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (first, second, inbox) = (home.path().join("first"), home.path().join("second"), home.path().join("inbox"));
    files::random_file(&first, 12 * MIB, 6);
    files::random_file(&second, 12 * MIB, 7);
    let id = "abcdefabcdefabcdefabcdefabcdefab";
    let command = || natsfer_tests::producer(["send", "--json", "--name", "dump.sql", "--transfer-id", id, "-"]);
    let _ = command().stdin_file(&first).server(&server).run().await.success();
    let slow = Proxy::to(&server.url()).await;
    slow.rate(4 * MIB);
    let victim = receiving(&slow, "r", &inbox, &[]).spawn().await;
    eventually("a part is here", SOON, || async { (staged(&inbox, "r").1 > 4 * MIB).then_some(()) }).await;
    victim.kill();
    let _ = victim.wait().await;
    let prune = natsfer_tests::producer(["prune", "--older-than", "0s"]).server(&server).run().await.success();
    assert!(prune.text().contains("removed"), "{}", prune.text());
    let _ = command().stdin_file(&second).server(&server).run().await.success();
    let received = drain(&server, "r", &inbox, &[]).await;
    assert_eq!(received.len(), 1, "{received:?}");
    assert!(std::fs::read(inbox.join("dump.sql")).unwrap() == std::fs::read(second).unwrap());
    nothing_left_but(&server, &["r"]).await;
}

/// What stands closed under an id takes no other bytes and no other name, and is told apart before anything is published.
#[tokio::test]
async fn standard_input_under_the_id_of_a_complete_transfer_is_that_or_refused() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let inbox = home.path().join("inbox");
    files::random_file(home.path().join("long"), 4 * MIB + 100, 6);
    let long = std::fs::read(home.path().join("long")).unwrap();
    let id = "abcdefabcdefabcdefabcdefabcdefab";
    let send = |name: &str, bytes: &[u8]| {
        let options = ["send", "--json", "--chunk-size", "256KiB", "--transfer-id", id, "--name", name, "-"];
        natsfer_tests::producer(options).stdin_bytes(bytes).server(&server).run()
    };
    for (name, size) in [("even", 2 * MIB), ("odd", 2 * MIB + 5), ("small", 1000)] {
        let given = &long[..size as usize];
        let _ = send(name, given).await.success();
        let before = stream(&server, "NATSFER_DATA").await["state"].clone();
        for other in [size - 1, size + 1, size + MIB / 4, size + MIB, MIB / 4] {
            let errors = send(name, &long[..other as usize]).await.exited(1).errors();
            assert!(errors.contains("exists with other contents"), "{size} and {other}: {errors}");
        }
        let errors = send("other", given).await.exited(1).errors();
        assert!(errors.contains(&format!("has the name {name}")) && errors.contains(id), "{errors}");
        assert_eq!(stream(&server, "NATSFER_DATA").await["state"]["last_seq"], before["last_seq"], "{name}");
        let again = send(name, given).await.success().json_lines().remove(0);
        assert_eq!(again["status"], "unchanged", "{again}");
        drain(&server, "r", &inbox, &[]).await;
        assert!(std::fs::read(inbox.join(name)).unwrap() == given, "{name} differs");
        let _ = natsfer_tests::producer(["prune", "--older-than", "0s"]).server(&server).run().await.success();
    }
}

#[tokio::test]
async fn a_sender_killed_half_way_publishes_only_the_rest() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (source, inbox) = (home.path().join("big.bin"), home.path().join("inbox"));
    files::random_file(&source, 32 * MIB, 2);
    let slow = Proxy::to(&server.url()).await;
    slow.rate(8 * MIB);
    let options = ["--chunk-size", "256KiB"];
    let victim = sending(&slow, &options, &[&source]).spawn().await;
    eventually("a good part of it is stored", SOON, || async {
        (stream(&server, "NATSFER_DATA").await["state"]["messages"].as_u64()? >= 40).then_some(())
    })
    .await;
    victim.kill();
    let _ = victim.wait().await;

    let resumed = send(&server, &options, &[&source]).await;
    assert_eq!(resumed[0]["status"], "resumed", "{resumed:?}");
    assert!(number(&resumed[0], "resumed_from") >= 10 * MIB, "{resumed:?}");
    assert!(number(&resumed[0], "published_bytes") <= 22 * MIB, "{resumed:?}");
    assert_eq!(number(&resumed[0], "chunks"), 128);
    assert_eq!(send(&server, &options, &[&source]).await[0]["status"], "unchanged");
    drain(&server, "after", &inbox, &[]).await;
    files::assert_same(&source, inbox.join("big.bin"));
    nothing_left_but(&server, &["after"]).await;
}
