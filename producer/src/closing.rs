//! A transfer's end: said once every chunk is stored, and again for lists; or that it will have none.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use natsfer_common::{Closing, ClosingRecord, Manifest, SendError, StoredTransfer, Totals, broker::Broker, header};

use crate::{ProducerError, attempt::Attempt, patience::Patience, tombstone::Tombstone};

/// How often to look again at a transfer that turns out to be stored otherwise than was acknowledged, or on whose subject
/// somebody else publishes, too, before something must be wrong.
pub(crate) const MOST_LOOKS: u32 = 10;

/// Rests before each further look at a stream that shows less than it has acknowledged: the replica that showed it may lag.
const LAG: [Duration; 3] = [Duration::from_millis(200), Duration::from_millis(500), Duration::from_secs(2)];

/// The end of a transfer, to be.
pub(crate) struct End<'a> {
    pub(crate) broker: &'a Broker,
    pub(crate) attempt: &'a Attempt,
    pub(crate) patience: &'a Patience,
    pub(crate) manifest: &'a Manifest,
}

impl End<'_> {
    /// Publishes the closing record, behind the chunks and again for lists, after a look at what is stored: the transfer may
    /// have been removed or cancelled meanwhile, which its last message does not show. `false` if the stream does not hold
    /// what this run knows of, up to the sequence `acknowledged`: chunks are gone.
    ///
    /// Also when another run has ended the transfer otherwise before; when it does so now, this fails with
    /// [`ProducerError::IdTaken`] or [`ProducerError::Cancelled`].
    pub(crate) async fn close(&self, totals: Totals, acknowledged: u64) -> Result<bool, ProducerError> {
        let Manifest { transfer, channel, .. } = self.manifest;
        for _ in 0..MOST_LOOKS {
            let behind = match self.stored(acknowledged).await? {
                None => return Ok(false),
                Some(stored) => match stored.closing() {
                    // Another run was faster.
                    Some(Closing::Complete(standing)) if standing.same_file(&totals) => {
                        self.ensure_listed(*standing).await?;
                        return Ok(true);
                    }
                    _ if !stored.can_close(&totals) => return Ok(false),
                    _ => stored.last_sequence(),
                },
            };
            let data = self.broker.subjects().data(channel, *transfer);
            let headers = self.headers(totals)?;
            let publish = || self.broker.publish_behind(data.clone(), &headers, Bytes::new(), behind);
            if self.patience.until(publish).await?.is_some() {
                self.list(totals).await?;
                return Ok(true);
            }
        }
        Err(ProducerError::IdTaken { transfer: *transfer })
    }

    /// What is stored, up to this sequence at least if that is still there.
    async fn stored(&self, acknowledged: u64) -> Result<Option<StoredTransfer>, ProducerError> {
        for rest in LAG {
            let stored = self.broker.stored_of(self.manifest).await?;
            if stored.as_ref().is_none_or(|stored| stored.last_sequence() >= acknowledged) {
                return Ok(stored);
            }
            tokio::time::sleep(rest).await;
        }
        Ok(self.broker.stored_of(self.manifest).await?)
    }

    /// Makes sure that a closed transfer is listed as such: an earlier run may have died between its two closing records. Or
    /// somebody has cancelled it since it was looked at.
    ///
    /// Fails with [`ProducerError::IdTaken`] or [`ProducerError::Cancelled`] when it ended otherwise.
    pub(crate) async fn ensure_listed(&self, totals: Totals) -> Result<(), ProducerError> {
        let Manifest { transfer, channel, .. } = self.manifest;
        match self.broker.closing_record_of_leader(channel, *transfer).await?.map(|record| record.closing) {
            None => self.list(totals).await,
            Some(Closing::Complete(_)) => Ok(()),
            Some(Closing::Cancelled { reason }) => Err(ProducerError::Cancelled { transfer: *transfer, reason }),
        }
    }

    async fn list(&self, totals: Totals) -> Result<(), ProducerError> {
        let Manifest { transfer, channel, .. } = self.manifest;
        let subject = self.broker.subjects().close(channel, *transfer);
        let headers = self.headers(totals)?;
        // A transfer ends once: the first record stands.
        let publish = || self.broker.publish_once(subject.clone(), &headers, Bytes::new());
        if self.patience.until(publish).await?.is_some() {
            return Ok(());
        }
        // The server has just said that there is one.
        let standing = self.broker.known_message(self.broker.stream().control(), &subject).await?;
        match standing.and_then(|message| message.closing_record(*transfer)).map(|record| record.closing) {
            Some(Closing::Complete(standing)) if standing.same_file(&totals) => Ok(()),
            Some(Closing::Cancelled { reason }) => Err(ProducerError::Cancelled { transfer: *transfer, reason }),
            _ => Err(ProducerError::IdTaken { transfer: *transfer }),
        }
    }

    /// Takes the transfer back, unless another run has completed it meanwhile, and says why.
    pub(crate) async fn cancel(&self, path: &Path, source: Option<SendError>) -> ProducerError {
        let Manifest { transfer, ref channel, .. } = *self.manifest;
        let tombstone = Tombstone { broker: self.broker, channel, transfer };
        match tombstone.place_first("the source changed while it was sent".into()).await {
            Ok(()) => ProducerError::SourceChanged { path: path.into(), transfer, source },
            Err(error) => error,
        }
    }

    fn headers(&self, totals: Totals) -> Result<[(&'static str, String); 2], ProducerError> {
        let transfer = self.manifest.transfer;
        let record = ClosingRecord::new(transfer, Closing::Complete(totals)).to_header();
        let record = record.map_err(|source| ProducerError::Manifest { transfer, source })?;
        Ok([(header::CLOSING, record), self.attempt.closing()])
    }
}
