//! How many bytes may be on their way at once: congestion control, without a clock and without a network.
//!
//! The model is BBR (draft-ietf-ccwg-bbr): the line is described by the rate at which it delivers and by its least round trip, and
//! both are measured from acknowledgements. Loss plays no part, because TCP hides it. As in TCP Vegas, a queue of a few messages is
//! allowed on top of what the line itself holds. It keeps the line busy, shows when the line has become faster, and, since it is the
//! same for everybody, shares the line fairly.
//!
//! ```text
//! window = 1.1 × rate × base + the larger of 3 messages and rate × 4 ms
//! ```
//!
//! The window is never more than the line delivers in two seconds, nor more than the bound on memory; one message may always be on
//! its way, and two unless they take the line more than eight seconds. Times are since any one moment. What is measured belongs to
//! whole messages, because nothing smaller is acknowledged.
//!
//! The beginning knows nothing but what a [`Probe`] has shown. Its window is then what such a line holds, so that no round trip goes by
//! with one message on its way. A line that takes the first few bytes at once seems faster than it is: hence the window is no more
//! than a multiple of what was probed with, and each acknowledgement lowers the probe's claim to what it shows.

use std::time::Duration;

/// The window before anything was measured: one small message.
const INITIAL: u64 = 16 * 1024;
/// Never more than this time's worth is on its way, so that what is urgent waits no longer behind it.
const LONGEST_QUEUE: Duration = Duration::from_secs(2);
/// A probe's window is what the line holds, and what it carries in this time beside: two messages, which take half a second each on slow
/// lines. Nothing is acknowledged before the whole of a message has come, and only whole ones are sent.
const OPENING: Duration = Duration::from_secs(1);
/// It is no more than so many times what was probed with.
const BELIEVED: u64 = 48;
/// What is kept on its way beyond what the line holds: a part of that, and so many messages, or what the line carries in this time,
/// which covers what servers and threads take to answer on a fast network.
const PROBE: f64 = 1.1;
const QUEUED_MESSAGES: u64 = 3;
const QUEUED_TIME: Duration = Duration::from_millis(4);
/// The beginning ends when messages wait for a base round trip in the queue, within these bounds.
const QUEUE_SHOWS: (Duration, Duration) = (Duration::from_millis(4), Duration::from_millis(250));
/// The rate is the highest of this time at least, and of so many base round trips.
const RATE_MEMORY: Duration = Duration::from_secs(1);
const RATE_ROUNDS: u32 = 5;
/// How often the queue is emptied to see the base round trip anew, as BBR's ProbeRTT does; and no sooner than after so many messages
/// one behind the other.
const BASE_MEMORY: Duration = Duration::from_secs(10);
const BASE_ROUNDS: u32 = 30;
/// The beginning ends when the rate has grown by less than a quarter in each of so many rounds.
const FULL_ROUNDS: u32 = 3;
const STILL_GROWS: f64 = 1.25;
/// With each smaller message, the largest one counts by this part less.
const LARGEST_FADES: u64 = 4;
/// While the queue is emptied, this part of what the line holds is kept on its way.
const DRAIN: f64 = 0.9;
/// A base round trip that has grown by more than this is another path's.
const OTHER_PATH: f64 = 1.5;

/// Decides how many bytes may be sent and not acknowledged.
#[derive(Debug, Clone)]
pub struct Congestion {
    /// The bound on memory, in bytes.
    most: u64,
    phase: Phase,
    in_flight: u64,
    /// The largest message of late, in bytes.
    largest: u64,
    /// What was measured by other means before there was anything to measure, as far as it still may be true.
    probe: Option<Probe>,
    /// Bytes acknowledged, and when the last of them was.
    delivered: u64,
    delivered_at: Duration,
    /// When the message was sent that was acknowledged last.
    acknowledged_sent_at: Duration,
    /// Until so many bytes are delivered, samples say what the sender had to send, and not what the line can carry.
    idle_until: u64,
    rate: Peak,
    /// The least round trip, without the time that the message itself took on the line.
    base: Option<Duration>,
    /// Bytes of a message whose own time it includes all the same: the rate was not known yet.
    base_includes: u64,
    /// The least round trip since the queue was emptied last.
    recent_base: Option<Duration>,
    drained_at: Duration,
    /// The round ends when so many bytes are delivered.
    round_end: u64,
}

