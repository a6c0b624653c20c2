//! A run of the nemesis as long as one likes: one line for each fault on standard error, and a report in Markdown on
//! standard output. Ends with 1 if anything was not as it should be.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it is a program for people to look at")]

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::Parser;
use natsfer_tests::nemesis::Nemesis;

/// Real producers, receivers and servers under random faults.
#[derive(Debug, Parser)]
struct Arguments {
    /// How long faults are injected.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Decides about all faults and files; taken from the clock if not given.
    #[arg(long)]
    seed: Option<u64>,
    /// Three servers with three copies of everything, instead of one.
    #[arg(long)]
    cluster: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let nemesis = Nemesis::new(arguments.seed.unwrap_or_else(from_the_clock));
    let nemesis = nemesis.lasting(Duration::from_secs(arguments.seconds));
    let nemesis = if arguments.cluster { nemesis.on_a_cluster() } else { nemesis };
    let report = nemesis.run().await;
    println!("{report}");
    for failure in &report.failures {
        eprintln!("seed {}: {failure}", report.seed);
    }
    if report.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn from_the_clock() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs())
}
