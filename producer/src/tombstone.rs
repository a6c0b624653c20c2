//! Taking a transfer back: nobody is to receive it any more.

use bytes::Bytes;
use natsfer_common::{
    Channel, Closing, ClosingRecord, TransferId,
    broker::{Broker, Stored},
    header,
};

use crate::{ProducerError, attempt::Attempt};

/// How often another run may close the transfer meanwhile.
const MOST_TRIES: u32 = 10;

/// The mark of a cancelled transfer, to be.
pub(crate) struct Tombstone<'a> {
    pub(crate) broker: &'a Broker,
    pub(crate) channel: &'a Channel,
    pub(crate) transfer: TransferId,
}

/// What stands on the close subject.
#[derive(Default)]
struct Standing {
    /// Its sequence; 0 if there is nothing.
    last: u64,
    /// The record, if the transfer is cancelled.
    cancelled: Option<String>,
    /// Tells which run has published it.
    message_id: Option<String>,
}

impl Tombstone<'_> {
    /// Places it on the close subject, where it stands in place of any earlier record, then behind the chunks, for those who
    /// are reading them now. Harmless when it stands already.
    pub(crate) async fn place(&self, reason: String) -> Result<(), ProducerError> {
        let record = self.record(reason)?;
        for _ in 0..MOST_TRIES {
            let standing = self.standing().await?;
            // The first reason stands.
            let record = standing.cancelled.as_ref().unwrap_or(&record);
            if standing.cancelled.is_some() || self.publish_behind(record, standing.last).await? {
                return self.say_behind_chunks(record).await.map(drop);
            }
        }
        Err(ProducerError::IdTaken { transfer: self.transfer })
    }

    /// Places it where the transfer has not ended yet. One that another run has completed stays what it is.
    pub(crate) async fn place_first(&self, reason: String) -> Result<(), ProducerError> {
        let record = self.record(reason)?;
        match self.publish_behind(&record, 0).await? {
            true => self.say_behind_chunks(&record).await.map(drop),
            false => Ok(()),
        }
    }

    /// Places it where the run itself has listed the transfer as complete, and says whether it has. What another run has listed stays
    /// what it is.
    pub(crate) async fn place_over(&self, attempt: &Attempt, reason: String) -> Result<bool, ProducerError> {
        let record = self.record(reason)?;
        let Standing { last, message_id, .. } = self.standing().await?;
        let own = message_id.is_some_and(|id| attempt.has(&id));
        if !own || !self.publish_behind(&record, last).await? {
            return Ok(false);
        }
        self.say_behind_chunks(&record).await?;
        Ok(true)
    }

    /// Says once more, on the data subject, what stands on the close subject. A transfer that is removed meanwhile is not
    /// mentioned again.
    pub(crate) async fn repeat(&self) -> Result<(), ProducerError> {
        let Self { broker, channel, transfer } = *self;
        if let Some(record) = self.standing().await?.cancelled
            && let Some(said) = self.say_behind_chunks(&record).await?
            && broker.opened(channel, transfer).await?.is_none()
        {
            broker.purge_to(&broker.stream().data(), &self.data(), said.sequence).await?;
        }
        Ok(())
    }

    /// Removes what was published of a transfer since it was cancelled or removed. One of its id that somebody has opened anew is
    /// left alone.
    pub(crate) async fn clear(&self) -> Result<(), ProducerError> {
        let Self { broker, channel, transfer } = *self;
        let (stream, data) = (broker.stream().data(), self.data());
        let Some(last) = broker.last_message_of_leader(&stream, &data).await? else { return Ok(()) };
        if self.standing().await?.cancelled.is_some() || broker.opened(channel, transfer).await?.is_none() {
            broker.purge_to(&stream, &data, last.sequence).await?;
            self.repeat().await?;
        }
        Ok(())
    }

    fn data(&self) -> String {
        self.broker.subjects().data(self.channel, self.transfer)
    }

    fn record(&self, reason: String) -> Result<String, ProducerError> {
        let transfer = self.transfer;
        let record = ClosingRecord::new(transfer, Closing::Cancelled { reason }).to_header();
        record.map_err(|source| ProducerError::Manifest { transfer, source })
    }

    async fn standing(&self) -> Result<Standing, ProducerError> {
        let Self { broker, channel, transfer } = *self;
        let close = broker.subjects().close(channel, transfer);
        // A replica that lags is found out when the server compares.
        let message = broker.latest_message(broker.stream().control(), &close).await?;
        let Some(message) = message else { return Ok(Standing::default()) };
        let record = message.closing_record(transfer);
        let is_cancelled = record.is_some_and(|record| matches!(record.closing, Closing::Cancelled { .. }));
        let cancelled = message.header(header::CLOSING).filter(|_| is_cancelled);
        let message_id = message.header(header::MESSAGE_ID).map(str::to_owned);
        Ok(Standing { last: message.sequence, cancelled: cancelled.map(str::to_owned), message_id })
    }

    /// `false` if another record stands there.
    async fn publish_behind(&self, record: &str, last: u64) -> Result<bool, ProducerError> {
        let headers = self.headers(record)?;
        let close = self.broker.subjects().close(self.channel, self.transfer);
        let publish = || self.broker.publish_behind(close.clone(), &headers, Bytes::new(), last);
        Ok(self.broker.patiently(&self.what(), publish).await?.is_some())
    }

    /// `None` where there is no room, for which nobody waits: whoever reads there finds it on the close subject later.
    async fn say_behind_chunks(&self, record: &str) -> Result<Option<Stored>, ProducerError> {
        let (broker, data, headers) = (self.broker.without_waiting_for_room(), self.data(), self.headers(record)?);
        let publish = || broker.publish(data.clone(), &headers, Bytes::new());
        match broker.patiently(&self.what(), publish).await {
            Err(full) if full.is_full() => {
                tracing::debug!(transfer = %self.transfer, "its cancellation is not said behind its chunks: {full}");
                Ok(None)
            }
            stored => Ok(Some(stored?)),
        }
    }

    fn what(&self) -> String {
        format!("cancelling transfer {}", self.transfer)
    }

    fn headers(&self, record: &str) -> Result<[(&'static str, String); 2], ProducerError> {
        let unreadable = |source| ProducerError::Read { path: "the operating system's randomness".into(), source };
        let attempt = Attempt::new(self.transfer).map_err(unreadable)?;
        Ok([(header::CLOSING, record.to_owned()), attempt.closing()])
    }
}
