//! How much is asked of one consumer ahead of what was received: a decision without a clock and without a network.
//!
//! Every request is bounded in messages and in bytes, and has room for all of its messages, as large as they usually are: it ends with
//! its last message, and not when the server finds no room in it for the next one. A message that is larger than a whole request ends
//! it with nothing delivered; the next one is asked for with twice the bytes, and refused beyond [`LARGEST_MESSAGE`].
//!
//! What is asked for is taken to be *on its way* only as far as the server has said, with the last message, how many are stored behind
//! it. The rest *waits* for what may be stored later. It takes up none of the line, and says nothing of it when it comes.

use std::{collections::VecDeque, time::Duration};

use crate::{
    Flight,
    read_ahead::{MessageSize, ReadAhead, Share, Stored},
};

/// Beyond this a message is none of natsfer's: NATS itself takes no more.
const LARGEST_MESSAGE: u64 = 64 * 1024 * 1024;
/// Messages a request asks for at most.
const BATCH: u64 = 1_024;
/// Requests that what may be asked for is divided into, about. The server takes 512 of each consumer, unless told otherwise.
const REQUESTS: u64 = 16;
/// The bytes of a request, for each message as large as they were on average, before it may end early.
const SPREAD: u64 = 2;

/// Counts the messages that were asked for and have not come, and says when to ask for more.
#[derive(Debug)]
pub(super) struct PullWindow {
    amount: Amount,
    size: MessageSize,
    /// The largest message that was expected in the beginning, in bytes.
    usual: u64,
    /// In the order of asking.
    asked: VecDeque<Asked>,
    share: Share,
    /// Those of them that are on their way.
    on_their_way: u64,
    /// Messages that are stored behind the last one that came, as far as is known.
    stored: Option<u64>,
    /// Messages that a request may ask for.
    batch: u64,
}

/// How much is wanted.
#[derive(Debug)]
enum Amount {
    /// As much as the line takes.
    All,
    /// So many messages in total.
    Some(u64),
}

/// A message that was asked for.
#[derive(Debug)]
struct Asked {
    /// Bytes that it has at most.
    largest: u64,
    fate: Fate,
}

#[derive(Debug)]
enum Fate {
    /// It is stored, and so is on its way.
    OnItsWay(Flight),
    /// It may not be stored yet.
    Waiting,
}

/// One pull request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PullRequest {
    pub(super) batch: u64,
    pub(super) max_bytes: u64,
}

/// A message does not fit in any request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLarge {
    pub(super) limit: u64,
}

impl PullWindow {
    /// Asks for as many messages as the line takes, of this size at most.
    pub(super) fn flow(largest: u64) -> Self {
        Self::new(Amount::All, largest)
    }

    /// So many messages are known to be stored, usually of this size.
    pub(super) fn with_stored(self, stored: u64, expected: u64) -> Self {
        let size = MessageSize { expected: expected.clamp(1, self.size.largest), ..self.size };
        Self { stored: Some(stored), size, ..self }
    }

    /// So many messages are known to be stored.
    pub(super) fn knows_stored(&mut self, stored: u64) {
        self.stored = Some(stored);
    }

    /// Asks for single messages, usually of this size at most: none yet.
    pub(super) fn single(largest: u64) -> Self {
        Self::new(Amount::Some(0), largest)
    }

    fn new(amount: Amount, largest: u64) -> Self {
        let size = MessageSize { expected: largest.max(1), largest: largest.max(1) };
        let (asked, share) = (VecDeque::new(), Share::default());
        Self { amount, size, usual: size.largest, asked, share, on_their_way: 0, stored: None, batch: BATCH }
    }

    /// Changes how many messages should be asked for in total, where they are what counts. What was asked for stays asked for.
    pub(super) fn want(&mut self, messages: u64) {
        if let Amount::Some(wanted) = &mut self.amount {
            *wanted = messages;
        }
    }

    /// The server lets a request ask for so many messages at most.
    pub(super) fn limit_batch(&mut self, most: u64) {
        self.batch = most.clamp(1, BATCH);
    }

