//! What receivers want again, sent one after the other.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use anyhow::Context as _;
use natsfer_common::cli::report;
use natsfer_producer::{Producer, ProducerError, ReceiverName, RepairRequest, SendOptions, TransferId};
use tokio::task::JoinSet;

use crate::cli::delivery::send_again;

/// Rest after a failure that passes.
const REST: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct Repairs {
    /// Who wants something again, and of what: each is left without if it cannot be sent.
    waiting: BTreeMap<TransferId, BTreeSet<ReceiverName>>,
    /// Rest before the next one: what has just failed would fail again.
    rest: Duration,
    /// One at most.
    under_way: JoinSet<Attempt>,
}

/// How one has ended.
type Attempt = (TransferId, BTreeSet<ReceiverName>, anyhow::Result<()>);

impl Repairs {
    /// A receiver misses chunks.
    pub(super) fn want(&mut self, request: RepairRequest) {
        let RepairRequest { transfer, receiver, chunks, .. } = request;
        tracing::info!(%transfer, %receiver, %chunks, "asked to send chunks again");
        self.waiting.entry(transfer).or_default().insert(receiver);
    }

    /// Begins with the next one, unless one is under way. `source` says where a transfer's file is, and how it was sent.
    pub(super) fn begin(&mut self, producer: &Producer, source: impl Fn(TransferId) -> Option<(PathBuf, SendOptions)>) {
        if !self.under_way.is_empty() {
            return;
        }
        let Some((transfer, receivers, (path, options))) = self.next(source) else { return };
        let (producer, rest) = (producer.clone(), std::mem::take(&mut self.rest));
        self.under_way.spawn(async move {
            tokio::time::sleep(rest).await;
            let result = send_again(&producer, &path, options, transfer).await;
            (transfer, receivers, result)
        });
    }

    /// The next one that has a source.
    fn next<S>(&mut self, source: impl Fn(TransferId) -> Option<S>) -> Option<(TransferId, BTreeSet<ReceiverName>, S)> {
        loop {
            let (transfer, receivers) = self.waiting.pop_first()?;
            if let Some(source) = source(transfer) {
                return Some((transfer, receivers, source));
            }
        }
    }

    /// The end of what is under way; `None` if nothing is. Cancel safe.
    pub(super) async fn ended(&mut self) -> Option<anyhow::Result<Attempt>> {
        Some(self.under_way.join_next().await?.context("a task failed"))
    }

    /// Says how it ended. Returns who is left without, and of what, if that will not change.
    pub(super) fn take(
        &mut self, (transfer, receivers, result): Attempt,
    ) -> Option<(TransferId, BTreeSet<ReceiverName>)> {
        let error = result.err()?;
        // What passes is asked for once more: the others would be left without.
        let passing = error.downcast_ref().is_some_and(|error| match error {
            ProducerError::Stalled { .. } => true,
            ProducerError::Broker(error) => error.is_passing(),
            _ => false,
        });
        let names: Vec<_> = receivers.iter().map(|receiver| format!("'{receiver}'")).collect();
        report(&error.context(format!("what {} asked for of {transfer} was not sent again", names.join(", "))));
        if passing {
            self.rest = REST;
            self.waiting.entry(transfer).or_default().extend(receivers);
            return None;
        }
        Some((transfer, receivers))
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;
    use natsfer_producer::BrokerError;

    use super::*;

    fn names(names: &[&str]) -> BTreeSet<ReceiverName> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn repairs(waiting: &[(TransferId, &[&str])]) -> Repairs {
        let waiting = waiting.iter().map(|(transfer, receivers)| (*transfer, names(receivers))).collect();
        Repairs { waiting, ..Repairs::default() }
    }

    #[test]
    fn what_has_no_source_any_more_holds_up_nothing() {
        let (gone, there) = ("0".repeat(32).parse().unwrap(), "1".repeat(32).parse().unwrap());
        let mut repairs = repairs(&[(gone, &["a"]), (there, &["a", "b"])]);
        let source = |transfer: TransferId| (transfer == there).then_some(());
        assert_eq!(repairs.next(source), Some((there, names(&["a", "b"]), ())));
        assert_eq!(repairs.next(source), None);
    }

    #[test]
    fn everybody_who_asked_is_left_without_what_cannot_be_sent() {
        let transfer = "0".repeat(32).parse().unwrap();
        let mut repairs = Repairs::default();
        let both = names(&["awaited", "stranger"]);
        for name in &both {
            repairs.want(RepairRequest::new(transfer, name.clone(), &Default::default()));
        }
        let (_, receivers, ()) = repairs.next(|_| Some(())).unwrap();
        assert_eq!(repairs.take((transfer, receivers, Err(anyhow!("it has changed")))), Some((transfer, both)));
        assert_eq!((repairs.waiting.len(), repairs.rest), (0, Duration::ZERO));
    }

    #[test]
    fn what_fails_for_now_is_sent_after_a_rest_for_all_who_want_it() {
        let transfer = "0".repeat(32).parse().unwrap();
        let mut repairs = repairs(&[(transfer, &["late"])]);
        let source = BrokerError::Closed { what: "sending".into() };
        let stalled = ProducerError::Stalled { transfer, after: REST, source };
        assert_eq!(repairs.take((transfer, names(&["early"]), Err(stalled.into()))), None);
        assert_eq!(repairs.rest, REST);
        assert_eq!(repairs.next(|_| Some(())), Some((transfer, names(&["early", "late"]), ())));
    }
}
