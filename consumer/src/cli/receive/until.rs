//! When a receiver's run ends.

use natsfer_common::broker::{Broker, BrokerError, code};

/// When to stop.
#[derive(Debug, Clone, Copy)]
pub(super) enum Until {
    /// A signal comes.
    Stopped,
    /// So many files have landed.
    Count(u64),
    /// Everything up to this sequence of the control stream is done, or, where it may not be known, nothing is left.
    Drained(Option<u64>),
}

impl Until {
    /// All that is published by now is done.
    pub(super) async fn drained(broker: &Broker) -> Result<Self, BrokerError> {
        match broker.last_control_sequence().await {
            Ok(sequence) => Ok(Self::Drained(sequence.into())),
            // Nothing is published, before the receiver has made the streams.
            Err(error) if error.is(code::STREAM_NOT_FOUND) => Ok(Self::Drained(None)),
            // This user may not look at streams.
            Err(BrokerError::Denied { .. } | BrokerError::TimedOut { .. }) => Ok(Self::Drained(None)),
            Err(error) => Err(error),
        }
    }

    /// Whether that many have landed.
    pub(super) fn is_counted(self, landed: u64) -> bool {
        matches!(self, Self::Count(count) if landed >= count)
    }
}
