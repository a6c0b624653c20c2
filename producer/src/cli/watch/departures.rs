//! The sources that are to go: each is deleted or moved beside everything else, and not under its writer.

use std::{collections::BTreeSet, io, sync::Arc};

use anyhow::Context as _;
use natsfer_common::cli::report;
use natsfer_producer::{FileName, TransferId};
use tokio::task::JoinSet;

use super::{
    Setting,
    disposal::{Disposal, Disposed, Source},
    home::Home,
    writers::Completion,
};
use crate::cli::said;

/// Sources dealt with in one go.
const MOST: usize = 250;

#[derive(Debug)]
pub(super) struct Departures {
    home: Arc<Home>,
    disposal: Disposal,
    trusted: Completion,
    json: bool,
    due: BTreeSet<TransferId>,
    /// One go at most.
    under_way: JoinSet<Vec<(TransferId, io::Result<Disposed>)>>,
    /// Somebody writes to these, which was said.
    in_use: BTreeSet<TransferId>,
    /// These could not go, which was said.
    stuck: BTreeSet<TransferId>,
    doubts: Doubts,
}

/// Whether it was said that what is only settled stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Doubts {
    #[default]
    Unsaid,
    Said,
}

/// Whether a source's turn is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Departure {
    Over,
    /// It is still to go.
    PutOff,
}

impl Departures {
    pub(super) fn new(setting: &Setting, json: bool) -> Self {
        let (home, disposal, trusted) = (setting.home.clone(), setting.disposal.clone(), setting.trusted);
        let (due, under_way, in_use, stuck, doubts) = Default::default();
        Self { home, disposal, trusted, json, due, under_way, in_use, stuck, doubts }
    }

    /// A source is to go.
    pub(super) fn want(&mut self, transfer: TransferId) {
        self.due.insert(transfer);
    }

    /// Somebody may have cleared what was in the way.
    pub(super) fn try_again(&mut self) {
        self.due.extend(&self.stuck);
    }

    /// Whether writers are waited for.
    pub(super) fn awaits_writers(&self) -> bool {
        !self.in_use.is_empty()
    }

    /// Writers may have closed what they wrote to. Nobody tells of it in time: that a file is closed is said a moment before the
    /// system takes it for closed.
    pub(super) fn try_in_use(&mut self) {
        self.due.extend(&self.in_use);
    }

    /// Begins with what is to go, unless something is under way. `source` says what was sent, if it is still to go.
    pub(super) fn begin(&mut self, source: impl Fn(TransferId) -> Option<Source>) {
        if !self.under_way.is_empty() {
            return;
        }
        let mut go = Vec::new();
        while go.len() < MOST
            && let Some(transfer) = self.due.pop_first()
        {
            go.extend(source(transfer).map(|source| (transfer, source)));
        }
        if go.is_empty() {
            return;
        }
        let (home, disposal, trusted) = (self.home.clone(), self.disposal.clone(), self.trusted);
        self.under_way.spawn_blocking(move || {
            let act = |(transfer, source)| (transfer, disposal.act(&home, &source, trusted));
            go.into_iter().map(act).collect()
        });
    }

    /// What is done of what was begun; `None` if nothing is under way. Cancel safe.
    pub(super) async fn ended(&mut self) -> Option<anyhow::Result<Vec<(TransferId, io::Result<Disposed>)>>> {
        Some(self.under_way.join_next().await?.context("a task failed"))
    }

    /// That it is not there, or is another file, proves nothing: it is looked for again.
    pub(super) fn put_off(&mut self, transfer: TransferId) {
        self.stuck.insert(transfer);
    }

    /// Says what became of a source.
    pub(super) fn take(&mut self, transfer: TransferId, name: &FileName, disposed: io::Result<Disposed>) -> Departure {
        let mut told = Ok(());
        match disposed {
            Ok(Disposed::Kept) => {}
            Ok(Disposed::Deleted) => told = said::deleted(self.json, transfer, name),
            Ok(Disposed::Moved(to)) => told = said::moved(self.json, transfer, name, &to),
            Ok(Disposed::Changed) => tracing::info!("{name} has changed since it was sent ({transfer}): it stays"),
            Ok(Disposed::Altered) => {
                tracing::info!(
                    "{name} looks as it did when it was sent ({transfer}), and is another file: it stays, and is sent"
                );
            }
            // Which ends the watcher.
            Ok(Disposed::Astray) => return Departure::PutOff,
            Ok(Disposed::Gone) => tracing::debug!("{name} is gone already"),
            Ok(Disposed::InUse) => {
                if self.in_use.insert(transfer) {
                    tracing::info!(
                        "{name} was sent, and somebody has it open for writing: it stays until they close it"
                    );
                }
                return Departure::PutOff;
            }
            Ok(Disposed::Doubtful(why)) => {
                if self.stuck.insert(transfer) && std::mem::replace(&mut self.doubts, Doubts::Said) == Doubts::Unsaid {
                    tracing::warn!(
                        "{name} was sent, and stays: nobody has closed it or renamed it in while it was watched, and whether \
                         somebody still writes to it cannot be known ({why}). So do others like it, unless --trust-settled is \
                         given"
                    );
                }
                return Departure::PutOff;
            }
            Err(error) => {
                if self.stuck.insert(transfer) {
                    let attempt = self.disposal.attempt();
                    let what = format!("{name} was sent, and cannot be {attempt}; trying again now and then");
                    report(&anyhow::Error::from(error).context(what));
                }
                return Departure::PutOff;
            }
        }
        if let Err(error) = told {
            report(&anyhow::Error::from(error).context("what became of a file could not be told of"));
        }
        self.in_use.remove(&transfer);
        self.stuck.remove(&transfer);
        Departure::Over
    }
}
