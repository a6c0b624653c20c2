//! A publisher who lies, against a running receiver: every attack of the list is refused as it must be, nothing outside the target
//! directory changes, and the next good file lands.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod attacks;
mod consumers;
mod forger;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use async_nats::HeaderMap;
use futures_util::StreamExt as _;
use natsfer_tests::steps::{receipts, receiving, sending, staged_files, text};
use natsfer_tests::{Server, consumer, eventually, files, producer};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::{Value, json};

use crate::attacks::{Attack, Outcome, attacks};
use crate::forger::{CHUNK, Forger, Forgery, headers};

const SOON: Duration = Duration::from_secs(60);
const MIB: u64 = 1 << 20;
/// What good files are numbered from; attacks are from 1.
const GOOD: usize = 1_000_000;

async fn start() -> (Server, tempfile::TempDir) {
    let server = Server::start().await;
    let _ = producer(["init"]).server(&server).run().await.success();
    (server, tempfile::tempdir().unwrap())
}

/// What `natsfer-consumer rejected --json` lists: nothing, where the receiver is not there yet.
async fn rejected(server: &Server, name: &str) -> Vec<Value> {
    consumer(["rejected", "--json", "-n", name]).server(server).run().await.json_lines()
}

/// The transfers that were asked for again.
async fn asked_for(server: &Server) -> BTreeSet<String> {
    let stream = server.jetstream().await.get_stream("NATSFER").await.unwrap();
    let mut subjects = stream.info_with_subjects("natsfer.repair.>").await.unwrap();
    let mut asked = BTreeSet::new();
    while let Some(subject) = futures_util::StreamExt::next(&mut subjects).await {
        asked.extend(subject.unwrap().0.rsplit('.').next().map(str::to_owned));
    }
    asked
}

#[tokio::test]
async fn no_lie_is_believed_and_the_next_file_lands() {
    let (server, home) = start().await;
    // All around the directory is watched; in it, traps are laid.
    let (around, inbox) = (home.path().join("around"), home.path().join("around/inbox"));
    fs::create_dir_all(around.join("secret")).unwrap();
    fs::create_dir_all(&inbox).unwrap();
    files::random_file(around.join("secret/key"), 100, 1);
    fs::write(inbox.join("a-file"), "mine").unwrap();
    let before = home.path().join("before");
    assert!(Command::new("cp").arg("-a").args([&around, &before]).status().unwrap().success());
    symlink("../secret", inbox.join("way-out")).unwrap();

    let options = ["--patience", "1s", "--max-size", "100MiB", "--max-chunk", "16MiB", "--max-journal", "64KiB"];
    let daemon = receiving(&server, "r", &inbox, &options).spawn().await;
    let forger = Forger::new(&server).await;
    let attacks = attacks(1);
    for (number, attack) in attacks.iter().enumerate() {
        forger.publish(&attack.forgery).await;
        let good = Forgery::new(GOOD + number, &format!("good/{number}"), &[number as u8; 1_500]);
        forger.publish(&good).await;
        let landed = |event: &Value| event["event"] == "received" && event["transfer"] == good.id.as_str();
        eprintln!("{}", attack.what);
        daemon.event(SOON, landed).await;
    }

    // A message without a readable transfer is known by its place in the stream alone.
    let is_nameless = |forgery: &Forgery| !forgery.open.ends_with(&forgery.id);
    let expected_nameless = attacks.iter().filter(|attack| is_nameless(&attack.forgery)).count();
    eventually("every attack has the outcome it must have", SOON, || async {
        let (rejected, asked) = (rejected(&server, "r").await, asked_for(&server).await);
        let landed: BTreeSet<_> = receipts(&server).await.into_iter().map(|(_, transfer)| transfer).collect();
        let by_id: BTreeMap<_, _> =
            rejected.iter().filter_map(|entry| Some((entry["transfer"].as_str()?, entry))).collect();
        let nameless = rejected.iter().filter(|entry| entry["transfer"].is_null()).count();
        let found = |Attack { what, forgery, outcome }: &Attack| {
            let id = forgery.id.as_str();
            if let Some(entry) = by_id.get(id) {
                // What was rejected stays so: a wrong reason never becomes the right one.
                let is_right = matches!(outcome, Outcome::Rejected(reason) if entry["reason"] == *reason);
                assert!(is_right, "{what}: {entry}");
                return *outcome;
            }
            match () {
                () if landed.contains(id) => Outcome::Lands,
                () if asked.contains(id) => Outcome::AsksAgain,
                () if is_nameless(forgery) => *outcome,
                () => Outcome::Waits,
            }
        };
        let wrong: Vec<_> = attacks.iter().filter(|attack| found(attack) != attack.outcome).collect();
        for Attack { what, outcome, .. } in &wrong {
            eprintln!("not yet {outcome:?}: {what}");
        }
        (wrong.is_empty() && nameless == expected_nameless).then_some(())
    })
    .await;

    let peak = daemon.peak_rss();
    assert!(peak <= 96 * MIB, "{} MiB", peak / MIB);
    daemon.terminate();
    let _ = daemon.wait().await.success();
    // Whatever is in the inbox was there before, is one of the good files, or is whole.
    for attack in attacks.iter().filter(|attack| attack.outcome == Outcome::Lands) {
        let file = inbox.join(attack.forgery.manifest["name"].as_str().unwrap());
        assert_eq!(fs::read(&file).unwrap(), [7; 2_500], "{}", attack.what);
        fs::remove_file(file).unwrap();
    }
    for number in 0..attacks.len() {
        assert_eq!(fs::read(inbox.join(format!("good/{number}"))).unwrap(), [number as u8; 1_500]);
    }
    fs::remove_dir_all(inbox.join("good")).unwrap();
    assert_eq!(fs::read_link(inbox.join("way-out")).unwrap(), Path::new("../secret"));
    fs::remove_file(inbox.join("way-out")).unwrap();
    fs::remove_dir_all(inbox.join(".natsfer")).unwrap();
    files::assert_same(&before, &around);
}

