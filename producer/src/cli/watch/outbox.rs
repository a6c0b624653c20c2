//! Which file is sent when. No clock and no I/O: it is fed with what was seen and what came of it, and says what to do next.
//!
//! A file is pending from when it is seen until this version of it was sent. It is sent when it is known to be complete: closed
//! or renamed in, or unchanged for the settle time, which a last look confirms.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    agenda::{Agenda, Order},
    file::{File, State},
    version::Version,
    writers::Completion,
};

/// Rest before what failed is tried again; doubled with every failure.
const FIRST_REST: Duration = Duration::from_secs(2);
const LONGEST_REST: Duration = Duration::from_secs(300);

/// The files of a directory, and how far each is. Paths are relative to the directory.
#[derive(Debug)]
pub(super) struct Outbox {
    settle: Duration,
    order: Order,
    /// Files sent at once.
    most: usize,
    files: BTreeMap<Arc<Path>, File>,
    agenda: Agenda,
    /// To be looked at as soon as can be.
    unclear: BTreeSet<Arc<Path>>,
    /// The place in the order that what is seen next gets.
    turn: u64,
    /// The number of the scan of everything that was begun last.
    scan: u32,
    scans: Scans,
}

/// How a file was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hint {
    /// Something happens to it.
    Touched,
    /// A writer has closed it, or it was renamed in.
    Complete,
}

/// Scans of the directory, or of one below it.
#[derive(Debug, Default)]
struct Scans {
    /// Under way, of whatever.
    under_way: usize,
    /// The turn of all that they find.
    turn: u64,
}

impl Outbox {
    pub(super) fn new(order: Order, settle: Duration, concurrency: usize) -> Self {
        let most = if order == Order::Kept { 1 } else { concurrency };
        Self {
            settle,
            order,
            most,
            files: BTreeMap::new(),
            agenda: Agenda::new(order),
            unclear: BTreeSet::new(),
            turn: 1,
            scan: 0,
            scans: Scans::default(),
        }
    }

    /// This version was sent by an earlier run.
    pub(super) fn remember(&mut self, path: Arc<Path>, version: Version) {
        let completion = Completion::Settled;
        let file = File { version, turn: 0, scan: 0, failures: 0, completion, state: State::Sent };
        self.files.insert(path, file);
    }

    /// A scan begins. What it finds has one place in the order, before all that is seen from now on.
    pub(super) fn scan_begins(&mut self, of: Extent) {
        if self.scans.under_way == 0 {
            self.turn += 1;
            self.scans.turn = self.turn;
            self.turn += 1;
        }
        self.scans.under_way += 1;
        if of == Extent::Everything {
            self.scan += 1;
        }
    }

    /// A scan came by this file.
    pub(super) fn found(&mut self, path: Arc<Path>, version: Version, now: Instant) {
        let (scan, turn) = (self.scan, self.scans.turn);
        match self.files.get_mut(&path) {
            None => {
                let state = State::Settling { due: now + self.settle };
                let completion = Completion::Settled;
                self.insert(path, File { version, turn, scan, failures: 0, completion, state });
            }
            Some(file) => {
                file.scan = scan;
                // The scan may have seen it before what is known came about: only a look that nothing overtakes tells.
                if file.version != version && !matches!(file.state, State::Sending { .. }) {
                    self.unclear.insert(path);
                }
            }
        }
    }

    /// A scan has ended. If it saw everything, what it did not see is gone: those of them that were sent are returned.
    pub(super) fn scan_ends(&mut self, extent: Extent, outcome: ScanOutcome) -> Vec<Arc<Path>> {
        self.scans.under_way = self.scans.under_way.saturating_sub(1);
        if (extent, outcome) != (Extent::Everything, ScanOutcome::Whole) {
            return Vec::new();
        }
        let gone = self.files.iter().filter(|(_, file)| file.scan < self.scan);
        let gone: Vec<_> = gone.map(|(path, _)| path.clone()).collect();
        gone.into_iter().filter(|path| self.gone(path)).collect()
    }

