//! What went wrong once, and must not again: found by people who tried to break it.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::fs;
use std::time::Duration;

use natsfer_tests::steps::{drain, list, receiving, send, text};
use natsfer_tests::{Server, consumer, files};

/// Stopped at whatever moment, a receiver's next run lands everything, and does not take a whole transfer for an open one.
#[tokio::test]
async fn a_receiver_stopped_at_any_moment_goes_on_at_once() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let outbox = home.path().join("outbox");
    for seed in 0..6 {
        files::random_file(outbox.join(format!("{seed}.bin")), 3_000_000 + seed * 400_000, seed);
    }
    send(&server, &[], &[outbox.join(".")]).await;
    for delay in [20, 40, 60, 80, 120, 200] {
        let name = format!("stopped-{delay}");
        let inbox = home.path().join(&name);
        let options = ["--drain", "--takeover", "2s"];
        let running = receiving(&server, &name, &inbox, &options).spawn().await;
        // The moment is what is tried out here, not a condition that is waited for.
        tokio::time::sleep(Duration::from_millis(delay)).await;
        running.terminate();
        let _ = running.wait().await;
        drain(&server, &name, &inbox, &["--takeover", "2s"]).await;
        files::assert_same(&outbox, &inbox);
    }
}

#[tokio::test]
async fn chunks_that_are_gone_are_named_and_fail_the_drain() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let source = home.path().join("gone.bin");
    files::random_file(&source, 5_000_000, 1);
    let sent = send(&server, &[], &[&source]).await;
    server.jetstream().await.get_stream("NATSFER_DATA").await.unwrap().purge().await.unwrap();
    let options = ["--drain", "--patience", "1s"];
    let output = receiving(&server, "late", home.path().join("inbox"), &options).run().await.exited(1);
    let errors = output.errors();
    assert!(errors.contains("missing") && errors.contains(text(&sent[0], "transfer")), "{errors}");
    assert!(!home.path().join("inbox/gone.bin").exists());
}

#[tokio::test]
async fn the_last_of_several_versions_stays_where_they_replace_each_other() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let source = home.path().join("version");
    files::random_file(&source, 20_000_000, 1);
    send(&server, &[], &[&source]).await;
    fs::write(&source, "the last one").unwrap();
    send(&server, &[], &[&source]).await;
    let inbox = home.path().join("inbox");
    drain(&server, "r", &inbox, &["--on-conflict", "overwrite"]).await;
    assert_eq!(fs::read(inbox.join("version")).unwrap(), b"the last one");
}

#[tokio::test]
async fn one_id_on_two_channels_is_two_transfers() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let id = "abcdefabcdefabcdefabcdefabcdefab";
    for (channel, size) in [("a", 2_000_000), ("b", 3_000_000)] {
        let source = home.path().join(channel);
        files::random_file(&source, size, size);
        let command = ["send", "--json", "-c", channel, "--name", channel, "--transfer-id", id, "-"];
        let _ = natsfer_tests::producer(command).stdin_file(&source).server(&server).run().await.success();
    }
    let mut sizes: Vec<_> = list(&server, &[]).await.iter().map(|entry| entry["size"].as_u64()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [Some(2_000_000), Some(3_000_000)]);
    let again = home.path().join("again");
    let _ = consumer(["replay", id, "--into"]).arg(&again).server(&server).run().await.success();
    for channel in ["a", "b"] {
        let bytes = |path| fs::read(path).unwrap();
        assert!(bytes(again.join(channel)) == bytes(home.path().join(channel)), "{channel} differs");
    }
}

#[tokio::test]
async fn what_can_never_be_landed_ends_the_drain() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (source, inbox) = (home.path().join("name"), home.path().join("inbox"));
    fs::write(&source, "a file").unwrap();
    fs::create_dir_all(inbox.join("name")).unwrap();
    send(&server, &[], &[&source]).await;
    let options = ["--drain", "--on-conflict", "overwrite"];
    let output = receiving(&server, "r", &inbox, &options).run().await.exited(1);
    assert!(output.errors().contains("directory"), "{}", output.errors());

    let blocked = home.path().join("blocked");
    fs::create_dir_all(&blocked).unwrap();
    fs::write(blocked.join(".natsfer"), "in the way").unwrap();
    let output = receiving(&server, "s", &blocked, &["--drain"]).run().await.exited(1);
    assert!(output.errors().contains(".natsfer"), "{}", output.errors());
}

/// A log that cannot be written is the log's trouble: a full disk, a reader that has gone, one that does not read.
#[tokio::test]
async fn a_log_that_cannot_be_written_holds_up_nothing() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    fs::write(home.path().join("a"), "a").unwrap();
    let ours = |name: &'static str| async move {
        let found = tokio::task::spawn_blocking(move || natsfer_tests::our_binary(name)).await;
        found.unwrap().unwrap()
    };
    let (sender, receiver) = (ours("natsfer-producer").await, ours("natsfer-consumer").await);
    let shell = |line: &str, ours: &std::path::Path| {
        natsfer_tests::program("/bin/sh", ["-c", line]).arg(ours).current_dir(home.path()).server(&server)
    };
    for pipe in ["gone", "unread"] {
        let _ = natsfer_tests::program("mkfifo", [home.path().join(pipe)]).run().await.success();
    }
    for (name, log) in [
        ("on-a-full-disk", "exec 2> /dev/full"),
        ("whose-reader-has-gone", "exec 9<> gone 2> gone 9>&-"),
        ("that-nobody-reads", "exec 9<> unread 2> unread"),
    ] {
        let missing = "missing ".repeat(100);
        let send = format!("{log}; exec \"$0\" send -c {name} -vv {missing} a");
        let sent = shell(&send, &sender).run().await.exited(1);
        assert_eq!(sent.text().lines().count(), 1, "{name}: {}", sent.text());
        let receive = format!("{log}; exec \"$0\" receive -vv -n {name} -c {name} --into {name} --drain");
        let _ = shell(&receive, &receiver).run().await.success();
        assert_eq!(fs::read_to_string(home.path().join(name).join("a")).unwrap(), "a");
    }
}

/// Whoever reads the events must be able to tell that some are lost.
#[tokio::test]
async fn events_that_cannot_be_written_are_a_failure() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    fs::write(home.path().join("a"), "a").unwrap();
    send(&server, &[], &[home.path().join("a")]).await;
    for program in ["list", "receive -n r --drain --into inbox"] {
        let line = format!("\"$0\" {program} --json > /dev/full");
        let consumer = natsfer_tests::our_binary("natsfer-consumer").unwrap();
        let shell = natsfer_tests::program("/bin/sh", ["-c", &line]).arg(&consumer).current_dir(home.path());
        let output = shell.server(&server).run().await.exited(1);
        assert!(output.errors().contains("No space left on device"), "{}", output.errors());
    }
}