/// A directory in the way is replaced by a link while files arrive: whatever it leads to, nothing is written there.
#[tokio::test]
async fn a_directory_that_becomes_a_link_leads_nowhere() {
    let (server, home) = start().await;
    let (inbox, outside) = (home.path().join("inbox"), home.path().join("outside"));
    fs::create_dir_all(inbox.join("d")).unwrap();
    fs::create_dir_all(&outside).unwrap();
    let daemon = receiving(&server, "r", &inbox, &["--concurrency", "8"]).spawn().await;
    let swapping = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let (directory, link) = (inbox.join("d"), home.path().join("link"));
    symlink("../outside", &link).unwrap();
    let swapper = {
        let swapping = swapping.clone();
        std::thread::spawn(move || {
            let mut swaps = 0;
            // Ends with the directory in its place.
            while swapping.load(std::sync::atomic::Ordering::Relaxed) || swaps % 2 != 0 {
                renameat_with(CWD, &directory, CWD, &link, RenameFlags::EXCHANGE).unwrap();
                swaps += 1;
            }
            swaps
        })
    };
    let forger = Forger::new(&server).await;
    for number in 1..=300 {
        let name = format!("d/{number}");
        // Both ways to the disk.
        let bytes = [3; 1_500];
        let forged =
            if number % 2 == 0 { Forgery::inline(number, &name, &bytes) } else { Forgery::new(number, &name, &bytes) };
        forger.publish(&forged).await;
    }
    forger.publish(&Forgery::inline(GOOD, "last", b"last")).await;
    daemon.event(SOON, |event| event["name"] == "last").await;
    eventually("every file has an end", SOON, || async {
        let ended = receipts(&server).await.len() + rejected(&server, "r").await.len();
        (ended == 301).then_some(())
    })
    .await;
    swapping.store(false, std::sync::atomic::Ordering::Relaxed);
    assert!(swapper.join().unwrap() > 0);
    daemon.terminate();
    let _ = daemon.wait().await.success();
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    // Those that met the link were rejected for it, and land when they are tried again.
    let _ = consumer(["retry", "-n", "r", "--all", "--into"]).arg(&inbox).server(&server).run().await.success();
    assert_eq!(rejected(&server, "r").await, Vec::<Value>::new());
    assert_eq!(fs::read_dir(inbox.join("d")).unwrap().count(), 300);
}

