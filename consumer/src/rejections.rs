//! What a receiver has rejected, and trying it again.

use std::sync::Arc;

use jiff::Timestamp;
use natsfer_common::{
    ChannelFilter, Kind, Manifest, Rate, ReceiverName, Rejection, RejectionState, Subject, TransferId, broker::Broker,
    header,
};

use crate::{
    Incoming, Limits, ReceiveError, Selection, flow::Flows, origin::Origin, progress::Meter, read_marks::ReadMarks,
    report::reject, staging::Owner,
};

/// Bytes asked for ahead of what is written.
const WINDOW: u64 = 8 << 20;

/// The transfers that a receiver has taken off its inbox without having them. They stay there until they are tried again and land,
/// or are removed from the stream.
#[derive(Debug, Clone)]
pub struct Rejections {
    broker: Broker,
    receiver: ReceiverName,
    limits: Limits,
    selection: Arc<Selection>,
    flows: Flows,
}

/// One of them.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Rejected {
    /// The transfer and its channel; none where a message could not be read as a manifest's.
    pub subject: Option<Subject>,
    /// What the receiver says.
    pub rejection: Rejection,
}

impl Rejections {
    /// Those of this receiver.
    pub fn new(broker: Broker, receiver: ReceiverName) -> Self {
        Self { flows: Flows::new(WINDOW, 1), broker, receiver, limits: Limits::default(), selection: Arc::default() }
    }

    /// With no more than so many bytes per second.
    #[must_use]
    pub fn with_rate(mut self, rate: Option<Rate>) -> Self {
        self.flows = self.flows.with_rate(rate);
        self
    }

    /// With other limits than the default ones for what is tried again.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// With what is selected alone tried again: the rest stays rejected.
    #[must_use]
    pub fn with_selection(mut self, selection: Selection) -> Self {
        self.selection = Arc::new(selection);
        self
    }

    /// Those on these channels, oldest first; on all channels, also messages from which no transfer could be read. The newest
    /// 10,000 at most.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn list(&self, channels: &ChannelFilter) -> Result<Vec<Rejected>, ReceiveError> {
        let found = self.broker.rejections(&self.receiver, channels).await?;
        Ok(found.into_iter().map(|(subject, rejection)| Rejected { subject, rejection }).collect())
    }

    /// The rejected transfer of this id, on one of these channels.
    ///
    /// # Errors
    /// When it was not rejected, or the server does not answer.
    pub async fn find(&self, transfer: TransferId, channels: &ChannelFilter) -> Result<Rejected, ReceiveError> {
        let mut all = self.list(channels).await?;
        all.retain(|rejected| rejected.rejection.transfer == Some(transfer));
        all.pop().ok_or_else(|| ReceiveError::NotRejected { transfer, receiver: self.receiver.to_string() })
    }

    /// Opens one again, to be received as if it came from the inbox: once it has landed, its sender is told so, and it is not
    /// rejected any more. No other receiver is disturbed.
    ///
    /// # Errors
    /// When it has been removed from the stream, and then is not rejected any more; when its manifest still cannot be read, or the
    /// server does not answer.
    pub async fn open(&self, rejected: &Rejected) -> Result<Incoming, ReceiveError> {
        let Some(subject) = &rejected.subject else {
            return Err(ReceiveError::NoTransfer { sequence: rejected.rejection.sequence.unwrap_or_default() });
        };
        let Subject { channel, transfer } = subject;
        let transfer = *transfer;
        // It may have been published again since.
        let place = self.broker.subjects().of(Kind::Open, channel, transfer);
        let message = self.broker.last_message(self.broker.stream().control(), &place).await?;
        let Some(message) = message else {
            self.withdraw(subject, &rejected.rejection).await;
            return Err(ReceiveError::NoSuchTransfer { transfer });
        };
        let text = message.header(header::MANIFEST).unwrap_or_default();
        let manifest =
            Manifest::from_header(text, subject).map_err(|source| ReceiveError::Record { transfer, source })?;
        let owner = Owner::Receiver(self.receiver.clone());
        let progress = Meter::new(&manifest);
        Ok(Incoming {
            broker: self.broker.clone(),
            manifest,
            opened_at: message.stored_at,
            crc32: message.header(header::CRC32).map(str::to_owned),
            payload: message.payload,
            origin: Origin::Rejected { owner, sequence: message.sequence },
            flows: self.flows.clone(),
            limits: self.limits.clone(),
            progress,
            selection: self.selection.clone(),
            read_marks: ReadMarks::default(),
        })
    }

    async fn withdraw(&self, Subject { channel, transfer }: &Subject, rejection: &Rejection) {
        let mut withdrawn = rejection.clone();
        (withdrawn.at, withdrawn.state) = (Timestamp::now(), RejectionState::Withdrawn);
        reject(&self.broker, self.broker.subjects().of(Kind::Reject, channel, *transfer), &withdrawn).await;
    }
}
