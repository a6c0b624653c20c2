//! Publishes a report that is written while it is sent, with metadata, showing how far it is. Run it against a NATS server with
//! JetStream:
//!
//! ```sh
//! NATS_URL=nats://127.0.0.1:4222 cargo run -p natsfer-producer --example publish_report
//! ```
#![allow(clippy::print_stdout, reason = "an example speaks to its user")]

use futures_util::StreamExt as _;
use natsfer_producer::{ConnectOptions, Producer, SendOptions};
use tokio::io::AsyncWriteExt as _;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let server = std::env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".into());
    let producer = Producer::connect(&ConnectOptions::default().with_server(server)).await?;

    // Whatever writes into one end is sent from the other: nothing is held in memory but the window.
    let (mut report, reader) = tokio::io::duplex(64 * 1024);
    let writing = tokio::spawn(async move {
        for row in 0..200_000 {
            report.write_all(format!("{row},{},{}\n", row % 97, row * 31 % 1_009).as_bytes()).await?;
        }
        report.shutdown().await
    });

    let options = SendOptions::default()
        .with_channel("examples".parse()?)
        .with_name("report.csv".parse()?)
        .with_metadata("rows", "200000");
    let sending = producer.send_reader(reader, options);
    let mut progress = sending.progress();
    let showing = tokio::spawn(async move {
        while let Some(progress) = progress.next().await {
            println!("{} bytes read, {} bytes stored", progress.bytes_read, progress.bytes_stored);
        }
    });
    let sent = sending.await?;
    writing.await??;
    showing.await?;
    println!("{} bytes are stored as transfer {}, in {} bytes", sent.size, sent.transfer, sent.stored_bytes);
    producer.close().await;
    Ok(())
}
