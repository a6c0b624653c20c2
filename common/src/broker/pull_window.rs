//! How much is asked of a consumer ahead of what was received: a decision without a network.

/// Beyond this a message is none of natsfer's: NATS itself takes no more.
const LARGEST_MESSAGE: u64 = 64 * 1024 * 1024;

/// Requests that are kept with the server, where each can hold a message.
const REQUESTS: u64 = 4;
/// Messages a request asks for at most.
const BATCH: u64 = 1_024;

/// Counts the messages that were asked for and have not come, and says when to ask for more.
///
/// Every request is bounded in bytes, and the next one is made only when an earlier one has ended: no more than all requests'
/// bytes are ever under way, however slowly they are taken.
///
/// The server serves its requests in turn. Equal ones would end together, and it would stand still until they are renewed: hence
/// the first ones are smaller, each a step more than the one before, and they go on ending one by one.
#[derive(Debug)]
pub(super) struct PullWindow {
    /// Messages that should be asked for in total.
    wanted: u64,
    measure: Measure,
    outstanding: u64,
    /// Requests made since the first one, or since all were lost.
    made: u64,
}

/// What bounds a request.
#[derive(Debug)]
enum Measure {
    /// Its messages.
    Messages,
    /// Its bytes: at most so many, and never less than one message has. So many requests are kept.
    Bytes { most: u64, message: u64, requests: u64 },
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
        Self { wanted: 0, measure: Measure::Messages, outstanding: 0, made: 0 }
    }

    /// Asks for so many bytes, in messages of this size at most.
    pub(super) fn of_bytes(bytes: u64, message: u64) -> Self {
        let requests = (bytes / message.max(1)).clamp(1, REQUESTS);
        let measure = Measure::Bytes { most: (bytes / requests).max(message), message, requests };
        Self { wanted: requests * BATCH, measure, outstanding: 0, made: 0 }
    }

    /// Changes how many messages should be asked for in total. What was asked for stays asked for.
    pub(super) fn want(&mut self, wanted: u64) {
        self.wanted = wanted;
    }

    /// Whether messages were asked for that have not come.
    pub(super) fn awaits(&self) -> bool {
        self.outstanding > 0
    }

    /// The next request to make, if one is due. [`PullWindow::asked`] says that it was made.
    pub(super) fn due(&self) -> Option<PullRequest> {
        let room = self.wanted.saturating_sub(self.outstanding);
        let request = match self.measure {
            Measure::Messages => PullRequest { batch: room.min(BATCH), max_bytes: None },
            // Made whole: half-empty ones would only be more of them.
            Measure::Bytes { .. } if room < BATCH => return None,
            Measure::Bytes { most, message, requests } => {
                let step = (self.made + 1).min(requests);
                PullRequest { batch: BATCH, max_bytes: Some((most * step / requests).max(message)) }
            }
        };
        (request.batch > 0).then_some(request)
    }

    /// A request was made.
    pub(super) fn asked(&mut self, request: PullRequest) {
        self.outstanding += request.batch;
        self.made += 1;
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
        if undelivered.is_none_or(|undelivered| undelivered >= BATCH)
            && let Measure::Bytes { most, message, .. } = &mut self.measure
        {
            if *message >= LARGEST_MESSAGE {
                return Err(TooLarge { limit: LARGEST_MESSAGE });
            }
            *message = message.saturating_mul(2).min(LARGEST_MESSAGE);
            *most = (*most).max(*message);
        }
        Ok(())
    }

    /// Every request is lost: the connection or the consumer's leader changed.
    pub(super) fn lost(&mut self) {
        (self.outstanding, self.made) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: u64 = 100;

    /// A server that holds messages of one size, and serves its requests in turn.
    struct Server(Vec<(u64, PullRequest)>);

    impl Server {
        fn ask(&mut self, window: &mut PullWindow) {
            while let Some(request) = window.due() {
                window.asked(request);
                self.0.push((0, request));
            }
        }

        /// Delivers one message; says whether a request has ended.
        fn deliver(&mut self, window: &mut PullWindow) -> bool {
            let (delivered, request) = self.0.remove(0);
            if delivered + MESSAGE > request.max_bytes.unwrap() {
                window.ended_by_bytes(Some(request.batch - delivered / MESSAGE)).unwrap();
                return true;
            }
            window.received();
            self.0.push((delivered + MESSAGE, request));
            false
        }

        fn bytes(&self) -> u64 {
            self.0.iter().map(|(delivered, request)| request.max_bytes.unwrap() - delivered).sum()
        }
    }

    #[test]
    fn a_stream_of_chunks_never_leaves_the_server_without_a_request() {
        let (mut window, mut server) = (PullWindow::of_bytes(16 * MESSAGE, MESSAGE), Server(Vec::new()));
        server.ask(&mut window);
        for _ in 0..10_000 {
            assert!(server.bytes() <= 16 * MESSAGE, "more is under way than the window");
            if server.deliver(&mut window) {
                assert!(server.bytes() >= 5 * MESSAGE, "the server has little left to do: {}", server.bytes());
                server.ask(&mut window);
            }
        }
    }

    #[test]
    fn no_more_is_under_way_than_the_window_however_few_messages_that_is() {
        for messages in 1..20 {
            let (mut window, mut server) = (PullWindow::of_bytes(messages * MESSAGE, MESSAGE), Server(Vec::new()));
            server.ask(&mut window);
            for _ in 0..1_000 {
                assert!(server.bytes() <= messages * MESSAGE, "{} are under way", server.bytes());
                while server.deliver(&mut window) {
                    server.ask(&mut window);
                }
                server.ask(&mut window);
            }
        }
    }

    #[test]
    fn a_window_of_hardly_a_message_asks_for_whole_ones() {
        let (mut window, mut server) = (PullWindow::of_bytes(MESSAGE, MESSAGE), Server(Vec::new()));
        server.ask(&mut window);
        let delivered = (0..1_000).filter(|_| {
            let ended = server.deliver(&mut window);
            server.ask(&mut window);
            !ended
        });
        assert!(delivered.count() >= 400);
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
        window.received();
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
