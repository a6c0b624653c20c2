//! What an error of the file system means, by what was asked of it: the one table.
//!
//! A file is only rejected for what is its own fault. Everything else is the environment's, which somebody can mend: that is waited
//! for, or the file lands without what the place cannot do.

use std::io;

use rustix::io::Errno;

/// What was asked of the file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Call {
    /// To open, read, write, sync or remove.
    Use,
    /// To make the name that a sender has chosen, or a directory on the way to it.
    Name,
    /// To do what not every file system can.
    Do(Ability),
}

/// What not every file system can do, and what files can land without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ability {
    /// To set permission bits.
    Modes,
    /// To set modification times.
    Times,
    /// To give a file the group that its directory asks for.
    Groups,
    /// To give a file the access control list that its directory asks for.
    AccessLists,
    /// To lock a file against other processes.
    Locks,
    /// To rename a file only if the new name is free.
    MovesWithoutReplacing,
    /// To give a file a second name.
    Links,
    /// To make a file durable.
    FileSyncs,
    /// To make a directory's entries durable.
    DirectorySyncs,
}

/// What an error means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// It is the file's own fault, and no waiting helps.
    TheFile,
    /// It passes once somebody does something about it, and is waited for in place.
    Wait(Awaited),
    /// It may pass, and is tried again later.
    Passing,
    /// The file system has gone away under this process. What is opened anew may work.
    Unreachable,
    /// This place cannot do it.
    Lacking,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Awaited {
    /// Room on the disk, or within a quota.
    Room,
    /// A file system that can be written to.
    Writing,
}

/// Says what an error means.
pub(crate) fn meaning(call: Call, error: &io::Error) -> Meaning {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => return Meaning::Wait(Awaited::Room),
        io::ErrorKind::ReadOnlyFilesystem => return Meaning::Wait(Awaited::Writing),
        io::ErrorKind::NotConnected | io::ErrorKind::StaleNetworkFileHandle => return Meaning::Unreachable,
        io::ErrorKind::FileTooLarge => return Meaning::TheFile,
        _ => {}
    }
    match (call, errno) {
        (Call::Name, Some(Errno::NAMETOOLONG | Errno::ILSEQ | Errno::INVAL)) => Meaning::TheFile,
        (Call::Do(ability), Some(errno)) if ability.is_lacking(errno) => Meaning::Lacking,
        _ => Meaning::Passing,
    }
}

