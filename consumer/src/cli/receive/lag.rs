//! How much a receiver has before it, for its metrics.

use std::{convert::Infallible, path::Path, time::Duration};

use natsfer_common::{
    ReceiverName, blocking,
    broker::Broker,
    metrics::{FAILED_COMMANDS, PENDING_COMMANDS, TAKEN_FILES, WAITING_FILES},
};
use natsfer_consumer::hooks::Counts;

/// How often to look.
const INTERVAL: Duration = Duration::from_secs(10);

/// Measures it for as long as it is polled.
pub(super) async fn measure(broker: &Broker, receiver: &ReceiverName, target: &Path) -> Infallible {
    loop {
        // Without --exec, too: what an earlier run has left is as undone. Before the server, which may be away for long.
        let (directory, name) = (target.to_owned(), receiver.clone());
        match blocking(move || Counts::of(&directory, &name)).await {
            Ok(Counts { pending, failed }) => {
                metrics::gauge!(PENDING_COMMANDS).set(pending as f64);
                metrics::gauge!(FAILED_COMMANDS).set(failed as f64);
            }
            Err(error) => tracing::debug!(%error, "commands are not counted"),
        }
        match broker.consumer(broker.stream().control(), receiver.as_str()).await {
            Ok(Some(inbox)) => {
                metrics::gauge!(WAITING_FILES).set(inbox.pending as f64);
                metrics::gauge!(TAKEN_FILES).set(inbox.unacknowledged as f64);
            }
            // The receiver makes it anew.
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "the backlog is not measured"),
        }
        tokio::time::sleep(INTERVAL).await;
    }
}
