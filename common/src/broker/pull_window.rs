//! How much is asked of a consumer ahead of what was received: a decision without a network.

/// Beyond this a message is none of natsfer's: NATS itself takes no more.
const LARGEST_MESSAGE: u64 = 64 * 1024 * 1024;

/// Counts the messages that were asked for and have not come, and says when to ask for more.
///
/// Every request is bounded in bytes, and the next one is made only when an earlier one has ended: no more than `requests`
/// times `max_bytes` are ever under way, however slowly they are taken.
#[derive(Debug)]
pub(super) struct PullWindow {
    /// Messages that should be asked for in total.
    wanted: u64,
    /// Messages a request asks for at most.
    batch: u64,
    /// Bytes a request asks for at most; `None` where messages are counted, not measured.
    max_bytes: Option<u64>,
    outstanding: u64,
}

/// One pull request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PullRequest {
    pub(super) batch: u64,
    pub(super) max_bytes: Option<u64>,
}

/// A message does not fit in any request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLarge {
    pub(super) limit: u64,
}

impl PullWindow {
    pub(super) fn new(wanted: u64, batch: u64, max_bytes: Option<u64>) -> Self {
        Self { wanted, batch: batch.max(1), max_bytes, outstanding: 0 }
    }

    /// Changes how many messages should be asked for in total. What was asked for stays asked for.
    pub(super) fn want(&mut self, wanted: u64) {
        self.wanted = wanted;
    }

    /// The next request to make, if one is due.
    pub(super) fn ask(&mut self) -> Option<PullRequest> {
        let room = self.wanted.saturating_sub(self.outstanding);
        // A request is made whole where several are kept under way: half-empty ones would only be more of them.
        if room == 0 || (self.max_bytes.is_some() && room < self.batch.min(self.wanted)) {
            return None;
        }
        let batch = room.min(self.batch);
        self.outstanding += batch;
        Some(PullRequest { batch, max_bytes: self.max_bytes })
    }

    /// A message came.
    pub(super) fn received(&mut self) {
        self.outstanding = self.outstanding.saturating_sub(1);
    }

    /// A request ended with so many of its messages undelivered; `None` if the server does not say.
    pub(super) fn ended(&mut self, undelivered: Option<u64>) {
        self.outstanding = undelivered.map_or(0, |undelivered| self.outstanding.saturating_sub(undelivered));
    }

    /// A request ended because the next message would exceed its bytes. If nothing of it was delivered, that message is larger
    /// than a whole request: ask for more at once, instead of asking the same for ever.
    pub(super) fn ended_by_bytes(&mut self, undelivered: Option<u64>) -> Result<(), TooLarge> {
        self.ended(undelivered);
        // As many as every request asks for that is bounded in bytes.
        if undelivered.is_none_or(|undelivered| undelivered >= self.batch.min(self.wanted))
            && let Some(max_bytes) = &mut self.max_bytes
        {
            if *max_bytes >= LARGEST_MESSAGE {
                return Err(TooLarge { limit: LARGEST_MESSAGE });
            }
            *max_bytes = max_bytes.saturating_mul(2).min(LARGEST_MESSAGE);
        }
        Ok(())
    }

    /// Every request is lost: the connection or the consumer's leader changed.
    pub(super) fn lost(&mut self) {
        self.outstanding = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_of_chunks_keeps_two_requests_under_way() {
        let mut window = PullWindow::new(20, 10, Some(100));
        let request = PullRequest { batch: 10, max_bytes: Some(100) };
        assert_eq!([window.ask(), window.ask(), window.ask()], [Some(request), Some(request), None]);
        for _ in 0..3 {
            window.received();
        }
        assert_eq!(window.ask(), None, "neither request has ended");
        window.ended_by_bytes(Some(7)).unwrap();
        assert_eq!([window.ask(), window.ask()], [Some(request), None]);
    }

    /// The server fills both in turn, so that they are full at the same time.
    #[test]
    fn two_requests_that_end_together_are_not_too_small() {
        let mut window = PullWindow::new(20, 10, Some(100));
        let request = PullRequest { batch: 10, max_bytes: Some(100) };
        for _ in 0..1_000 {
            assert_eq!([window.ask(), window.ask(), window.ask()], [Some(request), Some(request), None]);
            (0..4).for_each(|_| window.received());
            window.ended_by_bytes(Some(8)).unwrap();
            window.ended_by_bytes(Some(8)).unwrap();
        }
    }

    #[test]
    fn an_inbox_asks_for_as_many_as_it_has_hands() {
        let mut window = PullWindow::new(0, 100, None);
        assert_eq!(window.ask(), None);
        window.want(3);
        assert_eq!(window.ask(), Some(PullRequest { batch: 3, max_bytes: None }));
        window.received();
        window.want(2);
        assert_eq!(window.ask(), None);
        window.want(3);
        assert_eq!(window.ask(), Some(PullRequest { batch: 1, max_bytes: None }));
    }

    #[test]
    fn a_message_larger_than_a_request_is_asked_for_with_more_bytes_then_refused() {
        let mut window = PullWindow::new(10, 10, Some(1024));
        let mut doublings = 0;
        while window.ask().is_some() {
            match window.ended_by_bytes(Some(10)) {
                Ok(()) => doublings += 1,
                Err(error) => {
                    assert_eq!(error, TooLarge { limit: LARGEST_MESSAGE });
                    assert!(doublings < 20);
                    return;
                }
            }
        }
        panic!("it gave up asking without an error");
    }
}
