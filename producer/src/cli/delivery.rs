//! `send --wait-for`: until receivers have what was sent, or will not have it; chunks that they miss are sent again meanwhile.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use natsfer_common::cli::{Outcome, Progresses, count, report};
use natsfer_producer::{
    Deliveries, FileName, Producer, ProducerError, ReceiverName, SendOptions, Sent, TransferId, Word,
};

use super::said;

/// How often to say what is awaited.
const REMINDER: Duration = Duration::from_secs(60);

/// What was sent, and how to send it again.
pub(crate) struct Delivery<'a> {
    pub(crate) producer: &'a Producer,
    pub(crate) progresses: &'a Progresses,
    pub(crate) receivers: &'a [ReceiverName],
    pub(crate) json: bool,
    /// The files, and the options they were sent with.
    pub(crate) sources: HashMap<TransferId, (PathBuf, SendOptions)>,
    pub(crate) sent: Vec<Sent>,
}

impl Delivery<'_> {
    /// Waits as long as it takes.
    pub(crate) async fn wait(&self) -> anyhow::Result<Outcome> {
        if self.sent.is_empty() || self.receivers.is_empty() {
            return Ok(Outcome::Done);
        }
        let mut deliveries = Deliveries::of(self.producer.broker(), &self.sent, self.receivers).await?;
        let names: HashMap<_, _> = self.sent.iter().map(|sent| (sent.transfer, &sent.name)).collect();
        let mut reminder = tokio::time::interval_at(tokio::time::Instant::now() + REMINDER, REMINDER);
        let mut outcome = Outcome::Done;
        tracing::info!("everything is stored; {}", awaited(&deliveries, &names));
        loop {
            self.progresses.waiting(|| awaited(&deliveries, &names));
            let word = tokio::select! {
                word = deliveries.next() => word?,
                _ = reminder.tick() => {
                    tracing::info!("{}", awaited(&deliveries, &names));
                    continue;
                }
            };
            match word {
                None => break,
                Some(Word::Landed(receipt)) => {
                    let name = names.get(&receipt.transfer).map_or("", |name| FileName::as_str(name));
                    said::landed(self.json, &receipt, name)?;
                }
                Some(Word::NotLanded { transfer, receiver, why }) => {
                    let name = names.get(&transfer).map_or("", |name| FileName::as_str(name));
                    said::not_landed(self.json, transfer, name, &receiver, why)?;
                    outcome = Outcome::Failed;
                }
                Some(Word::Wanted(request)) => {
                    let (transfer, receiver, chunks) = (request.transfer, request.receiver, request.chunks);
                    tracing::info!(%transfer, %receiver, %chunks, "asked to send chunks again");
                    if let Err(error) = self.send_again(transfer).await {
                        report(&error.context(format!("what '{receiver}' needs of {transfer} was not sent again")));
                        outcome = Outcome::Failed;
                        // What a receiver misses that nobody waits for, the awaited ones may have: they ask for themselves.
                        let awaited = deliveries.awaited().any(|awaited| awaited == (transfer, &receiver));
                        if awaited {
                            deliveries.give_up(transfer);
                        }
                    }
                }
            }
        }
        deliveries.close().await;
        Ok(outcome)
    }

    async fn send_again(&self, transfer: TransferId) -> anyhow::Result<()> {
        let (path, options) = self.sources.get(&transfer).context("standard input cannot be read again")?;
        send_again(self.producer, path, options.clone(), transfer).await
    }
}

/// Publishes what receivers miss of a transfer, from its source.
pub(crate) async fn send_again(
    producer: &Producer, path: &Path, options: SendOptions, transfer: TransferId,
) -> anyhow::Result<()> {
    // Under this id or not at all: a file that has changed is another transfer, and nobody asked for that.
    let sent = match producer.send_file(path, options.with_transfer(transfer)).await {
        Err(ProducerError::IdTaken { .. }) => anyhow::bail!("{} has changed since it was sent", path.display()),
        sent => sent?,
    };
    let (chunks, bytes) = (sent.published_chunks, sent.published_bytes);
    tracing::info!(%transfer, chunks, bytes, "sent again");
    Ok(())
}

/// What is waited for, in words.
fn awaited(deliveries: &Deliveries, names: &HashMap<TransferId, &FileName>) -> String {
    match deliveries.awaited().next() {
        None => "every receipt is there".into(),
        Some((transfer, receiver)) => {
            let name = names.get(&transfer).map_or("", |name| name.as_str());
            let more = match deliveries.outstanding() - 1 {
                0 => String::new(),
                more => format!(", and {}", count(more as u64, "more receipt")),
            };
            format!("waiting for '{receiver}' to land {name} ({transfer}){more}")
        }
    }
}
