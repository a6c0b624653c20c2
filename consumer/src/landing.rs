//! Giving a finished file its name: the one place that renames.

use std::{fs::File, io, os::unix::fs::MetadataExt as _, path::PathBuf};

use cap_std::fs::{Dir, MetadataExt as _};
use natsfer_common::{Digest, FileName};

use crate::{
    ConflictPolicy, ReceiveError, TargetDirectory,
    crossing::Crossing,
    move_without_replacing::move_without_replacing,
    staging::Staging,
    target::{Parent, sync_directory},
};

/// Names tried beside one that is taken.
const MOST_NUMBERS: u32 = 10_000;

/// What became of a file that was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Landing {
    /// It was landed.
    Landed,
    /// The same bytes were there already.
    Identical,
    /// Another file was there, and the policy is to leave it.
    Skipped,
}

impl Landing {
    /// Its name, for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Landed => "landed",
            Self::Identical => "identical",
            Self::Skipped => "skipped",
        }
    }
}

/// What became of a file, and where it stands, or what stands there.
pub(crate) type LandedAt = Result<(Landing, PathBuf), ReceiveError>;

/// What is known before a byte is moved.
#[derive(Debug)]
pub(crate) enum Forecast {
    /// It can be landed, and nothing stands there.
    Free,
    /// It can be landed beside what stands there, or in its place.
    Needed,
    /// It need not be: this is what stands there.
    Settled(Landing, PathBuf),
}

/// Looks in its parent directory whether the file is needed at all, given its size and digest where they are known already.
pub(crate) fn forecast(
    target: &TargetDirectory, parent: &Parent, name: &FileName, policy: ConflictPolicy, content: Option<(u64, Digest)>,
) -> Result<Forecast, ReceiveError> {
    let disk = |source| ReceiveError::naming(name.as_str(), target.path(), "cannot look at", source);
    let _landing = target.landing();
    for attempt in 0..MOST_NUMBERS {
        let candidate = candidate(name, attempt);
        let (_, file) = candidate.split();
        let Some(standing) = parent.standing(file).map_err(disk)? else {
            return Ok(if attempt == 0 { Forecast::Free } else { Forecast::Needed });
        };
        let path = target.path().join(parent.path_of(&standing));
        if let Some((size, digest)) = &content
            && parent.has_identical(&standing, *size, digest).map_err(disk)?
        {
            // Who put it there may have died before syncing.
            sync_directory(&parent.dir).map_err(disk)?;
            return Ok(Forecast::Settled(Landing::Identical, path));
        }
        match policy {
            ConflictPolicy::Rename => {}
            ConflictPolicy::Overwrite => break,
            ConflictPolicy::Skip => return Ok(Forecast::Settled(Landing::Skipped, path)),
            ConflictPolicy::Fail if content.is_some() => return Err(ReceiveError::Exists { path }),
            ConflictPolicy::Fail => break,
        }
    }
    Ok(Forecast::Needed)
}

/// Moves a staged, synced file to its name in its parent directory, where it is not durable yet. On return the part is gone: named,
/// or removed because it is not needed. `file` is what was written to the part, and must still be there.
pub(crate) fn name_it(
    staging: &Staging, file: &File, target: &TargetDirectory, parent: &Parent, name: &FileName, policy: ConflictPolicy,
    content: (u64, Digest),
) -> LandedAt {
    let failed = |source| ReceiveError::Disk { doing: "cannot land", path: target.path_of(name), source };
    let (staging, staged) = (&*staging.directory.dir, staging.part.as_str());
    let _landing = target.landing();
    if !is_intact(staging, staged, file, content.0).map_err(failed)? {
        return Err(failed(io::Error::other("somebody else has changed or replaced its part file")));
    }
    let mut crossing = Crossing::new(staging, staged, file, &parent.dir);
    for attempt in 0..MOST_NUMBERS {
        let candidate = candidate(name, attempt);
        let (_, file) = candidate.split();
        let standing = match parent.alias_of(file).map_err(failed)? {
            Some(other) => other,
            None => match crossing.rename(|from, staged| move_without_replacing(from, staged, &parent.dir, file)) {
                Ok(()) => {
                    let path = target.path().join(parent.path_of(file));
                    return Ok((Landing::Landed, path));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => file.to_owned(),
                Err(error) => return Err(ReceiveError::naming(name.as_str(), target.path(), "cannot land", error)),
            },
        };
        let file = standing.as_str();
        let path = target.path().join(parent.path_of(file));
        let (size, digest) = &content;
        let landing = if parent.has_identical(file, *size, digest).map_err(failed)? {
            Landing::Identical
        } else {
            match policy {
                ConflictPolicy::Rename => continue,
                ConflictPolicy::Overwrite => {
                    let renamed = crossing.rename(|from, staged| from.rename(staged, &parent.dir, file));
                    renamed.map_err(|error| match error.kind() {
                        io::ErrorKind::IsADirectory => ReceiveError::NotLandable {
                            name: name.to_string(),
                            target: target.path().to_path_buf(),
                            reason: "a directory of that name is there".into(),
                        },
                        _ => failed(error),
                    })?;
                    return Ok((Landing::Landed, path));
                }
                ConflictPolicy::Skip => Landing::Skipped,
                ConflictPolicy::Fail => return Err(ReceiveError::Exists { path }),
            }
        };
        staging.remove_file(staged).map_err(failed)?;
        return Ok((landing, path));
    }
    Err(ReceiveError::NotLandable {
        name: name.to_string(),
        target: target.path().to_path_buf(),
        reason: format!("it and {MOST_NUMBERS} names beside it are taken"),
    })
}

fn candidate(name: &FileName, attempt: u32) -> FileName {
    if attempt == 0 { name.clone() } else { name.numbered(attempt) }
}

/// Whether the staged name is still that of the file that was written, at its full length: somebody may have been at work there.
/// What was written over is not noticed.
fn is_intact(staging: &Dir, staged: &str, file: &File, size: u64) -> io::Result<bool> {
    let (written, named) = (file.metadata()?, staging.symlink_metadata(staged)?);
    let same = (written.dev(), written.ino()) == (named.dev(), named.ino());
    Ok(same && written.len() == size)
}
