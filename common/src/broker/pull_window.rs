//! How much is asked of a consumer ahead of what was received: a decision without a network.

/// Beyond this a message is none of natsfer's: NATS itself takes no more.
const LARGEST_MESSAGE: u64 = 64 * 1024 * 1024;

/// Requests for bytes that are kept with the server, where each can hold a message.
const REQUESTS: u64 = 4;
/// Messages a request asks for at most.
const BATCH: u64 = 1_024;
/// Requests for one message each that are kept with the server, at most: it takes 512 of each consumer, unless told otherwise.
const MOST_SINGLE: u64 = 64;
/// After so many small messages one behind the other, the next ones are expected to be small, too.
const SMALL_ONES: u32 = 8;

/// Counts the messages that were asked for and have not come, and says when to ask for more.
///
/// Every request is bounded in bytes, and the next one is made only when an earlier one has ended: no more than all requests'
/// bytes are ever under way, however slowly they are taken.
#[derive(Debug)]
pub(super) struct PullWindow {
    measure: Measure,
    outstanding: u64,
    /// Requests made since the first one, or since all were lost.
    made: u64,
}

/// What bounds a request.
#[derive(Debug)]
enum Measure {
    /// Its messages, of which so many should be asked for in total.
    Messages { wanted: u64 },
    /// Its bytes.
    Bytes(Bytes),
}

#[derive(Debug)]
struct Bytes {
    /// Of all requests together.
    window: u64,
    /// What a message has at most.
    message: u64,
    manner: Manner,
    /// Small messages that came one behind the other.
    small_ones: u32,
}

/// How bytes are asked for. Never both at once: which request a message answers is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Several requests for many small messages, which end where the next message would exceed their bytes.
    ///
    /// The server serves its requests in turn. Equal ones would end together, and it would stand still until they are renewed: hence
    /// the first ones are smaller, each a step more than the one before, and they go on ending one by one.
    Batches,
    /// A request for each large message. It ends with its message, and not when the server looks for room for the next one: that would
    /// be when all of them are full.
    Single,
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
    /// Asks for messages one by one: none yet.
    pub(super) fn of_messages() -> Self {
        Self { measure: Measure::Messages { wanted: 0 }, outstanding: 0, made: 0 }
    }

    /// Asks for so many bytes, in messages of this size at most.
    pub(super) fn of_bytes(window: u64, message: u64) -> Self {
        Self { measure: Measure::Bytes(Bytes::new(window, message)), outstanding: 0, made: 0 }
    }

    /// Changes how many messages should be asked for in total, where they are what counts. What was asked for stays asked for.
    pub(super) fn want(&mut self, messages: u64) {
        if let Measure::Messages { wanted } = &mut self.measure {
            *wanted = messages;
        }
    }

    /// Whether messages were asked for that have not come.
    pub(super) fn awaits(&self) -> bool {
        self.outstanding > 0
    }

    /// The next request to make, if one is due. [`PullWindow::asked`] says that it was made.
    pub(super) fn due(&self) -> Option<PullRequest> {
        match &self.measure {
            Measure::Messages { wanted } => {
                let batch = wanted.saturating_sub(self.outstanding).min(BATCH);
                (batch > 0).then_some(PullRequest { batch, max_bytes: None })
            }
            Measure::Bytes(bytes) => bytes.due(self.outstanding, self.made),
        }
    }

    /// A request was made.
    pub(super) fn asked(&mut self, request: PullRequest) {
        if let Measure::Bytes(bytes) = &mut self.measure
            && bytes.manner != bytes.fitting()
        {
            bytes.manner = bytes.fitting();
            self.made = 0;
        }
        self.outstanding += request.batch;
        self.made += 1;
    }

    /// A message of so many bytes came.
    pub(super) fn received(&mut self, size: u64) {
        self.outstanding = self.outstanding.saturating_sub(1);
        if let Measure::Bytes(bytes) = &mut self.measure {
            bytes.note(size);
        }
    }

    /// A request ended with so many of its messages undelivered; `None` if the server does not say.
    pub(super) fn ended(&mut self, undelivered: Option<u64>) {
        self.outstanding = undelivered.map_or(0, |undelivered| self.outstanding.saturating_sub(undelivered));
    }

    /// A request ended because the next message would exceed its bytes. If nothing of it was delivered, that message is larger
    /// than a whole request: ask for more at once, instead of asking the same for ever.
    pub(super) fn ended_by_bytes(&mut self, undelivered: Option<u64>) -> Result<(), TooLarge> {
        self.ended(undelivered);
        match &mut self.measure {
            Measure::Bytes(bytes) if undelivered.is_none_or(|undelivered| undelivered >= bytes.manner.batch()) => {
                bytes.grow()
            }
            _ => Ok(()),
        }
    }

    /// Every request is lost: the connection or the consumer's leader changed.
    pub(super) fn lost(&mut self) {
        (self.outstanding, self.made) = (0, 0);
    }
}

