//! Seeded runs of the decisions and the journal against streams, disks, senders and receivers that fail in every way there
//! is a name for. See `simulation/world.rs` for what a run is, `simulation/check.rs` for what is counted.
//!
//! `NATSFER_SIM_RUNS` sets how many runs, `NATSFER_SIM_BASE` where their seeds begin, `NATSFER_SIM_SEED` replays one seed and
//! prints all that happens in it.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "all of it is a test")]

#[path = "simulation/check.rs"]
mod check;
#[path = "simulation/disk.rs"]
mod disk;
#[path = "simulation/ending.rs"]
mod ending;
#[path = "simulation/faults.rs"]
mod faults;
#[path = "simulation/process.rs"]
mod process;
#[path = "simulation/receiver.rs"]
mod receiver;
#[path = "simulation/rng.rs"]
mod rng;
#[path = "simulation/sender.rs"]
mod sender;
#[path = "simulation/source.rs"]
mod source;
#[path = "simulation/stream.rs"]
mod stream;
#[path = "simulation/watch.rs"]
mod watch;
#[path = "simulation/world.rs"]
mod world;

use std::{
    cell::RefCell,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    rc::Rc,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Instant,
};

use check::{Sabotage, Seen, Tally};
use disk::{Access, Disk, Fuse};
use faults::of_another;
use natsfer_common::Part;
use rng::Rng;
use source::Source;
use world::Failure;

/// Steps of a trace that are told.
const TOLD: usize = 40;
/// Runs within which a sabotage has to be noticed.
const SABOTAGED_RUNS: u64 = 5_000;

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not '{text}'")))
}

/// One run. What panics is told with its seed, like what is found wrong.
fn run(seed: u64, sabotage: Option<Sabotage>) -> Result<Tally, Failure> {
    match catch_unwind(AssertUnwindSafe(|| world::run(seed, sabotage, false))) {
        Ok(result) => result.map(|(tally, _)| tally),
        Err(panic) => {
            println!("seed {seed} panicked: NATSFER_SIM_SEED={seed} replays it");
            resume_unwind(panic)
        }
    }
}

/// A failed run again, with its trace.
fn tell(seed: u64) -> String {
    let Err(Failure { violation, trace }) = world::run(seed, None, true) else {
        return format!(
            "seed {seed} failed, and does not when it is run again: the simulation depends on more than its seed"
        );
    };
    let told = trace[trace.len().saturating_sub(TOLD)..].join("\n");
    let replay = format!("NATSFER_SIM_SEED={seed} cargo test -p natsfer-common --test simulation -- --nocapture runs");
    format!("seed {seed}: {}\nthe last steps:\n{told}\nreplay all of it: {replay}", violation.0)
}

#[test]
fn runs_hold_what_is_promised() {
    if let Some(seed) = setting("NATSFER_SIM_SEED") {
        let (trace, violation) = match world::run(seed, None, true) {
            Ok((tally, trace)) => (trace, format!("nothing is wrong\n{tally}")),
            Err(Failure { violation, trace }) => (trace, violation.0),
        };
        println!("{}\nseed {seed}: {violation}", trace.join("\n"));
        assert!(violation.starts_with("nothing"), "seed {seed}: {violation}");
        return;
    }
    let runs = setting("NATSFER_SIM_RUNS").unwrap_or(100_000);
    let base = setting("NATSFER_SIM_BASE").unwrap_or(0);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let (next, failed) = (AtomicU64::new(0), AtomicU64::new(u64::MAX));
    let started = Instant::now();
    let worker = || {
        let mut tally = Tally::default();
        while failed.load(Ordering::Relaxed) == u64::MAX {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= runs {
                break;
            }
            match run(base + number, None) {
                Ok(of_run) => tally.add(&of_run),
                Err(_) => _ = failed.fetch_min(base + number, Ordering::Relaxed),
            }
        }
        tally
    };
    let mut tally = Tally::default();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        for worker in workers {
            tally.add(&worker.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
    });
    let failed = failed.into_inner();
    assert!(failed == u64::MAX, "{}", tell(failed));
    println!("{tally}{runs} runs from seed {base} in {:?} on {threads} threads", started.elapsed());
    // Fewer runs, of one's own choice, may leave something out.
    let rare: Vec<_> = Seen::ALL.iter().filter(|seen| tally.of(**seen) < runs / 1_000).collect();
    assert!(rare.is_empty(), "hardly happened, so nothing was shown about it: {rare:?}");
}

#[test]
fn every_sabotage_is_noticed() {
    let mut unnoticed = Vec::new();
    for sabotage in Sabotage::ALL {
        let noticed = (0..SABOTAGED_RUNS).find_map(|seed| Some((seed, run(seed, Some(*sabotage)).err()?)));
        match noticed {
            Some((seed, failure)) => println!("{sabotage:?}: seed {seed}: {}", failure.violation.0),
            None => unnoticed.push(sabotage),
        }
    }
    assert!(unnoticed.is_empty(), "went unnoticed: {unnoticed:?}");
}

/// A process that finds another transfer's journal and part begins anew. Killed at any operation, begun again, and the
/// machine stopped: nothing of the other transfer is taken for its own.
#[test]
fn nothing_of_another_transfer_is_believed() {
    for seed in 0..20_000 {
        let mut rng = Rng::new(seed);
        let manifest = Source::new(&mut rng).manifest;
        let mut disk = Disk::new(Rng::new(seed), 0, None);
        let (journal, part) = of_another(&manifest, &mut rng);
        disk.journal.damage(|bytes| *bytes = journal);
        disk.part.damage(|bytes| *bytes = part);
        let disk = Rc::new(RefCell::new(disk));
        for _ in 0..2 {
            disk.borrow_mut().fuse = Fuse::Lit(rng.below(8) as u32);
            let _ = Part::open(Access(disk.clone()), &manifest);
        }
        disk.borrow_mut().fuse = Fuse::None;
        disk.borrow_mut().machine_stops();
        let part = Part::open(Access(disk), &manifest).unwrap();
        assert!(part.held().is_empty(), "seed {seed}: {} are believed", part.held());
    }
}
