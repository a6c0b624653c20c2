//! Making files.

use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};

use super::Random;
use crate::must;

/// Written at once: large enough to be fast, small enough to stay in cache.
const PIECE: usize = 256 * 1024;

const WORDS: [&str; 24] = [
    "the", "of", "stream", "message", "and", "server", "to", "a", "chunk", "file", "in", "receiver", "is", "with",
    "cursor", "over", "journal", "sent", "when", "durable", "écrit", "größer", "for", "again",
];

/// A file of random bytes, which no codec can shrink.
///
/// # Panics
/// When it cannot be written.
pub fn random_file(path: impl AsRef<Path>, size: u64, seed: u64) {
    let mut random = Random::new(seed);
    write(path.as_ref(), size, |piece| {
        piece.resize(PIECE, 0);
        random.fill(piece);
    });
}

/// A file of prose-like text, cut off at its size.
///
/// # Panics
/// When it cannot be written.
pub fn text_file(path: impl AsRef<Path>, size: u64, seed: u64) {
    let mut random = Random::new(seed);
    write(path.as_ref(), size, |piece| {
        for _ in 0..random.below(12) + 4 {
            piece.extend_from_slice(random.pick(&WORDS).as_bytes());
            piece.push(b' ');
        }
        piece.pop();
        piece.extend_from_slice(b".\n");
    });
}

/// A file of JSON log lines, cut off at its size.
///
/// # Panics
/// When it cannot be written.
pub fn json_logs(path: impl AsRef<Path>, size: u64, seed: u64) {
    let mut random = Random::new(seed);
    let mut millis = 1_700_000_000_000_u64;
    write(path.as_ref(), size, |piece| {
        millis += random.below(50);
        let level = random.pick(&["info", "info", "info", "debug", "warn", "error"]);
        let (service, verb) = (random.pick(&WORDS), random.pick(&WORDS));
        let (id, took) = (random.number(), random.below(10_000));
        // Writing to a vector cannot fail.
        let _ = writeln!(
            piece,
            r#"{{"time":{millis},"level":"{level}","service":"{service}","message":"{verb} done","request":"{id:016x}","took_us":{took}}}"#
        );
    });
}

/// A file that is one hole: any size at no cost, and all zeros.
///
/// # Panics
/// When it cannot be made.
pub fn sparse_file(path: impl AsRef<Path>, size: u64) {
    let path = path.as_ref();
    let made = create(path).and_then(|file| Ok(file.set_len(size)?));
    must(made, &format!("cannot make {}", path.display()));
}

/// A directory with `count` random files, some in subdirectories, with sizes
/// in `sizes` and different names, modes and modification times. Returns their
/// paths below `path`, sorted.
///
/// # Panics
/// When it cannot be made.
pub fn tree(path: impl AsRef<Path>, count: usize, sizes: Range<u64>, seed: u64) -> Vec<PathBuf> {
    let path = path.as_ref();
    let mut random = Random::new(seed);
    let mut names = Vec::new();
    for index in 0..count {
        let mut name = PathBuf::new();
        for _ in 0..random.below(4) {
            name.push(random.pick(&["a", "b", "deep er", "größe"]));
        }
        let ending = random.pick(&[".bin", ".tar.gz", "", " (1).txt"]);
        name.push(format!("{}-{index}{ending}", random.pick(&WORDS)));
        let file = path.join(&name);
        let span = sizes.end.saturating_sub(sizes.start);
        random_file(&file, sizes.start + random.below(span), random.number());
        let dressed = dress(&file, &mut random);
        must(dressed, &format!("cannot dress {}", file.display()));
        names.push(name);
    }
    names.sort();
    names
}

/// A mode and a modification time that are unlikely to come about by chance.
fn dress(file: &Path, random: &mut Random) -> Result<()> {
    let age = Duration::new(1_500_000_000 + random.below(100_000_000), 123_456_789);
    let open = File::options().write(true).open(file)?;
    open.set_modified(SystemTime::UNIX_EPOCH + age)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = [0o644, 0o600, 0o755, 0o640][random.below(4) as usize];
        open.set_permissions(std::fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

fn create(path: &Path) -> Result<File> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).context("no directory for it")?;
    }
    Ok(File::create(path)?)
}

/// Writes exactly `size` bytes of what `more` keeps appending.
fn write(path: &Path, size: u64, mut more: impl FnMut(&mut Vec<u8>)) {
    let mut written = || -> Result<()> {
        let mut file = create(path)?;
        let mut left = size;
        let mut piece = Vec::with_capacity(PIECE + 1024);
        while left > 0 {
            piece.clear();
            while piece.len() < PIECE {
                more(&mut piece);
            }
            let take = usize::try_from(left).map_or(piece.len(), |left| left.min(piece.len()));
            file.write_all(&piece[..take])?;
            left -= take as u64;
        }
        Ok(())
    };
    must(written(), &format!("cannot write {}", path.display()));
}
