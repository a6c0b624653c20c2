//! A receiver at work.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use futures_util::future::OptionFuture;
use natsfer_common::cli::Followed;
use natsfer_consumer::{
    Backlog, Incoming, Manifest, ReceiveError, Receiver, SaveOptions, Saved, TargetDirectory,
    hooks::{Hooks, Noting},
};
use tokio::{task::JoinSet, time::MissedTickBehavior};

use super::{
    leftovers::Leftovers,
    observer::Observer,
    place::Place,
    quiet::Quiet,
    start,
    summary::{self, PassedOver},
    tally::Tally,
    turns::{Turn, Turns},
    until::Until,
};
use crate::cli::named::Named;

/// How long the end may take.
const MOST_CLOSING: Duration = Duration::from_secs(3);
/// How long a command that is running may go on then.
const COMMAND_GRACE: Duration = Duration::from_secs(5);
/// How often a draining receiver looks whether it is done.
const DRAIN_INTERVAL: Duration = Duration::from_millis(100);
/// If nothing comes for so long after a file was saved, it was probably the last.
const NEXT_ONE: Duration = Duration::from_millis(3);
/// What is at hand comes sooner after the start: what has not come by then may take as long as the takeover time.
const AT_HAND: Duration = Duration::from_secs(2);
/// How long a draining receiver leaves an inbox that is lost.
const LOST_INBOX_REST: Duration = Duration::from_secs(5);

/// A receiver, and the saves it has under way.
#[derive(Debug)]
pub(super) struct Work {
    receiver: Receiver,
    target: TargetDirectory,
    options: SaveOptions,
    until: Until,
    takeover: Duration,
    observer: Arc<Observer>,
    hooks: Option<Hooks>,
    saves: JoinSet<(Named, Result<Saved, ReceiveError>)>,
    turns: Turns,
    tally: Tally,
}

impl Work {
    pub(super) fn new(
        receiver: Receiver, target: TargetDirectory, options: SaveOptions, until: Until, takeover: Duration,
        observer: Arc<Observer>, hooks: Option<Hooks>,
    ) -> Self {
        let (saves, turns, tally) = (JoinSet::new(), Turns::default(), Tally::default());
        Self { receiver, target, options, until, takeover, observer, hooks, saves, turns, tally }
    }