/// What a small amount of data has shown of a line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Probe {
    /// Bytes per second.
    pub rate: f64,
    /// The round trip of a message of no size.
    pub round_trip: Duration,
    /// Bytes that were sent to measure the rate.
    pub bytes: u64,
}

/// What the window does.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    /// It doubles with each round trip, until the rate stops growing or a queue shows.
    Startup { window: u64, full_rate: f64, full_rounds: u32 },
    /// It follows the rate and the base round trip.
    Steady,
    /// It is below what the line holds, until the queue is gone and one message has seen the line without it: one sent when so many
    /// bytes were delivered, or later.
    Drain { until: Option<u64> },
}

/// The highest rate of late, in bytes per second: of the current stretch of time and the one before.
#[derive(Debug, Clone, Copy, Default)]
struct Peak {
    previous: f64,
    current: f64,
    since: Duration,
}

/// One message on its way: hand it back with [`Congestion::acknowledged`] or [`Congestion::forgotten`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "what is on its way counts until it is handed back"]
pub struct Flight {
    bytes: u64,
    sent_at: Duration,
    delivered: u64,
    delivered_at: Duration,
    acknowledged_sent_at: Duration,
    idle: bool,
}

impl Flight {
    /// Bytes that count as on their way.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Congestion {
    /// Nothing is known of the line. Never more than `most` bytes will be on their way, except one message that is larger.
    pub fn new(most: u64) -> Self {
        Self {
            most,
            phase: Phase::Startup { window: INITIAL, full_rate: 0.0, full_rounds: 0 },
            in_flight: 0,
            largest: 0,
            probe: None,
            delivered: 0,
            delivered_at: Duration::ZERO,
            acknowledged_sent_at: Duration::ZERO,
            idle_until: 0,
            rate: Peak::default(),
            base: None,
            base_includes: 0,
            recent_base: None,
            drained_at: Duration::ZERO,
            round_end: 0,
        }
    }

    /// The bound on memory, in bytes, from now on.
    pub fn set_most(&mut self, most: u64) {
        self.most = most;
    }

    /// Takes what was measured of the line, which messages are made to suit: what it holds may be on its way from the beginning, and two
    /// messages in any case.
    pub fn probed(&mut self, probe: Probe) {
        if let Phase::Startup { window, .. } = &mut self.phase {
            *window = (*window).max(probe.window());
            self.probe = Some(probe);
        }
    }

    /// Whether nothing is known of the line.
    pub(crate) fn is_unknown(&self) -> bool {
        self.probe.is_none() && matches!(self.phase, Phase::Startup { .. })
    }

    /// The line is another one: nothing is known of it. What is on its way still counts.
    pub fn restart(&mut self) {
        let Self { most, in_flight, largest, delivered, .. } = *self;
        // What was sent before says nothing of it, should it be acknowledged after all.
        *self = Self { in_flight, largest, delivered, idle_until: delivered + in_flight, ..Self::new(most) };
    }

    /// The largest message of late, in bytes.
    pub(crate) fn largest(&self) -> u64 {
        self.largest
    }

    /// Bytes that may be on their way.
    pub fn window(&self) -> u64 {
        let (one, rate) = (self.largest.max(1), self.supposed_rate());
        let wanted = match (self.phase, self.base, rate) {
            (Phase::Startup { window, .. }, ..) if self.probe.is_some() => window.max(2 * one),
            (Phase::Startup { window, .. }, ..) => window,
            (Phase::Steady, Some(base), Some(rate)) => {
                bytes(rate * PROBE, base) + (QUEUED_MESSAGES * one).max(bytes(rate, QUEUED_TIME))
            }
            (Phase::Drain { .. }, Some(base), Some(rate)) => bytes(rate * DRAIN, base) + one,
            (_, None, _) | (.., None) => INITIAL,
        };
        let longest = rate.map_or(INITIAL, |rate| match bytes(rate, LONGEST_QUEUE) {
            // With one alone, the line would be idle for a good part of the time.
            longest if one <= 2 * longest => longest.max(2 * one),
            longest => longest,
        });
        wanted.min(longest).min(self.most).max(one)
    }

    /// Whether a message of so many bytes may be sent now. One alone always may.
    pub fn admits(&self, bytes: u64) -> bool {
        self.in_flight == 0 || self.in_flight.saturating_add(bytes) <= self.window()
    }

    /// Bytes sent and not acknowledged.
    pub fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// Bytes per second that the line has delivered of late, if that is known.
    pub fn rate(&self) -> Option<f64> {
        Some(self.rate.highest()).filter(|rate| *rate > 0.0)
    }

