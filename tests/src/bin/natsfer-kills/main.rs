//! Counts the bytes that move twice when `send` and `receive` are killed at random moments of one file, and started
//! again. Prints a table in Markdown; fails if a file does not arrive byte for byte.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it is a program for people to look at")]

mod receiving;
mod sending;
mod table;
mod trial;

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Parser;
use natsfer_tests::files::{self, Random};
use natsfer_tests::{Server, our_binary};

/// Kills `send` and `receive` at random moments, and counts the bytes that move twice.
#[derive(Debug, Parser)]
struct Arguments {
    /// How often each of the two is killed.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
    kills: u64,
    /// Size of the file in MiB. Four times as much is needed in the temporary directory.
    #[arg(long, default_value_t = 1536, value_parser = clap::value_parser!(u64).range(16..))]
    mib: u64,
    /// Decides about the moments.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Also print each kill.
    #[arg(short, long)]
    verbose: bool,
}

/// What both sides work with.
struct Bench {
    server: Server,
    home: tempfile::TempDir,
    source: PathBuf,
    size: u64,
}

impl Bench {
    fn inbox(&self) -> PathBuf {
        self.home.path().join("inbox")
    }

    /// Compares what has arrived, and makes room for the next.
    fn check(&self, inbox: &Path) -> Result<()> {
        files::same_tree(&self.source, inbox.join("source.bin"))?;
        Ok(std::fs::remove_dir_all(inbox)?)
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    tokio::task::spawn_blocking(|| our_binary("natsfer-producer")).await??;
    let home = tempfile::tempdir()?;
    let (source, size) = (home.path().join("source.bin"), arguments.mib << 20);
    files::random_file(&source, size, arguments.seed);
    let bench = Bench { server: Server::start().await, home, source, size };
    let mut random = Random::new(arguments.seed);
    eprintln!("seed {}: {} kills of each, {} MiB", arguments.seed, arguments.kills, arguments.mib);

    let sends = sending::kill(&bench, arguments.kills, &mut random).await?;
    let receives = receiving::kill(&bench, arguments.kills, &mut random).await?;
    println!("Seed {}, {} MiB; MiB that moved twice:\n", arguments.seed, arguments.mib);
    print!("{}", table::summary(&[("send", &sends), ("receive", &receives)]));
    if arguments.verbose {
        println!("\n{}", table::details(&[("send", &sends), ("receive", &receives)]));
    }
    Ok(())
}
