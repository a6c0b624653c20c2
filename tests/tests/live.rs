//! Receivers at work while the sender is: starting early, sharing the work, stopping and draining.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use natsfer_tests::steps::{consumers, drain, list, nothing_left_but, receiving, send, sending, stream, text};
use natsfer_tests::{Pipe, Proxy, Running, Server, eventually, files};

const SOON: Duration = Duration::from_secs(30);
const CHUNK: usize = 64 * 1024;

fn random(chunks: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; chunks * CHUNK];
    files::Random::new(seed).fill(&mut bytes);
    bytes
}

/// A sender of 64 KiB chunks from a pipe.
async fn start_sending(server: &Server, pipe: &Pipe, name: &str) -> Running {
    let options = ["--name", name, "--chunk-size", "64KiB"];
    sending(server, &options, &["-"]).stdin_file(pipe.path()).spawn().await
}

/// How long the one part file of a receiver is; 0 if there is none.
fn part_length(inbox: &Path, receiver: &str) -> u64 {
    let staging = inbox.join(".natsfer/receivers").join(receiver);
    let entries = staging.read_dir().into_iter().flatten().flatten();
    let mut parts = entries.filter(|entry| entry.path().extension().is_some_and(|ending| ending == "part"));
    parts.next().and_then(|part| part.metadata().ok()).map_or(0, |data| data.len())
}

async fn part_reaches(inbox: &Path, receiver: &str, chunks: usize) {
    eventually(&format!("{chunks} chunks are in the part file"), SOON, || async {
        (part_length(inbox, receiver) >= (chunks * CHUNK) as u64).then_some(())
    })
    .await;
}

fn names_in(directory: &Path) -> BTreeSet<PathBuf> {
    let visible = |entry: &std::fs::DirEntry| entry.file_name() != ".natsfer";
    directory.read_dir().unwrap().map(Result::unwrap).filter(visible).map(|entry| entry.file_name().into()).collect()
}

#[tokio::test]
async fn receiving_overlaps_sending_and_the_name_appears_last() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (inbox, pipe) = (home.path().join("inbox"), Pipe::new(home.path().join("pipe")));
    let bytes = random(30, 1);
    let sender = start_sending(&server, &pipe, "live.bin").await;
    let receiver = receiving(&server, "live", &inbox, &[]).spawn().await;

    pipe.write(&bytes[..10 * CHUNK]).await;
    part_reaches(&inbox, "live", 8).await;
    assert_eq!(list(&server, &[]).await[0]["state"], "open");
    pipe.write(&bytes[10 * CHUNK..20 * CHUNK + 5]).await;
    part_reaches(&inbox, "live", 18).await;
    assert!(names_in(&inbox).is_empty(), "nothing is there before it is whole");

    pipe.write(&bytes[20 * CHUNK + 5..]).await;
    pipe.close();
    let sent = sender.wait().await.success().json_lines();
    let received = receiver.event(SOON, |event| event["event"] == "received").await;
    assert_eq!(received["digest"], sent[0]["digest"]);
    assert!(std::fs::read(inbox.join("live.bin")).unwrap() == bytes);
    receiver.terminate();
    let _ = receiver.wait().await.success();
    nothing_left_but(&server, &["live"]).await;
}

#[tokio::test]
async fn who_reads_along_never_sees_a_part_under_the_final_name() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (source, inbox) = (home.path().join("big.bin"), home.path().join("inbox"));
    files::random_file(&source, 12 << 20, 2);
    send(&server, &[], &[&source]).await;
    let proxy = Proxy::to(&server.url()).await;
    proxy.rate(8 << 20);
    let receiver = receiving(&proxy, "slow", &inbox, &["--drain"]).spawn().await;
    let landed = inbox.join("big.bin");
    let (mut looks, mut saw_part) = (0, false);
    while receiver.is_running() {
        if let Ok(bytes) = std::fs::read(&landed) {
            assert!(bytes == std::fs::read(&source).unwrap(), "{} bytes under the final name", bytes.len());
        } else {
            saw_part |= part_length(&inbox, "slow") > 0;
        }
        looks += 1;
        tokio::task::yield_now().await;
    }
    let _ = receiver.wait().await.success();
    assert!(saw_part, "{looks} looks");
    files::assert_same(&source, &landed);
}

#[tokio::test]
async fn processes_of_one_name_share_the_files() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let outbox = home.path().join("outbox");
    std::fs::create_dir_all(&outbox).unwrap();
    for index in 0..40 {
        files::random_file(outbox.join(format!("{index}.bin")), index * 40_000, index);
    }
    let inboxes = ["one", "two"].map(|name| home.path().join(name));
    let one = receiving(&server, "team", &inboxes[0], &["--concurrency", "2"]).spawn().await;
    let two = receiving(&server, "team", &inboxes[1], &["--concurrency", "2"]).spawn().await;
    eventually("both wait for work", SOON, || async {
        let inbox = stream(&server, "NATSFER").await["consumer_detail"][0]["num_waiting"].as_u64();
        (inbox? >= 2).then_some(())
    })
    .await;
    send(&server, &[], &[outbox.join(".")]).await;
    let names = || inboxes.each_ref().map(|inbox| names_in(inbox));
    eventually("all have landed", SOON, || async {
        (names().iter().map(BTreeSet::len).sum::<usize>() >= 40).then_some(())
    })
    .await;
    for receiver in [one, two] {
        receiver.terminate();
        assert!(!receiver.wait().await.success().json_lines().is_empty(), "each gets some");
    }
    let [first, second] = names();
    assert!(first.is_disjoint(&second));
    assert_eq!(first.union(&second).count(), 40);
    for (inbox, names) in inboxes.iter().zip([first, second]) {
        names.iter().for_each(|name| files::assert_same(outbox.join(name), inbox.join(name)));
    }
    nothing_left_but(&server, &["team"]).await;
}

