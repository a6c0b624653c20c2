//! natsfer beside its peers: the same files, the same server, in turn, in one run. See BENCHMARKS.md.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it is a program for people to look at")]

mod chart;
mod contender;
mod contest;
mod growth;
mod latency;
mod links;
mod peer;
mod report;
mod rsync;
mod scene;

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use natsfer_tests::our_binary;
use tokio::runtime::Builder;

use peer::Peer;
use report::{Machine, Report};

/// Measures natsfer beside its peers
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    peer: Option<Run>,
    /// Rounds of each contest
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Divide all sizes by this, for a quick look
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=64))]
    scale: u64,
    /// Only these: send, busy, receive, live, fan-out, send-small, receive-small, logs, logs-link, replicas, memory, latency, growth,
    /// links
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    only: Vec<String>,
    /// Where to write results.json, results.md and chart.svg
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/benchmarks"))]
    out: PathBuf,
    /// What cargo passes to benchmarks
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Run {
    /// One run of a peer: what the benchmark starts
    #[command(subcommand, hide = true)]
    Peer(Peer),
}

impl Arguments {
    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }
}

fn main() -> Result<()> {
    let mut arguments = Arguments::parse();
    match arguments.peer.take() {
        // As natsfer's programs: what only talks to the server is faster on one thread.
        Some(Run::Peer(peer)) => Builder::new_current_thread().enable_all().build()?.block_on(peer.run()),
        None => Builder::new_multi_thread().enable_all().build()?.block_on(run(arguments)),
    }
}

async fn run(arguments: Arguments) -> Result<()> {
    // No run is to wait for the building.
    tokio::task::spawn_blocking(|| our_binary("natsfer-producer")).await??;
    let (rounds, scale) = (arguments.rounds, arguments.scale);
    let mut report = Report::new(Machine::this(), rounds, scale);
    for contest in contest::all(scale) {
        if arguments.wants(contest.name) {
            report.contests.push(contest.hold(rounds).await?);
            // What fails later loses nothing of it.
            report.write(&arguments.out)?;
        }
    }
    if arguments.wants("latency") {
        report.latency = latency::compare(rounds, 200).await?;
    }
    if arguments.wants("growth") {
        let levels = [10, 1_000, 10_000, 100_000].map(|transfers| (transfers / scale as usize).max(10));
        report.growth = growth::measure(&levels, rounds).await?;
    }
    if arguments.wants("links") {
        for row in links::rows(scale) {
            report.links.push(row.measure(rounds).await?);
            report.write(&arguments.out)?;
        }
    }
    report.write(&arguments.out)?;
    println!("{}", report.tables()?);
    println!("Written to {}", arguments.out.display());
    Ok(())
}
