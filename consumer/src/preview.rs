//! What a receiver would do with the transfers that wait for it, for `receive --dry-run`.
//!
//! Owns nothing: `Previewing` borrows a receiver's settings, asks the server once, and decides as the receiver would. It ends with
//! the list, and leaves nothing at the server or on disk.

use natsfer_common::{
    ChannelFilter, FileName, Kind, ReceiverName,
    broker::{Broker, CatalogEntry, ConsumerState, TransferState},
};

use crate::{Choice, Layout, Limits, Placed, ReceiveError, Selection, Unmet};

/// What a receiver would do with one transfer, by what its sender says of it. Its chunks are not looked at, nor what is in the target
/// directory.
#[derive(Debug)]
pub struct Preview {
    /// What is stored.
    pub entry: CatalogEntry,
    /// What would be done.
    pub outlook: Outlook,
}

/// What would be done with a transfer.
#[derive(Debug)]
pub enum Outlook {
    /// It would land, under this name.
    Lands(FileName),
    /// It would land under this name once its sender has finished it.
    Waits(FileName),
    /// It would be passed over.
    PassedOver(Unmet),
    /// Whether it is taken depends on its size, which its sender has not said yet.
    SizeUnknown,
    /// It would be rejected, for this.
    Rejected(ReceiveError),
    /// Its sender has taken it back: it would be taken for done.
    Cancelled,
}

/// How a receiver would receive.
#[derive(Debug, Clone, Copy)]
pub struct Previewing<'a> {
    /// Its name.
    pub receiver: &'a ReceiverName,
    /// The channels that it listens on.
    pub channels: &'a ChannelFilter,
    /// Which files it takes.
    pub selection: &'a Selection,
    /// Where they stand.
    pub layout: &'a Layout,
    /// What it refuses.
    pub limits: &'a Limits,
}

impl Previewing<'_> {
    /// Looks through what this receiver has yet to receive, oldest first: all that is stored, where there is no receiver of the name. Nothing
    /// is made, taken or acknowledged.
    ///
    /// # Errors
    /// When a receiver of this name listens on other channels, or the server does not answer.
    pub async fn look(&self, broker: &Broker) -> Result<Vec<Preview>, ReceiveError> {
        let inbox = broker.consumer(broker.stream().control(), self.receiver.as_str()).await?;
        if let Some(inbox) = &inbox {
            ensure_same_channels(broker, self.receiver, self.channels, inbox)?;
        }
        let waiting = broker.yet_to_receive(self.receiver, inbox.as_ref(), self.channels).await?;
        Ok(waiting.into_iter().map(|entry| Preview { outlook: self.outlook(&entry), entry }).collect())
    }

    fn outlook(&self, entry: &CatalogEntry) -> Outlook {
        if let TransferState::Cancelled { .. } = entry.state {
            return Outlook::Cancelled;
        }
        match self.selection.choose(&entry.manifest, entry.size()) {
            Choice::Taken => {}
            Choice::PassedOver(why) => return Outlook::PassedOver(why),
            Choice::OnSize => return Outlook::SizeUnknown,
        }
        // As its end says, too.
        let mut manifest = entry.manifest.clone();
        manifest.size = entry.size();
        let placed = Placed { manifest: &manifest, published_at: entry.published_at, receiver: Some(self.receiver) };
        match placed.name(self.layout).and_then(|name| self.limits.admit(&manifest, &name).map(|()| name)) {
            Err(why) => Outlook::Rejected(why),
            Ok(name) if entry.state == TransferState::Open => Outlook::Waits(name),
            Ok(name) => Outlook::Lands(name),
        }
    }
}

/// Fails where the inbox of this name is over other channels.
pub(crate) fn ensure_same_channels(
    broker: &Broker, receiver: &ReceiverName, channels: &ChannelFilter, inbox: &ConsumerState,
) -> Result<(), ReceiveError> {
    if inbox.filters == [broker.subjects().filter(Kind::Open, channels)] {
        return Ok(());
    }
    Err(ReceiveError::OtherChannels {
        receiver: receiver.to_string(),
        existing: broker.channels_in_words(inbox),
        wanted: channels.as_str().into(),
    })
}