    /// Whether messages were asked for that have not come.
    pub(super) fn awaits(&self) -> bool {
        !self.asked.is_empty()
    }

    /// Whether messages are on their way, or may be: it is not known yet whether any are stored.
    pub(super) fn flows(&self) -> bool {
        self.stored.is_none() || self.on_their_way > 0
    }

    /// Whether all that is known to be stored was asked for, but for the last message at most.
    pub(super) fn has_asked_for_nearly_all(&self) -> bool {
        self.stored.is_some() && self.unasked() <= 1
    }

    /// The largest message that is expected, in bytes.
    pub(super) fn largest(&self) -> u64 {
        self.size.largest
    }

    fn outstanding(&self) -> u64 {
        self.asked.len() as u64
    }

    /// Messages that are stored and were not asked for.
    fn unasked(&self) -> u64 {
        self.stored.unwrap_or(0).saturating_sub(self.on_their_way)
    }

    /// The next request to make, if one is due. [`PullWindow::asked`] says that it was made.
    pub(super) fn due(&self, now: Duration, ahead: &ReadAhead) -> Option<PullRequest> {
        let outstanding = self.outstanding();
        let room = match self.unasked() {
            0 => ahead.room(now, self.share, self.size, Stored::NotYet { waiting: outstanding - self.on_their_way }),
            unasked => ahead.room(now, self.share, self.size, Stored::Yes).min(unasked),
        };
        // One may always be asked for.
        let room = if outstanding == 0 { room.max(1) } else { room };
        let room = match self.amount {
            Amount::All => room,
            Amount::Some(wanted) => room.min(wanted.saturating_sub(outstanding)),
        };
        let batch = room.min(self.batch);
        // Fewer would only be more requests.
        if batch == 0 || batch < ((outstanding + room) / REQUESTS).min(self.batch) {
            return None;
        }
        let MessageSize { expected, largest } = self.size;
        Some(PullRequest { batch, max_bytes: (batch * largest).min(batch * SPREAD * expected).max(largest) })
    }

    /// How soon the next request is due, if that is a matter of time and not of what comes.
    pub(super) fn due_after(&self, now: Duration, ahead: &ReadAhead) -> Option<Duration> {
        let at = ahead.second_at(self.size.expected).filter(|_| self.unasked() > 0)?;
        let later = at.checked_sub(now).filter(|later| !later.is_zero());
        later.or_else(|| self.due(now, ahead).map(|_| Duration::ZERO))
    }

    /// A request was made.
    pub(super) fn asked(&mut self, now: Duration, request: PullRequest, ahead: &mut ReadAhead) {
        let MessageSize { expected, largest } = self.size;
        for _ in 0..request.batch {
            let fate = match self.unasked() {
                0 => Fate::Waiting,
                _ => {
                    self.on_their_way += 1;
                    self.share.on_its_way += expected;
                    Fate::OnItsWay(ahead.asked(now, expected))
                }
            };
            ahead.reserve(largest);
            self.share.reserved += largest;
            self.asked.push_back(Asked { largest, fate });
        }
        if self.unasked() == 0 {
            ahead.has_all();
        }
    }

    /// A message of so many bytes came; `stored` are behind it.
    pub(super) fn received(&mut self, now: Duration, bytes: u64, stored: u64, ahead: &mut ReadAhead) {
        match self.take(ahead) {
            Some(Fate::OnItsWay(flight)) => ahead.came(now, flight, bytes),
            Some(Fate::Waiting) | None => ahead.came_later(now, bytes),
        }
        self.size.expected = ((self.size.expected * 7 + bytes) / 8).max(1);
        self.size.largest = match self.amount {
            Amount::All => self.size.largest,
            // One that was larger than usual says nothing of the next.
            Amount::Some(_) => self.usual,
        };
        self.stored = Some(stored);
        self.wait_beyond(stored, ahead);
    }

    /// The server says that it has nothing for what was asked.
    pub(super) fn idle(&mut self, ahead: &mut ReadAhead) {
        self.stored = Some(0);
        self.wait_beyond(0, ahead);
    }

