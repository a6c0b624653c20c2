//! What a line is: one direction of a network, as a proxy is told to imitate it.
//!
//! [`Line`] says what to imitate. The decisions are made here, without a clock and without a socket, so that they can be
//! tried out at any speed: [`Capacity`] says how much a line could have carried by each moment, [`Queue`] who may put
//! bytes on it and when these leave, [`Arrivals`] when they are at the other end. `link.rs` does the moving.

mod arrivals;
mod capacity;
mod queue;
mod stalls;

use std::time::{Duration, Instant};

pub(crate) use arrivals::Arrivals;
pub(crate) use capacity::Capacity;
pub(crate) use queue::{Queue, Room, Ticket};
pub use stalls::Stalls;

/// Bytes per second of a line without a limit: more than any machine moves.
const UNLIMITED: u64 = 1_000_000_000_000;

/// What may be under way at once on one connection of a line without a limit.
const UNLIMITED_WINDOW: u64 = 16 << 20;

/// Bytes that are handled at once: a hundredth of a second's, within these. Less would cost too much, more would come in
/// bursts; the smallest piece takes less than a tenth of a second from 50 kbit/s on.
const PIECES_PER_SECOND: u64 = 100;
const SMALLEST_PIECE: u64 = 512;
pub(crate) const LARGEST_PIECE: u64 = 64 << 10;

/// The queue of a line that was given none: a tenth of a second's bytes.
const QUEUES_PER_SECOND: u64 = 10;

/// What the system may keep of a connection beside the line: a twentieth of a second's bytes, within these. Every system
/// grants the most; a line that is fatter has what the system thinks right, which is little where the reader is in time.
const BUFFERS_PER_SECOND: u64 = 20;
const SMALLEST_BUFFER: u64 = 16 << 10;
const LARGEST_BUFFER: u64 = 192 << 10;

/// One direction of a line: how many bytes a second it takes, and how long they are under way.
///
/// Bytes wait in a queue of bounded length, leave it one behind the other at the line's rate, and arrive after its delay,
/// in the order in which they were sent. When the queue is full, nothing more is taken from the sender, whose bytes then
/// wait in its own socket. What is under way does not count as waiting.
///
/// ```
/// use std::time::Duration;
/// use natsfer_tests::{Line, Stalls};
///
/// // A satellite's 8 Mbit/s, which now and then stand still for 5 s.
/// let line = Line::rate(1_000_000)
///     .delay(Duration::from_millis(300))
///     .stalls(Stalls::new(Duration::from_secs(5), Duration::from_secs(20), 7));
/// assert!(line.takes(10_000_000) >= Duration::from_millis(10_300));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Line {
    rate: u64,
    sharing: Sharing,
    delay: Duration,
    jitter: Duration,
    queue: Option<u64>,
    stalls: Option<Stalls>,
}

/// Whose a line's rate and queue are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// All connections' together.
    Together,
    /// Every connection has its own.
    Each,
}

impl Default for Line {
    fn default() -> Self {
        Self::free()
    }
}

impl Line {
    /// A line that takes all it is given, and at once.
    pub const fn free() -> Self {
        Self {
            rate: UNLIMITED,
            sharing: Sharing::Together,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            queue: None,
            stalls: None,
        }
    }

    /// A line of so many bytes per second, at least one, for all connections together.
    pub const fn rate(bytes_per_second: u64) -> Self {
        Self::free().with_rate(Some(bytes_per_second))
    }

    /// The same line at another rate; `None` lifts the limit.
    pub(crate) const fn with_rate(self, bytes_per_second: Option<u64>) -> Self {
        let rate = match bytes_per_second {
            Some(0) => 1,
            Some(rate) if rate < UNLIMITED => rate,
            _ => UNLIMITED,
        };
        Self { rate, ..self }
    }

