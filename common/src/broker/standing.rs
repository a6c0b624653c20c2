//! How far each receiver is with a transfer.

use std::collections::{BTreeMap, BTreeSet};

use super::{Broker, BrokerError, CatalogEntry, ConsumerState, TransferState};
use crate::{Manifest, Receipt, ReceiverName, RejectionState};
use jiff::Timestamp;

/// One receiver and one transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The receiver.
    pub receiver: ReceiverName,
    /// How far it is.
    pub state: StandingState,
}

/// How far a receiver is with a transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StandingState {
    /// It has it, and says since when.
    Landed {
        /// By the receiver's clock.
        at: Timestamp,
    },
    /// It has taken it off its inbox, and says why.
    Rejected {
        /// Why, in the receiver's words.
        detail: String,
    },
    /// It is done with it, and has not said that it has it: it skipped it, or may not publish receipts and rejections.
    Done,
    /// It has begun.
    Receiving {
        /// Stored messages of the transfer, its chunks and closing record, that it has not acknowledged yet: what it was given,
        /// and has not said to be on its disk, is among them.
        remaining: u64,
    },
    /// It was given the transfer, and reads no chunks of it. Which transfers it is done with the server tells only up to the first
    /// one that it is not done with: it may have refused this one.
    Taken,
    /// Its turn has not come; or it was given a damaged message, and waits for another.
    Waiting,
}

impl StandingState {
    /// The state's name.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Landed { .. } => "landed",
            Self::Rejected { .. } => "rejected",
            Self::Done => "done",
            Self::Receiving { .. } => "receiving",
            Self::Taken => "taken",
            Self::Waiting => "waiting",
        }
    }
}

/// Every receiver that has said that it has the transfer, and every one that listens on its channel.
///
/// # Errors
/// When the server does not answer, or this user may not look at consumers.
pub async fn standings(broker: &Broker, entry: &CatalogEntry) -> Result<Vec<Standing>, BrokerError> {
    let Manifest { transfer, channel, .. } = &entry.manifest;
    let mut standings: Vec<Standing> = Vec::new();
    for receipt in broker.receipts(channel, *transfer).await? {
        if is_of(&receipt, entry) && !standings.iter().any(|standing| standing.receiver == receipt.receiver) {
            let state = StandingState::Landed { at: receipt.landed_at };
            standings.push(Standing { receiver: receipt.receiver, state });
        }
    }
    let rejections = match broker.rejections_of(channel, *transfer).await {
        Err(BrokerError::Denied { .. }) => BTreeMap::new(),
        rejections => rejections?,
    };
    for (receiver, state) in rejections {
        if let RejectionState::Rejected { detail, .. } = state
            && !standings.iter().any(|standing| standing.receiver == receiver)
        {
            standings.push(Standing { receiver, state: StandingState::Rejected { detail } });
        }
    }
    let subject = broker.subjects().open(channel, *transfer);
    let waiting = match entry.manifest.inline {
        Some(_) => match broker.asked_since(channel, *transfer, entry.published_at).await {
            Err(BrokerError::Denied { .. }) => BTreeSet::new(),
            waiting => waiting?,
        },
        None => BTreeSet::new(),
    };
    let cursors = broker.consumers(&broker.stream().data()).await?;
    for inbox in broker.consumers(broker.stream().control()).await? {
        let Ok(receiver) = inbox.name.parse::<ReceiverName>() else { continue };
        if inbox.listens_to(&subject) && !standings.iter().any(|standing| standing.receiver == receiver) {
            let name = format!("{receiver}-{transfer}");
            let cursor = cursors.iter().find(|cursor| cursor.name == name);
            let state = if waiting.contains(&receiver) { StandingState::Waiting } else { state(entry, &inbox, cursor) };
            standings.push(Standing { receiver, state });
        }
    }
    standings.sort_by(|a, b| a.receiver.cmp(&b.receiver));
    Ok(standings)
}

/// What an open transfer will have is not known yet, what a cancelled one had not any more.
fn is_of(receipt: &Receipt, entry: &CatalogEntry) -> bool {
    match &entry.state {
        TransferState::Complete { digest, size, .. } => receipt.is_of(*digest, *size),
        TransferState::Open | TransferState::Cancelled { .. } => true,
    }
}

fn state(entry: &CatalogEntry, inbox: &ConsumerState, cursor: Option<&ConsumerState>) -> StandingState {
    if inbox.acknowledged_to >= entry.sequence {
        return StandingState::Done;
    }
    match cursor {
        Some(cursor) => StandingState::Receiving { remaining: cursor.pending + cursor.unacknowledged },
        None if inbox.delivered_to >= entry.sequence => StandingState::Taken,
        None => StandingState::Waiting,
    }
}
