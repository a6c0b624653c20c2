//! A directory that is watched: what comes into it is sent once, in time, and whatever happens meanwhile.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use natsfer_tests::steps::{drain, list, nothing_left_but, number, receipts, receiving, stream, text};
use natsfer_tests::{
    Address, Command, Mapping, Output, Proxy, Running, Server, eventually, files, our_binary, producer, program,
};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);
const MIB: u64 = 1 << 20;

fn watching(server: &(impl Address + ?Sized), outbox: &Path, options: &[&str]) -> Command {
    producer(["watch", "--json"]).args(options).arg(outbox).server(server)
}

/// Started, and done with looking at what is there.
async fn watch(server: &(impl Address + ?Sized), outbox: &Path, options: &[&str]) -> Running {
    let running = watching(server, outbox, options).spawn().await;
    running.log_line(SOON, |line| line.contains("files there")).await;
    running
}

/// A file that appears whole, as careful writers make it.
fn put(outbox: &Path, name: &str, content: impl AsRef<[u8]>) {
    let hidden = outbox.join(".being-written");
    fs::write(&hidden, content).unwrap();
    fs::rename(hidden, outbox.join(name)).unwrap();
}

fn outbox(home: &tempfile::TempDir) -> std::path::PathBuf {
    let outbox = home.path().join("outbox");
    fs::create_dir_all(&outbox).unwrap();
    outbox
}

async fn event(running: &Running, kind: &str, name: &str) -> Value {
    running.event(SOON, |event| event["event"] == kind && event["name"] == name).await
}

async fn stop(running: Running) -> Output {
    running.terminate();
    running.wait().await.success()
}

/// The names that events of a kind are about, in the order they came.
fn names(output: &Output, kind: &str) -> Vec<String> {
    let events = output.json_lines();
    events.iter().filter(|event| event["event"] == kind).map(|event| text(event, "name").to_owned()).collect()
}

async fn prune_everything(server: &Server) {
    let _ = producer(["prune", "--older-than", "0s"]).server(server).run().await.success();
    assert!(list(server, &[]).await.is_empty());
}

async fn is_gone(path: &Path) {
    eventually(&format!("{} is gone", path.display()), SOON, || async { (!path.exists()).then_some(()) }).await;
}

#[tokio::test]
async fn files_are_sent_as_soon_as_they_are_closed_or_renamed_in() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let outbox = outbox(&home);
    fs::create_dir(outbox.join("d")).unwrap();
    // Nothing settles in time: only what the system says counts.
    let watcher = watch(&server, &outbox, &["--settle", "1h"]).await;
    fs::write(outbox.join("closed"), "closed").unwrap();
    event(&watcher, "sent", "closed").await;
    put(&outbox, "d/renamed in", "renamed in");
    event(&watcher, "sent", "d/renamed in").await;
    // A new version is sent, too.
    fs::write(outbox.join("closed"), "closed again").unwrap();
    watcher.event(SOON, |event| event["name"] == "closed" && event["size"] == 12).await;
    // What is open is not.
    let mut open = File::create(outbox.join("open")).unwrap();
    open.write_all(b"half of ").unwrap();
    put(&outbox, "later", "later");
    event(&watcher, "sent", "later").await;
    open.write_all(b"it").unwrap();
    drop(open);
    assert_eq!(event(&watcher, "sent", "open").await["size"], 10);
    let output = stop(watcher).await;
    assert_eq!(names(&output, "sent"), ["closed", "d/renamed in", "closed", "later", "open"]);
    nothing_left_but(&server, &[]).await;
}

#[tokio::test]
async fn what_nobody_closes_is_sent_when_it_has_settled() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let outbox = outbox(&home);
    let watcher = watch(&server, &outbox, &["--settle", "3s"]).await;
    let mut slow = File::create(outbox.join("slow")).unwrap();
    // The pauses are what is tried out here.
    for _ in 0..12 {
        slow.write_all(b"piece").unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    // In directories that are new, whoever is first.
    fs::create_dir_all(outbox.join("a/b/c")).unwrap();
    fs::write(outbox.join("a/b/c/deep"), "deep").unwrap();
    assert_eq!(event(&watcher, "sent", "slow").await["size"], 60);
    event(&watcher, "sent", "a/b/c/deep").await;
    // That directory is watched now.
    fs::write(outbox.join("a/b/c/later"), "later").unwrap();
    event(&watcher, "sent", "a/b/c/later").await;
    let output = stop(watcher).await;
    assert_eq!(names(&output, "sent").iter().filter(|name| *name == "slow").count(), 1);
}

#[tokio::test]
async fn a_restart_sends_what_came_meanwhile_and_nothing_twice() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let outbox = outbox(&home);
    files::tree(&outbox, 20, 0..3000, 1);
    files::random_file(outbox.join("big.bin"), 3 * MIB, 2);
    let settle = ["--settle", "100ms"];
    let first = watch(&server, &outbox, &settle).await;
    eventually("everything is stored", SOON, || async { (list(&server, &[]).await.len() == 21).then_some(()) }).await;
    event(&first, "sent", "big.bin").await;
    assert_eq!(names(&stop(first).await, "sent").len(), 21);

    put(&outbox, "meanwhile", "meanwhile");
    let second = watch(&server, &outbox, &settle).await;
    event(&second, "sent", "meanwhile").await;
    assert_eq!(names(&stop(second).await, "sent"), ["meanwhile"]);

    // Also when nothing is stored any more.
    prune_everything(&server).await;
    let third = watch(&server, &outbox, &settle).await;
    third.log_line(SOON, |line| line.contains("files there: 22, to send: 0")).await;
    fs::write(outbox.join("last"), "last").unwrap();
    event(&third, "sent", "last").await;
    let output = stop(third).await;
    assert_eq!(names(&output, "sent"), ["last"]);
    assert_eq!(list(&server, &[]).await.len(), 1);
    let state = fs::read_to_string(outbox.join(".natsfer/watch.default.jsonl")).unwrap();
    // Of the directory, and of each file.
    assert!(state.lines().count() == 24 && state.lines().all(|line| line.starts_with("{\"crc32\":\"")), "{state}");
}

