//! How long to wait for a server that is away, busy or full: the one place that tries again.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{Broker, BrokerError};
use crate::metrics::RETRIES;

const FIRST_REST: Duration = Duration::from_millis(100);
const LONGEST_REST: Duration = Duration::from_secs(2);
/// While a server starts, or a leader is elected, nothing answers for it. After so long it is found out whether there is
/// anything to wait for.
const LOOK: Duration = Duration::from_secs(1);
/// After so long, streams that have never been there are not waited for.
const NOBODY: Duration = Duration::from_secs(10);

/// Patience with the server: only silence uses it up. Whatever shares one is under way together, and the progress of any part
/// of it renews it.
#[derive(Debug)]
pub struct Patience {
    limit: Duration,
    moved: Mutex<Instant>,
    waiting: AtomicUsize,
}

/// What it means that nothing answers.
#[derive(PartialEq, Eq)]
enum Nobody {
    /// There may be nothing that could.
    Perhaps,
    /// It is there, and away for now.
    Away,
}

/// One of those that wait, from the first failure on: what takes long and succeeds is no silence.
struct Waiting<'a> {
    count: &'a AtomicUsize,
    since: Instant,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why nothing came of it.
#[derive(Debug, thiserror::Error)]
pub enum Impatience {
    /// It failed in a way that waiting does not mend.
    #[error(transparent)]
    Failed(BrokerError),
    /// Nothing moved for as long as allowed.
    #[error("nothing moved for {} s", after.as_secs())]
    Stalled {
        /// How long was waited.
        after: Duration,
        /// What the server said last.
        last: BrokerError,
    },
}

impl Patience {
    /// Waits at most so long for anything to move.
    pub fn new(limit: Duration) -> Self {
        Self { limit, moved: Mutex::new(Instant::now()), waiting: AtomicUsize::new(0) }
    }

    /// Does it until it succeeds, fails for good, or nothing has moved for too long. `who` stands before what is awaited in
    /// the log.
    ///
    /// # Cancel safety
    /// As cancel safe as the action.
    ///
    /// # Errors
    /// See [`Impatience`].
    pub async fn until<T, F>(&self, broker: &Broker, who: &str, mut action: impl FnMut() -> F) -> Result<T, Impatience>
    where
        F: Future<Output = Result<T, BrokerError>>,
    {
        let (mut rest, mut waiting, mut nobody) = (FIRST_REST, None::<Waiting<'_>>, Nobody::Perhaps);
        let mut told = false;
        loop {
            let mut error = match action().await {
                Ok(done) => {
                    *self.moved.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
                    let since = waiting.take().map(|waiting| waiting.since);
                    if let Some(since) = since
                        && self.waiting.load(Ordering::Relaxed) == 0
                    {
                        tracing::info!("{who}: going on after {:.1} s", since.elapsed().as_secs_f64());
                    }
                    return Ok(done);
                }
                Err(error) => error,
            };
            if !broker.waits_for(&error) {
                return Err(Impatience::Failed(error));
            }
            metrics::counter!(RETRIES).increment(1);
            // Said once, for all that wait together.
            let first = waiting.is_none() && self.waiting.fetch_add(1, Ordering::Relaxed) == 0;
            let started = waiting.get_or_insert_with(|| Waiting { count: &self.waiting, since: Instant::now() }).since;
            let silent = self.silent_since(started);
            if let BrokerError::NoResponders { .. } = error
                && silent >= LOOK.min(self.limit)
                && nobody == Nobody::Perhaps
                // One try says nothing yet: whoever tries again asks.
                && !(self.limit.is_zero() && broker.tells_absence())
            {
                match broker.absence(&error).await {
                    Some(last) if broker.tells_absence() => return Err(Impatience::Failed(last)),
                    // Where there has been something, it may come back, however long that takes. Where JetStream is off, it may be that it
                    // is not on yet.
                    Some(last @ BrokerError::NoStream { .. })
                        if silent >= NOBODY.min(self.limit) && !broker.has_seen_streams() =>
                    {
                        return Err(Impatience::Stalled { after: NOBODY.min(self.limit), last });
                    }
                    Some(last) => {
                        if !self.limit.is_zero() && !std::mem::replace(&mut told, true) {
                            tracing::warn!("{who}: waiting for the server ({last})");
                        }
                        error = last;
                    }
                    None => nobody = Nobody::Away,
                }
            }
            if silent >= self.limit {
                return Err(Impatience::Stalled { after: self.limit, last: error });
            }
            let awaited =
                if error.is_full() { "the stream is full: waiting for room" } else { "waiting for the server" };
            // A server that starts answers soon; one that is set up otherwise never does.
            let hint = match error {
                BrokerError::NoResponders { .. } => {
                    "; is JetStream enabled for this account, and has the stream a leader? `doctor` looks"
                }
                _ => "",
            };
            if first {
                tracing::warn!("{who}: {awaited} ({error}{hint})");
            } else {
                tracing::debug!("{who}: {awaited} ({error}{hint})");
            }
            tokio::time::sleep(rest.min(self.limit.saturating_sub(silent))).await;
            rest = (rest * 2).min(LONGEST_REST);
            // While the server is away, the client would keep a copy of every try to send it later: one is enough.
            let mut last = error;
            loop {
                let left = self.limit.saturating_sub(self.silent_since(started));
                match tokio::time::timeout(left, broker.flush()).await {
                    Ok(Ok(())) => break,
                    Ok(Err(error)) if !error.is_passing() => return Err(Impatience::Failed(error)),
                    Ok(Err(error)) if left.is_zero() => {
                        return Err(Impatience::Stalled { after: self.limit, last: error });
                    }
                    Ok(Err(error)) => last = error,
                    // The connection takes nothing.
                    Err(_) => return Err(Impatience::Stalled { after: self.limit, last }),
                }
                tokio::time::sleep(FIRST_REST).await;
            }
        }
    }

    /// How long nothing has moved while something was asked for: a source that is slow to read is no silence.
    fn silent_since(&self, started: Instant) -> Duration {
        let moved = *self.moved.lock().unwrap_or_else(PoisonError::into_inner);
        moved.max(started).elapsed()
    }
}

impl Impatience {
    /// The server's last word.
    pub fn into_last(self) -> BrokerError {
        match self {
            Self::Failed(error) | Self::Stalled { last: error, .. } => error,
        }
    }
}
