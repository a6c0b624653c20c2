//! Real files, killed writers and broken lines.

use std::fs;

use super::*;
use crate::cli::watch::{
    state::tests::sent,
    version::{Modified, Version},
};

const NAME: &str = "watch.default.jsonl";

fn record(name: u8, version: u8) -> Record {
    let sent = sent(name, version);
    let version = Version { size: 9, modified: Modified(version.into(), 0), inode: 1, changed: None };
    Record::Sent { name: sent.name.clone(), version, transfer: sent.transfer, digest: Some(sent.digest) }
}

async fn keep(directory: &Path, records: impl IntoIterator<Item = Record>) {
    let (file, _) = StateFile::open(directory, &Channel::default()).unwrap();
    for record in records {
        file.keep(record).await;
    }
    file.close().await;
}

async fn remembered(directory: &Path) -> Vec<String> {
    let (file, state) = StateFile::open(directory, &Channel::default()).unwrap();
    file.close().await;
    let mut names: Vec<_> = state.sent.into_keys().map(String::from).collect();
    names.sort();
    names
}

#[tokio::test]
async fn broken_lines_cost_what_they_said_and_no_more() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join(NAME);
    keep(home.path(), (1..=4).map(|name| record(name, 0))).await;
    let sound = fs::read(&path).unwrap();
    assert_eq!(remembered(home.path()).await, ["1", "2", "3", "4"]);
    // Torn anywhere, and written on.
    let line = sound.len() / 4;
    for cut in [0, 1, line - 1, line, line + 1, sound.len() - 1] {
        fs::write(&path, &sound[..cut]).unwrap();
        let whole = (cut + 1) / line.max(1);
        keep(home.path(), [record(9, 0)]).await;
        let names = remembered(home.path()).await;
        assert!(names.contains(&"9".to_owned()) && names.len() >= cut / line && names.len() <= whole + 1, "{names:?}");
    }
    // Garbled in the middle, and longer than a line can be.
    let mut garbled = sound.clone();
    garbled[line + 30] ^= 1;
    let endless = vec![b'x'; 3 * LONGEST_LINE as usize];
    let text = [&garbled[..], &endless, b"\n\xff\xfe\n\n", record(7, 0).to_line().unwrap().as_bytes()].concat();
    fs::write(&path, text).unwrap();
    assert_eq!(remembered(home.path()).await, ["1", "3", "4", "7"]);
}

#[tokio::test]
async fn what_was_overtaken_is_dropped_now_and_then() {
    let home = tempfile::tempdir().unwrap();
    let many = (0..3_000u32).map(|number| record((number % 3) as u8, (number % 200) as u8));
    keep(home.path(), many).await;
    let _ = remembered(home.path()).await;
    let lines = fs::read_to_string(home.path().join(NAME)).unwrap().lines().count();
    assert_eq!(lines, 3);
    assert_eq!(remembered(home.path()).await, ["0", "1", "2"]);
    // Each channel has its own.
    let (file, state) = StateFile::open(home.path(), &"other".parse().unwrap()).unwrap();
    assert!(state.sent.is_empty());
    file.close().await;
}

#[tokio::test]
async fn a_directory_is_used_by_one_at_a_time() {
    let home = tempfile::tempdir().unwrap();
    let (file, _) = StateFile::open(home.path(), &Channel::default()).unwrap();
    let error = StateFile::open(home.path(), &"other".parse().unwrap()).unwrap_err().to_string();
    assert!(error.contains(&format!("another watcher (process {})", std::process::id())), "{error}");
    file.close().await;
    assert!(StateFile::open(home.path(), &Channel::default()).is_ok());
}
