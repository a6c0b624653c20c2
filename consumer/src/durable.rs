//! Small files that are there whole, or as they were before.
//!
//! A writer holds the lock of the file that it stages. What is staged and locked by nobody was left by one that was killed.

use std::{
    fs::File,
    io::{self, Write as _},
};

use cap_fs_ext::{FollowSymlinks, OpenOptionsFollowExt as _};
use cap_std::fs::{Dir, MetadataExt as _, OpenOptions, OpenOptionsExt as _};

use crate::{
    Ability,
    lock::Locked,
    shortfall::if_possible,
    target::{sync_directory, sync_file},
};

/// What the names of staged files end in.
const STAGED: &str = ".new";

/// Writes a file, or another in its place: staged, synced, renamed, the directory synced.
pub(crate) fn replace_file(dir: &Dir, name: &str, bytes: &[u8]) -> io::Result<()> {
    let staged = format!("{name}{STAGED}");
    let mut file = stage(dir, &staged)?;
    // One that was left behind is used again.
    file.set_len(0)?;
    file.write_all(bytes)?;
    sync_file(file.sync_all())?;
    dir.rename(&staged, dir, name)?;
    sync_directory(dir)
}

/// Removes what writers that were killed have staged. Others may write meanwhile.
pub(crate) fn remove_abandoned(dir: &Dir) -> io::Result<()> {
    for entry in dir.read_dir(".")? {
        let entry = entry?;
        let name = entry.file_name();
        if name.as_encoded_bytes().ends_with(STAGED.as_bytes())
            && entry.file_type().is_ok_and(|kind| kind.is_file())
            && let Some(name) = name.to_str()
        {
            remove_if_abandoned(dir, name)?;
        }
    }
    Ok(())
}

/// Opens a file that is staged under this name, locked for as long as it is open; waits while another writer has it.
fn stage(dir: &Dir, name: &str) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.mode(0o600).write(true).create(true).truncate(false).follow(FollowSymlinks::No);
    loop {
        let file = dir.open_with(name, &options)?.into_std();
        if_possible(Ability::Locks, file.lock())?;
        // Between opening and locking, somebody may have given it its final name, or removed it.
        if is_named(dir, name, &file)? {
            return Ok(file);
        }
    }
}

fn remove_if_abandoned(dir: &Dir, name: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.read(true).follow(FollowSymlinks::No);
    let file = match dir.open_with(name, &options) {
        Ok(file) => file.into_std(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    match Locked::try_new(file)? {
        // Who has opened it as well finds it gone once it is unlocked. Without locks, it may be another process's.
        Some(file) if file.holds_against_others() && is_named(dir, name, &file)? => dir.remove_file(name),
        _ => Ok(()),
    }
}

/// Whether the name stands for this very file. Of a locked file, that stays so.
fn is_named(dir: &Dir, name: &str, file: &File) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let file = file.metadata()?;
    match dir.symlink_metadata(name) {
        Ok(named) => Ok((named.dev(), named.ino()) == (file.dev(), file.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> (tempfile::TempDir, Dir) {
        let home = tempfile::tempdir().unwrap();
        let dir = Dir::open_ambient_dir(home.path(), cap_std::ambient_authority()).unwrap();
        (home, dir)
    }

    fn names(dir: &Dir) -> Vec<String> {
        let names = dir.read_dir(".").unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn what_a_killed_writer_has_left_is_removed_and_what_one_writes_is_not() {
        let (_home, dir) = home();
        dir.write("dead.new", "half").unwrap();
        dir.write("again.new", "much more than what takes its place").unwrap();
        let alive = stage(&dir, "alive.new").unwrap();
        replace_file(&dir, "again", b"whole").unwrap();
        remove_abandoned(&dir).unwrap();
        assert_eq!(names(&dir), ["again", "alive.new"]);
        assert_eq!(dir.read("again").unwrap(), b"whole");
        drop(alive);
        remove_abandoned(&dir).unwrap();
        assert_eq!(names(&dir), ["again"]);
    }

    /// Locks are held by open files, not by processes: threads do for those here.
    #[test]
    fn writers_and_those_who_clear_up_after_others_do_no_harm_to_each_other() {
        let (_home, dir) = home();
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let dir = &dir;
                // Two of them share each name.
                scope.spawn(move || {
                    for round in 0..100 {
                        replace_file(dir, &format!("{}", writer / 2), format!("round {round}").as_bytes()).unwrap();
                    }
                });
            }
            for _ in 0..2 {
                scope.spawn(|| (0..500).for_each(|_| remove_abandoned(&dir).unwrap()));
            }
        });
        assert_eq!(names(&dir), ["0", "1"]);
        for name in ["0", "1"] {
            assert_eq!(dir.read(name).unwrap(), b"round 99");
        }
    }
}