/// Without its state, as when that is lost, a watcher finds everything stored.
#[tokio::test]
async fn a_state_that_is_lost_costs_a_look_at_the_stream() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let outbox = outbox(&home);
    files::random_file(outbox.join("big.bin"), 3 * MIB, 1);
    let state = home.path().join("state");
    let options = ["--settle", "100ms", "--state", state.to_str().unwrap()];
    let first = watch(&server, &outbox, &options).await;
    event(&first, "sent", "big.bin").await;
    let _ = stop(first).await;
    // The end of a line is what a power cut leaves, or nothing.
    let path = state.join("watch.default.jsonl");
    let line = fs::read(&path).unwrap();
    fs::write(&path, &line[..line.len() - 9]).unwrap();
    let second = watch(&server, &outbox, &options).await;
    let again = event(&second, "sent", "big.bin").await;
    assert_eq!((text(&again, "status"), number(&again, "published_bytes")), ("unchanged", 0));
    let _ = stop(second).await;
    let third = watch(&server, &outbox, &options).await;
    third.log_line(SOON, |line| line.contains("files there: 1, to send: 0")).await;
    let _ = stop(third).await;
    assert!(!outbox.join(".natsfer").exists());
}

#[tokio::test]
async fn killed_at_any_moment_it_loses_nothing_and_every_file_lands_once() {
    const COUNT: usize = 300;
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (outbox, inbox) = (outbox(&home), home.path().join("inbox"));
    let receiver = receiving(&server, "r", &inbox, &["--concurrency", "16"]).spawn().await;
    let mut random = files::Random::new(7);
    let mut made = 0;
    while made < COUNT {
        let watcher = watching(&server, &outbox, &["--settle", "50ms"]).spawn().await;
        let until = Instant::now() + Duration::from_millis(100 + random.below(700));
        while Instant::now() < until && made < COUNT {
            if made % 30 == 0 {
                files::random_file(outbox.join(format!(".big-{made}")), 2 * MIB + made as u64, made as u64);
                fs::rename(outbox.join(format!(".big-{made}")), outbox.join(format!("big-{made}"))).unwrap();
            } else {
                put(&outbox, &format!("small-{made}"), format!("file {made}"));
            }
            made += 1;
            // The moment of the kill is what is tried out, not a condition that is waited for.
            tokio::time::sleep(Duration::from_millis(random.below(12))).await;
        }
        watcher.kill();
        let _ = watcher.wait().await;
    }
    let last = watch(&server, &outbox, &["--settle", "50ms"]).await;
    eventually("everything has landed", SOON, || async { (receipts(&server).await.len() >= COUNT).then_some(()) })
        .await;
    let _ = stop(last).await;
    receiver.terminate();
    let received = receiver.wait().await.success().json_lines();
    assert_eq!(received.len(), COUNT);
    assert!(received.iter().all(|event| event["identical"] == false));
    assert_eq!(list(&server, &[]).await.len(), COUNT);
    fs::remove_dir_all(outbox.join(".natsfer")).unwrap();
    fs::remove_dir_all(inbox.join(".natsfer")).unwrap();
    files::assert_same(&outbox, &inbox);
}

#[tokio::test]
async fn what_the_server_has_is_deleted_or_moved() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let outbox = outbox(&home);
    fs::create_dir(outbox.join("d")).unwrap();
    let deleting = watch(&server, &outbox, &["--then", "delete"]).await;
    files::random_file(outbox.join("d/big.bin"), 3 * MIB, 1);
    event(&deleting, "deleted", "d/big.bin").await;
    is_gone(&outbox.join("d/big.bin")).await;
    let output = stop(deleting).await;
    assert_eq!(names(&output, "sent"), ["d/big.bin"]);
    // Its directory stays, and may be used again.
    assert!(outbox.join("d").is_dir());

    // Inside of what is watched, and not sent from there.
    let sent = outbox.join("sent");
    fs::create_dir_all(sent.join("d")).unwrap();
    fs::write(sent.join("d/a.txt"), "an earlier one").unwrap();
    let moving = watch(&server, &outbox, &["--then", "move", "--move-to", sent.to_str().unwrap()]).await;
    put(&outbox, "d/a.txt", "a later one");
    let moved = event(&moving, "moved", "d/a.txt").await;
    assert!(text(&moved, "to").ends_with("outbox/sent/d/a (1).txt"), "{moved}");
    put(&outbox, "marker", "");
    event(&moving, "moved", "marker").await;
    assert_eq!(names(&stop(moving).await, "sent"), ["d/a.txt", "marker"]);
    assert_eq!(fs::read(sent.join("d/a (1).txt")).unwrap(), b"a later one");
    assert_eq!(fs::read(sent.join("d/a.txt")).unwrap(), b"an earlier one");
    // Nothing is remembered of what is gone.
    let again = watch(&server, &outbox, &[]).await;
    again.log_line(SOON, |line| line.contains("files there: 3, to send: 3")).await;
    let _ = stop(again).await;
}

#[tokio::test]
async fn a_source_goes_when_those_who_are_named_have_it_also_after_a_restart() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let outbox = outbox(&home);
    let options = ["--settle", "100ms", "--then", "delete", "--after-delivery", "a,b"];
    let first = watch(&server, &outbox, &options).await;
    files::random_file(outbox.join("big.bin"), 3 * MIB, 1);
    put(&outbox, "small.txt", "small");
    event(&first, "sent", "big.bin").await;
    event(&first, "sent", "small.txt").await;
    drain(&server, "a", home.path().join("a"), &[]).await;
    for name in ["big.bin", "small.txt"] {
        assert_eq!(event(&first, "landed", name).await["receiver"], "a");
    }
    assert!(outbox.join("big.bin").exists() && outbox.join("small.txt").exists());
    first.kill();
    let _ = first.wait().await;

    let second = watch(&server, &outbox, &options).await;
    drain(&server, "b", home.path().join("b"), &[]).await;
    for name in ["big.bin", "small.txt"] {
        assert_eq!(event(&second, "landed", name).await["receiver"], "b");
        event(&second, "deleted", name).await;
        is_gone(&outbox.join(name)).await;
    }
    // Others were sent meanwhile, and what is heard at once counts.
    let quick = receiving(&server, "a", home.path().join("a"), &[]).spawn().await;
    let other = receiving(&server, "b", home.path().join("b"), &[]).spawn().await;
    put(&outbox, "quick", "quick");
    event(&second, "deleted", "quick").await;
    let output = stop(second).await;
    assert_eq!(names(&output, "sent"), ["quick"]);
    assert_eq!(names(&output, "landed").len(), 4);
    for receiver in [quick, other] {
        receiver.terminate();
        let _ = receiver.wait().await.success();
    }
    nothing_left_but(&server, &["a", "b"]).await;
}

