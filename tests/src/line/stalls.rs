//! When a line stands still.

use std::time::Duration;

use crate::files::Random;

/// Times at which a line stands still: one in each period, at a moment that looks random and is the same for the same seed.
/// They are counted from the moment the line is laid. Two directions that are laid at once with the same stalls stand still
/// together, as if the line were interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stalls {
    lasting: u64,
    every: u64,
    seed: u64,
}

impl Stalls {
    /// One stall that lasts so long in each period of that length.
    ///
    /// # Panics
    /// When a stall leaves no time to move anything, or either time is longer than 500 years.
    #[must_use]
    pub fn new(lasting: Duration, every: Duration, seed: u64) -> Self {
        assert!(lasting < every, "a line that stands still for {lasting:?} every {every:?} carries nothing");
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).expect("a stall is no longer than 500 years");
        Self { lasting: nanoseconds(lasting), every: nanoseconds(every), seed }
    }

    /// How much of such a time, counted from the moment the line is laid, the line moves; all in nanoseconds.
    pub(super) fn moving(&self, elapsed: u128) -> u128 {
        let (period, rest) = (elapsed / self.period(), elapsed % self.period());
        let (start, lasting) = (self.start(period), u128::from(self.lasting));
        period * self.free() + if rest <= start { rest } else { rest.saturating_sub(lasting).max(start) }
    }

    /// The first moment by which the line has moved for so long; all in nanoseconds.
    pub(super) fn elapsed(&self, moving: u128) -> u128 {
        // A period's last moment of moving belongs to it, and not to the next one.
        let Some(before) = moving.checked_sub(1) else {
            return 0;
        };
        let (period, rest) = (before / self.free(), before % self.free() + 1);
        let stalled = if rest <= self.start(period) { 0 } else { u128::from(self.lasting) };
        period * self.period() + rest + stalled
    }

    fn period(&self) -> u128 {
        u128::from(self.every)
    }

    /// What a period has but for its stall.
    fn free(&self) -> u128 {
        u128::from(self.every - self.lasting)
    }

    /// When the stall of that period begins, counted from the period's beginning.
    fn start(&self, period: u128) -> u128 {
        let period = u64::try_from(period).unwrap_or(u64::MAX);
        let unlike_other_seeds = Random::new(self.seed).number();
        u128::from(Random::new(unlike_other_seeds.wrapping_add(period)).below(self.every - self.lasting))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The two questions are each other's inverse, and no moment of moving is lost.
        #[test]
        fn a_stall_only_postpones(lasting in 1_u64..1_000, free in 1_u64..1_000, seed: u64, moving in 1_u128..100_000) {
            let stalls = Stalls { lasting, every: lasting + free, seed };
            let elapsed = stalls.elapsed(moving);
            prop_assert_eq!(stalls.moving(elapsed), moving);
            prop_assert_eq!(stalls.moving(elapsed - 1), moving - 1);
            prop_assert!(elapsed > stalls.elapsed(moving - 1));
        }

        /// Each period has one stall, in one piece.
        #[test]
        fn there_is_one_in_each_period(lasting in 1_u64..1_000, free in 1_u64..1_000, seed: u64, period in 0_u128..1_000) {
            let stalls = Stalls { lasting, every: lasting + free, seed };
            let starts = period * stalls.period();
            let moves = |at: u128| stalls.moving(at + 1) - stalls.moving(at);
            let still: Vec<_> = (starts..starts + stalls.period()).filter(|at| moves(*at) == 0).collect();
            prop_assert_eq!(still.len() as u64, lasting);
            prop_assert_eq!(still[still.len() - 1] - still[0], u128::from(lasting) - 1);
        }
    }

    #[test]
    fn seeds_differ_and_repeat() {
        let starts = |seed| {
            let stalls = Stalls::new(Duration::from_secs(5), Duration::from_secs(20), seed);
            (0..50).map(|period| stalls.start(period)).collect::<Vec<_>>()
        };
        assert_eq!(starts(1), starts(1));
        assert_ne!(starts(1)[1..], starts(2)[..49]);
        assert_ne!(starts(1), starts(2));
    }

    #[test]
    #[should_panic(expected = "carries nothing")]
    fn a_line_that_never_moves_is_refused() {
        let _ = Stalls::new(Duration::from_secs(5), Duration::from_secs(5), 1);
    }
}
