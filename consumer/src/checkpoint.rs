//! When what was written is made durable, and the server told.

use std::{io, time::Duration};

use natsfer_common::{
    Part,
    broker::{AckPlace, Broker},
};
use tokio::{
    task::{JoinError, JoinHandle},
    time::Instant,
};

use crate::{ReceiveError, bench::Bench, part_files::PartFiles};

/// So much, or what was written for so long, is made durable at once. A crash of the machine can cost twice as much: what was
/// written while that went on.
const CHECKPOINT_BYTES: u64 = 64 << 20;
const CHECKPOINT_TIME: Duration = Duration::from_secs(1);

/// When what was written is made durable, and acknowledged.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    awaited: Option<Awaited>,
    syncing: Option<Syncing>,
}

/// What is not acknowledged yet.
#[derive(Debug)]
struct Awaited {
    since: Instant,
    /// Where the last message is acknowledged; with it, all before it.
    place: AckPlace,
}

/// What is being made durable, while more is written.
#[derive(Debug)]
struct Syncing {
    work: JoinHandle<io::Result<()>>,
    place: AckPlace,
}

impl Checkpoint {
    pub(crate) fn new() -> Self {
        Self { awaited: None, syncing: None }
    }

    /// The next one stands for this message, too.
    pub(crate) fn covers(&mut self, place: AckPlace) {
        let since = self.awaited.as_ref().map_or_else(Instant::now, |awaited| awaited.since);
        self.awaited = Some(Awaited { since, place });
    }

    /// When to look again; `None` while nothing is to be acknowledged.
    pub(crate) fn due_at(&self) -> Option<Instant> {
        self.awaited.as_ref().map(|awaited| awaited.since + CHECKPOINT_TIME)
    }

    /// Begins one, if it is time; it goes on beside what is written next. Sees to the one that was begun before.
    pub(crate) async fn write_if_due(&mut self, bench: &mut Bench, broker: &Broker) -> Result<(), ReceiveError> {
        let bytes = bench.part()?.unsynced_bytes();
        let due = bytes >= CHECKPOINT_BYTES || self.due_at().is_some_and(|due| due <= Instant::now());
        if due || self.syncing.as_ref().is_some_and(|syncing| syncing.work.is_finished()) {
            self.finish(bench, broker).await?;
        }
        if due && let Some(Awaited { place, .. }) = self.awaited.take() {
            self.syncing = Some(Syncing { work: bench.sync()?, place });
        }
        Ok(())
    }

    /// Waits until everything is durable, and the server told: first the disk, then the server.
    pub(crate) async fn write(&mut self, bench: &mut Bench, broker: &Broker) -> Result<(), ReceiveError> {
        self.finish(bench, broker).await?;
        bench.work(|part: &mut Part<PartFiles>| Ok(part.checkpoint()?)).await?;
        if let Some(Awaited { place, .. }) = self.awaited.take() {
            broker.acknowledge_to(&place).await;
        }
        Ok(())
    }

    /// Waits for the one that was begun.
    async fn finish(&mut self, bench: &mut Bench, broker: &Broker) -> Result<(), ReceiveError> {
        let Some(Syncing { work, place }) = self.syncing.take() else { return Ok(()) };
        if let Err(error) = work.await.map_err(JoinError::into).flatten() {
            tracing::debug!(%error, "what was written could not be made durable; trying again");
            bench
                .work(|part| {
                    part.not_synced();
                    Ok(part.checkpoint()?)
                })
                .await?;
        }
        broker.acknowledge_to(&place).await;
        Ok(())
    }
}
