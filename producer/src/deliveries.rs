//! Waiting until receivers have what was sent.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use jiff::Timestamp;
use natsfer_common::{
    Channel, ChannelFilter, Closing, ClosingRecord, Digest, Kind, Receipt, ReceiverName, Rejection, RejectionReason,
    RejectionState, RepairRequest, TransferId, Verdict,
    broker::{Broker, BrokerError, Delivery, Follow, code},
    header,
};

use crate::{
    ProducerError, Sent,
    rounds::{Found, Rounds},
};

/// Transfers that are followed each by its own subjects; more than these, by their channels.
const MOST_NAMED: usize = 64;
/// Rest before a stream that does not exist is looked for again.
const NO_STREAM: Duration = Duration::from_secs(2);

/// What receivers say about transfers, until each of the named ones has every one of them, or it is known that it will not.
#[derive(Debug)]
pub struct Deliveries {
    broker: Broker,
    follows: Vec<Follow>,
    awaited: BTreeMap<Key, Awaited>,
    /// Not given out yet.
    words: VecDeque<Word>,
    /// A request for repair that was heard, and when it was stored: perhaps it is answered already.
    request: Option<(Key, RepairRequest, Timestamp)>,
    /// A cancellation that was heard: perhaps an earlier transfer's of that id.
    cancelled: Option<Key>,
    /// A rejection that was heard: perhaps it was withdrawn since.
    rejected: Option<Key>,
    /// Awaited since the listening began: what was said before is looked up.
    added: VecDeque<Key>,
    rounds: Rounds,
    ends: Ends,
}

/// When there is nothing more to hear.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Ends {
    /// When nobody is awaited any more.
    WithTheLast,
    /// Never: more may be awaited, on this channel.
    Never(Channel),
}

/// Which transfer.
pub(crate) type Key = (Channel, TransferId);

/// What is awaited of one transfer.
#[derive(Debug)]
pub(crate) struct Awaited {
    digest: Digest,
    size: u64,
    /// Bytes of payload in its manifest's message, if the file is in there.
    pub(crate) inline: Option<u64>,
    pub(crate) receivers: BTreeSet<ReceiverName>,
    /// Those of them that were seen to be done with it, without a receipt. The replica that was asked for receipts may lag: they
    /// are missed when a second round shows the same.
    done: BTreeSet<ReceiverName>,
}

/// What receivers have said of a transfer.
struct Said {
    receipts: Vec<Receipt>,
    rejections: Vec<(ReceiverName, NotLanded)>,
    /// An awaited one's need for repair, the newest, and when it was stored.
    request: Option<(RepairRequest, Timestamp)>,
    /// Whether it seems to have been cancelled.
    cancelled: bool,
}

impl Awaited {
    fn of(sent: &Sent, receivers: impl IntoIterator<Item = ReceiverName>) -> (Key, Self) {
        let awaited = Self {
            digest: sent.digest,
            size: sent.size,
            inline: (sent.chunks == 0).then_some(sent.stored_bytes),
            receivers: receivers.into_iter().collect(),
            done: BTreeSet::new(),
        };
        ((sent.channel.clone(), sent.transfer), awaited)
    }
}

/// What becomes of a transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// A receiver has it: verified, synced, under its name.
    Landed(Receipt),
    /// A receiver needs chunks again, and nobody has sent them since: send the transfer's source once more.
    Wanted(RepairRequest),
    /// A receiver does not have it, and is not waited for any more.
    NotLanded {
        /// The transfer.
        transfer: TransferId,
        /// The receiver.
        receiver: ReceiverName,
        /// Why it will not have it.
        why: NotLanded,
    },
}

/// Why a receiver will not land a transfer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotLanded {
    /// Somebody took the transfer back.
    #[error("the transfer was cancelled: {}", reason.escape_debug())]
    Cancelled {
        /// Why, in the words of whoever did it.
        reason: String,
    },
    /// The transfer is not in the stream any more.
    #[error("the transfer is not in the stream any more: it was removed, or has expired")]
    Removed,
    /// The receiver has taken it off its inbox, and says why.
    #[error("it has rejected the transfer: {}", detail.escape_debug())]
    Rejected {
        /// Why, for programs.
        reason: RejectionReason,
        /// Why, in the receiver's words.
        detail: String,
    },
    /// The receiver is done with it, and has not said that it has it.
    #[error("it is done with the transfer, without a receipt: it skipped it, or may not publish receipts")]
    PassedOver,
    /// It needs chunks, and they cannot be sent again.
    #[error("chunks that a receiver needs could not be sent again")]
    NotSentAgain,
}