#[tokio::test]
async fn a_source_waits_for_those_it_was_sent_for_whoever_is_named_later() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let outbox = outbox(&home);
    let first = watch(&server, &outbox, &["--then", "delete", "--after-delivery", "a"]).await;
    put(&outbox, "early", "early");
    event(&first, "sent", "early").await;
    let _ = stop(first).await;

    let second = watch(&server, &outbox, &["--then", "delete"]).await;
    second.log_line(SOON, |line| line.contains("'a' has not landed 1 file")).await;
    put(&outbox, "late", "late");
    event(&second, "deleted", "late").await;
    assert!(outbox.join("early").exists());
    drain(&server, "a", home.path().join("a"), &[]).await;
    assert_eq!(event(&second, "landed", "early").await["receiver"], "a");
    event(&second, "deleted", "early").await;
    let output = stop(second).await;
    assert_eq!(names(&output, "deleted"), ["late", "early"]);
}

#[tokio::test]
async fn a_source_that_will_not_be_delivered_stays_and_is_named() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let outbox = outbox(&home);
    let watcher = watch(&server, &outbox, &["--then", "delete", "--after-delivery", "r"]).await;
    files::random_file(outbox.join("large"), 2 * MIB, 1);
    files::random_file(outbox.join("taken back"), 2 * MIB, 2);
    event(&watcher, "sent", "large").await;
    let sent = event(&watcher, "sent", "taken back").await;
    let _ = producer(["cancel", text(&sent, "transfer")]).server(&server).run().await.success();
    assert_eq!(event(&watcher, "not_landed", "taken back").await["reason"], "cancelled");
    let rejecting = receiving(&server, "r", home.path().join("r"), &["--drain", "--max-size", "1MiB"]);
    let _ = rejecting.run().await.exited(1);
    assert_eq!(event(&watcher, "not_landed", "large").await["reason"], "rejected");
    let output = stop(watcher).await;
    assert!(output.errors().contains("'r' has not landed large"), "{}", output.errors());
    assert!(outbox.join("large").exists() && outbox.join("taken back").exists());
    // It was said, and is not awaited any more.
    let again = watch(&server, &outbox, &["--then", "delete", "--after-delivery", "r"]).await;
    put(&outbox, "marker", "");
    event(&again, "sent", "marker").await;
    let output = stop(again).await;
    assert_eq!(names(&output, "not_landed"), [""; 0]);
    assert_eq!(names(&output, "sent"), ["marker"]);
}

#[tokio::test]
async fn chunks_that_receivers_miss_are_sent_again_while_they_are_awaited() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let outbox = outbox(&home);
    let watcher = watch(&server, &outbox, &["--after-delivery", "r"]).await;
    files::random_file(outbox.join("big.bin"), 5 * MIB, 1);
    event(&watcher, "sent", "big.bin").await;
    server.jetstream().await.get_stream("NATSFER_DATA").await.unwrap().purge().await.unwrap();
    drain(&server, "r", home.path().join("r"), &[]).await;
    event(&watcher, "landed", "big.bin").await;
    let output = stop(watcher).await;
    assert!(output.errors().contains("sent again"), "{}", output.errors());
    assert!(outbox.join("big.bin").exists());
}

#[tokio::test]
async fn a_source_that_changes_before_it_goes_stays_and_is_sent_again() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (outbox, inbox) = (outbox(&home), home.path().join("r"));
    let watcher = watch(&server, &outbox, &["--then", "delete", "--after-delivery", "r"]).await;
    put(&outbox, "a", "the first version");
    event(&watcher, "sent", "a").await;
    // Written to, and not closed: the new version is not sent yet.
    let mut open = File::options().append(true).open(outbox.join("a")).unwrap();
    open.write_all(b", and the second").unwrap();
    drain(&server, "r", &inbox, &[]).await;
    event(&watcher, "landed", "a").await;
    watcher.log_line(SOON, |line| line.contains("it stays")).await;
    drop(open);
    watcher.event(SOON, |event| event["event"] == "sent" && event["size"] == 33).await;
    drain(&server, "r", &inbox, &["--on-conflict", "overwrite"]).await;
    event(&watcher, "deleted", "a").await;
    assert_eq!(fs::read(inbox.join("a")).unwrap(), b"the first version, and the second");
    let _ = stop(watcher).await;
}

/// It pauses for longer than files take to settle. What it writes then is not lost.
#[tokio::test]
async fn a_source_is_not_taken_away_under_its_writer() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (outbox, inbox) = (outbox(&home), home.path().join("r"));
    let watcher = watch(&server, &outbox, &["--settle", "100ms", "--then", "delete"]).await;
    let mut writer = File::create(outbox.join("slow")).unwrap();
    writer.write_all(b"one half").unwrap();
    watcher.event(SOON, |event| event["event"] == "sent" && event["size"] == 8).await;
    watcher.log_line(SOON, |line| line.contains("open for writing")).await;
    writer.write_all(b", and the other").unwrap();
    drop(writer);
    let whole = watcher.event(SOON, |event| event["event"] == "sent" && event["size"] == 23).await;
    assert_eq!(event(&watcher, "deleted", "slow").await["transfer"], whole["transfer"]);
    is_gone(&outbox.join("slow")).await;
    let output = stop(watcher).await;
    assert_eq!(names(&output, "deleted"), ["slow"]);
    assert_eq!(output.errors().matches("open for writing").count(), 1, "{}", output.errors());
    drain(&server, "r", &inbox, &["--on-conflict", "overwrite", "--concurrency", "1"]).await;
    assert_eq!(fs::read(inbox.join("slow")).unwrap(), b"one half, and the other");
}

/// Writes a file through a mapping, and again once it was sent: it is waited for, sent anew, and only then deleted.
async fn goes_once_no_longer_mapped(watcher: &Running, outbox: &Path) {
    let file = File::options().read(true).write(true).create_new(true).open(outbox.join("mapped")).unwrap();
    file.set_len(8192).unwrap();
    let mut mapping = Mapping::of(file, 8192).unwrap();
    mapping.write(b"first");
    let first = event(watcher, "sent", "mapped").await;
    watcher.log_line(SOON, |line| line.contains("open for writing")).await;
    mapping.write(b"later");
    drop(mapping);
    let second = watcher.event(SOON, |event| event["event"] == "sent" && event["transfer"] != first["transfer"]).await;
    assert_eq!(event(watcher, "deleted", "mapped").await["transfer"], second["transfer"]);
}