#[tokio::test]
async fn what_was_rejected_is_listed_announced_and_tried_again() {
    let (server, home) = start().await;
    let inbox = home.path().join("inbox");
    let mut events = server.client().await.subscribe("natsfer.reject.>").await.unwrap();
    let forger = Forger::new(&server).await;
    forger.publish(&Forgery::new(1, "large", &[1; 5_000])).await;
    forger.publish(&Forgery::inline(2, "small/.hidden", &[2; 50])).await;
    forger.publish(&Forgery::inline(3, "fine", &[3; 50])).await;
    forger.message("natsfer.open.x.y", HeaderMap::new(), "".into()).await;
    let options = ["--max-size", "4K", "--refuse", "hidden,executable", "--drain"];
    let output = receiving(&server, "r", &inbox, &options).run().await.exited(1);
    let told: Vec<_> = output.json_lines().iter().map(|event| text(event, "event").to_owned()).collect();
    assert_eq!(told.iter().filter(|event| *event == "rejected").count(), 2, "{told:?}");
    assert!(inbox.join("fine").exists() && !inbox.join("large").exists() && !inbox.join("small").exists());
    assert!(staged_files(&inbox, "r").is_empty(), "nothing is kept of what was refused");

    let listed = rejected(&server, "r").await;
    let mut reasons: Vec<_> = listed.iter().map(|entry| (&entry["name"], text(entry, "reason"))).collect();
    reasons.sort_by_key(|(_, reason)| *reason);
    assert_eq!(
        reasons,
        [(&json!("small/.hidden"), "name"), (&json!("large"), "too_large"), (&Value::Null, "unreadable")]
    );
    for _ in 0..3 {
        let event = tokio::time::timeout(SOON, futures_util::StreamExt::next(&mut events)).await.unwrap().unwrap();
        assert!(event.headers.unwrap().get("Natsfer-Rejection").is_some());
    }
    assert!(rejected(&server, "other").await.is_empty());
    // For people: one line each below the headings, and no control characters.
    let lines = consumer(["rejected", "-n", "r"]).server(&server).run().await.success().text();
    assert!(lines.lines().count() == 4 && lines.contains("at most 4.0 KiB"), "{lines}");

    // A limit that is still too low changes nothing; another one does, and the sender is told.
    let id = format!("{:032x}", 1);
    let retry =
        |options: &[&str]| consumer(["retry", "--json", "-n", "r", "--into"]).arg(&inbox).args(options).server(&server);
    let again = retry(&[&id, "--max-size", "4K"]).run().await.exited(1);
    assert!(again.errors().contains("at most 4.0 KiB"), "{}", again.errors());
    assert_eq!(rejected(&server, "r").await.len(), 3);
    let landed = retry(&["--all"]).run().await.success().json_lines();
    assert_eq!(landed.len(), 2, "{landed:?}");
    assert_eq!(fs::read(inbox.join("large")).unwrap(), [1; 5_000]);
    assert_eq!(receipts(&server).await.len(), 3);
    let left = rejected(&server, "r").await;
    assert_eq!(left.len(), 1, "{left:?}");
    let unknown = retry(&[&id]).run().await.exited(1);
    assert!(unknown.errors().contains("has not rejected"), "{}", unknown.errors());
    // What is removed is not listed any more.
    forger.publish(&Forgery::new(4, "large too", &[4; 5_000])).await;
    let _ = receiving(&server, "r", &inbox, &options).run().await.exited(1);
    assert_eq!(rejected(&server, "r").await.len(), 2);
    let _ = producer(["prune", "--older-than", "0s"]).server(&server).run().await.success();
    assert_eq!(rejected(&server, "r").await.len(), 1);
}

