//! The congestion controller on simulated lines: thousands of them, without a clock.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    time::Duration,
};

use natsfer_common::{ChunkSizing, Congestion, Flight, LinkEstimate, Probe};
use proptest::prelude::*;

const MIB: u64 = 1 << 20;

/// A bottleneck with an unbounded queue, behind which each sender's acknowledgements take a delay.
struct Line {
    /// Bytes per second, each from a moment on.
    rates: Vec<(Duration, f64)>,
    /// From the sender to the server and back, without the queue.
    round_trip: Vec<(Duration, Duration)>,
    /// What is added to each acknowledgement, in turn.
    jitter: Vec<Duration>,
    free_at: Duration,
}

impl Line {
    fn new(rate: f64, round_trip: Duration) -> Self {
        let (rates, round_trip) = (vec![(Duration::ZERO, rate)], vec![(Duration::ZERO, round_trip)]);
        Self { rates, round_trip, jitter: vec![Duration::ZERO], free_at: Duration::ZERO }
    }

    /// When a message has passed the bottleneck.
    fn carry(&mut self, now: Duration, bytes: u64) -> Duration {
        let (mut at, mut left) = (self.free_at.max(now), bytes as f64);
        loop {
            let rate = value(&self.rates, at);
            let change = self.rates.iter().map(|(from, _)| *from).find(|from| *from > at);
            let done = at + Duration::from_secs_f64(left / rate);
            match change.filter(|change| *change < done) {
                Some(change) => {
                    left -= rate * (change - at).as_secs_f64();
                    at = change;
                }
                None => {
                    self.free_at = done;
                    return done;
                }
            }
        }
    }
}

/// What holds at a time.
fn value<T: Copy>(steps: &[(Duration, T)], at: Duration) -> T {
    steps.iter().rev().find(|(from, _)| *from <= at).unwrap_or(&steps[0]).1
}

/// One who always has something to send, in messages of one size.
struct Sender {
    congestion: Congestion,
    message: u64,
    begins: Duration,
    flights: VecDeque<Flight>,
    /// When bytes were acknowledged.
    arrived: Vec<(Duration, u64)>,
    /// How long each message stood in the queue.
    queued: Vec<(Duration, Duration)>,
    most_in_flight: Vec<(Duration, u64)>,
}

impl Sender {
    fn new(message: u64, most: u64, begins: Duration) -> Self {
        let congestion = Congestion::new(most);
        let (arrived, queued, most_in_flight) = (Vec::new(), Vec::new(), Vec::new());
        Self { congestion, message, begins, flights: VecDeque::new(), arrived, queued, most_in_flight }
    }

    fn probed(mut self, rate: f64, round_trip: Duration, bytes: u64) -> Self {
        self.congestion.probed(Probe { rate, round_trip, bytes });
        self
    }

    fn delivered(&self, from: Duration, to: Duration) -> u64 {
        self.arrived.iter().filter(|(at, _)| (from..to).contains(at)).map(|(_, bytes)| bytes).sum()
    }
}

