//! Blocking work beside the runtime.

/// Runs blocking work off the runtime's own threads. It ends even when nobody waits for it any more. A panic in it goes on in
/// the caller.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Blocking work is only cancelled when the runtime goes away, and this task with it.
            Err(_) => std::future::pending().await,
        },
    }
}
