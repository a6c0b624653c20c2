//! What happened in a run: a line for each event, and counts for the report.
#![expect(clippy::print_stderr, reason = "the log of a run; a test's is shown when it fails")]

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::report::{GaveUp, Injections};
use super::schedule::{Fault, Kind};
use crate::lock;

/// What our programs say only of their first connection.
const NO_SERVER: &str = "no connection to the NATS server";

/// Shared by everyone who does something in a run.
#[derive(Debug)]
pub(super) struct Record {
    began: Instant,
    counts: Mutex<Counts>,
}

/// What has been counted so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    pub(super) injected: Injections,
    /// How often a process was started again.
    pub(super) restarts: BTreeMap<Kind, u64>,
    pub(super) gave_up: Vec<GaveUp>,
    /// Which receivers were asked to end, and did not end with 0.
    pub(super) unclean: Vec<String>,
}

impl Record {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), counts: Mutex::default() }
    }

    /// A line with its time.
    pub(super) fn note(&self, what: &str) {
        eprintln!("{:9.3} s  {what}", self.began.elapsed().as_secs_f64());
    }

    pub(super) fn injected(&self, fault: Fault, kind: Kind, victim: &str, lasts: Duration) {
        self.note(&format!("{:14}  {victim}  ({:.1} s)", fault.name(), lasts.as_secs_f64()));
        *lock(&self.counts).injected.entry((fault, kind)).or_default() += 1;
    }

    pub(super) fn restarted(&self, kind: Kind) {
        *lock(&self.counts).restarts.entry(kind).or_default() += 1;
    }

    pub(super) fn gave_up(&self, kind: Kind, who: &str, said: &str) {
        let what = format!("{who} gave up by itself: {said}");
        self.note(&what);
        let at_the_start = said.contains(NO_SERVER);
        lock(&self.counts).gave_up.push(GaveUp { kind, at_the_start, what });
    }

    pub(super) fn unclean(&self, who: &str, said: &str) {
        let what = format!("{who} did not end with 0 when terminated: {said}");
        self.note(&what);
        lock(&self.counts).unclean.push(what);
    }

    pub(super) fn counts(&self) -> Counts {
        lock(&self.counts).clone()
    }
}
