//! Names as people and programs really choose them, and those that cannot travel.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use natsfer_tests::steps::{drain, list, nothing_left_but, send, sending, text};
use natsfer_tests::{Server, files, producer};

fn unusual_names() -> Vec<String> {
    let mut names: Vec<String> = [
        "with  two spaces.txt",
        " leading and trailing ",
        "größe/日本語/🦀.txt",
        // The same letter, composed and not: two names.
        "caf\u{e9}",
        "cafe\u{301}",
        ".hidden",
        "...",
        "a..b",
        "ends with dots..",
        "-rf",
        "--json",
        "back\\slash",
        "quotes ' and \"",
        "* and ? and >",
        "$(reboot); `reboot`",
        "#1 100%.txt",
        "CON",
        "deeper/.natsfer is a name like any other",
        "archive.tar.gz",
    ]
    .map(str::to_owned)
    .into();
    names.push("x".repeat(255));
    names.push(format!("{}.txt", "ü".repeat(125)) + "x");
    names.push("directory-of-255-bytes-".repeat(12)[..255].to_owned() + "/" + &"y".repeat(255));
    names.push((0..60).map(|level| format!("level {level}/")).collect::<String>() + "bottom");
    names
}

#[tokio::test]
async fn unusual_names_arrive_as_they_are() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (outbox, inbox) = (home.path().join("outbox"), home.path().join("inbox"));
    let names = unusual_names();
    for (seed, name) in (0..).zip(&names) {
        files::random_file(outbox.join(name), 1000 + seed, seed);
    }
    let sent = send(&server, &[], &[outbox.join(".")]).await;
    assert_eq!(sent.len(), names.len());
    let listed = list(&server, &[]).await;
    for name in &names {
        assert!(listed.iter().any(|entry| entry["name"] == name.as_str()), "{name} is not listed");
    }
    assert_eq!(drain(&server, "names", &inbox, &[]).await.len(), names.len());
    files::assert_same(&outbox, &inbox);
    nothing_left_but(&server, &["names"]).await;
}

#[tokio::test]
async fn directories_keep_their_own_name_and_files_lose_what_is_before_theirs() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let deep = home.path().join("one/two");
    files::random_file(deep.join("photos/summer/a.jpg"), 100, 1);
    files::random_file(deep.join("-dash"), 100, 2);
    let absolute = send(&server, &["-c", "absolute"], &[deep.join("photos"), deep.join("-dash")]).await;
    let command = producer(["send", "--json", "-c", "relative", "--", "photos/", "-dash"]);
    let relative = command.current_dir(&deep).server(&server).run().await.success().json_lines();
    let renamed = send(&server, &["-c", "renamed", "--name", "2026/b.jpg"], &[deep.join("photos/summer/a.jpg")]).await;
    for (events, expected) in [
        (absolute, vec!["-dash", "photos/summer/a.jpg"]),
        (relative, vec!["-dash", "photos/summer/a.jpg"]),
        (renamed, vec!["2026/b.jpg"]),
    ] {
        let mut names: Vec<_> = events.iter().map(|event| text(event, "name")).collect();
        names.sort_unstable();
        assert_eq!(names, expected);
    }
}

#[tokio::test]
async fn what_cannot_be_named_is_refused_by_its_path_and_the_rest_is_sent() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (outbox, inbox) = (home.path().join("outbox"), home.path().join("inbox"));
    files::tree(&outbox, 5, 0..100_000, 1);
    let kept = home.path().join("kept");
    files::tree(&kept, 5, 0..100_000, 1);
    let refused: Vec<PathBuf> = vec![
        OsStr::from_bytes(b"not unicode \xff.txt").into(),
        "line\nbreak".into(),
        "turned \u{202e}gpj.exe".into(),
        ".natsfer/journal".into(),
    ];
    for name in &refused {
        files::random_file(outbox.join(name), 100, 2);
    }
    // What natsfer keeps in a directory further down is nobody's file.
    files::random_file(outbox.join("another inbox/deeper/.natsfer/journal"), 100, 2);
    let output = sending(&server, &[], &[outbox.join(".")]).run().await.exited(1);
    assert_eq!(output.json_lines().len(), 5);
    let errors = output.errors();
    for word in ["not unicode ", "break", "gpj.exe", ".natsfer/journal"] {
        assert!(errors.contains(word), "{word} is not named in:\n{errors}");
    }
    drain(&server, "names", &inbox, &[]).await;
    files::assert_same(&kept, &inbox);
}

#[tokio::test]
async fn symlinks_in_a_directory_are_left_out() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (outbox, inbox) = (home.path().join("outbox"), home.path().join("inbox"));
    files::tree(&outbox, 4, 0..10_000, 1);
    files::random_file(home.path().join("secret"), 100, 2);
    symlink(home.path().join("secret"), outbox.join("to a file outside")).unwrap();
    symlink(home.path(), outbox.join("to a directory")).unwrap();
    symlink("nowhere", outbox.join("dangling")).unwrap();
    symlink(".", outbox.join("endless")).unwrap();
    let output = sending(&server, &[], &[outbox.join(".")]).run().await.success();
    assert_eq!(output.json_lines().len(), 4, "{output:?}");
    assert!(output.errors().contains("to a file outside"), "{}", output.errors());
    assert_eq!(drain(&server, "links", &inbox, &[]).await.len(), 4);
    for name in ["to a file outside", "to a directory", "dangling", "endless"] {
        std::fs::remove_file(outbox.join(name)).unwrap();
    }
    files::assert_same(&outbox, &inbox);
}

#[tokio::test]
async fn a_missing_file_is_named_and_the_rest_is_sent() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    files::random_file(home.path().join("there"), 100, 1);
    let paths = ["missing", "there"].map(|name| home.path().join(name));
    let output = sending(&server, &[], &paths).run().await.exited(1);
    assert_eq!(text(&output.json_lines()[0], "name"), "there");
    assert!(output.errors().contains("missing"), "{}", output.errors());
    nothing_left_but(&server, &[]).await;
}
