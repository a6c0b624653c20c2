//! Whether the server still serves what was asked of it: a decision without a clock and without a network.
//!
//! How long nothing comes says nothing by itself: a heartbeat may wait behind megabytes, or the line may stand still for a while. But
//! all that a server sends over a connection comes in the order in which it was sent. A *sign* is an empty message that comes back. When it
//! comes, the server has received all that was asked before it, and all that it had sent before has arrived. So what was asked for is
//! lost only if nothing of it comes between two signs that are more than two heartbeats apart.

use std::time::Duration;

/// A sign is asked for after so many heartbeats' time without one, and the second sign so long after the first.
const MISSED: f64 = 2.5;

/// Watches over what was asked of a consumer whose server promises heartbeats.
#[derive(Debug, Clone)]
pub(crate) struct Liveness {
    /// [`MISSED`] heartbeats.
    quiet: Duration,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Something of it came at this time.
    Heard { at: Duration },
    /// Nothing came for a while. Perhaps the server has not been reached yet.
    FirstSign,
    /// It has been reached: heartbeats are sent since before this time.
    Reached { at: Duration },
    /// Whatever was sent until now comes before this sign.
    SecondSign,
    /// Nothing came before it.
    Lost,
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watch {
    /// Nothing before this time.
    Rest { until: Duration },
    /// Wait for a sign of the server: [`Liveness::sign`] says that it came.
    AwaitSign,
    /// Ask for everything anew.
    Lost,
}

impl Liveness {
    /// Asked now of a server that promises to be heard at least this often.
    pub(crate) fn new(now: Duration, heartbeat: Duration) -> Self {
        Self { quiet: heartbeat.mul_f64(MISSED), phase: Phase::Heard { at: now } }
    }

    /// Something of what was asked for came, or it was asked for anew.
    pub(crate) fn heard(&mut self, now: Duration) {
        self.phase = Phase::Heard { at: now };
    }

    /// The sign came that was waited for.
    pub(crate) fn sign(&mut self, now: Duration) {
        self.phase = match self.phase {
            Phase::FirstSign => Phase::Reached { at: now },
            Phase::SecondSign => Phase::Lost,
            // Something else was heard meanwhile.
            other => other,
        };
    }

    /// What is to be done. A sign must be asked for no earlier than this says so.
    pub(crate) fn watch(&mut self, now: Duration) -> Watch {
        let (at, next) = match self.phase {
            Phase::Heard { at } => (at, Phase::FirstSign),
            Phase::Reached { at } => (at, Phase::SecondSign),
            Phase::FirstSign | Phase::SecondSign => return Watch::AwaitSign,
            Phase::Lost => return Watch::Lost,
        };
        if now < at + self.quiet {
            return Watch::Rest { until: at + self.quiet };
        }
        self.phase = next;
        Watch::AwaitSign
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    const HEARTBEAT: u64 = 2_000;

    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Sent {
        Heartbeat,
        Sign,
    }

    /// One direction of a line: in order, and as late as it likes.
    #[derive(Default)]
    struct Way(VecDeque<(u64, Sent)>);

    impl Way {
        fn send(&mut self, arrives: u64, what: Sent) {
            let after = self.0.back().map_or(0, |(at, _)| *at);
            self.0.push_back((arrives.max(after), what));
        }

        fn arrived(&mut self, now: u64) -> Option<Sent> {
            self.0.front().filter(|(at, _)| *at <= now)?;
            self.0.pop_front().map(|(_, what)| what)
        }
    }

    /// Runs a server that serves until `ends`, in milliseconds, over a line that delays each message by one of these times, and says
    /// when it is taken for lost, if within `most`.
    fn lost_after(ends: u64, most: u64, delays: &[u64]) -> Option<u64> {
        let time = Duration::from_millis;
        let (mut up, mut down) = (Way::default(), Way::default());
        let mut delays = delays.iter().copied().cycle();
        let mut liveness = Liveness::new(time(0), time(HEARTBEAT));
        // What was asked for reaches the server behind one delay.
        let (served_from, mut heartbeat_at) = (delays.next().unwrap_or(0), None);
        let mut asking = false;
        for now in (0..most).step_by(10) {
            if heartbeat_at.is_none_or(|at| at <= now) && now >= served_from && now < ends {
                heartbeat_at = Some(now + HEARTBEAT);
                down.send(now + delays.next().unwrap_or(0), Sent::Heartbeat);
            }
            while up.arrived(now).is_some() {
                down.send(now + delays.next().unwrap_or(0), Sent::Sign);
            }
            while let Some(came) = down.arrived(now) {
                match came {
                    Sent::Heartbeat => liveness.heard(time(now)),
                    Sent::Sign => {
                        asking = false;
                        liveness.sign(time(now));
                    }
                }
            }
            match liveness.watch(time(now)) {
                Watch::AwaitSign if !asking => {
                    asking = true;
                    // Behind what was asked for, which reaches the server in order.
                    up.send((now + delays.next().unwrap_or(0)).max(served_from), Sent::Sign);
                }
                Watch::Lost => return Some(now),
                Watch::AwaitSign | Watch::Rest { .. } => {}
            }
        }
        None
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3_000))]
        /// However long the line stands still, and whatever the rate changes to.
        #[test]
        fn who_serves_is_never_taken_for_lost(delays in proptest::collection::vec(0u64..60_000, 1..12)) {
            prop_assert_eq!(lost_after(u64::MAX, 300_000, &delays), None);
        }

        #[test]
        fn who_does_not_is_found_out(
            ends in 0u64..30_000, delays in proptest::collection::vec(0u64..20_000, 1..12),
        ) {
            let longest = delays.iter().max().copied().unwrap_or(0);
            let lost = lost_after(ends, 600_000, &delays);
            prop_assert!(lost.is_some_and(|at| at <= ends + 9 * longest + 14_000), "{:?}", lost);
        }
    }

    #[test]
    fn on_a_fast_line_it_is_found_out_in_five_heartbeats() {
        assert!(lost_after(0, 60_000, &[1]).is_some_and(|at| at <= 5 * HEARTBEAT + 100));
    }
}
