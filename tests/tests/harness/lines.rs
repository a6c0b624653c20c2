//! The proxy's lines, tried with real sockets: what `src/line.rs` decides is what arrives.

use std::time::{Duration, Instant};

use natsfer_tests::{Line, Proxy, Stalls, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::SOON;

const MILLISECOND: Duration = Duration::from_millis(1);

/// A proxy, and the server behind it, which is a bare socket.
struct Way {
    proxy: Proxy,
    server: TcpListener,
}

/// When how much of what was sent has come.
struct Journey {
    began: Instant,
    arrivals: Vec<(Instant, usize)>,
}

impl Way {
    async fn of(up: Line, down: Line) -> Self {
        let server = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let proxy = Proxy::to(&server.local_addr().unwrap().to_string()).await;
        proxy.lines(up, down);
        Self { proxy, server }
    }

    /// A connection, as its client and as its server have it.
    async fn connect(&self) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(("127.0.0.1", self.proxy.port())).await.unwrap();
        let (server, _) = self.server.accept().await.unwrap();
        (client, server)
    }
}

/// Sends so many bytes, and the end, as early as they are taken.
async fn travel(mut from: TcpStream, mut to: TcpStream, bytes: u64) -> Journey {
    let began = Instant::now();
    let sending = async {
        from.write_all(&vec![7; usize::try_from(bytes).unwrap()]).await.unwrap();
        from.shutdown().await.unwrap();
    };
    let receiving = async {
        let (mut arrivals, mut buffer) = (Vec::new(), vec![0; 1 << 20]);
        loop {
            match to.read(&mut buffer).await.unwrap() {
                0 => return arrivals,
                count => arrivals.push((Instant::now(), count)),
            }
        }
    };
    let ((), arrivals) = tokio::join!(sending, receiving);
    let journey = Journey { began, arrivals };
    assert_eq!(journey.arrivals.iter().map(|(_, count)| *count as u64).sum::<u64>(), bytes);
    journey
}

impl Journey {
    fn took(&self) -> Duration {
        self.arrivals[self.arrivals.len() - 1].0 - self.began
    }

    /// Until the first byte was there.
    fn delay(&self) -> Duration {
        self.arrivals[0].0 - self.began
    }

    /// The longest time without an arrival, once the first was there.
    fn longest_pause(&self) -> Duration {
        self.arrivals.windows(2).map(|pair| pair[1].0 - pair[0].0).max().unwrap_or_default()
    }
}

/// Half of it to twice of it: how much else this machine does is not known.
#[track_caller]
fn assert_about(found: Duration, expected: Duration, what: &str) {
    assert!(found >= expected / 2 && found <= 2 * expected, "{what}: {found:?}, and not about {expected:?}");
}

#[tokio::test]
async fn lines_have_their_rate_and_their_delay() {
    // Bytes per second, milliseconds each way, bytes.
    for (rate, delay, bytes) in [(6_250, 300, 12_500), (64_000, 300, 96_000), (1_000_000, 20, 1_000_000)] {
        let line = Line::rate(rate).delay(delay * MILLISECOND);
        let way = Way::of(line, line).await;
        let (client, server) = way.connect().await;
        let journey = travel(client, server, bytes).await;
        let what = format!("{bytes} bytes at {rate} B/s");
        assert_about(journey.took(), line.takes(bytes), &what);
        assert_about(journey.delay(), delay * MILLISECOND, &format!("the first of {what}"));
        assert!(journey.longest_pause() < 300 * MILLISECOND, "{what} pause for {:?}", journey.longest_pause());
        assert_eq!(way.proxy.bytes_up(), bytes);
    }
}

/// A gigabit per second over 50 ms is more than the buffers of most sockets hold.
#[tokio::test]
async fn a_fat_line_is_filled() {
    let line = Line::rate(125_000_000).delay(50 * MILLISECOND);
    let way = Way::of(line, line).await;
    for _ in 0..2 {
        let (client, server) = way.connect().await;
        let up = travel(client, server, 125_000_000).await;
        assert_about(up.took(), line.takes(125_000_000), "a gigabit up");
        let (client, server) = way.connect().await;
        let down = travel(server, client, 125_000_000).await;
        assert_about(down.took(), line.takes(125_000_000), "a gigabit down");
    }
}

#[tokio::test]
async fn directions_differ() {
    let (up, down) = (Line::rate(64_000).delay(50 * MILLISECOND), Line::rate(1_000_000).delay(200 * MILLISECOND));
    let way = Way::of(up, down).await;
    let (client, server) = way.connect().await;
    assert_about(travel(client, server, 64_000).await.took(), up.takes(64_000), "up");
    let (client, server) = way.connect().await;
    assert_about(travel(server, client, 1_000_000).await.took(), down.takes(1_000_000), "down");
    assert_eq!((way.proxy.bytes_up(), way.proxy.bytes_down()), (64_000, 1_000_000));
    assert_eq!(way.proxy.connections_made(), 2);
}

