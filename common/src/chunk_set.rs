//! Sets of chunks, kept as runs: a transfer's are mostly one run from 0.

use std::{collections::BTreeMap, fmt, ops::Range};

use serde::{Deserialize, Serialize};

/// Runs written out for people.
const MOST_SHOWN: usize = 20;

/// A set of chunk indices. Takes memory by the number of runs, not of chunks. In JSON an array of runs, each of its first and
/// last chunk: `[[0,5],[9,9]]`, in order, neither overlapping nor touching.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<(u64, u64)>", into = "Vec<(u64, u64)>")]
pub struct ChunkSet {
    /// Start to end (exclusive), neither overlapping nor touching.
    runs: BTreeMap<u64, u64>,
}

impl ChunkSet {
    /// One run of chunks.
    pub fn run(run: Range<u64>) -> Self {
        Self { runs: if run.is_empty() { BTreeMap::new() } else { BTreeMap::from([(run.start, run.end)]) } }
    }

    /// Adds a chunk; `false` if it was there. The greatest index is `u64::MAX - 1`; no file has as many chunks.
    pub fn insert(&mut self, index: u64) -> bool {
        let before = self.runs.range(..=index).next_back().map(|(&start, &end)| (start, end));
        if before.is_some_and(|(_, end)| index < end) {
            return false;
        }
        let start = before.filter(|(_, end)| *end == index).map_or(index, |(start, _)| start);
        let end = self.runs.remove(&(index + 1)).unwrap_or(index + 1);
        self.runs.insert(start, end);
        true
    }

    /// Whether the chunk is in the set.
    pub fn contains(&self, index: u64) -> bool {
        self.runs.range(..=index).next_back().is_some_and(|(_, &end)| index < end)
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        self.runs.iter().map(|(start, end)| end - start).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The first chunk that is not in the set.
    pub fn first_missing(&self) -> u64 {
        self.runs.get(&0).copied().unwrap_or(0)
    }

    /// The greatest in the set.
    pub fn last(&self) -> Option<u64> {
        self.runs.last_key_value().map(|(_, &end)| end - 1)
    }

    /// The chunks below `count` that are not in the set.
    pub fn missing(&self, count: u64) -> Self {
        let mut missing = Self::default();
        let mut at = 0;
        for (&start, &end) in self.runs.range(..count) {
            if at < start {
                missing.runs.insert(at, start);
            }
            at = end;
        }
        if at < count {
            missing.runs.insert(at, count);
        }
        missing
    }

    /// The runs, in order.
    pub fn runs(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.runs.iter().map(|(&start, &end)| start..end)
    }

    /// The chunks, in order. A set that was read from the wire may have more of them than can be counted through.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.runs().flatten()
    }

    /// The chunks of this set that are not in the other.
    pub fn without(&self, other: &Self) -> Self {
        let mut rest = Self::default();
        for mut run in self.runs() {
            for taken in other.overlapping(&run) {
                if run.start < taken.start {
                    rest.runs.insert(run.start, taken.start);
                }
                run.start = taken.end;
            }
            if run.start < run.end {
                rest.runs.insert(run.start, run.end);
            }
        }
        rest
    }

    /// The chunks of this set that are in the other, too.
    pub fn intersection(&self, other: &Self) -> Self {
        self.without(&self.without(other))
    }

    /// The chunks of this set and of the other.
    pub fn union(&self, other: &Self) -> Self {
        self.runs().chain(other.runs()).collect()
    }

    /// The parts of this set's runs that lie in a range.
    fn overlapping(&self, range: &Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let range = range.clone();
        let first = self.runs.range(..=range.start).next_back().map_or(range.start, |(&start, _)| start);
        let overlapping =
            self.runs.range(first..range.end).map(move |(&start, &end)| start.max(range.start)..end.min(range.end));
        overlapping.filter(|run| !run.is_empty())
    }
}

/// Runs that may overlap or touch, in any order.
impl FromIterator<Range<u64>> for ChunkSet {
    fn from_iter<T: IntoIterator<Item = Range<u64>>>(runs: T) -> Self {
        let mut runs: Vec<_> = runs.into_iter().filter(|run| !run.is_empty()).collect();
        runs.sort_by_key(|run| run.start);
        let mut set = Self::default();
        for run in runs {
            match set.runs.last_entry() {
                Some(mut last) if *last.get() >= run.start => {
                    let end = run.end.max(*last.get());
                    last.insert(end);
                }
                _ => {
                    set.runs.insert(run.start, run.end);
                }
            }
        }
        set
    }
}

