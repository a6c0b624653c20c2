//! The command line.

mod cancel;
mod delivery;
mod init;
mod prune;
mod said;
mod send;
mod send_options;
mod sources;
mod status;
mod verify;
mod watch;

use std::time::Duration;

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
  Send, and return when two receivers have it:
    natsfer-producer send --wait-for billing,archive report.pdf
  Send what comes into a directory, from now on, and move it away once two receivers have it:
    natsfer-producer watch outbox/ --after-delivery billing,archive --then move --move-to sent/
  See who has it, and whether the stored copy is whole:
    natsfer-producer status 4be6c1e2d4b0f7a09c1d2e3f40516273
    natsfer-producer verify report.pdf
  Remove what two receivers have, and what nothing has happened to for a month:
    natsfer-producer prune --delivered-to billing,archive
    natsfer-producer prune --older-than 30d
  Create the streams with three replicas and at most 100 GiB each:
    natsfer-producer init --replicas 3 --max-bytes 100GiB

Sending again what was sent publishes only what is missing, and what receivers have asked for again.
Exit codes: 0 done, 1 something failed, 2 wrong usage.";

#[derive(Debug, clap::Subcommand)]
enum Command {
    Send(send::Send),
    Watch(watch::Watch),
    Status(status::Status),
    Verify(verify::Verify),
    Cancel(cancel::Cancel),
    Prune(prune::Prune),
    Init(init::Init),
}

/// Runs one command.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<Outcome> {
    arguments.server.start_logging();
    match &arguments.command {
        Command::Send(send) => send.check_usage(),
        Command::Prune(prune) => prune.check_usage(),
        Command::Watch(watch) => watch.check_usage(),
        _ => {}
    }
    // It looks at its directory first, and can be stopped while it waits for a server.
    if let Command::Watch(watch) = arguments.command {
        return watch.run(&arguments.server).await;
    }
    let patience = if let Command::Send(send) = &arguments.command { send.patience() } else { Duration::ZERO };
    let broker = arguments.server.connect("natsfer-producer", patience).await?;
    let result = match arguments.command {
        Command::Send(send) => send.run(&broker).await,
        Command::Watch(_) => Ok(Outcome::Done),
        Command::Status(status) => status.run(&broker).await,
        Command::Verify(verify) => verify.run(&broker).await,
        Command::Cancel(cancel) => cancel.run(&broker).await,
        Command::Prune(prune) => prune.run(&broker).await,
        Command::Init(init) => init.run(&broker).await,
    };
    broker.close().await;
    result
}
