//! Whether a server cuts this client off because a message is too large for the line: a decision without a clock and without a network.
//!
//! nats-server closes a client's connection to which it could not write for its `write_deadline`, ten seconds by default, unless its
//! `write_timeout` is `retry`. A message that takes longer than that may never come whole: it is begun again on each connection.

use std::time::Duration;

/// The server's default.
pub(crate) const WRITE_DEADLINE: Duration = Duration::from_secs(10);
/// What is on its way in the server's and the system's buffers is written already: a message that takes somewhat less may do so, too.
const SAFE: f64 = 0.8;
/// Connections on which no message came whole, one after the other. One that stood for longer than so many times the deadline was not
/// ended by it.
const ENOUGH: u32 = 2;
const LONG: u32 = 4;

/// Counts the connections that end before a message has come whole.
#[derive(Debug, Clone)]
pub(crate) struct CutOff {
    /// When this connection was found to be another one, and the bytes that had come then.
    since: Duration,
    bytes: u64,
    in_vain: u32,
    told: Told,
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
    /// Begins now, when so many bytes have come over all connections.
    pub(crate) fn new(now: Duration, bytes: u64) -> Self {
        Self { since: now, bytes, in_vain: 0, told: Told::NotYet }
    }

    /// A message came whole.
    pub(crate) fn came(&mut self) {
        self.in_vain = 0;
    }

    /// The connection was made anew. Says if messages of this size, should any have been on their way, are too large; no more once
    /// that [was told](CutOff::told).
    pub(crate) fn reconnected(&mut self, now: Duration, bytes: u64, message: u64) -> Option<TooSlow> {
        let (took, came) = (now.saturating_sub(self.since), bytes.saturating_sub(self.bytes));
        (self.since, self.bytes) = (now, bytes);
        self.in_vain = if took <= WRITE_DEADLINE * LONG { self.in_vain + 1 } else { 0 };
        let rate = came as f64 / took.as_secs_f64().max(0.001);
        let takes = takes(message, rate)?;
        if self.in_vain < ENOUGH || takes < WRITE_DEADLINE.mul_f64(SAFE) || self.told == Told::Told {
            return None;
        }
        Some(TooSlow { rate, takes })
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
    fn told(rate: u64, seconds: u64, connections: u64, whole: bool) -> usize {
        let mut cut_off = CutOff::new(Duration::ZERO, 0);
        let ends = (1..=connections).filter(|end| {
            let (now, bytes) = (end * seconds, end * seconds * rate);
            if whole {
                cut_off.came();
            }
            let too_slow = cut_off.reconnected(Duration::from_secs(now), bytes, MESSAGE);
            too_slow.is_some_and(|_| {
                cut_off.told();
                true
            })
        });
        ends.count()
    }

    proptest! {
        /// Once at most, never where a message came whole, nor where the line would carry one in time.
        #[test]
        fn it_is_told_once_and_only_for_a_reason(rate in 0u64..1_000_000, seconds in 1u64..100, connections in 0u64..20) {
            let slow = rate > 0 && MESSAGE / rate >= 8 && seconds <= 40;
            prop_assert_eq!(told(rate, seconds, connections, false), usize::from(slow && connections >= 2));
            prop_assert_eq!(told(rate, seconds, connections, true), 0);
        }
    }

    #[test]
    fn it_says_how_long_a_message_takes() {
        let mut cut_off = CutOff::new(Duration::ZERO, 1_000);
        assert_eq!(cut_off.reconnected(Duration::from_secs(10), 656_360, MESSAGE), None);
        let told = cut_off.reconnected(Duration::from_secs(20), 1_311_720, MESSAGE).unwrap();
        assert_eq!((told.rate, told.takes.as_secs()), (65_536.0, 16));
    }
}
