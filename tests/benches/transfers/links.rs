//! natsfer over real lines, beside the object store and rsync over the same: how much of the line becomes file, how much is
//! carried for it, and how often a connection is lost.

mod mover;
mod table;

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use natsfer_tests::{Line, Proxy, Stalls, files};
use serde::Serialize;

use crate::{
    contender::Contender,
    contest::at_turn,
    rsync::{self, Daemon},
    scene::{Scene, Site, Source},
};
use mover::{Direction, Mover};

pub(crate) use table::table;

/// The share of the line that is wanted.
const LEAST_GOODPUT: f64 = 0.9;
/// The bytes that may be carried for each of the file: 5 % that come again, and 2 % of framing.
const MOST_CARRIED: f64 = 1.07;

/// A line, and the size of the file that goes over it.
pub(crate) struct Row {
    name: &'static str,
    line: Line,
    bytes: u64,
}

/// What a row has come to.
#[derive(Debug, Serialize)]
pub(crate) struct Journey {
    /// The line's rate, and its round trip.
    name: &'static str,
    bytes_per_second: u64,
    /// Of the file.
    bytes: u64,
    /// The least time the file takes.
    least_seconds: f64,
    standings: Vec<Standing>,
}

/// All rounds of one who moves the file.
#[derive(Debug, Serialize)]
struct Standing {
    mover: Mover,
    rounds: Vec<Finding>,
}

/// What came of one run.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
enum Finding {
    /// The file is there.
    Finished(Sample),
    /// It is not, after five times the least time and 30 s.
    NotFinished { carried: f64, reconnects: u64 },
    /// It gave up, for this reason.
    Failed { reason: String },
    /// This machine does not have it.
    NotThere,
}

/// What one finished run took.
#[derive(Debug, Clone, Copy, Serialize)]
struct Sample {
    seconds: f64,
    /// Bytes of the file for each that the line could have carried meanwhile.
    goodput: f64,
    /// Bytes that went the file's way for each of the file.
    carried: f64,
    reconnects: u64,
}

/// All rows; `scale` divides the files.
pub(crate) fn rows(scale: u64) -> Vec<Row> {
    let milliseconds = Duration::from_millis;
    let stalls = Stalls::new(Duration::from_secs(5), Duration::from_secs(20), 1);
    let row = |name, rate, delay, bytes: u64| Row {
        name,
        line: Line::rate(rate).delay(milliseconds(delay)),
        bytes: bytes / scale,
    };
    let mut stalled = row("8 Mbit/s, 40 ms, 5 s of each 20 stalled", 1_000_000, 20, 20_000_000);
    stalled.line = stalled.line.stalls(stalls);
    vec![
        row("50 kbit/s, 600 ms", 6_250, 300, 800_000),
        row("512 kbit/s, 600 ms", 64_000, 300, 5_760_000),
        row("8 Mbit/s, 40 ms", 1_000_000, 20, 25_000_000),
        row("8 Mbit/s, 600 ms", 1_000_000, 300, 75_000_000),
        row("100 Mbit/s, 150 ms", 12_500_000, 75, 250_000_000),
        row("1 Gbit/s, 100 ms", 125_000_000, 50, 1_875_000_000),
        stalled,
    ]
}

/// Where the movers of one row find what they need.
struct Place {
    scene: Scene,
    daemon: Option<Daemon>,
}

impl Row {
    /// Runs all movers of one direction in turn, in another order each round, and then those of the other.
    pub(crate) async fn measure(&self, rounds: usize) -> Result<Journey> {
        let scene = Scene::set(Source::Random(self.bytes), Site::Loopback).await?;
        let daemon = if rsync::is_installed() { Some(Daemon::start(scene.home()).await?) } else { None };
        let place = Place { scene, daemon };
        let mut standings = Vec::new();
        for direction in [Direction::Up, Direction::Down] {
            if direction == Direction::Down {
                place.store().await?;
            }
            let movers = Mover::of(direction);
            let mut these = movers.map(|mover| Standing { mover, rounds: Vec::new() });
            for round in 0..rounds {
                for turn in 0..these.len() {
                    let standing = &mut these[at_turn(round, turn, movers.len())];
                    if direction == Direction::Up {
                        place.scene.clear().await?;
                    }
                    let finding = self.run(standing.mover, &place, round).await?;
                    eprintln!("{:40} round {round}  {:18} {finding}", self.name, standing.mover.label());
                    standing.rounds.push(finding);
                }
            }
            standings.extend(these);
        }
        let least_seconds = self.line.takes(self.bytes).as_secs_f64();
        let (name, bytes, bytes_per_second) = (self.name, self.bytes, self.line.bytes_per_second());
        Ok(Journey { name, bytes_per_second, bytes, least_seconds, standings })
    }

    /// Moves the file once, over a line of its own.
    async fn run(&self, mover: Mover, place: &Place, round: usize) -> Result<Finding> {
        let Some(server) = mover.server(place) else {
            return Ok(Finding::NotThere);
        };
        let proxy = Proxy::to(&server).await;
        let name = format!("{round}-{mover:?}");
        let into = place.scene.home().join(&name);
        let limit = 5 * self.line.takes(self.bytes) + Duration::from_secs(30);
        let command = mover.command(&proxy, place, &name, &into).limit(limit);
        rustix::fs::sync();
        proxy.line(self.line);
        let start = Instant::now();
        let running = command.spawn().await;
        let ended = running.end().await;
        let took = start.elapsed();
        // Killed, if it has not ended.
        drop(running);
        let bytes = match mover.direction() {
            Direction::Up => proxy.bytes_up(),
            Direction::Down => proxy.bytes_down(),
        };
        let (carried, reconnects) = (bytes as f64 / self.bytes as f64, proxy.connections_made().saturating_sub(1));
        let finding = match ended {
            Err(_) => Finding::NotFinished { carried, reconnects },
            Ok(output) if output.code() != Some(0) => {
                let errors = output.errors();
                let reason = errors.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it did not say why");
                Finding::Failed { reason: reason.trim().to_owned() }
            }
            Ok(_) => {
                mover.arrived(place, &name, &into).map_or(Ok(()), |file| same(place.scene.source(), &file))?;
                let goodput = self.bytes as f64 / self.line.carries(took) as f64;
                Finding::Finished(Sample { seconds: took.as_secs_f64(), goodput, carried, reconnects })
            }
        };
        for left in [into, place.pushed(&name).unwrap_or_default()] {
            if left.is_dir() {
                fs::remove_dir_all(left).context("cannot remove what a run left")?;
            }
        }
        Ok(finding)
    }
}

impl Place {
    /// Stores what is received, without a line.
    async fn store(&self) -> Result<()> {
        self.scene.clear().await?;
        for contender in [Contender::Send, Contender::Put] {
            contender.run(&self.scene, "stored").await?;
        }
        if let Some(daemon) = &self.daemon {
            ensure!(daemon.is_running(), "rsync's daemon has ended");
            fs::hard_link(self.scene.source(), daemon.directory().join(mover::STORED))?;
        }
        Ok(())
    }

    /// Where a push of that name leaves its file.
    fn pushed(&self, name: &str) -> Option<std::path::PathBuf> {
        Some(self.daemon.as_ref()?.directory().join(name))
    }
}

fn same(source: &Path, arrived: &Path) -> Result<()> {
    ensure!(files::digest(source) == files::digest(arrived), "{} is another file", arrived.display());
    Ok(())
}
