//! When to run what: a decision without a disk, a process or a clock.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

/// Rest after the first failure.
const FIRST_REST: Duration = Duration::from_secs(1);
/// Longest rest.
const LONGEST_REST: Duration = Duration::from_secs(300);
/// Runs that wait for another try, at most: beyond them no other one begins.
const MOST_WAITING: usize = 1_000;

/// Which runs are under way, which are next, and which wait for another try. In memory are few of them, however many there are:
/// the others are looked for when these have begun.
///
/// Times count from any moment that stays the same.
#[derive(Debug)]
pub struct Schedule<R> {
    concurrency: usize,
    tries: u32,
    ready: VecDeque<R>,
    /// By when they are due.
    waiting: BTreeSet<(Duration, R)>,
    running: BTreeSet<R>,
    /// What has ended, and is to be kept by then.
    unkept: BTreeSet<(Duration, R)>,
    unseen: Unseen,
}

/// Whether there may be runs that this does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unseen {
    Perhaps,
    None,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step<R> {
    /// Run this.
    Run(R),
    /// Keep what this has come to, which could not be kept before: [`Schedule::kept`], or [`Schedule::unkept`] again.
    Keep(R),
    /// Look for more: [`Schedule::looked`].
    Look,
    /// Wait until something happens, or it is so late.
    Wait(Option<Duration>),
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It has done what it should.
    Succeeded,
    /// It has not, for so many times with this one.
    Failed {
        /// At least one.
        failures: u32,
    },
    /// It could not be read, or was interrupted, and is looked for again after a rest; that counts as no try.
    Disturbed,
}

/// What follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Nothing.
    Done,
    /// It is tried again after so long.
    Again(Duration),
    /// It is not tried any more.
    GiveUp,
}

impl<R: Ord + Clone> Schedule<R> {
    /// With as many runs at once and tries of each; at least one.
    pub fn new(concurrency: usize, tries: u32) -> Self {
        Self {
            concurrency: concurrency.max(1),
            tries: tries.max(1),
            ready: VecDeque::new(),
            waiting: BTreeSet::new(),
            running: BTreeSet::new(),
            unkept: BTreeSet::new(),
            unseen: Unseen::Perhaps,
        }
    }

    /// There may be more.
    pub fn noted(&mut self) {
        self.unseen = Unseen::Perhaps;
    }

    /// What was found, in order, that this did not know; and whether that is all.
    pub fn looked(&mut self, found: impl IntoIterator<Item = R>, all: bool) {
        self.ready.extend(found);
        self.unseen = if all { Unseen::None } else { Unseen::Perhaps };
    }

    /// Those it knows.
    pub fn known(&self) -> BTreeSet<R> {
        let waiting = self.waiting.iter().chain(&self.unkept).map(|(_, run)| run);
        self.ready.iter().chain(&self.running).chain(waiting).cloned().collect()
    }

    /// What to do now. A run that is due again goes before those that have not been tried.
    pub fn next(&mut self, now: Duration) -> Step<R> {
        let keep = self.unkept.first().map(|(due, _)| *due);
        if keep.is_some_and(|due| due <= now)
            && let Some((_, run)) = self.unkept.pop_first()
        {
            self.running.insert(run.clone());
            return Step::Keep(run);
        }
        if self.running.len() >= self.concurrency {
            return Step::Wait(keep);
        }
        let due = self.waiting.first().map(|(due, _)| *due);
        if due.is_some_and(|due| due <= now)
            && let Some((_, run)) = self.waiting.pop_first()
        {
            return self.begin(run);
        }
        if self.waiting.len() + self.unkept.len() < MOST_WAITING {
            if let Some(run) = self.ready.pop_front() {
                return self.begin(run);
            }
            if self.unseen == Unseen::Perhaps {
                return Step::Look;
            }
        }
        Step::Wait(due.into_iter().chain(keep).min())
    }

    fn begin(&mut self, run: R) -> Step<R> {
        self.running.insert(run.clone());
        Step::Run(run)
    }

    /// A run has ended. `random` is anything between 0 and 1: those that failed together are not tried together again.
    pub fn ended(&mut self, run: &R, end: End, now: Duration, random: f64) -> Then {
        self.running.remove(run);
        let after = match end {
            End::Succeeded => return Then::Done,
            End::Failed { failures } if failures >= self.tries => return Then::GiveUp,
            End::Failed { failures } => rest(failures, random),
            End::Disturbed => rest(4, random),
        };
        self.waiting.insert((now.saturating_add(after), run.clone()));
        Then::Again(after)
    }

    /// What a run that has ended came to could not be kept. That is tried again after a rest, and the run is not: it would not be
    /// the try that is known.
    pub fn unkept(&mut self, run: &R, now: Duration, random: f64) {
        self.running.remove(run);
        self.waiting.retain(|(_, waiting)| waiting != run);
        self.unkept.insert((now.saturating_add(rest(4, random)), run.clone()));
    }

    /// It is kept now, and this follows.
    pub fn kept(&mut self, run: &R, then: Then, now: Duration) {
        self.running.remove(run);
        if let Then::Again(after) = then {
            self.waiting.insert((now.saturating_add(after), run.clone()));
        }
    }

    /// Whether nothing is left to do, as far as is known.
    pub fn is_idle(&self) -> bool {
        let none_waits = self.ready.is_empty() && self.waiting.is_empty() && self.unkept.is_empty();
        self.unseen == Unseen::None && none_waits && self.running.is_empty()
    }

    /// How many are under way, the one that is being kept included.
    pub fn running(&self) -> usize {
        self.running.len()
    }
}

