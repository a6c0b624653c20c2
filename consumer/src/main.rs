//! `natsfer-consumer`: receives, lists, replays and reads files that were sent over NATS JetStream.

mod cli;

use clap::Parser as _;

#[tokio::main(worker_threads = 2)]
async fn main() {
    natsfer_common::cli::exit(cli::run(cli::Arguments::parse()).await)
}
