//! How much may be asked for ahead over one connection: a decision without a clock and without a network.
//!
//! Two bounds hold for all readers of a connection together. In time: what is on its way is what [`Congestion`] says, about what the
//! line itself holds and never more than it carries in two seconds. Heartbeats, confirmations and answers wait behind it. In memory: a
//! bound in bytes, if every message were as large as it may be.
//!
//! Both are shared out as switches share out their buffers (Choudhury and Hahne, "Dynamic queue length thresholds"): a reader may ask for
//! more as long as it has no more than eight times what is left. One that is alone has eight ninths, several have the same, and who
//! comes later finds room. One message may always be asked for.

use std::time::Duration;

use crate::{
    Congestion, Flight,
    arrival_rate::ArrivalRate,
    cut_off::{CutOff, TooSlow, WRITE_DEADLINE, takes},
};

/// On a fast line, what comes in this time may be on its way, up to this part of the bound on memory: who reads also writes, and comes
/// back for more in bursts.
const BURST: Duration = Duration::from_millis(10);
const BURST_MEMORY: u64 = 4;
/// A reader has at most so many times what is left.
const OF_WHAT_IS_LEFT: u64 = 8;
/// Where no more than this part of the window is on its way and nothing more is stored, there is too little to show how fast the line is.
const IDLE: (u64, u64) = (3, 4);
/// What waits for messages that are not stored yet, of the window, for one reader; and never more than what the line carries in this time.
/// They may all come at once, and the server sends a heartbeat for each request.
const WAITING: u64 = 4;
const WAITING_TIME: Duration = Duration::from_millis(500);

/// The bound is lowered no further than this, in bytes, and raised again each time after so long.
const LEAST: u64 = 64 * 1024;
const RAISED_AFTER: Duration = Duration::from_secs(60);

/// What all readers of a connection have asked for.
#[derive(Debug)]
pub(crate) struct ReadAhead {
    congestion: Congestion,
    /// The first message on its way, while nothing is known of the line.
    arrival: Option<ArrivalRate>,
    /// The bound on memory, in bytes, and what is asked for at most: as was wanted, or less for a while.
    most: u64,
    wanted: u64,
    reserved: u64,
    /// One message for each transfer that flows, in bytes.
    flowing: u64,
    /// Which connection this is, if that is known.
    connection: Option<u64>,
    /// When a stored message was asked for last.
    asked_at: Duration,
    /// When the bound was lowered or raised again.
    bound_at: Duration,
    cut_off: CutOff,
}

/// What one reader has asked for and not received, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Share {
    /// As large as messages are.
    pub(crate) on_its_way: u64,
    /// As large as they may be.
    pub(crate) reserved: u64,
}

/// How large a reader's messages are, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MessageSize {
    /// On average.
    pub(crate) expected: u64,
    /// At most.
    pub(crate) largest: u64,
}

impl ReadAhead {
    /// Never more than `most` bytes are asked for, but for one message of each reader.
    pub(crate) fn new(most: u64) -> Self {
        let (congestion, cut_off) = (Congestion::new(most), CutOff::new());
        let (asked_at, bound_at) = (Duration::ZERO, Duration::ZERO);
        Self {
            congestion,
            arrival: None,
            most,
            wanted: most,
            reserved: 0,
            flowing: 0,
            connection: None,
            asked_at,
            bound_at,
            cut_off,
        }
    }

    /// A reader has found this connection, when so many bytes had come over all of them. Of the line of another one than before, nothing
    /// is known. Where connections end as soon as something is asked for, half as much is asked for from then on: the new bound, in bytes.
    pub(crate) fn connected(&mut self, now: Duration, connection: u64, bytes: u64) -> Option<u64> {
        if self.connection.replace(connection).is_none_or(|before| before == connection) {
            return None;
        }
        let counts = self.cut_off.reconnected(now, bytes);
        self.congestion.restart();
        self.arrival = None;
        if !counts || !self.cut_off.ends_at_once() || self.most <= LEAST {
            return None;
        }
        self.bound_to(now, (self.most / 2).max(LEAST));
        Some(self.most)
    }

    /// Whether messages of this size are too large for the line: see [`CutOff`].
    pub(crate) fn too_slow_for(&self, message: u64) -> Option<TooSlow> {
        self.cut_off.too_slow_for(message)
    }

    /// It was told that they are.
    pub(crate) fn told_too_slow(&mut self) {
        self.cut_off.told();
    }

    /// So many bytes have come over the connection. They are looked at while the first message is on its way over a line of which nothing
    /// is known.
    pub(crate) fn look(&mut self, now: Duration, bytes: u64) -> Look {
        if self.congestion.in_flight() == 0 || !self.congestion.is_unknown() {
            self.arrival = None;
            return Look::Enough;
        }
        let arrival = self.arrival.get_or_insert_with(|| ArrivalRate::new(now, bytes));
        match arrival.look(now, bytes) {
            Some(probe) => {
                self.congestion.probed(probe);
                Look::Seen
            }
            None => Look::Again(arrival.look_after(now)),
        }
    }

