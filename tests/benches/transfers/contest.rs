//! The contests: who is measured against whom, on what, and what ratio is to be reached.

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::{
    contender::{Contender, Sample},
    scene::{GIB, MIB, Scene, Site, Source},
};
use Contender::{Copy, Drain, DrainSynced, Get, Live, Publish, Put, PutThenGet, Receive, Send, SendPlain};

/// Contenders that take turns in one scene.
pub(crate) struct Contest {
    pub(crate) name: &'static str,
    pub(crate) source: Source,
    pub(crate) site: Site,
    pub(crate) stage: Stage,
    pub(crate) contenders: Vec<Contender>,
    pub(crate) goals: Vec<Goal>,
}

/// What lies in the streams when a run begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nothing.
    Empty,
    /// The source, once as each contender stores it.
    Stored,
    /// What the one before has left; nothing, for the first one.
    Kept,
}

/// Who is compared with whom, and how many times as good it is to be.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Goal {
    pub(crate) measure: Measure,
    pub(crate) ours: Contender,
    pub(crate) theirs: Contender,
    /// Nothing where a ceiling is compared: it shows what there is to reach.
    pub(crate) at_least: Option<f64>,
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Measure {
    /// Bytes per second, of all that run at once.
    Speed,
    /// The client side's processor time, the less the better.
    Processor,
}

const fn goal(ours: Contender, theirs: Contender, at_least: f64) -> Goal {
    Goal { measure: Measure::Speed, ours, theirs, at_least: Some(at_least) }
}

const fn ceiling(ours: Contender, theirs: Contender) -> Goal {
    Goal { measure: Measure::Speed, ours, theirs, at_least: None }
}

const fn half_the_processor(ours: Contender, theirs: Contender) -> Goal {
    Goal { measure: Measure::Processor, ours, theirs, at_least: Some(2.0) }
}

/// All contests; `scale` divides the sizes.
pub(crate) fn all(scale: u64) -> Vec<Contest> {
    let large = Source::Random(3 * GIB / 2 / scale);
    let logs = Source::Logs(GIB / scale);
    let small = Source::Small(10_000 / scale as usize);
    let contest =
        |name, source, site, stage, contenders, goals| Contest { name, source, site, stage, contenders, goals };
    use {
        Site::{Busy, Link, Loopback, Replicated},
        Stage::{Empty, Kept, Stored},
    };
    vec![
        contest(
            "send",
            large,
            Loopback,
            Empty,
            vec![Send, Publish, SendPlain, Put, Copy],
            vec![
                goal(Send, Put, 3.0),
                ceiling(Publish, Put),
                goal(Send, Publish, 0.9),
                goal(Send, SendPlain, 0.97),
                half_the_processor(Send, Put),
            ],
        ),
        contest("busy", large, Busy, Empty, vec![Send, Publish], vec![goal(Send, Publish, 0.8)]),
        contest(
            "receive",
            large,
            Loopback,
            Stored,
            vec![Receive(1), Drain(1), DrainSynced, Get],
            vec![
                goal(Receive(1), Get, 4.0),
                ceiling(Drain(1), Get),
                goal(Receive(1), Drain(1), 0.9),
                goal(Receive(1), DrainSynced, 0.9),
                half_the_processor(Receive(1), Get),
            ],
        ),
        contest("live", large, Loopback, Empty, vec![Live, PutThenGet], vec![goal(Live, PutThenGet, 4.0)]),
        contest("fan-out", large, Loopback, Stored, vec![Receive(8), Drain(8)], vec![goal(Receive(8), Drain(8), 0.9)]),
        contest(
            "send-small",
            small,
            Loopback,
            Empty,
            vec![Send, Put, Publish],
            vec![goal(Send, Put, 10.0), ceiling(Publish, Put)],
        ),
        contest(
            "receive-small",
            small,
            Loopback,
            Stored,
            vec![Receive(1), Get, Drain(1)],
            vec![goal(Receive(1), Get, 10.0), ceiling(Drain(1), Get)],
        ),
        contest("logs", logs, Loopback, Empty, vec![Send, SendPlain], vec![goal(Send, SendPlain, 0.97)]),
        contest("logs-link", logs, Link(20 * MIB), Empty, vec![Send, SendPlain], vec![goal(Send, SendPlain, 2.5)]),
        contest(
            "replicas",
            large,
            Replicated,
            Empty,
            vec![Send, Put, Publish],
            vec![goal(Send, Put, 2.5), ceiling(Publish, Put)],
        ),
        contest("memory", Source::Sparse(10 * GIB / scale), Loopback, Kept, vec![SendPlain, Receive(1)], vec![]),
    ]
}