impl FromIterator<u64> for ChunkSet {
    fn from_iter<T: IntoIterator<Item = u64>>(indices: T) -> Self {
        let mut set = Self::default();
        for index in indices {
            set.insert(index);
        }
        set
    }
}

/// The text is not a set of chunks.
#[derive(Debug, thiserror::Error)]
#[error("runs of chunks are pairs of a first and a last one, in order and apart from each other")]
pub struct ChunkSetError;

impl TryFrom<Vec<(u64, u64)>> for ChunkSet {
    type Error = ChunkSetError;

    fn try_from(runs: Vec<(u64, u64)>) -> Result<Self, ChunkSetError> {
        let sound = runs.iter().all(|(first, last)| first <= last && *last < u64::MAX - 1);
        // In this order: what is sound does not overflow.
        if !(sound && runs.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0)) {
            return Err(ChunkSetError);
        }
        Ok(Self { runs: runs.into_iter().map(|(first, last)| (first, last + 1)).collect() })
    }
}

impl From<ChunkSet> for Vec<(u64, u64)> {
    fn from(set: ChunkSet) -> Self {
        set.runs().map(|run| (run.start, run.end - 1)).collect()
    }
}

/// As people write it: `0-5, 9`; only the beginning of what is scattered widely.
impl fmt::Display for ChunkSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, run) in self.runs().enumerate() {
            let comma = if position > 0 { ", " } else { "" };
            if position == MOST_SHOWN {
                let more: u64 = self.runs().skip(MOST_SHOWN).map(|run| run.end - run.start).sum();
                return write!(f, " and {more} more");
            }
            match run.end - 1 {
                last if last == run.start => write!(f, "{comma}{last}")?,
                last => write!(f, "{comma}{}-{last}", run.start)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_set(indices in proptest::collection::vec(0u64..40, 0..60)) {
            let (mut set, mut model) = (ChunkSet::default(), BTreeSet::new());
            for index in indices {
                prop_assert_eq!(set.insert(index), model.insert(index));
            }
            prop_assert_eq!(set.len(), model.len() as u64);
            prop_assert_eq!(set.last(), model.last().copied());
            let missing = set.missing(30);
            for index in 0..40 {
                prop_assert_eq!(set.contains(index), model.contains(&index));
                prop_assert_eq!(missing.contains(index), index < 30 && !model.contains(&index));
            }
            prop_assert_eq!(set.first_missing(), (0..).find(|index| !model.contains(index)).unwrap());
            let runs: Vec<_> = set.runs().collect();
            prop_assert!(runs.windows(2).all(|pair| pair[0].end < pair[1].start));
        }
    }

    proptest! {
        #[test]
        fn sets_are_subtracted_and_read_back(a in proptest::collection::btree_set(0u64..40, 0..30), b in proptest::collection::btree_set(0u64..40, 0..30)) {
            let set = |indices: &BTreeSet<u64>| indices.iter().copied().collect::<ChunkSet>();
            let rest: BTreeSet<u64> = set(&a).without(&set(&b)).iter().collect();
            prop_assert_eq!(rest, &a - &b);
            prop_assert_eq!(set(&a).intersection(&set(&b)).iter().collect::<BTreeSet<_>>(), &a & &b);
            prop_assert_eq!(set(&a).union(&set(&b)).iter().collect::<BTreeSet<_>>(), &a | &b);
            let runs: ChunkSet = a.iter().rev().map(|index| *index..index + 1).collect();
            prop_assert_eq!(&runs, &set(&a));
            let json = serde_json::to_string(&runs).unwrap();
            prop_assert_eq!(serde_json::from_str::<ChunkSet>(&json).unwrap(), runs);
        }
    }

    #[test]
    fn it_reads_well() {
        let mut set = ChunkSet::default();
        for index in [9, 0, 1, 2, 12, 13] {
            set.insert(index);
        }
        assert_eq!(set.to_string(), "0-2, 9, 12-13");
        let scattered: ChunkSet = (0..30).map(|index| 2 * index).collect();
        assert!(scattered.to_string().ends_with(", 36, 38 and 10 more"), "{scattered}");
    }
}
