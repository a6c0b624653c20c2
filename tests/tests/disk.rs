//! The receiver's disk: a directory that goes away, file systems that cannot do everything, and what others see of it.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use natsfer_consumer::{
    Broker, ConnectOptions, PastTransfers, ReceiveError, Receiver, ReceiverOptions, Replays, SaveOptions,
    TargetDirectory,
};
use natsfer_tests::steps::{drain, receipts, receiving, send, sending, staged_files};
use natsfer_tests::{Proxy, Server, consumer, eventually, files, our_binary, program};

const SOON: Duration = Duration::from_secs(60);
const MIB: u64 = 1 << 20;

/// Two files, one that travels in its manifest's message, and one of several chunks.
fn outbox(home: &Path) -> PathBuf {
    let outbox = home.join("outbox");
    files::random_file(outbox.join("small"), 1_000, 1);
    files::random_file(outbox.join("large"), 3 * MIB, 2);
    outbox
}

/// A way for a directory to go while it is in use, by name: another one stands at its path then.
type Way = (&'static str, fn(&Path));

const WAYS: [Way; 3] = [
    ("moved", |inbox| {
        fs::rename(inbox, inbox.with_extension("old")).unwrap();
        fs::create_dir(inbox).unwrap();
    }),
    ("linked", |inbox| {
        fs::remove_file(inbox).unwrap();
        symlink("other", inbox).unwrap();
    }),
    ("above", |inbox| {
        let above = inbox.parent().unwrap();
        fs::rename(above, above.with_extension("old")).unwrap();
        fs::create_dir_all(inbox).unwrap();
    }),
];

fn inbox(home: &Path, way: &str) -> PathBuf {
    let above = home.join(way);
    fs::create_dir_all(above.join("other")).unwrap();
    if way == "linked" {
        fs::create_dir(above.join("one")).unwrap();
        symlink("one", above.join("inbox")).unwrap();
    } else {
        fs::create_dir(above.join("inbox")).unwrap();
    }
    above.join("inbox")
}

/// Nobody is told of what lands where no path leads, and it comes again.
#[tokio::test]
async fn a_directory_that_goes_ends_the_receiver_without_a_receipt() {
    for (way, go) in WAYS {
        let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
        let (outbox, inbox) = (outbox(home.path()), inbox(home.path(), way));
        let receiver = receiving(&server, "r", &inbox, &[]).spawn().await;
        receiver.log_line(SOON, |line| line.contains("listens on")).await;
        go(&inbox);
        send(&server, &[], &[outbox.join(".")]).await;
        let ended = receiver.wait().await.exited(1);
        assert!(ended.errors().contains("is gone"), "{way}: {}", ended.errors());
        assert!(ended.text().is_empty(), "{way}: {}", ended.text());
        assert!(receipts(&server).await.is_empty(), "{way}");
        drain(&server, "r", &inbox, &[]).await;
        files::assert_same(outbox.join("small"), inbox.join("small"));
        files::assert_same(outbox.join("large"), inbox.join("large"));
        assert_eq!(receipts(&server).await.len(), 2, "{way}");
    }
}

#[tokio::test]
async fn a_directory_that_goes_is_noticed_also_where_nothing_comes() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    for (way, go) in WAYS {
        let inbox = inbox(home.path(), way);
        let receiver = receiving(&server, way, &inbox, &[]).spawn().await;
        receiver.log_line(SOON, |line| line.contains("listens on")).await;
        go(&inbox);
        let ended = receiver.wait().await.exited(1);
        assert!(ended.errors().contains("is gone"), "{way}: {}", ended.errors());
    }
}

