//! A transfer's end: said once every chunk is stored, and again for lists; or that it will have none.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use natsfer_common::{
    Closing, ClosingRecord, Manifest, SendError, StoredTransfer, Totals,
    broker::{Broker, Stored},
    header,
};

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
    /// have been removed or cancelled meanwhile, which its last message does not show. `seen` is such a look, if there was one
    /// already. `false` if the stream does not hold what this run knows of, up to the sequence `acknowledged`: chunks are gone, or others
    /// contradict them. This run's record may be listed by then.
    ///
    /// Both records go together, and so does the question whether the manifest still stands: each on its own would take a round trip.
    ///
    /// Also when another run has ended the transfer otherwise before; when it does so now, this fails with
    /// [`ProducerError::IdTaken`] or [`ProducerError::Cancelled`]; when it is removed now, with [`ProducerError::Removed`].
    pub(crate) async fn close(
        &self, totals: Totals, acknowledged: u64, seen: Option<StoredTransfer>,
    ) -> Result<bool, ProducerError> {
        let Manifest { transfer, .. } = self.manifest;
        let mut seen = seen.filter(|seen| seen.can_close(&totals));
        // The sequence of this run's record for lists.
        let mut listed = None;
        for _ in 0..MOST_LOOKS {
            let stored = match seen.take() {
                Some(seen) => seen,
                None => match self.stored(acknowledged).await? {
                    Some(stored) => stored,
                    None => {
                        self.unlist(listed).await;
                        return Ok(false);
                    }
                },
            };
            if stored.is_closed_as(&totals) {
                // By this run, or by one that was faster.
                if listed.is_some() {
                    // For who reads there now. Refused once more, it is found where lists find it, when nothing more comes.
                    self.say(totals, stored.last_sequence()).await?;
                }
                self.ensure_listed(totals).await?;
                return Ok(true);
            }
            if !stored.can_close(&totals) {
                return Ok(false);
            }
            let (said, lists, stands) = tokio::join!(
                self.say(totals, stored.last_sequence()),
                self.list(totals),
                self.broker.stands(self.manifest),
            );
            listed = lists?.or(listed);
            // Who may not ask believes that it is still there.
            if matches!(stands, Ok(false)) {
                self.unlist(listed).await;
                return Err(ProducerError::Removed { transfer: *transfer });
            }
            if said?.is_some() {
                return Ok(true);
            }
        }
        Err(ProducerError::IdTaken { transfer: *transfer })
    }

    /// Publishes the closing record behind the chunks; `None` if another message than this is the last one there.
    async fn say(&self, totals: Totals, last: u64) -> Result<Option<Stored>, ProducerError> {
        let data = self.broker.subjects().data(&self.manifest.channel, self.manifest.transfer);
        let headers = self.headers(totals)?;
        let publish = || self.broker.publish_behind(data.clone(), &headers, Bytes::new(), last);
        self.patience.until(publish).await
    }

    /// Removes this run's closing record of a transfer that was removed before it. Best effort: this user may not be allowed to.
    async fn unlist(&self, listed: Option<u64>) {
        let (Some(sequence), Manifest { transfer, channel, .. }) = (listed, self.manifest) else { return };
        let close = self.broker.subjects().close(channel, *transfer);
        if let Err(error) = self.broker.purge_to(self.broker.stream().control(), &close, sequence).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(%transfer, error, "it was removed, and its closing record may stay in the stream");
        }
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
            None => self.list(totals).await.map(drop),
            Some(Closing::Complete(_)) => Ok(()),
            Some(Closing::Cancelled { reason }) => Err(ProducerError::Cancelled { transfer: *transfer, reason }),
        }
    }

    /// Publishes the closing record for lists, and says which sequence it has; `None` if one of the same file stands there.
    async fn list(&self, totals: Totals) -> Result<Option<u64>, ProducerError> {
        let Manifest { transfer, channel, .. } = self.manifest;
        let subject = self.broker.subjects().close(channel, *transfer);
        let headers = self.headers(totals)?;
        // A transfer ends once: the first record stands.
        let publish = || self.broker.publish_once(subject.clone(), &headers, Bytes::new());
        if let Some(Stored { sequence, .. }) = self.patience.until(publish).await? {
            return Ok(Some(sequence));
        }
        // The server has just said that there is one.
        let standing = self.broker.known_message(self.broker.stream().control(), &subject).await?;
        match standing.and_then(|message| message.closing_record(*transfer)).map(|record| record.closing) {
            Some(Closing::Complete(standing)) if standing.same_file(&totals) => Ok(None),
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