/// How long to rest after so many failures: 1 s, doubling up to 5 minutes, less up to a quarter of it.
pub fn rest(failures: u32, random: f64) -> Duration {
    let doublings = failures.saturating_sub(1).min(20);
    let most = FIRST_REST.saturating_mul(1 << doublings).min(LONGEST_REST);
    most.mul_f64(1.0 - random.clamp(0.0, 1.0) / 4.0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rests_double_up_to_five_minutes() {
        let whole = |failures| rest(failures, 0.0).as_secs();
        assert_eq!([1, 2, 3, 9, 10, 1_000, u32::MAX].map(whole), [1, 2, 4, 256, 300, 300, 300]);
        assert_eq!(rest(3, 1.0), Duration::from_secs(3));
    }

    #[test]
    fn what_cannot_be_kept_is_kept_later_and_does_not_run_for_it() {
        let seconds = Duration::from_secs;
        let mut schedule = Schedule::new(1, 2);
        schedule.looked([1, 2], true);
        assert_eq!(schedule.next(seconds(0)), Step::Run(1));
        assert_eq!(schedule.ended(&1, End::Succeeded, seconds(0), 0.0), Then::Done);
        schedule.unkept(&1, seconds(0), 0.0);
        assert!(schedule.known().contains(&1) && !schedule.is_idle());

        // Others go on meanwhile, and do not hold it up.
        assert_eq!(schedule.next(seconds(0)), Step::Run(2));
        assert_eq!(schedule.next(seconds(0)), Step::Wait(Some(seconds(8))));
        assert_eq!(schedule.next(seconds(8)), Step::Keep(1));
        assert!(schedule.known().contains(&1));
        schedule.unkept(&1, seconds(8), 0.0);
        assert_eq!(schedule.next(seconds(8)), Step::Wait(Some(seconds(16))));
        assert_eq!(schedule.next(seconds(16)), Step::Keep(1));
        schedule.kept(&1, Then::Done, seconds(16));
        assert!(!schedule.known().contains(&1));

        // One that is to be tried again rests from when that is kept.
        let then = schedule.ended(&2, End::Failed { failures: 1 }, seconds(16), 0.0);
        assert_eq!(then, Then::Again(seconds(1)));
        schedule.unkept(&2, seconds(16), 0.0);
        assert_eq!(schedule.next(seconds(17)), Step::Wait(Some(seconds(24))));
        assert_eq!(schedule.next(seconds(24)), Step::Keep(2));
        schedule.kept(&2, then, seconds(24));
        assert_eq!(schedule.next(seconds(24)), Step::Wait(Some(seconds(25))));
        assert_eq!(schedule.next(seconds(25)), Step::Run(2));
    }

    proptest! {
        /// A world of runs, each of which fails so many times, with a disk that shows a few at a time, and keeps
        /// what is written only each so many times.
        #[test]
        fn each_run_is_tried_until_it_succeeds_or_has_failed_too_often(
            needs in prop::collection::vec(0_u32..8, 0..40), concurrency in 1_usize..4, tries in 1_u32..6, window in 1_usize..5,
            flaky in 1_usize..4, random in 0.0..1.0,
        ) {
            let mut schedule = Schedule::new(concurrency, tries);
            let mut on_disk: BTreeMap<usize, u32> = (0..needs.len()).map(|run| (run, 0)).collect();
            let (mut tried, mut given_up, mut firsts) = (vec![0; needs.len()], BTreeSet::new(), Vec::new());
            let (mut now, mut running) = (Duration::ZERO, VecDeque::new());
            let (mut unkept, mut writes) = (BTreeMap::new(), 0);
            for _ in 0..10_000 {
                match schedule.next(now) {
                    Step::Run(run) => {
                        if tried[run] == 0 {
                            firsts.push(run);
                        }
                        tried[run] += 1;
                        running.push_back(run);
                        prop_assert!(running.len() <= concurrency && schedule.running() == running.len());
                    }
                    Step::Keep(run) => {
                        writes += 1;
                        if writes % flaky != 0 {
                            schedule.unkept(&run, now, random);
                        } else {
                            let then = unkept.remove(&run).unwrap();
                            schedule.kept(&run, then, now);
                            if !matches!(then, Then::Again(_)) {
                                on_disk.remove(&run);
                            }
                        }
                    }
                    Step::Look => {
                        let known = schedule.known();
                        let mut unknown = on_disk.keys().copied().filter(|run| !known.contains(run));
                        let found: Vec<_> = unknown.by_ref().take(window).collect();
                        let all = unknown.next().is_none();
                        schedule.looked(found, all);
                    }
                    Step::Wait(until) => {
                        if let Some(run) = running.pop_front() {
                            let end = if tried[run] > needs[run] { End::Succeeded } else { End::Failed { failures: tried[run] } };
                            let then = schedule.ended(&run, end, now, random);
                            match then {
                                Then::Done => {}
                                Then::GiveUp => prop_assert!(given_up.insert(run)),
                                Then::Again(after) => prop_assert!(after >= Duration::from_millis(750)),
                            }
                            writes += 1;
                            if writes % flaky != 0 {
                                unkept.insert(run, then);
                                schedule.unkept(&run, now, random);
                            } else if !matches!(then, Then::Again(_)) {
                                on_disk.remove(&run);
                            }
                        } else if let Some(until) = until {
                            prop_assert!(until > now);
                            now = until;
                        } else {
                            break;
                        }
                    }
                }
            }
            prop_assert!(schedule.is_idle() && on_disk.is_empty() && unkept.is_empty());
            // Begun in order, however they end.
            prop_assert!(firsts.is_sorted());
            for (run, needs) in needs.iter().enumerate() {
                prop_assert_eq!(tried[run], (needs + 1).min(tries));
                prop_assert_eq!(given_up.contains(&run), *needs >= tries);
            }
        }
    }
}
