//! How far to ask ahead of the hands that are free: a decision without a network.

/// Messages asked for beyond the free hands, at most: they are held in memory when they are not passed over.
const MOST: u64 = 64;

/// A receiver of few among many asks for more than it can hold, as long as all that comes is passed over: one by one, each would
/// take a round trip.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    /// Messages passed over since the last one that was not.
    run: u64,
    /// Messages that waited behind the last one.
    behind: u64,
}

impl Ahead {
    /// A message was passed over, and so many wait behind it.
    pub(crate) fn passed_over(&mut self, behind: u64) {
        (self.run, self.behind) = (self.run.saturating_add(1), behind);
    }

    /// One came that is not passed over.
    pub(crate) fn taken(&mut self) {
        self.run = 0;
    }

    /// How many to ask for beyond the free hands. What is not there yet is not asked for: it would be this process's, and nobody's
    /// work.
    pub(crate) fn beyond(&self, free: u64) -> u64 {
        self.run.min(MOST).min(self.behind.saturating_sub(free))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_asks_for_more_while_all_is_passed_over_and_for_no_more_than_there_is() {
        let mut ahead = Ahead::default();
        assert_eq!(ahead.beyond(4), 0);
        let (mut left, mut requests) = (10_000_u64, 0);
        while left > 0 {
            let asked = 4 + ahead.beyond(4);
            for _ in 0..asked.min(left) {
                left -= 1;
                ahead.passed_over(left);
            }
            assert!(asked <= 4 + MOST);
            requests += 1;
        }
        assert!(requests < 200, "{requests} requests for 10,000 messages");
        assert_eq!(ahead.beyond(4), 0, "nothing is there");
        ahead.passed_over(1_000);
        ahead.taken();
        assert_eq!(ahead.beyond(4), 0);
    }
}