/// Neither its size nor, until the system feels like it, its times change; nobody has a descriptor of it.
#[tokio::test]
async fn what_is_written_through_a_mapping_is_not_lost() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    // In memory, where times never change for that; and wherever temporary files are.
    let memory = tempfile::tempdir_in("/dev/shm").expect("it takes a tmpfs at /dev/shm that can be written to");
    for (number, home) in [&home, &memory].into_iter().enumerate() {
        let (outbox, channel) = (outbox(home), format!("c{number}"));
        let options = ["-c", &channel, "--settle", "100ms", "--then", "delete"];
        let watcher = watch(&server, &outbox, &options).await;
        goes_once_no_longer_mapped(&watcher, &outbox).await;
        is_gone(&outbox.join("mapped")).await;
        assert_eq!(names(&stop(watcher).await, "deleted"), ["mapped"]);
        let inbox = home.path().join("inbox");
        let policy = ["-c", &channel, "--on-conflict", "overwrite", "--concurrency", "1"];
        drain(&server, &format!("r{number}"), &inbox, &policy).await;
        assert!(fs::read(inbox.join("mapped")).unwrap().starts_with(b"later"));
    }
}

/// On an overlay, as in a container, leases know nothing of mappings.
#[tokio::test]
async fn a_mapping_on_an_overlay_is_waited_for() {
    // Nobody else sees the mappings of a process outside of its own user namespace.
    needs_root("mounting an overlay that the tests map a file of");
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (base, state) = (home.path().join("base"), home.path().join("state"));
    fs::create_dir(&base).unwrap();
    let ours = our_binary("natsfer-producer").unwrap();
    let within = "mount -t tmpfs tmpfs \"$1\" && cd \"$1\" && mkdir lower upper work outbox && \
                  mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work outbox && \
                  exec \"$0\" watch --json --settle 100ms --state \"$2\" --then delete outbox";
    let arguments = ["--mount", "sh", "-c", within].map(std::path::PathBuf::from);
    let arguments = arguments.into_iter().chain([ours, base, state]);
    let watcher = program("unshare", arguments).server(&server).spawn().await;
    watcher.log_line(SOON, |line| line.contains("files there")).await;
    // Its own root is what the watcher sees: where it was mounted, from inside.
    let outbox = std::path::PathBuf::from(format!("/proc/{}/cwd/outbox", watcher.id()));
    goes_once_no_longer_mapped(&watcher, &outbox).await;
    let _ = stop(watcher).await;
}

/// Writes in place, of the same size, and sets the time back, as `rsync --inplace --times` and `cp -p` do.
fn disguise(path: &Path, content: &str) {
    let modified = fs::metadata(path).unwrap().modified().unwrap();
    let mut file = File::options().write(true).open(path).unwrap();
    file.write_all(content.as_bytes()).unwrap();
    file.set_modified(modified).unwrap();
}

#[tokio::test]
async fn a_version_that_looks_like_the_last_one_is_sent_and_what_was_not_sent_is_not_removed() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let sent = home.path().join("moved");
    let moving = ["--then", "move", "--move-to", sent.to_str().unwrap()];
    let ways: [&[&str]; 3] = [&["--then", "keep"], &["--then", "delete"], &moving];
    for (number, then) in ways.into_iter().enumerate() {
        let (outbox, channel) = (home.path().join(format!("outbox{number}")), format!("c{number}"));
        fs::create_dir(&outbox).unwrap();
        let options = [&["-c", &channel, "--after-delivery", "r"], then].concat();
        let watcher = watch(&server, &outbox, &options).await;
        put(&outbox, "a", "AAAA");
        let first = event(&watcher, "sent", "a").await;
        disguise(&outbox.join("a"), "BBBB");
        let second =
            watcher.event(SOON, |event| event["event"] == "sent" && event["transfer"] != first["transfer"]).await;
        assert_ne!(first["digest"], second["digest"]);
        let _ = stop(watcher).await;
        // While nobody watches, too.
        disguise(&outbox.join("a"), "CCCC");
        let watcher = watch(&server, &outbox, &[&options[..], &["--settle", "100ms"]].concat()).await;
        let third = event(&watcher, "sent", "a").await;
        assert!(third["digest"] != first["digest"] && third["digest"] != second["digest"]);
        let inbox = home.path().join(format!("inbox{number}"));
        let policy = ["-c", &channel, "--on-conflict", "overwrite", "--concurrency", "1"];
        drain(&server, "r", &inbox, &policy).await;
        let last = |event: &Value| event["event"] == "landed" && event["transfer"] == third["transfer"];
        watcher.event(SOON, last).await;
        if number > 0 {
            is_gone(&outbox.join("a")).await;
        }
        let _ = stop(watcher).await;
        assert_eq!(fs::read(inbox.join("a")).unwrap(), b"CCCC");
        assert_eq!(outbox.join("a").exists(), number == 0);
        let _ = natsfer_tests::consumer(["forget", "-n", "r"]).server(&server).run().await.success();
    }
    assert_eq!(fs::read(sent.join("a")).unwrap(), b"CCCC");
}

/// The rights are no content, and reading tells: also where the stream has nothing to compare with any more.
#[tokio::test]
async fn what_has_the_bytes_that_were_sent_is_not_sent_again() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let outbox = outbox(&home);
    let settle = ["--settle", "100ms"];
    let watcher = watch(&server, &outbox, &settle).await;
    for name in ["rights", "closed", "copied", "linked"] {
        put(&outbox, name, name);
        event(&watcher, "sent", name).await;
    }
    let _ = stop(watcher).await;
    prune_everything(&server).await;
    let watcher = watch(&server, &outbox, &settle).await;
    set_mode(&outbox.join("rights"), 0o600);
    drop(File::options().append(true).open(outbox.join("closed")).unwrap());
    fs::hard_link(outbox.join("linked"), home.path().join("link")).unwrap();
    let modified = fs::metadata(outbox.join("copied")).unwrap().modified().unwrap();
    fs::write(outbox.join(".copied"), "copied").unwrap();
    File::options().write(true).open(outbox.join(".copied")).unwrap().set_modified(modified).unwrap();
    fs::rename(outbox.join(".copied"), outbox.join("copied")).unwrap();
    let state = || fs::read_to_string(outbox.join(".natsfer/watch.default.jsonl")).unwrap();
    let found = |name: &str| state().contains(&format!("{{\"same\":{{\"name\":\"{name}\""));
    eventually("all were read", SOON, || async {
        ["rights", "closed", "copied"].iter().all(|name| found(name)).then_some(())
    })
    .await;
    assert_eq!(names(&stop(watcher).await, "sent"), [""; 0]);
    // What nobody tells of, as of the link, is seen by looking; and what was compared is not read again.
    let watcher = watch(&server, &outbox, &settle).await;
    eventually("it was read, too", SOON, || async { found("linked").then_some(()) }).await;
    assert_eq!(names(&stop(watcher).await, "sent"), [""; 0]);
    assert!(list(&server, &[]).await.is_empty());
    assert_eq!(state().matches("\"same\"").count(), 4);
}