/// Replays, and those who use the library.
#[tokio::test]
async fn a_library_s_directory_that_goes_fails_by_name() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    send(&server, &[], &[outbox(home.path()).join(".")]).await;
    let inbox = inbox(home.path(), "moved");
    let target = TargetDirectory::open(&inbox).unwrap();
    fs::rename(&inbox, inbox.with_extension("old")).unwrap();
    fs::create_dir(&inbox).unwrap();
    let broker = Broker::connect(&ConnectOptions::default().with_server(server.url())).await.unwrap();
    let replays = Replays::new(broker.clone());
    let which = PastTransfers::Channels {
        channels: ">".parse().unwrap(),
        since: None,
        until: None,
        selection: natsfer_consumer::Selection::default(),
    };
    for entry in replays.select(&which).await.unwrap() {
        let incoming = replays.open(&entry).await.unwrap();
        let saved = incoming.save_into(&target, &SaveOptions::default()).await;
        assert!(matches!(saved, Err(ReceiveError::TargetGone { .. })), "{saved:?}");
    }
    let options = ReceiverOptions::new("library".parse().unwrap());
    let mut receiver = Receiver::open(broker, options).await.unwrap();
    let incoming = receiver.next().await.unwrap().unwrap();
    let saved = incoming.save_into(&target, &SaveOptions::default()).await;
    assert!(matches!(saved, Err(ReceiveError::TargetGone { .. })), "{saved:?}");
    assert!(receipts(&server).await.is_empty());
    assert_eq!(fs::read_dir(&inbox).unwrap().count(), 0);
}

/// What is wrong with the directory is no file's fault.
#[tokio::test]
async fn a_file_where_unfinished_ones_belong_rejects_nothing() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (outbox, inbox) = (outbox(home.path()), home.path().join("inbox"));
    let receiver = receiving(&server, "r", &inbox, &[]).spawn().await;
    receiver.log_line(SOON, |line| line.contains("listens on")).await;
    let staging = inbox.join(".natsfer/receivers");
    fs::rename(&staging, home.path().join("aside")).unwrap();
    fs::write(&staging, "").unwrap();
    send(&server, &[], &[outbox.join(".")]).await;
    for name in ["small", "large"] {
        receiver.log_line(SOON, |line| line.contains(name) && line.contains("put back")).await;
    }
    fs::remove_file(&staging).unwrap();
    for name in ["small", "large"] {
        receiver.event(SOON, |event| event["event"] == "received" && event["name"] == name).await;
    }
    files::assert_same(outbox.join("large"), inbox.join("large"));
    let rejected = consumer(["rejected", "-n", "r", "--json"]).server(&server).run().await.success();
    assert!(rejected.text().is_empty(), "{}", rejected.text());
    receiver.terminate();
    let _ = receiver.wait().await.success();
}

/// A file system that is mounted read-only, as the receiver's process sees it.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_read_only_directory_is_refused_at_the_start() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (outbox, inbox) = (outbox(home.path()), home.path().join("inbox"));
    fs::create_dir(&inbox).unwrap();
    send(&server, &[], &[outbox.join(".")]).await;
    // In a mount namespace: no right beyond the process's own is needed.
    let script = "mount -t tmpfs tmpfs \"$2\" && mkdir \"$2/.natsfer\" && mount -o remount,ro \"$2\" && exec \"$1\" receive --drain -n r --into \"$2\"";
    let consumer = our_binary("natsfer-consumer").unwrap();
    let arguments = ["--map-root-user", "--mount", "sh", "-c", script, "sh"].map(Into::into);
    let arguments: Vec<PathBuf> = arguments.into_iter().chain([consumer, inbox.clone()]).collect();
    let refused = program("unshare", arguments).server(&server).run().await.exited(1);
    assert!(refused.errors().contains("Read-only file system"), "{}", refused.errors());
    // Mounted elsewhere, nothing of it is missing.
    assert_eq!(drain(&server, "r", &inbox, &[]).await.len(), 2);
}

