//! The receivers of a stream, and how far each of them is.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
};

use jiff::{SignedDuration, Timestamp};

use super::{Broker, BrokerError, CatalogEntry, ConsumerState, Said, Scanned, StartAt, TransferState};
use crate::{
    Channel, ChannelFilter, Digest, Kind, Lag, Position, Queued, ReceiverName, RejectionState, Settled, TransferId,
};

/// Unfinished transfers of unknown size whose chunks are counted, at most: each is a request.
const MOST_COUNTED: usize = 50;
/// Rejections that are counted, at most: anybody may publish any number.
const MOST_REJECTIONS: usize = 100_000;

/// A receiver, as the server and its own words tell.
#[derive(Debug, Clone)]
pub struct ReceiverState {
    /// Its name.
    pub name: ReceiverName,
    /// The channels it listens on; none where somebody has made its inbox over other subjects than natsfer's.
    pub channels: Vec<ChannelFilter>,
    /// Transfers that it was given, and is not done with: it works on them, or has put them back for later.
    pub taken: u64,
    /// What it has yet to receive.
    pub lag: Lag,
    /// Whether a process of it is there.
    pub connection: Connection,
    /// When its inbox delivered, or was told of, a transfer last.
    pub activity: Activity,
    /// Transfers that it has rejected, and stands to that; `None` where this user may not look.
    pub rejected: Option<u64>,
}

/// When something was done last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// Nothing ever was.
    Never,
    /// Something was, and the server does not know when any more: it forgets that when it restarts.
    Unknown,
    /// Then.
    At(Timestamp),
}

/// Whether a process of a receiver is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connection {
    /// One is, and asks for transfers.
    Listening,
    /// One is, and reads chunks.
    Receiving,
    /// None asks for anything.
    Absent,
    /// None asks for transfers. All its hands may be full: this user may not look.
    Unknown,
    /// An operator has paused its inbox: nothing is delivered, whether a process is there or not.
    Paused,
}

impl Connection {
    /// In a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Listening => "listening",
            Self::Receiving => "receiving",
            Self::Absent => "absent",
            Self::Unknown => "unknown",
            Self::Paused => "paused",
        }
    }
}

/// As long as a receiver that died may hold its transfers, unless told otherwise.
const OF_LATE: SignedDuration = SignedDuration::from_secs(30);

/// Which transfer.
type Key = (Channel, TransferId);

/// What each receiver has rejected, and stands to that: a transfer, or a message in which none could be read, by its sequence.
type Rejected = BTreeMap<ReceiverName, BTreeSet<(Option<Key>, Option<u64>)>>;

/// What all receivers have said.
#[derive(Default)]
struct Words {
    landed: BTreeMap<Key, Vec<(ReceiverName, Digest, u64)>>,
    /// None where this user may not look.
    rejected: Option<Rejected>,
}

impl Broker {
    /// Every receiver, by name, or only the one of this name. Of what is stored, only headers are read, and only from where the
    /// first of them is behind: once at most.
    ///
    /// # Errors
    /// When the server does not answer, or this user may not look at consumers.
    pub async fn receivers(&self, only: Option<&ReceiverName>) -> Result<Vec<ReceiverState>, BrokerError> {
        let control = self.stream().control();
        // Before what is stored: what comes meanwhile is behind what was delivered, and counts as waiting.
        let inboxes = match only {
            Some(name) => self.consumer(control, name.as_str()).await?.into_iter().collect(),
            None => self.consumers(control).await?,
        };
        let inboxes: Vec<(ReceiverName, ConsumerState)> = inboxes
            .into_iter()
            .filter(|inbox| inbox.durable)
            .filter_map(|inbox| Some((inbox.name.parse().ok()?, inbox)))
            .collect();
        if inboxes.is_empty() {
            return Ok(Vec::new());
        }
        let cursors = permitted(self.consumers(&self.stream().data()).await)?;
        let channels = self.channels_of(&inboxes);
        let behind = inboxes.iter().map(|(_, inbox)| inbox.acknowledged_to.saturating_add(1)).min().unwrap_or(1);
        let catalog = self.catalog_from(&channels, StartAt::Sequence(behind)).await?;
        let sizes = self.sizes(&catalog).await?;
        let in_hand = inboxes.iter().any(|(_, inbox)| inbox.delivered_to > inbox.acknowledged_to);
        let words = self.words_of_receivers(&channels, in_hand.then_some(behind)).await?;
        let opened = catalog.iter().map(|entry| {
            let key = (entry.manifest.channel.clone(), entry.manifest.transfer);
            (self.subjects().open(&key.0, key.1), key, entry)
        });
        let opened: Vec<_> = opened.collect();
        let receivers = inboxes.into_iter().map(|(name, inbox)| {
            let transfers = opened.iter().zip(&sizes).filter(|((subject, ..), _)| inbox.listens_to(subject));
            let transfers = transfers.map(|((_, key, entry), size)| Queued {
                sequence: entry.sequence,
                size: *size,
                settled: words.settled(&name, key, entry),
            });
            let position = Position {
                acknowledged_to: inbox.acknowledged_to,
                delivered_to: inbox.delivered_to,
                unacknowledged: inbox.unacknowledged,
            };
            ReceiverState {
                lag: Lag::of(position, transfers),
                channels: self.channels_of_inbox(&inbox),
                taken: inbox.unacknowledged,
                connection: connection(&name, &inbox, cursors.as_deref()),
                activity: activity(&inbox),
                rejected: words.rejected.as_ref().map(|all| all.get(&name).map_or(0, |of| of.len() as u64)),
                name,
            }
        });
        let mut receivers: Vec<_> = receivers.collect();
        receivers.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(receivers)
    }

