//! The command line.

mod cat;
mod event;
mod exec;
mod forget;
mod hooks;
mod landing;
mod list;
mod receive;
mod rejected;
mod replay;
mod retry;
mod selection;
mod verify;

use std::time::Duration;

use natsfer_common::cli::{Outcome, ServerArguments};

/// Receive, list, replay and read files sent over NATS JetStream
#[derive(Debug, clap::Parser)]
#[command(name = "natsfer-consumer", version, about, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    server: ServerArguments,
    #[command(subcommand)]
    command: Command,
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
    natsfer-consumer replay 4be6c1e2d4b0f7a09c1d2e3f40516273 --into again
  Read the first KiB of a stored file:
    natsfer-consumer cat 4be6c1e2d4b0f7a09c1d2e3f40516273 --range 0-1023
  See what was refused, and try it again with another limit:
    natsfer-consumer rejected -n billing
    natsfer-consumer retry -n billing --all --into inbox --max-size 100GiB
  Check every stored byte of one:
    natsfer-consumer verify 4be6c1e2d4b0f7a09c1d2e3f40516273

Exit codes: 0 done, 1 something failed, 2 wrong usage.";

#[derive(Debug, clap::Subcommand)]
enum Command {
    Receive(receive::Receive),
    List(list::List),
    Replay(replay::Replay),
    Cat(cat::Cat),
    Verify(verify::Verify),
    Rejected(rejected::List),
    Retry(retry::Retry),
    Forget(forget::Forget),
    Hooks(hooks::List),
}

/// Runs one command.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<Outcome> {
    arguments.server.start_logging();
    if let Command::Hooks(hooks) = arguments.command {
        // Nobody but the disk is asked.
        return hooks.run();
    }
    // A receiver that runs as a service waits for its server.
    let patience = if let Command::Receive(_) = &arguments.command { Duration::MAX } else { Duration::ZERO };
    let broker = arguments.server.connect("natsfer-consumer", patience).await?;
    let result = match arguments.command {
        Command::Receive(receive) => receive.run(&broker).await,
        Command::List(list) => list.run(&broker).await,
        Command::Replay(replay) => replay.run(&broker).await,
        Command::Cat(cat) => cat.run(&broker).await,
        Command::Verify(verify) => verify.run(&broker).await,
        Command::Rejected(rejected) => rejected.run(&broker).await,
        Command::Retry(retry) => retry.run(&broker).await,
        Command::Forget(forget) => forget.run(&broker).await,
        Command::Hooks(hooks) => hooks.run(),
    };
    broker.close().await;
    result
}