    /// What was seen when a file was looked at: after a hint, or because [`Outbox::next_look`] said so.
    pub(super) fn looked(&mut self, path: Arc<Path>, version: Version, hint: Option<Hint>, now: Instant) {
        let (fresh, completion) = match hint {
            Some(Hint::Complete) => (State::Ready, Completion::Told),
            _ => (State::Settling { due: now + self.settle }, Completion::Settled),
        };
        let Some(file) = self.files.get_mut(&path) else {
            let turn = self.next_turn();
            self.insert(path, File { version, turn, scan: self.scan, failures: 0, completion, state: fresh });
            return;
        };
        file.scan = self.scan;
        if file.version == version {
            file.completion = file.completion.max(completion);
        }
        if let State::Sending { complete } = &mut file.state {
            if hint.is_some() {
                *complete = (hint == Some(Hint::Complete)).then_some(version);
            }
            return;
        }
        if file.version != version {
            let turn = self.next_turn();
            self.alter(&path, |file| {
                *file = File { version, turn, failures: 0, completion, state: fresh, ..*file };
            });
            return;
        }
        let state = match (file.state, hint) {
            // Unchanged for as long as it takes.
            (State::Looking, None) => State::Ready,
            (State::Looking | State::Settling { .. }, _) => match hint {
                Some(Hint::Complete) => State::Ready,
                Some(Hint::Touched) => State::Settling { due: now + self.settle },
                None => return,
            },
            // Its rights may have changed.
            (State::Resting { .. }, Some(_)) => State::Ready,
            _ => return,
        };
        self.alter(&path, |file| file.state = state);
    }

    /// There is no such file any more. Returns whether it was sent; one that is being sent tells at its end.
    pub(super) fn gone(&mut self, path: &Path) -> bool {
        match self.files.get(path) {
            Some(File { state: State::Sending { .. }, .. }) | None => false,
            Some(_) => self.remove(path) == Some(State::Sent),
        }
    }

    /// There is no such directory any more, nor anything that was in it. Those that were sent are returned.
    pub(super) fn gone_below(&mut self, directory: &Path) -> Vec<Arc<Path>> {
        let range = (Bound::Included(directory), Bound::Unbounded);
        let below = self.files.range::<Path, _>(range).map(|(path, _)| path);
        let below: Vec<_> = below.take_while(|path| path.starts_with(directory)).cloned().collect();
        below.into_iter().filter(|path| self.gone(path)).collect()
    }

    /// What to look at now: tell what is there, [`Outbox::looked`] or [`Outbox::gone`]. `None` until [`Outbox::wakes_at`], or
    /// until something is told.
    pub(super) fn next_look(&mut self, now: Instant) -> Option<Arc<Path>> {
        if let Some(path) = self.unclear.pop_first() {
            return Some(path);
        }
        let (due, path) = self.agenda.next_look()?;
        if due > now {
            return None;
        }
        let path = path.clone();
        self.alter(&path, |file| file.state = State::Looking);
        Some(path)
    }

    /// What to send now, in which version: tell how it ended, with [`Outbox::sent`], [`Outbox::changed`], [`Outbox::failed`],
    /// [`Outbox::refused`] or [`Outbox::vanished`]. `None` until something is told.
    pub(super) fn next_send(&mut self) -> Option<(Arc<Path>, Version)> {
        if self.agenda.sending() >= self.most || (self.order == Order::Kept && self.scans.under_way > 0) {
            return None;
        }
        let path = self.agenda.first()?.clone();
        let file = self.files.get(&path)?;
        let version = file.version;
        if file.state != State::Ready {
            return None;
        }
        self.alter(&path, |file| file.state = State::Sending { complete: None });
        Some((path, version))
    }

    /// When there is something to do without anything being told.
    pub(super) fn wakes_at(&self) -> Option<Instant> {
        self.agenda.next_look().map(|(due, _)| due)
    }

    /// It was sent, and is still the version that was to be sent.
    pub(super) fn sent(&mut self, path: &Path) {
        self.end(path, State::Sent);
    }