#[tokio::test]
async fn what_is_unfinished_is_nobody_else_s_to_read_and_what_has_landed_is_as_its_sender_had_it() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (source, inbox) = (home.path().join("big.bin"), home.path().join("inbox"));
    // As an earlier version has left it.
    fs::create_dir_all(inbox.join(".natsfer")).unwrap();
    fs::set_permissions(inbox.join(".natsfer"), Permissions::from_mode(0o755)).unwrap();
    files::random_file(&source, 12 * MIB, 3);
    fs::set_permissions(&source, Permissions::from_mode(0o644)).unwrap();
    send(&server, &[], &[&source]).await;
    let slow = Proxy::to(&server.url()).await;
    slow.rate(4 * MIB);
    let receiver = receiving(&slow, "r", &inbox, &["--exec", "true"]).spawn().await;
    let staged = eventually("it is at work", SOON, || async {
        let staged = staged_files(&inbox, "r");
        (staged.len() == 2 && slow.bytes_down() > MIB).then_some(staged)
    })
    .await;
    assert!(staged.iter().all(|path| fs::metadata(path).unwrap().mode() & 0o777 == 0o600), "{staged:?}");
    let (mut directories, mut files) = (vec![inbox.join(".natsfer")], 0);
    while let Some(directory) = directories.pop() {
        assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o777, 0o700, "{}", directory.display());
        for entry in directory.read_dir().unwrap().map(Result::unwrap) {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => directories.push(entry.path()),
                Ok(metadata) => {
                    files += 1;
                    assert_eq!(metadata.mode() & 0o077, 0, "{}", entry.path().display());
                }
                // It has been removed.
                Err(_) => {}
            }
        }
    }
    assert!(files >= 3, "part, journal and ledger: {files}");
    slow.rate(None);
    receiver.event(SOON, |event| event["event"] == "received").await;
    assert_eq!(fs::metadata(inbox.join("big.bin")).unwrap().mode() & 0o777, 0o644);
    receiver.terminate();
    let _ = receiver.wait().await.success();
}

/// Its owner may not read it by its mode, and it is compared all the same. (Root may read everything, and shows less.)
#[tokio::test]
async fn an_identical_file_that_its_mode_hides_is_not_landed_twice() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (source, inbox) = (home.path().join("drop"), home.path().join("inbox"));
    files::random_file(&source, 1_000, 1);
    // The sender must be able to read it; what stands there has another mode.
    send(&server, &[], &[&source]).await;
    drain(&server, "r", &inbox, &[]).await;
    let landed = inbox.join("drop");
    fs::set_permissions(&landed, Permissions::from_mode(0o222)).unwrap();
    drain(&server, "other", &inbox, &[]).await;
    let names: Vec<_> = inbox.read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert_eq!(fs::metadata(&landed).unwrap().mode() & 0o777, 0o222);
}

/// Until their bytes are known, they have one id.
#[tokio::test]
async fn files_of_one_name_size_and_time_are_all_sent_by_one_command() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let paths: Vec<_> = (0..4).map(|number| home.path().join(format!("{number}/big"))).collect();
    for (seed, path) in (0..).zip(&paths) {
        files::random_file(path, 5 * MIB, seed);
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_500_000_000);
        File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    }
    send(&server, &[], &paths).await;
    let inbox = home.path().join("inbox");
    assert_eq!(drain(&server, "r", &inbox, &[]).await.len(), 4);
    let sorted = |mut digests: Vec<String>| {
        digests.sort();
        digests
    };
    let landed = ["big", "big (1)", "big (2)", "big (3)"].map(|name| files::digest(inbox.join(name)));
    assert_eq!(sorted(landed.to_vec()), sorted(paths.iter().map(files::digest).collect()));
    // And none of them again.
    let again = sending(&server, &[], &paths).run().await.success().json_lines();
    assert!(again.iter().all(|sent| sent["status"] == "unchanged"), "{again:?}");
}

