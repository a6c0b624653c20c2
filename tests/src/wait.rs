//! Waiting for a condition, instead of for a time.

use std::future::Future;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep, timeout_at};

/// Probes until `probe` gives a value, and panics naming `what` if it has not
/// within `limit`. A probe that hangs counts as one that has not answered.
///
/// # Panics
/// When `limit` passes first.
///
/// # Cancel safety
/// Safe as far as `probe` is: at most one probe is under way, and is dropped.
pub async fn eventually<T, F, P>(what: &str, limit: Duration, probe: F) -> T
where
    F: FnMut() -> P,
    P: Future<Output = Option<T>>,
{
    crate::must(try_eventually(what, limit, probe).await, "waited in vain")
}

/// As [`eventually`], but reports the lapse as an error.
///
/// # Errors
/// When `limit` passes first.
pub async fn try_eventually<T, F, P>(what: &str, limit: Duration, mut probe: F) -> Result<T>
where
    F: FnMut() -> P,
    P: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(2);
    let mut probes = 0_u32;
    loop {
        probes += 1;
        if let Ok(Some(value)) = timeout_at(deadline, probe()).await {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            bail!("not within {limit:?} ({probes} probes): {what}");
        }
        sleep(pause.min(deadline - Instant::now())).await;
        // Quick at first, then gentle: these machines are small and shared.
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
