//! How files are sent: the options of every command that sends.

use std::time::Duration;

use futures_util::StreamExt as _;
use natsfer_common::{
    Rate,
    broker::Broker,
    cli::{
        ByteCount, Moved, ProgressMode, Progresses, Shown, count, human_bytes, number, parse_duration, parse_rate,
        print_line,
    },
};
use natsfer_producer::{
    Channel, ChunkSizing, Compression, DigestAlgorithm, FileName, Producer, ProducerError, Progress, SendOptions,
    Sending, Sent, SentStatus,
};
use serde::Serialize;
use serde_json::json;

/// How to send, and how to tell of it.
#[derive(Debug, clap::Args)]
pub(crate) struct SendArguments {
    /// Channel to send on: one or more tokens joined by dots
    #[arg(short, long, default_value_t)]
    pub(crate) channel: Channel,
    /// auto, none, gzip or zstd; auto leaves alone what does not shrink
    #[arg(long, default_value_t, value_name = "C")]
    compression: Compression,
    /// auto, or a size from 16KiB up
    #[arg(long, default_value = "auto", value_name = "N")]
    chunk_size: ChunkSizing,
    /// blake3 or sha256
    #[arg(long, default_value_t, value_name = "D")]
    digest: DigestAlgorithm,
    /// Something to say about the files; repeatable
    #[arg(long = "meta", value_name = "K=V", value_parser = parse_metadata)]
    metadata: Vec<(String, String)>,
    /// Media type; guessed from the name if not given
    #[arg(long, value_name = "TYPE")]
    media_type: Option<String>,
    /// Files sent at once
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = number::<u16>(1..=256))]
    concurrency: u16,
    /// Most bytes of chunks in memory and under way, of all files together; fewer are under way on a line that holds less
    #[arg(long, default_value = "16MiB", value_name = "BYTES")]
    window: ByteCount,
    /// Connections to spread chunks over, where one cannot fill the line
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = number::<u16>(1..=64))]
    connections: u16,
    /// Give up when nothing could be published for so long
    #[arg(long, default_value = "5m", value_name = "TIME", value_parser = parse_duration)]
    pub(crate) stall_timeout: Duration,
    /// Publish at most so many bytes per second, of all files together: 20MiB
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    rate: Option<Rate>,
    /// How to show how far files are
    #[arg(long, value_enum, default_value_t, value_name = "HOW", requires_if("events", "json"))]
    progress: ProgressMode,
    /// Print one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Serialize)]
struct SentEvent<'a> {
    event: &'static str,
    #[serde(flatten)]
    sent: &'a Sent,
}

fn parse_metadata(text: &str) -> Result<(String, String), String> {
    let (key, value) =
        text.split_once('=').ok_or_else(|| format!("'{text}' is not a key and a value such as project=x"))?;
    if key.is_empty() {
        Err(format!("'{text}' has no key; one with a value is project=x"))
    } else {
        Ok((key.into(), value.into()))
    }
}

impl SendArguments {
    /// What sends.
    pub(crate) async fn producer(&self, broker: &Broker) -> Result<Producer, ProducerError> {
        let producer = Producer::new(broker.clone()).with_window(self.window.0).with_rate(self.rate);
        producer.with_connections(self.connections).await
    }

    /// What shows how far files are.
    pub(crate) fn progresses(&self) -> Progresses {
        Progresses::new(self.progress)
    }

    /// How many files are sent at once.
    pub(crate) fn concurrency(&self) -> usize {
        self.concurrency.into()
    }

    /// How a file of this name is sent.
    pub(crate) fn options(&self, name: FileName) -> SendOptions {
        let mut options = SendOptions::default()
            .with_channel(self.channel.clone())
            .with_name(name)
            .with_compression(self.compression)
            .with_chunk_size(self.chunk_size)
            .with_digest(self.digest)
            .with_stall_timeout(self.stall_timeout);
        options.metadata = self.metadata.iter().cloned().collect();
        options.media_type = self.media_type.clone();
        options
    }

    /// Tells of a file that was sent, on standard output.
    pub(crate) fn print(&self, sent: &Sent) -> anyhow::Result<()> {
        if self.json {
            return Ok(print_line(&serde_json::to_string(&SentEvent { event: "sent", sent })?)?);
        }
        let Sent { transfer, name, size, published_bytes, .. } = sent;
        let size = human_bytes(*size);
        let published = human_bytes(*published_bytes);
        Ok(print_line(&match sent.status {
            SentStatus::Sent => format!("sent  {transfer}  {name}  {size} ({published} published)"),
            SentStatus::Resumed => {
                let stored = human_bytes(sent.resumed_from);
                format!("resumed  {transfer}  {name}  {size} ({stored} were stored, {published} published)")
            }
            SentStatus::Repaired => {
                let chunks = count(sent.published_chunks, "chunk");
                format!("repaired  {transfer}  {name}  {size} ({chunks}, {published} published)")
            }
            SentStatus::Unchanged => format!("unchanged  {transfer}  {name}  {size}"),
        })?)
    }
}

/// Waits for a send, and shows how far it is.
pub(crate) async fn followed(
    sending: Sending, name: &FileName, producer: &Producer, progresses: &Progresses,
) -> Result<Sent, ProducerError> {
    let followed = progresses.follow(|| {
        let broker = producer.broker().clone();
        Shown {
            name: name.to_string(),
            about: json!({ "name": name }),
            moved: sending.progress().map(|Progress { bytes_stored: bytes, bytes_found: found, size, .. }| Moved {
                bytes,
                found,
                size,
            }),
            awaited: Box::new(move || match broker.is_connected() {
                true => "waiting for the source, the server to store, or the rate",
                false => "waiting for the server",
            }),
        }
    });
    let sent = sending.await?;
    followed.done(sent.size);
    Ok(sent)
}
