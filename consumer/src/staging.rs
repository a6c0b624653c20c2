//! Where files are kept until they land: below the target, hence on its file system.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use cap_fs_ext::{FollowSymlinks, OpenOptionsFollowExt};
use cap_std::fs::{Dir, MetadataExt as _, OpenOptions, OpenOptionsExt as _};
use natsfer_common::{ReceiverName, STAGING_DIRECTORY, TransferId};
use rustix::io::Errno;

use crate::{
    Ability, ReceiveError, TargetDirectory,
    direct::{Direct, Pieces},
    lock::Locked,
    rights::Inheritance,
    shortfall,
    target::Names,
};

/// Rights of what is not finished, and of records: nobody's but their owner's.
const PRIVATE: u32 = 0o600;

/// Whose unfinished files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A receiver of this name.
    Receiver(ReceiverName),
    /// Whoever replays.
    Replay,
}

/// Where one owner's unfinished files are. Clones share the handle.
#[derive(Debug, Clone)]
pub(crate) struct StagingDirectory {
    pub(crate) dir: Arc<Dir>,
    /// For people and messages.
    pub(crate) path: Arc<Path>,
    /// The same, below the target.
    pub(crate) below_target: Arc<Path>,
    /// What files get from it that are made there.
    pub(crate) inheritance: Inheritance,
}

/// What was left of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Discarded {
    /// It was removed.
    Removed,
    /// A process works on it.
    InUse,
    /// There is nothing of it: it has landed, or was never there.
    Nothing,
}

/// One transfer's files in it.
#[derive(Debug, Clone)]
pub(crate) struct Staging {
    pub(crate) directory: StagingDirectory,
    pub(crate) part: String,
    pub(crate) journal: String,
}

/// What journals' names end in.
pub(crate) const JOURNAL: &str = ".journal";
/// What parts' names end in.
pub(crate) const PART: &str = ".part";

impl StagingDirectory {
    pub(crate) fn open(target: &TargetDirectory, owner: &Owner) -> Result<Self, ReceiveError> {
        let components = match owner {
            Owner::Receiver(name) => vec![STAGING_DIRECTORY, "receivers", name.as_str()],
            Owner::Replay => vec![STAGING_DIRECTORY, "replays"],
        };
        let below_target = PathBuf::from(components.join("/"));
        let path = target.path().join(&below_target);
        let opened = target.directory(&components, Names::AsStored).and_then(|dir| Ok((Inheritance::of(&dir)?, dir)));
        match opened {
            Ok((inheritance, dir)) => {
                Ok(Self { dir: Arc::new(dir), path: path.into(), below_target: below_target.into(), inheritance })
            }
            Err(error) => Err(target.instead(ReceiveError::disk("cannot open staging directory", path)(error))),
        }
    }

    /// The names that end so. One that is no text is none of ours.
    pub(crate) fn names(&self, suffix: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in self.dir.read_dir(".")? {
            names.extend(entry?.file_name().into_string().ok().filter(|name| name.ends_with(suffix)));
        }
        Ok(names)
    }

