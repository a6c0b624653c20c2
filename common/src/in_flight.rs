//! Whether what was sent and is not answered is still on its way: a decision without a clock and without a network.
//!
//! NATS runs on TCP, which loses nothing while a connection lives: how long an answer takes says nothing by itself. What was sent is
//! taken for lost only for one of three reasons, which [`Loss`] names.

use std::{collections::BTreeMap, time::Duration};

/// How much later than a message behind it a message may be answered: the server answers what it stores in order, but what it refuses
/// or has stored before at once.
const REORDERED: Duration = Duration::from_secs(1);
/// What the server may take to answer what it has received, until it shows to be slower: it may be writing to a slow disk, or electing
/// a leader. Doubled each time that this was too short, and back when something is answered.
const ALLOWANCE: Duration = Duration::from_secs(5);
const LONGEST_ALLOWANCE: Duration = Duration::from_secs(60);
/// What is not answered after twice the time that it should take, and so long, is asked after.
const ASK_AFTER: Duration = Duration::from_secs(1);
/// A server is said to be silent after so long; what is on the line is allowed for besides, as below.
const TELL_AFTER: Duration = Duration::from_secs(8);
/// A connection over which nothing comes for so long, though something is awaited, is given up; what is on the line is allowed for
/// besides, with this factor.
const DEAD_AFTER: Duration = Duration::from_secs(30);
const SLOWER: u32 = 4;

/// What was sent over one connection after the other, and is not answered.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    sent: BTreeMap<Ticket, Sent>,
    next: u64,
    /// Changes when the connection is made anew.
    connection: u64,
    /// The last of the messages to a stream that was answered, by the order of sending, and when.
    answered: Option<(Ticket, Duration)>,
    /// The server has received all that was sent before this, and said so at this time.
    received: Option<(Ticket, Duration)>,
    /// What the server is asked whether it has received, since this time.
    asked: Option<(Ticket, Duration)>,
    /// When bytes came last.
    heard_at: Duration,
    allowance: Allowance,
}

/// The place of one message in the order of sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

/// In which order answers come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// In the order of sending: what is stored in the data stream.
    AsSent,
    /// In any.
    Any,
}

#[derive(Debug)]
struct Sent {
    at: Duration,
    connection: u64,
    order: Order,
    /// How long what was before it on the line, and the answer, should take.
    expected: Duration,
}

/// What has become of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is on its way. That can change when something is heard, and at this time.
    OnItsWay { until: Option<Duration> },
    /// Nothing will be heard of it.
    Lost(Loss),
}

/// Why nothing will be heard of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// The connection has ended.
    Disconnected,
    /// A message that was sent later was answered.
    Overtaken,
    /// The server has received it, and has not answered for so long.
    Unanswered(Duration),
}

/// What is to be done about the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pulse {
    /// Nothing before this time.
    Rest { until: Duration },
    /// Ask the server for a sign: see [`InFlight::asked`].
    Ask,
    /// Make the connection anew: nothing has come for so long.
    Dead { silent: Duration },
}

#[derive(Debug)]
struct Allowance(Duration);

impl Default for Allowance {
    fn default() -> Self {
        Self(ALLOWANCE)
    }
}

impl InFlight {
    /// A message is handed to the connection; what is before it on the line, and its answer, should take so long.
    pub(crate) fn sent(&mut self, now: Duration, order: Order, expected: Duration) -> Ticket {
        let ticket = Ticket(self.next);
        self.next += 1;
        self.sent.insert(ticket, Sent { at: now, connection: self.connection, order, expected });
        ticket
    }

    /// A message was answered. Says whether one that was sent before it is overtaken by that.
    pub(crate) fn answered(&mut self, now: Duration, ticket: Ticket) -> bool {
        self.allowance = Allowance::default();
        self.heard_at = now;
        let Some(Sent { order: Order::AsSent, connection, .. }) = self.sent.remove(&ticket) else { return false };
        if connection != self.connection || self.answered.is_some_and(|(last, _)| last > ticket) {
            return false;
        }
        self.answered = Some((ticket, now));
        let in_order = |sent: &Sent| sent.order == Order::AsSent && sent.connection == connection;
        self.sent.range(..ticket).any(|(_, sent)| in_order(sent))
    }

    /// Nobody waits for an answer any more.
    pub(crate) fn forgotten(&mut self, ticket: Ticket) {
        self.sent.remove(&ticket);
    }

    /// Bytes came.
    pub(crate) fn heard(&mut self, now: Duration) {
        self.heard_at = now;
    }

    /// The connection is another one, or has ended: whatever was sent before is gone. Says whether it is.
    pub(crate) fn connected(&mut self, now: Duration, connection: u64) -> bool {
        if self.connection == connection {
            return false;
        }
        let Self { sent, next, allowance, .. } = std::mem::take(self);
        *self = Self { sent, next, connection, heard_at: now, allowance, ..Self::default() };
        true
    }

    /// The server is asked for a sign that it has received all that was sent before.
    pub(crate) fn asked(&mut self, now: Duration) -> Ticket {
        let ticket = Ticket(self.next);
        self.asked = Some((ticket, now));
        ticket
    }

