//! Publishes one file. Run it against a NATS server with JetStream:
//!
//! ```sh
//! NATS_URL=nats://127.0.0.1:4222 cargo run -p natsfer-producer --example publish_file -- README.md
//! ```
#![allow(clippy::print_stdout, reason = "an example speaks to its user")]

use natsfer_producer::{ConnectOptions, Producer, SendOptions};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let server = std::env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".into());
    let path = std::env::args().nth(1).unwrap_or_else(|| "README.md".into());

    let producer = Producer::connect(&ConnectOptions::default().with_server(server)).await?;
    let options = SendOptions::default().with_channel("examples".parse()?);
    let sent = producer.send_file(path, options).await?;
    println!("{} is stored as transfer {} ({})", sent.name, sent.transfer, sent.digest);
    producer.close().await;
    Ok(())
}
