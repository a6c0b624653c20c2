//! When what was written is made durable, and the server told.

use std::time::Duration;

use natsfer_common::{
    Part,
    broker::{AckPlace, Broker},
};
use tokio::time::Instant;

use crate::{ReceiveError, bench::Bench, part_files::PartFiles};

/// What a crash of the machine can cost: at most so many bytes, or so long, are written and not yet synced.
const CHECKPOINT_BYTES: u64 = 64 << 20;
const CHECKPOINT_TIME: Duration = Duration::from_secs(1);

/// When what was written is made durable, and acknowledged.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    awaited: Option<Awaited>,
}

/// What is not acknowledged yet.
#[derive(Debug)]
struct Awaited {
    since: Instant,
    /// Where the last message is acknowledged; with it, all before it.
    place: AckPlace,
}

impl Checkpoint {
    pub(crate) fn new() -> Self {
        Self { awaited: None }
    }

    /// The next one stands for this message, too.
    pub(crate) fn covers(&mut self, place: AckPlace) {
        let since = self.awaited.as_ref().map_or_else(Instant::now, |awaited| awaited.since);
        self.awaited = Some(Awaited { since, place });
    }

    /// When the next one is due; `None` while nothing is to be acknowledged.
    pub(crate) fn due_at(&self) -> Option<Instant> {
        self.awaited.as_ref().map(|awaited| awaited.since + CHECKPOINT_TIME)
    }

    pub(crate) async fn write_if_due(&mut self, bench: &mut Bench, broker: &Broker) -> Result<(), ReceiveError> {
        let bytes = bench.part()?.unsynced_bytes();
        if bytes >= CHECKPOINT_BYTES || self.due_at().is_some_and(|due| due <= Instant::now()) {
            self.write(bench, broker).await?;
        }
        Ok(())
    }

    /// First the disk, then the server.
    pub(crate) async fn write(&mut self, bench: &mut Bench, broker: &Broker) -> Result<(), ReceiveError> {
        bench.work(|part: &mut Part<PartFiles>| Ok(part.checkpoint()?)).await?;
        if let Some(Awaited { place, .. }) = self.awaited.take() {
            broker.acknowledge_to(&place).await;
        }
        Ok(())
    }
}
