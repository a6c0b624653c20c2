//! One direction of a proxy: moves bytes from socket to socket, when its line says so.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, sleep_until};

use crate::line::{Arrivals, Capacity, LARGEST_PIECE, Queue, Room, Sharing, Ticket};
use crate::packet_loss::PacketLoss;
use crate::socket_buffer::SocketBuffer;
use crate::{Line, lock};

/// What the proxy does to its connections beside its lines.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Settings {
    pub(crate) refuse: bool,
    pub(crate) black_hole: bool,
    /// The share of packets that are lost, from 0 to 1.
    pub(crate) loss: f64,
    /// Counts the cuts: a connection ends when it is no longer its own.
    pub(crate) cuts: u64,
}

/// One direction of a proxy, of all its connections.
#[derive(Debug)]
pub(crate) struct Link {
    settings: watch::Receiver<Settings>,
    /// The line as it is, told after the road has become so.
    line: watch::Sender<Line>,
    road: Mutex<Road>,
    losses: Mutex<PacketLoss>,
    carried: AtomicU64,
    seed: u64,
}

/// What the connections share.
#[derive(Debug)]
struct Road {
    capacity: Capacity,
    /// Of all connections together, where the line has one for all of them.
    queue: Queue,
}

/// One connection's way through the link.
struct Lane {
    /// Its own, where every connection has one.
    queue: Mutex<Queue>,
    /// Bytes that were taken from its sender and not given to its receiver yet.
    held: watch::Sender<u64>,
}

/// Bytes on their way. None at all are the end of the stream, which is under way as long as everything else.
struct Piece {
    ticket: Ticket,
    bytes: Vec<u8>,
}

/// What came of an attempt to read from a sender.
enum Read {
    /// These are on the line now.
    Piece(Piece),
    /// There may be room then.
    Full(Instant),
    /// It was not ready after all.
    Nothing,
}

impl Link {
    /// A link over a line without limits, whose losses and jitter are drawn from that seed.
    pub(crate) fn new(settings: watch::Receiver<Settings>, seed: u64) -> Self {
        let line = Line::free();
        let road = Road { capacity: Capacity::new(line, Instant::now()), queue: Queue::new(seed) };
        Self {
            settings,
            line: watch::Sender::new(line),
            road: Mutex::new(road),
            losses: Mutex::new(PacketLoss::new(seed)),
            carried: AtomicU64::new(0),
            seed,
        }
    }

    /// The line as it is.
    pub(crate) fn line(&self) -> Line {
        *self.line.borrow()
    }

    /// Makes it another line from that moment on.
    pub(crate) fn lay(&self, line: Line, now: Instant) {
        lock(&self.road).capacity.change(line, now);
        self.line.send_modify(|now| *now = line);
    }

    /// Bytes delivered so far.
    pub(crate) fn carried(&self) -> u64 {
        self.carried.load(Ordering::Relaxed)
    }

    /// Carries bytes until the sender has finished, or is gone, and all has arrived; or until the receiver is gone.
    pub(crate) async fn carry(&self, from: OwnedReadHalf, to: OwnedWriteHalf) -> io::Result<()> {
        let lane = Lane { queue: Mutex::new(Queue::new(self.seed)), held: watch::Sender::new(0) };
        // Bounded in bytes, by what is held.
        let (entry, exit) = mpsc::unbounded_channel();
        tokio::try_join!(self.take(&lane, from, entry), self.give(&lane, exit, to)).map(|_: ((), ())| ())
    }

    /// Waits out a black hole.
    pub(crate) async fn open(&self) {
        let mut settings = self.settings.clone();
        // Fails only when the proxy is going away, and then we are aborted.
        drop(settings.wait_for(|now| !now.black_hole).await);
    }

