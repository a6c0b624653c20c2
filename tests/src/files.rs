//! Making the files that are sent, and comparing those that arrive.
//!
//! What is made depends on the arguments alone, so that a failure can be
//! repeated. All functions block, and panic when the disk says no.

mod compare;
mod make;
mod random;

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};

pub use compare::{assert_same, same_tree};
pub use make::{json_logs, random_file, sparse_file, text_file, tree};
pub use random::Random;

use crate::must;

/// The BLAKE3 digest of a file, in hex.
///
/// # Panics
/// When the file cannot be read.
#[must_use]
pub fn digest(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    let read = || -> Result<String> {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(File::open(path)?)?;
        Ok(hasher.finalize().to_hex().to_string())
    };
    must(read(), &format!("cannot digest {}", path.display()))
}

/// Takes a lock that other test processes respect, for as long as the file
/// lives; the system lets go of it even when we are killed.
pub(crate) fn exclusive(path: &Path) -> Result<File> {
    let what = || format!("cannot lock {}", path.display());
    let file = File::options().create(true).truncate(false).write(true).open(path).with_context(what)?;
    file.lock().with_context(what)?;
    Ok(file)
}
