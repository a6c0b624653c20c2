//! Whether files can be landed in a directory: tried as it is done, and leaving nothing behind.

use std::{
    fs::{File, FileTimes, Permissions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use cap_std::{
    ambient_authority,
    fs::{Dir, OpenOptions, OpenOptionsExt as _},
};
use natsfer_common::{STAGING_DIRECTORY, TransferId};
use rustix::fs::{Mode, OFlags, RenameFlags, fstatvfs, fsync, openat, renameat_with};

use crate::{
    disk_error::{Ability, Call, Meaning, meaning},
    move_without_replacing::move_over_a_placeholder,
};

/// What was found out about a directory to land files in.
#[derive(Debug)]
#[non_exhaustive]
pub struct DirectoryFacts {
    /// What was looked at: the directory, or where it will be made.
    pub at: PathBuf,
    /// Whether it is there.
    pub exists: bool,
    /// Whether a file was landed there: written beside, synced, renamed, the directory synced, and removed again.
    pub landed: Result<(), LandingFailure>,
    /// What the file system cannot do, and files land without.
    pub lacking: Vec<Shortfall>,
    /// Whether unfinished files are kept on the same file system, so that they can be renamed.
    pub one_file_system: bool,
    /// Bytes that this user may still write.
    pub free_bytes: u64,
    /// Bytes that the file system has in all.
    pub all_bytes: u64,
    /// Files that this user may still make; `None` where the file system has no limit of its own.
    pub free_files: Option<u64>,
}

/// The step that failed.
#[derive(Debug)]
#[non_exhaustive]
pub struct LandingFailure {
    /// What was tried, such as `rename a file`.
    pub step: &'static str,
    /// What the operating system says.
    pub source: io::Error,
}

/// Something that the file system cannot do.
#[derive(Debug)]
#[non_exhaustive]
pub struct Shortfall {
    /// What it is.
    pub ability: Ability,
    /// What the operating system says.
    pub source: io::Error,
}

/// Looks at a directory that files are to be landed in, which need not be there yet. Blocks.
///
/// # Errors
/// When neither it nor any directory above can be looked at, or a file stands where it should be.
pub fn examine_directory(path: impl AsRef<Path>) -> io::Result<DirectoryFacts> {
    let path = std::path::absolute(path)?;
    let at = path.ancestors().find(|path| path.symlink_metadata().is_ok()).unwrap_or(Path::new("/"));
    let dir = Dir::open_ambient_dir(at, ambient_authority())?;
    let space = fstatvfs(&dir)?;
    let staging = at.join(STAGING_DIRECTORY).symlink_metadata().ok();
    let mut lacking = Vec::new();
    Ok(DirectoryFacts {
        exists: at == path,
        landed: try_landing(&dir, &mut lacking),
        lacking,
        one_file_system: staging
            .map_or(Ok(true), |staging| Ok::<_, io::Error>(staging.dev() == at.metadata()?.dev()))?,
        free_bytes: space.f_bavail.saturating_mul(space.f_frsize),
        all_bytes: space.f_blocks.saturating_mul(space.f_frsize),
        free_files: (space.f_files > 0).then_some(space.f_favail),
        at: at.into(),
    })
}

/// Lands a file as a received one is, and removes it.
fn try_landing(dir: &Dir, lacking: &mut Vec<Shortfall>) -> Result<(), LandingFailure> {
    let failed = |step| move |source| LandingFailure { step, source };
    let id = TransferId::random().map_err(failed("name a file"))?;
    // Nobody's: what is there already is not touched.
    let (beside, name) = (format!(".natsfer-doctor-{id}"), format!(".natsfer-doctor-{id}.landed"));
    dir.create_dir(&beside).map_err(failed("make a directory"))?;
    let tried = try_in(dir, &beside, &name, lacking);
    let removed = dir.remove_dir_all(&beside).and_then(|()| match dir.remove_file(&name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    });
    tried.and(removed.map_err(failed("remove a file")))
}

fn try_in(dir: &Dir, beside: &str, name: &str, lacking: &mut Vec<Shortfall>) -> Result<(), LandingFailure> {
    let failed = |step| move |source| LandingFailure { step, source };
    let staging = dir.open_dir(beside).map_err(failed("open a directory"))?;
    let mut options = OpenOptions::new();
    options.mode(0o600).write(true).create_new(true);
    let make = |name: &str| staging.open_with(name, &options).map(cap_std::fs::File::into_std);
    let mut file = make("part").map_err(failed("make a file"))?;
    file.write_all(&[0; 4096]).map_err(failed("write a file"))?;
    let mut ask = |ability: Ability, result: io::Result<()>| match result {
        Err(source) if meaning(Call::Do(ability), &source) == Meaning::Lacking => {
            lacking.push(Shortfall { ability, source });
            Ok(None)
        }
        result => result.map(Some).map_err(failed(ability.what())),
    };
    ask(Ability::Locks, lock(&file))?;
    ask(Ability::Modes, file.set_permissions(Permissions::from_mode(0o640)))?;
    ask(Ability::Times, file.set_times(FileTimes::new().set_modified(SystemTime::UNIX_EPOCH)))?;
    ask(Ability::FileSyncs, file.sync_all())?;
    // As files that land are moved, but that nothing is logged.
    let moved = renameat_with(&staging, "part", dir, name, RenameFlags::NOREPLACE).map_err(io::Error::from);
    if ask(Ability::MovesWithoutReplacing, moved)?.is_none()
        && ask(Ability::Links, staging.hard_link("part", dir, name))?.is_none()
    {
        move_over_a_placeholder(&staging, "part", dir, name).map_err(failed("rename a file"))?;
    }
    let readable = openat(dir, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    ask(Ability::DirectorySyncs, readable.and_then(fsync).map_err(io::Error::from)).map(drop)
}

fn lock(file: &File) -> io::Result<()> {
    match file.try_lock() {
        Err(std::fs::TryLockError::Error(error)) => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_tried_and_left_as_it_was() {
        let home = tempfile::tempdir().unwrap();
        let facts = examine_directory(home.path()).unwrap();
        assert!(facts.exists && facts.one_file_system && facts.landed.is_ok());
        assert!(facts.all_bytes >= facts.free_bytes);
        assert_eq!(home.path().read_dir().unwrap().count(), 0);
    }

    #[test]
    fn one_that_is_not_there_is_judged_by_where_it_will_be_and_not_made() {
        let home = tempfile::tempdir().unwrap();
        let facts = examine_directory(home.path().join("a/b")).unwrap();
        assert!(!facts.exists && facts.landed.is_ok() && facts.at == home.path());
        assert_eq!(home.path().read_dir().unwrap().count(), 0);
        std::fs::write(home.path().join("file"), "").unwrap();
        assert!(examine_directory(home.path().join("file/b")).is_err());
    }
}