impl NotLanded {
    /// The reason's name.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Cancelled { .. } => "cancelled",
            Self::Removed => "removed",
            Self::Rejected { .. } => "rejected",
            Self::PassedOver => "passed_over",
            Self::NotSentAgain => "not_sent_again",
        }
    }
}

impl Deliveries {
    /// Begins to listen. All that was ever said about the transfers is heard, too: a receipt can be older than the manifest it
    /// is about, which may have been published again.
    ///
    /// # Cancel safety
    /// Dropped half-way, consumers may be left; the server removes them soon.
    ///
    /// # Errors
    /// When the server does not answer, or refuses.
    pub async fn of(broker: &Broker, sent: &[Sent], receivers: &[ReceiverName]) -> Result<Self, ProducerError> {
        let awaited = sent.iter().map(|sent| Awaited::of(sent, receivers.iter().cloned())).collect();
        let follows = listen(broker, &awaited).await?;
        Ok(Self::new(broker, follows, awaited, Ends::WithTheLast))
    }

    /// Begins to listen to all that is said on a channel, for whoever goes on sending there: [`Deliveries::next`] never ends. Of
    /// what was sent before, each with those who are still awaited, all is heard that was ever said.
    ///
    /// # Cancel safety
    /// As for [`Deliveries::of`].
    ///
    /// # Errors
    /// When the server does not answer, or refuses.
    pub async fn on(
        broker: &Broker, channel: &Channel, sent: impl IntoIterator<Item = (Sent, Vec<ReceiverName>)>,
    ) -> Result<Self, ProducerError> {
        let sent = sent.into_iter().map(|(sent, receivers)| Awaited::of(&sent, receivers));
        let awaited: BTreeMap<Key, Awaited> = sent.collect();
        let start = match broker.last_control_sequence().await {
            _ if !awaited.is_empty() => 1,
            Ok(last) => last + 1,
            // Who may not look hears old words, too.
            Err(BrokerError::Denied { .. } | BrokerError::TimedOut { .. }) => 1,
            Err(error) if error.is(code::STREAM_NOT_FOUND) => 1,
            Err(error) => return Err(error.into()),
        };
        let filters = by_channels(broker, [channel.clone()]);
        let follows = match follow(broker, filters.clone(), filters, start).await {
            // Where there is no stream, nothing was said; the first send makes one.
            Err(error) if error.is(code::STREAM_NOT_FOUND) => Vec::new(),
            follows => follows?,
        };
        Ok(Self::new(broker, follows, awaited, Ends::Never(channel.clone())))
    }

    fn new(broker: &Broker, follows: Vec<Follow>, awaited: BTreeMap<Key, Awaited>, ends: Ends) -> Self {
        let (words, request, cancelled, rejected, added) = Default::default();
        let rounds = Rounds::new(broker);
        Self { broker: broker.clone(), follows, awaited, words, request, cancelled, rejected, added, rounds, ends }
    }

    /// Waits for one more transfer, on the channel that is listened to. Receivers may have been quicker: what they have said
    /// already is looked up.
    pub fn add(&mut self, sent: &Sent, receivers: impl IntoIterator<Item = ReceiverName>) {
        let (key, awaited) = Awaited::of(sent, receivers);
        if !awaited.receivers.is_empty() {
            self.added.push_back(key.clone());
            self.awaited.insert(key, awaited);
        }
    }

    /// How many receipts have not come yet.
    pub fn outstanding(&self) -> usize {
        self.awaited.values().map(|awaited| awaited.receivers.len()).sum()
    }

    /// Who has not got which transfer yet.
    pub fn awaited(&self) -> impl Iterator<Item = (TransferId, &ReceiverName)> {
        self.awaited.iter().flat_map(|((_, transfer), awaited)| awaited.receivers.iter().map(|name| (*transfer, name)))
    }

