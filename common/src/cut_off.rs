//! Whether a server cuts this client off because a message is too large for the line: a decision without a clock and without a network.
//!
//! nats-server closes a client's connection to which it could not write for its `write_deadline`, ten seconds by default, unless its
//! `write_timeout` is `retry`. A message that takes longer than that may never come whole: it is begun again on each connection.

use std::time::Duration;

/// The server's default.
pub(crate) const WRITE_DEADLINE: Duration = Duration::from_secs(10);
/// What is on its way in the server's and the system's buffers is written already: a message that takes somewhat less may do so, too.
const SAFE: f64 = 0.8;
/// Connections on which no such message came whole, one after the other. One that stood for longer than so many times the deadline was not
/// ended by it.
const ENOUGH: usize = 2;
const LONG: u32 = 4;
/// A connection that ends so soon is not ended by the line.
const AT_ONCE: Duration = Duration::from_secs(1);
/// A message that was compressed has a part of its size, about so large at least.
const COMPRESSED: u64 = 8;

/// What came over the last connections.
#[derive(Debug, Clone)]
pub(crate) struct CutOff {
    current: Connection,
    /// The last ones that ended, the latest first.
    ended: [Option<Ended>; ENOUGH],
    told: Told,
}

/// A connection that stands.
#[derive(Debug, Clone, Copy)]
struct Connection {
    since: Duration,
    /// Bytes that had come over all connections when it was found to be another one.
    bytes: u64,
    /// The largest message that came whole, in bytes.
    largest: u64,
    /// The largest message that was asked for and is known to be stored, in bytes.
    asked: u64,
}

/// A connection that has ended.
#[derive(Debug, Clone, Copy)]
struct Ended {
    took: Duration,
    bytes: u64,
    largest: u64,
    asked: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    NotYet,
    Told,
}

/// A message is too large for the line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TooSlow {
    /// Bytes per second that have come.
    pub(crate) rate: f64,
    /// How long a message takes.
    pub(crate) takes: Duration,
}

impl CutOff {
    /// Begins before anything has come.
    pub(crate) fn new() -> Self {
        let current = Connection { since: Duration::ZERO, bytes: 0, largest: 0, asked: 0 };
        Self { current, ended: [None; ENOUGH], told: Told::NotYet }
    }

    /// A stored message of so many bytes is asked for.
    pub(crate) fn asked(&mut self, bytes: u64) {
        self.current.asked = self.current.asked.max(bytes);
    }

    /// A message of so many bytes came whole.
    pub(crate) fn came(&mut self, bytes: u64) {
        self.current.largest = self.current.largest.max(bytes);
    }

    /// The connection was made anew, when so many bytes had come over all of them. Says whether the one that has ended counts.
    pub(crate) fn reconnected(&mut self, now: Duration, bytes: u64) -> bool {
        let before = std::mem::replace(&mut self.current, Connection { since: now, bytes, largest: 0, asked: 0 });
        // One over which nothing was asked for shows nothing.
        if before.asked == 0 {
            return false;
        }
        let took = now.saturating_sub(before.since);
        self.ended.rotate_right(1);
        let bytes = bytes.saturating_sub(before.bytes);
        self.ended[0] = Some(Ended { took, bytes, largest: before.largest, asked: before.asked });
        true
    }

    /// Whether the last connections ended as soon as something was asked for: more may have been on its way than the server's `max_pending`.
    pub(crate) fn ends_at_once(&self) -> bool {
        self.ended.iter().all(|ended| ended.is_some_and(|ended| ended.took < AT_ONCE))
    }

    /// Whether messages of this size are too large: some were asked for, and none came. No more once that [was told](CutOff::told).
    pub(crate) fn too_slow_for(&self, message: u64) -> Option<TooSlow> {
        let least = message / COMPRESSED;
        let in_vain =
            |ended: &Ended| ended.largest < least && ended.asked >= least && ended.took <= WRITE_DEADLINE * LONG;
        if self.told == Told::Told || !self.ended.iter().all(|ended| ended.as_ref().is_some_and(in_vain)) {
            return None;
        }
        let last = self.ended[0]?;
        let rate = last.bytes as f64 / last.took.as_secs_f64().max(0.001);
        let takes = takes(message, rate)?;
        (takes >= WRITE_DEADLINE.mul_f64(SAFE)).then_some(TooSlow { rate, takes })
    }

    /// It was told that they are too large.
    pub(crate) fn told(&mut self) {
        self.told = Told::Told;
    }
}

/// How long a message takes at so many bytes per second; `None` if nothing comes at all.
pub(crate) fn takes(message: u64, rate: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(message as f64 / rate).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MESSAGE: u64 = 1 << 20;

    /// Connections of this many seconds over a line of so many bytes per second: how often it is told.
    fn told(rate: u64, seconds: u64, connections: u64, whole: bool, asked: u64) -> usize {
        let mut cut_off = CutOff::new();
        let ends = (1..=connections).filter(|end| {
            let (now, bytes) = (end * seconds, end * seconds * rate);
            if whole {
                cut_off.came(MESSAGE - 1_000);
            }
            // Small ones come.
            cut_off.came(1_000);
            cut_off.asked(asked);
            cut_off.reconnected(Duration::from_secs(now), bytes);
            cut_off.too_slow_for(MESSAGE).is_some_and(|_| {
                cut_off.told();
                true
            })
        });
        ends.count()
    }

    proptest! {
        /// Once at most, never where a message came whole, or none was asked for, nor where the line would carry one in time.
        #[test]
        fn it_is_told_once_and_only_for_a_reason(rate in 0u64..1_000_000, seconds in 1u64..100, connections in 0u64..20) {
            let slow = rate > 0 && MESSAGE / rate >= 8 && seconds <= 40;
            prop_assert_eq!(told(rate, seconds, connections, false, MESSAGE), usize::from(slow && connections >= 2));
            prop_assert_eq!(told(rate, seconds, connections, true, MESSAGE), 0);
            prop_assert_eq!(told(rate, seconds, connections, false, 0), 0);
        }
    }

    #[test]
    fn only_connections_that_end_one_after_the_other_end_at_once() {
        let mut cut_off = CutOff::new();
        for (now, at_once) in [(30_000, false), (30_300, false), (30_900, true), (40_000, false), (40_100, false)] {
            cut_off.asked(1);
            cut_off.reconnected(Duration::from_millis(now), 0);
            assert_eq!(cut_off.ends_at_once(), at_once, "after {now} ms");
        }
    }

    #[test]
    fn it_says_how_long_a_message_takes() {
        let mut cut_off = CutOff::new();
        cut_off.asked(MESSAGE);
        cut_off.reconnected(Duration::from_secs(10), 655_360);
        assert_eq!(cut_off.too_slow_for(MESSAGE), None);
        cut_off.asked(MESSAGE);
        cut_off.reconnected(Duration::from_secs(20), 1_310_720);
        let told = cut_off.too_slow_for(MESSAGE).unwrap();
        assert_eq!((told.rate, told.takes.as_secs()), (65_536.0, 16));
    }
}
