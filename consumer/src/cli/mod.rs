//! The command line.

mod cat;
mod doctor;
mod event;
mod exec;
pub(crate) mod first_process;
mod forget;
mod hooks;
mod landing;
mod named;
mod receive;
mod rejected;
mod replay;
mod retry;
mod selection;
mod verify;

use std::time::Duration;

use anyhow::Context as _;
use clap::CommandFactory as _;
use natsfer_common::cli::{Globals, Offline, Outcome, Program, look::Look};
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

/// Receive, list, replay and read files sent over NATS JetStream
#[derive(Debug, clap::Parser)]
#[command(name = "natsfer-consumer", version, about, after_help = EXAMPLES)]
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
  Land every file in ./inbox, for as long as it runs:
    natsfer-consumer receive -n billing --into inbox
  Land what is there now on one channel, then exit:
    natsfer-consumer receive -n billing -c invoices.eu --into inbox --drain
  Import every CSV file that lands:
    natsfer-consumer receive -n billing --match '**/*.csv' --into inbox --exec './import \"$NATSFER_PATH\"'
    natsfer-consumer hooks --into inbox
  See what is stored, and land one of it again:
    natsfer-consumer list
    natsfer-consumer replay 4be6c1e2 --into again
  Read the first KiB of a stored file:
    natsfer-consumer cat 4be6c1e2 --range 0-1023
  See what was refused, and try it again with another limit:
    natsfer-consumer rejected -n billing
    natsfer-consumer retry -n billing --all --into inbox --max-size 100GiB
  Check every stored byte of one:
    natsfer-consumer verify 4be6c1e2
  See who lags behind, what happened, and whether all is as it should be:
    natsfer-consumer receivers
    natsfer-consumer history --since 2h
    natsfer-consumer doctor -n billing --into inbox

Exit codes: 0 done, 1 something failed, 2 wrong usage.";

#[derive(Debug, clap::Subcommand)]
enum Command {
    Receive(Box<receive::Receive>),
    #[command(flatten)]
    Connected(Box<Connected>),
    Doctor(doctor::Doctor),
    Hooks(hooks::List),
    #[command(flatten)]
    Offline(Offline),
}

/// The commands that need a connection at once.
#[derive(Debug, clap::Subcommand)]
enum Connected {
    #[command(flatten)]
    Look(Look),
    Replay(replay::Replay),
    Cat(cat::Cat),
    Verify(verify::Verify),
    Rejected(rejected::List),
    Retry(retry::Retry),
    Forget(forget::Forget),
}

/// Runs one command.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<Outcome> {
    let server = &arguments.globals.server;
    // A file beyond the process's limit (`ulimit -f`) fails by itself: without a handler, the signal would end the program.
    let _handled = signal(SignalKind::from_raw(Signal::XFSZ.as_raw())).context("cannot listen for signals")?;
    let command = match arguments.command {
        // As a service it waits for its server.
        Command::Receive(receive) => return receive.run(server).await,
        Command::Connected(command) => *command,
        Command::Doctor(doctor) => return doctor.run(server).await,
        Command::Hooks(hooks) => return hooks.run(),
        Command::Offline(command) => return command.run::<Arguments>().await,
    };
    let broker = server.connect(Arguments::command(), Duration::ZERO).await?.without_waiting_for_jetstream();
    let result = match command {
        Connected::Look(look) => look.run(&broker).await,
        Connected::Replay(replay) => replay.run(&broker).await,
        Connected::Cat(cat) => cat.run(&broker).await,
        Connected::Verify(verify) => verify.run(&broker).await,
        Connected::Rejected(rejected) => rejected.run(&broker).await,
        Connected::Retry(retry) => retry.run(&broker).await,
        Connected::Forget(forget) => forget.run(&broker).await,
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
