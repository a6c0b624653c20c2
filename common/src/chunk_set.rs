//! Sets of chunks, kept as runs: a transfer's are mostly one run from 0.

use std::{collections::BTreeMap, fmt, ops::Range};

/// A set of chunk indices. Takes memory by the number of runs, not of chunks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChunkSet {
    /// Start to end (exclusive), neither overlapping nor touching.
    runs: BTreeMap<u64, u64>,
}

impl ChunkSet {
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

    /// Adds a run of chunks to an empty set.
    pub fn insert_run(&mut self, run: Range<u64>) {
        debug_assert!(self.is_empty() && !run.is_empty());
        self.runs.insert(run.start, run.end);
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
}

/// As people write it: `0-5, 9`.
impl fmt::Display for ChunkSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, run) in self.runs().enumerate() {
            let comma = if position > 0 { ", " } else { "" };
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

    #[test]
    fn it_reads_well() {
        let mut set = ChunkSet::default();
        for index in [9, 0, 1, 2, 12, 13] {
            set.insert(index);
        }
        assert_eq!(set.to_string(), "0-2, 9, 12-13");
    }
}
