//! A TCP proxy on loopback that can misbehave like a network.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::link::{Link, Settings};
use crate::must;

/// Stands between a client and a server, at first without being noticed.
/// Everything can be changed at any time, and holds for all connections, old
/// and new. Dropping it closes them all and frees the port.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    settings: watch::Sender<Settings>,
    up: Arc<Link>,
    down: Arc<Link>,
    open: watch::Receiver<usize>,
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
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr().context("a port without a number")?;
        let (settings, seen) = watch::channel(Settings::default());
        let (count, open) = watch::channel(0);
        let up = Arc::new(Link::new(seen.clone(), 1));
        let down = Arc::new(Link::new(seen.clone(), 2));
        let cable = Cable { target, settings: seen, up: Arc::clone(&up), down: Arc::clone(&down) };
        let acceptor = tokio::spawn(cable.accept(listener, count));
        Ok(Self { address, settings, up, down, open, acceptor })
    }

    /// Where clients connect instead of to the server.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Closes all connections. New ones are welcome.
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

    /// Delays everything by so much, each way: a round trip takes twice that.
    pub fn latency(&self, latency: Duration) {
        self.settings.send_modify(|now| now.latency = latency);
    }

    /// Lets through so many bytes per second each way, for all connections
    /// together; `None` lifts the limit.
    pub fn rate(&self, bytes_per_second: impl Into<Option<u64>>) {
        let rate = bytes_per_second.into();
        self.settings.send_modify(|now| now.rate = rate);
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
    async fn accept(self, listener: TcpListener, open: watch::Sender<usize>) {
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

    async fn carry(&self, client: TcpStream) -> std::io::Result<()> {
        self.up.open().await;
        let server = TcpStream::connect(&self.target).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        tokio::try_join!(self.up.carry(from_client, to_server), self.down.carry(from_server, to_client),)?;
        Ok(())
    }
}
