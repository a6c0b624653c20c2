//! Files on their way out: each is renamed before it is deleted, so that nobody opens it any more under its own name, and looked at
//! once more.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::Path,
};

use natsfer_producer::FileName;
use rustix::{
    fs::{AtFlags, RenameFlags, linkat, renameat, renameat_with, statat, unlinkat},
    io::Errno,
};

/// What the name of such a file begins with, in the directory where it was.
const PREFIX: &str = ".natsfer-leaving.";
/// The longest name of common file systems, in bytes.
const LONGEST_NAME: usize = 255;
/// Names tried beside one that is taken.
pub(super) const MOST_NUMBERS: u32 = 10_000;

/// The name that a file has while it leaves; `None` if it would be too long.
pub(super) fn name_meanwhile(name: &str) -> Option<String> {
    let meanwhile = format!("{PREFIX}{name}");
    (meanwhile.len() <= LONGEST_NAME).then_some(meanwhile)
}

/// The name that a file had before, if this is one that leaves.
pub(super) fn name_before(name: &OsStr) -> Option<&OsStr> {
    name.as_bytes().strip_prefix(PREFIX.as_bytes()).filter(|name| !name.is_empty()).map(OsStr::from_bytes)
}

/// Gives a file that a killed run has left half-way its name again, or one beside it if that is taken, and says which. Blocking.
pub(super) fn put_back(directory: &Path, name: &OsStr) -> io::Result<OsString> {
    let directory = File::open(directory)?;
    let meanwhile = [PREFIX.as_bytes(), name.as_bytes()].concat();
    let name = name.to_str().ok_or(io::ErrorKind::InvalidFilename)?;
    let name = rename_beside(&directory, OsStr::from_bytes(&meanwhile), &directory, name)?;
    Ok(OsString::from_vec(name.into_bytes()))
}

/// Renames a file. Replaces nothing: a name that is taken gets a number. Says which name it was.
pub(super) fn rename_beside(from: &File, file: impl AsRef<OsStr>, to: &File, name: &str) -> io::Result<String> {
    let wanted: FileName = name.parse().map_err(io::Error::other)?;
    for attempt in 0..MOST_NUMBERS {
        let candidate = if attempt == 0 { wanted.clone() } else { wanted.numbered(attempt) };
        match rename(from, file.as_ref(), to, candidate.as_str()) {
            Ok(()) => return Ok(candidate.to_string()),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::Error::other(format!("{name} and {MOST_NUMBERS} names beside it are taken")))
}

/// Renames a file, and replaces nothing.
pub(super) fn rename(from: &File, file: &OsStr, to: &File, name: &str) -> rustix::io::Result<()> {
    match renameat_with(from, file, to, name, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
        result => return result,
    }
    // File systems without it: a hard link does not replace either.
    match linkat(from, file, to, name, AtFlags::empty()) {
        Ok(()) => return unlinkat(from, file, AtFlags::empty()),
        Err(Errno::PERM | Errno::INVAL | Errno::NOSYS | Errno::NOTSUP | Errno::MLINK) => {}
        Err(error) => return Err(error),
    }
    // Nor have they links: a look has to do.
    match statat(to, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Err(Errno::EXIST),
        Err(Errno::NOENT) => renameat(from, file, to, name),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_was_left_half_way_gets_its_name_again_and_replaces_nothing() {
        let home = tempfile::tempdir().unwrap();
        for (content, expected) in [("first", "a.txt"), ("second", "a (1).txt")] {
            let meanwhile = name_meanwhile("a.txt").unwrap();
            fs::write(home.path().join(&meanwhile), content).unwrap();
            let before = name_before(OsStr::new(&meanwhile)).unwrap().to_owned();
            assert_eq!(put_back(home.path(), &before).unwrap(), expected);
            assert_eq!(fs::read_to_string(home.path().join(expected)).unwrap(), content);
        }
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 2);
        assert_eq!(name_before(OsStr::new(".a")), None);
        assert_eq!(name_before(OsStr::new(PREFIX)), None);
        assert_eq!(name_meanwhile(&"x".repeat(LONGEST_NAME)), None);
    }
}
