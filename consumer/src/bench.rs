//! Where a transfer's part is worked on: off the runtime, one piece of work at a time, waiting where the disk is full.

use std::{io, path::PathBuf};

use natsfer_common::{Digest, FileName, Manifest, Part, PartError, Progress, Totals, blocking};
use tokio::task::JoinHandle;

use crate::{
    ConflictPolicy, Landing, Limits, ReceiveError, TargetDirectory,
    landing::{LandedAt, name_it},
    part_files::PartFiles,
    room::Room,
    staging::Owner,
    target::sync_directory,
};

/// A part in work. Dropped, it stays on disk for the next run.
#[derive(Debug)]
pub(crate) struct Bench {
    manifest: Manifest,
    /// Where it is to land.
    name: FileName,
    target: TargetDirectory,
    room: Room,
    /// Away while it is worked on; for good if that work was given up by dropping it.
    part: Option<Part<PartFiles>>,
}

impl Bench {
    /// Opens the part, and checks what an earlier run left.
    pub(crate) async fn open(
        target: &TargetDirectory, owner: &Owner, manifest: &Manifest, name: &FileName, limits: &Limits,
    ) -> Result<Self, ReceiveError> {
        let mut room = Room::new(manifest.transfer);
        loop {
            let (files_target, owner, of, limits) = (target.clone(), owner.clone(), manifest.clone(), limits.clone());
            let opened = blocking(move || {
                let files = PartFiles::open(&files_target, &owner, &of, &limits)?;
                Part::open(files, &of)
                    .map(|part| part.within(limits.most(&of)))
                    .map_err(|source| disk(&files_target, &of, source))
            });
            match opened.await {
                Ok(part) => {
                    room.found();
                    let (manifest, name, target) = (manifest.clone(), name.clone(), target.clone());
                    return Ok(Self { manifest, name, target, room, part: Some(part) });
                }
                Err(ReceiveError::Disk { source, .. }) if room.try_again(&source).await => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// How far the file is.
    pub(crate) fn progress(&self) -> Progress {
        self.part.as_ref().map_or(Progress::Open, Part::progress)
    }

    /// The part, between two pieces of work.
    pub(crate) fn part(&self) -> Result<&Part<PartFiles>, ReceiveError> {
        self.part.as_ref().ok_or_else(|| self.gone())
    }

    fn gone(&self) -> ReceiveError {
        gone(&self.target, &self.manifest)
    }

    /// Says of what file that is.
    pub(crate) fn disk(&self, source: io::Error) -> ReceiveError {
        disk(&self.target, &self.manifest, source)
    }

    /// Does something with the part; again, as long as it fails because the disk is full.
    pub(crate) async fn work<T: Send + 'static>(
        &mut self, mut work: impl FnMut(&mut Part<PartFiles>) -> Result<T, PartError> + Send + 'static,
    ) -> Result<T, ReceiveError> {
        loop {
            let mut part = self.part.take().ok_or_else(|| self.gone())?;
            let result;
            (part, work, result) = blocking(move || {
                let result = work(&mut part);
                (part, work, result)
            })
            .await;
            self.part = Some(part);
            match result {
                Ok(done) => {
                    self.room.found();
                    return Ok(done);
                }
                Err(PartError::Store(error)) if self.room.try_again(&error).await => {}
                Err(PartError::Store(error)) => return Err(self.disk(error)),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Begins to make durable what was written so far, beside further work on the part.
    pub(crate) fn sync(&mut self) -> Result<JoinHandle<io::Result<()>>, ReceiveError> {
        let (target, manifest) = (&self.target, &self.manifest);
        let part = self.part.as_mut().ok_or_else(|| gone(target, manifest))?;
        let checkpoint = part.checkpoint().map_err(|error| disk(target, manifest, error))?;
        Ok(tokio::task::spawn_blocking(checkpoint))
    }

    /// Makes the part ready to be landed: digest compared, times and mode set, synced.
    pub(crate) async fn finish(&mut self, totals: Totals) -> Result<(), ReceiveError> {
        let (target, name) = (self.target.clone(), self.name.clone());
        let inheritance = blocking(move || {
            let inheritance = target.parent(&name)?.inheritance();
            inheritance.map_err(ReceiveError::disk("cannot look at the directory of", target.path_of(&name)))
        });
        let inheritance = inheritance.await?;
        self.work(move |part| {
            part.finish(&totals)?;
            Ok(part.store().finish(part.manifest(), &inheritance)?)
        })
        .await
    }

    /// Lands the finished file: renamed, directory synced. Part and journal are gone afterwards.
    pub(crate) async fn land(
        &mut self, totals: Totals, policy: ConflictPolicy,
    ) -> Result<(Landing, PathBuf, Digest), ReceiveError> {
        loop {
            match self.name(totals, policy).await {
                Ok((landing, path)) => {
                    self.room.found();
                    return Ok((landing, path, totals.digest));
                }
                Err(ReceiveError::Disk { source, .. }) if self.room.try_again(&source).await => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Gives the finished file its name.
    async fn name(&mut self, totals: Totals, policy: ConflictPolicy) -> LandedAt {
        let part = self.part.take().ok_or_else(|| self.gone())?;
        let (target, name) = (self.target.clone(), self.name.clone());
        let (part, landed) = blocking(move || {
            let PartFiles { staging, part: file, .. } = part.store();
            let content = (totals.size, totals.digest);
            let landed = target.parent(&name).and_then(|parent| {
                let (landing, path) = name_it(staging, file, &target, &parent, &name, policy, content)?;
                sync_directory(&parent.dir).map_err(ReceiveError::disk("cannot land", &path))?;
                target.ensure_in_place()?;
                Ok((landing, path))
            });
            if landed.is_ok() {
                staging.clear();
            }
            // Held, and with it its lock, until the file has its name.
            (part, landed)
        })
        .await;
        self.part = Some(part);
        landed
    }

    /// Gives the transfer up for good: nothing stays on disk.
    pub(crate) async fn discard(self) {
        if let Some(part) = self.part {
            blocking(move || part.store().staging.clear()).await;
        }
    }
}

fn gone(target: &TargetDirectory, manifest: &Manifest) -> ReceiveError {
    disk(target, manifest, io::Error::other("the part was left in the middle of a write"))
}

fn disk(target: &TargetDirectory, manifest: &Manifest, source: io::Error) -> ReceiveError {
    ReceiveError::Disk { doing: "cannot write the part file of", path: target.path_of(&manifest.name), source }
}
