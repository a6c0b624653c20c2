//! The queue at the head of a line: who may enter it, and when.

use std::time::{Duration, Instant};

use super::capacity::{Capacity, Place};
use crate::files::Random;

/// Everything that waits, first in, first out. Of whose bytes it is, it knows nothing: all that counts is how far the line
/// is taken already.
#[derive(Debug)]
pub(crate) struct Queue {
    /// Up to here the line is taken.
    tail: Place,
    luck: Random,
}

/// Whether there is room for a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// There is, for so many bytes.
    Now(u64),
    /// Not before then, unless the line changes.
    At(Instant),
}

/// The place that bytes have been given on the line.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub(crate) struct Ticket {
    /// Where the last one of them is.
    pub(super) place: Place,
    /// How much of the jitter is theirs: from nothing to all of it.
    pub(super) luck: u64,
    /// By how much they come later than the line says.
    pub(super) late: Duration,
}

impl Queue {
    /// With nothing in it, and with the jitter of that seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self { tail: Place::default(), luck: Random::new(seed) }
    }

    /// Whether a piece may enter now.
    pub(crate) fn room(&self, capacity: &Capacity, now: Instant) -> Room {
        let line = capacity.line();
        // When what waits has come down to this, a piece fits in.
        let most = line.queue_length() - line.piece();
        if self.waiting(capacity, now) <= most {
            return Room::Now(line.piece());
        }
        let (moment, _) = capacity.leaving(self.tail.before(most));
        Room::At(moment)
    }

    /// Takes bytes in, behind all others: no more than there was [`room`](Self::room) for.
    pub(crate) fn enter(&mut self, capacity: &Capacity, now: Instant, bytes: u64) -> Ticket {
        // What the line could have carried and did not is lost.
        self.tail = self.tail.max(capacity.by(now)).after(bytes);
        Ticket { place: self.tail, luck: self.luck.number(), late: Duration::ZERO }
    }

    /// Bytes that have not left yet.
    fn waiting(&self, capacity: &Capacity, now: Instant) -> u64 {
        self.tail.bytes_from(capacity.by(now))
    }
}

impl Ticket {
    /// The same, and later by so much.
    pub(crate) fn late(self, by: Duration) -> Self {
        Self { late: self.late + by, ..self }
    }

    /// By how much it is late.
    pub(crate) fn lateness(&self) -> Duration {
        self.late
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::line::{Arrivals, Line, Stalls};

    fn line(rate: u64, queue: Option<u64>, stalls: Option<u64>) -> Line {
        let line = Line::rate(rate).delay(Duration::from_millis(300));
        let line = queue.map_or(line, |bytes| line.queue(bytes));
        stalls.map_or(line, |seed| line.stalls(Stalls::new(Duration::from_millis(500), Duration::from_secs(2), seed)))
    }

    proptest! {
        /// A sender that always has something uses the line to the full, whatever its pieces, and however late it looks.
        #[test]
        fn a_busy_line_is_used_to_the_full(
            rate in 1_000_u64..1 << 30, queue in prop::option::of(0_u64..1 << 24), stalls: Option<u64>,
            sizes in prop::collection::vec((1_u64..=100, 0_u64..2_000), 1..300),
        ) {
            let (line, start) = (line(rate, queue, stalls), Instant::now());
            let (capacity, mut queue, mut now, mut sum) = (Capacity::new(line, start), Queue::new(1), start, 0);
            let mut arrived = start;
            for (percent, microseconds) in sizes {
                // As a timer does, it wakes a little late: not later than the queue lasts.
                let late = Duration::from_micros(microseconds);
                let late = late.min(Duration::from_secs_f64((line.queue_length() - line.piece()) as f64 / rate as f64));
                let room = match queue.room(&capacity, now) {
                    Room::Now(room) => room,
                    Room::At(moment) => {
                        prop_assert!(moment > now);
                        now = moment;
                        prop_assert_eq!(queue.room(&capacity, now), Room::Now(line.piece()));
                        now += late;
                        line.piece()
                    }
                };
                let bytes = (room * percent / 100).max(1);
                sum += bytes;
                let ticket = queue.enter(&capacity, now, bytes);
                arrived = Arrivals::new(start).due(&capacity, ticket);
            }
            // Where the queue holds one piece alone, whoever fills it with less leaves the line idle.
            if line.queue_length() >= 2 * line.piece() {
                let ideal = start + line.takes(sum);
                prop_assert!(arrived >= ideal && arrived <= ideal + Duration::from_micros(1), "{:?}", arrived - start);
            }
        }

        /// No more waits than may, whoever comes when, and however the line changes its rate.
        #[test]
        fn a_queue_is_bounded(
            rate in 1_000_u64..1 << 30, queue_length in prop::option::of(0_u64..1 << 24), stalls: Option<u64>,
            visits in prop::collection::vec((0_u64..100, 1_u64..=100), 1..300),
        ) {
            let (line, start) = (line(rate, queue_length, stalls), Instant::now());
            let (capacity, mut queue, mut now) = (Capacity::new(line, start), Queue::new(1), start);
            for (milliseconds, percent) in visits {
                if let Room::Now(room) = queue.room(&capacity, now) {
                    let _ = queue.enter(&capacity, now, (room * percent / 100).max(1));
                }
                prop_assert!(queue.waiting(&capacity, now) <= line.queue_length());
                now += Duration::from_millis(milliseconds);
            }
        }
    }

    #[test]
    fn a_narrower_line_lets_nothing_in_until_the_queue_is_short_again() {
        let (wide, narrow, start) = (Line::rate(1_000_000), Line::rate(100_000), Instant::now());
        let (mut capacity, mut queue) = (Capacity::new(wide, start), Queue::new(1));
        for _ in 0..10 {
            assert_eq!(queue.room(&capacity, start), Room::Now(10_000));
            let _ = queue.enter(&capacity, start, 10_000);
        }
        capacity.change(narrow, start);
        let Room::At(moment) = queue.room(&capacity, start) else { panic!("there is no room") };
        // 100,000 wait, 10,000 may, and 1,000 are to come.
        assert_eq!(moment, start + Duration::from_millis(910));
    }
}
