//! A staged file on its way to a directory that it cannot be renamed into.
//!
//! A directory below the target may be a mount of its own, or have a quota of its own; or this user may not give files its group, which
//! they would have if they were made there. Then the file is copied into the directory first, under a name of its own that only its
//! owner may read, and gets its name from there.

use std::{
    fs::{File, FileTimes},
    io::{self, Seek as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
};

use cap_std::fs::Dir;
use natsfer_common::TransferId;
use rustix::fs::{Mode, OFlags, openat};

use crate::{
    disk_error::Ability,
    rights::Inheritance,
    shortfall::{if_possible, is_known},
    staging::PART,
    target::sync_file,
};

/// A file that is to be moved.
#[derive(Debug)]
pub(crate) struct Crossing<'a> {
    staging: &'a Dir,
    staged: &'a str,
    file: &'a File,
    target: &'a Dir,
    /// Its name in the target directory, once it was copied there.
    copy: Option<String>,
}

impl<'a> Crossing<'a> {
    pub(crate) fn new(staging: &'a Dir, staged: &'a str, file: &'a File, target: &'a Dir) -> Self {
        Self { staging, staged, file, target, copy: None }
    }

    /// Moves it, by renaming it from where it is, given as a directory and a name. Afterwards nothing is staged any more.
    pub(crate) fn rename(&mut self, rename: impl Fn(&Dir, &str) -> io::Result<()>) -> io::Result<()> {
        if self.copy.is_none() {
            let renamed = if self.has_another_group()? {
                Err(io::ErrorKind::CrossesDevices.into())
            } else {
                rename(self.staging, self.staged)
            };
            match renamed {
                Err(error) if error.kind() == io::ErrorKind::CrossesDevices => self.copy()?,
                result => return result,
            }
        }
        rename(self.target, self.copy.as_deref().unwrap_or_default())?;
        self.copy = None;
        self.staging.remove_file(self.staged)
    }

    /// Whether it could not be given the group that it would have there.
    fn has_another_group(&self) -> io::Result<bool> {
        Ok(is_known(Ability::Groups) && Inheritance::of(self.target)?.group != self.file.metadata()?.gid())
    }

    fn copy(&mut self) -> io::Result<()> {
        let name = format!(".natsfer-{}{PART}", TransferId::random()?);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mut copy = File::from(openat(self.target, name.as_str(), flags, Mode::from(0o600))?);
        self.copy = Some(name);
        let mut file = self.file;
        file.rewind()?;
        io::copy(&mut file, &mut copy)?;
        let (metadata, inheritance) = (self.file.metadata()?, Inheritance::of(self.target)?);
        inheritance.give(&copy, Some(metadata.permissions().mode() & 0o777), &inheritance)?;
        let times = FileTimes::new().set_modified(metadata.modified()?);
        if_possible(Ability::Times, copy.set_times(times))?;
        sync_file(copy.sync_all())
    }
}

impl Drop for Crossing<'_> {
    fn drop(&mut self) {
        if let Some(copy) = &self.copy {
            // Left there at worst, for its owner to see.
            let _ = self.target.remove_file(copy);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::MetadataExt as _,
        time::{Duration, SystemTime},
    };

    use super::*;

    #[test]
    fn what_cannot_be_renamed_there_is_copied_with_all_that_it_has() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        let open = |name: &str| {
            fs::create_dir(at(name)).unwrap();
            Dir::open_ambient_dir(at(name), cap_std::ambient_authority()).unwrap()
        };
        let (staging, target) = (open("staging"), open("target"));
        fs::write(at("staging/part"), "bytes").unwrap();
        let file = File::options().read(true).write(true).open(at("staging/part")).unwrap();
        file.set_permissions(fs::Permissions::from_mode(0o640)).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1)).unwrap();
        let across = |to: &'static str| {
            let target = &target;
            move |dir: &Dir, name: &str| match name {
                "part" => Err(io::ErrorKind::CrossesDevices.into()),
                _ if to.is_empty() => Err(io::ErrorKind::AlreadyExists.into()),
                _ => dir.rename(name, target, to),
            }
        };
        let mut crossing = Crossing::new(&staging, "part", &file, &target);
        // A name that is taken, and another.
        assert_eq!(crossing.rename(across("")).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        crossing.rename(across("landed")).unwrap();
        drop(crossing);
        assert_eq!(fs::read_to_string(at("target/landed")).unwrap(), "bytes");
        let landed = fs::metadata(at("target/landed")).unwrap();
        assert_eq!((landed.mode() & 0o777, landed.mtime()), (0o640, 1));
        assert_eq!((target.entries().unwrap().count(), staging.entries().unwrap().count()), (1, 0));

        fs::write(at("staging/part"), "bytes").unwrap();
        let mut crossing = Crossing::new(&staging, "part", &file, &target);
        crossing.rename(across("")).unwrap_err();
        drop(crossing);
        assert_eq!((target.entries().unwrap().count(), staging.entries().unwrap().count()), (1, 1));
    }
}
