//! What comes next: which file is sent, and which is looked at. It follows the files' states.

use std::{collections::BTreeSet, path::Path, sync::Arc, time::Instant};

use super::{
    file::{File, State},
    version::Modified,
};

#[derive(Debug)]
pub(super) struct Agenda {
    order: Order,
    /// What may be sent, in this order; where order is kept, also what holds the others up.
    queue: BTreeSet<Place>,
    /// What is looked at, and when.
    due: BTreeSet<(Instant, Arc<Path>)>,
    sending: usize,
    pending: usize,
}

/// Whether one file waits for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Whatever is complete is sent.
    Free,
    /// One at a time, oldest arrival first; one that fails holds up the rest.
    Kept,
}

/// A place in the order: what is seen together, as by one scan, is ordered by age and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    turn: u64,
    modified: Modified,
    path: Arc<Path>,
}

impl Agenda {
    pub(super) fn new(order: Order) -> Self {
        Self { order, queue: BTreeSet::new(), due: BTreeSet::new(), sending: 0, pending: 0 }
    }

    /// A file is there, or is in this state now.
    pub(super) fn enter(&mut self, path: &Arc<Path>, file: &File) {
        if let State::Settling { due } | State::Resting { due } = file.state {
            self.due.insert((due, path.clone()));
        }
        if self.is_queued(file.state) {
            self.queue.insert(Place::of(path, file));
        }
        self.sending += usize::from(file.state.is_under_way());
        self.pending += usize::from(file.state.is_pending());
    }

    /// It is not there any more, or not in this state: the one that it has entered in.
    pub(super) fn leave(&mut self, path: &Arc<Path>, file: &File) {
        if let State::Settling { due } | State::Resting { due } = file.state {
            self.due.remove(&(due, path.clone()));
        }
        if self.is_queued(file.state) {
            self.queue.remove(&Place::of(path, file));
        }
        self.sending -= usize::from(file.state.is_under_way());
        self.pending -= usize::from(file.state.is_pending());
    }

    /// Whose turn it is to be sent, or to hold up the others.
    pub(super) fn first(&self) -> Option<&Arc<Path>> {
        self.queue.first().map(|place| &place.path)
    }

    /// When the next file is to be looked at, and which.
    pub(super) fn next_look(&self) -> Option<(Instant, &Arc<Path>)> {
        self.due.first().map(|(due, path)| (*due, path))
    }

    /// How many files are being sent.
    pub(super) fn sending(&self) -> usize {
        self.sending
    }

    /// How many are to be sent, those included.
    pub(super) fn pending(&self) -> usize {
        self.pending
    }

    fn is_queued(&self, state: State) -> bool {
        match self.order {
            Order::Free => state == State::Ready,
            Order::Kept => state.is_pending() && !state.is_under_way(),
        }
    }
}

impl Place {
    fn of(path: &Arc<Path>, file: &File) -> Self {
        Self { turn: file.turn, modified: file.version.modified, path: path.clone() }
    }
}
