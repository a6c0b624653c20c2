//! `receive`: lands files.

use std::{collections::HashMap, time::Duration};

use anyhow::Context as _;
use natsfer_common::{
    ChannelFilter, FileName, ReceiverName,
    broker::{Broker, BrokerError},
    cli::{Outcome, report, stop_signal},
};
use natsfer_consumer::{
    ConflictPolicy, Failure, Incoming, Limits, ReceiveError, Receiver, ReceiverOptions, SaveOptions, Saved,
    TargetDirectory, TransferId,
};
use tokio::{sync::oneshot, task::JoinSet, time::Instant};

use super::{
    event::Format,
    landing::{LIMITS, LandingArguments},
};

/// How long the end may take.
const MOST_CLOSING: Duration = Duration::from_secs(3);
/// How often a draining receiver looks whether it is done.
const DRAIN_INTERVAL: Duration = Duration::from_millis(100);
/// How long a draining receiver leaves an inbox that is lost.
const LOST_INBOX_REST: Duration = Duration::from_secs(5);
/// How often to look for parts of transfers that do not come again.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// Land files in a directory, verified and whole
#[derive(Debug, clap::Args)]
pub(crate) struct Receive {
    /// Durable name: receivers of different names each get every file, processes of one name share them
    #[arg(short, long)]
    name: ReceiverName,
    /// Channels to listen on; wildcards allowed: invoices.*, invoices.>
    #[arg(short, long, default_value = ">")]
    channel: ChannelFilter,
    #[command(flatten)]
    landing: LandingArguments,
    /// Reject files whose senders are silent when more than so many wait like that
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_open, help_heading = LIMITS)]
    max_open: u64,
    /// Exit once everything published before the start has landed
    #[arg(long, conflicts_with = "count")]
    drain: bool,
    /// Exit after this many files
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Files received at once
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    concurrency: u16,
    /// Put a file back for later when its sender has stored nothing more of it for so long
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = humantime::parse_duration)]
    patience: Duration,
    /// Time until the files of a process that died go to another of its name
    #[arg(long, default_value = "30s", value_name = "TIME", value_parser = humantime::parse_duration)]
    takeover: Duration,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// When to stop.
#[derive(Debug, Clone, Copy)]
enum Until {
    /// A signal comes.
    Stopped,
    /// So many files are received.
    Count(u64),
    /// Everything up to this sequence of the control stream is done, or, where it may not be known, nothing is left.
    Drained(Option<u64>),
}

/// What a run has come to.
#[derive(Debug, Default)]
struct Tally {
    received: u64,
    failed: u64,
    /// Put back, to be received later.
    parked: HashMap<TransferId, Parked>,
}

/// Why a transfer was put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Parked {
    /// Its sender has not finished it.
    Unfinished,
    /// Something here, or at the server, was in the way.
    Failed,
}

type Save = JoinSet<(TransferId, Result<Saved, ReceiveError>)>;

impl Receive {
    pub(crate) async fn run(self, broker: &Broker) -> anyhow::Result<Outcome> {
        let target = self.landing.target()?;
        let options = ReceiverOptions::new(self.name.clone())
            .with_channels(self.channel.clone())
            .with_home(&target)
            .with_concurrency(self.concurrency.into())
            .with_takeover(self.takeover)
            .with_limits(self.landing.limits().with_max_open(self.max_open));
        let mut receiver = Receiver::open(broker.clone(), options).await?;
        let until = match (self.drain, self.count) {
            (true, _) => Until::Drained(last_published(broker).await?),
            (_, Some(count)) => Until::Count(count),
            _ => Until::Stopped,
        };
        let mut tally = Tally::default();
        let mut saves = Save::new();
        let result = self.receive(&mut receiver, &target, until, &mut saves, &mut tally).await;
        // Unfinished saves go back to the server; what they wrote stays for the next run.
        saves.shutdown().await;
        tally.failed += receiver.rejected();
        // Whoever stops a service waits 10 s: what has not gone back by then, the ledger puts back.
        if tokio::time::timeout(MOST_CLOSING, receiver.close()).await.is_err() {
            tracing::debug!("the server does not take back what was not finished");
        }
        let outcome = result?;
        for (transfer, parked) in &tally.parked {
            match parked {
                Parked::Unfinished => {
                    tracing::warn!("transfer {transfer} is not finished by its sender: it will be received when it is");
                }
                Parked::Failed if !matches!(until, Until::Stopped) => {
                    report(&anyhow::anyhow!("transfer {transfer} was not received; a later run tries it again"));
                }
                Parked::Failed => {}
            }
        }
        let failed = tally.failed > 0 || tally.parked.values().any(|parked| *parked == Parked::Failed);
        Ok(match until {
            // What is put back comes again, and what failed was told when it did.
            Until::Stopped => outcome,
            _ if failed => Outcome::Failed,
            _ => outcome,
        })
    }

