//! Small files that come while others are being landed, to be landed together next.

use std::io;

use natsfer_common::Together;

use crate::{
    ReceiveError,
    inline::{SmallFile, land_together},
    landing::LandedAt,
};

/// Files that are landed together, at most: each keeps a few descriptors meanwhile.
const MOST_TOGETHER: usize = 64;
/// Groups that are landed at once: a disk that is far away answers one call after the other slowly.
const MOST_GROUPS: usize = 2;

/// What waits to be landed in one directory.
#[derive(Debug, Clone)]
pub(crate) struct Group(Together<SmallFile, LandedAt>);

impl Default for Group {
    fn default() -> Self {
        Self(Together::new(MOST_TOGETHER, MOST_GROUPS, |files| land_together(&files)))
    }
}

impl Group {
    /// Lands a small file, with those that wait at the same time.
    ///
    /// Dropped half-way, it is landed all the same.
    pub(crate) async fn land(&self, file: SmallFile) -> LandedAt {
        let path = file.target.path_of(&file.name);
        let given_up = || Err(ReceiveError::disk("cannot land", path)(io::Error::other("that was given up")));
        self.0.done(file).await.unwrap_or_else(given_up)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use natsfer_common::{ChunkSize, DigestAlgorithm, FileName, Manifest, TransferId};

    use super::*;
    use crate::{ConflictPolicy, Landing, TargetDirectory, staging::Owner};

    fn small_file(target: &TargetDirectory, name: &FileName, raw: &'static [u8]) -> SmallFile {
        let id = TransferId::random().unwrap();
        let manifest = Manifest::new(id, "a".parse().unwrap(), name.clone(), ChunkSize::new(65_536).unwrap());
        SmallFile {
            manifest,
            name: name.clone(),
            target: target.clone(),
            owner: Owner::Replay,
            policy: ConflictPolicy::Fail,
            raw: Bytes::from_static(raw),
            digest: DigestAlgorithm::Blake3.digest(raw),
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn however_many_come_at_once_each_is_landed_and_nobody_waits_for_ever() {
        let home = tempfile::tempdir().unwrap();
        let target = TargetDirectory::open(home.path()).unwrap();
        let senders = (0..100).map(|sender| {
            let target = target.clone();
            tokio::spawn(async move {
                for number in 0..10 {
                    let name = format!("{}/{sender}-{number}", number % 3).parse().unwrap();
                    let (landing, path) = target.group.land(small_file(&target, &name, b"small")).await.unwrap();
                    assert_eq!((landing, std::fs::read(path).unwrap()), (Landing::Landed, b"small".to_vec()));
                }
            })
        });
        for sender in senders.collect::<Vec<_>>() {
            sender.await.unwrap();
        }
    }

    #[tokio::test]
    async fn of_those_that_are_landed_together_each_ends_by_itself() {
        let home = tempfile::tempdir().unwrap();
        let target = TargetDirectory::open(home.path()).unwrap();
        let [taken, free] = ["taken", "free"].map(|name| name.parse::<FileName>().unwrap());
        std::fs::write(home.path().join("taken"), "another").unwrap();
        let files = [&taken, &free, &free].map(|name| small_file(&target, name, b"small"));
        let mut landed = land_together(&files).into_iter();
        assert!(matches!(landed.next(), Some(Err(ReceiveError::Exists { .. }))));
        assert!(matches!(landed.next(), Some(Ok((Landing::Landed, _)))));
        assert!(matches!(landed.next(), Some(Ok((Landing::Identical, _)))));
        let staged = std::fs::read_dir(home.path().join(".natsfer/replays")).unwrap();
        assert_eq!(staged.count(), 0, "something is left");
    }
}
