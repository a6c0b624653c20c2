//! Real lines, from 50 kbit/s to 1 Gbit/s, long, thin, interrupted, changing: natsfer uses what there is, sends nothing twice,
//! and takes a slow line for a slow line and not for a server that is gone.
//!
//! The rows are those of `cargo bench -p natsfer-tests -- --only links`, with files that take a few seconds. What each took is
//! shown with `-- --nocapture`.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests are tests")]

use std::time::Duration;

use futures_util::future::join_all;
use natsfer_tests::steps::{drain, receiving, send, sending};
use natsfer_tests::{Line, Output, Proxy, Running, Server, Stalls, eventually, files, producer};
use tempfile::TempDir;

/// What either side asks and is answered before and after the bytes of a file, one behind the other: a sender does so 6 to 8
/// times, a receiver 8 to 17 times.
const ROUND_TRIPS: u32 = 12;

/// What is no part of the file, and goes the same way: mostly what a receiver is told of the streams and of its consumers, in
/// 11 KB of JSON.
const TALK: u64 = 16 << 10;

/// What the line may carry twice after a cut, in seconds of its rate: what was in flight, and had not been acknowledged.
const IN_FLIGHT: u64 = 2;

/// Where two cores with other work beside may be slower than the line, in bytes per second.
const FASTER_THAN_PROCESSORS: u64 = 50_000_000;

/// What nobody should say while the server is there.
const FALSE_ALARMS: [&str; 2] = ["no sign of the server", "waiting for the server"];

/// A file, and the line that it takes.
#[derive(Clone, Copy)]
struct Row {
    name: &'static str,
    up: Line,
    down: Line,
    bytes: u64,
}

/// Who is behind the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Send,
    Receive,
}

/// What was done to the line meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Nothing that the line itself does not do: one connection, and nothing to complain of.
    Whole,
    /// It was cut so many times.
    Cut(u64),
}

/// A sender or a receiver at work.
struct Work {
    row: Row,
    side: Side,
    server: Server,
    home: TempDir,
    proxy: Proxy,
    running: Running,
}