    async fn receive(
        &self, receiver: &mut Receiver, target: &TargetDirectory, until: Until, saves: &mut Save, tally: &mut Tally,
    ) -> anyhow::Result<Outcome> {
        let stop = stop_signal().context("cannot listen for signals")?;
        // Whatever is being waited for: what was taken is dropped, and goes back.
        tokio::select! {
            () = stop => {
                tracing::info!("stopping; what is not finished goes on with the next run");
                // Who asked for an end that has not come must be able to tell.
                Ok(if let Until::Stopped = until { Outcome::Done } else { Outcome::Failed })
            }
            outcome = self.receive_until(receiver, target, until, saves, tally) => outcome,
        }
    }

    async fn receive_until(
        &self, receiver: &mut Receiver, target: &TargetDirectory, until: Until, saves: &mut Save, tally: &mut Tally,
    ) -> anyhow::Result<Outcome> {
        let mut look = tokio::time::interval(DRAIN_INTERVAL);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut turns = Turns::default();
        let options = SaveOptions::default().with_on_conflict(self.landing.on_conflict).with_patience(self.patience);
        // Also where there is nothing to receive: a drain may end at once.
        let mut sweeps = remove_leftovers(receiver.sweep()).await;
        let mut sweeping = JoinSet::new();
        let mut sweep = tokio::time::interval_at(Instant::now() + SWEEP_INTERVAL, SWEEP_INTERVAL);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let taken_enough = matches!(until, Until::Count(count) if tally.received + saves.len() as u64 >= count);
            tokio::select! {
                Some(saved) = saves.join_next() => {
                    let (transfer, result) = saved.context("a task failed")?;
                    if let Err(gone @ ReceiveError::TargetGone { .. }) = result {
                        return Err(gone.into());
                    }
                    self.note(transfer, result, tally);
                    if matches!(until, Until::Count(count) if tally.received >= count) {
                        return Ok(Outcome::Done);
                    }
                }
                taken = take(receiver, until), if !taken_enough => {
                    for incoming in taken? {
                        let transfer = incoming.manifest().transfer;
                        tally.parked.remove(&transfer);
                        let turn = turns.take(&incoming.manifest().name, self.landing.on_conflict);
                        saves.spawn(save(incoming, target.clone(), options.clone(), turn));
                    }
                }
                _ = sweep.tick(), if sweeps == Sweeps::Allowed && sweeping.is_empty() => {
                    sweeping.spawn(remove_leftovers(receiver.sweep()));
                }
                Some(swept) = sweeping.join_next() => sweeps = swept.context("a task failed")?,
                _ = look.tick(), if matches!(until, Until::Drained(_)) && saves.is_empty() => {
                    let Some(backlog) = receiver.backlog().await? else {
                        // Time to make it anew.
                        look.reset_after(LOST_INBOX_REST);
                        continue;
                    };
                    let all_done = matches!(until, Until::Drained(Some(last)) if backlog.done_to >= last);
                    if all_done || (backlog.waiting == 0 && backlog.taken <= tally.parked.len() as u64) {
                        return Ok(Outcome::Done);
                    }
                }
            }
        }
    }

    fn note(&self, transfer: TransferId, result: Result<Saved, ReceiveError>, tally: &mut Tally) {
        match result {
            Ok(saved) => {
                tally.received += 1;
                if let Err(error) = Format::new(self.json).received(&saved) {
                    tally.failed += 1;
                    report(&anyhow::Error::from(error).context("a received file could not be told of"));
                }
            }
            Err(error) => match error.failure() {
                Failure::Cancelled => tracing::info!("{:#}", anyhow::Error::from(error)),
                Failure::Passing => {
                    match error {
                        ReceiveError::Stalled { .. } => {
                            tally.parked.insert(transfer, Parked::Unfinished);
                        }
                        // It is in good hands.
                        ReceiveError::Busy { .. } => {}
                        _ => {
                            tally.parked.insert(transfer, Parked::Failed);
                        }
                    }
                    tracing::warn!("put back for later: {:#}", anyhow::Error::from(error));
                }
                Failure::Final => {
                    tally.failed += 1;
                    if let Err(error) = Format::new(self.json).rejected(transfer, &error) {
                        report(&anyhow::Error::from(error).context("a rejected file could not be told of"));
                    }
                    report(&anyhow::Error::from(error).context(format!("transfer {transfer} failed for good")));
                }
            },
        }
    }
}

