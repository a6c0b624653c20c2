//! How long to wait for a server that is away, busy or full.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use natsfer_common::{
    TransferId,
    broker::{Broker, BrokerError, code},
};
use tokio::time::Instant;

use crate::ProducerError;

const FIRST_REST: Duration = Duration::from_millis(100);
const LONGEST_REST: Duration = Duration::from_secs(2);

/// One transfer's patience: only silence uses it up. Shared by all that is under way.
#[derive(Debug)]
pub(crate) struct Patience {
    broker: Broker,
    transfer: TransferId,
    limit: Duration,
    moved: Mutex<Instant>,
}

impl Patience {
    pub(crate) fn new(broker: Broker, transfer: TransferId, limit: Duration) -> Self {
        Self { broker, transfer, limit, moved: Mutex::new(Instant::now()) }
    }

    fn moved(&self) {
        *self.moved.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Does it until it succeeds, fails for good, or nothing has moved for too long.
    pub(crate) async fn until<T, F>(&self, mut action: impl FnMut() -> F) -> Result<T, ProducerError>
    where
        F: Future<Output = Result<T, BrokerError>>,
    {
        let (started, mut rest) = (Instant::now(), FIRST_REST);
        loop {
            let error = match action().await {
                Ok(done) => {
                    self.moved();
                    return Ok(done);
                }
                Err(error) => error,
            };
            let full = code::STREAM_FULL.iter().any(|code| error.is(*code));
            if !full && !error.is_passing() {
                return Err(error.into());
            }
            if self.silent_since(started) + rest > self.limit {
                return Err(self.stalled(error));
            }
            let awaited = if full { "the stream is full: waiting for room" } else { "waiting for the server" };
            if rest == FIRST_REST {
                tracing::warn!(transfer = %self.transfer, "{awaited} ({error})");
            } else {
                tracing::debug!(transfer = %self.transfer, "{awaited} ({error})");
            }
            tokio::time::sleep(rest).await;
            rest = (rest * 2).min(LONGEST_REST);
            // While the server is away, the client would keep a copy of every try to send it later: one is enough.
            while let Err(error) = self.broker.flush().await {
                if !error.is_passing() {
                    return Err(error.into());
                }
                if self.silent_since(started) > self.limit {
                    return Err(self.stalled(error));
                }
            }
        }
    }

    /// How long nothing has moved while something was asked for: a source that is slow to read is no silence.
    fn silent_since(&self, started: Instant) -> Duration {
        let moved = *self.moved.lock().unwrap_or_else(PoisonError::into_inner);
        moved.max(started).elapsed()
    }

    fn stalled(&self, source: BrokerError) -> ProducerError {
        ProducerError::Stalled { transfer: self.transfer, after: self.limit, source }
    }
}
