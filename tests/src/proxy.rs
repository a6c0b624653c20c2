//! A TCP proxy on loopback that can misbehave like a network.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::link::{Link, Settings};
use crate::socket_buffer::SocketBuffer;
use crate::{Line, lock, must};

/// Stands between a client and a server, at first without being noticed.
/// Everything can be changed at any time, and holds for all connections, old
/// and new. Dropping it closes them all and frees the port.
///
/// It imitates the two directions of a [`Line`]. What it does not imitate: the
/// packets of TCP, with their slow start, congestion window and repetition, and
/// the round trip that a new connection costs; bytes alone wait, in order.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    settings: watch::Sender<Settings>,
    up: Arc<Link>,
    down: Arc<Link>,
    open: watch::Receiver<usize>,
    made: Arc<AtomicU64>,
    listener: Arc<TcpListener>,
    /// Of connections that are made: they have it from the listener.
    inherited: Mutex<SocketBuffer>,
    acceptor: JoinHandle<()>,
}

impl Proxy {
    /// A proxy to a server given as `nats://host:port` or `host:port`.
    ///
    /// # Panics
    /// When there is no free port on loopback.
    pub async fn to(server: &str) -> Self {
        must(Self::try_to(server).await, "cannot start a proxy")
    }

    async fn try_to(server: &str) -> Result<Self> {
        let target = server.rsplit('/').next().unwrap_or(server).to_owned();
        let listener = Arc::new(TcpListener::bind(("127.0.0.1", 0)).await?);
        let address = listener.local_addr().context("a port without a number")?;
        let (settings, seen) = watch::channel(Settings::default());
        let (count, open) = watch::channel(0);
        let up = Arc::new(Link::new(seen.clone(), 1));
        let down = Arc::new(Link::new(seen.clone(), 2));
        let made = Arc::new(AtomicU64::new(0));
        let cable = Cable { target, settings: seen, up: Arc::clone(&up), down: Arc::clone(&down) };
        let acceptor = tokio::spawn(cable.accept(Arc::clone(&listener), count, Arc::clone(&made)));
        let inherited = Mutex::new(SocketBuffer::receive());
        Ok(Self { address, settings, up, down, open, made, listener, inherited, acceptor })
    }

    /// Where clients connect instead of to the server.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// The port where clients connect, on loopback.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Makes it this line, both ways.
    pub fn line(&self, line: Line) {
        self.lines(line, line);
    }

    /// Makes it one line to the server, and another one to the clients.
    ///
    /// # Panics
    /// When the system refuses a socket the buffer that fits.
    pub fn lines(&self, up: Line, down: Line) {
        let fitted = lock(&self.inherited).fit(&*self.listener, &up);
        must(fitted.map_err(Into::into), "cannot bound a socket");
        // What stalls at the same times does so together.
        let now = Instant::now();
        self.up.lay(up, now);
        self.down.lay(down, now);
    }

    /// Delays everything by so much, each way: a round trip takes twice that.
    /// The lines stay the same otherwise.
    pub fn latency(&self, latency: Duration) {
        self.lines(self.up.line().delay(latency), self.down.line().delay(latency));
    }

    /// Lets through so many bytes per second each way, for all connections
    /// together unless the lines say otherwise; `None` lifts the limit. The
    /// lines stay the same otherwise.
    pub fn rate(&self, bytes_per_second: impl Into<Option<u64>>) {
        let rate = bytes_per_second.into();
        self.lines(self.up.line().with_rate(rate), self.down.line().with_rate(rate));
    }

    /// Closes all connections. New ones are welcome. What was under way is
    /// lost, and is not counted as carried.
    pub fn cut(&self) {
        self.settings.send_modify(|now| now.cuts += 1);
    }

    /// Resets every new connection as soon as it is made. The port stays ours
    /// meanwhile, so that nobody else can be given it. Those there stay.
    pub fn refuse(&self) {
        self.settings.send_modify(|now| now.refuse = true);
    }

    /// Welcomes new connections again, after [`refuse`](Self::refuse).
    pub fn accept(&self) {
        self.settings.send_modify(|now| now.refuse = false);
    }

    /// While on, connections stay open, new ones are made, and nothing gets
    /// through. What was sent meanwhile arrives when it is turned off.
    pub fn black_hole(&self, on: bool) {
        self.settings.send_modify(|now| now.black_hole = on);
    }

    /// Imitates what an application notices of lost packets: each run of
    /// 1,460 bytes is lost with that probability (0 to 1, each way), and a loss
    /// holds up its direction of its connection for a retransmission timeout of
    /// 200 ms, doubled for each time the packet is lost again. The losses come
    /// from a fixed seed.
    ///
    /// It is an imitation: no packet is dropped, there is no congestion window
    /// that shrinks, and no fast retransmission; losses within up to 64 KiB that
    /// are under way together cost one timeout.
    pub fn loss(&self, probability: f64) {
        self.settings.send_modify(|now| now.loss = probability.clamp(0.0, 1.0));
    }

    /// How many connections are open.
    #[must_use]
    pub fn connections(&self) -> usize {
        *self.open.borrow()
    }

    /// How many connections were made so far, and not refused.
    #[must_use]
    pub fn connections_made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    /// Bytes delivered to the server so far.
    #[must_use]
    pub fn bytes_up(&self) -> u64 {
        self.up.carried()
    }

    /// Bytes delivered to clients so far.
    #[must_use]
    pub fn bytes_down(&self) -> u64 {
        self.down.carried()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // The acceptor owns the tasks of all connections.
        self.acceptor.abort();
    }
}

/// What every connection needs to know.
#[derive(Clone)]
struct Cable {
    target: String,
    settings: watch::Receiver<Settings>,
    up: Arc<Link>,
    down: Arc<Link>,
}

impl Cable {
    async fn accept(self, listener: Arc<TcpListener>, open: watch::Sender<usize>, made: Arc<AtomicU64>) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                Some(_) = connections.join_next() => {}
                accepted = listener.accept() => {
                    let Ok((client, _)) = accepted else { continue };
                    if self.settings.borrow().refuse {
                        // A reset rather than an orderly end.
                        let _ = client.set_zero_linger();
                        continue;
                    }
                    made.fetch_add(1, Ordering::Relaxed);
                    connections.spawn(self.clone().connect(client));
                }
            }
            open.send_replace(connections.len());
        }
    }

    async fn connect(self, client: TcpStream) {
        let mut settings = self.settings.clone();
        let born = settings.borrow_and_update().cuts;
        tokio::select! {
            // How a connection ends is its two ends' business.
            _ = self.carry(client) => {}
            _ = settings.wait_for(|now| now.cuts != born) => {}
        }
    }

    async fn carry(&self, client: TcpStream) -> io::Result<()> {
        self.up.open().await;
        let server = self.server().await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        // Each to its own end: what one side has said before it went is for the other side to hear.
        let (up, down) = tokio::join!(self.up.carry(from_client, to_server), self.down.carry(from_server, to_client));
        up.and(down)
    }

    /// A connection to the server. What it may receive ahead has to be settled before it is made: nobody takes back what was
    /// granted.
    async fn server(&self) -> io::Result<TcpStream> {
        let address = lookup_host(&self.target).await?.next().ok_or(io::ErrorKind::HostUnreachable)?;
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        SocketBuffer::receive().fit(&socket, &self.down.line())?;
        socket.connect(address).await
    }
}