    /// It was not sent, or as what it was before: now there is another version.
    pub(super) fn changed(&mut self, path: &Path, version: Version, now: Instant) {
        let turn = self.next_turn();
        let settling = State::Settling { due: now + self.settle };
        self.alter(path, |file| {
            let complete = matches!(file.state, State::Sending { complete } if complete == Some(version));
            let (state, completion) =
                if complete { (State::Ready, Completion::Told) } else { (settling, Completion::Settled) };
            *file = File { version, turn, failures: 0, completion, state, ..*file };
        });
    }

    /// It could not be sent, and is tried again.
    pub(super) fn failed(&mut self, path: &Path, now: Instant) -> Failure {
        let failures = self.files.get(path).map_or(0, |file| file.failures);
        let rest = FIRST_REST.saturating_mul(1 << failures.min(16)).min(LONGEST_REST);
        let state = State::Resting { due: now + rest };
        self.alter(path, |file| {
            file.failures = file.failures.saturating_add(1);
            file.state = state;
        });
        match (failures, self.order) {
            (0, Order::Kept) => Failure::FirstHoldsUp { others: self.pending().saturating_sub(1), rest },
            (0, Order::Free) => Failure::First { rest },
            _ => Failure::Again { rest },
        }
    }

    /// It could not be looked at, and is looked at again.
    pub(super) fn unseen(&mut self, path: &Path, now: Instant) -> Option<Failure> {
        let looking = self.files.get(path).is_some_and(|file| file.state == State::Looking);
        looking.then(|| self.failed(path, now))
    }

    /// This version of it will not be sent.
    pub(super) fn refused(&mut self, path: &Path) {
        self.end(path, State::Refused);
    }

    /// Its sending has ended, or that was long ago, and there is no such file any more.
    pub(super) fn vanished(&mut self, path: &Path) {
        self.remove(path);
    }

    /// Whether this version of a file was sent and nothing else is known since.
    pub(super) fn is_sent(&self, path: &Path, version: &Version) -> bool {
        self.files.get(path).is_some_and(|file| file.version == *version && file.state == State::Sent)
    }

    /// How this version of a file is known to be complete, if it is.
    pub(super) fn completion(&self, path: &Path, version: &Version) -> Completion {
        self.files.get(path).filter(|file| file.version == *version).map_or(Completion::Settled, |file| file.completion)
    }

    /// How many files there are.
    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    /// How many of them are to be sent.
    pub(super) fn pending(&self) -> usize {
        self.agenda.pending()
    }

    /// Arrivals from now on come behind all that came before; what scans that are under way find comes before them.
    fn next_turn(&mut self) -> u64 {
        self.turn += 1;
        self.turn
    }

    fn end(&mut self, path: &Path, state: State) {
        self.alter(path, |file| {
            file.failures = 0;
            file.state = state;
        });
    }

    fn insert(&mut self, path: Arc<Path>, file: File) {
        self.agenda.enter(&path, &file);
        self.files.insert(path, file);
    }

    fn remove(&mut self, path: &Path) -> Option<State> {
        let (path, file) = self.files.remove_entry(path)?;
        self.agenda.leave(&path, &file);
        self.unclear.remove(&path);
        Some(file.state)
    }

    /// The one place that changes a file: its places in the queues follow.
    fn alter(&mut self, path: &Path, change: impl FnOnce(&mut File)) {
        let Some((path, mut file)) = self.files.remove_entry(path) else { return };
        self.agenda.leave(&path, &file);
        change(&mut file);
        self.agenda.enter(&path, &file);
        self.files.insert(path, file);
    }
}

/// How much is scanned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    Everything,
    /// A directory below.
    Part,
}

/// What a scan has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ScanOutcome {
    /// All that is there.
    Whole,
    /// Something could not be looked at.
    Partial,
}

/// What to say of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// It is new.
    First { rest: Duration },
    /// It is new, and so many others wait for this file.
    FirstHoldsUp { others: usize, rest: Duration },
    /// It was said before.
    Again { rest: Duration },
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