    /// Takes bytes from the sender whenever there is room for them.
    async fn take(&self, lane: &Lane, from: OwnedReadHalf, entry: mpsc::UnboundedSender<Piece>) -> io::Result<()> {
        let (mut line, mut kept) = (self.line.subscribe(), SocketBuffer::receive());
        let mut buffer = vec![0; usize::try_from(LARGEST_PIECE).unwrap_or(usize::MAX)];
        let mut held = lane.held.subscribe();
        loop {
            let now = *line.borrow_and_update();
            kept.fit(from.as_ref(), &now)?;
            tokio::select! {
                // That it failed is what reading says.
                _ = from.readable() => {}
                _ = line.changed() => continue,
            }
            self.open().await;
            // Fails only without a lane.
            drop(held.wait_for(|held| held + now.piece() <= now.window()).await);
            let piece = match self.read(lane, &from, &mut buffer)? {
                Read::Piece(piece) => piece,
                Read::Full(moment) => {
                    wait(moment, &mut line).await;
                    continue;
                }
                Read::Nothing => continue,
            };
            let (count, late) = (piece.bytes.len(), piece.ticket.lateness());
            lane.held.send_modify(|held| *held += count as u64);
            // Fails when the receiver is gone: the other half tells.
            if entry.send(piece).is_err() || count == 0 {
                return Ok(());
            }
            if !late.is_zero() {
                sleep(late).await;
            }
        }
    }

    /// Reads what is there, and puts it on the line if there is room.
    fn read(&self, lane: &Lane, from: &OwnedReadHalf, buffer: &mut [u8]) -> io::Result<Read> {
        let (mut road, mut own) = (lock(&self.road), lock(&lane.queue));
        let Road { capacity, queue } = &mut *road;
        let queue = match capacity.line().sharing() {
            Sharing::Together => queue,
            Sharing::Each => &mut own,
        };
        let now = Instant::now();
        let room = match queue.room(capacity, now) {
            Room::Now(room) => usize::try_from(room).unwrap_or(usize::MAX).min(buffer.len()),
            Room::At(moment) => return Ok(Read::Full(moment)),
        };
        let count = match from.try_read(&mut buffer[..room]) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Read::Nothing),
            // What a sender has sent before it went arrives nevertheless.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => 0,
            Err(error) => return Err(error),
        };
        let ticket = queue.enter(capacity, now, count as u64).late(self.loss(count));
        Ok(Read::Piece(Piece { ticket, bytes: buffer[..count].to_vec() }))
    }

    fn loss(&self, bytes: usize) -> Duration {
        lock(&self.losses).delay(bytes, self.settings.borrow().loss)
    }

    /// Gives bytes to the receiver as soon as they have arrived.
    async fn give(
        &self, lane: &Lane, mut exit: mpsc::UnboundedReceiver<Piece>, mut to: OwnedWriteHalf,
    ) -> io::Result<()> {
        let (mut line, mut kept) = (self.line.subscribe(), SocketBuffer::send());
        let mut arrivals = Arrivals::new(Instant::now());
        while let Some(Piece { ticket, bytes }) = exit.recv().await {
            let due = loop {
                let due = arrivals.due(&lock(&self.road).capacity, ticket);
                if due <= Instant::now() {
                    break due;
                }
                wait(due, &mut line).await;
            };
            arrivals.arrived(due);
            self.open().await;
            if bytes.is_empty() {
                return to.shutdown().await;
            }
            kept.fit(to.as_ref(), &line.borrow())?;
            to.write_all(&bytes).await?;
            let count = bytes.len() as u64;
            self.carried.fetch_add(count, Ordering::Relaxed);
            lane.held.send_modify(|held| *held -= count);
        }
        Ok(())
    }
}

/// Waits until a moment, or until the line changes, which may change the moment.
async fn wait(until: Instant, line: &mut watch::Receiver<Line>) {
    tokio::select! {
        () = sleep_until(until.into()) => {}
        // Fails only when the link is going away, and we with it.
        _ = line.changed() => {}
    }
}