/// As if they had been made there. Where this user is in one group only, the group shows nothing.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn files_get_group_and_rights_from_the_directory_that_they_land_in() {
    use rustix::fs::{XattrFlags, getxattr, setxattr};
    const LIST: &str = "system.posix_acl_default";
    // Owner rwx, user 65534 rwx, group r-x, mask r-x, others nothing.
    let entries: [(u16, u16, u32); 5] =
        [(0x01, 7, u32::MAX), (0x02, 7, 65_534), (0x04, 5, u32::MAX), (0x10, 5, u32::MAX), (0x20, 0, u32::MAX)];
    let entries = entries
        .iter()
        .flat_map(|(tag, rights, id)| [&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat());
    let list: Vec<u8> = 2_u32.to_le_bytes().into_iter().chain(entries).collect();

    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (outbox, inbox) = (home.path().join("outbox"), home.path().join("inbox"));
    let is_root = rustix::process::geteuid().is_root();
    let groups = rustix::process::getgroups().unwrap();
    let group =
        if is_root { 1234 } else { groups.last().map_or(rustix::process::getegid().as_raw(), |group| group.as_raw()) };
    for directory in ["group", "list", "plain"] {
        files::random_file(outbox.join(directory).join("small"), 1_000, 1);
        files::random_file(outbox.join(directory).join("large"), 3 * MIB, 2);
        for name in ["small", "large"] {
            fs::set_permissions(outbox.join(directory).join(name), Permissions::from_mode(0o664)).unwrap();
        }
        fs::create_dir_all(inbox.join(directory)).unwrap();
    }
    std::os::unix::fs::chown(inbox.join("group"), None, Some(group)).unwrap();
    fs::set_permissions(inbox.join("group"), Permissions::from_mode(0o2775)).unwrap();
    let set = setxattr(inbox.join("list"), LIST, &list, XattrFlags::empty());
    assert!(
        set.is_ok(),
        "this test cannot run: the temporary directory's file system has no access control lists: {set:?}"
    );
    send(&server, &[], &[outbox.join(".")]).await;
    drain(&server, "r", &inbox, &[]).await;

    let of = |path: &str| {
        let metadata = fs::metadata(inbox.join(path)).unwrap();
        let mut list = vec![0; 1_000];
        let length = getxattr(inbox.join(path), "system.posix_acl_access", &mut list[..]).unwrap_or(0);
        (metadata.mode() & 0o7777, metadata.gid(), list[..length].to_vec())
    };
    for name in ["small", "large"] {
        // As a program has it that makes a file of this mode there.
        let made = inbox.join("list/made");
        std::os::unix::fs::OpenOptionsExt::mode(File::options().write(true).create_new(true), 0o664)
            .open(&made)
            .unwrap();
        assert_eq!(of(&format!("list/{name}")), of("list/made"));
        assert!(!of("list/made").2.is_empty());
        fs::remove_file(made).unwrap();
        assert_eq!(of(&format!("group/{name}")), (0o664, group, Vec::new()));
        assert_eq!(of(&format!("plain/{name}")), (0o664, rustix::process::getegid().as_raw(), Vec::new()));
    }
}

/// A mount of its own below the target, as the receiver's process sees it: nothing can be renamed into it.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_directory_on_another_file_system_below_the_target_is_landed_in() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (outbox, inbox) = (home.path().join("outbox"), home.path().join("inbox"));
    files::random_file(outbox.join("below/small"), 1_000, 1);
    files::random_file(outbox.join("below/large"), 3 * MIB, 2);
    fs::create_dir_all(inbox.join("below")).unwrap();
    send(&server, &[], &[outbox.join(".")]).await;
    let script = "mount -t tmpfs tmpfs \"$2/below\" && \"$1\" receive --drain -n r --into \"$2\" && cp -p \"$2\"/below/* \"$3\" \
                  && test \"$(ls -A \"$2/below\" | wc -l)\" = 2";
    let consumer = our_binary("natsfer-consumer").unwrap();
    let copied = home.path().join("copied");
    fs::create_dir(&copied).unwrap();
    let arguments = ["--map-root-user", "--mount", "sh", "-c", script, "sh"].map(Into::into);
    let arguments: Vec<PathBuf> = arguments.into_iter().chain([consumer, inbox.clone(), copied.clone()]).collect();
    let _ = program("unshare", arguments).server(&server).run().await.success();
    files::assert_same(outbox.join("below"), copied);
    assert!(staged_files(&inbox, "r").is_empty());
}
