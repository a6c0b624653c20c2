//! The steps that most scenarios are made of, each as a user would take it: through the binaries, with `--json`.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use async_nats::jetstream::Context;
use serde_json::Value;

use crate::{Address, Command, Server, consumer, eventually, must, producer};

/// How long the server may take to notice that somebody has left.
const SOON: Duration = Duration::from_secs(20);

/// `natsfer-producer send --json` with these options and paths, ready to be run.
pub fn sending(server: &(impl Address + ?Sized), options: &[&str], paths: &[impl AsRef<OsStr>]) -> Command {
    producer(["send", "--json"]).args(options).arg("--").args(paths).server(server)
}

/// Sends, and returns the events.
///
/// # Panics
/// When it fails, with all it said.
pub async fn send(server: &(impl Address + ?Sized), options: &[&str], paths: &[impl AsRef<OsStr>]) -> Vec<Value> {
    sending(server, options, paths).run().await.success().json_lines()
}

/// Sends bytes through standard input, and returns the event.
///
/// # Panics
/// When it fails, with all it said.
pub async fn send_stdin(server: &(impl Address + ?Sized), options: &[&str], name: &str, bytes: Vec<u8>) -> Value {
    let command = sending(server, &[options, &["--name", name]].concat(), &["-"]);
    let output = command.stdin_bytes(bytes).run().await.success();
    must(one(output.json_lines()), "standard input sent")
}

/// `natsfer-consumer receive --json` as `name`, ready to be run.
pub fn receiving(server: &(impl Address + ?Sized), name: &str, into: impl AsRef<Path>, options: &[&str]) -> Command {
    consumer(["receive", "--json", "-n", name, "--into"]).arg(into.as_ref()).args(options).server(server)
}

/// Receives all that is there, and returns the events.
///
/// # Panics
/// When it fails, with all it said.
pub async fn drain(
    server: &(impl Address + ?Sized), name: &str, into: impl AsRef<Path>, options: &[&str],
) -> Vec<Value> {
    receiving(server, name, into, options).arg("--drain").run().await.success().json_lines()
}

/// What `natsfer-consumer list --json` says.
///
/// # Panics
/// When it fails, with all it said.
pub async fn list(server: &(impl Address + ?Sized), options: &[&str]) -> Vec<Value> {
    consumer(["list", "--json"]).args(options).server(server).run().await.success().json_lines()
}

/// One event's text field.
///
/// # Panics
/// When it has none.
#[must_use]
pub fn text<'a>(event: &'a Value, field: &str) -> &'a str {
    must(event[field].as_str().with_context(|| format!("no text {field} in {event}")), "an event")
}

/// One event's number field.
///
/// # Panics
/// When it has none.
#[must_use]
pub fn number(event: &Value, field: &str) -> u64 {
    must(event[field].as_u64().with_context(|| format!("no number {field} in {event}")), "an event")
}

/// What the server says of a stream: `state`, `config` and `consumer_detail`, without the consumers that only look around: the
/// server removes those by itself, within a second of their end. Null if there is no such stream.
///
/// # Panics
/// When the server does not answer.
pub async fn stream(server: &Server, name: &str) -> Value {
    let mut stream = whole_stream(server, name).await;
    if let Some(consumers) = stream.get_mut("consumer_detail").and_then(Value::as_array_mut) {
        consumers.retain(|consumer| !text(consumer, "name").starts_with("look-"));
    }
    stream
}

async fn whole_stream(server: &Server, name: &str) -> Value {
    let answer = must(server.monitor("/jsz?consumers=true&config=true&limit=1024").await, "cannot ask for the streams");
    let accounts = answer["account_details"].as_array().into_iter().flatten();
    let mut streams = accounts.flat_map(|account| account["stream_detail"].as_array().into_iter().flatten());
    streams.find(|stream| stream["name"] == name).cloned().unwrap_or_default()
}

/// The names of a stream's consumers but for those that only look around, sorted.
///
/// # Panics
/// When the server does not answer.
pub async fn consumers(server: &Server, name: &str) -> Vec<String> {
    names(&stream(server, name).await)
}

fn names(stream: &Value) -> Vec<String> {
    let details = stream["consumer_detail"].as_array().into_iter().flatten();
    let mut names: Vec<_> = details.map(|consumer| text(consumer, "name").to_owned()).collect();
    names.sort();
    names
}

/// The parts and journals that a receiver keeps of what it has not landed.
#[must_use]
pub fn staged_files(inbox: &Path, receiver: &str) -> Vec<std::path::PathBuf> {
    let entries = inbox.join(".natsfer/receivers").join(receiver).read_dir().into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    paths.filter(|path| path.extension().is_some_and(|end| end == "part" || end == "journal")).collect()
}

/// Who has said that it has which transfer, sorted: a receiver that says it twice is there twice.
///
/// # Panics
/// When the server does not answer.
pub async fn receipts(server: &Server) -> Vec<(String, String)> {
    must(receipts_in(&server.jetstream().await).await, "cannot read the receipts")
}

/// As [`receipts`], of any server.
///
/// # Errors
/// When there is no stream, or no server.
pub async fn receipts_in(jetstream: &Context) -> Result<Vec<(String, String)>> {
    let mut stream = jetstream.get_stream("NATSFER").await?;
    let state = stream.info().await?.state.clone();
    let mut receipts = Vec::new();
    // One by one: a consumer would be left behind.
    for sequence in state.first_sequence..=state.last_sequence {
        let Ok(message) = stream.get_raw_message(sequence).await else { continue };
        if let Some(header) = message.headers.get("Natsfer-Receipt") {
            let receipt: Value = serde_json::from_str(header.as_str())?;
            receipts.push((text(&receipt, "receiver").to_owned(), text(&receipt, "transfer").to_owned()));
        }
    }
    receipts.sort();
    Ok(receipts)
}

/// Waits until nothing of ours is left at the server but these receivers' inboxes: no connection, no other consumer.
///
/// # Panics
/// When something stays.
pub async fn nothing_left_but(server: &Server, inboxes: &[&str]) {
    eventually(&format!("nothing is left but the inboxes {inboxes:?}"), SOON, || async {
        let connections = server.connection_names().await;
        let (control, data) = (whole_stream(server, "NATSFER").await, whole_stream(server, "NATSFER_DATA").await);
        let (control, data) = (names(&control), names(&data));
        (connections.is_empty() && data.is_empty() && control == inboxes).then_some(())
    })
    .await;
}

fn one(mut events: Vec<Value>) -> Result<Value> {
    anyhow::ensure!(events.len() == 1, "not one event: {events:?}");
    events.pop().context("no event")
}
