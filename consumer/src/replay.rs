//! Past transfers, received again without disturbing any receiver.

use std::sync::Arc;

use jiff::Timestamp;
use natsfer_common::{
    ChannelFilter, Rate, TransferId,
    broker::{Broker, CatalogEntry, StoredMessage, TransferState},
    header,
};

use crate::{
    Choice, Incoming, Limits, ReceiveError, Selection, flow::Flows, origin::Origin, progress::Meter,
    read_marks::ReadMarks,
};

/// Bytes of which a part is kept while others are written.
const WINDOW: u64 = 8 << 20;

/// Which past transfers.
#[derive(Debug, Clone)]
pub enum PastTransfers {
    /// The one with this id.
    Transfer(TransferId),
    /// All complete ones on these channels.
    Channels {
        /// The channels.
        channels: ChannelFilter,
        /// Published at this time or later.
        since: Option<Timestamp>,
        /// Published at this time or earlier.
        until: Option<Timestamp>,
        /// Those of them that are selected.
        selection: Selection,
    },
}

/// Finds past transfers.
#[derive(Debug, Clone)]
pub struct Replays {
    broker: Broker,
    flows: Flows,
    limits: Limits,
}

impl Replays {
    /// Over this connection.
    pub fn new(broker: Broker) -> Self {
        Self { flows: Flows::new(WINDOW, 1), broker, limits: Limits::default() }
    }

    /// With no more than so many bytes per second.
    #[must_use]
    pub fn with_rate(mut self, rate: Option<Rate>) -> Self {
        self.flows = self.flows.with_rate(rate);
        self
    }

    /// With other limits than the default ones.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// What was selected, oldest first. Open and cancelled transfers are only found by their id.
    ///
    /// # Errors
    /// When the server does not answer, or there is no transfer of the given id.
    pub async fn select(&self, which: &PastTransfers) -> Result<Vec<CatalogEntry>, ReceiveError> {
        match which {
            PastTransfers::Transfer(transfer) => {
                let catalog = self.broker.find(*transfer).await?;
                if catalog.is_empty() {
                    return Err(ReceiveError::NoSuchTransfer { transfer: *transfer });
                }
                Ok(catalog)
            }
            PastTransfers::Channels { channels, since, until, selection } => {
                let mut catalog = self.broker.catalog(channels).await?;
                catalog.retain(|entry| {
                    let TransferState::Complete { size, .. } = entry.state else { return false };
                    since.is_none_or(|since| entry.published_at >= since)
                        && until.is_none_or(|until| entry.published_at <= until)
                        && selection.choose(&entry.manifest, Some(size)) == Choice::Taken
                });
                Ok(catalog)
            }
        }
    }

    /// Opens one for receiving.
    ///
    /// # Errors
    /// When it has been removed meanwhile, or the server does not answer.
    pub async fn open(&self, entry: &CatalogEntry) -> Result<Incoming, ReceiveError> {
        let manifest = entry.manifest.clone();
        let (payload, crc32) = match manifest.inline {
            None => Default::default(),
            Some(_) => {
                let transfer = manifest.transfer;
                let subject = self.broker.subjects().open(&manifest.channel, transfer);
                let message = self.broker.known_message(self.broker.stream().control(), &subject).await?;
                // Published again, it is newer than the list. Removed and sent again, it is another one.
                let is_this =
                    |message: &StoredMessage| message.manifest(&manifest.channel, transfer).as_ref() == Some(&manifest);
                let message = message.filter(is_this);
                let message = message.ok_or(ReceiveError::NoSuchTransfer { transfer })?;
                let crc32 = message.header(header::CRC32).map(str::to_owned);
                (message.payload, crc32)
            }
        };
        let progress = Meter::new(&manifest);
        Ok(Incoming {
            broker: self.broker.clone(),
            manifest,
            opened_at: entry.published_at,
            payload,
            crc32,
            origin: Origin::Replay,
            flows: self.flows.clone(),
            limits: self.limits.clone(),
            progress,
            selection: Arc::default(),
            read_marks: ReadMarks::default(),
        })
    }
}
