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
/// A connection over which nothing comes for so long, though something is awaited, is given up; what is on the line is allowed for
/// besides, with this factor.
const DEAD_AFTER: Duration = Duration::from_secs(30);
const SLOWER: u32 = 4;
/// How often a connection on which nothing is awaited is tried.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

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
    /// The connection was made anew.
    Reconnected,
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

    /// The connection is another one: whatever was sent before it is gone. Says whether it is.
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
            return Standing::Lost(Loss::Reconnected);
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
        let due = overdue.unwrap_or(Duration::MAX).min(self.heard_at + KEEP_ALIVE);
        if due <= now { Pulse::Ask } else { Pulse::Rest { until: due } }
    }
}