    /// The bound on memory, in bytes, from now on.
    pub(crate) fn set_most(&mut self, most: u64) {
        self.wanted = most;
        self.bound_to(self.bound_at, most);
    }

    fn bound_to(&mut self, now: Duration, most: u64) {
        (self.most, self.bound_at) = (most, now);
        self.congestion.set_most(most);
    }

    /// Bytes that may be on their way.
    pub(crate) fn window(&self) -> u64 {
        let burst = self.worth(BURST).min(self.most / BURST_MEMORY);
        self.congestion.window().max(burst)
    }

    /// What the line carries in this time, in bytes: nothing while that is not known.
    fn worth(&self, time: Duration) -> u64 {
        // Saturates, as casts of floats do.
        self.congestion.rate().map_or(0, |rate| (rate * time.as_secs_f64()) as u64)
    }

    /// Bytes per second that came of late, if that is known.
    #[cfg(test)]
    pub(crate) fn rate(&self) -> Option<f64> {
        self.congestion.rate()
    }

    /// How many messages more a reader may ask for that has asked for so much. `stored`: whether they are there to be sent.
    pub(crate) fn room(&self, now: Duration, own: Share, size: MessageSize, stored: Stored) -> u64 {
        let MessageSize { expected, largest } = size;
        let in_memory = allowed(own.reserved, self.reserved, self.most, largest);
        in_memory.min(match stored {
            Stored::Yes => {
                let in_flight = self.congestion.in_flight();
                let second = self.second_at(expected).filter(|at| *at <= now).map_or(0, |_| in_flight + expected);
                allowed(own.on_its_way, in_flight, self.window().max(second), expected)
            }
            Stored::NotYet { waiting } => (self.waiting() / expected.max(1)).saturating_sub(waiting),
        })
    }

    /// When a second message of this size may be asked for where one is on its way, and two are more than the window. The server writes what
    /// it has for a connection together, and ends the connection if it cannot do so in time: it gets the second one once it is well into the
    /// first, and writes it by itself.
    pub(crate) fn second_at(&self, message: u64) -> Option<Duration> {
        let in_flight = self.congestion.in_flight();
        let takes = takes(message, self.congestion.supposed_rate()?)?;
        let is_alone = in_flight > 0 && in_flight < 2 * message && self.window() < in_flight + message;
        (is_alone && takes <= WRITE_DEADLINE).then(|| self.asked_at + takes / 2)
    }

    /// Bytes that one reader may have asked for without knowing that they are stored.
    fn waiting(&self) -> u64 {
        self.worth(WAITING_TIME).min(self.window() / WAITING)
    }

    /// A message of so many bytes is asked for that may be as large as `largest`.
    pub(crate) fn reserve(&mut self, largest: u64) {
        self.reserved += largest;
    }

    /// It came, or is not awaited any more.
    pub(crate) fn release(&mut self, largest: u64) {
        self.reserved = self.reserved.saturating_sub(largest);
    }

    /// A message is on its way from now on.
    pub(crate) fn asked(&mut self, now: Duration, bytes: u64) -> Flight {
        self.asked_at = now;
        self.cut_off.asked(bytes);
        self.congestion.sent(now, bytes)
    }

    /// It came, with so many bytes.
    pub(crate) fn came(&mut self, now: Duration, flight: Flight, bytes: u64) {
        self.cut_off.came(bytes);
        if self.most < self.wanted && now.saturating_sub(self.bound_at) >= RAISED_AFTER {
            self.bound_to(now, self.most.saturating_mul(2).min(self.wanted));
        }
        self.congestion.acknowledged_as(now, flight, bytes);
    }

    /// A message came that was not there yet when it was asked for: it says nothing of the line.
    pub(crate) fn came_later(&mut self, now: Duration, bytes: u64) {
        self.cut_off.came(bytes);
        self.congestion.carried(now, bytes);
    }

    /// It does not come.
    pub(crate) fn forgotten(&mut self, flight: Flight) {
        self.congestion.forgotten(flight);
    }

    /// Somebody has nothing more to ask for.
    pub(crate) fn has_all(&mut self) {
        if self.congestion.in_flight() <= self.window() / IDLE.1 * IDLE.0 {
            self.congestion.idle();
        }
    }

    /// Whether one more transfer may flow, with messages of this size at most. One alone always may; others where a message of each is
    /// within the window.
    pub(crate) fn admits(&self, message: u64) -> bool {
        self.flowing == 0 || self.flowing.saturating_add(message) <= self.window()
    }

    /// A transfer flows from now on.
    pub(crate) fn flows(&mut self, message: u64) {
        self.flowing += message;
    }