/// What its sender has taken back is not rejected, nor does it stay so.
#[tokio::test]
async fn what_was_cancelled_is_no_matter_of_limits() {
    let (server, home) = start().await;
    let (source, inbox) = (home.path().join("file"), home.path().join("inbox"));
    files::random_file(&source, 3_000_000, 6);
    let sent = sending(&server, &[], &[&source]).run().await.success().json_lines();
    let strict = ["--drain", "--max-size", "1MiB"];
    let _ = receiving(&server, "early", &inbox, &strict).run().await.exited(1);
    let _ = producer(["cancel", text(&sent[0], "transfer")]).server(&server).run().await.success();
    let _ = receiving(&server, "late", &inbox, &strict).run().await.success();
    assert!(rejected(&server, "late").await.is_empty());
    assert_eq!(rejected(&server, "early").await.len(), 1);
    let retry = consumer(["retry", "-n", "early", "--all", "--max-size", "1MiB", "--into"]).arg(&inbox);
    let retried = retry.server(&server).run().await.success();
    let said = retried.errors();
    assert!(said.contains("is not rejected any more") && said.contains("was cancelled"), "{said}");
    assert!(rejected(&server, "early").await.is_empty());
}

/// Who waits for a receiver that has refused the file is told so, and why.
#[tokio::test]
async fn a_sender_is_told_that_its_file_was_rejected() {
    let (server, home) = start().await;
    let (source, inbox) = (home.path().join("file"), home.path().join("inbox"));
    files::random_file(&source, 3_000_000, 6);
    let waiting = sending(&server, &["--wait-for", "r"], &[&source]).spawn().await;
    let sent = waiting.event(SOON, |event| event["event"] == "sent").await;
    let _ = receiving(&server, "r", &inbox, &["--drain", "--max-size", "1MiB"]).run().await.exited(1);
    let told = waiting.wait().await.exited(1).json_lines();
    assert_eq!((text(&told[1], "event"), text(&told[1], "reason")), ("not_landed", "rejected"), "{told:?}");
    assert!(text(&told[1], "detail").contains("at most 1.0 MiB"), "{told:?}");
    let status = async || {
        let output = producer(["status", "--json", text(&sent, "transfer")]).server(&server).run().await;
        text(&output.success().json_lines()[0], "state").to_owned()
    };
    assert_eq!(status().await, "rejected");
    let _ = consumer(["retry", "-n", "r", "--all", "--into"]).arg(&inbox).server(&server).run().await.success();
    assert_eq!(status().await, "landed");
    // What was said before does not count any more.
    let _ = sending(&server, &["--wait-for", "r"], &[&source]).run().await.success();
}

#[tokio::test]
async fn a_directory_grows_no_further_than_it_may() {
    let (server, home) = start().await;
    let inbox = home.path().join("inbox");
    let forger = Forger::new(&server).await;
    forger.publish(&Forgery::new(1, "never", &vec![1; 60_000])).await;
    forger.publish(&Forgery::new(2, "first", &vec![2; 30_000])).await;
    forger.publish(&Forgery::inline(3, "second", &vec![3; 15_000])).await;
    let daemon = receiving(&server, "r", &inbox, &["--max-disk", "50000", "--concurrency", "1"]).spawn().await;
    daemon.event(SOON, |event| event["name"] == "second").await;
    let listed = rejected(&server, "r").await;
    assert_eq!((listed.len(), text(&listed[0], "reason")), (1, "too_large"), "{listed:?}");
    assert!(text(&listed[0], "detail").contains("--max-disk"), "{listed:?}");
    // There is no room for it, and it does not hold up one for which there is.
    forger.publish(&Forgery::new(4, "third", &vec![4; 20_000])).await;
    daemon.log_line(SOON, |line| line.contains("no room for transfer")).await;
    forger.publish(&Forgery::inline(5, "fourth", &[5; 100])).await;
    daemon.event(SOON, |event| event["name"] == "fourth").await;
    assert!(!inbox.join("third").exists() && size_of(&inbox) <= 50_000);
    // Somebody takes a file away.
    fs::remove_file(inbox.join("first")).unwrap();
    daemon.event(SOON, |event| event["name"] == "third").await;
    daemon.terminate();
    let _ = daemon.wait().await.success();
    assert!(size_of(&inbox) <= 50_000);
}

