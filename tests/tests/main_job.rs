//! The main job, on every server we promise to work with: send, receive twice, list, replay, read, and send again.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::path::Path;

use natsfer_tests::steps::{drain, list, nothing_left_but, number, send, stream, text};
use natsfer_tests::{KNOWN_VERSIONS, Server, consumer, files};
use serde_json::Value;

/// A file of several chunks, one that compresses, and a directory of small and middling ones.
fn make_outbox(outbox: &Path) {
    files::random_file(outbox.join("report.bin"), 3_500_000, 1);
    files::json_logs(outbox.join("app.json"), 2_000_000, 2);
    files::tree(outbox.join("photos"), 25, 0..300_000, 3);
}

async fn send_outbox(server: &Server, outbox: &Path) -> Vec<Value> {
    let sent = send(server, &[], &["report.bin", "app.json", "photos"].map(|name| outbox.join(name))).await;
    assert_eq!(sent.len(), 27);
    sent
}

fn find<'a>(events: &'a [Value], name: &str) -> &'a Value {
    events.iter().find(|event| event["name"] == name).unwrap()
}

/// Bytes and messages of the stream of chunks.
async fn stored(server: &Server) -> (u64, u64) {
    let state = &stream(server, "NATSFER_DATA").await["state"];
    (number(state, "bytes"), number(state, "messages"))
}

async fn every_receiver_gets_everything_from_one_copy(version: &str) {
    let (server, home) = (Server::builder().version(version).start().await, tempfile::tempdir().unwrap());
    let (outbox, billing, archive) =
        (home.path().join("outbox"), home.path().join("billing"), home.path().join("archive"));
    make_outbox(&outbox);

    let sent = send_outbox(&server, &outbox).await;
    let (bytes, messages) = stored(&server).await;
    let in_chunks: Vec<_> = sent.iter().filter(|event| event["chunks"] != 0).collect();
    let chunks: u64 = in_chunks.iter().map(|event| number(event, "chunks")).sum();
    assert_eq!(messages, chunks + in_chunks.len() as u64, "each chunk and each closing record once");

    let (one, other) = tokio::join!(drain(&server, "billing", &billing, &[]), drain(&server, "archive", &archive, &[]));
    for received in [&one, &other] {
        assert_eq!(received.len(), sent.len());
        for event in received {
            assert_eq!(event["event"], "received");
            let sent = find(&sent, text(event, "name"));
            for field in ["transfer", "channel", "size", "digest"] {
                assert_eq!(event[field], sent[field], "{field} of {event}");
            }
        }
    }
    files::assert_same(&outbox, &billing);
    files::assert_same(&outbox, &archive);
    assert_eq!(stored(&server).await, (bytes, messages), "one stored copy");
    nothing_left_but(&server, &["archive", "billing"]).await;
}

async fn what_is_stored_can_be_listed_replayed_and_read(version: &str) {
    let (server, home) = (Server::builder().version(version).start().await, tempfile::tempdir().unwrap());
    let outbox = home.path().join("outbox");
    make_outbox(&outbox);
    let sent = send_outbox(&server, &outbox).await;

    let listed = list(&server, &[]).await;
    assert_eq!(listed.len(), sent.len());
    for entry in &listed {
        assert_eq!(entry["state"], "complete");
        assert!(!text(entry, "published_at").is_empty());
        let sent = find(&sent, text(entry, "name"));
        for field in ["transfer", "channel", "size", "stored_bytes"] {
            assert_eq!(entry[field], sent[field], "{field} of {entry}");
        }
    }

    let into = home.path().join("again");
    for name in ["report.bin", "app.json", text(&sent[5], "name")] {
        let transfer = text(find(&sent, name), "transfer");
        let replay =
            consumer(["replay", "--json", transfer, "--into"]).arg(&into).server(&server).run().await.success();
        assert_eq!(find(&replay.json_lines(), name)["digest"], find(&sent, name)["digest"]);
        files::assert_same(outbox.join(name), into.join(name));

        let bytes = std::fs::read(outbox.join(name)).unwrap();
        let cat = consumer(["cat", transfer]).server(&server).run().await.success();
        assert!(cat.stdout == bytes, "cat {name} gave {} other bytes", cat.stdout.len());
    }
    for (name, range) in [("report.bin", 1_000_000..=2_300_000), ("app.json", 0..=0), ("app.json", 999_999..=1_999_999)]
    {
        let transfer = text(find(&sent, name), "transfer");
        let argument = format!("{}-{}", range.start(), range.end());
        let cat = consumer(["cat", transfer, "--range", &argument]).server(&server).run().await.success();
        assert!(cat.stdout == std::fs::read(outbox.join(name)).unwrap()[range], "{argument} of {name}");
    }
    nothing_left_but(&server, &[]).await;
}

async fn neither_side_needs_the_other_and_sending_again_publishes_nothing(version: &str) {
    let (server, home) = (Server::builder().version(version).start().await, tempfile::tempdir().unwrap());
    let (outbox, inbox) = (home.path().join("outbox"), home.path().join("inbox"));
    make_outbox(&outbox);
    let sent = send_outbox(&server, &outbox).await;
    server.restart().await;

    let before = stored(&server).await;
    let control = stream(&server, "NATSFER").await["state"]["last_seq"].clone();
    for again in send_outbox(&server, &outbox).await {
        assert_eq!(again["status"], "unchanged", "{again}");
        assert_eq!((number(&again, "published_chunks"), number(&again, "published_bytes")), (0, 0), "{again}");
        let first = find(&sent, text(&again, "name"));
        for field in ["transfer", "size", "chunks", "stored_bytes", "digest"] {
            assert_eq!(again[field], first[field], "{field} of {again}");
        }
    }
    assert_eq!(stored(&server).await, before);
    assert_eq!(stream(&server, "NATSFER").await["state"]["last_seq"], control);

    server.restart().await;
    drain(&server, "late", &inbox, &[]).await;
    files::assert_same(&outbox, &inbox);
    assert!(drain(&server, "late", &inbox, &[]).await.is_empty(), "nothing comes twice");
    nothing_left_but(&server, &["late"]).await;
}

macro_rules! on_every_version {
    ($($module:ident: $version:literal),+) => {
        $(mod $module {
            #[tokio::test]
            async fn every_receiver_gets_everything_from_one_copy() {
                super::every_receiver_gets_everything_from_one_copy($version).await;
            }

            #[tokio::test]
            async fn what_is_stored_can_be_listed_replayed_and_read() {
                super::what_is_stored_can_be_listed_replayed_and_read($version).await;
            }

            #[tokio::test]
            async fn neither_side_needs_the_other_and_sending_again_publishes_nothing() {
                super::neither_side_needs_the_other_and_sending_again_publishes_nothing($version).await;
            }
        })+

        #[test]
        fn these_are_all_known_versions() {
            assert_eq!([$($version),+], KNOWN_VERSIONS);
        }
    };
}

on_every_version!(v2_10: "2.10.26", v2_11: "2.11.11", v2_12: "2.12.8", v2_15: "2.15.1");