/// The next transfers: one by one where they are counted, so that none is taken that is not received.
async fn take(receiver: &mut Receiver, until: Until) -> Result<Vec<Incoming>, ReceiveError> {
    match until {
        Until::Count(_) => Ok(receiver.next().await?.into_iter().collect()),
        Until::Stopped | Until::Drained(_) => receiver.next_several().await,
    }
}

/// Whether this user may look what became of transfers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sweeps {
    Allowed,
    Denied,
}

async fn remove_leftovers(sweep: impl Future<Output = Result<u64, ReceiveError>>) -> Sweeps {
    let swept = sweep.await;
    let denied = matches!(swept, Err(ReceiveError::Broker(BrokerError::Denied { .. })));
    match swept {
        Ok(0) => {}
        Ok(parts) => tracing::info!(parts, "removed what was left of transfers that do not come again"),
        Err(error) => tracing::warn!("cannot look for leftovers: {:#}", anyhow::Error::from(error)),
    }
    if denied { Sweeps::Denied } else { Sweeps::Allowed }
}

async fn save(
    incoming: Incoming, target: TargetDirectory, options: SaveOptions, turn: Turn,
) -> (TransferId, Result<Saved, ReceiveError>) {
    let transfer = incoming.manifest().transfer;
    if let Some(previous) = turn.previous {
        // An error, too, says that the one before has ended.
        let _ = previous.await;
    }
    let result = incoming.save_into(&target, &options).await;
    drop(turn.ended);
    (transfer, result)
}

/// The control stream's last sequence; `None` where this user may not look at streams.
async fn last_published(broker: &Broker) -> Result<Option<u64>, BrokerError> {
    match broker.last_control_sequence().await {
        Ok(sequence) => Ok(Some(sequence)),
        Err(BrokerError::Denied { .. } | BrokerError::TimedOut { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where files replace each other, those of one name are saved in the order they came: the last one stays.
#[derive(Debug, Default)]
struct Turns(HashMap<FileName, oneshot::Receiver<()>>);

/// One save's place in the order.
#[derive(Debug)]
struct Turn {
    previous: Option<oneshot::Receiver<()>>,
    ended: oneshot::Sender<()>,
}

impl Turns {
    fn take(&mut self, name: &FileName, policy: ConflictPolicy) -> Turn {
        let (ended, next) = oneshot::channel();
        if policy != ConflictPolicy::Overwrite {
            return Turn { previous: None, ended };
        }
        // Those that have ended hold nobody up.
        self.0.retain(|_, last| matches!(last.try_recv(), Err(oneshot::error::TryRecvError::Empty)));
        Turn { previous: self.0.insert(name.clone(), next), ended }
    }
}
