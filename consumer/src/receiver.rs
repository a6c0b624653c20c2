//! A durable receiver.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, Stream};
use jiff::Timestamp;
use natsfer_common::{
    Kind, Manifest, RecordError, Rejection, RejectionReason, RejectionState, Subject, blocking,
    broker::{
        Acknowledgement, Broker, BrokerError, ConnectOptions, ConsumerKind, ConsumerSpec, ConsumerState, Delivery,
        Pull, PullSettings, StartAt,
    },
    header,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_util::task::TaskTracker;

use crate::{
    Choice, Incoming, ReceiveError, ReceiverName, ReceiverOptions, Selection,
    account::{Account, Open},
    ahead::Ahead,
    cursor::Cursor,
    flow::Flows,
    hold::Hold,
    ledger::{Ledger, LeftBehind},
    origin::{Hand, Origin},
    preview::ensure_same_channels,
    progress::Meter,
    read_marks::ReadMarks,
    report::reject,
    staging::{Owner, StagingDirectory},
    sweep::sweep,
};

/// Rest before an inbox that went away is made anew.
const RENEWAL_REST: Duration = Duration::from_millis(500);
/// Transfers passed over that the server has not confirmed yet, about: beyond them, no more are asked for.
const MOST_PASSING: usize = 256;

/// Transfers that have landed and wait for room to say so, without a hand.
const MOST_WAITING: usize = 1_000;

/// A durable receiver: every file on its channels, each until it is dealt with. See the crate's documentation.
#[derive(Debug)]
pub struct Receiver {
    broker: Broker,
    options: ReceiverOptions,
    spec: ConsumerSpec,
    pull: Pull,
    hands: Arc<Semaphore>,
    selection: Arc<Selection>,
    ahead: Ahead,
    /// What came that waits for a hand, in the order it came.
    queue: VecDeque<Taken>,
    passing: Arc<Semaphore>,
    /// Places of those that have landed and wait for room to say so.
    waiting: Arc<Semaphore>,
    /// What is remembered of those that wait for their senders.
    read_marks: ReadMarks,
    flows: Flows,
    tasks: TaskTracker,
    ledger: Option<Arc<Ledger>>,
    unaccounted: u64,
    /// What was before it when it was opened.
    opened_with: Backlog,
    account: Account,
    /// The inbox is lost: when to make it anew. Kept here, because whoever waits for the next transfer may give up and ask again.
    renew_at: Option<Instant>,
    /// What was said last of why the inbox cannot be made anew.
    awaited: Option<String>,
    rejected: u64,
    passed_over: u64,
}

/// Why a message opens no transfer.
#[derive(Debug)]
struct NoTransfer {
    reason: RejectionReason,
    /// In words.
    why: String,
}

/// A message taken from the inbox, and what was read in it.
#[derive(Debug)]
struct Taken {
    delivery: Delivery,
    hold: Hold,
    /// The reason where it opens no transfer.
    manifest: Result<Manifest, NoTransfer>,
}

/// How much a receiver has before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backlog {
    /// Transfers that no process of this name has taken yet.
    pub waiting: u64,
    /// Transfers taken, and neither done nor given up: being received, or put back for later.
    pub taken: u64,
    /// Every transfer up to this sequence of the control stream is done.
    pub done_to: u64,
    /// For how long an operator has paused the inbox, if somebody has: nothing comes meanwhile.
    pub paused: Option<Duration>,
    /// Whether as many are taken as the server grants: no more come before one of them is done.
    pub is_full: bool,
}

impl From<ConsumerState> for Backlog {
    fn from(state: ConsumerState) -> Self {
        let ConsumerState { pending: waiting, unacknowledged: taken, acknowledged_to: done_to, paused, .. } = state;
        let is_full = u64::try_from(state.max_unacknowledged).is_ok_and(|most| most > 0 && taken >= most);
        Self { waiting, taken, done_to, paused, is_full }
    }
}

impl Receiver {
    /// Connects, and opens the receiver.
    ///
    /// # Errors
    /// When no server answers, and those of [`Receiver::open`].
    pub async fn connect(server: &ConnectOptions, options: ReceiverOptions) -> Result<Self, ReceiveError> {
        Self::open(Broker::connect(server).await?, options).await
    }