/// It writes as fast as it is let: what is sent too early stays in the sender's own socket.
#[tokio::test]
async fn an_early_senders_bytes_wait_in_its_own_socket() {
    for (rate, queue) in [(6_250, 2_000), (100_000, 10_000), (1_000_000, 100_000), (12_500_000, 1_250_000)] {
        let line = Line::rate(rate).queue(queue).delay(100 * MILLISECOND);
        let way = Way::of(line, line).await;
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_send_buffer_size(64 << 10).unwrap();
        let own = u64::from(socket.send_buffer_size().unwrap());
        let client = socket.connect(([127, 0, 0, 1], way.proxy.port()).into()).await.unwrap();
        let (mut server, _) = way.server.accept().await.unwrap();
        let reading = tokio::spawn(async move { tokio::io::copy(&mut server, &mut tokio::io::sink()).await });

        let (began, mut sent) = (Instant::now(), 0_u64);
        while began.elapsed() < Duration::from_secs(1) {
            if tokio::time::timeout(50 * MILLISECOND, client.writable()).await.is_ok() {
                sent += client.try_write(&[7; 4_096]).unwrap_or(0) as u64;
            }
        }
        let carried = (began.elapsed().as_secs_f64() * rate as f64) as u64;
        // What was taken and has not left: the queue, and what the proxy's socket holds before it.
        let ahead = sent.saturating_sub(own + carried);
        assert!(ahead <= queue + (rate / 4).max(64 << 10), "{ahead} bytes too early at {rate} B/s");
        drop(client);
        reading.abort();
    }
}

#[tokio::test]
async fn a_line_stands_still() {
    let stalls = Stalls::new(500 * MILLISECOND, 1_000 * MILLISECOND, 3);
    let line = Line::rate(1_000_000).stalls(stalls);
    let way = Way::of(line, line).await;
    let (client, server) = way.connect().await;
    let journey = travel(client, server, 1_000_000).await;
    assert_about(journey.took(), line.takes(1_000_000), "two periods, half of each stalled");
    let pause = journey.longest_pause();
    assert!(pause > 400 * MILLISECOND, "stalled for {pause:?}");
}

#[tokio::test]
async fn a_rate_is_shared_or_for_each_connection() {
    let line = Line::rate(500_000);
    for (line, times) in [(line, 2), (line.for_each_connection(), 1)] {
        let way = Way::of(line, line).await;
        let ((one, its), (other, others)) = (way.connect().await, way.connect().await);
        let (one, other) = tokio::join!(travel(one, its, 500_000), travel(other, others, 500_000));
        let took = one.took().max(other.took());
        assert_about(took, times * line.takes(500_000), "two connections");
        // Within a factor of two, each would do for the other.
        assert_eq!(took > 3 * line.takes(500_000) / 2, times == 2, "{took:?} for {times}");
    }
}

/// Half a second at one rate, and then so many bytes at the other one.
#[tokio::test]
async fn a_line_changes_under_what_waits() {
    const REST: u64 = 90_000;
    let (fast, slow) = (Line::rate(1_000_000), Line::rate(100_000));
    for (before, after) in [(fast, slow), (slow, fast)] {
        let way = Way::of(before, before).await;
        let (client, server) = way.connect().await;
        let half_a_second = before.bytes_per_second() / 2;
        let changing = async {
            let carried = || async { (way.proxy.bytes_up() >= half_a_second).then_some(()) };
            eventually("half a second's bytes are there", SOON, carried).await;
            way.proxy.line(after);
        };
        let (journey, ()) = tokio::join!(travel(client, server, half_a_second + REST), changing);
        assert_about(journey.took(), 500 * MILLISECOND + after.takes(REST), "a changed line");
    }
}

#[tokio::test]
async fn jitter_delays_and_disorders_nothing() {
    let line = Line::rate(1_000_000).delay(20 * MILLISECOND).jitter(100 * MILLISECOND);
    let way = Way::of(line, line).await;
    let (mut client, mut server) = way.connect().await;
    let sent: Vec<u8> = (0..=255).cycle().take(200_000).collect();
    let began = Instant::now();
    let sending = async {
        client.write_all(&sent).await.unwrap();
        client.shutdown().await.unwrap();
    };
    let mut received = Vec::new();
    let ((), count) = tokio::join!(sending, async { server.read_to_end(&mut received).await.unwrap() });
    assert_eq!(count, sent.len());
    assert!(received == sent, "bytes were disordered");
    assert!(began.elapsed() >= line.takes(200_000));
}

/// A process that ends with unread bytes resets its connection: what it has sent before arrives, as on a real line.
#[tokio::test]
async fn what_was_sent_before_the_end_arrives() {
    let line = Line::rate(1_000_000).delay(100 * MILLISECOND);
    let way = Way::of(line, line).await;
    let (mut client, mut server) = way.connect().await;
    server.write_all(b"never read").await.unwrap();
    eventually("it is there", SOON, || async { (way.proxy.bytes_down() == 10).then_some(()) }).await;
    client.write_all(b"last words").await.unwrap();
    drop(client);
    let mut received = Vec::new();
    server.read_to_end(&mut received).await.unwrap();
    assert_eq!(received, b"last words");
}