    /// Lands files until that is enough.
    ///
    /// # Cancel safety
    /// Dropped, what was taken is still under way: see [`Work::close`].
    pub(super) async fn run(&mut self) -> anyhow::Result<()> {
        let mut look = tokio::time::interval(DRAIN_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut leftovers = Leftovers::look(&self.receiver).await;
        let mut place = Place::watch(self.target.clone());
        // Until it is told what is waited for, if anything is.
        let mut at_hand = (self.receiver.unaccounted() > 0).then(|| Box::pin(tokio::time::sleep(AT_HAND)));
        // Beside everything else: on a long line, an answer takes its time.
        let mut backlog = None;
        let mut quiet = Quiet::new();
        loop {
            if matches!(self.until, Until::Drained(_)) && self.saves.is_empty() && self.receiver.is_done() {
                return Ok(());
            }
            let taken_enough = self.until.is_counted(self.tally.landed() + self.saves.len() as u64);
            tokio::select! {
                Some(saved) = self.saves.join_next() => {
                    let (named, result) = saved.context("a task failed")?;
                    if let Err(gone @ ReceiveError::TargetGone { .. }) = result {
                        return Err(gone.into());
                    }
                    self.tally.ended(&named, result, &self.observer);
                    if self.until.is_counted(self.tally.landed()) {
                        return Ok(());
                    }
                    if self.saves.is_empty() {
                        look.reset_after(NEXT_ONE);
                    }
                }
                taken = take(&mut self.receiver, self.until), if !taken_enough => {
                    taken?.into_iter().for_each(|incoming| self.begin(incoming));
                }
                gone = place.gone() => return Err(gone),
                due = leftovers.due() => {
                    due?;
                    leftovers.look_again(&self.receiver);
                }
                Some(()) = OptionFuture::from(at_hand.as_mut()), if self.saves.is_empty() => {
                    at_hand = None;
                    self.tell_wait().await;
                }
                _ = look.tick(), if matches!(self.until, Until::Drained(_)) && self.saves.is_empty() && backlog.is_none() => {
                    backlog = Some(Box::pin(self.receiver.backlog()));
                }
                () = quiet.due(), if self.saves.is_empty() && backlog.is_none() => {
                    backlog = Some(Box::pin(self.receiver.backlog()));
                }
                Some(found) = OptionFuture::from(backlog.as_mut()) => {
                    backlog = None;
                    if let Ok(Some(found)) = &found
                        && let Some(line) = quiet.note(found)
                    {
                        tracing::warn!("{line}");
                    }
                    if !matches!(self.until, Until::Drained(_)) {
                        continue;
                    }
                    match found? {
                        // What was taken meanwhile is to be done first.
                        _ if !self.saves.is_empty() => {}
                        Some(found) if self.is_drained(found) => return Ok(()),
                        Some(_) => look.reset_after(DRAIN_INTERVAL),
                        // Time to make it anew.
                        None => look.reset_after(LOST_INBOX_REST),
                    }
                }
            }
        }
    }

    fn is_drained(&self, backlog: Backlog) -> bool {
        let all_done = matches!(self.until, Until::Drained(Some(last)) if backlog.done_to >= last);
        all_done || (backlog.waiting == 0 && backlog.taken <= self.tally.parked())
    }

    /// Says what is waited for that was taken before the start, and why nothing of it comes.
    async fn tell_wait(&self) {
        // Who cannot look is not told.
        let Ok(Some(backlog)) = self.receiver.backlog().await else { return };
        let files = backlog.taken.saturating_sub(self.tally.parked()).min(self.receiver.unaccounted());
        if let Some(line) = start::waiting(files, self.takeover) {
            tracing::info!("{line}");
        }
    }

    fn begin(&mut self, incoming: Incoming) {
        let manifest = incoming.manifest();
        self.tally.taken(manifest.transfer);
        let followed = self.observer.taken(&incoming);
        // What has no place fails by itself.
        let place = incoming.place(&self.options.layout).unwrap_or_else(|_| manifest.name.clone());
        let turn = self.turns.take(&place, self.options.on_conflict);
        let noting = self.hooks.as_ref().map(Hooks::noting);
        self.saves.spawn(save(incoming, self.target.clone(), self.options.clone(), turn, noting, followed));
    }

    /// Waits until every command has been run, or has failed too often.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn finish(&mut self) {
        if let Some(hooks) = &mut self.hooks {
            self.tally.commands_failed(hooks.finish().await.failed);
        }
    }

    /// Ends it: unfinished saves go back to the server, and what they wrote stays for the next run.
    pub(super) async fn close(mut self) -> Tally {
        self.saves.shutdown().await;
        self.tally.unreadable(self.receiver.rejected());
        match summary::passed_over(self.receiver.passed_over(), self.tally.landed(), self.receiver.name()) {
            Some(PassedOver::Some(line)) => tracing::info!("{line}"),
            Some(PassedOver::All(line)) => tracing::warn!("{line}"),
            None => {}
        }
        // Whoever stops a service waits 10 s: what has not gone back by then, the ledger puts back.
        let closing = tokio::time::timeout(MOST_CLOSING, self.receiver.close());
        let stopping = async {
            if let Some(hooks) = self.hooks {
                hooks.stop(COMMAND_GRACE).await;
            }
        };
        if tokio::join!(closing, stopping).0.is_err() {
            tracing::debug!("the server does not take back what was not finished");
        }
        self.tally
    }
}

/// The next transfers: one by one where they are counted, so that none is taken that is not received.
async fn take(receiver: &mut Receiver, until: Until) -> Result<Vec<Incoming>, ReceiveError> {
    match until {
        Until::Count(_) => Ok(receiver.next().await?.into_iter().collect()),
        Until::Stopped | Until::Drained(_) => receiver.next_several().await,
    }
}

async fn save(
    incoming: Incoming, target: TargetDirectory, options: SaveOptions, mut turn: Turn, noting: Option<Noting>,
    followed: Followed,
) -> (Named, Result<Saved, ReceiveError>) {
    let Manifest { transfer, name, .. } = incoming.manifest();
    let named = Named { transfer: *transfer, name: name.clone() };
    turn.come().await;
    let saved = async {
        let landed = incoming.land_into(&target, &options).await?;
        // Before anybody is told: after a crash, nobody would know of it.
        if let Some(noting) = noting
            && let Err(error) = noting.note(&landed).await
        {
            return Err(landed.put_back(error).await);
        }
        landed.settle().await
    };
    let saved = saved.await;
    if let Ok(saved) = &saved {
        followed.done(saved.size);
    }
    (named, saved)
}