impl Manner {
    /// Messages of one request.
    fn batch(self) -> u64 {
        match self {
            Self::Batches => BATCH,
            Self::Single => 1,
        }
    }
}

impl Bytes {
    fn new(window: u64, message: u64) -> Self {
        Self { window, message: message.max(1), manner: Manner::Batches, small_ones: SMALL_ONES }
    }

    fn note(&mut self, size: u64) {
        self.small_ones = if size.saturating_mul(4) < self.message { self.small_ones.saturating_add(1) } else { 0 };
    }

    /// How to ask from now on.
    fn fitting(&self) -> Manner {
        if self.small_ones >= SMALL_ONES { Manner::Batches } else { Manner::Single }
    }

    fn due(&self, outstanding: u64, made: u64) -> Option<PullRequest> {
        let manner = self.fitting();
        if outstanding > 0 && manner != self.manner {
            return None;
        }
        let fit = self.window / self.message;
        let (requests, max_bytes) = match manner {
            Manner::Batches => {
                let requests = fit.clamp(1, REQUESTS);
                let begun = if manner == self.manner { made } else { 0 };
                (requests, self.window / requests * (begun + 1).min(requests) / requests)
            }
            Manner::Single => (fit.clamp(1, MOST_SINGLE), self.message),
        };
        let batch = manner.batch();
        // Made whole: half-empty ones would only be more of them.
        let is_room = outstanding + batch <= requests * batch;
        is_room.then_some(PullRequest { batch, max_bytes: Some(max_bytes.max(self.message)) })
    }

