//! How much a receiver has before it, for its metrics.

use std::{convert::Infallible, time::Duration};

use natsfer_common::{
    ReceiverName,
    broker::Broker,
    metrics::{TAKEN_FILES, WAITING_FILES},
};

/// How often the server is asked.
const INTERVAL: Duration = Duration::from_secs(10);

/// Measures it for as long as it is polled.
pub(super) async fn measure(broker: &Broker, receiver: &ReceiverName) -> Infallible {
    loop {
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
