//! When what was written is made durable, and the server told.

use std::time::Duration;

use natsfer_common::{
    Part,
    broker::{Acknowledgement, Broker},
};
use tokio::time::Instant;

use crate::{ReceiveError, bench::Bench, part_files::PartFiles};

/// What a crash of the machine can cost: at most so many bytes, or so long, are written and not yet synced.
const CHECKPOINT_BYTES: u64 = 64 << 20;
const CHECKPOINT_TIME: Duration = Duration::from_secs(1);

/// When what was written is made durable, and acknowledged.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    written: Instant,
    /// Where the last message is acknowledged; with it, all before it.
    ack_subject: Option<String>,
}

impl Checkpoint {
    pub(crate) fn new() -> Self {
        Self { written: Instant::now(), ack_subject: None }
    }

    /// The next one stands for this message, too.
    pub(crate) fn covers(&mut self, ack_subject: String) {
        self.ack_subject = Some(ack_subject);
    }

    /// While nothing is to be acknowledged, there is no hurry.
    pub(crate) fn due_at(&self) -> Instant {
        let written = if self.ack_subject.is_some() { self.written } else { Instant::now() };
        written + CHECKPOINT_TIME
    }

    pub(crate) async fn write_if_due(&mut self, bench: &mut Bench, broker: &Broker) -> Result<(), ReceiveError> {
        let bytes = bench.part()?.unsynced_bytes();
        if bytes >= CHECKPOINT_BYTES || self.due_at() <= Instant::now() {
            self.write(bench, broker).await?;
        }
        Ok(())
    }

    /// First the disk, then the server.
    pub(crate) async fn write(&mut self, bench: &mut Bench, broker: &Broker) -> Result<(), ReceiveError> {
        bench.work(|part: &mut Part<PartFiles>| Ok(part.checkpoint()?)).await?;
        self.written = Instant::now();
        if let Some(ack_subject) = self.ack_subject.take() {
            broker.acknowledge(&ack_subject, Acknowledgement::Done).await;
        }
        Ok(())
    }
}
