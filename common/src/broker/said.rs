//! What receivers have said about a transfer.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::ControlFlow,
};

use jiff::Timestamp;

use super::{Broker, BrokerError, Delivery, StartAt};
use crate::{
    Channel, ChannelFilter, Kind, Receipt, ReceiverName, Rejection, RejectionState, RepairRequest, Subject, TransferId,
    header as name,
};

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
        // A consumer for each small file that is sent again would be more than the server takes.
        match self.last_message(self.stream().control(), &self.subjects().of(Kind::Repair, channel, transfer)).await {
            Ok(newest) if newest.as_ref().is_none_or(|newest| newest.stored_at < since) => return Ok(BTreeSet::new()),
            // Who may not read one may be allowed to look through all.
            Ok(_) | Err(BrokerError::Denied { .. }) => {}
            Err(error) => return Err(error),
        }
        let requests = self.repair_requests(channel, transfer).await?.into_iter();
        Ok(requests.filter(|(_, at)| *at >= since).map(|(request, _)| request.receiver).collect())
    }

    /// What a receiver has rejected on these channels, and stands to that, oldest first; on all channels, also the messages in which
    /// no transfer could be read. What cannot be read is passed over.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn rejections(
        &self, receiver: &ReceiverName, channels: &ChannelFilter,
    ) -> Result<Vec<(Option<Subject>, Rejection)>, BrokerError> {
        let mut filters = vec![self.subjects().filter(Kind::Reject, channels)];
        if *channels == ChannelFilter::default() {
            filters.push(self.subjects().unreadable(receiver));
        }
        let mut all = Vec::new();
        // One filter for each look, which then stands in the subject of the request, where permissions can see it.
        for filter in filters {
            let found = self.patiently("looking up what was rejected", || async {
                let mut standing: BTreeMap<_, (u64, Rejection)> = BTreeMap::new();
                let mut by_age = BTreeMap::new();
                self.look(self.stream().control(), filter.clone(), StartAt::First, |delivery| {
                    let subject = self.subjects().parse(delivery.subject()).ok();
                    let transfer = subject.as_ref().map(|subject| subject.transfer);
                    let record = delivery.header(name::REJECTION).map(|text| Rejection::from_header(text, transfer));
                    if let Some(Ok(rejection)) = record
                        && rejection.receiver == *receiver
                    {
                        let unnamed = rejection.sequence.filter(|_| subject.is_none());
                        let of = (delivery.subject().to_owned(), unnamed);
                        // The last word about a transfer counts.
                        if let Some((sequence, _)) = standing.remove(&of) {
                            by_age.remove(&sequence);
                        }
                        if let RejectionState::Rejected { .. } = rejection.state {
                            by_age.insert(delivery.stream_sequence, of.clone());
                            standing.insert(of, (delivery.stream_sequence, rejection));
                        }
                        if standing.len() > MOST_WORDS
                            && let Some((_, oldest)) = by_age.pop_first()
                        {
                            standing.remove(&oldest);
                        }
                    }
                    ControlFlow::Continue(())
                })
                .await?;
                Ok(standing)
            });
            all.extend(found.await?);
        }
        all.sort_by_key(|(_, (sequence, _))| *sequence);
        Ok(all.into_iter().map(|((subject, _), (_, said))| (self.subjects().parse(&subject).ok(), said)).collect())
    }

    /// Who has rejected a transfer, by the last word of each receiver. What cannot be read is passed over.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn rejections_of(
        &self, channel: &Channel, transfer: TransferId,
    ) -> Result<BTreeMap<ReceiverName, RejectionState>, BrokerError> {
        let said = self.said(Kind::Reject, channel, transfer, |delivery| {
            Rejection::from_header(delivery.header(name::REJECTION)?, Some(transfer)).ok()
        });
        let mut last: BTreeMap<_, _> =
            said.await?.into_iter().map(|rejection| (rejection.receiver, rejection.state)).collect();
        last.retain(|_, state| matches!(state, RejectionState::Rejected { .. }));
        Ok(last)
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