/// Killed between losing its name and being deleted: the name begins with a dot, and nobody would look for it.
#[tokio::test]
async fn a_file_that_was_about_to_be_deleted_when_a_run_was_killed_has_its_name_again() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let outbox = outbox(&home);
    fs::create_dir(outbox.join("d")).unwrap();
    fs::write(outbox.join("d/.natsfer-leaving.a"), "sent before, or not").unwrap();
    let watcher = watch(&server, &outbox, &["--settle", "100ms", "--then", "delete", "--hidden"]).await;
    event(&watcher, "deleted", "d/a").await;
    assert_eq!(names(&stop(watcher).await, "sent"), ["d/a"]);
    assert_eq!(fs::read_dir(outbox.join("d")).unwrap().count(), 0);
}

/// Its file system is not mounted, whatever is in the directory where it should be.
#[tokio::test]
async fn a_watcher_that_starts_without_its_mount_forgets_nothing() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (outbox, aside, state) = (outbox(&home), home.path().join("aside"), home.path().join("state"));
    let options = ["--settle", "100ms", "--state", state.to_str().unwrap()];
    for name in ["a", "d/b"] {
        fs::create_dir_all(outbox.join("d")).unwrap();
        fs::write(outbox.join(name), name).unwrap();
    }
    let watcher = watch(&server, &outbox, &options).await;
    event(&watcher, "sent", "a").await;
    event(&watcher, "sent", "d/b").await;
    let _ = stop(watcher).await;
    prune_everything(&server).await;
    for placeholder in [None, Some("README")] {
        fs::rename(&outbox, &aside).unwrap();
        fs::create_dir(&outbox).unwrap();
        if let Some(name) = placeholder {
            fs::write(outbox.join(name), "not mounted").unwrap();
        }
        let watcher = watch(&server, &outbox, &options).await;
        watcher.log_line(SOON, |line| line.contains("2 files") && line.contains("not forgotten")).await;
        let _ = stop(watcher).await;
        fs::remove_dir_all(&outbox).unwrap();
        fs::rename(&aside, &outbox).unwrap();
        let watcher = watch(&server, &outbox, &options).await;
        watcher.log_line(SOON, |line| line.contains("files there: 2, to send: 0")).await;
        assert_eq!(names(&stop(watcher).await, "sent"), [""; 0]);
    }
    // The same goes for a mount below.
    fs::rename(outbox.join("d"), &aside).unwrap();
    fs::create_dir(outbox.join("d")).unwrap();
    let watcher = watch(&server, &outbox, &options).await;
    let _ = stop(watcher).await;
    fs::remove_dir(outbox.join("d")).unwrap();
    fs::rename(&aside, outbox.join("d")).unwrap();
    let watcher = watch(&server, &outbox, &options).await;
    watcher.log_line(SOON, |line| line.contains("files there: 2, to send: 0")).await;
    assert_eq!(names(&stop(watcher).await, "sent"), [""; 0]);
}

/// That a file is not there says nothing of it while the mount is missing: it is to go all the same.
#[tokio::test]
async fn what_is_to_go_goes_when_its_mount_is_there_again() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (outbox, aside, state) = (outbox(&home), home.path().join("aside"), home.path().join("state"));
    let options = ["--state", state.to_str().unwrap(), "--then", "delete", "--after-delivery", "r"];
    let watcher = watch(&server, &outbox, &options).await;
    put(&outbox, "a", "a");
    event(&watcher, "sent", "a").await;
    let _ = stop(watcher).await;
    fs::rename(&outbox, &aside).unwrap();
    fs::create_dir(&outbox).unwrap();
    put(&outbox, "README", "not mounted");
    let watcher = watch(&server, &outbox, &[&options[..], &["--exclude", "README"]].concat()).await;
    drain(&server, "r", home.path().join("r"), &[]).await;
    event(&watcher, "landed", "a").await;
    // Behind it, in its turn.
    put(&outbox, "b", "b");
    event(&watcher, "sent", "b").await;
    drain(&server, "r", home.path().join("r"), &[]).await;
    event(&watcher, "deleted", "b").await;
    let _ = stop(watcher).await;
    fs::remove_dir_all(&outbox).unwrap();
    fs::rename(&aside, &outbox).unwrap();
    let watcher = watch(&server, &outbox, &options).await;
    event(&watcher, "deleted", "a").await;
    is_gone(&outbox.join("a")).await;
    assert_eq!(names(&stop(watcher).await, "sent"), [""; 0]);
}

#[tokio::test]
async fn a_link_that_comes_to_lead_elsewhere_ends_it() {
    use std::os::unix::fs::symlink;
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    for release in ["1", "2"] {
        fs::create_dir_all(home.path().join(release).join("outbox")).unwrap();
    }
    let (current, new) = (home.path().join("current"), home.path().join("new"));
    // The last part of the path, or one before, of which nobody tells.
    for watched in ["current", "current/outbox"] {
        let _ = fs::remove_file(&current);
        symlink("1", &current).unwrap();
        let watcher = watch(&server, &home.path().join(watched), &["--rescan", "1h"]).await;
        symlink("2", &new).unwrap();
        fs::rename(&new, &current).unwrap();
        let output = watcher.wait().await.exited(1);
        assert!(output.errors().contains("leads to") && output.errors().contains("/2"), "{}", output.errors());
    }
}

