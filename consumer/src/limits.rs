//! How much a receiver takes from strangers.

use std::{collections::BTreeSet, fmt, str::FromStr};

use natsfer_common::{FileName, JournalEntry, Manifest};

use crate::ReceiveError;

/// A journal's header and what is around it, in bytes.
pub(crate) const MOST_JOURNAL_HEADER: u64 = 129 * 1024;

/// What a receiver refuses, or leaves for later, however well-formed it is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Largest file, in bytes; none by default. What its sender says counts, and then what comes.
    pub max_size: Option<u64>,
    /// Largest chunk, in bytes of the file, as it must be held in memory: 64 MiB by default, the protocol's limit.
    pub max_chunk: u64,
    /// Largest journal of one file, in bytes, 24 for each chunk: 64 MiB by default. It is read at once when the file is gone on
    /// with.
    pub max_journal: u64,
    /// Unfinished files kept on disk: 1,000 by default. Beyond them, the one that was left alone for longest is removed, and
    /// fetched again when its turn comes.
    pub max_parts: usize,
    /// Transfers that were given to this receiver and are not done, as the server counts them for all processes of the name: 500 by
    /// default. Beyond them, one that waits for its sender is rejected; of those that are received at once, perhaps several. Each is
    /// looked into again and again.
    pub max_open: u64,
    /// Kinds of files that are rejected; none by default.
    pub unwanted: BTreeSet<Unwanted>,
}

/// A kind of file that a receiver may not want.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unwanted {
    /// A component of its name begins with a dot.
    Hidden,
    /// Its name means something else on Windows, or cannot be used there. Names that differ only in case or in how Unicode
    /// composes them are then one name, and follow the conflict policy.
    Unportable,
    /// Its mode lets somebody execute it.
    Executable,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_size: None,
            max_chunk: 64 << 20,
            max_journal: 64 << 20,
            max_parts: 1_000,
            max_open: 500,
            unwanted: BTreeSet::new(),
        }
    }
}

impl Limits {
    /// With a largest file, in bytes.
    #[must_use]
    pub fn with_max_size(mut self, bytes: Option<u64>) -> Self {
        self.max_size = bytes;
        self
    }

    /// With a largest chunk, in bytes of the file.
    #[must_use]
    pub fn with_max_chunk(mut self, bytes: u64) -> Self {
        self.max_chunk = bytes;
        self
    }

    /// With a largest journal of one file, in bytes.
    #[must_use]
    pub fn with_max_journal(mut self, bytes: u64) -> Self {
        self.max_journal = bytes;
        self
    }

    /// With as many unfinished files kept on disk; at least one.
    #[must_use]
    pub fn with_max_parts(mut self, parts: usize) -> Self {
        self.max_parts = parts.max(1);
        self
    }

    /// With as many transfers waiting for their senders.
    #[must_use]
    pub fn with_max_open(mut self, transfers: u64) -> Self {
        self.max_open = transfers;
        self
    }

    /// Without files of this kind, too.
    #[must_use]
    pub fn without(mut self, unwanted: Unwanted) -> Self {
        self.unwanted.insert(unwanted);
        self
    }

    /// With no larger files than this, either.
    #[must_use]
    pub fn also_within(self, bytes: Option<u64>) -> Self {
        let max_size = self.max_size.into_iter().chain(bytes).min();
        Self { max_size, ..self }
    }

    /// Most bytes that a file in such chunks may have: what its size and its journal allow.
    pub(crate) fn most(&self, manifest: &Manifest) -> u64 {
        let chunks = self.max_journal / JournalEntry::BYTES;
        let journalled = chunks.saturating_mul(manifest.chunk_size.bytes().into());
        self.max_size.unwrap_or(u64::MAX).min(journalled)
    }

    /// Most bytes of a journal that are read: its entries, behind a header of at most 128 KiB.
    pub(crate) fn most_journal_file(&self) -> u64 {
        self.max_journal.saturating_add(MOST_JOURNAL_HEADER)
    }