    /// Opens the receiver of this name: the one that stands, with all that came while it was away, or a new one, which begins
    /// with the oldest transfer in the stream.
    ///
    /// # Errors
    /// When a receiver of this name listens on other channels, or the server refuses.
    pub async fn open(broker: Broker, options: ReceiverOptions) -> Result<Self, ReceiveError> {
        let mut spec = ConsumerSpec {
            stream: broker.stream().control().into(),
            name: options.name.to_string(),
            filters: vec![broker.subjects().filter(Kind::Open, &options.channels)],
            start: StartAt::First,
            headers_only: false,
            kind: ConsumerKind::Inbox { ack_wait: options.takeover },
        };
        let standing = open_inbox(&broker, &mut spec, &options).await?;
        let pull = Pull::new(&broker, &spec.stream, &spec.name, PullSettings::inbox()).await?;
        let hands = Arc::new(Semaphore::new(options.concurrency));
        let flows = Flows::new(options.window, options.concurrency).with_rate(options.rate);
        broker.set_read_window(options.window);
        let (ledger, accounted) = take_over(&broker, &options).await;
        let unaccounted = standing.unacknowledged.saturating_sub(accounted);
        let selection = Arc::new(options.selection.clone());
        Ok(Self {
            broker,
            options,
            spec,
            pull,
            hands,
            selection,
            ahead: Ahead::default(),
            queue: VecDeque::new(),
            passing: Arc::new(Semaphore::new(MOST_PASSING)),
            waiting: Arc::new(Semaphore::new(MOST_WAITING)),
            read_marks: ReadMarks::default(),
            flows,
            tasks: TaskTracker::new(),
            ledger,
            unaccounted,
            account: Account::new(&standing),
            opened_with: standing.into(),
            renew_at: None,
            awaited: None,
            rejected: 0,
            passed_over: 0,
        })
    }

    /// The next transfer. Waits while there is none, and while as many are held as [`ReceiverOptions::concurrency`] allows.
    /// `None` never comes; it is there so that `while let` reads well.
    ///
    /// # Cancel safety
    /// Cancel safe: a transfer that was on its way comes with the next call.
    ///
    /// # Errors
    /// When the connection is closed, or the server refuses. Its absence is no error: it is waited for.
    pub async fn next(&mut self) -> Result<Option<Incoming>, ReceiveError> {
        loop {
            let Some(hand) = self.free_hand().await else { return Ok(None) };
            if let Some(incoming) = self.take(vec![hand]).await?.pop() {
                return Ok(Some(incoming));
            }
        }
    }

    /// As [`Receiver::next`], for those who deal with several at once: as many as are there and may be held, one at least. Asked
    /// for together, small files come several times as fast. None only when `next` would give `None`.
    ///
    /// Call it again at once: what comes in between is not held for this process before.
    ///
    /// # Cancel safety
    /// As for [`Receiver::next`].
    ///
    /// # Errors
    /// As for [`Receiver::next`].
    pub async fn next_several(&mut self) -> Result<Vec<Incoming>, ReceiveError> {
        loop {
            let mut hands: Vec<_> = self.free_hand().await.into_iter().collect();
            if hands.is_empty() {
                return Ok(Vec::new());
            }
            hands.extend(std::iter::from_fn(|| self.hands.clone().try_acquire_owned().ok()));
            let taken = self.take(hands).await?;
            if !taken.is_empty() {
                return Ok(taken);
            }
        }
    }

    /// Waits until one more may be held. The semaphore is never closed. What was asked for ahead is taken meanwhile, and waits.
    async fn free_hand(&mut self) -> Option<OwnedSemaphorePermit> {
        let free = self.hands.clone().acquire_owned();
        tokio::pin!(free);
        self.pull.want(0);
        while self.pull.awaits() && self.renew_at.is_none() {
            tokio::select! {
                biased;
                hand = &mut free => return hand.ok(),
                came = self.pull.next() => match came {
                    Ok(delivery) => self.receive(delivery),
                    // It comes again once there is a hand.
                    Err(_) => break,
                },
            }
        }
        free.await.ok()
    }

