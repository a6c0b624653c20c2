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
    use crate::{ConflictPolicy, Landing, TargetDirectory, inline::SmallFile, inline::tests::small_file};

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn however_many_come_at_once_each_is_landed_and_nobody_waits_for_ever() {
        let home = tempfile::tempdir().unwrap();
        let target = TargetDirectory::open(home.path()).unwrap();
        let senders = (0..100).map(|sender| {
            let target = target.clone();
            tokio::spawn(async move {
                for number in 0..10 {
                    let file = small_file(&target, &format!("{}/{sender}-{number}", number % 3));
                    let file = SmallFile { policy: ConflictPolicy::Fail, ..file };
                    let (landing, path) = target.group.land(file).await.unwrap();
                    assert_eq!((landing, std::fs::read(path).unwrap()), (Landing::Landed, b"small".to_vec()));
                }
            })
        });
        for sender in senders.collect::<Vec<_>>() {
            sender.await.unwrap();
        }
    }
}
