//! `natsfer-consumer`: receives, lists, replays and reads files that were sent over NATS JetStream.

mod cli;

use std::process::ExitCode;

use clap::Parser as _;

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    natsfer_common::cli::exit_code(cli::run(cli::Arguments::parse()).await)
}