    /// How long everything is under way: half a round trip, where both directions have it.
    pub const fn delay(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// Lets everything be under way longer by something between nothing and this, in an even distribution from a fixed
    /// seed. What is late holds up what comes behind it: nothing is overtaken.
    pub const fn jitter(self, jitter: Duration) -> Self {
        Self { jitter, ..self }
    }

    /// How many bytes may wait at the head of the line, instead of a tenth of a second's; at least one piece of what is
    /// moved at once, a hundredth of a second's or 512 bytes.
    pub const fn queue(self, bytes: u64) -> Self {
        Self { queue: Some(bytes), ..self }
    }

    /// Lets it stand still now and then. What has left the queue before arrives.
    pub const fn stalls(self, stalls: Stalls) -> Self {
        Self { stalls: Some(stalls), ..self }
    }

    /// Gives every connection a rate and a queue of its own, instead of all of them together.
    pub const fn for_each_connection(self) -> Self {
        Self { sharing: Sharing::Each, ..self }
    }

    /// How long the line takes for so many bytes that are there when it is laid, from then to the arrival of the last one:
    /// its stalls included, its jitter not.
    #[must_use]
    pub fn takes(&self, bytes: u64) -> Duration {
        let laid = Instant::now();
        let capacity = Capacity::new(self.jitter(Duration::ZERO), laid);
        let ticket = Queue::new(0).enter(&capacity, laid, bytes);
        Arrivals::new(laid).due(&capacity, ticket) - laid
    }

    /// How many bytes leave it in so long a time from the moment it is laid, if it is never idle: its stalls do not count.
    #[must_use]
    pub fn carries(&self, time: Duration) -> u64 {
        let laid = Instant::now();
        let capacity = Capacity::new(*self, laid);
        capacity.by(laid + time).bytes_from(capacity.by(laid))
    }

    /// Bytes per second.
    #[must_use]
    pub const fn bytes_per_second(&self) -> u64 {
        self.rate
    }

    pub(crate) const fn sharing(&self) -> Sharing {
        self.sharing
    }

    /// How much is handled at once.
    pub(crate) fn piece(&self) -> u64 {
        (self.rate / PIECES_PER_SECOND).clamp(SMALLEST_PIECE, LARGEST_PIECE)
    }

    /// How much may wait.
    pub(crate) fn queue_length(&self) -> u64 {
        self.queue.unwrap_or(self.rate / QUEUES_PER_SECOND).max(self.piece())
    }

    /// How much of one connection may be between its two ends: what waits, and what is in the air. It bounds what is kept
    /// for a receiver that does not read.
    pub(crate) fn window(&self) -> u64 {
        if self.rate == UNLIMITED {
            return UNLIMITED_WINDOW;
        }
        let in_the_air = u128::from(self.rate) * (self.delay + self.jitter).as_millis() / 1_000;
        let in_the_air = u64::try_from(in_the_air).unwrap_or(u64::MAX);
        self.queue_length().saturating_add(in_the_air).saturating_add(2 * self.piece())
    }

    /// What the system may keep of each connection; `None` is what it thinks right.
    pub(crate) fn socket_buffer(&self) -> Option<usize> {
        let bytes = (self.rate / BUFFERS_PER_SECOND).max(SMALLEST_BUFFER);
        (bytes <= LARGEST_BUFFER).then_some(bytes).and_then(|bytes| usize::try_from(bytes).ok())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// What a line takes for some bytes and what it carries in that time agree, stalls or not.
        #[test]
        fn takes_and_carries_agree(rate in 1_u64..1 << 34, bytes in 1_u64..1 << 30, stalls: Option<u64>) {
            let (five, twenty) = (Duration::from_secs(5), Duration::from_secs(20));
            let line = Line::rate(rate);
            let line = stalls.map_or(line, |seed| line.stalls(Stalls::new(five, twenty, seed)));
            let takes = line.takes(bytes);
            prop_assume!(takes < Duration::from_secs(1 << 32));
            prop_assert!(line.carries(takes) >= bytes);
            prop_assert!(line.carries(takes - Duration::from_nanos(1)) <= bytes);
            prop_assert_eq!(line.delay(five).jitter(five).takes(bytes), takes + five);
        }

        /// However the line is, a piece fits into its queue, and what it has in the air besides is allowed.
        #[test]
        fn a_piece_fits(rate: u64, queue in prop::option::of(0_u64..1 << 40), delay in 0_u64..2_000) {
            let line = Line::rate(rate).delay(Duration::from_millis(delay));
            let line = queue.map_or(line, |bytes| line.queue(bytes));
            prop_assert!(line.piece() <= line.queue_length());
            prop_assert!(line.piece() <= line.window());
            if line.rate < UNLIMITED {
                prop_assert!(line.window() > line.queue_length().saturating_add(line.rate * delay / 1_000));
            }
        }
    }

    #[test]
    fn slow_lines_have_small_pieces_and_buffers() {
        let slow = Line::rate(6_250);
        assert_eq!((slow.piece(), slow.queue_length(), slow.socket_buffer()), (512, 625, Some(16 << 10)));
        let fat = Line::rate(125_000_000);
        assert_eq!((fat.piece(), fat.queue_length(), fat.socket_buffer()), (64 << 10, 12_500_000, None));
        assert_eq!(Line::free().socket_buffer(), None);
    }
}
