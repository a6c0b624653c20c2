//! What receivers want again, sent one after the other.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::Context as _;
use natsfer_common::cli::report;
use natsfer_producer::{Producer, ProducerError, ReceiverName, RepairRequest, SendOptions, TransferId};
use tokio::task::JoinSet;

use crate::cli::delivery::send_again;

#[derive(Debug, Default)]
pub(super) struct Repairs {
    waiting: BTreeMap<TransferId, ReceiverName>,
    /// One at most.
    under_way: JoinSet<Attempt>,
}

/// How one has ended.
type Attempt = (TransferId, ReceiverName, anyhow::Result<()>);

impl Repairs {
    /// A receiver misses chunks.
    pub(super) fn want(&mut self, request: RepairRequest) {
        let RepairRequest { transfer, receiver, chunks, .. } = request;
        tracing::info!(%transfer, %receiver, %chunks, "asked to send chunks again");
        self.waiting.insert(transfer, receiver);
    }

    /// Begins with the next one, unless one is under way. `source` says where a transfer's file is, and how it was sent.
    pub(super) fn begin(&mut self, producer: &Producer, source: impl Fn(TransferId) -> Option<(PathBuf, SendOptions)>) {
        if !self.under_way.is_empty() {
            return;
        }
        let Some((transfer, receiver)) = self.waiting.pop_first() else { return };
        let Some((path, options)) = source(transfer) else { return };
        let producer = producer.clone();
        self.under_way.spawn(async move {
            let result = send_again(&producer, &path, options, transfer).await;
            (transfer, receiver, result)
        });
    }

    /// The end of what is under way; `None` if nothing is. Cancel safe.
    pub(super) async fn ended(&mut self) -> Option<anyhow::Result<Attempt>> {
        Some(self.under_way.join_next().await?.context("a task failed"))
    }

    /// Says how it ended. Returns who is left without, and of what, if that will not change.
    pub(super) fn take(&mut self, (transfer, receiver, result): Attempt) -> Option<(TransferId, ReceiverName)> {
        let error = result.err()?;
        // What passes is asked for once more: the others would be left without.
        let passing = error.downcast_ref().is_some_and(|error| match error {
            ProducerError::Stalled { .. } => true,
            ProducerError::Broker(error) => error.is_passing(),
            _ => false,
        });
        report(&error.context(format!("what '{receiver}' needs of {transfer} was not sent again")));
        if passing {
            self.waiting.insert(transfer, receiver);
            return None;
        }
        Some((transfer, receiver))
    }
}
