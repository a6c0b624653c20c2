//! What receivers have said about a transfer.

use std::{
    collections::{BTreeSet, VecDeque},
    ops::ControlFlow,
};

use jiff::Timestamp;

use super::{Broker, BrokerError, Delivery, StartAt};
use crate::{Channel, Kind, Receipt, ReceiverName, RepairRequest, TransferId, header as name};

/// The newest words about a transfer are kept, so many at most: anybody may publish any number.
const MOST_WORDS: usize = 10_000;

impl Broker {
    /// Who has said that it has a transfer, in the order they said it. What cannot be read is passed over: anybody may have
    /// written it.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn receipts(&self, channel: &Channel, transfer: TransferId) -> Result<Vec<Receipt>, BrokerError> {
        self.said(Kind::Receipt, channel, transfer, |delivery| {
            Receipt::from_header(delivery.header(name::RECEIPT)?, transfer).ok()
        })
        .await
    }

    /// The chunks of a transfer that were asked for, and when, oldest first. What cannot be read is passed over.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn repair_requests(
        &self, channel: &Channel, transfer: TransferId,
    ) -> Result<Vec<(RepairRequest, Timestamp)>, BrokerError> {
        self.said(Kind::Repair, channel, transfer, |delivery| {
            let request = RepairRequest::from_header(delivery.header(name::REPAIR)?, transfer).ok()?;
            Some((request, delivery.published_at))
        })
        .await
    }

    /// The receivers that have asked for anything of a transfer since then. They have refused a small file's message, stored then,
    /// for good, and wait for another.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn asked_since(
        &self, channel: &Channel, transfer: TransferId, since: Timestamp,
    ) -> Result<BTreeSet<ReceiverName>, BrokerError> {
        let requests = self.repair_requests(channel, transfer).await?.into_iter();
        Ok(requests.filter(|(_, at)| *at >= since).map(|(request, _)| request.receiver).collect())
    }

    async fn said<T>(
        &self, kind: Kind, channel: &Channel, transfer: TransferId, read: impl Fn(&Delivery) -> Option<T>,
    ) -> Result<Vec<T>, BrokerError> {
        let what = format!("looking up what receivers say about transfer {transfer}");
        self.patiently(&what, || async {
            let mut said = VecDeque::new();
            let filter = self.subjects().of(kind, channel, transfer);
            self.look(self.stream().control(), filter, StartAt::First, |delivery| {
                said.extend(read(&delivery));
                if said.len() > MOST_WORDS {
                    said.pop_front();
                }
                ControlFlow::Continue(())
            })
            .await?;
            Ok(said.into())
        })
        .await
    }
}
