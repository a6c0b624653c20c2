//! `natsfer-producer`: sends files over NATS JetStream.

mod cli;

use clap::Parser as _;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    natsfer_common::cli::exit(cli::run(cli::Arguments::parse()).await)
}
