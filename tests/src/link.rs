//! One direction of a proxy: a cable of a certain length and width.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::lock;

/// The largest run of bytes handled at once.
const PIECE: usize = 64 * 1024;

/// How many pieces may be on their way: bounds what latency can hold.
const IN_FLIGHT: usize = 256;

/// How the proxy's cable behaves at the moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Settings {
    pub(crate) refuse: bool,
    pub(crate) black_hole: bool,
    pub(crate) latency: Duration,
    /// Bytes per second; none is as fast as it goes.
    pub(crate) rate: Option<u64>,
    /// Counts the cuts: a connection ends when it is no longer its own.
    pub(crate) cuts: u64,
}

/// All connections of a proxy share one link per direction, and its rate.
#[derive(Debug)]
pub(crate) struct Link {
    settings: watch::Receiver<Settings>,
    free_at: Mutex<Instant>,
    carried: AtomicU64,
}

impl Link {
    pub(crate) fn new(settings: watch::Receiver<Settings>) -> Self {
        Self { settings, free_at: Mutex::new(Instant::now()), carried: AtomicU64::new(0) }
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
                let due = Instant::now() + self.settings.borrow().latency;
                let sent = entry.send((due, piece[..count].to_vec())).await;
                if sent.is_err() {
                    return Ok(());
                }
            }
        };
        let leave = async move {
            while let Some((due, piece)) = far_end.recv().await {
                sleep_until(due).await;
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
}
