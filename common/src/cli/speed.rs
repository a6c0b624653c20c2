//! How fast a transfer is now: of what this run has moved, not of what was there before.

use std::{collections::VecDeque, time::Duration};

/// What was longer ago says nothing of now.
const MEMORY: Duration = Duration::from_secs(10);
/// But so many changes are looked at however long ago they were: on a slow line a chunk takes seconds.
const LEAST: usize = 3;

/// Measures a transfer's speed. Times are since any one moment.
#[derive(Debug, Clone)]
pub(super) struct Speed {
    /// When the bytes that were moved changed, and to what. Never empty.
    changes: VecDeque<(Duration, u64)>,
}

impl Default for Speed {
    /// Nothing is moved.
    fn default() -> Self {
        Self { changes: [(Duration::ZERO, 0)].into() }
    }
}

impl Speed {
    /// So many bytes are moved by now.
    pub(super) fn note(&mut self, now: Duration, moved: u64) {
        if self.changes.back().is_none_or(|(_, before)| *before != moved) {
            self.changes.push_back((now, moved));
        }
        while self.changes.len() > LEAST && self.changes.get(1).is_some_and(|(at, _)| *at + MEMORY < now) {
            self.changes.pop_front();
        }
    }

    /// Bytes per second of late. What has not come yet counts as soon as it is late.
    pub(super) fn bytes_per_second(&self, now: Duration) -> f64 {
        let (Some((began, first)), Some((_, last))) = (self.changes.front(), self.changes.back()) else { return 0.0 };
        last.saturating_sub(*first) as f64 / now.saturating_sub(*began).as_secs_f64().max(0.001)
    }

    /// How long so many bytes more take, if that can be said.
    pub(super) fn time_for(&self, now: Duration, bytes: u64) -> Option<Duration> {
        Duration::try_from_secs_f64(bytes as f64 / self.bytes_per_second(now)).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    proptest! {
        /// In whatever pieces.
        #[test]
        fn a_steady_speed_is_told(rate in 1_000u64..1_000_000, piece in 1u64..8) {
            let mut speed = Speed::default();
            for second in 1..=200 {
                let now = SECOND * second;
                let moved = u64::from(second) / piece * piece * rate;
                speed.note(now, moved);
                if second > 40 {
                    let told = speed.bytes_per_second(now) / rate as f64;
                    prop_assert!((0.5..=1.5).contains(&told), "{told} after {second} s");
                }
            }
        }
    }

    #[test]
    fn it_follows_what_the_line_does_now() {
        let mut speed = Speed::default();
        (1..=60).for_each(|second| speed.note(SECOND * second, u64::from(second) * 1_000));
        (1..=15).for_each(|second| speed.note(SECOND * (60 + second), 60_000 + u64::from(second) * 10));
        assert!(speed.bytes_per_second(SECOND * 75) < 20.0);
        assert_eq!(Speed::default().time_for(SECOND * 2, 1), None);
    }
}
