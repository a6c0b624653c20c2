//! Comparing what was sent with what arrived.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result, bail, ensure};

use crate::must;

/// Compares two files, or all files below two directories: names, bytes,
/// modification times to the nanosecond, and modes. Directories count only as
/// parts of names.
///
/// # Errors
/// Names the first difference, in order of names; or what cannot be read.
pub fn same_tree(left: impl AsRef<Path>, right: impl AsRef<Path>) -> Result<()> {
    let (left, right) = (left.as_ref(), right.as_ref());
    let (left_files, right_files) = (list(left)?, list(right)?);
    for name in left_files.keys() {
        if !right_files.contains_key(name) {
            bail!("{} is only in {}", name.display(), left.display());
        }
    }
    for (name, right_data) in &right_files {
        let Some(left_data) = left_files.get(name) else {
            bail!("{} is only in {}", name.display(), right.display());
        };
        let (a, b) = (beneath(left, name), beneath(right, name));
        same(&a, left_data, &b, right_data).with_context(|| format!("{} and {} differ", a.display(), b.display()))?;
    }
    Ok(())
}

/// As [`same_tree`], for use in a test.
///
/// # Panics
/// With the first difference.
#[track_caller]
pub fn assert_same(left: impl AsRef<Path>, right: impl AsRef<Path>) {
    must(same_tree(left, right), "not the same");
}

/// All that is not a directory, by its name below `root`; a file has the
/// empty name below itself.
fn list(root: &Path) -> Result<BTreeMap<PathBuf, Metadata>> {
    let mut found = BTreeMap::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(name) = pending.pop() {
        let path = beneath(root, &name);
        let data = path.symlink_metadata().with_context(|| path.display().to_string())?;
        if !data.is_dir() {
            found.insert(name, data);
            continue;
        }
        for entry in path.read_dir()? {
            pending.push(name.join(entry?.file_name()));
        }
    }
    Ok(found)
}

/// Joining an empty name would make a directory of a file.
fn beneath(root: &Path, name: &Path) -> PathBuf {
    if name.as_os_str().is_empty() {
        return root.to_owned();
    }
    root.join(name)
}

fn same(a: &Path, a_data: &Metadata, b: &Path, b_data: &Metadata) -> Result<()> {
    ensure!(a_data.file_type() == b_data.file_type(), "types {:?} and {:?}", a_data.file_type(), b_data.file_type());
    if a_data.is_symlink() {
        let (a, b) = (a.read_link()?, b.read_link()?);
        ensure!(a == b, "targets {} and {}", a.display(), b.display());
        return Ok(());
    }
    let (size, other) = (a_data.len(), b_data.len());
    ensure!(size == other, "sizes {size} and {other}");
    ensure!(a_data.is_file(), "not a file, so its bytes stay unread");
    same_bytes(a, b)?;
    let (time, other) = (nanoseconds(a_data)?, nanoseconds(b_data)?);
    ensure!(time == other, "modified at {time} and {other} ns");
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let (mode, other) = (a_data.mode() & 0o7777, b_data.mode() & 0o7777);
        ensure!(mode == other, "modes {mode:o} and {other:o}");
    }
    Ok(())
}

fn nanoseconds(data: &Metadata) -> Result<u128> {
    Ok(data.modified()?.duration_since(UNIX_EPOCH)?.as_nanos())
}

fn same_bytes(a: &Path, b: &Path) -> Result<()> {
    let open = |path| Ok::<_, std::io::Error>(BufReader::with_capacity(1 << 20, File::open(path)?));
    let (mut a, mut b) = (open(a)?, open(b)?);
    let mut offset = 0_u64;
    loop {
        let (left, right) = (a.fill_buf()?, b.fill_buf()?);
        let count = left.len().min(right.len());
        if count == 0 {
            ensure!(left.is_empty() && right.is_empty(), "ends at {offset}");
            return Ok(());
        }
        if left[..count] != right[..count] {
            let mut pairs = left.iter().zip(right);
            let first = pairs.position(|(x, y)| x != y).unwrap_or(0);
            bail!("first different byte at {}", offset + first as u64);
        }
        a.consume(count);
        b.consume(count);
        offset += count as u64;
    }
}
