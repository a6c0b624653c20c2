//! Looking now and then whether the target directory is still where its path leads: nothing may come for long.

use std::time::Duration;

use natsfer_common::blocking;
use natsfer_consumer::{ReceiveError, TargetDirectory};
use tokio::time::MissedTickBehavior;
use tokio_util::task::AbortOnDropHandle;

/// How often to look.
const INTERVAL: Duration = Duration::from_secs(2);

/// The looking. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Place(AbortOnDropHandle<ReceiveError>);

impl Place {
    pub(super) fn watch(target: TargetDirectory) -> Self {
        Self(AbortOnDropHandle::new(tokio::spawn(look(target))))
    }

    /// Waits until the directory is gone, and says how.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn gone(&mut self) -> anyhow::Error {
        match (&mut self.0).await {
            Ok(gone) => gone.into(),
            Err(error) => error.into(),
        }
    }
}

async fn look(target: TargetDirectory) -> ReceiveError {
    let mut due = tokio::time::interval(INTERVAL);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        let target = target.clone();
        // What cannot be found out now is looked at again.
        if let Err(gone @ ReceiveError::TargetGone { .. }) = blocking(move || target.ensure_in_place()).await {
            return gone;
        }
    }
}