#[tokio::test]
async fn count_ends_after_so_many_and_leaves_the_others() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (outbox, inbox) = (home.path().join("outbox"), home.path().join("inbox"));
    files::tree(&outbox, 5, 0..200_000, 3);
    send(&server, &[], &[outbox.join(".")]).await;
    let three = receiving(&server, "few", &inbox, &["--count", "3"]).run().await.success();
    assert_eq!(three.json_lines().len(), 3);
    assert_eq!(drain(&server, "few", &inbox, &[]).await.len(), 2);
    files::assert_same(&outbox, &inbox);
}

#[tokio::test]
async fn an_abandoned_transfer_holds_up_neither_the_others_nor_a_drain() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (outbox, inbox) = (home.path().join("outbox"), home.path().join("inbox"));
    let pipe = Pipe::new(home.path().join("pipe"));
    let sender = start_sending(&server, &pipe, "abandoned.bin").await;
    pipe.write(&random(5, 4)).await;
    eventually("some of it is stored", SOON, || async {
        (stream(&server, "NATSFER_DATA").await["state"]["messages"].as_u64()? >= 3).then_some(())
    })
    .await;
    sender.kill();
    let _ = sender.wait().await;

    files::tree(&outbox, 6, 0..300_000, 5);
    send(&server, &[], &[outbox.join(".")]).await;
    let landed = drain(&server, "patient", &inbox, &["--patience", "2s", "--concurrency", "1"]).await;
    assert_eq!(landed.len(), 6, "{landed:?}");
    assert!(landed.iter().all(|event| event["name"] != "abandoned.bin"));
    let whole = home.path().join("whole");
    std::fs::create_dir(&whole).unwrap();
    for name in names_in(&inbox) {
        std::fs::rename(inbox.join(&name), whole.join(&name)).unwrap();
    }
    files::assert_same(&outbox, &whole);
    let cursors = consumers(&server, "NATSFER_DATA").await;
    assert!(cursors.len() <= 1, "one cursor at most, for the open transfer: {cursors:?}");
}

#[tokio::test]
async fn sigterm_releases_what_is_under_way_to_another_process_at_once() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (first, second) = (home.path().join("first"), home.path().join("second"));
    let pipe = Pipe::new(home.path().join("pipe"));
    let bytes = random(12, 6);
    let sender = start_sending(&server, &pipe, "moved.bin").await;
    let one = receiving(&server, "shift", &first, &[]).spawn().await;
    pipe.write(&bytes[..6 * CHUNK]).await;
    part_reaches(&first, "shift", 4).await;
    let two = receiving(&server, "shift", &second, &["--count", "1"]).spawn().await;
    one.terminate();
    let ended = one.wait().await.success();
    assert!(ended.json_lines().is_empty());
    // The takeover of a dead process' work takes 30 s: this is sooner.
    eventually("the other process has it", Duration::from_secs(10), || async {
        (part_length(&second, "shift") >= 4 * CHUNK as u64).then_some(())
    })
    .await;
    pipe.write(&bytes[6 * CHUNK..]).await;
    pipe.close();
    let sent = sender.wait().await.success().json_lines();
    let received = two.wait().await.success().json_lines();
    assert_eq!(text(&received[0], "digest"), text(&sent[0], "digest"));
    assert!(std::fs::read(second.join("moved.bin")).unwrap() == bytes);
    assert!(names_in(&first).is_empty());
    nothing_left_but(&server, &["shift"]).await;
}

/// A slow process keeps its file for as long as it takes; a dead one's goes to the other, after the takeover time.
#[tokio::test]
async fn a_slow_process_keeps_its_file_and_a_dead_one_does_not() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let inboxes = ["slow", "quick"].map(|name| home.path().join(name));
    let thin = Proxy::to(&server.url()).await;
    thin.rate(2 << 20);
    let options = ["--takeover", "2s"];
    let slow = receiving(&thin, "team", &inboxes[0], &options).spawn().await;
    let sources = ["first.bin", "second.bin"].map(|name| home.path().join(name));
    files::random_file(&sources[0], 12 << 20, 1);
    send(&server, &[], &[&sources[0]]).await;
    part_reaches(&inboxes[0], "team", 1).await;
    let quick = receiving(&server, "team", &inboxes[1], &options).spawn().await;
    // It takes three times the takeover time.
    slow.event(SOON, |event| event["name"] == "first.bin").await;
    assert!(names_in(&inboxes[1]).is_empty());
    quick.pause();

    files::random_file(&sources[1], 12 << 20, 2);
    send(&server, &[], &[&sources[1]]).await;
    // Whichever of the two was given it: the one that can work on it is the slow one, and it dies.
    part_reaches(&inboxes[0], "team", 1).await;
    slow.kill();
    let _ = slow.wait().await;
    quick.resume();
    quick.event(SOON, |event| event["name"] == "second.bin").await;
    files::assert_same(&sources[1], inboxes[1].join("second.bin"));
    quick.terminate();
    let _ = quick.wait().await.success();
    assert_eq!(natsfer_tests::steps::receipts(&server).await.len(), 2);
    nothing_left_but(&server, &["team"]).await;
}
