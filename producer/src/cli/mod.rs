//! The command line.

mod awaited;
mod cancel;
mod delivery;
mod doctor;
mod init;
mod preview;
mod prune;
mod said;
mod send;
mod send_options;
mod sources;
mod verify;
mod watch;

use std::time::Duration;

use clap::CommandFactory as _;
use natsfer_common::cli::{Globals, Offline, Outcome, Program, look::Look};

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
  Send what comes into a directory, from now on, and move it away once two receivers have it:
    natsfer-producer watch outbox/ --after-delivery billing,archive --then move --move-to sent/
  See who has it, and whether the stored copy is whole:
    natsfer-producer status 4be6c1e2
    natsfer-producer verify report.pdf
  See what is stored, who lags behind, what happened, and whether all is as it should be:
    natsfer-producer list '*.pdf'
    natsfer-producer receivers
    natsfer-producer history --since 2h
    natsfer-producer doctor -c invoices.eu
  Remove what two receivers have, and what nothing has happened to for a month:
    natsfer-producer prune --delivered-to billing,archive
    natsfer-producer prune --older-than 30d
  See what would be sent, and what is stored already:
    natsfer-producer send --dry-run 2026/
  Create the streams with three replicas and at most 100 GiB each:
    natsfer-producer init --replicas 3 --max-bytes 100GiB

Sending again what was sent publishes only what is missing, and what receivers have asked for again.
Exit codes: 0 done, 1 something failed, 2 wrong usage.";

#[derive(Debug, clap::Subcommand)]
enum Command {
    #[command(flatten)]
    Connected(Box<Connected>),
    Watch(Box<watch::Watch>),
    Doctor(doctor::Doctor),
    #[command(flatten)]
    Offline(Offline),
}

/// The commands that need a connection; the doctor looks whether there can be one.
#[derive(Debug, clap::Subcommand)]
enum Connected {
    Send(send::Send),
    #[command(flatten)]
    Look(Look),
    Verify(verify::Verify),
    Cancel(cancel::Cancel),
    Prune(prune::Prune),
    Init(init::Init),
}

/// Runs one command.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<Outcome> {
    let server = &arguments.globals.server;
    let command = match arguments.command {
        Command::Connected(command) => *command,
        Command::Watch(watch) => {
            watch.check_usage();
            // It looks at its directory first, and can be stopped while it waits for a server.
            return watch.run(server).await;
        }
        Command::Doctor(doctor) => return doctor.run(server).await,
        Command::Offline(command) => return command.run::<Arguments>().await,
    };
    match &command {
        Connected::Send(send) => send.check_usage(),
        Connected::Prune(prune) => prune.check_usage(),
        _ => {}
    }
    let patience = if let Connected::Send(send) = &command { send.patience() } else { Duration::ZERO };
    let broker = server.connect(Arguments::command(), patience).await?;
    let broker = match &command {
        Connected::Send(send) if !send.is_dry_run() => broker,
        _ => broker.without_waiting_for_jetstream(),
    };
    let result = match command {
        Connected::Send(send) => send.run(&broker).await,
        Connected::Look(look) => look.run(&broker).await,
        Connected::Verify(verify) => verify.run(&broker).await,
        Connected::Cancel(cancel) => cancel.run(&broker).await,
        Connected::Prune(prune) => prune.run(&broker).await,
        Connected::Init(init) => init.run(&broker).await,
    };
    broker.close().await;
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_place_in_the_configuration_file() {
        natsfer_common::cli::check::<Arguments>();
    }

    #[test]
    fn the_configuration_file_of_the_page_says_what_commands_take() {
        natsfer_common::cli::check_example::<Arguments>(include_str!("../../../docs/operate.md"));
    }
}
