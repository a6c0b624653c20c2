//! Locking files against other processes, and against other work of this one.
//!
//! Where the file system has no locks, only this process's own work is kept apart: that is better than nothing landing at all.

use std::{
    collections::HashSet,
    fs::{File, TryLockError},
    io,
    ops::Deref,
    os::unix::fs::MetadataExt as _,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use crate::{disk_error::Ability, shortfall::if_possible};

/// Files that this process has locked without the file system's help: device and inode.
static CLAIMED: LazyLock<Mutex<HashSet<(u64, u64)>>> = LazyLock::new(Mutex::default);

/// A locked file. The lock lasts as long as it, and every clone of it, is open.
#[derive(Debug)]
pub(crate) struct Locked {
    file: File,
    claim: Option<Arc<Claim>>,
}

/// Given back when dropped.
#[derive(Debug)]
struct Claim((u64, u64));

impl Locked {
    /// Locks a file; `None` if somebody else has locked it.
    pub(crate) fn try_new(file: File) -> io::Result<Option<Self>> {
        let locked = match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
            Ok(()) => Ok(()),
        };
        if if_possible(Ability::Locks, locked)?.is_some() {
            return Ok(Some(Self { file, claim: None }));
        }
        Self::claim(file)
    }

    /// Locks a file as far as that can be done within this process.
    fn claim(file: File) -> io::Result<Option<Self>> {
        let metadata = file.metadata()?;
        let id = (metadata.dev(), metadata.ino());
        let is_free = CLAIMED.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        Ok(is_free.then(|| Self { file, claim: Some(Arc::new(Claim(id))) }))
    }

    /// Whether other processes respect the lock.
    pub(crate) fn holds_against_others(&self) -> bool {
        self.claim.is_none()
    }

    /// A second handle, which keeps the lock as well.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { file: self.file.try_clone()?, claim: self.claim.clone() })
    }
}

impl Deref for Locked {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        CLAIMED.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn within_one_process_a_file_is_locked_once_also_without_the_file_system_s_help() {
        let home = tempfile::tempdir().unwrap();
        let open = || File::options().create(true).append(true).open(home.path().join("a")).unwrap();
        for lock in [Locked::try_new, Locked::claim] {
            let first = lock(open()).unwrap().unwrap();
            let clone = first.try_clone().unwrap();
            assert!(lock(open()).unwrap().is_none());
            drop(first);
            assert!(lock(open()).unwrap().is_none(), "a clone still has it");
            drop(clone);
            assert!(lock(open()).unwrap().is_some());
        }
    }
}