    /// The next word about an awaited receiver, or any receiver's need for repair; `None` when nobody is awaited any more.
    /// Waits as long as it takes.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing that was said is lost.
    ///
    /// # Errors
    /// When the connection is closed, or the server refuses.
    pub async fn next(&mut self) -> Result<Option<Word>, ProducerError> {
        loop {
            match self.hear_on().await {
                Err(ProducerError::Broker(error)) if error.is(code::STREAM_NOT_FOUND) => {
                    let keys: Vec<_> = self.awaited.keys().cloned().collect();
                    keys.iter().for_each(|key| self.end(key, &NotLanded::Removed));
                    match (self.words.pop_front(), &self.ends) {
                        // The next send makes it anew.
                        (None, Ends::Never(_)) => tokio::time::sleep(NO_STREAM).await,
                        (word, _) => return Ok(word),
                    }
                }
                word => return word,
            }
        }
    }

    async fn hear_on(&mut self) -> Result<Option<Word>, ProducerError> {
        loop {
            if let Some(word) = self.words.pop_front() {
                return Ok(Some(word));
            }
            if self.ends == Ends::WithTheLast && self.outstanding() == 0 {
                return Ok(None);
            }
            if let Ends::Never(channel) = &self.ends
                && self.follows.is_empty()
                && self.outstanding() > 0
            {
                let filters = by_channels(&self.broker, [channel.clone()]);
                self.follows = follow(&self.broker, filters.clone(), filters, 1).await?;
            }
            // Each is forgotten only when it is dealt with: this may be dropped at any await.
            if let Some((key, _, asked_at)) = &self.request {
                let answered = self.is_answered(key, *asked_at).await?;
                if let Some((_, request, _)) = self.request.take().filter(|_| !answered) {
                    self.words.push_back(Word::Wanted(request));
                }
            } else if let Some((channel, transfer)) = &self.cancelled {
                let record = self.broker.closing_record_of_leader(channel, *transfer).await?;
                if let Some(key) = self.cancelled.take()
                    && let Some(Closing::Cancelled { reason }) = record.map(|record| record.closing)
                {
                    self.end(&key, &NotLanded::Cancelled { reason });
                }
            } else if let Some(key) = &self.rejected {
                let standing = self.rejected_by(key).await?;
                if let Some(key) = self.rejected.take() {
                    standing.into_iter().for_each(|(receiver, why)| self.miss(&key, receiver, why));
                }
            } else if let Some(key) = self.added.front() {
                let said = self.said_of(key).await;
                // Otherwise a round will tell.
                if let Some(key) = self.added.pop_front()
                    && let Some(Said { receipts, rejections, request, cancelled }) = said?
                {
                    self.cancelled = cancelled.then(|| key.clone());
                    receipts.into_iter().for_each(|receipt| self.land(&key, receipt));
                    rejections.into_iter().for_each(|(receiver, why)| self.miss(&key, receiver, why));
                    self.request = request.map(|(request, asked_at)| (key, request, asked_at));
                }
            } else if let Some(key) = self.rounds.next() {
                match self.awaited.get(&key) {
                    Some(awaited) => {
                        let found = self.rounds.look(&key, awaited).await?;
                        self.find(&key, found);
                    }
                    None => self.rounds.pass(),
                }
            } else {
                tokio::select! {
                    delivery = next(&mut self.follows) => self.hear(&delivery?),
                    () = self.rounds.due() => self.rounds.begin(&self.awaited),
                }
            }
        }
    }

    /// Nobody can send this transfer's chunks again: whoever has not got it is not waited for any more, which
    /// [`Deliveries::next`] tells of each.
    pub fn give_up(&mut self, transfer: TransferId) {
        let keys: Vec<_> = self.awaited.keys().filter(|(_, id)| *id == transfer).cloned().collect();
        keys.iter().for_each(|key| self.end(key, &NotLanded::NotSentAgain));
    }

    fn hear(&mut self, delivery: &Delivery) {
        let subjects = self.broker.subjects();
        let Ok(subject) = subjects.parse(delivery.subject()) else { return };
        let (kind, transfer) = (subjects.kind(delivery.subject()), subject.transfer);
        let key = (subject.channel, transfer);
        if !self.awaited.contains_key(&key) {
            return;
        }
        let header = |name| delivery.header(name);
        match kind {
            Some(Kind::Receipt) => {
                if let Some(Ok(receipt)) = header(header::RECEIPT).map(|text| Receipt::from_header(text, transfer)) {
                    self.land(&key, receipt);
                }
            }
            Some(Kind::Repair) => {
                let request = header(header::REPAIR).and_then(|text| RepairRequest::from_header(text, transfer).ok());
                self.request = request.map(|request| (key, request, delivery.published_at));
            }
            Some(Kind::Close) => {
                let record = header(header::CLOSING).and_then(|text| ClosingRecord::from_header(text, transfer).ok());
                let is_cancelled = |record: &ClosingRecord| matches!(record.closing, Closing::Cancelled { .. });
                self.cancelled = record.filter(is_cancelled).map(|_| key);
            }
            Some(Kind::Reject) => {
                let record = header(header::REJECTION).map(|text| Rejection::from_header(text, Some(transfer)));
                self.rejected = record.and_then(Result::ok).map(|_| key);
            }
            _ => {}
        }
    }

