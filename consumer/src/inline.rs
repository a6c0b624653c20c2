//! Small files, which come inside their manifests' messages.

use std::{
    fs::File,
    io::{self, Write as _},
    path::PathBuf,
};

use bytes::Bytes;
use natsfer_common::{Digest, FileName, Inline, InlineError, Manifest, PartError};

use rustix::fs::{Advice, fadvise};

use crate::{
    ConflictPolicy, Landing, ReceiveError, TargetDirectory,
    landing::{Forecast, Named, forecast, name_it},
    part_files::set_attributes,
    quota::Reservation,
    staging::{Owner, Staging},
    target::SyncedDirectories,
};

/// The file that came inside its manifest's message.
pub(crate) fn decode_inline(
    manifest: &Manifest, inline: Inline, payload: Bytes, crc32: Option<&str>,
) -> Result<Bytes, ReceiveError> {
    let transfer = manifest.transfer;
    inline.decode(manifest, payload, crc32).map_err(|error| match error {
        InlineError::Damaged(reason) => ReceiveError::InlineDamaged { transfer, reason },
        InlineError::DigestMismatch { expected, found } => {
            PartError::DigestMismatch { transfer, expected, found }.into()
        }
    })
}

/// A small file that is to land.
#[derive(Debug)]
pub(crate) struct SmallFile {
    pub(crate) manifest: Manifest,
    /// Its name in the target.
    pub(crate) name: FileName,
    pub(crate) target: TargetDirectory,
    pub(crate) owner: Owner,
    pub(crate) policy: ConflictPolicy,
    /// Verified.
    pub(crate) raw: Bytes,
    pub(crate) digest: Digest,
}

/// How far one is.
enum Step<'a> {
    /// It is written, and has no name yet.
    Staged(Staged<'a>),
    /// It has its name, which is not durable yet.
    Named(Named),
    /// It has ended.
    Ended(Result<(Landing, PathBuf), ReceiveError>),
}

/// A small file under its temporary name.
struct Staged<'a> {
    file: &'a SmallFile,
    staging: Staging,
    /// Held, and with it its lock, until it has its name.
    part: File,
    _reservation: Option<Reservation>,
}

/// Lands several, in this order, and says what became of each: all are written, each is synced, and each directory once. Blocking.
///
/// A file system that keeps a journal writes it once for all of them.
pub(crate) fn land_together(files: &[SmallFile]) -> Vec<Result<(Landing, PathBuf), ReceiveError>> {
    let staged: Vec<_> = files.iter().map(SmallFile::stage).collect();
    if files.len() > 1 {
        staged.iter().for_each(Step::begin_writing_out);
    }
    let synced: Vec<_> = staged.into_iter().map(|step| step.go_on(Staged::sync)).collect();
    let named: Vec<_> = synced.into_iter().map(|step| step.go_on(Staged::name)).collect();
    let mut directories = SyncedDirectories::default();
    named.into_iter().map(|step| step.end(&mut directories)).collect()
}

impl SmallFile {
    fn stage(&self) -> Step<'_> {
        self.try_stage().unwrap_or_else(|error| Step::Ended(Err(error)))
    }

    fn try_stage(&self) -> Result<Step<'_>, ReceiveError> {
        let Self { manifest, name, target, owner, policy, raw, digest } = self;
        let size = raw.len() as u64;
        if let Forecast::Settled(landing, path) = forecast(target, name, *policy, Some((size, *digest)))? {
            return Ok(Step::Ended(Ok((landing, path))));
        }
        let staging = Staging::open(target, owner, manifest.transfer)?;
        let Some(part) = staging.directory.locked(&staging.part).map_err(self.disk())? else {
            return Err(ReceiveError::Busy { transfer: manifest.transfer });
        };
        let reserved = target.reserve(&staging.directory, &staging.part, manifest.transfer, Some(size));
        let _reservation = reserved.inspect_err(|_| staging.clear())?;
        let staged = Staged { file: self, staging, part, _reservation };
        staged.done(staged.write()).map(|()| Step::Staged(staged))
    }

    fn disk(&self) -> impl FnOnce(io::Error) -> ReceiveError {
        ReceiveError::disk("cannot write", self.target.path_of(&self.name))
    }
}

impl<'a> Step<'a> {
    fn begin_writing_out(&self) {
        if let Self::Staged(staged) = self {
            // So much for Linux, which begins at once; wherever that fails, the sync does all.
            let _ = fadvise(&staged.part, 0, None, Advice::DontNeed);
        }
    }

    fn go_on(self, next: impl FnOnce(Staged<'a>) -> Result<Self, ReceiveError>) -> Self {
        match self {
            Self::Staged(staged) => next(staged).unwrap_or_else(|error| Self::Ended(Err(error))),
            _ => self,
        }
    }

    fn end(self, directories: &mut SyncedDirectories) -> Result<(Landing, PathBuf), ReceiveError> {
        match self {
            Self::Named(Named { landing, path, parent }) => {
                directories.sync(&parent.dir).map_err(ReceiveError::disk("cannot land", &path))?;
                Ok((landing, path))
            }
            Self::Ended(result) => result,
            Self::Staged(staged) => Err(staged.file.disk()(io::Error::other("it was given no name"))),
        }
    }
}

impl<'a> Staged<'a> {
    fn write(&self) -> io::Result<()> {
        self.part.set_len(0)?;
        (&self.part).write_all(&self.file.raw)?;
        set_attributes(&self.part, &self.file.manifest)
    }

    fn sync(self) -> Result<Step<'a>, ReceiveError> {
        self.done(self.part.sync_all()).map(|()| Step::Staged(self))
    }

    fn name(self) -> Result<Step<'a>, ReceiveError> {
        let SmallFile { name, target, policy, raw, digest, .. } = self.file;
        let (dir, part, content) = (&self.staging.directory.dir, &self.staging.part, (raw.len() as u64, *digest));
        let named = name_it(dir, part, &self.part, target, name, *policy, content);
        named.inspect_err(|_| self.staging.clear()).map(Step::Named)
    }

    /// What failed leaves nothing.
    fn done(&self, result: io::Result<()>) -> Result<(), ReceiveError> {
        result.inspect_err(|_| self.staging.clear()).map_err(self.file.disk())
    }
}