    /// Waits for a message, and takes those that are there, a hand for each; none if they could not be read, or were passed over.
    ///
    /// Cancel safe: nothing is awaited once a message has been taken.
    async fn take(&mut self, mut hands: Vec<OwnedSemaphorePermit>) -> Result<Vec<Incoming>, ReceiveError> {
        if let Some(at) = self.renew_at {
            tokio::time::sleep_until(at).await;
            self.renew().await?;
            self.renew_at = None;
        }
        self.flows.pacer().free().await;
        // The semaphore is never closed. Nothing is kept of the place: it only was to be there.
        let _ = self.passing.acquire().await;
        let mut came = None;
        if self.queue.is_empty() {
            self.ask(hands.len());
            came = Some(self.pull.next().await);
            while let Some(Ok(delivery)) = came {
                self.receive(delivery);
                self.ask(hands.len());
                let enough = self.queue.len() >= hands.len() && !self.pull.awaits();
                came = if enough { None } else { self.pull.next().now_or_never() };
            }
        }
        let mut taken = Vec::new();
        while !self.queue.is_empty()
            && let Some(hand) = hands.pop()
            && let Some(Taken { delivery, hold, manifest }) = self.queue.pop_front()
        {
            match manifest {
                Ok(manifest) => taken.push(self.incoming(&delivery, manifest, hold, hand)),
                Err(why) => {
                    self.rejected += 1;
                    self.tasks.spawn(self.reject(&delivery, why, hold, hand));
                }
            }
        }
        match came {
            Some(Err(BrokerError::ConsumerGone { consumer, .. })) => {
                tracing::warn!(consumer, "the receiver's inbox does not answer; looking for it");
                self.renew_at = Some(Instant::now() + RENEWAL_REST);
            }
            // It comes again with the next call.
            Some(Err(error)) if taken.is_empty() => return Err(error.into()),
            _ => {}
        }
        Ok(taken)
    }

    /// Says how many messages are wanted for so many hands. One more would be this process's, and nobody's work; unless it is likely
    /// to be passed over.
    fn ask(&mut self, hands: usize) {
        let free = hands.saturating_sub(self.queue.len()) as u64;
        let beyond = if self.queue.is_empty() { self.ahead.beyond(free) } else { 0 };
        self.pull.want(free + beyond);
    }

    /// Takes a message, or passes it over. Its bytes have passed in any case: small files are in there.
    fn receive(&mut self, delivery: Delivery) {
        self.flows.pacer().passed(delivery.payload().len());
        let manifest = self.read(&delivery);
        let open = self.account.came(delivery.consumer_sequence, delivery.pending);
        if let Ok(manifest) = &manifest
            && let Choice::PassedOver(why) = self.selection.choose(manifest, None)
        {
            let Manifest { transfer, channel, name, .. } = manifest;
            tracing::debug!(%transfer, %channel, %name, "passed over: {}", why.as_str());
            self.pass_over(&delivery, manifest.clone(), open);
            return;
        }
        self.ahead.taken();
        let entry = self.ledger.as_ref().and_then(|ledger| ledger.note(&delivery.ack_subject()));
        let hold = Hold::new(&self.broker, &delivery, self.options.takeover, entry, open, &self.tasks);
        self.queue.push_back(Taken { delivery, hold, manifest });
    }

    /// Takes a transfer for done that is not wanted, beside everything else.
    fn pass_over(&mut self, delivery: &Delivery, manifest: Manifest, open: Open) {
        self.passed_over += 1;
        self.ahead.passed_over(delivery.pending);
        let hold = Hold::new(&self.broker, delivery, self.options.takeover, None, open, &self.tasks);
        // An earlier try, which wanted it, may have left a cursor.
        let again = delivery.delivered > 1;
        let (broker, owner) = (self.broker.clone(), Owner::Receiver(self.options.name.clone()));
        let place = self.passing.clone().try_acquire_owned().ok();
        self.tasks.spawn(async move {
            if again {
                Cursor::forget(&broker, &owner, &manifest).await;
            }
            hold.settle(Acknowledgement::Done).await;
            drop(place);
        });
    }

    /// Takes a message off the inbox that opens no transfer, and says so. The hand is busy meanwhile: whoever publishes many does
    /// not make many of these.
    fn reject(
        &self, delivery: &Delivery, NoTransfer { reason, why }: NoTransfer, hold: Hold, hand: OwnedSemaphorePermit,
    ) -> impl Future<Output = ()> + Send + use<> {
        let (broker, receiver, sequence) = (self.broker.clone(), self.options.name.clone(), delivery.stream_sequence);
        let readable = broker.subjects().parse(delivery.subject()).ok();
        tracing::warn!(subject = %delivery.subject().escape_debug(), sequence, "rejected: {}", why.escape_debug());
        async move {
            let state = RejectionState::rejected(reason, &why);
            let mut rejection = Rejection::unreadable(receiver, sequence, Timestamp::now(), state);
            let subject = match readable {
                Some(Subject { channel, transfer }) => {
                    rejection.transfer = Some(transfer);
                    broker.subjects().of(Kind::Reject, &channel, transfer)
                }
                None => broker.subjects().unreadable(&rejection.receiver),
            };
            reject(&broker, subject, &rejection).await;
            hold.settle(Acknowledgement::Never).await;
            drop(hand);
        }
    }

