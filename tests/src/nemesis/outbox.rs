//! What is sent: batches of files of all sizes, the same for the same seed.

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::files::{self, Random};
use crate::must;

const KIB: u64 = 1 << 10;

/// Sizes at which something changes: nothing, inline or not, around one chunk and a few of them.
const INTERESTING: [u64; 14] = [
    0,
    1,
    4_000,
    64 * KIB,
    100_000,
    256 * KIB - 1,
    256 * KIB,
    256 * KIB + 1,
    512 * KIB,
    1024 * KIB - 4097,
    1024 * KIB,
    1024 * KIB + 1,
    3 * 256 * KIB + 1,
    2_000_000,
];

const DIRECTORIES: [&str; 4] = [".", "a", "a/b c", "größe"];

/// Where batches are made.
#[derive(Clone, Debug)]
pub(super) struct Outbox {
    directory: PathBuf,
    seed: u64,
}

/// One file to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Plan {
    name: String,
    size: u64,
    text: bool,
    seed: u64,
}

impl Outbox {
    pub(super) fn new(directory: PathBuf, seed: u64) -> Self {
        Self { directory, seed }
    }

    /// Makes a producer's next batch, a directory.
    pub(super) async fn batch(&self, producer: usize, index: u64) -> PathBuf {
        let batch = self.directory.join(format!("p{producer}-{index:04}"));
        let (made, plans) = (batch.clone(), plan(self.seed, producer, index));
        let make = move || plans.iter().for_each(|plan| plan.make(&made));
        must(tokio::task::spawn_blocking(make).await.context("no files"), "a batch");
        batch
    }
}

impl Plan {
    fn make(&self, batch: &Path) {
        let path = batch.join(&self.name);
        if self.text {
            files::text_file(path, self.size, self.seed);
        } else {
            files::random_file(path, self.size, self.seed);
        }
    }
}

/// The first file of every other batch is large.
fn plan(seed: u64, producer: usize, index: u64) -> Vec<Plan> {
    let mut random = Random::new(seed ^ (producer as u64 + 1) << 32 ^ index);
    let count = 3 + random.below(8);
    let large = random.below(2) == 0;
    let file = |number: u64| {
        let size = match random.below(3) {
            _ if large && number == 0 => 5_000_000 + random.below(55_000_000),
            0 => random.below(4_000_000),
            _ => INTERESTING[usize::try_from(random.below(INTERESTING.len() as u64)).unwrap_or(0)],
        };
        let name = format!("{}/{number}-{size}", random.pick(&DIRECTORIES));
        Plan { name, size, text: random.below(4) == 0, seed: random.number() }
    };
    (0..count).map(file).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_decides_what_is_sent() {
        assert_eq!(plan(7, 0, 3), plan(7, 0, 3));
        assert_ne!(plan(7, 0, 3), plan(8, 0, 3));
        assert_ne!(plan(7, 0, 3), plan(7, 1, 3));
        let sizes: Vec<_> = (0..50).flat_map(|index| plan(7, 0, index)).map(|plan| plan.size).collect();
        assert!(INTERESTING.iter().all(|size| sizes.contains(size)), "{sizes:?}");
        assert!(sizes.iter().any(|&size| size > 5_000_000));
    }
}
