//! Whether what was sent and is not answered is still on its way: a decision without a clock and without a network.
//!
//! NATS runs on TCP, which loses nothing while a connection lives: how long an answer takes says nothing by itself. What was sent is
//! taken for lost only for one of three reasons, which [`Loss`] names.

use std::{collections::BTreeMap, time::Duration};

/// How much later than a message behind it a message may be answered, besides the time that it should take itself: the server answers
/// in order what it stores, but several threads may hand messages to the connection in another order than they are counted.
const REORDERED: Duration = Duration::from_secs(1);
/// What the server may take to answer what it has received, until it shows to be slower: it may be writing to a slow disk, or electing
/// a leader. Doubled each time that this was too short, and back when something of the kind is answered. A sign is asked for then: an
/// answer that is on the line comes before it, however long the line stands still.
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
    /// What the server is asked whether it has received, since this time.
    asked: Option<(Ticket, Duration)>,
    /// When bytes came last.
    heard_at: Duration,
    /// What the server may take to answer: messages to a stream, and requests.
    allowances: Allowances,
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

/// What an answer says of messages that were sent before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The message was stored now: those before it in its stream were stored before.
    Stored,
    /// Nothing: a refusal, or a message that was stored before, is answered at once.
    AtOnce,
}

#[derive(Debug)]
struct Sent {
    at: Duration,
    connection: u64,
    order: Order,
    /// How long what was before it on the line, and the answer, should take.
    expected: Duration,
    way: Way,
}

/// How far a message that is not answered has come, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    OnTheLine,
    /// The server has received it, and has said so at this time.
    Received {
        at: Duration,
    },
    /// A sign came back that was asked for so long after that, and no answer before it.
    Unanswered(Duration),
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

#[derive(Debug, Clone, Copy)]
struct Allowances {
    as_sent: Duration,
    any: Duration,
}

impl Default for Allowances {
    fn default() -> Self {
        Self { as_sent: ALLOWANCE, any: ALLOWANCE }
    }
}

impl Allowances {
    fn of(&mut self, order: Order) -> &mut Duration {
        match order {
            Order::AsSent => &mut self.as_sent,
            Order::Any => &mut self.any,
        }
    }
}

impl InFlight {
    /// A message is handed to the connection; what is before it on the line, and its answer, should take so long.
    pub(crate) fn sent(&mut self, now: Duration, order: Order, expected: Duration) -> Ticket {
        let ticket = Ticket(self.next);
        self.next += 1;
        let connection = self.connection;
        self.sent.insert(ticket, Sent { at: now, connection, order, expected, way: Way::OnTheLine });
        ticket
    }

    /// A message was answered. Says whether one that was sent before it is overtaken by that.
    pub(crate) fn answered(&mut self, now: Duration, ticket: Ticket, answer: Answer) -> bool {
        self.heard_at = now;
        let Some(Sent { order, connection, .. }) = self.sent.remove(&ticket) else { return false };
        *self.allowances.of(order) = ALLOWANCE;
        let in_order = order == Order::AsSent && answer == Answer::Stored && connection == self.connection;
        if !in_order || self.answered.is_some_and(|(last, _)| last > ticket) {
            return false;
        }
        self.answered = Some((ticket, now));
        let in_order = |sent: &Sent| sent.order == Order::AsSent && sent.connection == connection;
        self.sent.range(..ticket).any(|(_, sent)| in_order(sent))
    }

    /// Whether no connection was seen yet.
    pub(crate) fn is_new(&self) -> bool {
        self.connection == 0
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
        // One that was looked at before another thread found a later one says nothing.
        if connection <= self.connection {
            return false;
        }
        let Self { sent, next, allowances, .. } = std::mem::take(self);
        *self = Self { sent, next, connection, heard_at: now, allowances, ..Self::default() };
        true
    }

    /// The server is asked for a sign that it has received all that was sent before.
    pub(crate) fn asked(&mut self, now: Duration) -> Ticket {
        let ticket = Ticket(self.next);
        self.asked = Some((ticket, now));
        ticket
    }

    /// The sign came, behind all that the server had sent before it.
    pub(crate) fn received(&mut self, now: Duration, sign: Ticket) {
        self.heard_at = now;
        let Some((_, asked_at)) = self.asked.take_if(|(asked, _)| *asked == sign) else { return };
        let Self { sent, connection, allowances, .. } = self;
        for (_, sent) in sent.range_mut(..sign).filter(|(_, sent)| sent.connection == *connection) {
            let allowance = *allowances.of(sent.order);
            sent.way = match sent.way {
                Way::OnTheLine => Way::Received { at: now },
                Way::Received { at } if at + allowance <= asked_at => Way::Unanswered(asked_at - at),
                way => way,
            };
        }
    }

    /// What has become of a message.
    pub(crate) fn standing(&self, now: Duration, ticket: Ticket) -> Standing {
        let Some(sent) = self.sent.get(&ticket) else { return Standing::OnItsWay { until: None } };
        if sent.connection != self.connection {
            return Standing::Lost(Loss::Disconnected);
        }
        let overtaken = self.answered.filter(|(last, _)| sent.order == Order::AsSent && ticket < *last);
        match (sent.way, overtaken.map(|(_, at)| at + REORDERED + sent.expected)) {
            (Way::Unanswered(after), _) => Standing::Lost(Loss::Unanswered(after)),
            (_, Some(at)) if at <= now => Standing::Lost(Loss::Overtaken),
            (_, until) => Standing::OnItsWay { until },
        }
    }