#[tokio::test]
async fn a_directory_that_is_mounted_over_or_unmounted_ends_it() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (outbox, state) = (outbox(&home), home.path().join("state"));
    let ours = our_binary("natsfer-producer").unwrap();
    let within = "mount -t tmpfs tmpfs \"$1\"; exec \"$0\" watch --json --rescan 1h --state \"$2\" \"$1\"";
    for end in ["mount -t tmpfs tmpfs \"$0\"", "umount -l \"$0\""] {
        let arguments = ["--map-root-user", "--mount", "sh", "-c", within].map(std::path::PathBuf::from);
        let arguments = arguments.into_iter().chain([ours.clone(), outbox.clone(), state.clone()]);
        let watcher = program("unshare", arguments).server(&server).spawn().await;
        watcher.log_line(SOON, |line| line.contains("files there")).await;
        let id = watcher.id().to_string();
        let inside = ["--target", &id, "--user", "--mount", "--preserve-credentials", "sh", "-c", end];
        let _ = program("nsenter", inside).arg(&outbox).run().await.success();
        let output = watcher.wait().await.exited(1);
        assert!(output.errors().contains("outbox was removed"), "{}", output.errors());
    }
}

/// It may be written to, and looks empty to whoever may not look.
#[tokio::test]
async fn a_directory_that_cannot_be_listed_is_refused() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let outbox = outbox(&home);
    let state = home.path().join("state");
    fs::create_dir(&state).unwrap();
    for (path, mode) in [(home.path(), 0o755), (&state, 0o777), (&outbox, 0o333)] {
        set_mode(path, mode);
    }
    let watch = ["watch", "--state", state.to_str().unwrap()];
    let refused = unprivileged(home.path(), &server, &watch, &outbox).run().await.exited(1);
    let errors = refused.errors();
    assert!(errors.contains("cannot watch") && errors.contains("Permission denied"), "{errors}");
}

#[tokio::test]
async fn a_move_that_fails_says_where_to() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (outbox, sent) = (outbox(&home), home.path().join("sent"));
    let options = ["--rescan", "1s", "--then", "move", "--move-to", sent.to_str().unwrap()];
    let watcher = watch(&server, &outbox, &options).await;
    fs::remove_dir(&sent).unwrap();
    fs::write(&sent, "a file").unwrap();
    put(&outbox, "a", "a");
    let wanted = |line: &str| line.contains("cannot be moved to") && line.contains("sent is not a directory");
    watcher.log_line(SOON, wanted).await;
    assert!(outbox.join("a").exists());
    fs::remove_file(&sent).unwrap();
    event(&watcher, "moved", "a").await;
    assert_eq!(fs::read(sent.join("a")).unwrap(), b"a");
    let _ = stop(watcher).await;
}

#[tokio::test]
async fn a_writer_is_waited_for_also_after_a_restart() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (outbox, sent) = (outbox(&home), home.path().join("sent"));
    fs::write(outbox.join("closed"), "nobody writes to it").unwrap();
    let mut writer = File::create(outbox.join("open")).unwrap();
    writer.write_all(b"all of it").unwrap();
    let options = ["--settle", "100ms", "--then", "move", "--move-to", sent.to_str().unwrap()];
    let first = watch(&server, &outbox, &options).await;
    event(&first, "moved", "closed").await;
    event(&first, "sent", "open").await;
    first.log_line(SOON, |line| line.contains("open for writing")).await;
    // It is noted a moment later; killed before, the next one looks for it in the stream, and says so.
    let state = outbox.join(".natsfer/watch.default.jsonl");
    let noted = || fs::read_to_string(&state).ok().filter(|text| text.contains(r#""name":"open""#));
    eventually("it is noted", SOON, || async { noted() }).await;
    first.kill();
    let _ = first.wait().await;
    let second = watch(&server, &outbox, &options).await;
    second.log_line(SOON, |line| line.contains("open for writing")).await;
    assert!(outbox.join("open").exists());
    drop(writer);
    event(&second, "moved", "open").await;
    assert_eq!(names(&stop(second).await, "sent"), [""; 0]);
    assert_eq!(fs::read(sent.join("open")).unwrap(), b"all of it");
}

#[tokio::test]
async fn a_source_that_changes_while_it_is_sent_is_sent_as_what_it_has_become() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let outbox = outbox(&home);
    let slow = Proxy::to(&server.url()).await;
    slow.rate(2 * MIB);
    let watcher = watch(&slow, &outbox, &[]).await;
    files::random_file(outbox.join("big.bin"), 10 * MIB, 1);
    eventually("it is under way", SOON, || async {
        stream(&server, "NATSFER_DATA").await["state"]["messages"].as_u64().filter(|count| *count > 0)
    })
    .await;
    fs::write(outbox.join("big.bin"), "small now").unwrap();
    slow.rate(None);
    watcher.event(SOON, |event| event["event"] == "sent" && event["size"] == 9).await;
    let output = stop(watcher).await;
    assert_eq!(names(&output, "sent"), ["big.bin"]);
    let received = drain(&server, "r", home.path().join("r"), &[]).await;
    assert_eq!(received.len(), 1, "{received:?}");
}

#[tokio::test]
async fn globs_and_dots_select_what_is_sent() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let outbox = outbox(&home);
    fs::create_dir_all(outbox.join("in/deep")).unwrap();
    fs::create_dir_all(outbox.join(".hidden")).unwrap();
    fs::create_dir_all(outbox.join("in/deep/.natsfer")).unwrap();
    for name in
        ["a.csv", "a.txt", "in/deep/b", "in/deep/b.tmp", ".c.csv", ".hidden/d.csv", "in/deep/.e", "in/deep/.natsfer/x"]
    {
        fs::write(outbox.join(name), name).unwrap();
    }
    std::os::unix::fs::symlink("a.csv", outbox.join("link.csv")).unwrap();
    let options = ["--settle", "100ms", "--match", "*.csv", "--match", "in/**", "--exclude", "**/*.tmp"];
    let watcher = watch(&server, &outbox, &options).await;
    for name in ["b.txt", ".c.csv"] {
        put(&outbox, name, "not selected");
    }
    put(&outbox, "last.csv", "selected");
    event(&watcher, "sent", "last.csv").await;
    event(&watcher, "sent", "in/deep/b").await;
    event(&watcher, "sent", "a.csv").await;
    let mut sent = names(&stop(watcher).await, "sent");
    sent.sort();
    assert_eq!(sent, ["a.csv", "in/deep/b", "last.csv"]);

    let watcher = watch(&server, &outbox, &["--settle", "100ms", "--hidden"]).await;
    for name in ["a.txt", "b.txt", ".hidden/d.csv", "in/deep/.e", ".c.csv", "in/deep/b.tmp"] {
        event(&watcher, "sent", name).await;
    }
    assert_eq!(names(&stop(watcher).await, "sent").len(), 6);
}

