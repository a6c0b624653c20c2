//! Waiting for a consumer that promises heartbeats, until what was asked of it is known to be lost.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::{Broker, line::Line};
use crate::liveness::{Liveness, Watch};

/// How often it is looked whether the connection is another one.
const TICK: Duration = Duration::from_millis(500);

/// The clock, the connection and the signs for [`Liveness`].
#[derive(Debug)]
pub(super) struct Heartbeats {
    line: Line,
    began: Instant,
    liveness: Liveness,
    /// A sign of the server that was asked for.
    sign: Option<AbortOnDropHandle<bool>>,
    /// The connection on which was asked.
    connection: u64,
}

/// Why nothing will come of what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Silence {
    /// The connection was made anew.
    Reconnected,
    /// The server gives signs of itself, and none of what was asked.
    Unserved,
}

impl Heartbeats {
    /// Asked now, of a server that promises to be heard at least this often.
    pub(super) fn new(broker: &Broker, interval: Duration) -> Self {
        let (line, began) = (broker.line.clone(), Instant::now());
        let connection = line.connects();
        Self { line, began, liveness: Liveness::new(Duration::ZERO, interval), sign: None, connection }
    }

    /// Something of what was asked came.
    pub(super) fn heard(&mut self) {
        self.sign = None;
        self.liveness.heard(self.began.elapsed());
    }

    /// It was asked anew, or for more, on the connection that stands now.
    pub(super) fn asked(&mut self) {
        self.connection = self.line.connects();
        self.heard();
    }

    /// Whether the connection is another one than the one on which was asked.
    pub(super) fn is_stale(&self) -> bool {
        self.line.connects() != self.connection
    }

    /// Waits until what was asked is lost. However slow the line is, or how long it stands still: see [`Liveness`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn lost(&mut self) -> Silence {
        loop {
            if self.is_stale() {
                return Silence::Reconnected;
            }
            let now = self.began.elapsed();
            let tick = Instant::now() + TICK;
            match self.liveness.watch(now) {
                Watch::Lost => return Silence::Unserved,
                Watch::Rest { until } => tokio::time::sleep_until(tick.min(self.began + until)).await,
                Watch::AwaitSign => {
                    let line = &self.line;
                    let sign = self.sign.get_or_insert_with(|| {
                        let line = line.clone();
                        AbortOnDropHandle::new(tokio::spawn(async move { line.sign().await }))
                    });
                    let Ok(came) = tokio::time::timeout_at(tick, sign).await else { continue };
                    self.sign = None;
                    match came {
                        Ok(true) => self.liveness.sign(self.began.elapsed()),
                        // The connection has ended, which is seen when there is another one.
                        _ => tokio::time::sleep_until(tick).await,
                    }
                }
            }
        }
    }
}