    fn grow(&mut self) -> Result<(), TooLarge> {
        if self.message >= LARGEST_MESSAGE {
            return Err(TooLarge { limit: LARGEST_MESSAGE });
        }
        self.message = self.message.saturating_mul(2).min(LARGEST_MESSAGE);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    const MESSAGE: u64 = 100;

    /// A server that holds messages, and serves its requests in turn.
    #[derive(Default)]
    struct Server {
        live: VecDeque<Live>,
        requests: usize,
    }

    struct Live {
        delivered: u64,
        bytes: u64,
        request: PullRequest,
    }

    impl Server {
        fn ask(&mut self, window: &mut PullWindow) {
            while let Some(request) = window.due() {
                window.asked(request);
                self.live.push_back(Live { delivered: 0, bytes: 0, request });
                self.requests += 1;
            }
        }

        /// Delivers one message, if there is a request for it. Those that have no room for it end.
        fn deliver(&mut self, window: &mut PullWindow, size: u64) -> bool {
            while let Some(mut live) = self.live.pop_front() {
                let PullRequest { batch, max_bytes } = live.request;
                if live.bytes + size > max_bytes.unwrap() {
                    window.ended_by_bytes(Some(batch - live.delivered)).unwrap();
                    continue;
                }
                live.delivered += 1;
                live.bytes += size;
                if live.delivered < batch {
                    self.live.push_back(live);
                }
                window.received(size);
                return true;
            }
            false
        }

        fn bytes(&self) -> u64 {
            self.live.iter().map(|live| live.request.max_bytes.unwrap() - live.bytes).sum()
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        /// Whatever the sizes, and however they change: no more is under way than the window, and everything comes.
        #[test]
        fn no_more_is_under_way_than_the_window(
            messages in 1u64..100, runs in proptest::collection::vec((1u64..=MESSAGE, 1usize..40), 1..20), asking in 1usize..4,
        ) {
            let window_bytes = messages * MESSAGE;
            let (mut window, mut server) = (PullWindow::of_bytes(window_bytes, MESSAGE), Server::default());
            for (size, times) in runs {
                for time in 0..times {
                    // It does not hear of what ends at once.
                    if time % asking == 0 {
                        server.ask(&mut window);
                    }
                    prop_assert!(server.bytes() <= window_bytes, "{} are under way", server.bytes());
                    while !server.deliver(&mut window, size) {
                        prop_assert!(window.due().is_some(), "nothing is asked for, and nothing comes");
                        server.ask(&mut window);
                    }
                }
            }
        }
    }

    /// Bytes that the server had left to do at the least, once the first messages had come.
    fn least_left(window_bytes: u64, size: u64) -> u64 {
        let (mut window, mut server) = (PullWindow::of_bytes(window_bytes, MESSAGE), Server::default());
        let left = (0..10_000).map(|_| {
            server.ask(&mut window);
            while !server.deliver(&mut window, size) {
                server.ask(&mut window);
            }
            server.bytes()
        });
        left.skip(100).min().unwrap()
    }

    #[test]
    fn the_server_always_has_a_request() {
        for messages in 2..40 {
            assert!(least_left(messages * MESSAGE, MESSAGE) >= (messages - 1) * MESSAGE, "{messages}");
        }
        assert!(least_left(16 * MESSAGE, MESSAGE / 10) >= 5 * MESSAGE);
    }

    #[test]
    fn small_messages_are_asked_for_many_at_once_and_large_ones_one_by_one() {
        let (mut window, mut server) = (PullWindow::of_bytes(16 * MESSAGE, MESSAGE), Server::default());
        let mut requests_for = |size, messages| {
            let before = server.requests;
            for _ in 0..messages {
                server.ask(&mut window);
                while !server.deliver(&mut window, size) {
                    server.ask(&mut window);
                }
            }
            server.requests - before
        };
        assert!(requests_for(1, 1_000) < 20);
        assert!(requests_for(MESSAGE, 1_000) > 900);
        assert!(requests_for(1, 1_000) < 40);
    }

    #[test]
    fn a_window_of_hardly_a_message_asks_for_whole_ones() {
        let (mut window, mut server) = (PullWindow::of_bytes(MESSAGE / 2, MESSAGE), Server::default());
        for _ in 0..1_000 {
            server.ask(&mut window);
            assert!(
                server.deliver(&mut window, MESSAGE) || {
                    server.ask(&mut window);
                    server.deliver(&mut window, MESSAGE)
                }
            );
        }
    }

    #[test]
    fn an_inbox_asks_for_as_many_as_it_has_hands() {
        let mut window = PullWindow::of_messages();
        assert_eq!(window.due(), None);
        window.want(3);
        let request = window.due().unwrap();
        assert_eq!(request, PullRequest { batch: 3, max_bytes: None });
        window.asked(request);
        assert_eq!(window.due(), None);
        window.received(1);
        window.want(2);
        assert_eq!(window.due(), None);
        window.want(3);
        assert_eq!(window.due(), Some(PullRequest { batch: 1, max_bytes: None }));
    }

    #[test]
    fn a_message_larger_than_a_request_is_asked_for_with_more_bytes_then_refused() {
        let mut window = PullWindow::of_bytes(4_096, 1_024);
        let mut doublings = 0;
        while window.due().is_some() {
            match window.ended_by_bytes(Some(BATCH)) {
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
