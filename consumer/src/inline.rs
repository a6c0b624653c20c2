//! Small files, which come inside their manifests' messages.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    rc::Rc,
};

use bytes::Bytes;
use natsfer_common::{Digest, FileName, Inline, InlineError, Manifest, PartError};

use rustix::fs::{Advice, fadvise};

use crate::{
    ConflictPolicy, Landing, ReceiveError, TargetDirectory,
    group_directories::{GroupParent, Parents, StagingDirectories},
    landing::{Forecast, LandedAt, forecast, name_it},
    lock::Locked,
    part_files::set_attributes,
    quota::Reservation,
    rights::Inheritance,
    staging::{Owner, Staging},
    target::sync_file,
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
    Named { landing: Landing, path: PathBuf, parent: Rc<GroupParent<'a>> },
    /// It has ended.
    Ended(LandedAt),
}

/// A small file under its temporary name.
struct Staged<'a> {
    file: &'a SmallFile,
    staging: Staging,
    /// Held, and with it its lock, until it has its name.
    part: Locked,
    _reservation: Option<Reservation>,
}

/// Lands several, in this order, and says what became of each: all are written, each is synced, and each directory once. Blocking.
///
/// A file system that keeps a journal writes it once for all of them.
pub(crate) fn land_together(files: &[SmallFile]) -> Vec<LandedAt> {
    let staged = stage_all(files);
    if files.len() > 1 {
        staged.iter().for_each(Step::begin_writing_out);
    }
    let synced: Vec<_> = staged.into_iter().map(|step| step.go_on(Staged::sync)).collect();
    in_place(files, name_all(synced).into_iter().map(Step::end).collect())
}

/// Nothing has landed where the directory is not the one any more that its path leads to.
fn in_place(files: &[SmallFile], landed: Vec<LandedAt>) -> Vec<LandedAt> {
    // Those that are landed together share the directory.
    if files.first().is_none_or(|file| file.target.ensure_in_place().is_ok()) {
        return landed;
    }
    let pairs = landed.into_iter().zip(files);
    pairs.map(|(landed, file)| file.target.ensure_in_place().and(landed)).collect()
}

fn stage_all(files: &[SmallFile]) -> Vec<Step<'_>> {
    let (mut parents, mut staging) = (Parents::default(), StagingDirectories::default());
    let staged = files.iter().map(|file| file.stage(&mut parents, &mut staging));
    staged.map(|staged| staged.unwrap_or_else(|error| Step::Ended(Err(error)))).collect()
}

fn name_all(synced: Vec<Step<'_>>) -> Vec<Step<'_>> {
    // Opened anew: writing and syncing took its time, and some may have been moved or removed.
    let mut parents = Parents::default();
    synced.into_iter().map(|step| step.go_on(|staged| staged.name(&mut parents))).collect()
}

impl SmallFile {
    fn stage<'a>(
        &'a self, parents: &mut Parents<'a>, staging: &mut StagingDirectories<'a>,
    ) -> Result<Step<'a>, ReceiveError> {
        let Self { manifest, name, target, owner, policy, raw, digest } = self;
        let size = raw.len() as u64;
        let parent = parents.open(target, name)?;
        if let Forecast::Settled(landing, path) =
            forecast(target, &parent.parent, name, *policy, Some((size, *digest)))?
        {
            return Ok(Step::Ended(Ok((landing, path))));
        }
        let staging = Staging::within(staging.open(target, owner)?, manifest.transfer);
        let Some(part) = staging.directory.locked_empty_part(&staging.part, manifest.mode).map_err(self.disk())? else {
            return Err(ReceiveError::Busy { transfer: manifest.transfer });
        };
        let reserved = target.reserve(&staging.directory, &staging.part, manifest.transfer, Some(size));
        let _reservation = reserved.inspect_err(|_| staging.clear())?;
        let staged = Staged { file: self, staging, part, _reservation };
        let written = parent.inheritance().and_then(|inheritance| staged.write(&inheritance));
        staged.done(written).map(|()| Step::Staged(staged))
    }

    fn disk(&self) -> impl FnOnce(io::Error) -> ReceiveError {
        ReceiveError::disk("cannot write", self.target.path_of(&self.name))
    }
}

impl<'a> Step<'a> {
    fn begin_writing_out(&self) {
        if let Self::Staged(staged) = self {
            // So much for Linux, which begins at once; wherever that fails, the sync does all.
            let _ = fadvise(&*staged.part, 0, None, Advice::DontNeed);
        }
    }