    /// Whether something of this name is there.
    pub(crate) fn has(&self, name: &str) -> io::Result<bool> {
        match self.dir.symlink_metadata(name) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Opens a file for reading and writing, creating it where it does not exist.
    fn file(&self, name: &str, mode: u32) -> io::Result<File> {
        match self.open_file(name, mode) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                self.remove_unwritable(name)?;
                self.open_file(name, mode)
            }
            // A symbolic link is nobody's part.
            Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
                self.dir.remove_file(name)?;
                self.open_file(name, mode)
            }
            result => result,
        }
    }

    /// Opens a part, whose file will have this mode, creating it where it does not exist.
    pub(crate) fn part(&self, name: &str, mode: Option<u32>) -> io::Result<File> {
        self.file(name, part_mode(mode))
    }

    /// A run that died while landing has given the file a mode that forbids writing: the next one begins anew. One that lives
    /// holds its lock: fails then with [`io::ErrorKind::WouldBlock`].
    fn remove_unwritable(&self, name: &str) -> io::Result<()> {
        let _locked = match self.locked_if_there(name) {
            // Nor reading.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => None,
            locked => locked?,
        };
        match self.dir.remove_file(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Opens a file, locked against other processes until it is closed; `None` if one of them holds it.
    pub(crate) fn locked(&self, name: &str) -> io::Result<Option<Locked>> {
        Ok(self.locked_and_length(name, PRIVATE)?.map(|(file, _)| file))
    }

    /// A part, whose file will have this mode, opened and locked, without what an earlier run left in it.
    pub(crate) fn locked_empty_part(&self, name: &str, mode: Option<u32>) -> io::Result<Option<Locked>> {
        let mode = part_mode(mode);
        let Some((file, length)) = self.locked_and_length(name, mode)? else { return Ok(None) };
        if length == 0 {
            return Ok(Some(file));
        }
        if file.holds_against_others() {
            file.set_len(0)?;
            return Ok(Some(file));
        }
        // Another process may be about to land what it has written to it.
        self.dir.remove_file(name)?;
        drop(file);
        Ok(self.locked_and_length(name, mode)?.map(|(file, _)| file))
    }

    fn locked_and_length(&self, name: &str, mode: u32) -> io::Result<Option<(Locked, u64)>> {
        loop {
            let file = match self.file(name, mode) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                file => file?,
            };
            let Some(file) = Locked::try_new(file)? else { return Ok(None) };
            // Between opening and locking, its last holder may have given it its final name, or removed it.
            let (locked, named) = (file.metadata()?, self.dir.symlink_metadata(name));
            if named.is_ok_and(|named| (named.dev(), named.ino()) == (locked.dev(), locked.ino())) {
                return Ok(Some((file, locked.len())));
            }
        }
    }

    /// Locks a file that is there, without changing anything. `Ok(None)` if it is not; fails with
    /// [`io::ErrorKind::WouldBlock`] if another process holds it.
    pub(crate) fn locked_if_there(&self, name: &str) -> io::Result<Option<Locked>> {
        let mut options = OpenOptions::new();
        options.read(true).follow(FollowSymlinks::No);
        let file = match self.dir.open_with(name, &options) {
            Ok(file) => file.into_std(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        Locked::try_new(file)?.map(Some).ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }

    fn open_file(&self, name: &str, mode: u32) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.mode(mode).read(true).write(true).create(true).truncate(false).follow(FollowSymlinks::No);
        Ok(self.dir.open_with(name, &options)?.into_std())
    }

    /// The same file once more, for writing it past the page cache; `None` where the system or the file system has no such thing.
    pub(crate) fn direct(&self, name: &str, file: &File, pieces: &Arc<Pieces>) -> Option<Direct> {
        let mut options = OpenOptions::new();
        options.write(true).follow(FollowSymlinks::No);
        #[cfg(target_os = "linux")]
        cap_fs_ext::OpenOptionsExt::custom_flags(&mut options, rustix::fs::OFlags::DIRECT.bits() as i32);
        #[cfg(not(target_os = "linux"))]
        return None;
        let direct = self.dir.open_with(name, &options).ok()?.into_std();
        let (this, that) = (file.metadata().ok()?, direct.metadata().ok()?);
        if (this.dev(), this.ino()) != (that.dev(), that.ino()) {
            return None;
        }
        Direct::new(direct, file.try_clone().ok()?, pieces)
    }

    /// A file's bytes, so many at most, without a lock.
    pub(crate) fn read(&self, name: &str, most: u64) -> io::Result<Vec<u8>> {
        let mut options = OpenOptions::new();
        options.read(true).follow(FollowSymlinks::No);
        let mut bytes = Vec::new();
        self.dir.open_with(name, &options)?.take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Removes a transfer's files, by their names' common beginning, unless a process works on them.
    pub(crate) fn discard(&self, stem: &str) -> Discarded {
        let (journal, part) = (format!("{stem}{JOURNAL}"), format!("{stem}{PART}"));
        let is_there = |name| self.has(name).unwrap_or(true);
        let had_journal = is_there(&journal);
        if !had_journal && !is_there(&part) {
            return Discarded::Nothing;
        }
        // Of a transfer in chunks the journal is locked, of a small file the part. Both, so that nobody begins with either meanwhile.
        let Ok(Some(_journal)) = self.locked(&journal) else { return Discarded::InUse };
        let discarded = match self.locked_if_there(&part) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Discarded::InUse,
            // One that is empty, and has no journal, has been begun just now, or is worth nothing.
            Ok(None) if !had_journal => Discarded::Nothing,
            Ok(Some(locked)) if !had_journal && locked.metadata().is_ok_and(|part| part.len() == 0) => {
                self.remove(&part);
                Discarded::Nothing
            }
            _ => {
                self.remove(&part);
                Discarded::Removed
            }
        };
        self.remove(&journal);
        discarded
    }

    /// Removes the unfinished file that was left alone for longest, of those that no process works on, and says how many bytes it
    /// took; `None` if there is none. Its transfer begins anew when its turn comes.
    pub(crate) fn remove_oldest_idle(&self) -> io::Result<Option<u64>> {
        let mut journals = Vec::new();
        for name in self.names(JOURNAL)? {
            match self.dir.symlink_metadata(&name).and_then(|metadata| metadata.modified()) {
                Ok(modified) => journals.push((modified.into_std(), name)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        journals.sort();
        for transfer in journals.iter().filter_map(|(_, name)| name.strip_suffix(JOURNAL)) {
            let bytes = self.bytes_of(transfer);
            if self.discard(transfer) == Discarded::Removed {
                tracing::info!(transfer, "removed an unfinished file to make room; it begins anew");
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    /// Bytes of unfinished files that no process works on, and their journals.
    pub(crate) fn idle_bytes(&self) -> io::Result<u64> {
        let names = self.names(JOURNAL)?;
        let idle = names.iter().filter(|name| matches!(self.locked_if_there(name), Ok(Some(_))));
        Ok(idle.filter_map(|name| name.strip_suffix(JOURNAL)).map(|stem| self.bytes_of(stem)).sum())
    }

    fn bytes_of(&self, stem: &str) -> u64 {
        let metadata = |suffix| self.dir.symlink_metadata(format!("{stem}{suffix}"));
        [JOURNAL, PART].into_iter().filter_map(|suffix| metadata(suffix).ok()).map(|metadata| metadata.len()).sum()
    }

    /// Makes room for one more unfinished file, of so many at most.
    pub(crate) fn make_room(&self, most: usize) -> io::Result<()> {
        for _ in most..self.names(JOURNAL)?.len().saturating_add(1) {
            // Those in work are bounded by the receiver's hands.
            if self.remove_oldest_idle()?.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// Removes a file, so far as it is there. Left over at worst: found again, and checked, should it be needed.
    pub(crate) fn remove(&self, name: &str) {
        let _ = self.dir.remove_file(name);
    }
}

/// The mode to make a part with: where it cannot be changed later, what the file is to have. Its directory keeps others out.
fn part_mode(mode: Option<u32>) -> u32 {
    if shortfall::is_known(Ability::Modes) { PRIVATE | mode.unwrap_or(0o666) & 0o777 } else { PRIVATE }
}

impl Staging {
    pub(crate) fn open(target: &TargetDirectory, owner: &Owner, transfer: TransferId) -> Result<Self, ReceiveError> {
        StagingDirectory::open(target, owner).map(|directory| Self::within(directory, transfer))
    }

    pub(crate) fn within(directory: StagingDirectory, transfer: TransferId) -> Self {
        Self { directory, part: format!("{transfer}{PART}"), journal: format!("{transfer}{JOURNAL}") }
    }

    /// Removes both files, so far as they are there. Whoever calls this holds their lock.
    pub(crate) fn clear(&self) {
        [&self.part, &self.journal].into_iter().for_each(|name| self.directory.remove(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> (tempfile::TempDir, StagingDirectory) {
        let home = tempfile::tempdir().unwrap();
        let target = TargetDirectory::open(home.path()).unwrap();
        let directory = StagingDirectory::open(&target, &Owner::Replay).unwrap();
        (home, directory)
    }

    #[test]
    fn what_has_landed_since_it_was_listed_is_not_taken_for_left_over() {
        let (_home, directory) = directory();
        let write = |name: &str, bytes: &str| std::fs::write(directory.path.join(name), bytes).unwrap();
        assert_eq!(directory.discard("landed"), Discarded::Nothing);
        write("small.part", "left");
        assert_eq!(directory.discard("small"), Discarded::Removed);
        write("large.part", "");
        write("large.journal", "left");
        assert_eq!(directory.discard("large"), Discarded::Removed);
        // Made, and not locked yet.
        write("begun.part", "");
        assert_eq!(directory.discard("begun"), Discarded::Nothing);
        assert_eq!(directory.names("").unwrap(), [""; 0], "something is left");
    }

    #[test]
    fn what_is_worked_on_is_left_alone() {
        let (_home, directory) = directory();
        let part = directory.locked_empty_part("small.part", None).unwrap().unwrap();
        assert_eq!(directory.discard("small"), Discarded::InUse);
        let journal = directory.locked("large.journal").unwrap().unwrap();
        drop(directory.part("large.part", None).unwrap());
        assert_eq!(directory.discard("large"), Discarded::InUse);
        let mut names = directory.names("").unwrap();
        names.sort();
        assert_eq!(names, ["large.journal", "large.part", "small.part"]);
        drop((part, journal));
        assert_eq!(directory.discard("large"), Discarded::Removed);
    }
}
