//! What lies in an outbox or an inbox.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The files below a directory, by their paths below it, without the staging directory's.
pub(super) fn sizes(root: &Path) -> BTreeMap<PathBuf, u64> {
    let size = |path: &PathBuf| root.join(path).metadata().map_or(0, |data| data.len());
    let found = walk(root).into_iter().filter(|path| !path.starts_with(".natsfer"));
    found.map(|path| (path.clone(), size(&path))).collect()
}

/// All files below a directory, by their paths below it. Directories that vanish meanwhile are empty.
pub(super) fn walk(root: &Path) -> Vec<PathBuf> {
    let (mut found, mut pending) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(below) = pending.pop() {
        for entry in root.join(&below).read_dir().into_iter().flatten().flatten() {
            let path = below.join(entry.file_name());
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => pending.push(path),
                _ => found.push(path),
            }
        }
    }
    found
}

/// The names, at most ten, of files that are not the same on both sides.
pub(super) fn differing<'a>(wanted: &'a BTreeMap<PathBuf, u64>, found: &'a BTreeMap<PathBuf, u64>) -> Vec<&'a Path> {
    let missing = wanted.iter().filter(|(name, size)| found.get(*name) != Some(size));
    let extra = found.iter().filter(|(name, _)| !wanted.contains_key(*name));
    missing.chain(extra).map(|(name, _)| name.as_path()).take(10).collect()
}
