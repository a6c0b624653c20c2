//! Small files that are there whole, or as they were before.

use std::io::{self, Write as _};

use cap_fs_ext::{FollowSymlinks, OpenOptionsFollowExt as _};
use cap_std::fs::{Dir, OpenOptions};

use crate::target::sync_directory;

/// Writes a file, or another in its place: staged, synced, renamed, the directory synced.
pub(crate) fn replace_file(dir: &Dir, name: &str, bytes: &[u8]) -> io::Result<()> {
    let staged = format!("{name}.new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).follow(FollowSymlinks::No);
    let mut file = dir.open_with(&staged, &options)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    dir.rename(&staged, dir, name)?;
    sync_directory(dir)
}
