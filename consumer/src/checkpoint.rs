//! When what was written is made durable, and the server told.

use std::{future::pending, io, time::Duration};

use natsfer_common::broker::{AckPlace, Broker};
use tokio::{
    task::{JoinError, JoinHandle},
    time::Instant,
};

use crate::{ReceiveError, bench::Bench};

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
    /// What is acknowledged then; nothing, if only chunks were written that were fetched by themselves.
    place: Option<AckPlace>,
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

    /// Begins one, if it is time; it goes on beside what is written next.
    pub(crate) async fn begin_if_due(&mut self, bench: &mut Bench, broker: &Broker) -> Result<(), ReceiveError> {
        if bench.part()?.unsynced_bytes() >= CHECKPOINT_BYTES || self.syncing_has_ended() {
            self.finish(bench, broker).await?;
        }
        let bytes = bench.part()?.unsynced_bytes();
        let late = self.awaited.as_ref().is_some_and(|awaited| awaited.due() <= Instant::now());
        if bytes >= CHECKPOINT_BYTES || (late && self.syncing.is_none()) {
            self.begin(bench)?;
        }
        Ok(())
    }

    /// While nothing else is done: waits for the one that was begun, or begins one when it is time. Never ready while there is
    /// nothing to acknowledge.
    ///
    /// Cancel safe, but that an acknowledgement may be left out, which the next one stands for.
    pub(crate) async fn go_on(&mut self, bench: &mut Bench, broker: &Broker) -> Result<(), ReceiveError> {
        match &self.awaited {
            _ if self.syncing.is_some() => self.finish(bench, broker).await,
            Some(awaited) => {
                tokio::time::sleep_until(awaited.due()).await;
                self.begin(bench)
            }
            None => pending().await,
        }
    }

    /// Waits until everything is durable, and the server told: first the disk, then the server.
    pub(crate) async fn write(&mut self, bench: &mut Bench, broker: &Broker) -> Result<(), ReceiveError> {
        self.finish(bench, broker).await?;
        self.begin(bench)?;
        self.finish(bench, broker).await
    }

    /// Waits for the one that was begun, and tells the server. Cancel safe as [`Checkpoint::go_on`].
    pub(crate) async fn finish(&mut self, bench: &Bench, broker: &Broker) -> Result<(), ReceiveError> {
        let Some(Syncing { work, place }) = &mut self.syncing else { return Ok(()) };
        let (synced, place) = (work.await.map_err(JoinError::into).flatten(), place.take());
        self.syncing = None;
        synced.map_err(|error| bench.disk(error))?;
        if let Some(place) = place {
            broker.acknowledge_to(&place).await;
        }
        Ok(())
    }

    fn begin(&mut self, bench: &mut Bench) -> Result<(), ReceiveError> {
        let place = self.awaited.take().map(|awaited| awaited.place);
        self.syncing = Some(Syncing { work: bench.sync()?, place });
        Ok(())
    }

    fn syncing_has_ended(&self) -> bool {
        self.syncing.as_ref().is_some_and(|syncing| syncing.work.is_finished())
    }
}

impl Awaited {
    fn due(&self) -> Instant {
        self.since + CHECKPOINT_TIME
    }
}
