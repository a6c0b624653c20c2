//! The sources that are to go: each is deleted or moved beside everything else.

use std::{collections::BTreeSet, io, path::Path, sync::Arc};

use anyhow::Context as _;
use natsfer_common::cli::report;
use natsfer_producer::{FileName, TransferId};
use tokio::task::JoinSet;

use super::{
    disposal::{Disposal, Disposed},
    version::Version,
};
use crate::cli::said;

/// Sources dealt with in one go.
const MOST: usize = 250;

#[derive(Debug)]
pub(super) struct Departures {
    root: Arc<Path>,
    disposal: Disposal,
    json: bool,
    due: BTreeSet<TransferId>,
    /// One go at most.
    under_way: JoinSet<Vec<(TransferId, io::Result<Disposed>)>>,
    /// What could not be disposed of, which was said.
    stuck: BTreeSet<TransferId>,
}

/// Whether a source's turn is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Departure {
    Over,
    /// It is still to go.
    PutOff,
}

impl Departures {
    pub(super) fn new(root: Arc<Path>, disposal: Disposal, json: bool) -> Self {
        let (due, under_way, stuck) = Default::default();
        Self { root, disposal, json, due, under_way, stuck }
    }

    /// A source is to go.
    pub(super) fn want(&mut self, transfer: TransferId) {
        self.due.insert(transfer);
    }

    /// Somebody may have cleared what was in the way.
    pub(super) fn try_again(&mut self) {
        self.due.extend(&self.stuck);
    }

    /// Begins with what is to go, unless something is under way. `source` says what was sent, if it is still to go.
    pub(super) fn begin(&mut self, source: impl Fn(TransferId) -> Option<(FileName, Version)>) {
        if !self.under_way.is_empty() {
            return;
        }
        let mut go = Vec::new();
        while go.len() < MOST
            && let Some(transfer) = self.due.pop_first()
        {
            go.extend(source(transfer).map(|(name, version)| (transfer, name, version)));
        }
        if go.is_empty() {
            return;
        }
        let (root, disposal) = (self.root.clone(), self.disposal.clone());
        self.under_way.spawn_blocking(move || {
            let act = |(transfer, name, version): (_, FileName, _)| (transfer, disposal.act(&root, &name, &version));
            go.into_iter().map(act).collect()
        });
    }

    /// What is done of what was begun; `None` if nothing is under way. Cancel safe.
    pub(super) async fn ended(&mut self) -> Option<anyhow::Result<Vec<(TransferId, io::Result<Disposed>)>>> {
        Some(self.under_way.join_next().await?.context("a task failed"))
    }

    /// Says what became of a source.
    pub(super) fn take(&mut self, transfer: TransferId, name: &FileName, disposed: io::Result<Disposed>) -> Departure {
        let mut told = Ok(());
        match disposed {
            Ok(Disposed::Kept) => {}
            Ok(Disposed::Deleted) => told = said::deleted(self.json, transfer, name),
            Ok(Disposed::Moved(to)) => told = said::moved(self.json, transfer, name, &to),
            Ok(Disposed::Changed) => tracing::info!("{name} has changed since it was sent ({transfer}): it stays"),
            Ok(Disposed::Gone) => tracing::debug!("{name} is gone already"),
            Err(error) => {
                if self.stuck.insert(transfer) {
                    let what = format!("{name} was sent, and cannot be removed; trying again now and then");
                    report(&anyhow::Error::from(error).context(what));
                }
                return Departure::PutOff;
            }
        }
        if let Err(error) = told {
            report(&anyhow::Error::from(error).context("what became of a file could not be told of"));
        }
        self.stuck.remove(&transfer);
        Departure::Over
    }
}
