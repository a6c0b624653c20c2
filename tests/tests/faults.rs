//! Servers and networks that fail while files are on their way: both sides ride it out, and say what they wait for.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::time::Duration;

use natsfer_tests::steps::{nothing_left_but, receipts, receiving, send, sending, stream};
use natsfer_tests::{Proxy, Running, Server, eventually, files};
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(120);
const MIB: u64 = 1 << 20;
const SIZE: u64 = 24 * MIB;

/// A sender and a receiver at work on one file, each over a cable of its own.
struct AtWork {
    server: Server,
    home: TempDir,
    up: Proxy,
    down: Proxy,
    sender: Running,
    receiver: Running,
}

impl AtWork {
    /// Both are in the middle of it, and will be for some seconds.
    async fn start() -> Self {
        let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
        files::random_file(home.path().join("big.bin"), SIZE, 1);
        let (up, down) = (Proxy::to(&server.url()).await, Proxy::to(&server.url()).await);
        up.rate(4 * MIB);
        down.rate(4 * MIB);
        let sender = sending(&up, &["--chunk-size", "256KiB"], &[home.path().join("big.bin")]).spawn().await;
        let receiver = receiving(&down, "r", home.path().join("inbox"), &[]).spawn().await;
        eventually("both are at work", SOON, || async { (down.bytes_down() > 3 * MIB).then_some(()) }).await;
        Self { server, home, up, down, sender, receiver }
    }

    /// Neither was restarted, and the file is there, with one receipt.
    async fn ends_well(self) {
        let _ = self.receivers_words().await;
    }

    /// The same, and what the receiver said meanwhile.
    async fn receivers_words(self) -> String {
        let Self { server, home, up, down, sender, receiver } = self;
        up.rate(None);
        down.rate(None);
        let _ = sender.wait().await.success();
        receiver.event(SOON, |event| event["event"] == "received").await;
        files::assert_same(home.path().join("big.bin"), home.path().join("inbox/big.bin"));
        assert!(!server.log().contains("Slow Consumer"), "{}", server.log());
        receiver.terminate();
        let received = receiver.wait().await.success();
        assert_eq!(receipts(&server).await.len(), 1);
        nothing_left_but(&server, &["r"]).await;
        received.errors()
    }
}

#[tokio::test]
async fn a_server_killed_and_restarted() {
    let work = AtWork::start().await;
    work.server.kill().await;
    work.sender.log_line(SOON, |line| line.contains("waiting for the server")).await;
    work.receiver.log_line(SOON, |line| line.contains("waiting for the server")).await;
    work.server.restart().await;
    work.ends_well().await;
}

/// It keeps its connections and says nothing.
#[tokio::test]
async fn a_server_stopped_for_longer_than_any_request_may_take() {
    let work = AtWork::start().await;
    work.server.pause();
    work.sender.log_line(SOON, |line| line.contains("waiting for the server")).await;
    work.receiver.log_line(SOON, |line| line.contains("waiting for the server")).await;
    work.server.resume();
    work.ends_well().await;
}

#[tokio::test]
async fn connections_cut_again_and_again() {
    let work = AtWork::start().await;
    for _ in 0..6 {
        let carried = work.down.bytes_down();
        work.up.cut();
        work.down.cut();
        eventually("something moves again", SOON, || async { (work.down.bytes_down() > carried + MIB).then_some(()) })
            .await;
    }
    work.ends_well().await;
}

#[tokio::test]
async fn a_black_hole_in_the_network() {
    let work = AtWork::start().await;
    work.up.black_hole(true);
    work.down.black_hole(true);
    work.sender.log_line(SOON, |line| line.contains("waiting for the server")).await;
    work.receiver.log_line(SOON, |line| line.contains("waiting for the server")).await;
    work.up.black_hole(false);
    work.down.black_hole(false);
    work.ends_well().await;
}

#[tokio::test]
async fn a_long_thin_line() {
    let work = AtWork::start().await;
    for proxy in [&work.up, &work.down] {
        proxy.latency(Duration::from_millis(100));
        proxy.rate(MIB);
    }
    let carried = work.down.bytes_down();
    eventually("it crawls", SOON, || async { (work.down.bytes_down() > carried + 4 * MIB).then_some(()) }).await;
    for proxy in [&work.up, &work.down] {
        proxy.latency(Duration::ZERO);
    }
    work.ends_well().await;
}

/// Both processes are stopped for longer than the takeover time, and go on as if nothing had been.
#[tokio::test]
async fn processes_stopped_for_a_while() {
    let work = AtWork::start().await;
    work.sender.pause();
    work.receiver.pause();
    // Nothing shows when the time that is tried out here has passed.
    tokio::time::sleep(Duration::from_secs(12)).await;
    work.sender.resume();
    work.receiver.resume();
    work.ends_well().await;
}

/// The receiver's consumers are in the server's memory, or deleted by an operator: they are made anew.
#[tokio::test]
async fn consumers_deleted() {
    let work = AtWork::start().await;
    let context = work.server.jetstream().await;
    let cursor = stream(&work.server, "NATSFER_DATA").await["consumer_detail"][0]["name"].as_str().unwrap().to_owned();
    context.get_stream("NATSFER_DATA").await.unwrap().delete_consumer(&cursor).await.unwrap();
    context.get_stream("NATSFER").await.unwrap().delete_consumer("r").await.unwrap();
    let words = work.receivers_words().await;
    // Once: its successor is not deleted in turn.
    assert_eq!(words.matches("making it anew").count(), 1, "{words}");
}

/// A silence that is the network's, longer than a receiver leaves a sender: the rest of a stored transfer comes by itself, and is
/// not fetched chunk by chunk.
#[tokio::test]
async fn a_long_outage_is_not_taken_for_the_senders_silence() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    files::random_file(home.path().join("big.bin"), SIZE, 2);
    send(&server, &["--chunk-size", "256KiB"], &[home.path().join("big.bin")]).await;
    let down = Proxy::to(&server.url()).await;
    down.rate(4 * MIB);
    let receiver = receiving(&down, "r", home.path().join("inbox"), &["--patience", "1s"]).spawn().await;
    eventually("it is at work", SOON, || async { (down.bytes_down() > 6 * MIB).then_some(()) }).await;
    down.black_hole(true);
    receiver.log_line(SOON, |line| line.contains("waiting for the server")).await;
    down.black_hole(false);
    down.rate(None);
    let received = receiver.event(SOON, |event| event["event"] == "received").await;
    assert_eq!(received["refetched_bytes"], 0, "{received}");
    files::assert_same(home.path().join("big.bin"), home.path().join("inbox/big.bin"));
    receiver.terminate();
    let words = receiver.wait().await.success().errors();
    assert!(!words.contains("fetching chunks"), "{words}");
}

/// Everything that was stored is gone: the sender begins anew, and the receiver does not resume into the new streams.
#[tokio::test]
async fn streams_deleted_while_a_file_is_sent() {
    let work = AtWork::start().await;
    let context = work.server.jetstream().await;
    for name in ["NATSFER_DATA", "NATSFER"] {
        context.delete_stream(name).await.unwrap();
    }
    // Nobody at work makes them anew: an operator may restore them.
    let _ = natsfer_tests::producer(["init"]).server(&work.server).run().await.success();
    work.ends_well().await;
}