#[tokio::test]
async fn in_order_means_oldest_first_and_one_at_a_time() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let outbox = outbox(&home);
    fs::create_dir(outbox.join("d")).unwrap();
    // Names say nothing, but where the times are the same.
    for (name, age) in [("a", 10), ("d/z", 40), ("b", 20), ("d/c", 20), ("y", 30)] {
        files::random_file(outbox.join(name), if age == 40 { 3 * MIB } else { 100 }, age);
        let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 - age);
        File::options().write(true).open(outbox.join(name)).unwrap().set_modified(old).unwrap();
    }
    let watcher = watch(&server, &outbox, &["--in-order", "--settle", "500ms"]).await;
    // These are complete at once, and come behind what was there.
    for number in 0..50 {
        put(&outbox, &format!("new-{:02}", 49 - number), "new");
    }
    event(&watcher, "sent", "new-00").await;
    let output = stop(watcher).await;
    let news = (0..50).map(|number| format!("new-{:02}", 49 - number));
    let expected: Vec<_> = ["d/z", "y", "b", "d/c", "a"].map(str::to_owned).into_iter().chain(news).collect();
    assert_eq!(names(&output, "sent"), expected);
}

#[tokio::test]
async fn a_second_watcher_of_a_directory_is_refused() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let outbox = outbox(&home);
    let first = watch(&server, &outbox, &[]).await;
    let second = watching(&server, &outbox, &["-c", "other"]).run().await.exited(1);
    let holder = format!("another watcher (process {})", first.id());
    assert!(second.errors().contains(&holder), "{}", second.errors());
    // With a state of its own, the same files may be sent on another channel.
    let state = home.path().join("state");
    let options = ["-c", "other", "--state", state.to_str().unwrap()];
    let other = watch(&server, &outbox, &options).await;
    put(&outbox, "a", "a");
    event(&first, "sent", "a").await;
    event(&other, "sent", "a").await;
    let _ = (stop(first).await, stop(other).await);
    assert_eq!(list(&server, &[]).await.len(), 2);
}

#[tokio::test]
async fn a_server_that_goes_away_is_waited_for() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let outbox = outbox(&home);
    put(&outbox, "before", "before");
    server.kill().await;
    // Also at the start, where it can be stopped.
    let options = ["--settle", "100ms", "--stall-timeout", "1s"];
    let early = watching(&server, &outbox, &options).spawn().await;
    early.log_line(SOON, |line| line.contains("Trying again")).await;
    let _ = stop(early).await;
    let watcher = watching(&server, &outbox, &options).spawn().await;
    watcher.log_line(SOON, |line| line.contains("Trying again")).await;
    server.restart().await;
    event(&watcher, "sent", "before").await;
    server.kill().await;
    put(&outbox, "during", "during");
    // More than it is patient with one send: it begins another one.
    watcher.log_line(SOON, |line| line.contains("trying it again")).await;
    server.restart().await;
    event(&watcher, "sent", "during").await;
    put(&outbox, "after", "after");
    event(&watcher, "sent", "after").await;
    let output = stop(watcher).await;
    assert_eq!(names(&output, "sent"), ["before", "during", "after"]);
    assert_eq!(output.errors().matches("connected again").count(), 1, "{}", output.errors());
}

#[tokio::test]
async fn a_directory_that_is_removed_ends_it() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let outbox = outbox(&home);
    let state = home.path().join("state");
    let removed = |outbox: &Path| fs::remove_dir_all(outbox).unwrap();
    let moved = |outbox: &Path| fs::rename(outbox, home.path().join("elsewhere")).unwrap();
    // At once, also where the state is in there, and is removed while it is open.
    let elsewhere = ["--state", state.to_str().unwrap()];
    let ends: [&dyn Fn(&Path); 3] = [&removed, &removed, &moved];
    for (options, end) in [&elsewhere[..], &[], &[]].into_iter().zip(ends) {
        fs::create_dir_all(&outbox).unwrap();
        let watcher = watch(&server, &outbox, &[&["--rescan", "1h"], options].concat()).await;
        end(&outbox);
        let output = watcher.wait().await.exited(1);
        assert!(output.errors().contains("outbox was removed"), "{}", output.errors());
    }
    let output = watching(&server, &outbox, &[]).run().await.exited(1);
    assert!(
        output.errors().contains("cannot watch") && output.errors().contains("No such file"),
        "{}",
        output.errors()
    );
}

#[tokio::test]
async fn ten_thousand_small_files_are_sent_and_remembered() {
    const COUNT: usize = 10_000;
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let outbox = outbox(&home);
    files::tree(&outbox, COUNT, 10..2000, 1);
    let started = Instant::now();
    let watcher = watch(&server, &outbox, &["--then", "keep"]).await;
    let mut lines = watcher.lines();
    for _ in 0..COUNT {
        let line = tokio::time::timeout(SOON, lines.next()).await.unwrap().unwrap();
        assert!(line.contains("\"sent\""), "{line}");
    }
    assert!(started.elapsed() < Duration::from_secs(120), "{:?}", started.elapsed());
    let output = stop(watcher).await;
    assert!(output.peak_rss_bytes < 200 * MIB, "{}", output.peak_rss_bytes);
    let again = watch(&server, &outbox, &[]).await;
    again.log_line(SOON, |line| line.contains("files there: 10000, to send: 0")).await;
    let _ = stop(again).await;
    assert_eq!(number(&stream(&server, "NATSFER").await["state"], "messages"), COUNT as u64);
}