impl Ability {
    /// All of them.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 9] = [
        Self::Modes,
        Self::Times,
        Self::Groups,
        Self::AccessLists,
        Self::Locks,
        Self::MovesWithoutReplacing,
        Self::Links,
        Self::FileSyncs,
        Self::DirectorySyncs,
    ];

    fn is_lacking(self, errno: Errno) -> bool {
        // Some say so in the one way, some in the other.
        if matches!(errno, Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL | Errno::NOTTY) {
            return true;
        }
        match self {
            Self::Modes | Self::Times | Self::Groups | Self::AccessLists => {
                matches!(errno, Errno::PERM | Errno::ACCESS | Errno::OVERFLOW | Errno::RANGE)
            }
            Self::Locks => matches!(errno, Errno::NOLCK | Errno::PERM | Errno::ACCESS),
            Self::MovesWithoutReplacing => errno == Errno::PERM,
            Self::Links => matches!(errno, Errno::PERM | Errno::ACCESS | Errno::MLINK),
            Self::FileSyncs => false,
            // To be synced, it must be opened for reading.
            Self::DirectorySyncs => matches!(errno, Errno::PERM | Errno::ACCESS | Errno::BADF | Errno::ISDIR),
        }
    }

    /// What cannot be done, for people.
    #[must_use]
    pub fn what(self) -> &'static str {
        match self {
            Self::Modes => "set permissions",
            Self::Times => "set modification times",
            Self::Groups => "give files the group that their directory asks for",
            Self::AccessLists => "give files the access control list that their directory asks for",
            Self::Locks => "lock files",
            Self::MovesWithoutReplacing => "rename files without replacing others",
            Self::Links => "make hard links",
            Self::FileSyncs => "sync files",
            Self::DirectorySyncs => "sync directories",
        }
    }

    /// What follows from that, for people.
    #[must_use]
    pub fn consequence(self) -> &'static str {
        match self {
            Self::Modes => "files land with those that the file system gives them",
            Self::Times => "files land with the time of their landing",
            Self::Groups => "files are copied into such a directory when they land",
            Self::AccessLists => "files land with the rights that their senders say",
            Self::Locks => {
                "run one process only for each name on this directory, for others would take its unfinished files for left over"
            }
            Self::MovesWithoutReplacing => "names are taken by hard links instead",
            Self::Links => {
                "names are held by a small file until the file takes its place, which no program but natsfer respects"
            }
            Self::FileSyncs => "a file that has landed may be lost in a power cut",
            Self::DirectorySyncs => "the name of a file that has landed may be lost in a power cut",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(call: Call, errno: Errno) -> Meaning {
        meaning(call, &errno.into())
    }

    fn calls() -> impl Iterator<Item = Call> {
        [Call::Use, Call::Name].into_iter().chain(Ability::ALL.map(Call::Do))
    }

    #[test]
    fn what_the_environment_does_is_no_file_s_fault_whatever_was_asked() {
        for call in calls() {
            for (errno, expected) in [
                (Errno::ROFS, Meaning::Wait(Awaited::Writing)),
                (Errno::NOSPC, Meaning::Wait(Awaited::Room)),
                (Errno::DQUOT, Meaning::Wait(Awaited::Room)),
                (Errno::NOTCONN, Meaning::Unreachable),
                (Errno::STALE, Meaning::Unreachable),
                (Errno::IO, Meaning::Passing),
                (Errno::NOTDIR, Meaning::Passing),
                (Errno::NOENT, Meaning::Passing),
                (Errno::XDEV, Meaning::Passing),
                (Errno::BUSY, Meaning::Passing),
                (Errno::NFILE, Meaning::Passing),
                (Errno::MFILE, Meaning::Passing),
                (Errno::NOMEM, Meaning::Passing),
                (Errno::TIMEDOUT, Meaning::Passing),
            ] {
                assert_eq!(of(call, errno), expected, "{call:?} {errno:?}");
            }
        }
    }

    #[test]
    fn only_its_name_and_its_size_are_a_file_s_fault() {
        for call in calls() {
            let names = [Errno::NAMETOOLONG, Errno::ILSEQ, Errno::INVAL].map(|errno| of(call, errno));
            assert_eq!(names.contains(&Meaning::TheFile), call == Call::Name, "{call:?}");
            assert_eq!(of(call, Errno::FBIG), Meaning::TheFile);
            for errno in [Errno::PERM, Errno::ACCESS, Errno::OPNOTSUPP, Errno::NOSYS] {
                assert_ne!(of(call, errno), Meaning::TheFile, "{call:?} {errno:?}");
            }
        }
    }

    #[test]
    fn what_a_place_cannot_do_is_done_without() {
        for ability in Ability::ALL {
            for errno in [Errno::NOSYS, Errno::OPNOTSUPP, Errno::INVAL] {
                assert_eq!(of(Call::Do(ability), errno), Meaning::Lacking, "{ability:?} {errno:?}");
            }
        }
        for (ability, errno) in [
            (Ability::Modes, Errno::PERM),
            (Ability::Times, Errno::ACCESS),
            (Ability::Groups, Errno::PERM),
            (Ability::AccessLists, Errno::PERM),
            (Ability::Locks, Errno::NOLCK),
            (Ability::MovesWithoutReplacing, Errno::PERM),
            (Ability::Links, Errno::PERM),
            (Ability::Links, Errno::MLINK),
            (Ability::DirectorySyncs, Errno::ACCESS),
        ] {
            assert_eq!(of(Call::Do(ability), errno), Meaning::Lacking, "{ability:?} {errno:?}");
        }
        // A file that is not durable is not told as landed for that.
        assert_eq!(of(Call::Do(Ability::FileSyncs), Errno::PERM), Meaning::Passing);
        assert_eq!(of(Call::Use, Errno::PERM), Meaning::Passing);
    }

    #[test]
    fn what_is_known_by_its_kind_alone_means_the_same() {
        let of = |kind: io::ErrorKind| meaning(Call::Use, &io::Error::new(kind, "told by somebody else"));
        assert_eq!(of(io::ErrorKind::QuotaExceeded), Meaning::Wait(Awaited::Room));
        assert_eq!(of(io::ErrorKind::ReadOnlyFilesystem), Meaning::Wait(Awaited::Writing));
        assert_eq!(of(io::ErrorKind::StaleNetworkFileHandle), Meaning::Unreachable);
        assert_eq!(of(io::ErrorKind::Other), Meaning::Passing);
    }
}
