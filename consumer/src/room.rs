//! A disk that is full, or cannot be written to, is waited for: nothing is acknowledged meanwhile, and other transfers go on.

use std::{io, time::Duration};

use natsfer_common::TransferId;
use tokio::time::Instant;

use crate::disk_error::{Awaited, Call, Meaning, meaning};

/// How often to try again.
const REST: Duration = Duration::from_secs(1);
/// How long a transfer waits before it is put back, so that another process of the name can take it.
const PATIENCE: Duration = Duration::from_secs(300);

/// One transfer's wait for room on the disk, or for a disk that can be written to.
#[derive(Debug)]
pub(crate) struct Room {
    transfer: TransferId,
    waiting: Option<(Awaited, Instant)>,
}

impl Room {
    pub(crate) fn new(transfer: TransferId) -> Self {
        Self { transfer, waiting: None }
    }

    /// Whether to try again: after a rest, if this error says that there is no room, or that nothing can be written.
    pub(crate) async fn try_again(&mut self, error: &io::Error) -> bool {
        let Meaning::Wait(awaited) = meaning(Call::Use, error) else { return false };
        let now = Instant::now();
        if self.waiting.is_none_or(|(before, _)| before != awaited) {
            match awaited {
                Awaited::Room => {
                    tracing::warn!(transfer = %self.transfer, "the disk is full: waiting for room ({error})");
                }
                Awaited::Writing => {
                    tracing::warn!(transfer = %self.transfer, "the disk is read-only: waiting until it can be written to ({error})");
                }
            }
        }
        let since = self.waiting.map_or(now, |(_, since)| since);
        self.waiting = Some((awaited, since));
        if since.elapsed() >= PATIENCE {
            return false;
        }
        tokio::time::sleep(REST).await;
        true
    }

    /// It worked.
    pub(crate) fn found(&mut self) {
        if let Some((awaited, since)) = self.waiting.take() {
            let waited = since.elapsed().as_secs_f64();
            let again = match awaited {
                Awaited::Room => "there is room again",
                Awaited::Writing => "the disk can be written to again",
            };
            tracing::info!(transfer = %self.transfer, "{again}, going on after {waited:.0} s");
        }
    }
}
