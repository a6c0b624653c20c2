//! What happens when a name is taken already.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use natsfer_tests::steps::{drain, nothing_left_but, receiving, send};
use natsfer_tests::{Proxy, Server, files};
use tempfile::TempDir;

const MIB: u64 = 1 << 20;

/// Two files are sent, one small and one of several chunks; the inbox has others of their names, and a third that is the
/// same on both sides.
struct Scene {
    server: Server,
    home: TempDir,
}

impl Scene {
    async fn set() -> Self {
        let scene = Self { server: Server::start().await, home: tempfile::tempdir().unwrap() };
        for (directory, seed) in [("outbox", 1), ("inbox", 2), ("before", 2)] {
            let directory = scene.home.path().join(directory);
            files::text_file(directory.join("note.txt"), 1000, seed);
            files::random_file(directory.join("year/big.tar.gz"), 3 * MIB, seed);
            files::random_file(directory.join("same.bin"), 2 * MIB, 3);
            for name in ["note.txt", "year/big.tar.gz", "same.bin"] {
                let file = std::fs::File::options().write(true).open(directory.join(name)).unwrap();
                file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_500_000_000)).unwrap();
            }
        }
        send(&scene.server, &[], &[scene.outbox("note.txt"), scene.outbox("year"), scene.outbox("same.bin")]).await;
        scene
    }

    fn outbox(&self, name: &str) -> PathBuf {
        self.home.path().join("outbox").join(name)
    }

    fn inbox(&self, name: &str) -> PathBuf {
        self.home.path().join("inbox").join(name)
    }

    /// As the inbox was.
    fn before(&self, name: &str) -> PathBuf {
        self.home.path().join("before").join(name)
    }

    /// The names of what is in the inbox.
    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = [self.inbox(""), self.inbox("year")]
            .iter()
            .flat_map(|directory| directory.read_dir().unwrap())
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.file_type().unwrap().is_file())
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

#[track_caller]
fn assert_same_bytes(one: impl AsRef<Path>, other: impl AsRef<Path>) {
    let (one, other) = (one.as_ref(), other.as_ref());
    assert!(std::fs::read(one).unwrap() == std::fs::read(other).unwrap(), "{} {}", one.display(), other.display());
}

#[tokio::test]
async fn rename_lands_beside_what_is_there() {
    let scene = Scene::set().await;
    assert_eq!(drain(&scene.server, "r", scene.inbox(""), &[]).await.len(), 3);
    assert_eq!(scene.names(), ["big (1).tar.gz", "big.tar.gz", "note (1).txt", "note.txt", "same.bin"]);
    assert_same_bytes(scene.inbox("note (1).txt"), scene.outbox("note.txt"));
    assert_same_bytes(scene.inbox("year/big (1).tar.gz"), scene.outbox("year/big.tar.gz"));
    for name in ["note.txt", "year/big.tar.gz", "same.bin"] {
        files::assert_same(scene.inbox(name), scene.before(name));
    }
    nothing_left_but(&scene.server, &["r"]).await;
}

#[tokio::test]
async fn overwrite_replaces_what_is_there() {
    let scene = Scene::set().await;
    assert_eq!(drain(&scene.server, "o", scene.inbox(""), &["--on-conflict", "overwrite"]).await.len(), 3);
    assert_eq!(scene.names(), ["big.tar.gz", "note.txt", "same.bin"]);
    for name in ["note.txt", "year/big.tar.gz"] {
        files::assert_same(scene.inbox(name), scene.outbox(name));
    }
    assert_same_bytes(scene.inbox("same.bin"), scene.outbox("same.bin"));
    nothing_left_but(&scene.server, &["o"]).await;
}

#[tokio::test]
async fn skip_leaves_what_is_there_and_does_not_come_again() {
    let scene = Scene::set().await;
    let options = ["--on-conflict", "skip"];
    let events = drain(&scene.server, "s", scene.inbox(""), &options).await;
    assert!(events.iter().all(|event| event["event"] != "received" || event["name"] == "same.bin"), "{events:?}");
    assert_eq!(scene.names(), ["big.tar.gz", "note.txt", "same.bin"]);
    files::assert_same(scene.home.path().join("before"), scene.inbox(""));
    assert!(drain(&scene.server, "s", scene.inbox(""), &options).await.is_empty());
    nothing_left_but(&scene.server, &["s"]).await;
}

#[tokio::test]
async fn fail_leaves_what_is_there_and_says_so() {
    let scene = Scene::set().await;
    files::random_file(scene.outbox("new.bin"), 500, 4);
    send(&scene.server, &[], &[scene.outbox("new.bin")]).await;
    let command = receiving(&scene.server, "f", scene.inbox(""), &["--on-conflict", "fail", "--drain"]);
    let output = command.run().await.exited(1);
    assert!(output.errors().contains("note.txt") && output.errors().contains("big.tar.gz"), "{}", output.errors());
    assert_eq!(scene.names(), ["big.tar.gz", "new.bin", "note.txt", "same.bin"]);
    files::assert_same(scene.inbox("new.bin"), scene.outbox("new.bin"));
    for name in ["note.txt", "year/big.tar.gz", "same.bin"] {
        files::assert_same(scene.inbox(name), scene.before(name));
    }
    nothing_left_but(&scene.server, &["f"]).await;
}

#[tokio::test]
async fn an_identical_file_is_not_fetched_again_whatever_the_policy() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (source, inbox) = (home.path().join("big.tar.gz"), home.path().join("inbox"));
    files::random_file(&source, 8 * MIB, 1);
    send(&server, &[], &[&source]).await;
    drain(&server, "first", &inbox, &[]).await;
    let proxy = Proxy::to(&server.url()).await;
    for policy in ["rename", "overwrite", "skip", "fail"] {
        let events = drain(&proxy, policy, &inbox, &["--on-conflict", policy]).await;
        assert_eq!(events.len(), 1, "{policy}");
        files::assert_same(&source, inbox.join("big.tar.gz"));
    }
    assert_eq!(inbox.read_dir().unwrap().filter(|entry| entry.as_ref().unwrap().file_name() != ".natsfer").count(), 1);
    assert!(proxy.bytes_down() < MIB, "{} bytes were fetched", proxy.bytes_down());
}

#[tokio::test]
async fn one_name_with_several_contents_lands_under_as_many_names() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (source, inbox) = (home.path().join("x".repeat(251) + ".txt"), home.path().join("inbox"));
    for seed in 0..3 {
        files::random_file(&source, 2000, seed);
        send(&server, &["-c", &format!("from.{seed}")], &[&source]).await;
    }
    drain(&server, "many", &inbox, &["--concurrency", "4"]).await;
    let files: Vec<_> =
        inbox.read_dir().unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect();
    let mut digests: Vec<_> = files.iter().map(files::digest).collect();
    digests.sort();
    digests.dedup();
    assert_eq!((files.len(), digests.len()), (3, 3), "{files:?}");
    assert!(files.iter().all(|path| path.extension().is_some_and(|ending| ending == "txt")), "{files:?}");
}
