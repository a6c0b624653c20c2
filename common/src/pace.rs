//! When the next bytes may pass, so that no more than so many pass in a second.

use std::{num::NonZeroU64, time::Duration};

/// Bytes per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate(NonZeroU64);

/// Time that may be made up for: what waited for something else goes a little faster behind it.
const BURST: Duration = Duration::from_millis(100);

/// The schedule of one way: a leaky bucket, as GCRA (ITU-T I.371) has it. It knows no clock: times are since any one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    rate: Rate,
    /// When all that has passed would have taken until, at the rate.
    busy_until: Duration,
}

impl Rate {
    /// So many bytes per second; `None` for none.
    pub fn new(bytes_per_second: u64) -> Option<Self> {
        NonZeroU64::new(bytes_per_second).map(Self)
    }

    /// How many bytes that is in a second.
    pub fn bytes_per_second(self) -> u64 {
        self.0.get()
    }

    /// How long so many bytes take.
    fn takes(self, bytes: u64) -> Duration {
        let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(self.0.get());
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }
}

impl Pace {
    /// With nothing passed yet.
    pub fn new(rate: Rate) -> Self {
        Self { rate, busy_until: Duration::ZERO }
    }

    /// When something may pass that wants to at this time.
    pub fn free_at(&self, now: Duration) -> Duration {
        self.busy_until.max(now)
    }

    /// Notes that so many bytes pass, now or when their turn comes, and says when that is.
    pub fn pass(&mut self, now: Duration, bytes: u64) -> Duration {
        let at = self.free_at(now);
        self.busy_until = self.busy_until.max(now.saturating_sub(BURST)).saturating_add(self.rate.takes(bytes));
        at
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// In any stretch of time no more passes than the rate allows, a burst and one message above it; and a way that is never
        /// idle is used to the full.
        #[test]
        fn no_more_passes_than_may(
            rate in 1_u64..1 << 40,
            messages in prop::collection::vec((0_u64..2_000, 0_u64..4 << 20), 1..200),
        ) {
            let rate = Rate::new(rate).unwrap();
            let (mut pace, mut now, mut passed) = (Pace::new(rate), Duration::ZERO, Vec::new());
            for (pause, bytes) in messages {
                now += Duration::from_millis(pause);
                let at = pace.pass(now, bytes);
                prop_assert!(at >= now && passed.last().is_none_or(|(before, _)| at >= *before));
                passed.push((at, bytes));
            }
            for (from, (start, _)) in passed.iter().enumerate() {
                let mut sum = 0;
                for (at, bytes) in &passed[from..] {
                    let allowed = rate.takes(sum).saturating_sub(BURST);
                    prop_assert!(*at - *start + Duration::from_micros(1) >= allowed, "{sum} bytes in {:?}", *at - *start);
                    sum += bytes;
                }
            }
        }

        #[test]
        fn a_way_that_is_never_idle_is_used_to_the_full(rate in 1_u64 << 10..1 << 40, sizes in prop::collection::vec(1_u64..4 << 20, 1..100)) {
            let rate = Rate::new(rate).unwrap();
            let mut pace = Pace::new(rate);
            let last = sizes.iter().map(|bytes| pace.pass(Duration::ZERO, *bytes)).last().unwrap_or_default();
            let before_last: u64 = sizes.iter().rev().skip(1).sum();
            prop_assert!(last <= rate.takes(before_last));
        }
    }
}
