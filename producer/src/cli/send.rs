//! `send`: files, directories and standard input.

use std::{collections::HashMap, path::PathBuf, time::Duration};

use anyhow::Context as _;
use clap::{CommandFactory as _, error::ErrorKind};
use futures_util::{StreamExt as _, stream};
use natsfer_common::{
    broker::Broker,
    cli::{ByteCount, Outcome, human_bytes, print_line, report, stop_signal, wrong_usage},
};
use natsfer_producer::{
    Channel, ChunkSizing, Compression, DigestAlgorithm, FileName, Producer, ProducerError, ReceiverName, SendOptions,
    Sent, SentStatus, TransferId,
};
use serde::Serialize;

use super::{
    awaited,
    delivery::Delivery,
    sources::{Item, walk},
};

/// Send files, directories (with all that is in them) or standard input
#[derive(Debug, clap::Args)]
pub(crate) struct Send {
    /// Channel to send on: one or more tokens joined by dots
    #[arg(short, long, default_value_t)]
    channel: Channel,
    /// auto, none, gzip or zstd; auto leaves alone what does not shrink
    #[arg(long, default_value_t, value_name = "C")]
    compression: Compression,
    /// auto, or a size from 64KiB up
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
    /// Name to send one file, or standard input, under
    #[arg(long)]
    name: Option<FileName>,
    /// Id for standard input: sending it again with the same id goes on where it ended
    #[arg(long, value_name = "ID")]
    transfer_id: Option<TransferId>,
    /// Files sent at once
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    concurrency: u16,
    /// Most bytes of chunks under way, of all files together
    #[arg(long, default_value = "8MiB", value_name = "BYTES")]
    window: ByteCount,
    /// Give up when nothing could be published for so long
    #[arg(long, default_value = "5m", value_name = "TIME", value_parser = humantime::parse_duration)]
    stall_timeout: Duration,
    /// Return only when these receivers have landed everything, however long that takes; comma-separated. Chunks that they
    /// miss are sent again meanwhile
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    wait_for: Vec<ReceiverName>,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    /// Files and directories; "-" is standard input, and needs --name
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
}

#[derive(Serialize)]
struct SentEvent<'a> {
    event: &'static str,
    #[serde(flatten)]
    sent: &'a Sent,
}

fn parse_metadata(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("'{text}' is not of the form K=V"))?;
    if key.is_empty() { Err("the key is empty".into()) } else { Ok((key.into(), value.into())) }
}

impl Send {
    /// Ends the program, as clap does, where the options contradict each other.
    pub(crate) fn check_usage(&self) {
        let standard_input = self.paths.iter().any(|path| path.as_os_str() == "-");
        let wrong = if standard_input && self.name.is_none() {
            "\"-\" (standard input) needs --name"
        } else if self.name.is_some() && (self.paths.len() > 1 || self.paths.iter().any(|path| path.is_dir())) {
            "--name takes exactly one file, or standard input"
        } else if self.transfer_id.is_some() && !(standard_input && self.paths.len() == 1) {
            "--transfer-id takes standard input: the ids of files are derived from them"
        } else {
            return;
        };
        wrong_usage(super::Arguments::command(), Some("send"), ErrorKind::ArgumentConflict, wrong);
    }

    /// How long to wait for a server that is not there.
    pub(crate) fn patience(&self) -> Duration {
        self.stall_timeout
    }

    fn options(&self, name: FileName, transfer: Option<TransferId>) -> SendOptions {
        let mut options = SendOptions::default()
            .with_channel(self.channel.clone())
            .with_name(name)
            .with_compression(self.compression)
            .with_chunk_size(self.chunk_size)
            .with_digest(self.digest)
            .with_stall_timeout(self.stall_timeout);
        options.metadata = self.metadata.iter().cloned().collect();
        options.media_type = self.media_type.clone();
        options.transfer = transfer;
        options
    }

    pub(crate) async fn run(self, broker: &Broker) -> anyhow::Result<Outcome> {
        let mut stop = std::pin::pin!(stop_signal().context("cannot listen for signals")?);
        let producer = Producer::new(broker.clone()).with_window(self.window.0);
        awaited::warn_of_strangers(broker, &self.channel, &self.wait_for).await;
        let concurrency = usize::from(self.concurrency);
        let mut sends = stream::iter(walk(&self.paths, self.name.as_ref()))
            .map(|item| self.send(&producer, item))
            .buffer_unordered(concurrency);
        let mut outcome = Outcome::Done;
        let (receivers, json) = (&self.wait_for[..], self.json);
        let mut delivery = Delivery { producer: &producer, receivers, json, sources: HashMap::new(), sent: Vec::new() };
        let all_sent = async {
            while let Some(done) = sends.next().await {
                match done.and_then(|done| self.print(&done.1).map(|()| done)) {
                    Ok((source, sent)) if !self.wait_for.is_empty() => {
                        delivery.sources.extend(source.map(|source| (sent.transfer, source)));
                        delivery.sent.push(sent);
                    }
                    Ok(_) => {}
                    Err(error) => {
                        report(&error);
                        outcome = Outcome::Failed;
                    }
                }
            }
            match delivery.wait().await? {
                Outcome::Done => Ok(outcome),
                Outcome::Failed => Ok(Outcome::Failed),
            }
        };
        tokio::select! {
            () = &mut stop => {
                report(&anyhow::anyhow!("stopped; run the same command again to go on from here"));
                Ok(Outcome::Failed)
            }
            outcome = all_sent => outcome,
        }
    }

    /// Sends one thing, and says how to send it again, where that can be done.
    async fn send(
        &self, producer: &Producer, item: anyhow::Result<Item>,
    ) -> anyhow::Result<(Option<(PathBuf, SendOptions)>, Sent)> {
        match item? {
            Item::StandardInput => {
                let name = self.name.clone().ok_or(ProducerError::NoName)?;
                let options = self.options(name, self.transfer_id);
                let sent = producer.send_reader(tokio::io::stdin(), options).await;
                Ok((None, sent.context("cannot send standard input")?))
            }
            Item::File(path, name) => {
                let options = self.options(name, None);
                let sent = producer.send_file(&path, options.clone()).await;
                let sent = sent.with_context(|| format!("cannot send {}", path.display()))?;
                Ok((Some((path, options)), sent))
            }
        }
    }

    fn print(&self, sent: &Sent) -> anyhow::Result<()> {
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
                let chunks = sent.published_chunks;
                format!("repaired  {transfer}  {name}  {size} ({chunks} chunks, {published} published)")
            }
            SentStatus::Unchanged => format!("unchanged  {transfer}  {name}  {size}"),
        })?)
    }
}
