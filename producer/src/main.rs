//! `natsfer-producer`: sends files over NATS JetStream.

mod cli;

use std::process::ExitCode;

use clap::Parser as _;

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let code = natsfer_common::cli::exit_code(cli::run(cli::Arguments::parse()).await);
    // A thread that waits for standard input cannot be ended otherwise.
    std::process::exit(if code == ExitCode::SUCCESS { 0 } else { 1 })
}