fn size_of(directory: &Path) -> u64 {
    let mut bytes = 0;
    // What is removed meanwhile takes no room.
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.path().symlink_metadata() else { continue };
        bytes += if metadata.is_dir() { size_of(&entry.path()) } else { metadata.len() };
    }
    bytes
}

/// Transfers that are opened and never finished: they neither fill the disk nor the inbox.
#[tokio::test]
async fn what_is_never_finished_is_bounded() {
    let (server, home) = start().await;
    let inbox = home.path().join("inbox");
    let forger = Forger::new(&server).await;
    let unfinished = |number| {
        let mut forged = Forgery::new(number, &format!("unfinished-{number}"), &[1; 3 * CHUNK]);
        forged.closing = Value::Null;
        forged.chunks.pop();
        forged
    };
    for number in 1..=12 {
        forger.publish(&unfinished(number)).await;
    }
    let options = ["--patience", "100ms", "--max-parts", "3", "--max-open", "6"];
    let daemon = receiving(&server, "r", &inbox, &options).spawn().await;
    // As many as are received at once may look at the same moment, and be rejected together.
    let rejected_now = || async {
        let listed = rejected(&server, "r").await;
        assert!(listed.iter().all(|entry| entry["reason"] == "abandoned"), "{listed:?}");
        listed.len()
    };
    let given_up = eventually("those beyond the limit are rejected", SOON, || async {
        Some(rejected_now().await).filter(|count| *count >= 6)
    });
    assert!(given_up.await < 6 + 4);
    forger.publish(&Forgery::new(GOOD, "good", &[1; 1_500])).await;
    daemon.event(SOON, |event| event["name"] == "good").await;
    let parts = staged_files(&inbox, "r").into_iter().filter(|path| path.extension().is_some_and(|end| end == "part"));
    // Those that are worked on are bounded by --concurrency.
    assert!(parts.count() <= 3 + 4);

    // Every one of them, rejected or not, can still be finished.
    for number in 1..=12 {
        let mut rest = Forgery::new(number, "", &[1; 3 * CHUNK]);
        rest.chunks.drain(..2);
        forger.finish(&rest).await;
    }
    eventually("those that wait land", SOON, || async {
        (receipts(&server).await.len() + rejected_now().await == 13).then_some(())
    })
    .await;
    daemon.terminate();
    let _ = daemon.wait().await.success();
    let _ = consumer(["retry", "-n", "r", "--all", "--into"]).arg(&inbox).server(&server).run().await.success();
    assert_eq!(receipts(&server).await.len(), 13);
    assert_eq!(fs::read_dir(&inbox).unwrap().count(), 13 + 1);
}

/// However many transfers are opened and left, or closed with holes: none holds a hand until its sender's patience is over.
#[tokio::test]
async fn thousands_that_never_finish_hold_nobody_up() {
    let (server, home) = start().await;
    let inbox = home.path().join("inbox");
    let forger = Forger::new(&server).await;
    let left = (1..=2_000).map(|number| {
        let mut left = Forgery::new(number, &format!("left-{number}"), &[1; 3 * CHUNK]);
        match number % 3 {
            // Nothing but the manifest.
            0 => left.chunks.clear(),
            1 => left.chunks.truncate(1),
            // A hole, which nobody mends.
            _ => drop(left.chunks.remove(1)),
        }
        if number % 3 < 2 {
            left.closing = Value::Null;
        }
        left
    });
    futures_util::stream::iter(left).for_each_concurrent(100, async |left| forger.publish(&left).await).await;
    forger.publish(&Forgery::new(GOOD, "good", &[1; 1_500])).await;
    let daemon = receiving(&server, "r", &inbox, &[]).spawn().await;
    daemon.event(SOON, |event| event["name"] == "good").await;
    daemon.terminate();
    let _ = daemon.wait().await.success();
}