    /// Whether a file may come, by what its sender says of it, to stand under this name.
    pub(crate) fn admit(&self, manifest: &Manifest, name: &FileName) -> Result<(), ReceiveError> {
        let transfer = manifest.transfer;
        let too_large = |what, bytes, limit| Err(ReceiveError::TooLarge { transfer, what, bytes, limit });
        // The whole of a small file is one chunk, however large its chunks might be.
        let chunk = u64::from(manifest.chunk_size.bytes()).min(manifest.size.unwrap_or(u64::MAX));
        if chunk > self.max_chunk {
            return too_large("a chunk", chunk, self.max_chunk);
        }
        let most = self.most(manifest);
        if let Some(size) = manifest.size.filter(|size| *size > most) {
            return too_large("the file", size, most);
        }
        match self.unwanted.iter().find_map(|unwanted| unwanted.found_in(manifest, name)) {
            Some(reason) => Err(ReceiveError::Unwanted { transfer, name: name.to_string(), reason }),
            None => Ok(()),
        }
    }
}

impl Unwanted {
    /// Why the file is of this kind; `None` if it is not.
    fn found_in(self, manifest: &Manifest, name: &FileName) -> Option<&'static str> {
        match self {
            Self::Hidden => name.is_hidden().then_some("a component of its name begins with a dot"),
            Self::Unportable => name.unportable(),
            Self::Executable => manifest.mode.filter(|mode| mode & 0o111 != 0).map(|_| "it is executable"),
        }
    }
}

impl FromStr for Unwanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "hidden" => Ok(Self::Hidden),
            "unportable" => Ok(Self::Unportable),
            "executable" => Ok(Self::Executable),
            _ => Err("what can be refused is hidden, unportable, executable".into()),
        }
    }
}

impl fmt::Display for Unwanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hidden => "hidden",
            Self::Unportable => "unportable",
            Self::Executable => "executable",
        })
    }
}

#[cfg(test)]
mod tests {
    use natsfer_common::ChunkSize;

    use super::*;

    fn manifest(size: Option<u64>, chunk_size: u32) -> Manifest {
        let id = "0".repeat(32).parse().unwrap();
        let mut manifest =
            Manifest::new(id, "a".parse().unwrap(), "b".parse().unwrap(), ChunkSize::new(chunk_size).unwrap());
        manifest.size = size;
        manifest
    }

    fn name() -> FileName {
        "b".parse().unwrap()
    }

    #[test]
    fn what_is_too_large_is_not_admitted() {
        let limits = Limits::default().with_max_size(Some(1_000)).with_max_chunk(100);
        for (size, chunk_size, admitted) in [
            (Some(1_000), 100, true),
            (Some(1_001), 100, false),
            (None, 100, true),
            (None, 101, false),
            (Some(100), 1 << 20, true),
            (Some(101), 1 << 20, false),
        ] {
            let manifest = manifest(size, chunk_size);
            assert_eq!(limits.admit(&manifest, &manifest.name).is_ok(), admitted, "{size:?} {chunk_size}");
        }
    }

    #[test]
    fn a_file_of_too_many_chunks_is_not_admitted() {
        let limits = Limits::default().with_max_journal(10 * JournalEntry::BYTES);
        assert!(limits.admit(&manifest(Some(40), 4), &name()).is_ok());
        assert!(limits.admit(&manifest(Some(41), 4), &name()).is_err());
        assert_eq!(limits.most(&manifest(None, 4)), 40);
        let endless = Limits::default().with_max_journal(u64::MAX);
        assert_eq!(endless.most(&manifest(None, 1 << 20)), u64::MAX);
    }

    #[test]
    fn kinds_of_files_can_be_refused() {
        let with = |name: &str, mode| {
            let mut manifest = manifest(Some(1), 1);
            (manifest.name, manifest.mode) = (name.parse().unwrap(), mode);
            manifest
        };
        let all =
            Limits::default().without(Unwanted::Hidden).without(Unwanted::Unportable).without(Unwanted::Executable);
        for (name, mode, admitted) in [
            ("a/b", Some(0o644), true),
            ("a/.b", None, false),
            (".ssh/authorized_keys", None, false),
            ("a/CON.txt", None, false),
            ("a", Some(0o744), false),
        ] {
            let manifest = with(name, mode);
            assert_eq!(all.admit(&manifest, &manifest.name).is_ok(), admitted, "{name}");
            assert!(Limits::default().admit(&manifest, &manifest.name).is_ok(), "{name}");
        }
    }
}