    /// A request ended with so many of its messages undelivered; `None` if the server does not say.
    pub(super) fn ended(&mut self, undelivered: Option<u64>, ahead: &mut ReadAhead) {
        for _ in 0..undelivered.unwrap_or(u64::MAX).min(self.outstanding()) {
            if let Some(Fate::OnItsWay(flight)) = self.take(ahead) {
                ahead.forgotten(flight);
            }
        }
    }

    /// A request ended because the next message would exceed the bytes that were left of it. If those were enough for any message that
    /// is expected, it is larger: ask for more at once, instead of asking the same for ever.
    pub(super) fn ended_by_bytes(
        &mut self, undelivered: Option<u64>, left: Option<u64>, ahead: &mut ReadAhead,
    ) -> Result<(), TooLarge> {
        self.ended(undelivered, ahead);
        if left.is_some_and(|left| left < self.size.largest) {
            return Ok(());
        }
        if self.size.largest >= LARGEST_MESSAGE {
            return Err(TooLarge { limit: LARGEST_MESSAGE });
        }
        self.size.largest = self.size.largest.saturating_mul(2).min(LARGEST_MESSAGE);
        // The next request is for this one, and for few others.
        self.size.expected = self.size.expected.max(self.size.largest / SPREAD);
        Ok(())
    }

    /// Every request is lost: the connection or the consumer's leader changed.
    pub(super) fn lost(&mut self, ahead: &mut ReadAhead) {
        self.ended(None, ahead);
        self.stored = None;
    }

    /// What was asked for first is awaited no more.
    fn take(&mut self, ahead: &mut ReadAhead) -> Option<Fate> {
        let Asked { largest, fate } = self.asked.pop_front()?;
        ahead.release(largest);
        self.share.reserved = self.share.reserved.saturating_sub(largest);
        if let Fate::OnItsWay(flight) = &fate {
            self.on_their_way -= 1;
            self.share.on_its_way = self.share.on_its_way.saturating_sub(flight.bytes());
        }
        Some(fate)
    }

