//! Taking a transfer back: nobody is to receive it any more.

use bytes::Bytes;
use natsfer_common::{Channel, Closing, ClosingRecord, TransferId, broker::Broker, header};

use crate::{ProducerError, attempt::Attempt};

/// How often another run may close the transfer meanwhile.
const MOST_TRIES: u32 = 10;

/// The mark of a cancelled transfer, to be.
pub(crate) struct Tombstone<'a> {
    pub(crate) broker: &'a Broker,
    pub(crate) channel: &'a Channel,
    pub(crate) transfer: TransferId,
}

impl Tombstone<'_> {
    /// Places it on the close subject, where it stands in place of any earlier record, then behind the chunks, for those who
    /// are reading them now. Harmless when it stands already.
    pub(crate) async fn place(&self, reason: String) -> Result<(), ProducerError> {
        let Self { broker, channel, transfer } = *self;
        let record = ClosingRecord::new(transfer, Closing::Cancelled { reason }).to_header();
        let record = record.map_err(|source| ProducerError::Manifest { transfer, source })?;
        let close = broker.subjects().close(channel, transfer);
        for _ in 0..MOST_TRIES {
            let standing = broker.last_message_of_leader(broker.stream().control(), &close).await?;
            let cancelled = standing.as_ref().and_then(|standing| standing.header(header::CLOSING)).filter(|text| {
                let record = ClosingRecord::from_header(text, transfer);
                record.is_ok_and(|record| matches!(record.closing, Closing::Cancelled { .. }))
            });
            let last = standing.as_ref().map_or(0, |standing| standing.sequence);
            // The first reason stands.
            let record = cancelled.unwrap_or(&record);
            if cancelled.is_some() || self.publish_behind(&close, record, last).await? {
                let data = broker.subjects().data(channel, transfer);
                broker.say(data, &self.headers(record)?, Bytes::new()).await?;
                return Ok(());
            }
        }
        Err(ProducerError::IdTaken { transfer })
    }

    async fn publish_behind(&self, subject: &str, record: &str, last: u64) -> Result<bool, ProducerError> {
        let headers = self.headers(record)?;
        let what = format!("cancelling transfer {}", self.transfer);
        let publish = || self.broker.publish_behind(subject.to_owned(), &headers, Bytes::new(), last);
        Ok(self.broker.patiently(&what, publish).await?.is_some())
    }

    fn headers(&self, record: &str) -> Result<[(&'static str, String); 2], ProducerError> {
        let unreadable = |source| ProducerError::Read { path: "the operating system's randomness".into(), source };
        let attempt = Attempt::new(self.transfer).map_err(unreadable)?;
        Ok([(header::CLOSING, record.to_owned()), attempt.closing()])
    }
}