const fn milliseconds(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// The same line both ways.
const fn row(name: &'static str, rate: u64, delay: u64, bytes: u64) -> Row {
    let line = Line::rate(rate).delay(milliseconds(delay));
    Row { name, up: line, down: line, bytes }
}

impl Row {
    /// The line that the file takes, and the other one.
    fn line(&self, side: Side) -> Line {
        match side {
            Side::Send => self.up,
            Side::Receive => self.down,
        }
    }

    /// The least time that it takes.
    fn ideal(&self, side: Side) -> Duration {
        self.line(side).takes(self.bytes) + self.talk()
    }

    /// The time of everything that is said and answered.
    fn talk(&self) -> Duration {
        ROUND_TRIPS * (self.up.takes(0) + self.down.takes(0))
    }

    /// Whoever needs longer is far from what is wanted, and is not waited for.
    fn limit(&self, side: Side) -> Duration {
        5 * self.ideal(side) + Duration::from_secs(30)
    }
}

impl Work {
    async fn start(row: Row, side: Side) -> Self {
        let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
        // The streams are somebody's who set up the server, and not this sender's first task.
        let _ = producer(["init"]).server(&server).run().await.success();
        let file = home.path().join("file.bin");
        files::random_file(&file, row.bytes, 1);
        let proxy = Proxy::to(&server.url()).await;
        let command = match side {
            Side::Send => sending(&proxy, &["-c", "lines"], &[file]),
            Side::Receive => {
                send(&server, &["-c", "lines"], &[file]).await;
                receiving(&proxy, "far", home.path().join("inbox"), &["-c", "lines", "--drain"])
            }
        };
        proxy.lines(row.up, row.down);
        let running = command.limit(row.limit(side)).spawn().await;
        Self { row, side, server, home, proxy, running }
    }

    /// Bytes carried where the file goes.
    fn carried(&self) -> u64 {
        match self.side {
            Side::Send => self.proxy.bytes_up(),
            Side::Receive => self.proxy.bytes_down(),
        }
    }

    /// Waits until the line has carried so much.
    async fn reaches(&self, bytes: u64) {
        let what = format!("{} {:?}: {bytes} bytes are carried", self.row.name, self.side);
        let limit = self.row.limit(self.side);
        eventually(&what, limit, || async { (self.carried() >= bytes).then_some(()) }).await;
    }

    /// Waits for the end, and says what is wrong; nothing, if all is as it should be.
    async fn faults(self, ideal: Duration, fate: Fate) -> Vec<String> {
        let who = format!("{}, {:?}", self.row.name, self.side);
        let Ok(output) = self.running.end().await else {
            let share = self.carried() as f64 / self.row.bytes as f64;
            return vec![format!("{who}: not finished, and {share:.2} times its bytes were carried")];
        };
        let mut faults = self.faults_of(&output, ideal, fate);
        if output.code() == Some(0) {
            if self.side == Side::Send {
                // Over no line: what was stored is what is asked here.
                drain(&self.server, "near", self.home.path().join("inbox"), &["-c", "lines"]).await;
            }
            let digest = |file| files::digest(self.home.path().join(file));
            if digest("file.bin") != digest("inbox/file.bin") {
                faults.push("the file is another one".into());
            }
        }
        faults.into_iter().map(|fault| format!("{who}: {fault}")).collect()
    }

    fn faults_of(&self, output: &Output, ideal: Duration, fate: Fate) -> Vec<String> {
        let (bytes, carried, made) = (self.row.bytes, self.carried(), self.proxy.connections_made());
        let (took, line) = (output.elapsed, self.row.line(self.side));
        eprintln!(
            "{:24} {:8} {:6.1} s, at best {:5.1}; {:.3} bytes carried for each; {made} connections",
            self.row.name,
            format!("{:?}", self.side),
            took.as_secs_f64(),
            ideal.as_secs_f64(),
            carried as f64 / bytes as f64,
        );
        let mut faults = Vec::new();
        let mut check = |right: bool, fault: String| {
            if !right {
                faults.push(fault);
            }
        };
        check(output.code() == Some(0), format!("exit {:?}: {}", output.code(), output.errors()));
        // On the fattest line the processors decide, and they may have other work.
        let decides = line.bytes_per_second() <= FASTER_THAN_PROCESSORS;
        check(!decides || took <= 2 * ideal, format!("{took:.1?} for what takes {ideal:.1?} at best"));
        // The bytes are random: what is stored is as large as the file. Framing is 2 %, and 5 % may come again.
        let cuts = match fate {
            Fate::Whole => 0,
            Fate::Cut(times) => times,
        };
        let most = bytes + bytes * 7 / 100 + TALK + cuts * IN_FLIGHT * line.bytes_per_second();
        check(carried <= most, format!("{carried} bytes carried for {bytes}, and not {most} at most"));
        check(made == cuts + 1, format!("{made} connections"));
        if fate == Fate::Whole {
            let words = output.errors();
            let alarms = words.lines().filter(|line| FALSE_ALARMS.iter().any(|alarm| line.contains(alarm)));
            alarms.for_each(|line| check(false, format!("it says: {line}")));
        }
        faults
    }
}

/// Both sides of a row, as it is.
async fn both_sides(row: Row) -> Vec<String> {
    let side = async |side| Work::start(row, side).await.faults(row.ideal(side), Fate::Whole).await;
    let (sent, received) = tokio::join!(side(Side::Send), side(Side::Receive));
    [sent, received].concat()
}

#[track_caller]
fn assert_none(faults: Vec<String>) {
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// One chunk over a line that is fast and very long: nearly all of the time is waiting for answers, of which eight come one behind the
/// other. One more may come for what a busy machine takes.
#[tokio::test]
async fn a_receiver_waits_for_few_round_trips() {
    let row = row("100 Mbit/s, 1.6 s", 12_500_000, 800, 400_000);
    let work = Work::start(row, Side::Receive).await;
    let output = work.running.end().await.unwrap();
    assert_eq!(output.code(), Some(0), "{}", output.errors());
    let most = 9 * (row.up.takes(0) + row.down.takes(0)) + row.down.takes(row.bytes);
    assert!(output.elapsed <= most, "{:.1?}, and not {most:.1?} at most", output.elapsed);
}

/// They mostly wait: all of them at once are less than a tenth of what this machine carries.
#[tokio::test]
async fn slow_lines() {
    let rows = [
        // A little more than the smallest chunk.
        row("50 kbit/s, 300 ms", 6_250, 300, 80_000),
        row("512 kbit/s, 300 ms", 64_000, 300, 384_000),
        row("8 Mbit/s, 20 ms", 1_000_000, 20, 6_000_000),
        row("8 Mbit/s, 300 ms", 1_000_000, 300, 6_000_000),
    ];
    assert_none(join_all(rows.map(both_sides)).await.concat());
}

/// Where only the way is long, all the time that a file takes is round trips: two for the connection, and one each for the line's rate,
/// the manifest, the last chunk with the look beside it, and both closing records. The proxy greets in the first of them.
#[tokio::test]
async fn a_sender_waits_for_six_round_trips() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let _ = producer(["init"]).server(&server).run().await.success();
    let file = home.path().join("file.bin");
    files::random_file(&file, 1_000_000, 1);
    let (one_way, proxy) = (Duration::from_secs(1), Proxy::to(&server.url()).await);
    proxy.line(Line::free().delay(one_way));
    let sent = sending(&proxy, &["-c", "lines"], &[file]).run().await.success();
    eprintln!("{:.2?}", sent.elapsed);
    assert!(sent.elapsed < 13 * one_way, "{:.1?}", sent.elapsed);
}

/// One by one: they are not to wait for each other.
#[tokio::test]
async fn fat_lines() {
    let mut faults = Vec::new();
    for row in
        [row("100 Mbit/s, 75 ms", 12_500_000, 75, 75_000_000), row("1 Gbit/s, 50 ms", 125_000_000, 50, 375_000_000)]
    {
        for side in [Side::Send, Side::Receive] {
            faults.extend(Work::start(row, side).await.faults(row.ideal(side), Fate::Whole).await);
        }
    }
    assert_none(faults);
}

#[tokio::test]
async fn lines_that_differ_up_and_down() {
    let (thin, fat) = (Line::rate(64_000).delay(milliseconds(50)), Line::rate(1_000_000).delay(milliseconds(50)));
    let rows = [
        (Row { name: "512 kbit/s up, 8 down", up: thin, down: fat, bytes: 384_000 }, Side::Send),
        (Row { name: "512 kbit/s up, 8 down", up: thin, down: fat, bytes: 6_000_000 }, Side::Receive),
        (Row { name: "8 Mbit/s up, 512 down", up: fat, down: thin, bytes: 6_000_000 }, Side::Send),
        (Row { name: "8 Mbit/s up, 512 down", up: fat, down: thin, bytes: 384_000 }, Side::Receive),
    ];
    let each = rows.map(async |(row, side)| Work::start(row, side).await.faults(row.ideal(side), Fate::Whole).await);
    assert_none(join_all(each).await.concat());
}

#[tokio::test]
async fn a_line_that_stands_still_for_5_seconds() {
    let stalls = Stalls::new(Duration::from_secs(5), Duration::from_secs(10), 1);
    let line = Line::rate(1_000_000).delay(milliseconds(20)).stalls(stalls);
    let row = Row { name: "8 Mbit/s, stalls of 5 s", up: line, down: line, bytes: 6_000_000 };
    assert!(row.ideal(Side::Send) > Duration::from_secs(11), "nothing stalls");
    assert_none(both_sides(row).await);
}

/// From 8 Mbit/s to 800 kbit/s, and back again.
#[tokio::test]
async fn a_line_that_changes_tenfold() {
    let row = row("8 Mbit/s, 0.8 meanwhile", 1_000_000, 50, 4_000_000);
    let narrow = Line::rate(100_000).delay(milliseconds(50));
    let side = async |side| {
        let work = Work::start(row, side).await;
        work.reaches(1_500_000).await;
        work.proxy.line(narrow);
        work.reaches(2_000_000).await;
        work.proxy.line(row.line(side));
        let ideal = row.line(side).takes(3_500_000) + narrow.takes(500_000) + row.talk();
        work.faults(ideal, Fate::Whole).await
    };
    let (sent, received) = tokio::join!(side(Side::Send), side(Side::Receive));
    assert_none([sent, received].concat());
}

/// After each 2 s of work. What was in flight comes again, and nothing else.
#[tokio::test]
async fn a_line_that_is_cut_again_and_again() {
    const CUTS: u64 = 3;
    let row = row("8 Mbit/s, three cuts", 1_000_000, 50, 8_000_000);
    let side = async |side| {
        let work = Work::start(row, side).await;
        for _ in 0..CUTS {
            let carried = work.carried();
            work.reaches(carried + 2_000_000).await;
            work.proxy.cut();
        }
        // Each time it notices, comes back, and says again who it is.
        let again = IN_FLIGHT * 1_000 * CUTS;
        work.faults(row.ideal(side) + milliseconds(again) + u32::try_from(CUTS).unwrap() * row.talk(), Fate::Cut(CUTS))
            .await
    };
    let (sent, received) = tokio::join!(side(Side::Send), side(Side::Receive));
    assert_none([sent, received].concat());
}

#[tokio::test]
async fn several_connections_carry_more_where_each_is_given_a_part() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let _ = producer(["init"]).server(&server).run().await.success();
    let file = home.path().join("file.bin");
    files::random_file(&file, 4_000_000, 1);
    let line = async || {
        let proxy = Proxy::to(&server.url()).await;
        proxy.line(Line::rate(500_000).delay(milliseconds(20)).for_each_connection());
        proxy
    };
    let both = async |connections: u32| {
        let (channel, number) = (format!("over.{connections}"), connections.to_string());
        let options = ["-c", &channel, "--connections", &number];
        let proxy = line().await;
        let sent = sending(&proxy, &options, &[&file]).run().await.success();
        assert_eq!(proxy.connections_made(), u64::from(connections));
        let proxy = line().await;
        let inbox = home.path().join(&channel);
        let options = ["-c", &channel, "--connections", &number, "--drain"];
        let received = receiving(&proxy, &format!("far-{connections}"), &inbox, &options).run().await.success();
        assert_eq!(proxy.connections_made(), u64::from(connections));
        assert_eq!(files::digest(inbox.join("file.bin")), files::digest(&file));
        let (carried, bytes) = (proxy.bytes_down(), 4_000_000);
        assert!(
            carried <= bytes + bytes * 7 / 100 + u64::from(connections) * TALK,
            "{carried} bytes carried for {bytes}"
        );
        [sent.elapsed, received.elapsed]
    };
    let (one, four) = tokio::join!(both(1), both(4));
    for (one, four) in one.into_iter().zip(four) {
        assert!(four < one * 2 / 3, "{four:.1?} over four connections, and {one:.1?} over one");
    }
}
