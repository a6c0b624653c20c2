//! Receivers at the end of slow and unsteady lines: what is asked for comes once, and nobody is warned while bytes come.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::time::{Duration, Instant};

use natsfer_tests::steps::{receiving, send};
use natsfer_tests::{Line, Proxy, Server, Stalls, consumer, files};

const KIB: u64 = 1 << 10;

/// A server, a line to it, and a file on it in chunks of this size.
struct Far {
    proxy: Proxy,
    home: tempfile::TempDir,
    size: u64,
    _server: Server,
}

impl Far {
    async fn with(line: Line, size: u64, chunks: &str) -> Self {
        Self::from(Server::start().await, line, size, chunks).await
    }

    async fn from(server: Server, line: Line, size: u64, chunks: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        files::random_file(home.path().join("sent.bin"), size, 3);
        let _ = send(&server, &["--chunk-size", chunks], &[home.path().join("sent.bin")]).await;
        let proxy = Proxy::to(&server.url()).await;
        proxy.line(line);
        Self { proxy, home, size, _server: server }
    }

    /// Receives it in no more than this time, and says how many bytes the line carried for each byte of the file.
    async fn receive(&self, within: Duration) -> f64 {
        let (inbox, before, began) = (self.home.path().join("inbox"), self.proxy.bytes_down(), Instant::now());
        let received = receiving(&self.proxy, "r", &inbox, &["--drain"]).limit(within * 2).run().await.success();
        assert!(began.elapsed() < within, "it took {:?}", began.elapsed());
        assert!(!received.errors().contains("WARN"), "{}", received.errors());
        assert_eq!(self.proxy.connections_made(), 1);
        files::assert_same(self.home.path().join("sent.bin"), inbox.join("sent.bin"));
        (self.proxy.bytes_down() - before) as f64 / self.size as f64
    }
}

/// Each message takes seconds, longer than heartbeats are apart.
#[tokio::test]
async fn large_messages_over_a_slow_line_come_once() {
    let far = Far::with(Line::rate(64 * KIB).delay(Duration::from_millis(100)), 1_024 * KIB, "384KiB").await;
    let carried = far.receive(Duration::from_secs(45)).await;
    assert!(carried < 1.07, "{carried}");
}

/// The line stands still for longer than a few heartbeats, again and again.
#[tokio::test]
async fn what_stands_still_is_not_asked_for_again() {
    let stalls = Stalls::new(Duration::from_secs(5), Duration::from_secs(9), 7);
    let far = Far::with(Line::rate(256 * KIB).stalls(stalls), 1_024 * KIB, "64KiB").await;
    let carried = far.receive(Duration::from_secs(60)).await;
    assert!(carried < 1.07, "{carried}");
}

#[tokio::test]
async fn the_doctor_says_how_fast_the_line_is() {
    let server = Server::start().await;
    let proxy = Proxy::to(&server.url()).await;
    proxy.line(Line::rate(100 * KIB).delay(Duration::from_millis(20)));
    let home = tempfile::tempdir().unwrap();
    let doctor = consumer(["doctor", "--json", "-n", "r", "--into"]).arg(home.path()).server(&proxy);
    let findings = doctor.run().await.json_lines();
    for check in ["line up", "line down"] {
        let found = findings.iter().find(|finding| finding["check"] == check).unwrap()["found"].as_str().unwrap();
        assert!(found.contains("1 GiB takes about") && found.contains(" h "), "{found}");
    }
}

/// The server closes the connection of whoever it cannot write to for long enough: a message that never comes whole is named, with
/// what helps. It is larger than what the system takes off the server's hands at once.
#[tokio::test]
async fn a_message_that_never_comes_whole_is_named() {
    let server =
        Server::builder().max_payload(32 * KIB as usize * 1_024).config_line("write_deadline: \"1s\"").start().await;
    let far = Far::from(server, Line::rate(1_500 * KIB), 2 * 16 * 1_024 * KIB, "16MiB").await;
    let running = receiving(&far.proxy, "r", far.home.path().join("inbox"), &[]).spawn().await;
    let told = running.log_line(Duration::from_secs(90), |line| line.contains("no message comes whole")).await;
    assert!(told.contains("write_deadline") && told.contains("smaller chunks"), "{told}");
    running.terminate();
    let _ = running.wait().await;
}