    /// The sign came.
    pub(crate) fn received(&mut self, now: Duration, asked: Ticket) {
        self.heard_at = now;
        if self.asked.is_some_and(|(ticket, _)| ticket == asked) {
            (self.asked, self.received) = (None, Some((asked, now)));
        }
    }

    /// What has become of a message.
    pub(crate) fn standing(&self, now: Duration, ticket: Ticket) -> Standing {
        let Some(sent) = self.sent.get(&ticket) else { return Standing::OnItsWay { until: None } };
        if sent.connection != self.connection {
            return Standing::Lost(Loss::Disconnected);
        }
        let overtaken = self.answered.filter(|(last, _)| sent.order == Order::AsSent && ticket < *last);
        let overtaken = overtaken.map(|(_, at)| (at + REORDERED, Loss::Overtaken));
        let Allowance(allowance) = self.allowance;
        let received = self.received.filter(|(asked, _)| ticket < *asked);
        let unanswered = received.map(|(_, at)| (at + allowance, Loss::Unanswered(allowance)));
        match overtaken.into_iter().chain(unanswered).min_by_key(|(at, _)| *at) {
            Some((at, loss)) if at <= now => Standing::Lost(loss),
            until => Standing::OnItsWay { until: until.map(|(at, _)| at) },
        }
    }

    /// A message is sent again for this reason.
    pub(crate) fn lost(&mut self, ticket: Ticket, loss: Loss) {
        self.sent.remove(&ticket);
        if let Loss::Unanswered(after) = loss {
            // Several were sent at a time: they count once.
            let Allowance(allowance) = &mut self.allowance;
            *allowance = (*allowance).max((after * 2).min(LONGEST_ALLOWANCE));
        }
    }

    /// For how long the server has given no sign though it was asked, where that is worth telling. What is on the line should take so
    /// long.
    pub(crate) fn silence(&self, now: Duration, backlog: Duration) -> Option<Duration> {
        let (_, asked_at) = self.asked?;
        let silent = now.saturating_sub(self.heard_at.max(asked_at));
        (silent >= TELL_AFTER + backlog * SLOWER).then_some(silent)
    }

