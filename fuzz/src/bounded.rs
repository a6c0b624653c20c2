//! Every target, for as long as a test may take: each seed, and thousands of inputs made from them, the same each time.
//!
//! `NATSFER_FUZZ_CASES` sets how many.

use std::{cell::Cell, panic::catch_unwind};

use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::mutation::{self, Input};

const CASES: u32 = 5_000;

/// Panics with the smallest input found that breaks a property. What is fed must be taken at times, or nothing is
/// tested.
fn run(check: fn(&[u8]) -> bool, seeds: fn() -> Vec<Vec<u8>>) {
    let cases = std::env::var("NATSFER_FUZZ_CASES").map_or(CASES, |cases| cases.parse().expect("a number of cases"));
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let (taken, refused) = (Cell::new(0), Cell::new(0));
    let count = |is_taken| {
        let inputs = if is_taken { &taken } else { &refused };
        inputs.set(inputs.get() + 1);
    };
    for seed in seeds() {
        let input = Input(seed.clone());
        count(catch_unwind(|| check(&seed)).unwrap_or_else(|_| panic!("fails for the seed {input:?}")));
    }
    let result = runner.run(&mutation::inputs(seeds()), |Input(data)| {
        count(check(&data));
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    assert!(taken.get() > 0 && refused.get() > 0, "{taken:?} inputs were taken, {refused:?} refused");
}

macro_rules! bounded {
    ($($target:ident)*) => {
        $(#[test] fn $target() { run(crate::$target::check, crate::$target::seeds) })*
    };
}

bounded! {
    arguments assembler channel channel_filter chunk_header chunk_set closing compression file_name identifiers
    journal layout ledger manifest part payload receipt recovery repair selection stored_message subject
}