    /// The transfers on these channels that a receiver has yet to receive, oldest first; all of them where it has no inbox yet. Of those
    /// that it was given and has not acknowledged in order, its own words tell which are done.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn yet_to_receive(
        &self, receiver: &ReceiverName, inbox: Option<&ConsumerState>, channels: &ChannelFilter,
    ) -> Result<Vec<CatalogEntry>, BrokerError> {
        let (done_to, delivered_to) = inbox.map_or((0, 0), |inbox| (inbox.acknowledged_to, inbox.delivered_to));
        let behind = done_to.saturating_add(1);
        let mut catalog = self.catalog_from(channels, StartAt::Sequence(behind)).await?;
        if delivered_to > done_to {
            let words = self.words_of_receivers(channels, Some(behind)).await?;
            catalog.retain(|entry| {
                let key = (entry.manifest.channel.clone(), entry.manifest.transfer);
                entry.sequence > delivered_to || words.settled(receiver, &key, entry) == Settled::Unknown
            });
        }
        Ok(catalog)
    }

    /// The channels that a receiver's inbox listens on, for people.
    pub fn channels_in_words(&self, inbox: &ConsumerState) -> String {
        match &self.channels_of_inbox(inbox)[..] {
            [] => "other subjects than natsfer's".into(),
            channels => channels.iter().map(ChannelFilter::as_str).collect::<Vec<_>>().join(","),
        }
    }

    fn channels_of_inbox(&self, inbox: &ConsumerState) -> Vec<ChannelFilter> {
        inbox.filters.iter().filter_map(|filter| self.subjects().channels(Kind::Open, filter)).collect()
    }

    /// What is to be looked through for them: the channels of one, or all. A user who may only look at its own channels can thus
    /// look at its own receiver.
    fn channels_of(&self, inboxes: &[(ReceiverName, ConsumerState)]) -> ChannelFilter {
        match inboxes {
            [(_, inbox)] => match &self.channels_of_inbox(inbox)[..] {
                [one] => one.clone(),
                _ => ChannelFilter::default(),
            },
            _ => ChannelFilter::default(),
        }
    }

    /// Each transfer's size where it is known; of some that are not finished, what is stored.
    async fn sizes(&self, catalog: &[CatalogEntry]) -> Result<Vec<Option<u64>>, BrokerError> {
        let mut sizes: Vec<_> = catalog.iter().map(CatalogEntry::size).collect();
        let sizeless = catalog
            .iter()
            .zip(&mut sizes)
            .filter(|(entry, size)| size.is_none() && matches!(entry.state, TransferState::Open));
        for (entry, size) in sizeless.take(MOST_COUNTED) {
            *size = permitted(self.stored_so_far(entry).await)?;
        }
        Ok(sizes)
    }

    /// Bytes of the chunks that are stored of a transfer.
    async fn stored_so_far(&self, entry: &CatalogEntry) -> Result<u64, BrokerError> {
        self.patiently("counting the chunks of an unfinished transfer", || async {
            let mut bytes = 0;
            self.scan(&entry.manifest, StartAt::First, |_, scanned| {
                if let Scanned::Chunk(chunk, _) = scanned {
                    bytes += u64::from(chunk.length);
                }
                ControlFlow::Continue(())
            })
            .await?;
            Ok(bytes)
        })
        .await
    }

    /// What receivers have landed since there, if that matters, and what they have rejected.
    async fn words_of_receivers(&self, channels: &ChannelFilter, landed: Option<u64>) -> Result<Words, BrokerError> {
        let mut words = Words::default();
        if let Some(from) = landed {
            let landed = self.hear(Kind::Receipt, channels, StartAt::Sequence(from), Words::default, |words, word| {
                if let (Some(subject), Said::Landed(receipt)) = (word.subject, word.said) {
                    let of = words.landed.entry((subject.channel, subject.transfer)).or_default();
                    of.push((receipt.receiver, receipt.digest, receipt.size));
                }
            });
            words = permitted(landed.await)?.unwrap_or_default();
        }
        let rejected = self.hear(Kind::Reject, channels, StartAt::First, BTreeMap::new, note_rejection);
        words.rejected = permitted(rejected.await)?;
        Ok(words)
    }
}