/// As somebody who may not do everything.
fn unprivileged(home: &Path, server: &Server, arguments: &[&str], outbox: &Path) -> Command {
    let ours = our_binary("natsfer-producer").unwrap();
    if !is_root() {
        return program(ours, arguments).arg(outbox).server(server);
    }
    // Where nobody may look, too.
    let copy = home.join("producer");
    fs::copy(ours, &copy).unwrap();
    let wrapped = ["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"];
    program("setpriv", wrapped).arg(copy).args(arguments).arg(outbox).server(server)
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// What cannot be tried is no success.
fn needs_root(what: &str) {
    assert!(is_root(), "{what} takes root: run this test as root, or in a container");
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[tokio::test]
async fn a_read_only_outbox_needs_a_state_elsewhere() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let outbox = outbox(&home);
    put(&outbox, "a", "a");
    let state = home.path().join("state");
    fs::create_dir(&state).unwrap();
    for (path, mode) in [(home.path(), 0o755), (&state, 0o777), (&outbox, 0o555)] {
        set_mode(path, mode);
    }
    let watch = ["watch", "--json", "--settle", "100ms"];
    let refused = unprivileged(home.path(), &server, &watch, &outbox).run().await.exited(1);
    assert!(refused.errors().contains("--state"), "{}", refused.errors());
    let with_state = [&watch[..], &["--state", state.to_str().unwrap()]].concat();
    let watcher = unprivileged(home.path(), &server, &with_state, &outbox).spawn().await;
    event(&watcher, "sent", "a").await;
    let _ = stop(watcher).await;
}

#[tokio::test]
async fn what_cannot_be_sent_is_said_once_and_holds_up_others_only_where_order_is_kept() {
    use std::os::unix::ffi::OsStrExt as _;
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let outbox = outbox(&home);
    set_mode(home.path(), 0o755);
    set_mode(&outbox, 0o777);
    let unreadable = outbox.join("a");
    fs::write(&unreadable, "secret").unwrap();
    set_mode(&unreadable, 0);
    // This one could never be sent, and waits for nothing.
    fs::write(outbox.join(std::ffi::OsStr::from_bytes(b"\xff")), "").unwrap();
    put(&outbox, "b", "b");
    let options = ["watch", "--json", "--settle", "100ms", "--rescan", "1s"];
    let watcher = unprivileged(home.path(), &server, &options, &outbox).spawn().await;
    event(&watcher, "sent", "b").await;
    watcher.log_line(SOON, |line| line.contains("outbox/a") && line.contains("Permission denied")).await;
    watcher.log_line(SOON, |line| line.contains("not Unicode")).await;
    let output = stop(watcher).await;
    assert_eq!(output.errors().matches("not Unicode").count(), 1, "{}", output.errors());

    let ordered = [&options[..], &["--in-order"]].concat();
    let watcher = unprivileged(home.path(), &server, &ordered, &outbox).spawn().await;
    watcher.log_line(SOON, |line| line.contains("it holds up")).await;
    put(&outbox, "c", "c");
    // It may be read: that is seen at once.
    set_mode(&unreadable, 0o644);
    event(&watcher, "sent", "c").await;
    let output = stop(watcher).await;
    assert_eq!(names(&output, "sent"), ["a", "c"]);
    assert_eq!(output.errors().matches("Permission denied").count(), 1, "{}", output.errors());
}

/// Who is not the owner of files cannot know who writes to them.
#[tokio::test]
async fn where_writers_are_not_known_what_was_closed_goes_and_what_has_settled_stays() {
    needs_root("watching as another user than the files'");
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let outbox = outbox(&home);
    set_mode(home.path(), 0o755);
    set_mode(&outbox, 0o777);
    for name in ["a", "b"] {
        fs::write(outbox.join(name), "there before").unwrap();
    }
    let options = ["watch", "--json", "--settle", "100ms", "--rescan", "1s", "--then", "delete"];
    let watcher = unprivileged(home.path(), &server, &options, &outbox).spawn().await;
    event(&watcher, "sent", "a").await;
    event(&watcher, "sent", "b").await;
    put(&outbox, "c", "renamed in");
    event(&watcher, "deleted", "c").await;
    watcher.log_line(SOON, |line| line.contains("--trust-settled")).await;
    assert!(outbox.join("a").exists() && outbox.join("b").exists());
    // Its writer was there all the time, and has closed it now.
    drop(File::options().append(true).open(outbox.join("a")).unwrap());
    event(&watcher, "deleted", "a").await;
    let output = stop(watcher).await;
    assert_eq!(output.errors().matches("--trust-settled").count(), 1, "{}", output.errors());
    assert!(outbox.join("b").exists());

    let trusting = [&options[..], &["--trust-settled"]].concat();
    let watcher = unprivileged(home.path(), &server, &trusting, &outbox).spawn().await;
    event(&watcher, "deleted", "b").await;
    assert_eq!(names(&stop(watcher).await, "sent"), [""; 0]);
    // It would do nothing here.
    let _ = watching(&server, &outbox, &["--trust-settled"]).run().await.exited(2);
}

/// Where the system tells nothing, looking does: that is what the rescan is for.
#[tokio::test]
async fn more_directories_than_the_system_watches_are_looked_through() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let outbox = outbox(&home);
    for number in 0..20 {
        fs::create_dir(outbox.join(format!("d{number}"))).unwrap();
    }
    // A limit of its own, in a user namespace of its own.
    let line = "echo 5 > /proc/sys/user/max_inotify_watches && exec \"$0\" \"$@\"";
    let limited = program("unshare", ["-Ur", "sh", "-c", line]).arg(our_binary("natsfer-producer").unwrap());
    let options = ["watch", "--json", "--settle", "100ms", "--rescan", "1s"];
    let watcher = limited.args(options).arg(&outbox).server(&server).spawn().await;
    watcher.log_line(SOON, |line| line.contains("fs.inotify.max_user_watches")).await;
    watcher.log_line(SOON, |line| line.contains("files there")).await;
    for number in 0..20 {
        fs::write(outbox.join(format!("d{number}/file")), "file").unwrap();
    }
    for number in 0..20 {
        event(&watcher, "sent", &format!("d{number}/file")).await;
    }
    // Emptied directories are no missing mounts.
    for number in 0..20 {
        fs::remove_file(outbox.join(format!("d{number}/file"))).unwrap();
    }
    eventually("what is gone is forgotten", SOON, || async {
        let state = fs::read_to_string(outbox.join(".natsfer/watch.default.jsonl")).unwrap();
        (0..20).all(|number| state.contains(&format!("\"gone\":{{\"name\":\"d{number}/file\"}}"))).then_some(())
    })
    .await;
    let output = stop(watcher).await;
    assert_eq!(output.errors().matches("fs.inotify.max_user_watches").count(), 1, "{}", output.errors());
}
