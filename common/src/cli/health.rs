//! `health`: asks a running program whether it can do its work, for container health checks.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, bail};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::{Outcome, http::DEFAULT_ADDRESS, parse_address};

/// How long the answer may take.
const DEADLINE: Duration = Duration::from_secs(3);
/// More than the first line of any answer.
const MOST_READ: u64 = 1024;

/// Ask a program that runs with --http whether it is connected
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example:
  {program} health 127.0.0.1:8223")]
pub struct Health {
    /// Where it listens
    #[arg(default_value = DEFAULT_ADDRESS, value_name = "ADDR", value_parser = parse_address)]
    address: SocketAddr,
}

impl Health {
    /// Ends well if the program says that it is ready.
    ///
    /// # Errors
    /// When it says otherwise, or does not answer.
    pub async fn run(&self) -> anyhow::Result<Outcome> {
        let address = self.address;
        let answer = timeout(DEADLINE, ask(address)).await;
        let answer = answer.with_context(|| format!("nothing answers on {address} within {DEADLINE:?}"))?;
        let answer = answer.with_context(|| format!("nothing answers on {address}"))?;
        let status = answer.split(' ').nth(1);
        if status == Some("200") {
            return Ok(Outcome::Done);
        }
        let said = answer.lines().last().unwrap_or_default();
        bail!("the program on {address} is not ready: {said}")
    }
}

/// What HTTP needs for one question is less than any client of it.
async fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MOST_READ).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