    /// It has ended, or waits for what is not stored yet.
    pub(crate) fn rests(&mut self, message: u64) {
        self.flowing = self.flowing.saturating_sub(message);
    }
}

/// What a look at the bytes that have come shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// Nothing yet: it is to be looked again after this time.
    Again(Duration),
    /// How fast the line is: more may be asked for.
    Seen,
    /// The line is known, or nothing is on its way.
    Enough,
}

/// Whether there is something to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored {
    /// Messages are stored that were not asked for.
    Yes,
    /// None is; so many were asked for all the same.
    NotYet { waiting: u64 },
}

/// How many pieces of this size somebody may take who has `own`, of a bound of which `taken` is taken.
fn allowed(own: u64, taken: u64, bound: u64, size: u64) -> u64 {
    let (left, size) = (bound.saturating_sub(taken), size.max(1));
    let Some(beyond) = left.saturating_mul(OF_WHAT_IS_LEFT).checked_sub(own) else { return 0 };
    (left / size).min(beyond / (size.saturating_mul(OF_WHAT_IS_LEFT + 1)) + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3_000))]
        /// In any order of taking and giving back: never more than the bound in all, and who has least is never kept from taking where
        /// others have much more.
        #[test]
        fn what_is_shared_out_is_within_the_bound(
            bound in 1u64..10_000, sizes in proptest::collection::vec(1u64..500, 1..12),
            steps in proptest::collection::vec(any::<(bool, u8, u8)>(), 1..300),
        ) {
            let mut own = vec![0; sizes.len()];
            for (takes, who, how_many) in steps {
                let who = usize::from(who) % sizes.len();
                let taken = own.iter().sum::<u64>();
                prop_assert!(taken <= bound);
                let allowed = allowed(own[who], taken, bound, sizes[who]);
                own[who] = match takes {
                    true => own[who] + allowed.min(how_many.into()) * sizes[who],
                    false => own[who].saturating_sub(u64::from(how_many) * sizes[who]),
                };
            }
        }

        #[test]
        fn who_is_alone_has_eight_ninths_and_leaves_a_ninth(bound in 100u64..1_000_000, size in 1u64..100) {
            let all = allowed(0, 0, bound, size) * size;
            prop_assert!(all <= bound && all + 2 * size >= bound * 8 / 9, "{all} of {bound}");
            prop_assert!(bound - all + size >= bound / 9);
        }
    }

    #[test]
    fn those_who_take_in_turn_come_to_have_the_same() {
        let mut own = [900_u64, 0, 0, 0];
        for step in 0..10_000 {
            let who = step % own.len();
            // A message comes, and as many are asked for as may be.
            own[who] = own[who].saturating_sub(10);
            own[who] += allowed(own[who], own.iter().sum(), 1_000, 10) * 10;
        }
        let (least, most) = (own.iter().min().unwrap(), own.iter().max().unwrap());
        assert!(most - least <= 30 && own.iter().sum::<u64>() > 900, "{own:?}");
    }

    #[test]
    fn less_is_asked_for_where_connections_end_at_once_and_more_again_where_one_stands() {
        let (mut ahead, mut connection) = (ReadAhead::new(1 << 20), 0);
        let mut connected = |ahead: &mut ReadAhead, ms: u64, asked: bool| {
            let flight = asked.then(|| ahead.asked(Duration::from_millis(ms - 10), 1_000));
            connection += 1;
            let bound = ahead.connected(Duration::from_millis(ms), connection, 0);
            flight.into_iter().for_each(|flight| ahead.forgotten(flight));
            bound
        };
        for (ms, asked, bound) in [
            (10, true, None),
            (10_000, true, None),
            (10_100, true, None),
            (10_200, true, Some(512 << 10)),
            (10_300, true, Some(256 << 10)),
            // Nothing was asked for: it was not that.
            (10_350, false, None),
            (10_400, true, Some(128 << 10)),
            (10_500, true, Some(64 << 10)),
            (10_600, true, None),
        ] {
            assert_eq!(connected(&mut ahead, ms, asked), bound, "after {ms} ms");
        }
        for (seconds, most) in [(20, 64 << 10), (80, 128 << 10), (100, 128 << 10), (200, 256 << 10), (300, 512 << 10)] {
            let flight = ahead.asked(Duration::from_secs(seconds - 1), 1_000);
            ahead.came(Duration::from_secs(seconds), flight, 1_000);
            assert_eq!(ahead.most, most, "after {seconds} s");
        }
    }

    #[test]
    fn on_a_slow_line_fewer_transfers_flow_at_once() {
        let mut ahead = ReadAhead::new(16 << 20);
        assert!(ahead.admits(500_000));
        ahead.flows(500_000);
        assert!(!ahead.admits(500_000));
        // It waits for its sender: it holds up nobody.
        ahead.rests(500_000);
        assert!(ahead.admits(500_000));
    }
}
