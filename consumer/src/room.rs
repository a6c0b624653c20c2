//! A full disk is waited for: nothing is acknowledged meanwhile, and other transfers go on.

use std::{io, time::Duration};

use natsfer_common::TransferId;
use tokio::time::Instant;

/// How often to try again.
const REST: Duration = Duration::from_secs(1);
/// How long a transfer waits before it is put back, so that another process of the name can take it.
const PATIENCE: Duration = Duration::from_secs(300);

/// One transfer's wait for room on the disk.
#[derive(Debug)]
pub(crate) struct Room {
    transfer: TransferId,
    full_since: Option<Instant>,
}

impl Room {
    pub(crate) fn new(transfer: TransferId) -> Self {
        Self { transfer, full_since: None }
    }

    /// Whether to try again: after a rest, if this error says that there is no room.
    pub(crate) async fn try_again(&mut self, error: &io::Error) -> bool {
        if !matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            return false;
        }
        let since = *self.full_since.get_or_insert_with(|| {
            tracing::warn!(transfer = %self.transfer, "the disk is full: waiting for room ({error})");
            Instant::now()
        });
        if since.elapsed() >= PATIENCE {
            return false;
        }
        tokio::time::sleep(REST).await;
        true
    }

    /// It worked.
    pub(crate) fn found(&mut self) {
        if let Some(since) = self.full_since.take() {
            let waited = since.elapsed().as_secs_f64();
            tracing::info!(transfer = %self.transfer, "there is room again, going on after {waited:.0} s");
        }
    }
}
