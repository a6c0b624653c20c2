//! natsfer beside its peers: the same files, the same server, in turn, in one run. See BENCHMARKS.md.
#![expect(clippy::print_stderr, reason = "it is a program for people to look at")]

mod contender;
mod contest;
mod peer;
mod scene;

use anyhow::Result;
use clap::Parser;

use contest::median;
use natsfer_tests::our_binary;
use peer::Peer;

/// Measures natsfer beside its peers
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    peer: Option<Run>,
    /// Rounds of each contest
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Divide all sizes by this
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=64))]
    scale: u64,
    /// Only these contests, comma-separated
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
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

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(Run::Peer(peer)) = arguments.peer {
        return peer.run().await;
    }
    // No run is to wait for the building.
    tokio::task::spawn_blocking(|| our_binary("natsfer-producer")).await??;
    for contest in contest::all(arguments.scale) {
        if !arguments.only.is_empty() && !arguments.only.iter().any(|name| name == contest.name) {
            continue;
        }
        let outcome = contest.hold(arguments.rounds).await?;
        for ratio in &outcome.ratios {
            let (ours, theirs) = (ratio.goal.ours.label(), ratio.goal.theirs.label());
            let found = median(ratio.rounds.iter().copied());
            eprintln!("{} : {ours} / {theirs}: {found:.2} (at least {})", outcome.name, ratio.goal.at_least);
        }
        for standing in &outcome.contenders {
            let cpu = median(standing.rounds.iter().map(|sample| sample.cpu_per_gib(outcome.bytes).0));
            let server = median(standing.rounds.iter().map(|sample| sample.cpu_per_gib(outcome.bytes).1));
            let peak = standing.rounds.iter().map(|sample| sample.client.peak_bytes).max().unwrap_or(0) >> 20;
            let seconds = median(standing.rounds.iter().map(|sample| sample.seconds));
            eprintln!(
                "   {:34} {seconds:8.3} s  cpu/GiB {cpu:.2} (server {server:.2})  peak {peak} MiB",
                standing.contender.label()
            );
        }
    }
    Ok(())
}
