//! What the streams hold, transfer by transfer.

use std::{collections::BTreeMap, ops::ControlFlow};

use jiff::Timestamp;

use super::{Broker, BrokerError, Delivery, StartAt};
use crate::{
    Channel, ChannelFilter, Closing, ClosingRecord, Digest, Kind, Manifest, Subject, Totals, TransferId, header as name,
};

/// One stored transfer.
#[derive(Debug, Clone)]
pub struct CatalogEntry {
    /// What the file is.
    pub manifest: Manifest,
    /// How far it is.
    pub state: TransferState,
    /// Its manifest's sequence in the control stream.
    pub sequence: u64,
    /// When its manifest was stored.
    pub published_at: Timestamp,
    /// When its manifest or its closing record was stored, whichever came last.
    pub changed_at: Timestamp,
}

/// How far a transfer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransferState {
    /// It is being sent, or its sender went away.
    Open,
    /// It is all there.
    Complete {
        /// Its size in bytes.
        size: u64,
        /// Bytes of payload it takes in the stream.
        stored_bytes: u64,
        /// Its digest.
        digest: Digest,
    },
    /// Its sender took it back.
    Cancelled {
        /// The sender's words.
        reason: String,
    },
}

impl CatalogEntry {
    /// The file's size in bytes, where it is known yet.
    pub fn size(&self) -> Option<u64> {
        match self.state {
            TransferState::Complete { size, .. } => Some(size),
            _ => self.manifest.size,
        }
    }

    /// Bytes of payload it takes in the stream, once it is complete.
    pub fn stored_bytes(&self) -> Option<u64> {
        match self.state {
            TransferState::Complete { stored_bytes, .. } => Some(stored_bytes),
            _ => None,
        }
    }
}

impl TransferState {
    /// The state's name.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Complete { .. } => "complete",
            Self::Cancelled { .. } => "cancelled",
        }
    }
}

impl From<Closing> for TransferState {
    fn from(closing: Closing) -> Self {
        match closing {
            Closing::Complete(Totals { size, stored_bytes, digest, .. }) => {
                Self::Complete { size, stored_bytes, digest }
            }
            Closing::Cancelled { reason } => Self::Cancelled { reason },
        }
    }
}

impl Broker {
    /// The transfers of this id, on whatever channel; usually one, or none. Reads as [`Broker::catalog`] does.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn find(&self, transfer: TransferId) -> Result<Vec<CatalogEntry>, BrokerError> {
        let mut catalog = self.catalog(&ChannelFilter::default()).await?;
        catalog.retain(|entry| entry.manifest.transfer == transfer);
        Ok(catalog)
    }

    /// Every transfer on these channels, oldest first. Reads the control stream's headers alone: neither chunks nor small
    /// files inside manifests are moved.
    ///
    /// # Errors
    /// When the server does not answer, or the listing was interrupted.
    pub async fn catalog(&self, channels: &ChannelFilter) -> Result<Vec<CatalogEntry>, BrokerError> {
        self.catalog_from(channels, StartAt::First).await
    }

    /// The transfers on these channels that were opened there or later in the control stream: as [`Broker::catalog`], without
    /// reading what is before.
    ///
    /// # Errors
    /// As for [`Broker::catalog`].
    pub async fn catalog_from(
        &self, channels: &ChannelFilter, start: StartAt,
    ) -> Result<Vec<CatalogEntry>, BrokerError> {
        let catalog = self.patiently("listing the transfers", || async {
            let mut catalog = Catalog::default();
            // One after the other: a consumer of one filter has it in the subject that creates it, to which permissions can
            // hold a user. The ends come last: what is ended meanwhile is not shown as open.
            for kind in [Kind::Open, Kind::Close] {
                let filter = self.subjects().filter(kind, channels);
                self.look(self.stream().control(), filter, start, |delivery| {
                    if let Ok(subject) = self.subjects().parse(delivery.subject()) {
                        catalog.note(kind, subject, &delivery);
                    }
                    ControlFlow::Continue(())
                })
                .await?;
            }
            Ok(catalog)
        });
        Ok(catalog.await?.join())
    }
}

#[derive(Default)]
struct Catalog {
    opened: BTreeMap<(Channel, TransferId), Opened>,
    closings: BTreeMap<(Channel, TransferId), (Closing, Timestamp)>,
}

struct Opened {
    manifest: Manifest,
    inline_bytes: u64,
    sequence: u64,
    published_at: Timestamp,
}

impl Catalog {
    fn note(&mut self, kind: Kind, subject: Subject, delivery: &Delivery) {
        let (sequence, published_at) = (delivery.stream_sequence, delivery.published_at);
        match kind {
            Kind::Close => {
                let record = delivery.header(name::CLOSING);
                if let Some(Ok(record)) = record.map(|text| ClosingRecord::from_header(text, subject.transfer)) {
                    // A cancellation stands behind, and in place of, an earlier one.
                    self.closings.insert((subject.channel, subject.transfer), (record.closing, published_at));
                }
            }
            _ => {
                let manifest = delivery.header(name::MANIFEST).map(|text| Manifest::from_header(text, &subject));
                if let Some(Ok(manifest)) = manifest {
                    let size = delivery.header(name::MESSAGE_SIZE).and_then(|size| size.parse().ok());
                    let opened = Opened { manifest, inline_bytes: size.unwrap_or(0), sequence, published_at };
                    self.opened.insert((subject.channel, subject.transfer), opened);
                }
            }
        }
    }

    fn join(mut self) -> Vec<CatalogEntry> {
        let entry = |(key, opened): ((Channel, TransferId), Opened)| {
            let Opened { manifest, inline_bytes, sequence, published_at } = opened;
            let (closing, closed_at) = self.closings.remove(&key).unzip();
            let changed_at = closed_at.map_or(published_at, |closed_at| published_at.max(closed_at));
            let state = match (closing, manifest.inline) {
                (Some(closing @ Closing::Cancelled { .. }), _) | (Some(closing), None) => closing.into(),
                (_, Some(inline)) => TransferState::Complete {
                    size: manifest.size.unwrap_or(0),
                    stored_bytes: inline_bytes,
                    digest: inline.digest,
                },
                (None, None) => TransferState::Open,
            };
            CatalogEntry { manifest, state, sequence, published_at, changed_at }
        };
        let mut entries: Vec<_> = self.opened.into_iter().map(entry).collect();
        entries.sort_by_key(|entry| entry.sequence);
        entries
    }
}
