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

use std::time::Duration;

use natsfer_common::cli::{Globals, Offline, Outcome, Program};

/// Send files over NATS JetStream
#[derive(Debug, clap::Parser)]
#[command(name = "natsfer-producer", version, about, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

impl Program for Arguments {
    fn globals(&mut self) -> &mut Globals {
        &mut self.globals
    }
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
    #[command(flatten)]
    Online(Online),
    #[command(flatten)]
    Offline(Offline),
}

/// What needs the server.
#[derive(Debug, clap::Subcommand)]
enum Online {
    Send(send::Send),
    Status(status::Status),
    Verify(verify::Verify),
    Cancel(cancel::Cancel),
    Prune(prune::Prune),
    Init(init::Init),
}

/// Runs one command.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<Outcome> {
    let command = match arguments.command {
        Command::Online(command) => command,
        Command::Offline(command) => return command.run::<Arguments>().await,
    };
    match &command {
        Online::Send(send) => send.check_usage(),
        Online::Prune(prune) => prune.check_usage(),
        _ => {}
    }
    let patience = if let Online::Send(send) = &command { send.patience() } else { Duration::ZERO };
    let broker = arguments.globals.server.connect("natsfer-producer", patience).await?;
    let result = match command {
        Online::Send(send) => send.run(&broker).await,
        Online::Status(status) => status.run(&broker).await,
        Online::Verify(verify) => verify.run(&broker).await,
        Online::Cancel(cancel) => cancel.run(&broker).await,
        Online::Prune(prune) => prune.run(&broker).await,
        Online::Init(init) => init.run(&broker).await,
    };
    broker.close().await;
    result
}
