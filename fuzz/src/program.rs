//! What the programs in `fuzz_targets` do.

use std::{fs, io::Read, path::Path};

/// One target's program: libFuzzer's under cargo-fuzz, otherwise one that checks the files it is given.
#[macro_export]
macro_rules! program {
    ($target:ident) => {
        #[cfg(fuzzing)]
        libfuzzer_sys::fuzz_target!(
            init: $crate::program::plant(stringify!($target), $crate::$target::seeds()),
            |data: &[u8]| { $crate::$target::check(data); }
        );

        #[cfg(not(fuzzing))]
        fn main() -> std::io::Result<()> {
            $crate::program::replay($crate::$target::check)
        }
    };
}

/// Puts the seeds where cargo-fuzz keeps this target's corpus. They are made by code, so that none goes stale.
pub fn plant(target: &str, seeds: Vec<Vec<u8>>) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    // Without them, fuzzing is slower.
    let _ = fs::create_dir_all(&corpus);
    for (number, seed) in seeds.iter().enumerate() {
        let _ = fs::write(corpus.join(format!("seed-{number}")), seed);
    }
}

/// Checks the files that are given as arguments, or standard input.
///
/// # Errors
/// When one cannot be read.
pub fn replay(check: fn(&[u8]) -> bool) -> std::io::Result<()> {
    let mut inputs = std::env::args_os().skip(1).map(fs::read).collect::<Result<Vec<_>, _>>()?;
    if inputs.is_empty() {
        let mut input = Vec::new();
        std::io::stdin().read_to_end(&mut input)?;
        inputs.push(input);
    }
    for input in inputs {
        check(&input);
    }
    Ok(())
}
