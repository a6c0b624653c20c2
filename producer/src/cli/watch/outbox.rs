//! Which file is sent when. No clock and no I/O: it is fed with what was seen and what came of it, and says what to do next.
//!
//! A file is pending from when it is seen until this version of it was sent. It is sent when it is known to be complete: closed
//! or renamed in, or unchanged for the settle time, which a last look confirms.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use natsfer_producer::{Digest, TransferId};

use super::{
    agenda::{Agenda, Order},
    content::Content,
    file::{File, Sight, State},
    version::Version,
    writers::Completion,
};

/// Rest before what failed is tried again; doubled with every failure.
const FIRST_REST: Duration = Duration::from_secs(2);
const LONGEST_REST: Duration = Duration::from_secs(300);
/// The turn of what an earlier run has sent.
const REMEMBERED: u64 = 0;

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
    recognition: Recognition,
    scans: Scans,
}

/// How a file was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hint {
    /// Its rights or times have changed, and nothing else: it is as complete as it was.
    Attributes,
    /// Something happens to it.
    Touched,
    /// A writer has closed it, or it was renamed in.
    Complete,
}

/// Whether a file that an earlier run has sent was found as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recognition {
    OfNothing,
    OfSome,
}

/// What is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Errand {
    pub(super) path: Arc<Path>,
    pub(super) version: Version,
    /// If it has the bytes that this stands for, it was sent already.
    pub(super) expected: Option<Digest>,
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
            recognition: Recognition::OfNothing,
            scans: Scans::default(),
        }
    }

    /// This was sent by an earlier run.
    pub(super) fn remember(&mut self, path: Arc<Path>, content: Content) {
        let (version, completion, sent) = (content.version, Completion::Settled, Some(content));
        let file = File { version, turn: REMEMBERED, scan: 0, failures: 0, completion, sent, state: State::Sent };
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
                self.insert(path, File { version, turn, scan, failures: 0, completion, sent: None, state });
            }
            Some(file) => {
                file.scan = scan;
                // The scan may have seen it before what is known came about: only a look that nothing overtakes tells.
                if file.turn == REMEMBERED && file.version.resembles(&version) {
                    self.recognition = Recognition::OfSome;
                }
                if file.version.is_still(&version) {
                    file.version = version;
                } else {
                    self.unclear.insert(path);
                }
            }
        }
    }

    /// A scan has ended. If it saw everything, what it did not see is gone: those of them that were sent are returned. Nothing is gone
    /// that was in a directory where nothing at all is now, and that was not seen to be emptied: something may have been mounted there.
    pub(super) fn scan_ends(
        &mut self, extent: Extent, outcome: ScanOutcome, hollow: &BTreeSet<PathBuf>,
    ) -> Vec<Arc<Path>> {
        self.scans.under_way = self.scans.under_way.saturating_sub(1);
        if (extent, outcome) != (Extent::Everything, ScanOutcome::Whole) {
            return Vec::new();
        }
        let gone = self.files.iter().filter(|(_, file)| file.scan < self.scan);
        let is_hollow = |path: &Path| path.ancestors().skip(1).any(|directory| hollow.contains(directory));
        let gone: Vec<_> = gone.map(|(path, _)| path.clone()).filter(|path| !is_hollow(path)).collect();
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
            self.insert(
                path,
                File { version, turn, scan: self.scan, failures: 0, completion, sent: None, state: fresh },
            );
            return;
        };
        file.scan = self.scan;
        let is_still = file.version.is_still(&version);
        if is_still {
            file.version = version;
            file.completion = file.completion.max(completion);
        }
        let kept = hint == Some(Hint::Attributes) && file.version.is_alike(&version);
        let completion = if kept { file.completion } else { completion };
        if let State::Sending { seen } = &mut file.state {
            match seen {
                Sight::Version(last, known) if *last == version => *known = completion.max(*known),
                _ if hint.is_some() || !is_still => *seen = Sight::Version(version, completion),
                _ => {}
            }
            return;
        }
        if !is_still && kept && file.state.is_pending() {
            // In its place in the order. Where it could not be read, it may be readable now.
            self.alter(&path, |file| {
                file.version = version;
                if let State::Resting { .. } = file.state {
                    file.state = State::Ready;
                }
            });
            return;
        }
        if !is_still {
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
                Some(Hint::Attributes) | None => return,
            },
            // Its rights may have changed.
            (State::Resting { .. }, Some(_)) => State::Ready,
            // Who has written to it may have set its time back, or written through a mapping: only its bytes tell.
            (State::Sent, Some(Hint::Complete)) => return self.send_anew(&path),
            _ => return,
        };
        self.alter(&path, |file| file.state = state);
    }

    /// There is no such file any more. Returns whether it was sent; one that is being sent tells at its end.
    pub(super) fn gone(&mut self, path: &Path) -> bool {
        match self.files.get_mut(path) {
            Some(File { state: State::Sending { seen }, .. }) => {
                *seen = Sight::Absence;
                false
            }
            Some(_) => self.remove(path) == Some(State::Sent),
            None => false,
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

    /// What to send now, in which version: tell how it ended, with [`Outbox::sent`], [`Outbox::same`], [`Outbox::changed`],
    /// [`Outbox::failed`], [`Outbox::refused`] or [`Outbox::vanished`]. `None` until something is told.
    pub(super) fn next_send(&mut self) -> Option<Errand> {
        if self.agenda.sending() >= self.most || (self.order == Order::Kept && self.scans.under_way > 0) {
            return None;
        }
        let path = self.agenda.first()?.clone();
        let file = self.files.get(&path)?;
        if file.state != State::Ready {
            return None;
        }
        let version = file.version;
        let expected = file.sent.and_then(|content| content.expected_of(&version));
        self.alter(&path, |file| file.state = State::Sending { seen: Sight::Nothing });
        Some(Errand { path, version, expected })
    }

    /// When there is something to do without anything being told.
    pub(super) fn wakes_at(&self) -> Option<Instant> {
        self.agenda.next_look().map(|(due, _)| due)
    }

    /// This was sent, and it is still the version that was to be sent.
    pub(super) fn sent(&mut self, path: &Path, content: Content, now: Instant) {
        self.alter(path, |file| file.sent = Some(content));
        self.end(path, State::Sent, now);
    }

    /// It looks like this, and has the bytes that were sent last.
    pub(super) fn same(&mut self, path: &Path, version: Version, now: Instant) {
        self.alter(path, |file| {
            file.version = version;
            file.sent = file.sent.map(|content| Content { version, ..content });
        });
        self.end(path, State::Sent, now);
    }

    /// It looks as it did when it was sent with this transfer, and has other bytes.
    pub(super) fn altered(&mut self, path: &Path, transfer: TransferId, now: Instant) {
        if !self.is_sent(path, transfer) {
            return;
        }
        let turn = self.next_turn();
        let state = State::Settling { due: now + self.settle };
        self.alter(path, |file| *file = File { turn, failures: 0, sent: None, state, ..*file });
    }

    /// Nothing more is to happen to this version. What was seen of the file while it was sent may have come after it.
    fn end(&mut self, path: &Path, state: State, now: Instant) {
        let Some((path, file)) = self.files.get_key_value(path) else { return };
        let (path, version) = (path.clone(), file.version);
        let seen = if let State::Sending { seen } = file.state { seen } else { Sight::Nothing };
        self.alter(&path, |file| {
            file.failures = 0;
            file.state = state;
        });
        match seen {
            Sight::Version(seen, completion) if !version.is_still(&seen) => self.renew(&path, seen, completion, now),
            Sight::Version(_, Completion::Told) if state == State::Sent => self.send_anew(&path),
            Sight::Absence => _ = self.unclear.insert(path),
            Sight::Version(..) | Sight::Nothing => {}
        }
    }

    /// Some writer was done with it, whatever it looks like.
    fn send_anew(&mut self, path: &Path) {
        let turn = self.next_turn();
        self.alter(path, |file| *file = File { turn, failures: 0, state: State::Ready, ..*file });
    }

    /// It is this version now.
    fn renew(&mut self, path: &Path, version: Version, completion: Completion, now: Instant) {
        let turn = self.next_turn();
        let state = match completion {
            Completion::Told => State::Ready,
            Completion::Settled => State::Settling { due: now + self.settle },
        };
        self.alter(path, |file| *file = File { version, turn, failures: 0, completion, state, ..*file });
    }

    /// It was not sent, or as what it was before: now there is another version.
    pub(super) fn changed(&mut self, path: &Path, version: Version, now: Instant) {
        let completion = match self.files.get(path).map(|file| file.state) {
            Some(State::Sending { seen: Sight::Version(seen, completion) }) if seen == version => completion,
            _ => Completion::Settled,
        };
        self.renew(path, version, completion, now);
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
    pub(super) fn refused(&mut self, path: &Path, now: Instant) {
        self.end(path, State::Refused, now);
    }

    /// Its sending has ended, or that was long ago, and there is no such file any more.
    pub(super) fn vanished(&mut self, path: &Path) {
        // Another one may have come since.
        if let Some(State::Sending { seen: Sight::Version(..) }) = self.remove(path) {
            self.unclear.insert(path.into());
        }
    }

    /// Whether a file was sent with this transfer, and nothing else is known since.
    pub(super) fn is_sent(&self, path: &Path, transfer: TransferId) -> bool {
        let is_it = |file: &File| file.sent.is_some_and(|content| content.transfer == transfer);
        self.files.get(path).is_some_and(|file| file.state == State::Sent && is_it(file))
    }

    /// How this version of a file is known to be complete, if it is.
    pub(super) fn completion(&self, path: &Path, version: &Version) -> Completion {
        self.files
            .get(path)
            .filter(|file| file.version.resembles(version))
            .map_or(Completion::Settled, |file| file.completion)
    }

    /// How many files there are, and are remembered.
    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    /// How many of them the last scan has seen, or were seen since.
    pub(super) fn present(&self) -> usize {
        self.files.values().filter(|file| file.scan == self.scan).count()
    }

    /// Whether this is the directory that an earlier run has sent from, by what is in it.
    pub(super) fn recognition(&self) -> Recognition {
        self.recognition
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
