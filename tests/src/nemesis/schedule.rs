//! What is done to whom, when, and for how long: all of it a function of a seed.
//!
//! Every victim has a lane of its own, an endless run of steps. A lane's faults
//! follow one another, those of different lanes overlap as they will.

use std::fmt;
use std::time::Duration;

use crate::files::Random;

/// What can be done to a process, or to its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// SIGKILL. A server stays down for the step's time, a client is restarted by its supervisor.
    Kill,
    /// SIGTERM, otherwise as [`Kill`](Self::Kill).
    Terminate,
    /// SIGSTOP, and SIGCONT after the step's time.
    Stop,
    /// The connections are closed; new ones are welcome.
    Cut,
    /// The connections are closed, and new ones refused for the step's time.
    Refuse,
    /// Connections stay open, and nothing gets through.
    BlackHole,
    /// 200 ms each way.
    Latency,
    /// 1 MiB/s each way.
    Narrow,
    /// The imitation of 1 % lost packets.
    Loss,
}

impl Fault {
    /// All there are, in the order of reports.
    pub const ALL: [Self; 9] = [
        Self::Kill,
        Self::Terminate,
        Self::Stop,
        Self::Cut,
        Self::Refuse,
        Self::BlackHole,
        Self::Latency,
        Self::Narrow,
        Self::Loss,
    ];

    /// Those that a server can suffer: its cables are the clients'.
    const OF_A_SERVER: [Self; 3] = [Self::Kill, Self::Terminate, Self::Stop];

    /// Its name in logs and tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Terminate => "terminate",
            Self::Stop => "stop",
            Self::Cut => "cut",
            Self::Refuse => "refuse",
            Self::BlackHole => "black hole",
            Self::Latency => "latency 200 ms",
            Self::Narrow => "rate 1 MiB/s",
            Self::Loss => "loss 1 %",
        }
    }
}

/// What a victim is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Runs `send`.
    Producer,
    /// Runs `receive`.
    Receiver,
    /// A nats-server.
    Server,
}

impl Kind {
    /// All there are, in the order of reports.
    pub const ALL: [Self; 3] = [Self::Producer, Self::Receiver, Self::Server];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Producer => "producer",
            Self::Receiver => "receiver",
            Self::Server => "server",
        })
    }
}

/// Which server, where there are several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The one that leads the stream of chunks.
    Leader,
    /// One by its number, modulo how many there are.
    Number(usize),
}

/// One fault of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// How long the victim is left in peace before.
    pub pause: Duration,
    /// What is done.
    pub fault: Fault,
    /// For how long; for a cut, and a client's kill or end, without meaning.
    pub lasts: Duration,
    /// To which of several servers; without meaning for clients.
    pub which: Which,
}

/// One victim's faults, without an end.
#[derive(Clone, Debug)]
pub struct Lane {
    random: Random,
    kind: Kind,
}

impl Lane {
    /// The lane of one victim, of which the seed makes a different one for each number.
    #[must_use]
    pub fn new(seed: u64, kind: Kind, number: usize) -> Self {
        let mut of_kind = Random::new(seed ^ (kind as u64) << 60);
        let random = Random::new(of_kind.number().wrapping_add(number as u64));
        Self { random, kind }
    }

    fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.random.below(to - from))
    }
}

impl Iterator for Lane {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let faults: &[Fault] = if self.kind == Kind::Server { &Fault::OF_A_SERVER } else { &Fault::ALL };
        let fault = faults[usize::try_from(self.random.below(faults.len() as u64)).unwrap_or(0)];
        let pause = if self.kind == Kind::Server { self.millis(4_000, 9_000) } else { self.millis(500, 4_000) };
        // Most are short; some outlast the takeover time and a request's deadline.
        let lasts = if self.random.below(5) == 0 { self.millis(3_000, 8_000) } else { self.millis(100, 2_500) };
        let number = usize::try_from(self.random.below(60)).unwrap_or(0);
        let which = if self.random.below(4) == 0 { Which::Number(number) } else { Which::Leader };
        Some(Step { pause, fault, lasts, which })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn steps(seed: u64, kind: Kind, number: usize) -> Vec<Step> {
        Lane::new(seed, kind, number).take(500).collect()
    }

    #[test]
    fn the_seed_decides_everything() {
        for kind in Kind::ALL {
            assert_eq!(steps(7, kind, 1), steps(7, kind, 1));
            assert_ne!(steps(7, kind, 1), steps(8, kind, 1));
            assert_ne!(steps(7, kind, 1), steps(7, kind, 2));
        }
        assert_ne!(steps(7, Kind::Producer, 1), steps(7, Kind::Receiver, 1));
    }

    #[test]
    fn every_fault_comes_to_pass() {
        let seen = |kind| steps(7, kind, 0).iter().map(|step| step.fault).collect::<BTreeSet<_>>();
        assert_eq!(seen(Kind::Producer), BTreeSet::from(Fault::ALL));
        assert_eq!(seen(Kind::Receiver), BTreeSet::from(Fault::ALL));
        assert_eq!(seen(Kind::Server), BTreeSet::from(Fault::OF_A_SERVER));
    }

    #[test]
    fn leaders_are_preferred_and_no_fault_lasts_for_ever() {
        let steps = steps(7, Kind::Server, 0);
        let leaders = steps.iter().filter(|step| step.which == Which::Leader).count();
        assert!(leaders > 300 && leaders < 450, "{leaders}");
        assert!(steps.iter().all(|step| step.lasts < Duration::from_secs(8) && step.pause < Duration::from_secs(9)));
        assert!(steps.iter().any(|step| step.lasts > Duration::from_secs(5)));
    }
}
