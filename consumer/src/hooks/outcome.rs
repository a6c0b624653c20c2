//! What a run has come to, until that is on disk.

use std::{io, sync::Arc};

use super::{Queue, Run, RunId, Then};

/// What is to be kept of a run.
#[derive(Debug, Clone)]
pub(super) enum Outcome {
    /// It was tried, and this follows.
    Tried(Arc<Run>, Then),
    /// It is none of ours, and is not tried.
    Unreadable,
}

impl Outcome {
    /// What follows once it is kept.
    pub(super) fn then(&self) -> Then {
        match self {
            Self::Tried(_, then) => *then,
            Self::Unreadable => Then::GiveUp,
        }
    }

    /// Writes it. Blocking; half done, it can be repeated.
    pub(super) fn keep(&self, queue: &Queue, id: RunId) -> io::Result<()> {
        match self {
            Self::Tried(_, Then::Done) => queue.succeeded(id),
            Self::Tried(run, Then::Again(_)) => queue.update(id, run),
            Self::Tried(run, Then::GiveUp) => queue.failed(id, run),
            Self::Unreadable => queue.set_aside(id),
        }
    }
}