    /// What receivers have said of a transfer; `None` where that cannot be known now.
    async fn said_of(&self, key: &Key) -> Result<Option<Said>, BrokerError> {
        match self.look_up(key).await {
            Ok(said) => Ok(Some(said)),
            Err(error) if error.is_passing() || matches!(error, BrokerError::Denied { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn look_up(&self, key: &Key) -> Result<Said, BrokerError> {
        let receipts = self.broker.receipts(&key.0, key.1).await?;
        let rejections = self.rejected_by(key).await?;
        // A receiver asks once.
        let requests = match self.broker.repair_requests(&key.0, key.1).await {
            Err(BrokerError::Denied { .. }) => Vec::new(),
            requests => requests?,
        };
        let closing = match self.broker.closing_record(&key.0, key.1).await {
            Err(BrokerError::Denied { .. }) => None,
            record => record?.map(|record| record.closing),
        };
        let cancelled = matches!(closing, Some(Closing::Cancelled { .. }));
        let awaited = self.awaited.get(key).map(|awaited| &awaited.receivers);
        let is_awaited = |receiver: &ReceiverName| awaited.is_some_and(|awaited| awaited.contains(receiver));
        let request = requests.into_iter().rev().find(|(request, _)| is_awaited(&request.receiver));
        Ok(Said { receipts, rejections, request, cancelled })
    }

    /// Who has rejected a transfer, and has neither withdrawn that nor landed it since.
    async fn rejected_by(&self, (channel, transfer): &Key) -> Result<Vec<(ReceiverName, NotLanded)>, BrokerError> {
        let rejections = match self.broker.rejections_of(channel, *transfer).await {
            // Who may not look waits for a receipt.
            Err(BrokerError::Denied { .. }) => return Ok(Vec::new()),
            rejections => rejections?,
        };
        let rejected = rejections.into_iter().filter_map(|(receiver, state)| match state {
            RejectionState::Rejected { reason, detail } => Some((receiver, NotLanded::Rejected { reason, detail })),
            RejectionState::Withdrawn => None,
        });
        Ok(rejected.collect())
    }

    fn find(&mut self, key: &Key, found: Found) {
        match found {
            Found::Nothing => _ = self.awaited.get_mut(key).map(|awaited| awaited.done.clear()),
            Found::Removed => self.end(key, &NotLanded::Removed),
            Found::Done { receivers, receipts } => {
                receipts.into_iter().for_each(|receipt| self.land(key, receipt));
                if let Some(awaited) = self.awaited.get_mut(key) {
                    let before = std::mem::replace(&mut awaited.done, receivers);
                    let missed: Vec<_> = awaited.done.intersection(&before).cloned().collect();
                    missed.into_iter().for_each(|receiver| self.miss(key, receiver, NotLanded::PassedOver));
                }
            }
        }
    }

    fn land(&mut self, key: &Key, receipt: Receipt) {
        if self.awaited.get(key).is_some_and(|awaited| receipt.is_of(awaited.digest, awaited.size))
            && self.cross_off(key, &receipt.receiver)
        {
            self.words.push_back(Word::Landed(receipt));
        }
    }

    fn miss(&mut self, key: &Key, receiver: ReceiverName, why: NotLanded) {
        if self.cross_off(key, &receiver) {
            self.words.push_back(Word::NotLanded { transfer: key.1, receiver, why });
        }
    }

    /// Does not wait for this receiver any more, and says whether it did.
    fn cross_off(&mut self, key: &Key, receiver: &ReceiverName) -> bool {
        let Some(awaited) = self.awaited.get_mut(key) else { return false };
        let was_awaited = awaited.receivers.remove(receiver);
        // Whoever ends with the last hears until then what others need. What never ends is to stay small.
        if awaited.receivers.is_empty() && self.ends != Ends::WithTheLast {
            self.awaited.remove(key);
        }
        was_awaited
    }

    /// Nobody will have it who has not.
    fn end(&mut self, key: &Key, why: &NotLanded) {
        let Some(Awaited { receivers, .. }) = self.awaited.remove(key) else { return };
        let missed = |receiver| Word::NotLanded { transfer: key.1, receiver, why: why.clone() };
        self.words.extend(receivers.into_iter().map(missed));
    }

    /// Whether nobody needs to send anything for a request, by what is stored now. Where that cannot be known, somebody does.
    async fn is_answered(&self, key: &Key, asked_at: Timestamp) -> Result<bool, BrokerError> {
        match self.holds_an_answer(key, asked_at).await {
            Err(error) if error.is_passing() || matches!(error, BrokerError::Denied { .. }) => Ok(false),
            result => result,
        }
    }

    async fn holds_an_answer(&self, (channel, transfer): &Key, asked_at: Timestamp) -> Result<bool, BrokerError> {
        let open = async || {
            let subject = self.broker.subjects().open(channel, *transfer);
            self.broker.last_message(self.broker.stream().control(), &subject).await
        };
        let Some(stored) = self.broker.stored_transfer(channel, *transfer).await? else {
            // What is gone must not be sent anew; the next round tells.
            return Ok(open().await?.is_none());
        };
        if stored.manifest.inline.is_some() {
            return Ok(open().await?.is_none_or(|message| message.stored_at > asked_at));
        }
        Ok(match stored.verdict() {
            Verdict::Whole { .. } => true,
            Verdict::Repair { .. } | Verdict::Resume => false,
            Verdict::Abandon => matches!(stored.closing(), Some(Closing::Cancelled { .. })),
        })
    }

    /// Ends the listening: nothing is left at the server.
    ///
    /// # Cancel safety
    /// Dropped half-way, consumers may be left; the server removes them soon.
    pub async fn close(self) {
        for follow in self.follows {
            // Best effort: the server removes it by itself soon.
            let _ = follow.close().await;
        }
    }
}

/// What is followed of each transfer, or channel.
const KINDS: [Kind; 4] = [Kind::Receipt, Kind::Repair, Kind::Reject, Kind::Close];

/// Follows all that is said about these transfers, and as little else as can be. A user who is held to channels may follow one
/// subject at a time: those of the transfer, or, if there are several, of their channels.
async fn listen(broker: &Broker, awaited: &BTreeMap<Key, Awaited>) -> Result<Vec<Follow>, BrokerError> {
    let by_channel =
        || by_channels(broker, awaited.keys().map(|(channel, _)| channel.clone()).collect::<BTreeSet<_>>());
    let few = awaited.len() <= MOST_NAMED;
    let together = if few { by_transfer(broker, awaited) } else { by_channel() };
    let each = if awaited.len() == 1 { by_transfer(broker, awaited) } else { by_channel() };
    follow(broker, together, each, 1).await
}

/// Follows what is on these subjects together, or, for a user who may not, on each of the others by itself.
async fn follow(
    broker: &Broker, together: Vec<String>, each: Vec<String>, from: u64,
) -> Result<Vec<Follow>, BrokerError> {
    match broker.follow(together, from).await {
        Err(BrokerError::Denied { .. }) => {}
        follow => return Ok(vec![follow?]),
    }
    let mut follows = Vec::new();
    for filter in each {
        follows.push(broker.follow(vec![filter], from).await?);
    }
    Ok(follows)
}

fn by_transfer(broker: &Broker, awaited: &BTreeMap<Key, Awaited>) -> Vec<String> {
    let of = |(channel, transfer): &Key| KINDS.map(|kind| broker.subjects().of(kind, channel, *transfer));
    awaited.keys().flat_map(of).collect()
}

fn by_channels(broker: &Broker, channels: impl IntoIterator<Item = Channel>) -> Vec<String> {
    let of = |channel| KINDS.map(|kind| broker.subjects().filter(kind, &channel));
    channels.into_iter().map(ChannelFilter::from).flat_map(of).collect()
}

/// What any of these brings next; nothing, of none. Cancel safe.
async fn next(follows: &mut [Follow]) -> Result<Delivery, BrokerError> {
    if follows.is_empty() {
        return std::future::pending().await;
    }
    let nexts = follows.iter_mut().map(|follow| Box::pin(follow.next()));
    futures_util::future::select_all(nexts).await.0
}