fn activity(inbox: &ConsumerState) -> Activity {
    match inbox.last_active {
        Some(at) => Activity::At(at),
        None if inbox.delivered > 0 => Activity::Unknown,
        None => Activity::Never,
    }
}

/// The last word of a receiver about a transfer counts.
fn note_rejection(rejected: &mut Rejected, word: super::Word) {
    let Said::Rejected(rejection) = word.said else { return };
    let key = word.subject.map(|subject| (subject.channel, subject.transfer));
    // A message without a transfer has no name but its place.
    let unnamed = rejection.sequence.filter(|_| key.is_none());
    let of = rejected.entry(rejection.receiver).or_default();
    match rejection.state {
        RejectionState::Rejected { .. } if of.len() < MOST_REJECTIONS => _ = of.insert((key, unnamed)),
        RejectionState::Rejected { .. } => {}
        RejectionState::Withdrawn => _ = of.remove(&(key, unnamed)),
    }
}

impl Words {
    fn settled(&self, receiver: &ReceiverName, key: &Key, entry: &CatalogEntry) -> Settled {
        let rejected = self.rejected.as_ref().and_then(|all| all.get(receiver));
        let known = match &entry.state {
            TransferState::Cancelled { .. } => true,
            TransferState::Open => false,
            TransferState::Complete { size, digest, .. } => {
                let landed = self.landed.get(key).into_iter().flatten();
                landed.into_iter().any(|(name, d, s)| name == receiver && (d, s) == (digest, size))
            }
        };
        if known || rejected.is_some_and(|of| of.contains(&(Some(key.clone()), None))) {
            Settled::Known
        } else {
            Settled::Unknown
        }
    }
}

/// Whether somebody asks for a cursor's chunks, or was given some of late: over a slow line, all that was asked for is on its way.
fn is_read(cursor: &ConsumerState) -> bool {
    let of_late = cursor.last_active.zip(cursor.at).is_some_and(|(active, now)| now.duration_since(active) <= OF_LATE);
    cursor.waiting_pulls > 0 || cursor.unacknowledged > 0 && of_late
}

fn connection(name: &ReceiverName, inbox: &ConsumerState, cursors: Option<&[ConsumerState]>) -> Connection {
    if inbox.paused.is_some() {
        return Connection::Paused;
    }
    if inbox.waiting_pulls > 0 {
        return Connection::Listening;
    }
    let prefix = format!("{name}-");
    let is_of =
        |cursor: &&ConsumerState| cursor.name.strip_prefix(&prefix).is_some_and(|id| id.parse::<TransferId>().is_ok());
    match cursors {
        Some(cursors) if cursors.iter().filter(is_of).any(is_read) => Connection::Receiving,
        None if inbox.unacknowledged > 0 => Connection::Unknown,
        _ => Connection::Absent,
    }
}

/// What this user may not look at is not known.
fn permitted<T>(result: Result<T, BrokerError>) -> Result<Option<T>, BrokerError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(BrokerError::Denied { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