    /// Of what was asked for, all but so many messages waits for what is not stored yet: what was asked for last.
    fn wait_beyond(&mut self, stored: u64, ahead: &mut ReadAhead) {
        let Self { asked, on_their_way, share, .. } = self;
        for Asked { fate, .. } in asked.iter_mut().rev() {
            if *on_their_way <= stored {
                return;
            }
            if let Fate::OnItsWay(flight) = std::mem::replace(fate, Fate::Waiting) {
                *on_their_way -= 1;
                share.on_its_way = share.on_its_way.saturating_sub(flight.bytes());
                ahead.forgotten(flight);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn requests_are_kept_to_what_the_server_lets_them_ask_for() {
        let mut ahead = ReadAhead::new(16 << 20);
        let mut window = PullWindow::flow(1_000).with_stored(1_000, 1_000);
        assert!(window.due(Duration::ZERO, &ahead).unwrap().batch > 3);
        window.limit_batch(3);
        let mut asked = 0;
        while let Some(due) = window.due(Duration::ZERO, &ahead) {
            assert!(due.batch <= 3, "{due:?}");
            window.asked(Duration::ZERO, due, &mut ahead);
            asked += due.batch;
        }
        assert!(asked > 3, "{asked}");
    }

    /// A consumer of a server at the end of a line, and who reads it.
    struct Reader {
        window: PullWindow,
        /// Sizes of the messages that are stored and not delivered.
        stored: VecDeque<u64>,
        /// Requests at the server: messages and bytes that are left of them.
        live: VecDeque<(u64, u64)>,
        came: usize,
    }

    enum Down {
        Message { bytes: u64, behind: u64 },
        EndedByBytes { undelivered: u64, left: u64 },
    }

    /// A line of so many bytes per second, and so long a way. Time is in milliseconds.
    struct World {
        rate: u64,
        delay: u64,
        now: u64,
        ahead: ReadAhead,
        readers: Vec<Reader>,
        up: VecDeque<(u64, usize, PullRequest)>,
        down: VecDeque<(u64, usize, Down)>,
        /// When the line has carried all, and the most that was before it, in bytes.
        free_at: f64,
        longest: f64,
        requests: usize,
    }

    impl World {
        fn new(rate: u64, delay: u64, most: u64, readers: Vec<(u64, Vec<u64>)>) -> Self {
            let readers = readers.into_iter().map(|(largest, stored)| Reader {
                window: PullWindow::flow(largest),
                stored: stored.into(),
                live: VecDeque::new(),
                came: 0,
            });
            let (ahead, readers) = (ReadAhead::new(most), readers.collect());
            let (up, down) = (VecDeque::new(), VecDeque::new());
            Self { rate, delay, now: 0, ahead, readers, up, down, free_at: 0.0, longest: 0.0, requests: 0 }
        }

        fn time(&self) -> Duration {
            Duration::from_millis(self.now)
        }

        fn ask(&mut self) {
            for (who, reader) in self.readers.iter_mut().enumerate() {
                while let Some(request) = reader.window.due(Duration::from_millis(self.now), &self.ahead) {
                    reader.window.asked(Duration::from_millis(self.now), request, &mut self.ahead);
                    self.up.push_back((self.now + self.delay, who, request));
                    self.requests += 1;
                }
            }
        }

        fn carry(&mut self, who: usize, bytes: u64, what: Down) {
            self.free_at = self.free_at.max(self.now as f64) + bytes as f64 * 1_000.0 / self.rate as f64;
            self.longest = self.longest.max((self.free_at - self.now as f64) * self.rate as f64 / 1_000.0);
            self.down.push_back((self.free_at as u64 + self.delay, who, what));
        }

        /// As nats-server does it: requests in turn; one that has no room for the next message ends.
        fn serve(&mut self) {
            for who in 0..self.readers.len() {
                let Reader { stored, live, .. } = &mut self.readers[who];
                let Some(&bytes) = stored.front() else { continue };
                let Some((messages, left)) = live.pop_front() else { continue };
                if bytes > left {
                    self.carry(who, 100, Down::EndedByBytes { undelivered: messages, left });
                    continue;
                }
                stored.pop_front();
                if messages > 1 {
                    live.push_back((messages - 1, left - bytes));
                }
                let behind = stored.len() as u64;
                self.carry(who, bytes, Down::Message { bytes, behind });
            }
        }

        /// A millisecond.
        fn step(&mut self) {
            self.ask();
            while self.up.front().is_some_and(|(at, ..)| *at <= self.now) {
                let Some((_, who, PullRequest { batch, max_bytes })) = self.up.pop_front() else { break };
                self.readers[who].live.push_back((batch, max_bytes));
            }
            while self.readers.iter().any(|reader| !reader.stored.is_empty() && !reader.live.is_empty()) {
                self.serve();
            }
            while self.down.front().is_some_and(|(at, ..)| *at <= self.now) {
                let Some((_, who, what)) = self.down.pop_front() else { break };
                let (now, reader) = (self.time(), &mut self.readers[who]);
                match what {
                    Down::Message { bytes, behind } => {
                        reader.came += 1;
                        reader.window.received(now, bytes, behind, &mut self.ahead);
                    }
                    Down::EndedByBytes { undelivered, left } => {
                        reader.window.ended_by_bytes(Some(undelivered), Some(left), &mut self.ahead).unwrap();
                    }
                }
                self.ask();
            }
            self.now += 1;
        }

        /// Runs until all has come, and says after how many milliseconds, if within `most`.
        fn run(&mut self, most: u64) -> Option<u64> {
            while self.now < most {
                self.step();
                if self.readers.iter().all(|reader| reader.stored.is_empty()) && self.down.is_empty() {
                    return Some(self.now);
                }
            }
            None
        }
    }

    fn lines() -> impl Strategy<Value = (u64, u64)> {
        // From 50 kbit/s to 1 Gbit/s, up to 300 ms each way.
        ((12u32..27), 1u64..300).prop_map(|(rate, delay)| (1 << rate, delay))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        /// Over any line, whatever the sizes: all comes, the memory stays bounded, and what is before the line is two seconds' worth,
        /// or a message of each.
        #[test]
        fn what_is_asked_for_is_bounded_in_time_and_bytes(
            (rate, delay) in lines(), most in 100_000u64..16_000_000,
            readers in proptest::collection::vec((1u64..300, proptest::collection::vec(1u64..300, 1..60)), 1..5),
        ) {
            let unit = (rate / 200).clamp(16, 4_096);
            let readers: Vec<(u64, Vec<u64>)> = readers.into_iter().map(|(largest, sizes)| {
                (largest * unit, sizes.into_iter().map(|size| size * unit).collect())
            }).collect();
            let all: u64 = readers.iter().flat_map(|(_, sizes)| sizes).sum();
            let largest = readers.iter().flat_map(|(_, sizes)| sizes).max().copied().unwrap_or(1);
            let each = largest.max(readers.iter().map(|(largest, _)| *largest).max().unwrap_or(1));
            let count = readers.len() as u64;
            let mut world = World::new(rate, delay, most, readers);
            let messages: u64 = world.readers.iter().map(|reader| reader.stored.len() as u64).sum();
            let ideal = all * 1_000 / rate + messages * (2 * delay + 2) * 10 + 1_000;
            prop_assert!(world.run(ideal * 4).is_some(), "it does not end");
            let window = (rate * 2).max(2 * each);
            let queue = world.longest as u64;
            prop_assert!(queue <= 2 * window + 4 * count * each, "{queue} before a line of {rate}");
        }

        /// Whatever becomes of requests, what is counted of them is in agreement with them.
        #[test]
        fn nothing_is_left_of_what_has_ended(steps in proptest::collection::vec((0u8..7, 0u64..20), 1..200)) {
            let (mut ahead, mut windows) = (ReadAhead::new(1 << 20), [PullWindow::flow(10_000), PullWindow::single(5_000)]);
            for (at, (what, number)) in steps.into_iter().enumerate() {
                let now = Duration::from_millis(at as u64);
                let window = &mut windows[at % 2];
                window.want(number);
                match what {
                    0..=2 => while let Some(request) = window.due(now, &ahead) {
                        window.asked(now, request, &mut ahead);
                    },
                    3 => window.received(now, number * 500, number, &mut ahead),
                    4 => window.ended(Some(number), &mut ahead),
                    5 => window.idle(&mut ahead),
                    _ => window.lost(&mut ahead),
                }
                prop_assert!(windows.iter().map(|window| window.share.reserved).sum::<u64>() <= (1 << 20) + 2 * 10_000);
            }
            windows.iter_mut().for_each(|window| window.lost(&mut ahead));
            prop_assert!(windows.iter().all(|window| window.share == Share::default() && window.on_their_way == 0));
            prop_assert_eq!(ahead.room(Duration::ZERO, Share::default(), MessageSize { expected: 1, largest: 1 << 20 }, Stored::Yes), 1);
        }
    }

    fn goodput(rate: u64, delay: u64, message: u64, messages: usize) -> f64 {
        let mut world = World::new(rate, delay, 16 << 20, vec![(message, vec![message; messages])]);
        let ideal = (message * messages as u64) as f64 * 1_000.0 / rate as f64 + 2.0 * delay as f64;
        ideal / world.run(10_000_000).unwrap() as f64
    }

    #[test]
    fn the_line_is_filled() {
        for (rate, delay, message, messages) in [
            (6_250, 300, 16 << 10, 40),
            (64_000, 150, 16 << 10, 200),
            (64_000, 300, 512 << 10, 10),
            (1_000_000, 150, 256 << 10, 160),
            (12_500_000, 75, 512 << 10, 400),
            (125_000_000, 50, 512 << 10, 4_000),
        ] {
            let goodput = goodput(rate, delay, message, messages);
            assert!(goodput >= 0.9, "{goodput} of {rate} bytes per second, {delay} ms");
        }
    }

    /// Messages that the line takes many seconds for: the next one stands behind the one that is being written, and the server never has two
    /// that it has not begun to write.
    #[test]
    fn large_messages_follow_each_other_over_a_slow_line() {
        for (rate, delay, message) in [(64_000, 150, 508 << 10), (64_000, 300, 508 << 10), (100_000, 300, 900_000)] {
            let mut world = World::new(rate, delay, 16 << 20, vec![(message, vec![message; 12])]);
            let took = world.run(1_000_000).unwrap();
            let ideal = 12 * message * 1_000 / rate + 2 * delay;
            assert!(took * 97 <= ideal * 100, "{took} ms instead of {ideal} for messages of {message} bytes");
            let begun = rate * 2 * delay / 1_000;
            assert!(world.longest <= (2 * message - begun * 9 / 10) as f64, "{} at once", world.longest);
        }
        // One that the server would be cut off over in any case is alone.
        let mut world = World::new(16_000, 150, 16 << 20, vec![(508 << 10, vec![508 << 10; 4])]);
        world.run(10_000_000).unwrap();
        assert!(world.longest <= 1.01 * f64::from(508 << 10), "{} at once", world.longest);
    }

    #[test]
    fn who_waits_for_its_sender_takes_no_room() {
        let mut world =
            World::new(1_000_000, 50, 16 << 20, vec![(100_000, vec![100_000; 100]), (100_000, vec![100_000])]);
        world.run(60_000).unwrap();
        // Both have all that is stored: what they wait for leaves the window to others.
        let room =
            world.ahead.room(Duration::ZERO, Share::default(), MessageSize { expected: 1, largest: 1 }, Stored::Yes);
        assert!(room >= world.ahead.window() / 10 * 8, "{room}");
        assert!(!world.readers[0].window.flows() && world.readers[0].window.awaits());
        // What comes late is no measure of the line.
        let rate = world.ahead.rate();
        world.now += 30_000;
        world.readers[1].stored.push_back(100_000);
        world.run(120_000).unwrap();
        assert_eq!(world.ahead.rate(), rate);
    }

    #[test]
    fn small_messages_are_asked_for_many_at_once_and_large_ones_one_by_one() {
        let requests_for = |largest: u64, size: u64, messages: usize| {
            let mut world = World::new(1 << 30, 1, 16 << 20, vec![(largest, vec![size; messages])]);
            world.run(1_000_000).unwrap();
            world.requests
        };
        assert!(requests_for(1 << 20, 1 << 20, 100) >= 50);
        assert!(requests_for(64 << 10, 1_000, 1_000) < 200);
    }

    #[test]
    fn an_inbox_asks_for_no_more_than_it_has_hands() {
        let (mut window, mut ahead) = (PullWindow::single(10_000), ReadAhead::new(1 << 20));
        assert_eq!(window.due(Duration::ZERO, &ahead), None);
        window.want(3);
        let request = window.due(Duration::ZERO, &ahead).unwrap();
        assert_eq!(request, PullRequest { batch: 1, max_bytes: 10_000 });
        window.asked(Duration::ZERO, request, &mut ahead);
        window.received(Duration::from_millis(1), 1_000, 100, &mut ahead);
        while let Some(request) = window.due(Duration::ZERO, &ahead) {
            window.asked(Duration::from_millis(1), request, &mut ahead);
        }
        assert!(window.outstanding() <= 3);
        window.want(0);
        assert_eq!(window.due(Duration::ZERO, &ahead), None);
        assert!(window.awaits());
    }

    #[test]
    fn a_message_larger_than_a_request_is_asked_for_with_more_bytes_then_refused() {
        let (mut window, mut ahead) = (PullWindow::flow(1_024), ReadAhead::new(4_096));
        for doublings in 0..20 {
            let Some(request @ PullRequest { batch, max_bytes }) = window.due(Duration::ZERO, &ahead) else {
                panic!("it asks no more")
            };
            window.asked(Duration::ZERO, request, &mut ahead);
            // What was asked for before the first one ended says nothing new.
            window.ended_by_bytes(Some(batch), Some(512), &mut ahead).unwrap();
            if let Err(error) = window.ended_by_bytes(Some(0), Some(max_bytes), &mut ahead) {
                assert_eq!((error, doublings), (TooLarge { limit: LARGEST_MESSAGE }, 16));
                return;
            }
        }
        panic!("it gave up asking without an error");
    }
}