    /// Bytes per second, if the line was found to carry no more: what was sent until then only shows how much there was to send.
    pub fn line_rate(&self) -> Option<f64> {
        self.rate().filter(|_| !matches!(self.phase, Phase::Startup { .. }))
    }

    /// As [`Congestion::rate`], but in the beginning no less than the probe claims: what was acknowledged may then say more of how
    /// little there was to send, and how long the first message was alone.
    pub(crate) fn supposed_rate(&self) -> Option<f64> {
        let claimed = self.probe.filter(|_| matches!(self.phase, Phase::Startup { .. })).map(|probe| probe.rate);
        self.rate().into_iter().chain(claimed).reduce(f64::max)
    }

    /// How long what is on its way takes, and the answer to it: nothing where the line is not known yet.
    pub fn backlog(&self) -> Duration {
        let queue = self.supposed_rate().map_or(Duration::ZERO, |rate| seconds(self.in_flight as f64 / rate));
        queue + self.base.unwrap_or_default()
    }

    /// A message of so many bytes is sent.
    pub fn sent(&mut self, now: Duration, bytes: u64) -> Flight {
        if self.in_flight == 0 {
            (self.delivered_at, self.acknowledged_sent_at) = (now, now);
        }
        self.in_flight += bytes;
        self.largest = self.largest.max(bytes);
        Flight {
            bytes,
            sent_at: now,
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            acknowledged_sent_at: self.acknowledged_sent_at,
            idle: self.delivered < self.idle_until,
        }
    }

    /// There is room, and nothing to send: what is measured until all that is on its way has arrived says less than the line can do.
    pub fn idle(&mut self) {
        self.idle_until = self.delivered + self.in_flight.max(1);
    }

    /// A message was acknowledged.
    pub fn acknowledged(&mut self, now: Duration, flight: Flight) {
        self.acknowledged_as(now, flight, flight.bytes);
    }

    /// A message was acknowledged that turned out to have so many bytes.
    pub fn acknowledged_as(&mut self, now: Duration, flight: Flight, bytes: u64) {
        self.in_flight = self.in_flight.saturating_sub(flight.bytes);
        // Also as large as it counted: the next one counts as much.
        self.largest = bytes.max(flight.bytes).max(self.largest - self.largest / LARGEST_FADES);
        let flight = Flight { bytes, ..flight };
        self.delivered += flight.bytes;
        self.delivered_at = now;
        self.acknowledged_sent_at = flight.sent_at;
        if let Some(probe) = &mut self.probe {
            probe.lower(self.delivered - flight.delivered, now.saturating_sub(flight.delivered_at));
        }
        self.note_rate(now, flight);
        self.note_round_trip(now, flight);
        self.advance(now, flight);
    }

    /// The line carried so many bytes that did not count as on their way.
    pub fn carried(&mut self, now: Duration, bytes: u64) {
        self.delivered += bytes;
        self.delivered_at = now;
    }

    /// Nothing more will be heard of a message: the connection was made anew, or whoever waited for it has gone.
    pub fn forgotten(&mut self, flight: Flight) {
        self.in_flight = self.in_flight.saturating_sub(flight.bytes);
    }

    /// As draft-cheng-iccrg-delivery-rate-estimation has it: what was delivered since this message was sent, over the longer of the
    /// time that it took to send and the time that it took to acknowledge.
    fn note_rate(&mut self, now: Duration, flight: Flight) {
        let sending = flight.sent_at.saturating_sub(flight.acknowledged_sent_at);
        let acknowledging = now.saturating_sub(flight.delivered_at);
        let interval = sending.max(acknowledging).as_secs_f64();
        if interval > 0.0 {
            let sample = (self.delivered - flight.delivered) as f64 / interval;
            let memory = RATE_MEMORY.max(self.base.unwrap_or_default() * RATE_ROUNDS);
            if !flight.idle || sample > self.rate.highest() {
                self.rate.note(now, sample, memory);
            }
        }
    }

