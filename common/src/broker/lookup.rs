//! Finding what is stored of a transfer.

use std::ops::ControlFlow;

use jiff::Timestamp;

use super::{Broker, BrokerError, StartAt, StoredMessage};
use crate::{
    Channel, ChunkHeader, Closing, ClosingRecord, Manifest, StoredChunk, StoredTransfer, Totals, TransferId,
    header as name,
};

impl Broker {
    /// The message that opened a transfer, as the stream's leader knows it: `None` once it was removed. Who may not ask the
    /// leader is shown what a replica has, but not told by it that there is none: it may lag.
    ///
    /// # Errors
    /// When the stream does not exist, the server does not answer, or this user may not ask its leader where a replica has none.
    pub async fn opened(&self, channel: &Channel, transfer: TransferId) -> Result<Option<StoredMessage>, BrokerError> {
        let (stream, subject) = (self.stream().control(), self.subjects().open(channel, transfer));
        match self.last_message_of_leader(stream, &subject).await {
            Err(denied @ BrokerError::Denied { .. }) => match self.last_message(stream, &subject).await? {
                None => Err(denied),
                shown => Ok(shown),
            },
            opened => opened,
        }
    }

    /// Whether a transfer still stands that was opened with this manifest: it was not removed, nor opened by somebody else since.
    ///
    /// # Errors
    /// As for [`Broker::opened`].
    pub async fn stands(&self, manifest: &Manifest) -> Result<bool, BrokerError> {
        let Manifest { transfer, channel, .. } = manifest;
        let found = self.opened(channel, *transfer).await?.and_then(|opened| opened.manifest(channel, *transfer));
        Ok(found.as_ref() == Some(manifest))
    }

    /// A transfer's closing record, if it was closed. A cancellation stands behind, and in place of, an earlier one. It is
    /// final for whoever reads it, and a replica that lags may show one that was removed since: the leader is asked.
    ///
    /// # Errors
    /// When the server does not answer. A record that cannot be read counts as none.
    pub async fn closing_record(
        &self, channel: &Channel, transfer: TransferId,
    ) -> Result<Option<ClosingRecord>, BrokerError> {
        let message = self.last_message(self.stream().control(), &self.subjects().close(channel, transfer)).await?;
        match message.and_then(|message| message.closing_record(transfer)) {
            Some(ClosingRecord { closing: Closing::Cancelled { .. }, .. }) => {
                self.closing_record_of_leader(channel, transfer).await
            }
            record => Ok(record),
        }
    }

    /// A transfer's closing record as the stream's leader knows it. Who may not ask the leader takes a replica's word.
    ///
    /// # Errors
    /// As for [`Broker::closing_record`].
    pub async fn closing_record_of_leader(
        &self, channel: &Channel, transfer: TransferId,
    ) -> Result<Option<ClosingRecord>, BrokerError> {
        let message = self.latest_message(self.stream().control(), &self.subjects().close(channel, transfer)).await?;
        Ok(message.and_then(|message| message.closing_record(transfer)))
    }