/// Runs the senders until the end, on one line.
fn run(line: &mut Line, senders: &mut [Sender], end: Duration) {
    let mut events = BinaryHeap::new();
    for (index, sender) in senders.iter().enumerate() {
        events.push(Reverse((sender.begins, index, false)));
    }
    let (mut sent, mut last) = (0_usize, vec![Duration::ZERO; senders.len()]);
    while let Some(Reverse((now, index, acknowledges))) = events.pop() {
        if now > end {
            return;
        }
        let sender = &mut senders[index];
        if acknowledges && let Some(flight) = sender.flights.pop_front() {
            sender.congestion.acknowledged(now, flight);
            sender.arrived.push((now, sender.message));
        }
        while sender.congestion.admits(sender.message) {
            sender.flights.push_back(sender.congestion.sent(now, sender.message));
            sender.queued.push((now, line.free_at.saturating_sub(now)));
            let jitter = line.jitter[sent % line.jitter.len()];
            sent += 1;
            let passed = line.carry(now, sender.message);
            // TCP keeps the order.
            last[index] = last[index].max(passed + value(&line.round_trip, passed) + jitter);
            events.push(Reverse((last[index], index, true)));
        }
        sender.most_in_flight.push((now, sender.congestion.in_flight()));
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// What a sender takes for a chunk on such a line.
fn message(rate: f64) -> u64 {
    let link = LinkEstimate { round_trip: Duration::ZERO, rate: Some(rate) };
    let chosen = ChunkSizing::Auto.choose(link, 8 << 20);
    chosen.map_or(MIB / 2, |chunk| chunk.bytes().into())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// From 50 kbit/s to 10 Gbit/s and from 0.2 ms to 600 ms, with jitter: the line is used to nine tenths soon, and the queue
    /// stays below what is promised.
    #[test]
    fn a_line_is_used_and_its_queue_is_short(
        rate in (3.8_f64..9.1).prop_map(|exponent| 10_f64.powf(exponent)),
        round_trip in (-3.7_f64..-0.22).prop_map(|exponent| 10_f64.powf(exponent)),
        jitter in prop::collection::vec(0.0_f64..0.1, 1..50),
    ) {
        let (message, begun) = (message(rate), 20.0 * round_trip + 20.0 * message(rate) as f64 / rate);
        let measured = 40.0 * (round_trip + message as f64 / rate).max(0.02);
        let (from, end) = (seconds(begun), seconds(begun + measured));
        let mut line = Line::new(rate, seconds(round_trip));
        line.jitter = jitter.iter().map(|part| seconds(part * round_trip)).collect();
        let mut senders = [Sender::new(message, 4 << 30, Duration::ZERO)];
        run(&mut line, &mut senders, end);
        let [sender] = senders;
        // Of the first and the last message only a part belongs to that time.
        let used = (sender.delivered(from, end) + message) as f64 / (rate * measured);
        prop_assert!(used > 0.9, "used {used}");
        let longest = sender.queued.iter().map(|(_, queued)| queued.as_secs_f64()).fold(0.0, f64::max);
        prop_assert!(longest <= (2.0 + message as f64 / rate).max(2.0 * message as f64 / rate), "a queue of {longest} s");
        let late: Vec<f64> = sender.queued.iter().filter(|(at, _)| *at > from).map(|(_, queued)| queued.as_secs_f64()).collect();
        let usual = late.iter().sum::<f64>() / late.len() as f64;
        prop_assert!(usual < 0.1 + 3.0 * (message as f64 / rate) + 0.2 * round_trip, "usually a queue of {usual} s");
    }

    /// Of a line that was measured, no round trip is lost in the beginning: from the first acknowledgement on it is used all the time,
    /// also while the window is still being found. The estimate may be high by a fifth.
    #[test]
    fn a_line_that_was_probed_is_used_at_once(
        rate in (3.8_f64..6.0).prop_map(|exponent| 10_f64.powf(exponent)),
        round_trip in 0.001_f64..0.6,
        error in 1.0_f64..1.2,
        rounds in 1.0_f64..20.0,
    ) {
        let message = message(rate * error);
        let first = round_trip + message as f64 / rate;
        let end = seconds(first * (1.0 + rounds));
        let mut line = Line::new(rate, seconds(round_trip));
        let mut senders = [Sender::new(message, 4 << 30, Duration::ZERO).probed(rate * error, seconds(round_trip), 32 << 10)];
        run(&mut line, &mut senders, end);
        // Of the last message only a part belongs to that time.
        let used = senders[0].delivered(Duration::ZERO, end + Duration::from_nanos(1)) as f64 + message as f64;
        let could = rate * (end.as_secs_f64() - round_trip);
        prop_assert!(used >= 0.95 * could, "{used} of {could}");
    }

    /// A probe that shows a line a hundred times slower or a thousand times faster than it is: no more than 48 times what it was made
    /// with, or two messages, are on the line before it is known better, and the line is used as any other soon.
    #[test]
    fn a_probe_that_was_wrong_is_not_believed_for_long(
        rate in (3.8_f64..8.0).prop_map(|exponent| 10_f64.powf(exponent)),
        factor in (-2.0_f64..3.0).prop_map(|exponent| 10_f64.powf(exponent)),
        round_trip in 0.001_f64..0.6,
        bytes in 2_u64 << 10..32 << 10,
    ) {
        let message = message(rate * factor);
        let (own, mut line) = (message as f64 / rate, Line::new(rate, seconds(round_trip)));
        let begun = 20.0 * (round_trip + own) + 48.0 * bytes as f64 / rate;
        let (from, end) = (seconds(begun), seconds(begun + 40.0 * (round_trip + own).max(0.02)));
        let mut senders = [Sender::new(message, 4 << 30, Duration::ZERO).probed(rate * factor, seconds(round_trip), bytes)];
        run(&mut line, &mut senders, end);
        let [sender] = senders;
        let most = (48 * bytes).max(2 * message).max((rate * 2.0) as u64 + message);
        let held = sender.most_in_flight.iter().map(|(_, held)| *held).max().unwrap_or_default();
        prop_assert!(held <= most, "{held} bytes on their way, and not {most} at most");
        let used = (sender.delivered(from, end) + message) as f64 / (rate * (end - from).as_secs_f64());
        // Two messages that take more than eight seconds go one by one, however well the line is known: the probe has chosen their size.
        let alone = if own > 3.5 { own / (own + round_trip) } else { 1.0 };
        prop_assert!(used > 0.9 * alone, "used {used}");
    }

    /// The bound on memory holds whatever the line does.
    #[test]
    fn the_bound_holds(rate in 1e4_f64..1e9, round_trip in 0.0_f64..0.6, most in 1_u64..64 * MIB, message in 1_u64..2 * MIB) {
        let mut line = Line::new(rate, seconds(round_trip));
        let mut senders = [Sender::new(message, most, Duration::ZERO)];
        run(&mut line, &mut senders, seconds(2.0 + 10.0 * round_trip));
        let held = senders[0].most_in_flight.iter().map(|(_, bytes)| *bytes).max().unwrap_or_default();
        prop_assert!(held <= most.max(message), "{held} of {most}");
    }

    /// A rate that changes tenfold, up or down, is followed.
    #[test]
    fn a_rate_that_changes_is_followed(
        rate in (5.0_f64..8.0).prop_map(|exponent| 10_f64.powf(exponent)),
        factor in prop_oneof![Just(0.1), Just(10.0)],
        round_trip in 0.001_f64..0.6,
    ) {
        let message = message(rate);
        let changes = 20.0 + 20.0 * message as f64 / rate;
        let settled = changes + 40.0 + 20.0 * message as f64 / (rate * factor);
        let end = settled + 20.0 + 20.0 * message as f64 / (rate * factor);
        let mut line = Line::new(rate, seconds(round_trip));
        line.rates.push((seconds(changes), rate * factor));
        let mut senders = [Sender::new(message, 4 << 30, Duration::ZERO)];
        run(&mut line, &mut senders, seconds(end));
        let used = senders[0].delivered(seconds(settled), seconds(end)) as f64 / (rate * factor * (end - settled));
        prop_assert!(used > 0.85, "used {used}");
        let late = senders[0].queued.iter().filter(|(at, _)| *at > seconds(settled)).map(|(_, queued)| queued.as_secs_f64());
        let longest = late.fold(0.0, f64::max);
        prop_assert!(longest <= (2.0 + message as f64 / (rate * factor)).max(2.0 * message as f64 / (rate * factor)), "a queue of {longest} s");
    }

    /// A path that becomes longer or shorter is followed, too.
    #[test]
    fn a_path_that_changes_is_followed(
        rate in (5.0_f64..8.0).prop_map(|exponent| 10_f64.powf(exponent)),
        before in 0.001_f64..0.6,
        after in 0.001_f64..0.6,
    ) {
        let message = message(rate);
        let mut line = Line::new(rate, seconds(before));
        line.round_trip.push((seconds(20.0), seconds(after)));
        let mut senders = [Sender::new(message, 4 << 30, Duration::ZERO)];
        run(&mut line, &mut senders, seconds(120.0));
        let used = senders[0].delivered(seconds(80.0), seconds(120.0)) as f64 / (rate * 40.0);
        prop_assert!(used > 0.85, "used {used}");
    }

    /// Two who share a line get a fair part each: at least a fifth, whoever began first, and together all of it.
    #[test]
    fn two_share_a_line(
        rate in (5.0_f64..8.0).prop_map(|exponent| 10_f64.powf(exponent)),
        round_trip in 0.001_f64..0.6,
        later in 0.0_f64..30.0,
    ) {
        let message = message(rate);
        let mut line = Line::new(rate, seconds(round_trip));
        let mut senders =
            [Sender::new(message, 4 << 30, Duration::ZERO), Sender::new(message, 4 << 30, seconds(later))];
        run(&mut line, &mut senders, seconds(later + 120.0));
        let (from, end) = (seconds(later + 40.0), seconds(later + 120.0));
        let parts = senders.each_ref().map(|sender| sender.delivered(from, end) as f64 / (rate * 80.0));
        prop_assert!(parts[0] + parts[1] > 0.9, "together {parts:?}");
        prop_assert!(parts.iter().all(|part| *part > 0.2), "{parts:?}");
    }
}
