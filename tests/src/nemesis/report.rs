//! What a run has come to.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::schedule::{Fault, Kind};

/// How often each fault was done to each kind of victim.
pub type Injections = BTreeMap<(Fault, Kind), u64>;

/// A client that ended though nobody had asked, and its work was not done.
#[derive(Clone, Debug)]
pub struct GaveUp {
    /// What it was.
    pub kind: Kind,
    /// Whether it found no server when it was started; otherwise it gave up later.
    pub at_the_start: bool,
    /// Who it was, and the last it said.
    pub what: String,
}

/// A finished run; shown as Markdown.
#[derive(Clone, Debug)]
#[must_use]
pub struct Report {
    /// What the run was made of: give it again to repeat it.
    pub seed: u64,
    /// How many servers there were.
    pub servers: usize,
    /// How long faults were injected.
    pub lasted: Duration,
    /// What was injected.
    pub injected: Injections,
    /// How often processes were started again.
    pub restarts: BTreeMap<Kind, u64>,
    /// Who ended though nobody had asked.
    pub gave_up: Vec<GaveUp>,
    /// How many files were sent.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// How many files each receiver has.
    pub landed: BTreeMap<String, usize>,
    /// How many receipts the stream holds.
    pub receipts: usize,
    /// How many parts, journals, cursors and connections stayed.
    pub leftovers: usize,
    /// How long after the last fault everything had landed, and everybody had ended.
    pub converged: Duration,
    /// All that is not as it should be. Files that have not landed, or with other bytes, or that nobody sent; receipts
    /// that are missing, wrong or too many; parts, journals, cursors and connections that stayed; receivers that ended
    /// by themselves, or with a failure when terminated; a run in which nothing was injected or moved.
    pub failures: Vec<String>,
}

impl Report {
    /// Itself, if nothing is wrong.
    ///
    /// # Panics
    /// With all that is wrong, and the seed.
    pub fn success(self) -> Self {
        assert!(self.failures.is_empty(), "seed {}: {:#?}\n{self}", self.seed, self.failures);
        self
    }

    fn row(&self, f: &mut fmt::Formatter<'_>, name: &str, count: impl Fn(Kind) -> u64) -> fmt::Result {
        let [producers, receivers, servers] = Kind::ALL.map(count);
        writeln!(f, "| {name} | {producers} | {receivers} | {servers} |")
    }

    fn gave_up(&self, kind: Kind, at_the_start: bool) -> u64 {
        self.gave_up.iter().filter(|end| end.kind == kind && end.at_the_start == at_the_start).count() as u64
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Seed {}, {} server(s), faults for {} s\n", self.seed, self.servers, self.lasted.as_secs())?;
        writeln!(f, "| injected | producers | receivers | servers |\n| --- | ---: | ---: | ---: |")?;
        for fault in Fault::ALL {
            self.row(f, fault.name(), |kind| self.injected.get(&(fault, kind)).copied().unwrap_or_default())?;
        }
        self.row(f, "processes started again", |kind| self.restarts.get(&kind).copied().unwrap_or_default())?;
        self.row(f, "found no server and gave up", |kind| self.gave_up(kind, true))?;
        self.row(f, "gave up later", |kind| self.gave_up(kind, false))?;
        writeln!(f, "\n| what came of it | |\n| --- | ---: |")?;
        writeln!(f, "| files sent | {} |", self.files)?;
        writeln!(f, "| MiB sent | {} |", self.bytes >> 20)?;
        for (receiver, files) in &self.landed {
            writeln!(f, "| landed at {receiver} | {files} |")?;
        }
        writeln!(f, "| receipts | {} |", self.receipts)?;
        writeln!(f, "| parts, journals, cursors, connections left | {} |", self.leftovers)?;
        writeln!(f, "| seconds from the last fault to the end | {:.1} |", self.converged.as_secs_f64())?;
        writeln!(f, "| failures | {} |", self.failures.len())
    }
}
