//! Moving a file to a name only if that is free, by whatever the file system can do.

use std::io;

use cap_std::fs::Dir;
use rustix::{
    fs::{Mode, OFlags, RenameFlags, openat, renameat_with},
    io::Errno,
};

use crate::{disk_error::Ability, shortfall::if_possible};

/// What a file says that holds a name for another.
const HOLDS: &str = "natsfer holds this name for ";

/// Moves it; fails with [`io::ErrorKind::AlreadyExists`] where the name is taken. Both names are single components, so neither leaves
/// its directory.
pub(crate) fn move_without_replacing(staging: &Dir, staged: &str, target: &Dir, file: &str) -> io::Result<()> {
    let moved = renameat_with(staging, staged, target, file, RenameFlags::NOREPLACE);
    if if_possible(Ability::MovesWithoutReplacing, moved)?.is_some() {
        return Ok(());
    }
    // A hard link does not replace either.
    if if_possible(Ability::Links, staging.hard_link(staged, target, file))?.is_some() {
        return staging.remove_file(staged);
    }
    move_over_a_placeholder(staging, staged, target, file)
}

/// Takes the name with a small file that says whose it is, and moves the staged one over that. One that was left behind by a process
/// which died in between is known by what it says, and replaced.
pub(crate) fn move_over_a_placeholder(staging: &Dir, staged: &str, target: &Dir, file: &str) -> io::Result<()> {
    let words = format!("{HOLDS}{staged}\n");
    match openat(target, file, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC, Mode::from(0o600)) {
        Ok(placeholder) => {
            let mut placeholder = std::fs::File::from(placeholder);
            io::Write::write_all(&mut placeholder, words.as_bytes()).inspect_err(|_| forget(target, file))?;
        }
        Err(Errno::EXIST) if holds(target, file, &words) => {}
        Err(error) => return Err(error.into()),
    }
    staging.rename(staged, target, file).inspect_err(|_| forget(target, file))
}

/// Whether a file of this name holds it with these words.
fn holds(target: &Dir, file: &str, words: &str) -> bool {
    let metadata = target.symlink_metadata(file);
    let may_be = metadata.is_ok_and(|metadata| metadata.is_file() && metadata.len() == words.len() as u64);
    may_be && target.read_to_string(file).is_ok_and(|text| text == words)
}

fn forget(target: &Dir, file: &str) {
    // Left there, it is known again by what it says.
    let _ = target.remove_file(file);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placeholder_gives_way_to_its_own_file_only() {
        let home = tempfile::tempdir().unwrap();
        let dir = Dir::open_ambient_dir(home.path(), cap_std::ambient_authority()).unwrap();
        let place = |staged: &str, file: &str| {
            dir.write(staged, staged).unwrap();
            move_over_a_placeholder(&dir, staged, &dir, file)
        };
        place("1.part", "a").unwrap();
        assert_eq!(place("2.part", "a").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(dir.read_to_string("a").unwrap(), "1.part");
        // As after a crash.
        dir.write("b", format!("{HOLDS}3.part\n")).unwrap();
        assert_eq!(place("2.part", "b").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        place("3.part", "b").unwrap();
        assert_eq!(dir.read_to_string("b").unwrap(), "3.part");
        assert!(!dir.exists("3.part"));
        // What cannot be moved holds no name.
        move_over_a_placeholder(&dir, "none.part", &dir, "c").unwrap_err();
        assert!(!dir.exists("c"));
    }
}
