//! How fast a line is, seen in a message that is still arriving: a decision without a clock and without a network.
//!
//! On a long line the first message takes a round trip, and nothing is known of the rate before it has come whole. Its bytes tell it
//! earlier. The first of them may come at once, out of buffers or because the line is allowed bursts: they do not count.

use std::time::Duration;

use crate::Probe;

/// So many bytes more than there were are the message's, and no heartbeat's or short answer's.
const BEGUN: u64 = 4 * 1024;
/// What comes first does not count: for so long at least, and so many bytes.
const SETTLING: (Duration, u64) = (Duration::from_millis(100), 8 * 1024);
/// What is measured: for so long at least, and so many bytes.
const MEASURED: (Duration, u64) = (Duration::from_millis(100), 8 * 1024);

/// How often it is looked what has come, at most and at least: the client tells nobody of parts of a message.
const LOOK: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// A look at a message that was asked for, while nothing else was on its way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ArrivalRate {
    asked_at: Duration,
    stage: Stage,
    /// When the stage began, and how many bytes had come over the connection then.
    since: (Duration, u64),
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    Awaited,
    Settling { round_trip: Duration },
    Measuring { round_trip: Duration },
}

impl ArrivalRate {
    /// The message is asked for now. So many bytes have come over the connection before.
    pub(crate) fn new(now: Duration, bytes: u64) -> Self {
        Self { asked_at: now, stage: Stage::Awaited, since: (now, bytes) }
    }

    /// How soon to look again: often enough to see when the bytes begin and how fast they come, and more rarely the longer that takes.
    pub(crate) fn look_after(&self, now: Duration) -> Duration {
        (now.saturating_sub(self.since.0) / 32).clamp(LOOK.0, LOOK.1)
    }

    /// So many bytes have come by now. Says what that shows, once it shows anything.
    pub(crate) fn look(&mut self, now: Duration, bytes: u64) -> Option<Probe> {
        let (took, came) = (now.saturating_sub(self.since.0), bytes.saturating_sub(self.since.1));
        let next = match self.stage {
            Stage::Awaited if came >= BEGUN => Stage::Settling { round_trip: now.saturating_sub(self.asked_at) },
            Stage::Settling { round_trip } if took >= SETTLING.0 && came >= SETTLING.1 => {
                Stage::Measuring { round_trip }
            }
            Stage::Measuring { round_trip } if took >= MEASURED.0 && came >= MEASURED.1 => {
                return Some(Probe { rate: came as f64 / took.as_secs_f64(), round_trip, bytes: came });
            }
            _ => return None,
        };
        (self.stage, self.since) = (next, (now, bytes));
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks every 20 ms at what has come by then, as bytes after so many milliseconds.
    fn sight(bytes: impl Fn(u64) -> u64) -> Option<Probe> {
        let mut arrival = ArrivalRate::new(Duration::ZERO, bytes(0));
        (1..500).find_map(|tick| arrival.look(Duration::from_millis(20 * tick), bytes(20 * tick)))
    }

    #[test]
    fn the_rate_and_the_round_trip_are_seen() {
        for (rate, round_trip) in [(64_000, 600), (1_000_000, 600), (1_000_000, 40), (6_000, 300)] {
            let seen = sight(|ms| ms.saturating_sub(round_trip) * rate / 1_000).unwrap();
            assert!((seen.rate / rate as f64 - 1.0).abs() < 0.1, "{seen:?} for {rate}");
            // As soon as there is something to be seen.
            let begun = round_trip + BEGUN * 1_000 / rate;
            assert!(seen.round_trip.as_millis() as u64 <= begun + 20, "{seen:?} for {round_trip}");
        }
    }

    #[test]
    fn what_comes_at_once_does_not_count() {
        let burst = |ms: u64| if ms < 300 { 0 } else { (256 << 10) + (ms - 300) * 64 };
        let seen = sight(burst).unwrap();
        assert!((seen.rate / 64_000.0 - 1.0).abs() < 0.1, "{seen:?}");
    }

    #[test]
    fn what_comes_whole_at_once_and_what_is_not_the_message_shows_nothing() {
        assert_eq!(sight(|ms| if ms < 300 { 0 } else { 1 << 20 }), None);
        assert_eq!(sight(|ms| ms / 2_000 * 80), None);
    }
}
