//! Work beside the caller: blocking work, and tasks that are waited for.

use tokio::task::JoinError;

/// Runs blocking work off the runtime's own threads. It ends even when nobody waits for it any more. A panic in it goes on in
/// the caller.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    joined(tokio::task::spawn_blocking(work)).await
}

/// Waits for a task that nobody cancels while it is waited for. A panic in it goes on in the caller.
pub async fn joined<T>(task: impl Future<Output = Result<T, JoinError>>) -> T {
    match task.await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // It is only cancelled when the runtime goes away, and this task with it.
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_panic_goes_on_in_who_waits() {
        let task = tokio::spawn(async { std::panic::resume_unwind(Box::new("why")) });
        let panic = std::panic::AssertUnwindSafe(joined::<()>(task)).catch_unwind().await.unwrap_err();
        assert_eq!(panic.downcast_ref(), Some(&"why"));
        assert_eq!(joined(tokio::spawn(async { 7 })).await, 7);
    }
}