    /// What is to be done now. What is on the line should take so long.
    pub(crate) fn pulse(&self, now: Duration, backlog: Duration) -> Pulse {
        if let Some((_, asked_at)) = self.asked {
            let silent_from = self.heard_at.max(asked_at);
            let dead_at = silent_from + DEAD_AFTER + backlog * SLOWER;
            return if dead_at <= now {
                Pulse::Dead { silent: now - silent_from }
            } else {
                Pulse::Rest { until: dead_at }
            };
        }
        let unknown = self.sent.range(self.received.map_or(Ticket(0), |(ticket, _)| ticket)..);
        let of_this = unknown.filter(|(_, sent)| sent.connection == self.connection);
        let overdue = of_this.map(|(_, sent)| sent.at + sent.expected * 2 + ASK_AFTER).min();
        match overdue {
            Some(due) if due <= now => Pulse::Ask,
            // Of a connection on which nothing is awaited, the client's own pings find out whether it is dead.
            due => Pulse::Rest { until: due.unwrap_or(Duration::MAX) },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const NOTHING: Duration = Duration::ZERO;

    fn is_lost(in_flight: &InFlight, now: Duration, ticket: Ticket) -> Option<Loss> {
        match in_flight.standing(now, ticket) {
            Standing::Lost(loss) => Some(loss),
            Standing::OnItsWay { .. } => None,
        }
    }

    #[test]
    fn time_alone_says_nothing() {
        let mut in_flight = InFlight::default();
        let ticket = in_flight.sent(NOTHING, Order::AsSent, NOTHING);
        assert_eq!(in_flight.standing(3600 * SECOND, ticket), Standing::OnItsWay { until: None });
    }

    #[test]
    fn what_was_sent_on_another_connection_is_lost() {
        let mut in_flight = InFlight::default();
        let ticket = in_flight.sent(NOTHING, Order::Any, NOTHING);
        assert!(in_flight.connected(SECOND, 2) && !in_flight.connected(SECOND, 2));
        let later = in_flight.sent(SECOND, Order::Any, NOTHING);
        assert_eq!(
            (is_lost(&in_flight, SECOND, ticket), is_lost(&in_flight, SECOND, later)),
            (Some(Loss::Disconnected), None)
        );
    }

    #[test]
    fn what_is_stored_in_order_is_lost_when_it_is_overtaken() {
        let mut in_flight = InFlight::default();
        let [first, request, last, behind] = [Order::AsSent, Order::Any, Order::AsSent, Order::AsSent]
            .map(|order| in_flight.sent(NOTHING, order, NOTHING));
        assert!(in_flight.answered(SECOND, last), "one is overtaken");
        assert_eq!(in_flight.standing(SECOND, first), Standing::OnItsWay { until: Some(SECOND + REORDERED) });
        let now = SECOND + REORDERED;
        assert_eq!(is_lost(&in_flight, now, first), Some(Loss::Overtaken));
        assert_eq!([request, behind].map(|ticket| is_lost(&in_flight, now, ticket)), [None; 2]);
        in_flight.lost(first, Loss::Overtaken);
        assert!(!in_flight.answered(now, behind), "nothing is before it any more");
    }

    #[test]
    fn a_server_that_has_it_and_does_not_answer_is_given_more_time_each_time() {
        let mut in_flight = InFlight::default();
        let mut now = NOTHING;
        for expected in [5, 10, 20, 40, 60, 60] {
            let ticket = in_flight.sent(now, Order::AsSent, NOTHING);
            let asked = in_flight.asked(now);
            let behind = in_flight.sent(now, Order::AsSent, NOTHING);
            in_flight.received(now, asked);
            now += expected * SECOND;
            assert_eq!(is_lost(&in_flight, now - SECOND, ticket), None);
            let loss = Loss::Unanswered(expected * SECOND);
            assert_eq!((is_lost(&in_flight, now, ticket), is_lost(&in_flight, now, behind)), (Some(loss), None));
            in_flight.lost(ticket, loss);
            in_flight.forgotten(behind);
        }
        let ticket = in_flight.sent(now, Order::Any, NOTHING);
        in_flight.answered(now, ticket);
        assert_eq!(in_flight.allowance.0, ALLOWANCE);
    }

    #[test]
    fn the_server_is_asked_once_for_what_is_overdue_and_its_silence_ends_the_connection() {
        let (mut in_flight, slow) = (InFlight::default(), 10 * SECOND);
        let _ticket = in_flight.sent(NOTHING, Order::AsSent, slow);
        let due = 2 * slow + ASK_AFTER;
        in_flight.heard(due - SECOND);
        assert_eq!(in_flight.pulse(due - SECOND, slow), Pulse::Rest { until: due });
        assert_eq!(in_flight.pulse(due, slow), Pulse::Ask);
        let asked = in_flight.asked(due);
        let dead = due + DEAD_AFTER + slow * SLOWER;
        assert_eq!(in_flight.pulse(due, slow), Pulse::Rest { until: dead });
        assert_eq!(in_flight.pulse(dead, slow), Pulse::Dead { silent: dead - due });
        let told = TELL_AFTER + slow * SLOWER;
        assert_eq!([told - SECOND, told].map(|after| in_flight.silence(due + after, slow)), [None, Some(told)]);
        in_flight.heard(dead - SECOND);
        assert_eq!(in_flight.pulse(dead, slow), Pulse::Rest { until: dead - SECOND + DEAD_AFTER + slow * SLOWER });
        in_flight.received(dead, asked);
        assert_eq!(in_flight.pulse(dead, slow), Pulse::Rest { until: Duration::MAX }, "it is known to be there");
    }

    /// A line on which nothing is lost while a connection lives, that stands still for a while now and then; and a server that answers
    /// in order what is stored.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        Send,
        Answer,
        /// Nothing moves for so many seconds.
        Stall(u8),
        Reconnect,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => Just(Step::Send),
            6 => Just(Step::Answer),
            1 => (1_u8..30).prop_map(Step::Stall),
            1 => Just(Step::Reconnect),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever happens, a message is given up only when its connection has ended: however long a line stands still, nothing is
        /// sent twice on it, and it is not given up while it answers within half a minute.
        #[test]
        fn nothing_is_sent_twice_on_a_connection_that_lives(steps in prop::collection::vec(step(), 1..200)) {
            let mut in_flight = InFlight::default();
            let (mut now, mut connection, mut line) = (NOTHING, 0, std::collections::VecDeque::new());
            let (mut asked, mut dead) = (None, Vec::new());
            for step in steps {
                now += SECOND / 10;
                match step {
                    Step::Send => line.push_back(Ok(in_flight.sent(now, Order::AsSent, SECOND))),
                    Step::Answer => match line.pop_front() {
                        Some(Ok(ticket)) => _ = in_flight.answered(now, ticket),
                        Some(Err(sign)) => {
                            in_flight.received(now, sign);
                            asked = None;
                        }
                        None => {}
                    },
                    Step::Stall(seconds) => now += u32::from(seconds) * SECOND,
                    Step::Reconnect => {
                        connection += 1;
                        prop_assert!(in_flight.connected(now, connection));
                        for ticket in line.drain(..).flatten() {
                            prop_assert_eq!(is_lost(&in_flight, now, ticket), Some(Loss::Disconnected));
                            in_flight.lost(ticket, Loss::Disconnected);
                        }
                        asked = None;
                    }
                }
                match in_flight.pulse(now, SECOND) {
                    Pulse::Ask => {
                        prop_assert!(asked.is_none(), "asked twice");
                        let sign = in_flight.asked(now);
                        asked = Some(now);
                        line.push_back(Err(sign));
                    }
                    Pulse::Dead { silent } => dead.push(silent),
                    Pulse::Rest { until } => prop_assert!(until > now),
                }
                for ticket in line.iter().flatten() {
                    prop_assert_eq!(is_lost(&in_flight, now, *ticket), None);
                }
            }
            prop_assert!(dead.iter().all(|silent| *silent >= DEAD_AFTER), "{:?}", dead);
        }
    }
}
