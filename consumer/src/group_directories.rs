//! Directories that files which are landed together have in common: each is opened once, and synced once.

use std::{cell::OnceCell, io, rc::Rc};

use natsfer_common::FileName;

use crate::{
    ReceiveError, TargetDirectory,
    rights::Inheritance,
    staging::{Owner, StagingDirectory},
    target::{Parent, sync_directory},
};

/// Those that files are staged in. One that cannot be opened is tried again for the next file.
#[derive(Debug, Default)]
pub(crate) struct StagingDirectories<'a>(Vec<(&'a TargetDirectory, &'a Owner, StagingDirectory)>);

/// Those right above the files. One that cannot be opened is tried again for the next file.
#[derive(Debug, Default)]
pub(crate) struct Parents<'a>(Vec<Rc<GroupParent<'a>>>);

/// The directory right above some of the files.
#[derive(Debug)]
pub(crate) struct GroupParent<'a> {
    target: &'a TargetDirectory,
    /// That of the first file.
    name: &'a FileName,
    pub(crate) parent: Parent,
    inheritance: OnceCell<Inheritance>,
    settled: OnceCell<Result<(), (io::ErrorKind, String)>>,
}

impl<'a> StagingDirectories<'a> {
    pub(crate) fn open(
        &mut self, target: &'a TargetDirectory, owner: &'a Owner,
    ) -> Result<StagingDirectory, ReceiveError> {
        if let Some((.., known)) = self.0.iter().find(|(of, whose, _)| of.is(target) && *whose == owner) {
            return Ok(known.clone());
        }
        let directory = StagingDirectory::open(target, owner)?;
        self.0.push((target, owner, directory.clone()));
        Ok(directory)
    }
}

impl<'a> Parents<'a> {
    /// Opens the directory that a file of this name belongs in.
    pub(crate) fn open(
        &mut self, target: &'a TargetDirectory, name: &'a FileName,
    ) -> Result<Rc<GroupParent<'a>>, ReceiveError> {
        let (directories, _) = name.split();
        let is_known = |known: &&Rc<GroupParent>| known.target.is(target) && known.name.split().0 == directories;
        if let Some(known) = self.0.iter().find(is_known) {
            return Ok(known.clone());
        }
        let opened = Rc::new(GroupParent {
            target,
            name,
            parent: target.parent(name)?,
            inheritance: OnceCell::new(),
            settled: OnceCell::new(),
        });
        self.0.push(opened.clone());
        Ok(opened)
    }
}

impl GroupParent<'_> {
    /// What files get from it that are made there.
    pub(crate) fn inheritance(&self) -> io::Result<Inheritance> {
        if let Some(known) = self.inheritance.get() {
            return Ok(known.clone());
        }
        let inheritance = self.parent.inheritance()?;
        Ok(self.inheritance.get_or_init(|| inheritance).clone())
    }

    /// Makes durable what files were named in it, the first time this is called; after that, says what came of it. To be called
    /// when all of them have their names.
    pub(crate) fn settle(&self) -> io::Result<()> {
        let settled = self.settled.get_or_init(|| self.try_settle().map_err(|error| (error.kind(), error.to_string())));
        settled.clone().map_err(|(kind, reason)| io::Error::new(kind, reason))
    }

    fn try_settle(&self) -> io::Result<()> {
        // Somebody may have moved it before all were named, and have looked into it already: what was named then is not where it
        // belongs. Whether it was then or later cannot be told; a file that comes once more is better than one that is missed.
        let there = self.target.parent(self.name).map_err(io::Error::other)?;
        if !there.is(&self.parent)? {
            return Err(io::Error::other("somebody has moved or removed its directory meanwhile"));
        }
        sync_directory(&self.parent.dir)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::target::Names;

    fn names<const N: usize>(names: [&str; N]) -> [FileName; N] {
        names.map(|name| name.parse().unwrap())
    }

    #[test]
    fn each_is_opened_once() {
        let home = tempfile::tempdir().unwrap();
        let target = TargetDirectory::open(home.path()).unwrap();
        let (clone, folding) = (target.clone(), target.with_names(Names::Folded));
        let files = names(["a/1", "a/2", "a/b/1", "1", "2"]);
        let mut parents = Parents::default();
        let [in_a, again, in_b, at_top, at_top_again] =
            [0, 1, 2, 3, 4].map(|file| parents.open(&target, &files[file]).unwrap());
        let [of_clone, of_folding] = [&clone, &folding].map(|target| parents.open(target, &files[0]).unwrap());
        assert!(Rc::ptr_eq(&in_a, &again) && Rc::ptr_eq(&at_top, &at_top_again) && Rc::ptr_eq(&in_a, &of_clone));
        assert!(!Rc::ptr_eq(&in_a, &of_folding), "other names are one there");
        assert!(!in_a.parent.is(&in_b.parent).unwrap() && !in_a.parent.is(&at_top.parent).unwrap());

        let [one, other] = ["one", "other"].map(|name| Owner::Receiver(name.parse().unwrap()));
        let mut staging = StagingDirectories::default();
        let [first, second, third] = [&one, &other, &one].map(|owner| staging.open(&target, owner).unwrap());
        assert!(std::sync::Arc::ptr_eq(&first.dir, &third.dir));
        assert_ne!(first.path, second.path);
    }

    #[test]
    fn one_that_is_not_at_its_place_is_not_settled() {
        let home = tempfile::tempdir().unwrap();
        let target = TargetDirectory::open(home.path()).unwrap();
        let files = names(["stays/1", "moved/1", "removed/1", "replaced/1", "1"]);
        let mut parents = Parents::default();
        let [stays, moved, removed, replaced, at_top] =
            [0, 1, 2, 3, 4].map(|file| parents.open(&target, &files[file]).unwrap());
        let at = |name: &str| home.path().join(name);
        fs::rename(at("moved"), at("elsewhere")).unwrap();
        fs::remove_dir(at("removed")).unwrap();
        fs::rename(at("replaced"), at("elsewhere, too")).unwrap();
        std::os::unix::fs::symlink("elsewhere, too", at("replaced")).unwrap();
        stays.settle().unwrap();
        at_top.settle().unwrap();
        for parent in [&moved, &removed, &replaced] {
            parent.settle().unwrap_err();
        }
        // For all files alike, whatever has happened since.
        fs::remove_dir(at("moved")).unwrap();
        fs::rename(at("elsewhere"), at("moved")).unwrap();
        assert!(moved.settle().unwrap_err().to_string().contains("moved or removed"));
        fs::rename(at("stays"), at("went later")).unwrap();
        stays.settle().unwrap();
    }
}