    /// A message is sent again for this reason.
    pub(crate) fn lost(&mut self, ticket: Ticket, loss: Loss) {
        let Some(sent) = self.sent.remove(&ticket) else { return };
        if let Loss::Unanswered(after) = loss {
            // Several were sent at a time: they count once.
            let allowance = self.allowances.of(sent.order);
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
        let mut allowances = self.allowances;
        let of_this = self.sent.values().filter(|sent| sent.connection == self.connection);
        let overdue = of_this.filter_map(|sent| match sent.way {
            Way::OnTheLine => Some(sent.at + sent.expected * 2 + ASK_AFTER),
            Way::Received { at } => Some(at + *allowances.of(sent.order)),
            Way::Unanswered(_) => None,
        });
        let overdue = overdue.min();
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
        let [first, request, refused, last, behind] =
            [Order::AsSent, Order::Any, Order::AsSent, Order::AsSent, Order::AsSent]
                .map(|order| in_flight.sent(NOTHING, order, NOTHING));
        assert!(!in_flight.answered(SECOND, refused, Answer::AtOnce), "that it was refused says nothing");
        assert!(in_flight.answered(SECOND, last, Answer::Stored), "one is overtaken");
        assert_eq!(in_flight.standing(SECOND, first), Standing::OnItsWay { until: Some(SECOND + REORDERED) });
        let now = SECOND + REORDERED;
        assert_eq!(is_lost(&in_flight, now, first), Some(Loss::Overtaken));
        assert_eq!([request, behind].map(|ticket| is_lost(&in_flight, now, ticket)), [None; 2]);
        in_flight.lost(first, Loss::Overtaken);
        assert!(!in_flight.answered(now, behind, Answer::Stored), "nothing is before it any more");
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
            // A request that is answered says nothing of a stream's disk.
            let request = in_flight.sent(now, Order::Any, NOTHING);
            in_flight.answered(now, request, Answer::AtOnce);
            let again = in_flight.asked(now + (expected - 1) * SECOND);
            in_flight.received(now + (expected - 1) * SECOND, again);
            assert_eq!(is_lost(&in_flight, now + 3600 * SECOND, ticket), None, "no sign came since");
            now += expected * SECOND;
            assert_eq!(in_flight.pulse(now, NOTHING), Pulse::Ask);
            let asked = in_flight.asked(now);
            // The sign is on its way, and the answer could still be before it.
            assert_eq!(is_lost(&in_flight, now + 3600 * SECOND, ticket), None);
            in_flight.received(now, asked);
            let loss = Loss::Unanswered(expected * SECOND);
            assert_eq!((is_lost(&in_flight, now, ticket), is_lost(&in_flight, now, behind)), (Some(loss), None));
            in_flight.lost(ticket, loss);
            in_flight.forgotten(behind);
        }
        let ticket = in_flight.sent(now, Order::AsSent, NOTHING);
        in_flight.answered(now, ticket, Answer::Stored);
        assert_eq!(in_flight.allowances.as_sent, ALLOWANCE);
    }

    #[test]
    fn a_stale_look_at_the_connection_says_nothing() {
        let mut in_flight = InFlight::default();
        assert!(in_flight.connected(SECOND, 4) && !in_flight.connected(SECOND, 3));
        let ticket = in_flight.sent(SECOND, Order::Any, NOTHING);
        assert_eq!(is_lost(&in_flight, SECOND, ticket), None);
    }

    #[test]
    fn the_server_is_asked_once_for_what_is_overdue_and_its_silence_ends_the_connection() {
        let (mut in_flight, slow) = (InFlight::default(), 10 * SECOND);
        let ticket = in_flight.sent(NOTHING, Order::AsSent, slow);
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
        assert_eq!(in_flight.pulse(dead, slow), Pulse::Rest { until: dead + ALLOWANCE }, "it is known to be there");
        in_flight.forgotten(ticket);
        assert_eq!(in_flight.pulse(dead, slow), Pulse::Rest { until: Duration::MAX });
    }

    /// A line on which nothing is lost while a connection lives, that stands still for a while now and then; and a server that answers
    /// in order what is stored. A sign comes back at once, before answers of a slow disk.
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
            let (mut asked, mut dead, mut disk) = (None, Vec::new(), Vec::new());
            for step in steps {
                now += SECOND / 10;
                line.extend(disk.drain(..).map(Ok));
                match step {
                    Step::Send => disk.push(in_flight.sent(now, Order::AsSent, SECOND)),
                    Step::Answer => match line.pop_front() {
                        Some(Ok(ticket)) => _ = in_flight.answered(now, ticket, Answer::Stored),
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
                        for ticket in line.drain(..).flatten().chain(disk.drain(..)) {
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
                for ticket in line.iter().flatten().chain(&disk) {
                    prop_assert_eq!(is_lost(&in_flight, now, *ticket), None);
                }
            }
            prop_assert!(dead.iter().all(|silent| *silent >= DEAD_AFTER), "{:?}", dead);
        }
    }
}
