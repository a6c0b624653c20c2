//! One direction of a proxy: a cable of a certain length and width.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use crate::files::Random;
use crate::lock;

/// The largest run of bytes handled at once.
const PIECE: usize = 64 * 1024;

/// How many pieces may be on their way: bounds what latency can hold.
const IN_FLIGHT: usize = 256;

/// What one packet carries on an Ethernet.
const SEGMENT: usize = 1460;

/// How long a sender waits before it repeats a packet: Linux' shortest time.
const RETRANSMISSION: Duration = Duration::from_millis(200);

/// A packet that is lost so often ends a real connection.
const MOST_REPEATS: u32 = 6;

/// How the proxy's cable behaves at the moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Settings {
    pub(crate) refuse: bool,
    pub(crate) black_hole: bool,
    pub(crate) latency: Duration,
    /// Bytes per second; none is as fast as it goes.
    pub(crate) rate: Option<u64>,
    /// The share of packets that are lost, from 0 to 1.
    pub(crate) loss: f64,
    /// Counts the cuts: a connection ends when it is no longer its own.
    pub(crate) cuts: u64,
}

/// All connections of a proxy share one link per direction, and its rate.
#[derive(Debug)]
pub(crate) struct Link {
    settings: watch::Receiver<Settings>,
    free_at: Mutex<Instant>,
    carried: AtomicU64,
    losses: Mutex<Random>,
}

impl Link {
    /// A link whose losses are drawn from that seed.
    pub(crate) fn new(settings: watch::Receiver<Settings>, seed: u64) -> Self {
        let losses = Mutex::new(Random::new(seed));
        Self { settings, free_at: Mutex::new(Instant::now()), carried: AtomicU64::new(0), losses }
    }

    /// Bytes delivered so far.
    pub(crate) fn carried(&self) -> u64 {
        self.carried.load(Ordering::Relaxed)
    }

    /// Carries bytes until the sender has finished or either end fails.
    pub(crate) async fn carry(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> io::Result<()> {
        let (entry, mut far_end) = mpsc::channel::<(Instant, Vec<u8>)>(IN_FLIGHT);
        let enter = async move {
            let mut piece = vec![0; PIECE];
            loop {
                let room = self.piece();
                let count = from.read(&mut piece[..room]).await?;
                if count == 0 {
                    return Ok(());
                }
                self.open().await;
                self.pace(count).await;
                let stall = self.stall(count);
                if !stall.is_zero() {
                    sleep(stall).await;
                }
                let due = Instant::now() + self.settings.borrow().latency;
                let sent = entry.send((due, piece[..count].to_vec())).await;
                if sent.is_err() {
                    return Ok(());
                }
            }
        };
        let leave = async move {
            while let Some((due, piece)) = far_end.recv().await {
                // Even a sleep that is over takes a timer's tick, a millisecond: 64 MiB/s at most.
                if due > Instant::now() {
                    sleep_until(due).await;
                }
                self.open().await;
                to.write_all(&piece).await?;
                let count = piece.len() as u64;
                self.carried.fetch_add(count, Ordering::Relaxed);
            }
            // The end of the stream stays in the black hole, too.
            self.open().await;
            to.shutdown().await
        };
        tokio::try_join!(enter, leave).map(|_: ((), ())| ())
    }

    /// Waits out a black hole.
    pub(crate) async fn open(&self) {
        let mut settings = self.settings.clone();
        // Fails only when the proxy is going away, and then we are aborted.
        drop(settings.wait_for(|now| !now.black_hole).await);
    }

    /// On a slow link small pieces, or it would be bursts and pauses.
    fn piece(&self) -> usize {
        let rate = self.settings.borrow().rate;
        rate.and_then(|rate| usize::try_from(rate / 50).ok()).map_or(PIECE, |piece| piece.clamp(256, PIECE))
    }

    async fn pace(&self, count: usize) {
        let Some(rate) = self.settings.borrow().rate else {
            return;
        };
        let takes = Duration::from_secs_f64(count as f64 / rate.max(1) as f64);
        let done = {
            let mut free_at = lock(&self.free_at);
            *free_at = (*free_at).max(Instant::now()) + takes;
            *free_at
        };
        sleep_until(done).await;
    }

    /// How long lost packets hold up so many bytes, and all behind them: nothing if none is lost, otherwise one
    /// retransmission time, doubled whenever the repeated packet is lost as well.
    fn stall(&self, count: usize) -> Duration {
        let loss = self.settings.borrow().loss;
        if loss <= 0.0 {
            return Duration::ZERO;
        }
        let mut losses = lock(&self.losses);
        let mut lost = || (losses.number() as f64) < loss * u64::MAX as f64;
        let segments = count.div_ceil(SEGMENT);
        // All are drawn, so that the next piece's luck does not hang on this one's.
        if (0..segments).filter(|_| lost()).count() == 0 {
            return Duration::ZERO;
        }
        let repeats = (0..MOST_REPEATS).take_while(|_| lost()).count();
        RETRANSMISSION * (1 << repeats)
    }
}
