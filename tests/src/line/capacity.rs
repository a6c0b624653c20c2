//! How much a line could have carried by each moment.

use std::time::{Duration, Instant};

use super::Line;

/// Nanoseconds in a second, and so the parts of a byte in which places are counted: whole bytes per second in whole
/// nanoseconds come out even.
const PARTS: u128 = 1_000_000_000;

/// A place in the sequence of all bytes that a line could carry from its beginning on, used or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(u128);

impl Place {
    /// The place so many bytes behind this one.
    pub(super) fn after(self, bytes: u64) -> Self {
        Self(self.0 + u128::from(bytes) * PARTS)
    }

    /// The place so many bytes before this one, or the beginning.
    pub(super) fn before(self, bytes: u64) -> Self {
        Self(self.0.saturating_sub(u128::from(bytes) * PARTS))
    }

    /// Bytes from there to here, a part of one as a whole one; none if it is behind this place.
    pub(super) fn bytes_from(self, other: Self) -> u64 {
        u64::try_from(self.0.saturating_sub(other.0).div_ceil(PARTS)).unwrap_or(u64::MAX)
    }
}

/// What a line could have carried by each moment, through all its changes. It remembers them: what has left before a change
/// has left when it did, and under the line as it then was.
#[derive(Debug)]
pub(crate) struct Capacity {
    first: Stretch,
    /// Since then, in the order of time.
    changes: Vec<Stretch>,
}

/// A time without a change.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    from: Instant,
    /// What could have been carried before.
    carried: Place,
    line: Line,
}

impl Capacity {
    /// Of a line that is laid now.
    pub(crate) fn new(line: Line, now: Instant) -> Self {
        Self { first: Stretch { from: now, carried: Place::default(), line }, changes: Vec::new() }
    }

    /// From now on it is this line. What waits goes on under it; what has left is not affected.
    pub(crate) fn change(&mut self, line: Line, now: Instant) {
        let carried = self.by(now);
        self.changes.push(Stretch { from: now, carried, line });
    }

    /// The line as it is since the last change.
    pub(crate) fn line(&self) -> Line {
        self.changes.last().unwrap_or(&self.first).line
    }

    /// Up to where it could have carried by that moment.
    pub(super) fn by(&self, moment: Instant) -> Place {
        self.stretch(|stretch| stretch.from <= moment).by(moment)
    }

    /// When everything up to that place has left, if nothing changes any more, and the line under which it leaves.
    pub(super) fn leaving(&self, place: Place) -> (Instant, Line) {
        let stretch = self.stretch(|stretch| stretch.carried < place);
        (stretch.leaving(place), stretch.line)
    }

    /// The last one of those; the first of all where there is none.
    fn stretch(&self, is: impl Fn(&Stretch) -> bool) -> &Stretch {
        self.changes.iter().rev().find(|stretch| is(stretch)).unwrap_or(&self.first)
    }
}

impl Stretch {
    fn by(&self, moment: Instant) -> Place {
        let elapsed = moment.saturating_duration_since(self.from).as_nanos();
        let moving = self.line.stalls.map_or(elapsed, |stalls| stalls.moving(elapsed));
        Place(self.carried.0 + u128::from(self.line.rate) * moving)
    }

    fn leaving(&self, place: Place) -> Instant {
        let moving = place.0.saturating_sub(self.carried.0).div_ceil(u128::from(self.line.rate));
        let elapsed = self.line.stalls.map_or(moving, |stalls| stalls.elapsed(moving));
        self.from + Duration::from_nanos(u64::try_from(elapsed).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::line::Stalls;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_line_carries_its_rate() {
        let start = Instant::now();
        let capacity = Capacity::new(Line::rate(1_000), start);
        assert_eq!(capacity.by(start + 3 * SECOND), Place::default().after(3_000));
        assert_eq!(capacity.leaving(Place::default().after(3_000)).0, start + 3 * SECOND);
    }

    #[test]
    fn what_waits_goes_on_at_the_new_rate_and_what_has_left_has_left() {
        let start = Instant::now();
        let mut capacity = Capacity::new(Line::rate(1_000), start);
        let (early, late) = (Place::default().after(500), Place::default().after(3_000));
        capacity.change(Line::rate(100), start + SECOND);
        assert_eq!(capacity.leaving(early), (start + SECOND / 2, Line::rate(1_000)));
        assert_eq!(capacity.leaving(late), (start + 21 * SECOND, Line::rate(100)));
        capacity.change(Line::rate(10_000), start + 11 * SECOND);
        assert_eq!(capacity.leaving(early), (start + SECOND / 2, Line::rate(1_000)));
        assert_eq!(capacity.leaving(late), (start + 11 * SECOND + SECOND / 10, Line::rate(10_000)));
    }

    proptest! {
        /// Whatever the line was and became: a place has been reached by the moment it is said to be, and not before.
        #[test]
        fn places_and_moments_agree(
            lines in prop::collection::vec((1_u64..1 << 34, 1_u64..5_000, prop::option::of(any::<u64>())), 1..8),
            place in 1_u128..1 << 80,
        ) {
            let start = Instant::now();
            let (mut capacity, mut now) = (Capacity::new(Line::free(), start), start);
            for (rate, lasting, stalls) in lines {
                let stalls = stalls.map(|seed| Stalls::new(SECOND / 2, SECOND, seed));
                let line = Line::rate(rate);
                capacity.change(stalls.map_or(line, |stalls| line.stalls(stalls)), now);
                now += Duration::from_millis(lasting);
            }
            let place = Place(place);
            let (moment, _) = capacity.leaving(place);
            if moment < start + Duration::from_secs(1 << 32) {
                prop_assert!(capacity.by(moment) >= place);
                prop_assert!(capacity.by(moment - Duration::from_nanos(1)) < place);
            }
        }
    }
}