    /// A transfer's closing record, wherever it stands: lost from the close subject, it may still lie behind the chunks. Reads
    /// the headers of all of them then.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn closing_anywhere(&self, manifest: &Manifest) -> Result<Option<ClosingRecord>, BrokerError> {
        if let Some(record) = self.closing_record(&manifest.channel, manifest.transfer).await? {
            return Ok(Some(record));
        }
        let what = format!("looking for the end of transfer {}", manifest.transfer);
        self.patiently(&what, || async {
            let mut found = None;
            self.scan(manifest, StartAt::First, |_, scanned| {
                if let Scanned::Complete(totals) = scanned {
                    found.get_or_insert(ClosingRecord::new(manifest.transfer, Closing::Complete(totals)));
                }
                ControlFlow::Continue(())
            })
            .await?;
            Ok(found)
        })
        .await
    }

    /// What the stream holds of the transfer with this id, known to be there: its manifest and whatever of its chunks and
    /// closing record.
    ///
    /// # Errors
    /// When the server does not answer. A manifest that cannot be read is answered as `None`, like none at all.
    pub async fn stored_transfer(
        &self, channel: &Channel, transfer: TransferId,
    ) -> Result<Option<StoredTransfer>, BrokerError> {
        match self.stored_manifest(channel, transfer).await? {
            Some((manifest, sequence)) if manifest.inline.is_some() => {
                Ok(Some(StoredTransfer::new(manifest, sequence)))
            }
            Some((manifest, sequence)) => self.stored_parts(manifest, sequence).await.map(Some),
            None => Ok(None),
        }
    }

    /// As [`Broker::stored_transfer`], for a transfer in chunks that was opened with this manifest: everything is looked up at a time.
    ///
    /// # Errors
    /// As for [`Broker::stored_transfer`].
    pub async fn stored_of(&self, manifest: &Manifest) -> Result<Option<StoredTransfer>, BrokerError> {
        let opened = self.stored_manifest(&manifest.channel, manifest.transfer);
        let (opened, parts) = tokio::join!(opened, self.stored_parts(manifest.clone(), 0));
        match opened? {
            Some((found, sequence)) if found == *manifest => Ok(Some(parts?.opened_at(sequence))),
            // It was removed, and opened by somebody else.
            Some(_) => self.stored_transfer(&manifest.channel, manifest.transfer).await,
            None => Ok(None),
        }
    }

    /// The manifest of this transfer, known to be there, and its sequence; `None` also where it cannot be read.
    async fn stored_manifest(
        &self, channel: &Channel, transfer: TransferId,
    ) -> Result<Option<(Manifest, u64)>, BrokerError> {
        let (control, subject) = (self.stream().control(), self.subjects().open(channel, transfer));
        let open = match self.last_message(control, &subject).await? {
            // The server has just said that there is one: the replica that answered lags.
            None => self.last_message_of_leader(control, &subject).await?,
            open => open,
        };
        Ok(open.and_then(|open| Some((open.manifest(channel, transfer)?, open.sequence))))
    }

    /// What is stored of a transfer in chunks besides its manifest, which has this sequence. Looked up together: over a long line each
    /// of them takes its time.
    async fn stored_parts(&self, manifest: Manifest, opened: u64) -> Result<StoredTransfer, BrokerError> {
        let (channel, transfer) = (manifest.channel.clone(), manifest.transfer);
        let (stored, record, requests) = tokio::join!(
            self.stored_chunks(&manifest, opened),
            self.closing_record_of_leader(&channel, transfer),
            self.repair_requests(&channel, transfer),
        );
        let mut stored = stored?;
        // Lost from one of its two places, it still stands in the other. What a replica shows may be an earlier transfer's.
        if let Some(record) = record? {
            stored.close(record.closing);
        }
        match requests {
            Ok(requests) => requests.iter().for_each(|(request, at)| stored.ask(&request.chunks, *at)),
            Err(BrokerError::Denied { violation, .. }) => {
                tracing::warn!(%transfer, "requests for repair are not looked at: {violation}");
            }
            Err(error) => return Err(error),
        }
        Ok(stored)
    }

    async fn stored_chunks(&self, manifest: &Manifest, opened: u64) -> Result<StoredTransfer, BrokerError> {
        let what = format!("looking up what is stored of transfer {}", manifest.transfer);
        self.patiently(&what, || async {
            let mut stored = StoredTransfer::new(manifest.clone(), opened);
            self.scan(manifest, StartAt::First, |Place { sequence, stored_at }, scanned| {
                stored.message(sequence);
                match scanned {
                    Scanned::Chunk(ChunkHeader { index, crc32, length, .. }, stored_bytes) => {
                        stored.chunk(index, StoredChunk { crc32, length, stored_bytes, stored_at });
                    }
                    Scanned::Complete(totals) => stored.close(Closing::Complete(totals)),
                    Scanned::Other => {}
                }
                ControlFlow::Continue(())
            })
            .await?;
            Ok(stored)
        })
        .await
    }

    /// Whether something is stored of a transfer's chunks from there on.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn has_more(&self, manifest: &Manifest, start: StartAt) -> Result<bool, BrokerError> {
        let filter = self.subjects().data(&manifest.channel, manifest.transfer);
        let sequence = match start {
            StartAt::First => 1,
            StartAt::Sequence(sequence) => sequence,
        };
        Ok(self.first_from(&self.stream().data(), &filter, sequence).await?.is_some())
    }

    /// Goes through the headers of a transfer's messages in stream order, from there on, without moving their payloads.
    ///
    /// # Errors
    /// When the server does not answer, or the listing was interrupted: then it is to be begun again.
    pub async fn scan(
        &self, manifest: &Manifest, start: StartAt, mut visit: impl FnMut(Place, Scanned) -> ControlFlow<()>,
    ) -> Result<(), BrokerError> {
        let filter = self.subjects().data(&manifest.channel, manifest.transfer);
        self.look(&self.stream().data(), filter, start, |delivery| {
            let header = |name| delivery.header(name);
            let scanned = match header(name::CLOSING) {
                Some(text) => match ClosingRecord::from_header(text, manifest.transfer).map(|record| record.closing) {
                    Ok(Closing::Complete(totals)) => Some(Scanned::Complete(totals)),
                    Ok(Closing::Cancelled { .. }) | Err(_) => None,
                },
                None => ChunkHeader::from_headers(header, manifest.chunk_size).ok().map(|chunk| {
                    let size = header(name::MESSAGE_SIZE).and_then(|size| size.parse().ok());
                    Scanned::Chunk(chunk, size.unwrap_or(0))
                }),
            };
            let place = Place { sequence: delivery.stream_sequence, stored_at: delivery.published_at };
            visit(place, scanned.unwrap_or(Scanned::Other))
        })
        .await
    }
}

/// Where and when a message was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its sequence in the stream.
    pub sequence: u64,
    /// When the server stored it.
    pub stored_at: Timestamp,
}

/// One message of a transfer, as its headers tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scanned {
    /// A chunk, and how many bytes its payload has.
    Chunk(ChunkHeader, u64),
    /// The closing record of a complete transfer.
    Complete(Totals),
    /// A cancellation, which counts on the close subject alone, or none of the protocol's.
    Other,
}
