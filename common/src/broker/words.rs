//! What was said about transfers, word by word: the control stream as a history.

use std::ops::ControlFlow;

use jiff::Timestamp;

use super::{Broker, BrokerError, Delivery, StartAt};
use crate::{
    ChannelFilter, Closing, ClosingRecord, Kind, Manifest, Receipt, ReceiverName, Rejection, RejectionState,
    RepairRequest, Subject, Subjects, header as name,
};

/// One message of the control stream.
#[derive(Debug, Clone)]
pub struct Word {
    /// Its sequence in the control stream.
    pub sequence: u64,
    /// When the server stored it.
    pub at: Timestamp,
    /// The transfer it is about; none where a message was rejected in which no transfer could be read.
    pub subject: Option<Subject>,
    /// What it says.
    pub said: Said,
}

/// What is said about a transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// It was opened, or a small file published again.
    Published(Box<Manifest>),
    /// It is complete, or was taken back.
    Closed(Closing),
    /// A receiver has it.
    Landed(Receipt),
    /// A receiver has refused it, or does not refuse it any more.
    Rejected(Rejection),
    /// A receiver asks for chunks.
    Wanted(RepairRequest),
}

impl Word {
    /// Reads a message of the control stream; `None` for what cannot be read: anybody may have written it.
    pub fn read(subjects: &Subjects, delivery: &Delivery) -> Option<Self> {
        let kind = subjects.kind(delivery.subject())?;
        let subject = subjects.parse(delivery.subject()).ok();
        let of = subject.as_ref();
        let header = |name| delivery.header(name);
        let said = match kind {
            Kind::Open => Said::Published(Box::new(Manifest::from_header(header(name::MANIFEST)?, of?).ok()?)),
            Kind::Close => Said::Closed(ClosingRecord::from_header(header(name::CLOSING)?, of?.transfer).ok()?.closing),
            Kind::Receipt => Said::Landed(Receipt::from_header(header(name::RECEIPT)?, of?.transfer).ok()?),
            Kind::Repair => Said::Wanted(RepairRequest::from_header(header(name::REPAIR)?, of?.transfer).ok()?),
            Kind::Reject => {
                let transfer = of.map(|subject| subject.transfer);
                Said::Rejected(Rejection::from_header(header(name::REJECTION)?, transfer).ok()?)
            }
            Kind::Data => return None,
        };
        Some(Self { sequence: delivery.stream_sequence, at: delivery.published_at, subject, said })
    }
}

impl Said {
    /// The receiver whose word it is.
    pub fn receiver(&self) -> Option<&ReceiverName> {
        match self {
            Self::Published(_) | Self::Closed(_) => None,
            Self::Landed(receipt) => Some(&receipt.receiver),
            Self::Rejected(rejection) => Some(&rejection.receiver),
            Self::Wanted(request) => Some(&request.receiver),
        }
    }

    /// What happened, in a word.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Published(_) => "published",
            Self::Closed(Closing::Complete(_)) => "complete",
            Self::Closed(Closing::Cancelled { .. }) => "cancelled",
            Self::Landed(_) => "landed",
            Self::Rejected(Rejection { state: RejectionState::Rejected { .. }, .. }) => "rejected",
            Self::Rejected(_) => "withdrawn",
            Self::Wanted(_) => "wanted",
        }
    }
}

impl Broker {
    /// The subjects on which one kind of word is said about transfers on these channels; of rejections on all channels, also those
    /// of messages in which no transfer could be read.
    pub fn where_said(&self, kind: Kind, channels: &ChannelFilter) -> Vec<String> {
        let mut filters = vec![self.subjects().filter(kind, channels)];
        if kind == Kind::Reject && *channels == ChannelFilter::default() {
            filters.push(format!("{}.{}.*", self.stream().prefix(), kind.as_str()));
        }
        filters
    }

    /// Hears everything of one kind that was said about transfers on these channels, oldest first, from there on. Tried again
    /// while the server is away, from the beginning: `begin` then makes what is gathered anew.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn hear<T>(
        &self, kind: Kind, channels: &ChannelFilter, start: StartAt, begin: impl Fn() -> T,
        visit: impl Fn(&mut T, Word),
    ) -> Result<T, BrokerError> {
        let what = format!("looking up what was said ({})", kind.as_str());
        self.patiently(&what, || async {
            let mut heard = begin();
            // One filter for each look, which then stands in the subject of the request, where permissions can see it.
            for filter in self.where_said(kind, channels) {
                self.look(self.stream().control(), filter, start, |delivery| {
                    if let Some(word) = Word::read(self.subjects(), &delivery) {
                        visit(&mut heard, word);
                    }
                    ControlFlow::Continue(())
                })
                .await?;
            }
            Ok(heard)
        })
        .await
    }
}