    fn incoming(&self, delivery: &Delivery, manifest: Manifest, hold: Hold, hand: OwnedSemaphorePermit) -> Incoming {
        let owner = Owner::Receiver(self.options.name.clone());
        let progress = Meter::new(&manifest);
        Incoming {
            // It has a hand, which others wait for.
            broker: self.broker.without_waiting_for_consumers(),
            manifest,
            opened_at: delivery.published_at,
            payload: delivery.payload(),
            crc32: delivery.header(header::CRC32).map(str::to_owned),
            origin: Origin::Inbox {
                owner,
                hold,
                delivered: delivery.delivered,
                hand: Hand::new(hand, self.waiting.clone()),
            },
            flows: self.flows.clone(),
            limits: self.options.limits.clone(),
            progress,
            selection: self.selection.clone(),
            read_marks: self.read_marks.clone(),
        }
    }

    fn read(&self, delivery: &Delivery) -> Result<Manifest, NoTransfer> {
        let unreadable = |why: String| NoTransfer { reason: RejectionReason::Unreadable, why };
        let subject =
            self.broker.subjects().parse(delivery.subject()).map_err(|error| unreadable(error.to_string()))?;
        let text = delivery.header(header::MANIFEST);
        let text = text.ok_or_else(|| unreadable("it has no manifest, or more than one".into()))?;
        Manifest::from_header(text, &subject).map_err(|error| match error {
            RecordError::Name(_) => NoTransfer { reason: RejectionReason::Name, why: error.to_string() },
            error => unreadable(error.to_string()),
        })
    }

