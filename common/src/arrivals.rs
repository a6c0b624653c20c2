//! Which of a consumer's deliveries have come, in whatever order: a decision without a clock and without a network.

use std::collections::BTreeSet;

/// Deliveries that are remembered behind one that has not come. Beyond that it is taken for lost.
const MOST_BEYOND: usize = 4_096;

/// The deliveries of one consumer that came over one or more connections. Over one they come in order. Over several, one
/// connection may be behind another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Arrivals {
    /// All up to here in the consumer's sequence came, or come no more.
    upto: u64,
    /// Those that came beyond it.
    beyond: BTreeSet<u64>,
}

/// Where a delivery stands among those that came before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It is the latest of all.
    Latest,
    /// A later one came before it.
    Overtaken,
}

impl Arrivals {
    /// All up to this place in the consumer's sequence had come before.
    pub(crate) fn behind(upto: u64) -> Self {
        Self { upto, beyond: BTreeSet::new() }
    }

    /// A delivery came.
    pub(crate) fn came(&mut self, sequence: u64) -> Arrival {
        let latest = sequence > self.latest();
        if sequence > self.upto {
            self.beyond.insert(sequence);
        }
        while self.beyond.remove(&(self.upto + 1)) {
            self.upto += 1;
        }
        if self.beyond.len() > MOST_BEYOND {
            self.others_are_lost();
        }
        if latest { Arrival::Latest } else { Arrival::Overtaken }
    }

    /// What has not come before the latest comes no more: its connection has ended.
    pub(crate) fn others_are_lost(&mut self) {
        *self = Self::behind(self.latest());
    }

    /// Whether some were overtaken, and have not come yet.
    pub(crate) fn has_gaps(&self) -> bool {
        !self.beyond.is_empty()
    }

    /// How many of so many deliveries have not come.
    pub(crate) fn missing_of(&self, delivered: u64) -> u64 {
        delivered.saturating_sub(self.upto).saturating_sub(self.beyond.len() as u64)
    }

    fn latest(&self) -> u64 {
        self.beyond.last().copied().unwrap_or(self.upto)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3_000))]
        /// In any order, and also twice, each counts once, and a gap is there exactly while one is missing before another.
        #[test]
        fn every_delivery_counts_once(
            before in 0u64..1_000, order in Just((1..=40u64).collect::<Vec<_>>()).prop_shuffle(), repeated in 0usize..40,
        ) {
            let mut arrivals = Arrivals::behind(before);
            let (mut seen, mut latest) = (BTreeSet::new(), 0);
            for place in order.iter().chain(&order[..repeated]) {
                let expected = if *place > latest { Arrival::Latest } else { Arrival::Overtaken };
                latest = latest.max(*place);
                prop_assert_eq!(arrivals.came(before + place), expected);
                seen.insert(*place);
                prop_assert_eq!(arrivals.missing_of(before + 40), 40 - seen.len() as u64);
                prop_assert_eq!(arrivals.has_gaps(), latest > seen.len() as u64);
            }
            prop_assert_eq!(&arrivals, &Arrivals::behind(before + 40));
        }

        /// However many come behind one that never does, what is remembered of them is bounded.
        #[test]
        fn one_that_never_comes_is_given_up(many in 1u64..3 * MOST_BEYOND as u64) {
            let mut arrivals = Arrivals::behind(0);
            (2..2 + many).for_each(|sequence| { arrivals.came(sequence); });
            prop_assert!(arrivals.beyond.len() <= MOST_BEYOND);
            prop_assert_eq!(arrivals.has_gaps(), many <= MOST_BEYOND as u64);
        }
    }

    #[test]
    fn what_a_lost_connection_had_is_not_awaited() {
        let mut arrivals = Arrivals::behind(0);
        arrivals.came(1);
        arrivals.came(4);
        assert_eq!((arrivals.has_gaps(), arrivals.missing_of(5)), (true, 3));
        arrivals.others_are_lost();
        assert_eq!((arrivals.has_gaps(), arrivals.missing_of(5)), (false, 1));
        // It comes after all.
        assert_eq!(arrivals.came(3), Arrival::Overtaken);
        assert_eq!(arrivals.missing_of(5), 1);
    }
}
