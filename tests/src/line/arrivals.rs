//! When bytes are at the other end of a line.

use std::time::{Duration, Instant};

use super::{capacity::Capacity, queue::Ticket};

/// One connection's arrivals, each at its time and none before an earlier one.
#[derive(Debug)]
pub(crate) struct Arrivals {
    latest: Instant,
}

impl Arrivals {
    /// Of a connection that begins now.
    pub(crate) fn new(now: Instant) -> Self {
        Self { latest: now }
    }

    /// When the next bytes arrive, if the line does not change any more.
    pub(crate) fn due(&self, capacity: &Capacity, ticket: Ticket) -> Instant {
        let (left, line) = capacity.leaving(ticket.place);
        let jitter = line.jitter.as_nanos() * u128::from(ticket.luck) / u128::from(u64::MAX);
        let jitter = Duration::from_nanos(u64::try_from(jitter).unwrap_or(u64::MAX));
        self.latest.max(left + line.delay + jitter + ticket.late)
    }

    /// Notes that they have arrived, and when they were due.
    pub(crate) fn arrived(&mut self, due: Instant) {
        self.latest = self.latest.max(due);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::line::{Line, Queue};

    proptest! {
        /// Nothing overtakes, nothing comes before its delay, and nothing later than its jitter and whoever was before it.
        #[test]
        fn nothing_is_overtaken(
            pieces in prop::collection::vec((0_u64..100, 1_u64..5_000, 0_u64..300, 0_u64..500), 1..200),
            rate in 10_000_u64..1 << 24,
        ) {
            let start = Instant::now();
            let (mut capacity, mut queue) = (Capacity::new(Line::rate(rate), start), Queue::new(3));
            let (mut arrivals, mut now, mut last) = (Arrivals::new(start), start, start);
            for (pause, bytes, delay, jitter) in pieces {
                now += Duration::from_millis(pause);
                let (delay, jitter) = (Duration::from_millis(delay), Duration::from_millis(jitter));
                capacity.change(Line::rate(rate).delay(delay).jitter(jitter), now);
                let ticket = queue.enter(&capacity, now, bytes);
                let (left, _) = capacity.leaving(ticket.place);
                let due = arrivals.due(&capacity, ticket);
                prop_assert!(due >= last && due >= left + delay);
                prop_assert!(due <= last.max(left + delay + jitter));
                arrivals.arrived(due);
                last = due;
            }
        }
    }

    #[test]
    fn what_is_under_way_keeps_its_delay() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let (mut capacity, mut queue) = (Capacity::new(Line::rate(1_000).delay(second), start), Queue::new(1));
        let ticket = queue.enter(&capacity, start, 1_000);
        let arrivals = Arrivals::new(start);
        assert_eq!(arrivals.due(&capacity, ticket), start + 2 * second);
        capacity.change(Line::rate(1_000), start + second);
        assert_eq!(arrivals.due(&capacity, ticket), start + 2 * second);
        assert_eq!(arrivals.due(&capacity, ticket.late(second)), start + 3 * second);
    }
}
