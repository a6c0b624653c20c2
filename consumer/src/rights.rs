//! Group and rights of a file that lands: those that it would have if it had been made in its directory.
//!
//! A file is staged elsewhere, and gets from there what it should get from the directory that it lands in: the group, where that is
//! set-group-ID, and the access control list, where it has a default one.

use std::{
    fs::{File, Permissions},
    io,
    os::{fd::AsRawFd as _, unix::fs::PermissionsExt as _},
    sync::LazyLock,
};

use cap_std::fs::{Dir, MetadataExt as _};
use rustix::{
    fs::{Gid, XattrFlags, fchown, fremovexattr, fsetxattr, getxattr},
    io::Errno,
};

use crate::{disk_error::Ability, shortfall::if_possible};

const DEFAULT_LIST: &str = "system.posix_acl_default";
const ACCESS_LIST: &str = "system.posix_acl_access";
const SET_GROUP_ID: u32 = 0o2000;
/// Longest list that is read, in bytes: 500 entries.
const LONGEST_LIST: usize = 4 + 500 * ENTRY;
const ENTRY: usize = 8;

/// What files get from the directory that they are made in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Inheritance {
    pub(crate) group: u32,
    list: Option<AccessList>,
}

/// A default access control list, as Linux gives it: a version, and entries of tag, rights and id.
#[derive(Debug, Clone, PartialEq, Eq)]
struct AccessList(Vec<u8>);

impl Inheritance {
    /// Looks at a directory.
    pub(crate) fn of(dir: &Dir) -> io::Result<Self> {
        let metadata = dir.dir_metadata()?;
        let from_directory = metadata.mode() & SET_GROUP_ID != 0;
        let group = if from_directory { metadata.gid() } else { rustix::process::getegid().as_raw() };
        Ok(Self { group, list: AccessList::of(dir) })
    }

    /// Gives a file that was made in the directory `made_in` what it would have if it had been made here with this mode; or with the
    /// usual one, where its sender does not say.
    pub(crate) fn give(&self, file: &File, mode: Option<u32>, made_in: &Self) -> io::Result<()> {
        if self.group != made_in.group {
            // Before the mode: to change the group takes rights away.
            if_possible(Ability::Groups, fchown(file, None, Some(Gid::from_raw(self.group))))?;
        }
        if let Some(list) = &self.list {
            let list = list.for_file(mode.unwrap_or(0o666));
            let given = fsetxattr(file, ACCESS_LIST, &list, XattrFlags::empty());
            if if_possible(Ability::AccessLists, given)?.is_some() {
                return Ok(());
            }
        } else if made_in.list.is_some() {
            match fremovexattr(file, ACCESS_LIST) {
                Err(Errno::NODATA) => {}
                removed => if_possible(Ability::AccessLists, removed).map(drop)?,
            }
        }
        let mode = mode.unwrap_or_else(|| 0o666 & !*UMASK) & 0o777;
        if_possible(Ability::Modes, file.set_permissions(Permissions::from_mode(mode))).map(drop)
    }
}

impl AccessList {
    /// The default list of a directory, if it has one.
    fn of(dir: &Dir) -> Option<Self> {
        if !cfg!(target_os = "linux") {
            return None;
        }
        let mut bytes = vec![0; LONGEST_LIST];
        // The handle itself is for looking things up only (O_PATH).
        let path = format!("/proc/self/fd/{}", dir.as_raw_fd());
        let length = getxattr(path, DEFAULT_LIST, &mut bytes[..]).ok()?;
        bytes.truncate(length);
        let is_one =
            bytes.len() > 4 && (bytes.len() - 4).is_multiple_of(ENTRY) && bytes.starts_with(&2_u32.to_le_bytes());
        is_one.then_some(Self(bytes))
    }

    /// The list of a file made with this mode: of the owner's, the others' and the mask's rights, those that the mode has, too. Without
    /// a mask, the owning group's are the mask's.
    fn for_file(&self, mode: u32) -> Vec<u8> {
        const USER: u16 = 0x01;
        const GROUP: u16 = 0x04;
        const MASK: u16 = 0x10;
        const OTHER: u16 = 0x20;
        let mut bytes = self.0.clone();
        let tag = |entry: &[u8]| u16::from_le_bytes([entry[0], entry[1]]);
        let has_mask = bytes[4..].chunks_exact(ENTRY).any(|entry| tag(entry) == MASK);
        for entry in bytes[4..].chunks_exact_mut(ENTRY) {
            let most = match tag(entry) {
                USER => mode >> 6,
                MASK => mode >> 3,
                GROUP if !has_mask => mode >> 3,
                OTHER => mode,
                _ => 0o7,
            };
            entry[2] &= (most & 0o7) as u8;
        }
        bytes
    }
}

/// What this process takes from the rights of what it makes.
static UMASK: LazyLock<u32> = LazyLock::new(|| {
    // Asked otherwise, it would have to be changed for a moment, for all threads.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let umask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    umask.and_then(|umask| u32::from_str_radix(umask.trim(), 8).ok()).unwrap_or(0o022)
});

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[(u16, u16, u32)]) -> AccessList {
        let entries = entries
            .iter()
            .flat_map(|(tag, rights, id)| [&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat());
        AccessList(2_u32.to_le_bytes().into_iter().chain(entries).collect())
    }

    #[test]
    fn of_a_default_list_a_file_gets_what_its_mode_has_too() {
        const NOBODY: u32 = u32::MAX;
        let default =
            list(&[(1, 7, NOBODY), (2, 6, 1000), (4, 5, NOBODY), (8, 7, 50), (0x10, 7, NOBODY), (0x20, 5, NOBODY)]);
        let expected =
            list(&[(1, 6, NOBODY), (2, 6, 1000), (4, 5, NOBODY), (8, 7, 50), (0x10, 4, NOBODY), (0x20, 0, NOBODY)]);
        assert_eq!(default.for_file(0o640), expected.0);
        let short = list(&[(1, 7, NOBODY), (4, 7, NOBODY), (0x20, 7, NOBODY)]);
        assert_eq!(short.for_file(0o644), list(&[(1, 6, NOBODY), (4, 4, NOBODY), (0x20, 4, NOBODY)]).0);
    }
}
