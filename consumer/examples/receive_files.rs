//! Lands every file that is sent, on any channel, in `./inbox`.
//!
//! ```sh
//! NATS_URL=nats://127.0.0.1:4222 cargo run -p natsfer-consumer --example receive_files
//! ```
#![expect(clippy::print_stdout, reason = "that is what it shows")]

use natsfer_consumer::{ConnectOptions, Receiver, ReceiverOptions, SaveOptions, TargetDirectory};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".into());
    let server = ConnectOptions::default().with_server(url);

    let inbox = TargetDirectory::open("inbox")?;
    let options = ReceiverOptions::new("files".parse()?).with_home(&inbox);
    let mut receiver = Receiver::connect(&server, options).await?;
    while let Some(incoming) = receiver.next().await? {
        // A failure settles this one transfer, now or for later, and must not end the others.
        match incoming.save_into(&inbox, &SaveOptions::default()).await {
            Ok(saved) => println!("{}  {}", saved.digest, saved.path.display()),
            Err(error) => println!("not received: {error}"),
        }
    }
    Ok(())
}
