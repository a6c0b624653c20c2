//! Just enough HTTP to ask a server's monitoring port, or our own programs'.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A paused server accepts connections and never answers.
const LIMIT: Duration = Duration::from_secs(5);

/// Status and JSON body of `GET path`.
pub(crate) async fn get(port: u16, path: &str) -> Result<(u16, Value)> {
    let (status, body) = get_text(port, path).await?;
    Ok((status, serde_json::from_str(&body)?))
}

/// Status and body of `GET path` on this port of loopback.
///
/// # Errors
/// When nobody answers in time.
pub async fn get_text(port: u16, path: &str) -> Result<(u16, String)> {
    timeout(LIMIT, ask(port, path))
        .await
        .with_context(|| format!("no answer to {path} within {LIMIT:?}"))?
        .with_context(|| format!("monitoring request {path} failed"))
}

async fn ask(port: u16, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    // 1.0, so that the body is plain and the end of the stream is its end.
    let request = format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8(answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP header")?;
    let status = head.split(' ').nth(1).context("no HTTP status")?;
    Ok((status.parse()?, body.to_owned()))
}
