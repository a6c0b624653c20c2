//! `show`: all that is known of a transfer.

use std::{collections::BTreeMap, ops::ControlFlow};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::status;
use crate::{
    ChunkSet, Manifest, RejectionState,
    broker::{Broker, BrokerError, CatalogEntry, Scanned, Standing, StandingState, StartAt, TransferState, standings},
    cli::{Outcome, WhichTransfer, count, human_age, human_bytes, print_line},
};

/// Show all of one transfer: what it is, how much of it is stored, and who has it
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example:
  {program} show 4be6c1e2")]
pub struct Show {
    #[command(flatten)]
    which: WhichTransfer,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// What of a transfer lies in the data stream.
#[derive(Debug, Default)]
struct Stored {
    chunks: ChunkSet,
    /// Bytes of their payloads, those of second copies too.
    bytes: u64,
    messages: u64,
    /// How many are encoded how.
    encodings: BTreeMap<&'static str, u64>,
}

/// What this user may look at.
#[derive(Debug)]
struct Found {
    stored: Option<Stored>,
    standings: Vec<Standing>,
    repairs: Vec<(crate::RepairRequest, Timestamp)>,
    /// What was not looked at, for lack of rights.
    denied: Vec<&'static str>,
}

impl Show {
    pub(super) async fn run(self, broker: &Broker) -> anyhow::Result<Outcome> {
        for (index, entry) in self.which.find(broker).await?.into_iter().enumerate() {
            let found = Found::of(broker, &entry).await?;
            if self.json {
                print_line(&json_line(&entry, &found).to_string())?;
                continue;
            }
            if index > 0 {
                print_line("")?;
            }
            print(&entry, found)?;
        }
        Ok(Outcome::Done)
    }
}

impl Found {
    async fn of(broker: &Broker, entry: &CatalogEntry) -> Result<Self, BrokerError> {
        let Manifest { transfer, channel, inline, .. } = &entry.manifest;
        let mut denied = Vec::new();
        let stored = match inline {
            Some(_) => None,
            None => permitted(stored(broker, &entry.manifest).await, &mut denied, "its chunks")?,
        };
        let standings = match standings(broker, entry).await {
            Err(BrokerError::Denied { .. }) => {
                denied.push("receivers that have not landed it");
                said(broker, entry, &mut denied).await?
            }
            standings => standings?,
        };
        let repairs = broker.repair_requests(channel, *transfer).await;
        let repairs = permitted(repairs, &mut denied, "what receivers asked for")?.unwrap_or_default();
        Ok(Self { stored, standings, repairs, denied })
    }
}

/// What receivers have said, for whoever may not look where they stand.
async fn said(
    broker: &Broker, entry: &CatalogEntry, denied: &mut Vec<&'static str>,
) -> Result<Vec<Standing>, BrokerError> {
    let Manifest { transfer, channel, .. } = &entry.manifest;
    let receipts = permitted(broker.receipts(channel, *transfer).await, denied, "receipts")?.unwrap_or_default();
    let mut standings: BTreeMap<_, _> = receipts
        .into_iter()
        .map(|receipt| (receipt.receiver, StandingState::Landed { at: receipt.landed_at }))
        .collect();
    let rejections = broker.rejections_of(channel, *transfer).await;
    for (receiver, state) in permitted(rejections, denied, "rejections")?.unwrap_or_default() {
        if let RejectionState::Rejected { detail, .. } = state {
            standings.entry(receiver).or_insert(StandingState::Rejected { detail });
        }
    }
    Ok(standings.into_iter().map(|(receiver, state)| Standing { receiver, state }).collect())
}

async fn stored(broker: &Broker, manifest: &Manifest) -> Result<Stored, BrokerError> {
    let what = format!("looking at the chunks of transfer {}", manifest.transfer);
    broker
        .patiently(&what, || async {
            let mut stored = Stored::default();
            let visit = |_, scanned| {
                if let Scanned::Chunk(chunk, bytes) = scanned {
                    stored.chunks.insert(chunk.index);
                    stored.bytes += bytes;
                    stored.messages += 1;
                    *stored.encodings.entry(chunk.encoding.as_str()).or_default() += 1;
                }
                ControlFlow::Continue(())
            };
            broker.scan(manifest, StartAt::First, visit).await?;
            Ok(stored)
        })
        .await
}

fn permitted<T>(
    result: Result<T, BrokerError>, denied: &mut Vec<&'static str>, what: &'static str,
) -> Result<Option<T>, BrokerError> {
    match result {
        Err(BrokerError::Denied { .. }) => {
            denied.push(what);
            Ok(None)
        }
        result => result.map(Some),
    }
}

/// How far a transfer is, in words.
pub(super) fn state(state: &TransferState) -> String {
    match state {
        TransferState::Cancelled { reason } => format!("cancelled: {}", reason.escape_debug()),
        state => state.as_str().to_owned(),
    }
}

fn print(entry: &CatalogEntry, found: Found) -> std::io::Result<()> {
    let manifest = &entry.manifest;
    let field = |name: &str, value: String| print_line(&format!("{name:12}{value}"));
    let now = Timestamp::now();
    let time = |at: Timestamp| format!("{at:.0} ({} ago)", human_age(now.duration_since(at)));
    field("transfer", manifest.transfer.to_string())?;
    field("name", manifest.name.to_string())?;
    field("channel", manifest.channel.to_string())?;
    field("state", state(&entry.state))?;
    field("size", size(entry))?;
    if let TransferState::Complete { digest, .. } = entry.state {
        field("digest", digest.to_string())?;
    }
    field("published", time(entry.published_at))?;
    if entry.changed_at != entry.published_at {
        field("closed", time(entry.changed_at))?;
    }
    if let Some(mtime) = manifest.mtime {
        field("modified", format!("{mtime}"))?;
    }
    if let Some(mode) = manifest.mode {
        field("mode", format!("{mode:04o}"))?;
    }
    if let Some(media_type) = &manifest.media_type {
        field("media type", media_type.escape_debug().to_string())?;
    }
    for (key, value) in &manifest.metadata {
        field("metadata", format!("{}={}", key.escape_debug(), value.escape_debug()))?;
    }
    match (&found.stored, &manifest.inline) {
        (_, Some(inline)) => {
            field("stored", format!("{} inside its manifest, {}", stored_size(entry), inline.encoding))?
        }
        (Some(stored), None) => {
            field("chunk size", human_bytes(u64::from(manifest.chunk_size.bytes())))?;
            field("stored", stored.to_text(entry))?;
        }
        (None, None) => field("chunk size", human_bytes(u64::from(manifest.chunk_size.bytes())))?,
    }
    for (request, at) in &found.repairs {
        field("repair", format!("{} asked for chunks {} at {at:.0}", request.receiver, request.chunks))?;
    }
    if !found.denied.is_empty() {
        field("not shown", format!("{}: this user may not look", found.denied.join(", ")))?;
    }
    status::print(entry, found.standings)
}

fn size(entry: &CatalogEntry) -> String {
    match entry.size() {
        Some(size) => format!("{} ({})", human_bytes(size), count(size, "byte")),
        None => "known when its sender has finished it".into(),
    }
}

fn stored_size(entry: &CatalogEntry) -> String {
    human_bytes(entry.stored_bytes().unwrap_or(0))
}

impl Stored {
    fn to_text(&self, entry: &CatalogEntry) -> String {
        let chunks = self.chunks.len();
        let encodings: Vec<_> = self.encodings.iter().map(|(encoding, of)| format!("{of} {encoding}")).collect();
        let mut text = match expected(entry) {
            Some(expected) => format!("{chunks} of {}, {}", count(expected, "chunk"), human_bytes(self.bytes)),
            None => format!("{}, {}", count(chunks, "chunk"), human_bytes(self.bytes)),
        };
        if !encodings.is_empty() {
            text += &format!(" ({})", encodings.join(", "));
        }
        if self.messages > chunks {
            text += &format!(", {} of them twice", self.messages - chunks);
        }
        if let TransferState::Complete { .. } = entry.state
            && expected(entry).is_some_and(|expected| chunks < expected)
        {
            text += ": send its source again";
        }
        text
    }
}

/// How many chunks there are to be, where that is known; of what was taken back, none.
fn expected(entry: &CatalogEntry) -> Option<u64> {
    match entry.state {
        TransferState::Cancelled { .. } => None,
        _ => entry.size().map(|size| entry.manifest.chunk_size.count(size)),
    }
}

fn json_line(entry: &CatalogEntry, found: &Found) -> Value {
    let manifest = &entry.manifest;
    let mut line = json!({
        "event": "transfer",
        "transfer": manifest.transfer,
        "channel": manifest.channel,
        "name": manifest.name,
        "state": entry.state.as_str(),
        "size": entry.size(),
        "stored_bytes": entry.stored_bytes(),
        "published_at": entry.published_at,
        "changed_at": entry.changed_at,
        "mtime": manifest.mtime,
        "mode": manifest.mode,
        "media_type": manifest.media_type,
        "metadata": manifest.metadata,
        "chunk_size": manifest.chunk_size.bytes(),
        "inline": manifest.inline.is_some(),
        "digest": null,
    });
    match &entry.state {
        TransferState::Complete { digest, .. } => line["digest"] = json!(digest),
        TransferState::Cancelled { reason } => line["reason"] = json!(reason),
        TransferState::Open => {}
    }
    if let Some(inline) = manifest.inline {
        line["encodings"] = json!({ inline.encoding.as_str(): 1 });
    }
    if let Some(stored) = &found.stored {
        line["chunks"] = json!(expected(entry));
        line["chunks_stored"] = json!(stored.chunks.len());
        line["chunk_bytes_stored"] = json!(stored.bytes);
        line["encodings"] = json!(stored.encodings);
    }
    let receivers = found.standings.iter().map(|standing| {
        let mut receiver = json!({});
        status::stand(&mut receiver, entry, standing);
        receiver
    });
    line["receivers"] = receivers.collect();
    let repairs = found.repairs.iter();
    let repairs =
        repairs.map(|(request, at)| json!({"receiver": request.receiver, "chunks": request.chunks, "at": at}));
    line["repairs"] = repairs.collect();
    line["not_permitted"] = json!(found.denied);
    line
}
