//! `verify`: whether the stored copies of files are whole.

use std::path::PathBuf;

use anyhow::Context as _;
use natsfer_common::{
    broker::Broker,
    cli::{Outcome, Stored, print_line, report},
};
use natsfer_producer::{Channel, FileName, Producer, SendOptions, StoredCopy};
use serde_json::json;

use super::sources::{Item, walk};

/// Read the stored copies of files to their end, and compare them with the files
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example:
  {program} verify report.pdf")]
pub(crate) struct Verify {
    /// Channel they were sent on
    #[arg(short, long, default_value_t)]
    channel: Channel,
    /// Name that one file was sent under
    #[arg(long)]
    name: Option<FileName>,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    /// Files and directories
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
}

impl Verify {
    pub(crate) async fn run(self, broker: &Broker) -> anyhow::Result<Outcome> {
        let producer = Producer::new(broker.clone());
        let mut outcome = Outcome::Done;
        for item in walk(&self.paths, self.name.as_ref()) {
            match self.verify(&producer, item).await {
                Ok(true) => {}
                Ok(false) => outcome = Outcome::Failed,
                Err(error) => {
                    report(&error);
                    outcome = Outcome::Failed;
                }
            }
        }
        Ok(outcome)
    }

    async fn verify(&self, producer: &Producer, item: anyhow::Result<Item>) -> anyhow::Result<bool> {
        let Item::File(path, name) = item? else { anyhow::bail!("standard input cannot be verified") };
        let options = SendOptions::default().with_channel(self.channel.clone()).with_name(name.clone());
        let copy = producer.verify_file(&path, options).await;
        let (manifest, stored) = match copy.with_context(|| format!("cannot verify {}", path.display()))? {
            StoredCopy::Complete { manifest, totals, found } => {
                (Some(manifest), Stored::from_verification(found, &totals))
            }
            StoredCopy::Unfinished(manifest) => (Some(manifest), Stored::Unfinished("open")),
            StoredCopy::Absent => (None, Stored::Absent),
        };
        print_line(&match (manifest, self.json) {
            (Some(manifest), true) => stored.to_json(&manifest),
            (Some(manifest), false) => stored.to_text(&manifest),
            (None, true) => {
                json!({"event": "verified", "channel": self.channel, "name": name, "state": "absent"}).to_string()
            }
            (None, false) => {
                let channel = &self.channel;
                format!(
                    "absent  {name}  not on channel {channel} with these contents: send it, or name another channel with -c"
                )
            }
        })?;
        Ok(stored.is_whole())
    }
}