/// Names that are one elsewhere are one here, if that is asked for.
#[tokio::test]
async fn names_that_collide_elsewhere_follow_the_conflict_policy() {
    let (server, home) = start().await;
    let forger = Forger::new(&server).await;
    for (number, name) in (1..).zip(["Photos/a.jpg", "photos/A.JPG", "caf\u{e9}", "cafe\u{301}", "con.txt", "b"]) {
        forger.publish(&Forgery::inline(number, name, &[number as u8; 10])).await;
    }
    let (plain, portable) = (home.path().join("plain"), home.path().join("portable"));
    let _ = receiving(&server, "plain", &plain, &["--drain"]).run().await.success();
    assert_eq!(fs::read_dir(&plain).unwrap().count(), 6 + 1);
    let options = ["--drain", "--refuse", "unportable", "--concurrency", "1"];
    let _ = receiving(&server, "portable", &portable, &options).run().await.exited(1);
    let mut names: Vec<_> = fs::read_dir(&portable).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, [".natsfer", "Photos", "b", "cafe\u{301} (1)", "caf\u{e9}"]);
    let mut photos: Vec<_> =
        fs::read_dir(portable.join("Photos")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    photos.sort();
    assert_eq!(photos, ["A (1).JPG", "a.jpg"]);
    assert_eq!(rejected(&server, "portable").await.len(), 1);

    let replaced = home.path().join("replaced");
    let options = [&options[..], &["--on-conflict", "overwrite"]].concat();
    let _ = receiving(&server, "replaced", &replaced, &options).run().await.exited(1);
    assert_eq!(fs::read(replaced.join("Photos/a.jpg")).unwrap(), [2; 10]);
    assert_eq!(fs::read(replaced.join("caf\u{e9}")).unwrap(), [4; 10]);
}

/// Whoever may publish there can write receipts and requests: they are read by those who wait, and change nothing.
#[tokio::test]
async fn forged_receipts_requests_and_rejections_fool_nobody() {
    let (server, home) = start().await;
    let (source, inbox) = (home.path().join("file"), home.path().join("inbox"));
    files::random_file(&source, 3_000_000, 5);
    let sent = natsfer_tests::steps::send(&server, &[], &[&source]).await;
    let id = text(&sent[0], "transfer").to_owned();
    let forger = Forger::new(&server).await;
    let digest = format!("blake3:{}", "0".repeat(64));
    for (kind, header, record) in [
        ("receipt", "Natsfer-Receipt", json!({"version": 1, "transfer": id, "receiver": "r", "digest": digest, "size": 1, "landed_at": "2026-11-23T12:00:00Z"}).to_string()),
        ("receipt", "Natsfer-Receipt", "[".repeat(10_000)),
        ("repair", "Natsfer-Repair", json!({"version": 1, "transfer": id, "receiver": "r", "chunks": [[0, u64::MAX]]}).to_string()),
        ("repair", "Natsfer-Repair", json!({"version": 1, "transfer": id, "receiver": "r", "chunks": [[5, 3]]}).to_string()),
        ("reject", "Natsfer-Rejection", json!({"version": 1, "transfer": "f".repeat(32), "receiver": "r", "sequence": 1, "at": "2026-11-23T12:00:00Z", "state": "rejected", "reason": "name", "detail": ""}).to_string()),
        ("reject", "Natsfer-Rejection", "{}".into()),
    ] {
        forger.message(&format!("natsfer.{kind}.default.{id}"), headers([(header, &record)]), "".into()).await;
    }
    assert!(rejected(&server, "r").await.is_empty());
    let status = producer(["status", "--json", &id]).server(&server).run().await.success().json_lines();
    assert!(status.iter().all(|standing| standing["state"] != "landed"), "{status:?}");
    let waiting = sending(&server, &["--wait-for", "r"], &[&source]).spawn().await;
    let _ = receiving(&server, "r", &inbox, &["--drain"]).run().await.success();
    let _ = waiting.wait().await.success();
    files::assert_same(&source, inbox.join("file"));
}