/// What a contest has come to.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) name: &'static str,
    /// Bytes of the source.
    pub(crate) bytes: u64,
    pub(crate) contenders: Vec<Standing>,
    pub(crate) ratios: Vec<Ratio>,
}

/// All rounds of one contender.
#[derive(Debug, Serialize)]
pub(crate) struct Standing {
    pub(crate) contender: Contender,
    pub(crate) rounds: Vec<Sample>,
}

/// A goal, and the ratio of bytes per second in each round.
#[derive(Debug, Serialize)]
pub(crate) struct Ratio {
    pub(crate) goal: Goal,
    pub(crate) rounds: Vec<f64>,
}

impl Contest {
    /// Runs all contenders in turn, in another order each round.
    pub(crate) async fn hold(&self, rounds: usize) -> Result<Outcome> {
        let scene = Scene::set(self.source, self.site).await?;
        if self.stage == Stage::Stored {
            scene.store().await?;
        }
        let mut standings: Vec<_> =
            self.contenders.iter().map(|&contender| Standing { contender, rounds: Vec::new() }).collect();
        for round in 0..rounds {
            let count = standings.len();
            for turn in 0..count {
                let at = if self.stage == Stage::Kept { turn } else { at_turn(round, turn, count) };
                let standing = &mut standings[at];
                if self.stage == Stage::Empty || (self.stage == Stage::Kept && turn == 0) {
                    scene.clear().await?;
                }
                let sample = standing.contender.run(&scene, &format!("round-{round}")).await?;
                let (label, rate) = (standing.contender.label(), sample.rate(scene.bytes()));
                eprintln!("{:14} round {round}  {label:34} {:8.3} s  {rate:7.0} MiB/s", self.name, sample.seconds);
                standing.rounds.push(sample);
            }
        }
        if self.stage == Stage::Stored && scene.files() == 1 {
            let stored = scene.stored_bytes().await?;
            ensure!(stored < scene.bytes() + scene.bytes() / 20, "{stored} bytes are stored of {}", scene.bytes());
        }
        let ratios = self.goals.iter().map(|&goal| Ratio { goal, rounds: ratios(&standings, goal) }).collect();
        Ok(Outcome { name: self.name, bytes: scene.bytes(), contenders: standings, ratios })
    }
}

/// Whose turn it is, of so many. Forwards, then backwards: nobody always runs behind the same one.
pub(crate) fn at_turn(round: usize, turn: usize, count: usize) -> usize {
    if round.is_multiple_of(2) {
        (turn + round / 2) % count
    } else {
        (2 * count - 1 - turn - (round / 2) % count) % count
    }
}

fn ratios(standings: &[Standing], Goal { measure, ours, theirs, .. }: Goal) -> Vec<f64> {
    let of = |contender: Contender| -> Vec<f64> {
        let standing = standings.iter().find(|standing| standing.contender == contender);
        let cost = |sample: &Sample| match measure {
            Measure::Speed => sample.seconds / contender.times() as f64,
            Measure::Processor => sample.client.cpu_seconds,
        };
        standing.map(|standing| standing.rounds.iter().map(cost).collect()).unwrap_or_default()
    };
    of(ours).iter().zip(of(theirs)).map(|(ours, theirs)| theirs / ours).collect()
}

/// The middle one; the mean of the two in the middle of an even number.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}
