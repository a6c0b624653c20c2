//! Waiting until receivers have what was sent.

use std::collections::{BTreeMap, BTreeSet};

use natsfer_common::{
    Channel, ChannelFilter, Kind, Receipt, ReceiverName, RepairRequest, TransferId,
    broker::{Broker, Follow},
    header,
};

use crate::{ProducerError, Sent};

/// What receivers say about transfers, until each of the named ones has every one of them.
#[derive(Debug)]
pub struct Deliveries {
    broker: Broker,
    follow: Follow,
    awaited: BTreeMap<(Channel, TransferId), BTreeSet<ReceiverName>>,
}

/// What a receiver says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// It has a file: verified, synced, under its name.
    Landed(Receipt),
    /// It needs chunks again: send the transfer's source once more.
    Wanted(RepairRequest),
}

impl Deliveries {
    /// Begins to listen. What was said since the transfers were opened is heard, too.
    ///
    /// # Errors
    /// When the server does not answer, or refuses.
    pub async fn of(broker: &Broker, sent: &[Sent], receivers: &[ReceiverName]) -> Result<Self, ProducerError> {
        let awaited: BTreeMap<_, BTreeSet<_>> = sent
            .iter()
            .map(|sent| ((sent.channel.clone(), sent.transfer), receivers.iter().cloned().collect()))
            .collect();
        let channels: BTreeSet<_> = sent.iter().map(|sent| sent.channel.clone()).collect();
        let filters = channels
            .into_iter()
            .map(ChannelFilter::from)
            .flat_map(|channel| [Kind::Receipt, Kind::Repair].map(|kind| broker.subjects().filter(kind, &channel)));
        let from = sent.iter().map(|sent| sent.sequence).min().unwrap_or(1);
        let follow = broker.follow(filters.collect(), from).await?;
        Ok(Self { broker: broker.clone(), follow, awaited })
    }

    /// How many receipts have not come yet.
    pub fn outstanding(&self) -> usize {
        self.awaited.values().map(BTreeSet::len).sum()
    }

    /// Who has not got which transfer yet.
    pub fn awaited(&self) -> impl Iterator<Item = (TransferId, &ReceiverName)> {
        self.awaited.iter().flat_map(|((_, transfer), names)| names.iter().map(|name| (*transfer, name)))
    }

    /// The next word of an awaited receiver, or any receiver's need for repair; `None` when every one of them has everything.
    /// Waits as long as it takes.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing that was said is lost.
    ///
    /// # Errors
    /// When the connection is closed, or the server refuses.
    pub async fn next(&mut self) -> Result<Option<Word>, ProducerError> {
        while self.outstanding() > 0 {
            let delivery = self.follow.next().await?;
            let Ok(subject) = self.broker.subjects().parse(delivery.subject()) else { continue };
            let transfer = subject.transfer;
            let Some(names) = self.awaited.get_mut(&(subject.channel, transfer)) else { continue };
            if let Some(Ok(receipt)) = delivery.header(header::RECEIPT).map(|text| Receipt::from_header(text, transfer))
            {
                if names.remove(&receipt.receiver) {
                    return Ok(Some(Word::Landed(receipt)));
                }
            } else if let Some(Ok(request)) =
                delivery.header(header::REPAIR).map(|text| RepairRequest::from_header(text, transfer))
            {
                return Ok(Some(Word::Wanted(request)));
            }
        }
        Ok(None)
    }

    /// Ends the listening: nothing is left at the server.
    pub async fn close(self) {
        // Best effort: the server removes it by itself soon.
        let _ = self.follow.close().await;
    }
}
