//! `natsfer-producer`: sends files over NATS JetStream.

mod cli;

use clap::Parser as _;

#[tokio::main(worker_threads = 2)]
async fn main() {
    natsfer_common::cli::exit(cli::run(cli::Arguments::parse()).await)
}