    fn note_round_trip(&mut self, now: Duration, flight: Flight) {
        let (own, included) = match (self.phase, self.rate()) {
            // The rate is still too low: too much would be taken for the message's own time.
            (Phase::Startup { .. }, _) | (_, None) => (Duration::ZERO, flight.bytes),
            (_, Some(rate)) => (seconds(flight.bytes as f64 / rate), 0),
        };
        let round_trip = now.saturating_sub(flight.sent_at).saturating_sub(own);
        if self.base.is_none_or(|base| round_trip < base) {
            self.base_includes = included;
        }
        self.base = Some(self.base.map_or(round_trip, |base| base.min(round_trip)));
        self.recent_base = Some(self.recent_base.map_or(round_trip, |base| base.min(round_trip)));
    }

    fn advance(&mut self, now: Duration, flight: Flight) {
        let (base, rate) = (self.base.unwrap_or_default(), self.rate.highest());
        let waited = now.saturating_sub(flight.sent_at).saturating_sub(base);
        let own = seconds(flight.bytes as f64 / rate.max(1.0));
        let queued = waited.saturating_sub(own);
        let round_over = self.delivered >= self.round_end;
        if round_over {
            self.round_end = self.delivered + self.in_flight.max(1);
        }
        match &mut self.phase {
            Phase::Startup { window, full_rate, full_rounds } => {
                // One message may be on its way from the beginning.
                *window = (*window).max(self.largest).saturating_add(flight.bytes).min(self.most.max(INITIAL));
                if round_over && !flight.idle {
                    let grows = rate >= *full_rate * STILL_GROWS;
                    (*full_rate, *full_rounds) = if grows { (rate, 0) } else { (*full_rate, *full_rounds + 1) };
                }
                if *full_rounds >= FULL_ROUNDS
                    || (*full_rate > 0.0 && queued > base.clamp(QUEUE_SHOWS.0, QUEUE_SHOWS.1))
                {
                    self.end_startup(now);
                }
            }
            Phase::Steady if now.saturating_sub(self.drained_at) >= BASE_MEMORY.max((base + own) * BASE_ROUNDS) => {
                self.recent_base = None;
                self.phase = Phase::Drain { until: None };
            }
            Phase::Steady => {}
            Phase::Drain { until: None } => {
                if self.in_flight <= bytes(rate * DRAIN, base) + self.largest {
                    self.phase = Phase::Drain { until: Some(self.delivered) };
                }
            }
            Phase::Drain { until: Some(from) } => {
                // A flight that began when the queue was gone.
                if flight.delivered >= *from {
                    self.end_drain(now);
                }
            }
        }
    }

    /// The rate is known. So is the base, if the first message found no queue: it took no longer than that and its own time.
    fn end_startup(&mut self, now: Duration) {
        let own = seconds(std::mem::take(&mut self.base_includes) as f64 / self.rate.highest().max(1.0));
        self.base = self.base.map(|base| base.saturating_sub(own));
        self.drained_at = now;
        self.phase = Phase::Steady;
    }

    /// The line was seen without a queue of ours.
    fn end_drain(&mut self, now: Duration) {
        let (before, seen) = (self.base, self.recent_base.or(self.base));
        (self.base, self.base_includes) = (seen, 0);
        self.drained_at = now;
        let longer = seen.unwrap_or_default().as_secs_f64() > before.unwrap_or_default().as_secs_f64() * OTHER_PATH;
        self.phase = match longer {
            true => Phase::Startup { window: self.window(), full_rate: 0.0, full_rounds: 0 },
            false => Phase::Steady,
        };
    }
}

impl Probe {
    /// What may be on its way before anything was acknowledged.
    fn window(self) -> u64 {
        let holds = bytes(self.rate, (self.round_trip + OPENING).min(LONGEST_QUEUE));
        holds.min(self.bytes.saturating_mul(BELIEVED))
    }

    /// So many bytes were acknowledged within this time, round trip and all: where they are more than was probed with, the line is no
    /// faster than they show.
    fn lower(&mut self, delivered: u64, within: Duration) {
        let took = within.saturating_sub(self.round_trip).as_secs_f64();
        if delivered > self.bytes && took > 0.0 {
            self.rate = self.rate.min(delivered as f64 / took);
        }
    }
}

impl Peak {
    fn highest(&self) -> f64 {
        self.previous.max(self.current)
    }

    fn note(&mut self, now: Duration, sample: f64, memory: Duration) {
        if now.saturating_sub(self.since) >= memory {
            *self = Self { previous: self.current, current: 0.0, since: now };
        }
        self.current = self.current.max(sample);
    }
}

fn bytes(rate: f64, time: Duration) -> u64 {
    // Saturates, as casts of floats do.
    (rate * time.as_secs_f64()) as u64
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}
