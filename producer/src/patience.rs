//! One transfer's patience with the server.

use std::time::Duration;

use natsfer_common::{
    TransferId,
    broker::{self, Broker, BrokerError, Impatience},
};

use crate::ProducerError;

/// Waits for a server that is away, busy or full. Shared by all that is under way of one transfer: only silence uses it up.
#[derive(Debug)]
pub(crate) struct Patience {
    broker: Broker,
    transfer: TransferId,
    who: String,
    patience: broker::Patience,
}

impl Patience {
    pub(crate) fn new(broker: Broker, transfer: TransferId, limit: Duration) -> Self {
        Self { broker, transfer, who: format!("transfer {transfer}"), patience: broker::Patience::new(limit) }
    }

    /// Does it until it succeeds, fails for good, or nothing has moved for too long.
    pub(crate) async fn until<T, F>(&self, action: impl FnMut() -> F) -> Result<T, ProducerError>
    where
        F: Future<Output = Result<T, BrokerError>>,
    {
        let transfer = self.transfer;
        let result = self.patience.until(&self.broker, &self.who, action).await;
        result.map_err(|error| match error {
            Impatience::Failed(error) => error.into(),
            Impatience::Stalled { after, last } => ProducerError::Stalled { transfer, after, source: last },
        })
    }
}
