//! `natsfer-consumer`: receives, lists, replays and reads files that were sent over NATS JetStream.

mod cli;

fn main() {
    if cli::first_process::is_first()
        && let Ok(code) = cli::first_process::stand_in()
    {
        std::process::exit(code);
    }
    run();
}

// What takes long is on threads of its own; what is left talks to the server, and is faster without being handed about.
#[tokio::main(flavor = "current_thread")]
async fn run() {
    natsfer_common::cli::keep_memory_together();
    natsfer_common::cli::keep_freed_memory();
    natsfer_common::cli::exit(cli::run(natsfer_common::cli::parse()).await)
}