    fn go_on(self, next: impl FnOnce(Staged<'a>) -> Result<Self, ReceiveError>) -> Self {
        match self {
            Self::Staged(staged) => next(staged).unwrap_or_else(|error| Self::Ended(Err(error))),
            _ => self,
        }
    }

    fn end(self) -> LandedAt {
        match self {
            Self::Named { landing, path, parent } => {
                parent.settle().map_err(ReceiveError::disk("cannot land", &path))?;
                Ok((landing, path))
            }
            Self::Ended(result) => result,
            Self::Staged(staged) => Err(staged.file.disk()(io::Error::other("it was given no name"))),
        }
    }
}

impl<'a> Staged<'a> {
    fn write(&self, inheritance: &Inheritance) -> io::Result<()> {
        (&*self.part).write_all(&self.file.raw)?;
        set_attributes(&self.part, &self.file.manifest, inheritance, &self.staging.directory.inheritance)
    }

    fn sync(self) -> Result<Step<'a>, ReceiveError> {
        self.done(sync_file(self.part.sync_all())).map(|()| Step::Staged(self))
    }

    fn name(self, parents: &mut Parents<'a>) -> Result<Step<'a>, ReceiveError> {
        let SmallFile { name, target, policy, raw, digest, .. } = self.file;
        let content = (raw.len() as u64, *digest);
        let named = parents.open(target, name).and_then(|parent| {
            let (landing, path) = name_it(&self.staging, &self.part, target, &parent.parent, name, *policy, content)?;
            Ok(Step::Named { landing, path, parent })
        });
        named.inspect_err(|_| self.staging.clear())
    }

    /// What failed leaves nothing.
    fn done(&self, result: io::Result<()>) -> Result<(), ReceiveError> {
        result.inspect_err(|_| self.staging.clear()).map_err(self.file.disk())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{
        fs,
        os::unix::fs::{MetadataExt as _, symlink},
        path::Path,
    };

    use natsfer_common::{ChunkSize, DigestAlgorithm, STAGING_DIRECTORY, TransferId};

    use super::*;

    const RAW: &[u8] = b"small";

    pub(crate) fn small_file(target: &TargetDirectory, name: &str) -> SmallFile {
        let (id, name) = (TransferId::random().unwrap(), name.parse::<FileName>().unwrap());
        let mut manifest = Manifest::new(id, "a".parse().unwrap(), name.clone(), ChunkSize::new(65_536).unwrap());
        manifest.mode = Some(0o640);
        SmallFile {
            manifest,
            name,
            target: target.clone(),
            owner: Owner::Replay,
            policy: ConflictPolicy::Rename,
            raw: Bytes::from_static(RAW),
            digest: DigestAlgorithm::Blake3.digest(RAW),
        }
    }

    /// What stands below a directory, but for directories.
    fn files_below(path: &Path) -> Vec<String> {
        let below = |entry: fs::DirEntry| {
            let name = entry.file_name().into_string().unwrap();
            if !entry.file_type().unwrap().is_dir() {
                return vec![name];
            }
            files_below(&entry.path()).into_iter().map(|file| format!("{name}/{file}")).collect()
        };
        let mut files: Vec<_> = fs::read_dir(path).unwrap().flat_map(|entry| below(entry.unwrap())).collect();
        files.sort();
        files
    }

    /// Lands them, after something else was done once they were staged.
    fn land_after(files: &[SmallFile], meanwhile: impl FnOnce()) -> Vec<LandedAt> {
        let staged = stage_all(files);
        meanwhile();
        name_all(staged).into_iter().map(Step::end).collect()
    }

    #[test]
    fn wherever_they_belong_and_whosever_they_are_each_lands() {
        let home = tempfile::tempdir().unwrap();
        let target = TargetDirectory::open(home.path()).unwrap();
        let names = ["1", "2", "a/1", "a/2", "a/b/1", "c/1"];
        let mut files = names.map(|name| small_file(&target, name));
        files[1].owner = Owner::Receiver("phoenix".parse().unwrap());
        files[2].owner = Owner::Receiver("other".parse().unwrap());
        files[3].owner = Owner::Receiver("phoenix".parse().unwrap());
        for (landed, name) in land_together(&files).into_iter().zip(names) {
            let (landing, path) = landed.unwrap();
            assert_eq!((landing, &path), (Landing::Landed, &home.path().join(name)));
            assert_eq!(fs::read(&path).unwrap(), RAW);
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
        }
        assert_eq!(files_below(home.path()), names, "something is left");
        let again = land_together(&files);
        assert!(again.iter().all(|landed| matches!(landed, Ok((Landing::Identical, _)))), "{again:?}");
    }

    #[test]
    fn what_an_earlier_run_has_left_of_one_is_no_part_of_it() {
        let home = tempfile::tempdir().unwrap();
        let target = TargetDirectory::open(home.path()).unwrap();
        let files = ["a/1", "a/2"].map(|name| small_file(&target, name));
        let staging = Staging::open(&target, &Owner::Replay, files[0].manifest.transfer).unwrap();
        fs::write(staging.directory.path.join(&staging.part), "much longer than what takes its place").unwrap();
        for landed in land_together(&files) {
            assert_eq!(fs::read(landed.unwrap().1).unwrap(), RAW);
        }
    }

    #[test]
    fn a_directory_that_goes_before_they_are_named_is_made_anew() {
        let home = tempfile::tempdir().unwrap();
        let target = TargetDirectory::open(home.path()).unwrap();
        let files = ["removed/1", "removed/2", "moved/1", "moved/2"].map(|name| small_file(&target, name));
        let landed = land_after(&files, || {
            fs::remove_dir(home.path().join("removed")).unwrap();
            fs::rename(home.path().join("moved"), home.path().join("elsewhere")).unwrap();
        });
        assert!(landed.iter().all(Result::is_ok), "{landed:?}");
        assert_eq!(files_below(home.path()), ["moved/1", "moved/2", "removed/1", "removed/2"]);
    }

    #[test]
    fn one_whose_directory_goes_while_they_are_named_has_not_landed() {
        let home = tempfile::tempdir().unwrap();
        let target = TargetDirectory::open(home.path()).unwrap();
        let files = ["removed/1", "moved/1", "stays/1"].map(|name| small_file(&target, name));
        let mut parents = Parents::default();
        for file in &files {
            parents.open(&target, &file.name).unwrap();
        }
        let staged = stage_all(&files);
        fs::remove_dir(home.path().join("removed")).unwrap();
        fs::rename(home.path().join("moved"), home.path().join("elsewhere")).unwrap();
        let named = staged.into_iter().map(|step| step.go_on(|staged| staged.name(&mut parents)));
        let landed: Vec<_> = named.collect::<Vec<_>>().into_iter().map(Step::end).collect();
        assert!(
            matches!(&landed[0], Err(ReceiveError::Disk { source, .. }) if source.kind() == io::ErrorKind::NotFound)
        );
        assert!(matches!(&landed[1], Err(error) if error.failure() == crate::Failure::Passing), "{landed:?}");
        assert!(landed[2].is_ok());
        // They come again.
        let again = land_together(&files);
        assert!(again.iter().all(Result::is_ok), "{again:?}");
        assert_eq!(files_below(home.path()), ["elsewhere/1", "moved/1", "removed/1", "stays/1"]);
    }

    #[test]
    fn a_symbolic_link_leads_nowhere() {
        let (home, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let target = TargetDirectory::open(home.path()).unwrap();
        let [before, after, fine] = ["before/1", "after/1", "fine/1"].map(|name| small_file(&target, name));
        symlink(outside.path(), home.path().join("before")).unwrap();
        let files = [before, after, fine];
        let landed = land_after(&files, || {
            fs::remove_dir(home.path().join("after")).unwrap();
            symlink(outside.path(), home.path().join("after")).unwrap();
        });
        for refused in &landed[..2] {
            assert!(matches!(refused, Err(ReceiveError::NotLandable { .. })), "{refused:?}");
        }
        assert!(landed[2].is_ok());

        let replays = home.path().join(STAGING_DIRECTORY).join("replays");
        assert_eq!(files_below(&replays), [""; 0], "what is refused leaves nothing");
        fs::remove_dir(&replays).unwrap();
        symlink(outside.path(), &replays).unwrap();
        let mut files = ["fine/2", "fine/3"].map(|name| small_file(&target, name));
        files[1].owner = Owner::Receiver("phoenix".parse().unwrap());
        let landed = land_together(&files);
        assert!(matches!(landed[0], Err(ReceiveError::Disk { .. })), "{landed:?}");
        assert!(landed[1].is_ok());
        assert_eq!(files_below(outside.path()), [""; 0]);
    }

    #[test]
    fn of_those_that_are_landed_together_each_ends_by_itself() {
        let home = tempfile::tempdir().unwrap();
        let target = TargetDirectory::open(home.path()).unwrap();
        fs::write(home.path().join("taken"), "another").unwrap();
        let files = ["taken", "free", "free"]
            .map(|name| SmallFile { policy: ConflictPolicy::Fail, ..small_file(&target, name) });
        let mut landed = land_together(&files).into_iter();
        assert!(matches!(landed.next(), Some(Err(ReceiveError::Exists { .. }))));
        assert!(matches!(landed.next(), Some(Ok((Landing::Landed, _)))));
        assert!(matches!(landed.next(), Some(Ok((Landing::Identical, _)))));
        let staged = fs::read_dir(home.path().join(".natsfer/replays")).unwrap();
        assert_eq!(staged.count(), 0, "something is left");
    }
}
