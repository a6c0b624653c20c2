//! Looking now and then for what is left of transfers that do not come again.

use std::time::Duration;

use anyhow::Context as _;
use natsfer_common::broker::BrokerError;
use natsfer_consumer::{ReceiveError, Receiver};
use tokio::{
    task::JoinSet,
    time::{Instant, Interval, MissedTickBehavior, interval_at},
};

/// How often to look.
const INTERVAL: Duration = Duration::from_secs(60);

/// The looking.
#[derive(Debug)]
pub(super) struct Leftovers {
    due: Interval,
    looking: JoinSet<Sweeps>,
    sweeps: Sweeps,
}

/// Whether this user may look what became of transfers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sweeps {
    Allowed,
    Denied,
}

impl Leftovers {
    /// Looks for the first time. Also where there is nothing to receive: a drain may end at once.
    pub(super) async fn look(receiver: &Receiver) -> Self {
        let mut due = interval_at(Instant::now() + INTERVAL, INTERVAL);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { due, looking: JoinSet::new(), sweeps: remove(receiver.sweep()).await }
    }

    /// Waits until it is time to look again.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn due(&mut self) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                _ = self.due.tick(), if self.sweeps == Sweeps::Allowed && self.looking.is_empty() => return Ok(()),
                Some(swept) = self.looking.join_next() => self.sweeps = swept.context("a task failed")?,
                else => std::future::pending().await,
            }
        }
    }

    /// Looks again, beside everything else.
    pub(super) fn look_again(&mut self, receiver: &Receiver) {
        self.looking.spawn(remove(receiver.sweep()));
    }
}

async fn remove(sweep: impl Future<Output = Result<u64, ReceiveError>>) -> Sweeps {
    let swept = sweep.await;
    let denied = matches!(swept, Err(ReceiveError::Broker(BrokerError::Denied { .. })));
    match swept {
        Ok(0) => {}
        Ok(parts) => tracing::info!(parts, "removed what was left of transfers that do not come again"),
        Err(error) => tracing::warn!("cannot look for leftovers: {:#}", anyhow::Error::from(error)),
    }
    if denied { Sweeps::Denied } else { Sweeps::Allowed }
}
