//! `natsfer-producer`: sends files over NATS JetStream.

mod cli;

// What takes long is on threads of its own; what is left talks to the server, and is faster without being handed about.
#[tokio::main(flavor = "current_thread")]
async fn main() {
    natsfer_common::cli::keep_memory_together();
    natsfer_common::cli::exit(cli::run(natsfer_common::cli::parse()).await)
}
