//! The command line.

mod init;
mod send;
mod sources;

use natsfer_common::cli::{Outcome, ServerArguments};

/// Send files over NATS JetStream
#[derive(Debug, clap::Parser)]
#[command(name = "natsfer-producer", version, about, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    server: ServerArguments,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  Send a file, or a directory with all that is in it:
    natsfer-producer send report.pdf
    natsfer-producer send -c invoices.eu 2026/
  Send what a program writes:
    pg_dump shop | natsfer-producer send -c backups --name shop.sql -
  Create the streams with three replicas and at most 100 GiB each:
    natsfer-producer init --replicas 3 --max-bytes 100GiB

Sending again what was sent publishes only what is missing.
Exit codes: 0 done, 1 something failed, 2 wrong usage.";

#[derive(Debug, clap::Subcommand)]
enum Command {
    Send(send::Send),
    Init(init::Init),
}

/// Runs one command.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<Outcome> {
    arguments.server.start_logging();
    if let Command::Send(send) = &arguments.command {
        send.check_usage();
    }
    let broker = arguments.server.connect("natsfer-producer").await?;
    let result = match arguments.command {
        Command::Send(send) => send.run(&broker).await,
        Command::Init(init) => init.run(&broker).await,
    };
    broker.close().await;
    result
}
