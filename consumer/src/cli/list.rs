//! `list`: what is stored.

use jiff::{SignedDuration, Timestamp};
use natsfer_common::{
    ChannelFilter,
    broker::{Broker, CatalogEntry, TransferState},
    cli::{Outcome, human_bytes, print_line},
};
use serde_json::json;

/// Show what is stored: id, channel, name, size, state, age
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// Channels to show; wildcards allowed
    #[arg(short, long, default_value = ">")]
    channel: ChannelFilter,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

impl List {
    pub(crate) async fn run(self, broker: &Broker) -> anyhow::Result<Outcome> {
        let catalog = broker.catalog(&self.channel).await?;
        if self.json {
            catalog.iter().try_for_each(|entry| print_line(&json_line(entry)))?;
            return Ok(Outcome::Done);
        }
        let width = catalog.iter().map(|entry| entry.manifest.channel.as_str().len()).max().unwrap_or(0).max(7);
        let row = |id: &str, state: &str, size: &str, stored: &str, age: &str, channel: &str, name: &str| {
            print_line(&format!("{id:32}  {state:9}  {size:>10}  {stored:>10}  {age:>6}  {channel:width$}  {name}"))
        };
        row("TRANSFER", "STATE", "SIZE", "STORED", "AGE", "CHANNEL", "NAME")?;
        let now = Timestamp::now();
        for entry in &catalog {
            let manifest = &entry.manifest;
            let (size, stored) = sizes(entry);
            let bytes = |bytes: Option<u64>| bytes.map_or_else(|| "-".into(), human_bytes);
            row(
                &manifest.transfer.to_string(),
                entry.state.as_str(),
                &bytes(size),
                &bytes(stored),
                &age(now.duration_since(entry.published_at)),
                manifest.channel.as_str(),
                manifest.name.as_str(),
            )?;
        }
        Ok(Outcome::Done)
    }
}

/// Size and stored size, so far as they are known: an open transfer's stored size is not.
fn sizes(entry: &CatalogEntry) -> (Option<u64>, Option<u64>) {
    match entry.state {
        TransferState::Complete { size, stored_bytes, .. } => (Some(size), Some(stored_bytes)),
        _ => (entry.manifest.size, None),
    }
}

fn json_line(entry: &CatalogEntry) -> String {
    let (size, stored_bytes) = sizes(entry);
    let manifest = &entry.manifest;
    json!({
        "transfer": manifest.transfer,
        "channel": manifest.channel,
        "name": manifest.name,
        "size": size,
        "stored_bytes": stored_bytes,
        "state": entry.state.as_str(),
        "published_at": entry.published_at,
    })
    .to_string()
}

/// The largest unit that is not zero.
fn age(age: SignedDuration) -> String {
    let seconds = age.as_secs().max(0);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}