    /// The consumer went away: with its server, or because somebody deleted it. Recreated, it begins with the oldest transfer;
    /// what is there already is recognised by its digest.
    async fn renew(&mut self) -> Result<(), ReceiveError> {
        match self.broker.create_consumer(&mut self.spec).await {
            Ok(_) => {
                self.awaited = None;
                Ok(())
            }
            // It has been waited for, and is waited for on.
            Err(error) if error.is_passing() => {
                let said = error.to_string();
                if self.awaited.as_ref() != Some(&said) {
                    tracing::warn!("waiting for the server ({said})");
                    self.awaited = Some(said);
                }
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// This receiver's name.
    pub fn name(&self) -> &ReceiverName {
        &self.options.name
    }

    /// How many messages this process has taken off the inbox for good, because no manifest could be read in them.
    pub fn rejected(&self) -> u64 {
        self.rejected
    }

    /// How many transfers this process has passed over, because they do not meet [`ReceiverOptions::selection`].
    pub fn passed_over(&self) -> u64 {
        self.passed_over
    }

    /// The connection.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// What the receiver has before it, all processes of its name together; `None` while its inbox is lost: [`Receiver::next`]
    /// makes it anew.
    ///
    /// # Errors
    /// When the server does not answer.
    pub fn backlog(&self) -> impl Future<Output = Result<Option<Backlog>, ReceiveError>> + Send + use<> {
        let (broker, stream, name) = (self.broker.clone(), self.spec.stream.clone(), self.spec.name.clone());
        async move { Ok(broker.consumer(&stream, &name).await?.map(Backlog::from)) }
    }

    /// What the receiver had before it when it was opened, as [`Receiver::backlog`] says it.
    pub fn opened_with(&self) -> Backlog {
        self.opened_with
    }

    /// Whether everything is done that waited when the last transfer came, as far as this process can tell without asking the server:
    /// `false` also where others of its name may have some of it, or something was put back. [`Receiver::backlog`] says it then.
    pub fn is_done(&self) -> bool {
        self.account.is_done()
    }

    /// How many transfers were taken when this was opened, that no process has noted in this receiver's home: processes elsewhere
    /// hold them, or one died before it had read what the server had given it, or they were put back for later. Nobody can tell
    /// whose they are. What nobody holds is given out again by the server, after the takeover time at the latest.
    pub fn unaccounted(&self) -> u64 {
        self.unaccounted
    }

    /// Removes what earlier runs of this receiver left, in its home, of transfers that do not come again: they were removed from
    /// the stream, or are done. Says how many there were. The receiver can go on meanwhile.
    ///
    /// # Cancel safety
    /// Dropped half-way, some may be left.
    ///
    /// # Errors
    /// When the server does not answer, or the directory cannot be read.
    pub fn sweep(&self) -> impl Future<Output = Result<u64, ReceiveError>> + Send + use<> {
        let (broker, home) = (self.broker.clone(), self.options.home.clone());
        let owner = Owner::Receiver(self.options.name.clone());
        async move {
            match home {
                Some(home) => sweep(&broker, &home, &owner).await,
                None => Ok(0),
            }
        }
    }

    /// The transfers as a stream, for as long as the receiver lives.
    pub fn into_stream(self) -> impl Stream<Item = Result<Incoming, ReceiveError>> {
        futures_util::stream::unfold(self, async |mut receiver| {
            let item = receiver.next().await.transpose()?;
            Some((item, receiver))
        })
    }

    /// Ends the receiver on this side, in order: transfers that were dropped are back with the server on return. Its place is kept
    /// there for the next time.
    pub async fn close(self) {
        let Self { broker, pull, queue, tasks, .. } = self;
        drop((pull, queue));
        tasks.close();
        tasks.wait().await;
        // Only a closed connection fails.
        let _ = broker.flush().await;
    }

    /// Removes a receiver for good: its inbox and its cursors. One of this name then begins anew. `false` if there was none.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn forget(broker: &Broker, name: &ReceiverName) -> Result<bool, ReceiveError> {
        let control = broker.stream().control().to_owned();
        let data = broker.stream().data();
        for ConsumerState { name: consumer, .. } in broker.consumers(&data).await? {
            let owned = consumer.strip_prefix(name.as_str()).and_then(|rest| rest.strip_prefix('-'));
            if owned.is_some_and(|id| id.parse::<crate::TransferId>().is_ok()) {
                broker.delete_consumer(&data, &consumer).await?;
            }
        }
        Ok(broker.delete_consumer(&control, name.as_str()).await?)
    }
}

/// Opens the inbox: creates it, or takes the one that stands over the same channels.
async fn open_inbox(
    broker: &Broker, spec: &mut ConsumerSpec, options: &ReceiverOptions,
) -> Result<ConsumerState, ReceiveError> {
    if let Some(state) = broker.create_consumer_unless_other(spec).await? {
        return Ok(state);
    }
    if let Some(state) = broker.consumer(&spec.stream, &spec.name).await? {
        ensure_same_channels(broker, &options.name, &options.channels, &state)?;
    }
    // The takeover time has changed, or what the server grants.
    Ok(broker.create_consumer(spec).await?)
}

/// Opens this process's ledger, and puts back what processes held that have died since. Says for how many messages ledgers
/// account.
async fn take_over(broker: &Broker, options: &ReceiverOptions) -> (Option<Arc<Ledger>>, u64) {
    let Some(home) = options.home.clone() else { return (None, 0) };
    let owner = Owner::Receiver(options.name.clone());
    // A tenth of the takeover time may have passed since the server was last told.
    let within = options.takeover * 9 / 10;
    let found = blocking(move || {
        let path = home.path().to_owned();
        let directory = StagingDirectory::open(&home, &owner)?;
        let opened = LeftBehind::find(&directory, within)
            .and_then(|left_behind| Ledger::open(&directory).map(|ledger| (ledger, left_behind)));
        opened.map_err(ReceiveError::disk("cannot keep a ledger in", path))
    })
    .await
    .inspect_err(|error| {
        // As on a full disk: files can be received all the same, and what is held then waits for the server after a crash.
        tracing::warn!("without a ledger: {error}");
    });
    let Ok((ledger, left_behind)) = found else { return (None, 0) };
    for ack_subject in &left_behind.ack_subjects {
        tracing::debug!(ack_subject, "putting back what a process held that has died");
        broker.acknowledge(ack_subject, Acknowledgement::Again(Duration::ZERO)).await;
    }
    let accounted = (left_behind.ack_subjects.len() + left_behind.held) as u64;
    if left_behind.is_empty() {
        return (Some(ledger), accounted);
    }
    // What is answered was read behind them. Without an answer, the ledgers are left to the next process.
    if broker.consumer(broker.stream().control(), options.name.as_str()).await.is_ok() {
        blocking(move || left_behind.remove()).await;
    }
    (Some(ledger), accounted)
}
