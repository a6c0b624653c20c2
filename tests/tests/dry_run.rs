//! `--dry-run`: what it says is what happens then, and nothing happens before.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::path::Path;
use std::time::Duration;

use natsfer_tests::steps::{drain, list, nothing_left_but, number, receiving, send, sending, stream, text};
use natsfer_tests::{Output, Proxy, Server, eventually, files, producer};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);

/// Each file's name, and what would be done with it.
fn planned(output: &Output) -> Vec<(String, String)> {
    let events = output.json_lines();
    assert!(events.iter().all(|event| event["event"] == "planned"), "{events:?}");
    let plan = |event: &Value| (text(event, "name").to_owned(), text(event, "action").to_owned());
    let mut plans: Vec<_> = events.iter().map(plan).collect();
    plans.sort();
    plans
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, action)| ((*name).to_owned(), (*action).to_owned())).collect()
}

/// The last sequences of both streams; none where there are no streams.
async fn last_sequences(server: &Server) -> [Option<u64>; 2] {
    let of = async |name| stream(server, name).await["state"]["last_seq"].as_u64();
    [of("NATSFER").await, of("NATSFER_DATA").await]
}

#[tokio::test]
async fn a_send_is_foretold() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let outbox = home.path().join("outbox");
    files::random_file(outbox.join("large"), 8 << 20, 1);
    files::random_file(outbox.join("small"), 100, 2);
    let dry = async |options: &[&str]| {
        sending(&server, &[&["--dry-run"], options].concat(), &[outbox.join(".")]).run().await.success()
    };
    assert_eq!(planned(&dry(&[]).await), pairs(&[("large", "send"), ("small", "send")]));
    // No streams were made for it.
    assert_eq!(last_sequences(&server).await, [None, None]);

    let small = send(&server, &[], &[outbox.join("small")]).await;
    let sender = sending(&server, &["--rate", "500KiB"], &[outbox.join("large")]).spawn().await;
    eventually("some of it is stored", SOON, || async { (last_sequences(&server).await[1] > Some(1)).then_some(()) })
        .await;
    sender.kill();
    let _ = sender.end().await;
    let before = last_sequences(&server).await;
    let said = dry(&[]).await;
    assert_eq!(planned(&said), pairs(&[("large", "resume"), ("small", "nothing")]));
    let of_small = said.json_lines().into_iter().find(|event| event["name"] == "small").unwrap();
    assert_eq!((&of_small["transfer"], number(&of_small, "size")), (&small[0]["transfer"], 100));
    assert_eq!(planned(&dry(&["-c", "other"]).await), pairs(&[("large", "send"), ("small", "send")]));

    // Nothing is read of standard input, which does not end here.
    let piped = sending(&server, &["--dry-run", "--name", "piped"], &["-"]).stdin_bytes(vec![0; 1 << 20]).run().await;
    assert_eq!(planned(&piped.success()), pairs(&[("piped", "send")]));
    // What was taken back is sent under another id.
    let cancelled = list(&server, &["--state", "open"]).await;
    let id = text(&cancelled[0], "transfer");
    let _ = producer(["cancel", id]).server(&server).run().await.success();
    let again = dry(&[]).await.json_lines().into_iter().find(|event| event["name"] == "large").unwrap();
    assert!(again["action"] == "send" && again["transfer"] != id, "{again}");
    assert_eq!(before[1].is_some(), last_sequences(&server).await[1].is_some());
    nothing_left_but(&server, &[]).await;
    let sent = send(&server, &[], &[outbox.join("large")]).await;
    assert_eq!(sent[0]["transfer"], again["transfer"]);
}

#[tokio::test]
async fn a_watch_is_foretold() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (outbox, moved) = (home.path().join("outbox"), home.path().join("moved"));
    for (number, name) in (1..).zip(["a.csv", "b.txt", ".hidden.csv", "deeper/c.csv"]) {
        files::random_file(outbox.join(name), 100, number);
    }
    let watching = |options: &[&str]| producer(["watch", "--json"]).args(options).arg(&outbox).server(&server);
    let moving = ["--dry-run", "--match", "**/*.csv", "--then", "move", "--move-to", moved.to_str().unwrap()];
    let said = watching(&moving).run().await.success();
    assert_eq!(planned(&said), pairs(&[("a.csv", "send"), ("deeper/c.csv", "send")]));
    assert_eq!(
        said.json_lines()[0]["then"],
        json!(format!("moved to {}", moved.canonicalize().unwrap_or(moved.clone()).display()))
    );
    assert!(!moved.exists() && !outbox.join(".natsfer").exists());
    assert_eq!(last_sequences(&server).await, [None, None]);

    let daemon = watching(&["--match", "*.csv"]).spawn().await;
    daemon.event(SOON, |event| event["event"] == "sent" && event["name"] == "a.csv").await;
    daemon.terminate();
    let _ = daemon.wait().await.success();
    let _ = producer(["prune", "--older-than", "0s"]).server(&server).run().await.success();
    // It remembers what the stream does not have any more.
    let said = watching(&["--match", "**/*.csv", "--dry-run"]).run().await.success();
    assert_eq!(planned(&said), pairs(&[("a.csv", "sent_before"), ("deeper/c.csv", "send")]));
    nothing_left_but(&server, &[]).await;
}

/// Whatever it waits for.
#[tokio::test]
async fn a_dry_run_of_a_watch_can_be_stopped() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    files::random_file(home.path().join("a.csv"), 100, 1);
    let silent = Proxy::to(&server.url()).await;
    silent.black_hole(true);
    let dry = producer(["watch", "--dry-run"]).arg(home.path()).server(&silent).spawn().await;
    eventually("it connects", SOON, || async { (silent.connections_made() > 0).then_some(()) }).await;
    dry.terminate();
    // By itself it ends once the server has been silent for long, and says so.
    let errors = dry.wait().await.exited(1).errors();
    assert!(!errors.contains("error:"), "{errors}");
}

#[tokio::test]
async fn a_receive_is_foretold() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (outbox, inbox) = (home.path().join("outbox"), home.path().join("inbox"));
    let options = ["--match", "*.csv", "--max-size", "2MiB", "--layout", "{channel/}/{name}"];
    let dry = async |into: &Path| {
        receiving(&server, "r", into, &[&["--dry-run"][..], &options].concat()).run().await.success()
    };
    assert_eq!(planned(&dry(&inbox).await), []);
    assert_eq!(last_sequences(&server).await, [None, None]);

    for (number, (name, size)) in
        (1..).zip([("a.csv", 100), ("b.txt", 100), ("huge.csv", 3 << 20), ("large.csv", 1 << 20)])
    {
        files::random_file(outbox.join(name), size, number);
    }
    send(&server, &["-c", "in.eu"], &[outbox.join(".")]).await;
    files::random_file(outbox.join("late.csv"), 2 << 20, 9);
    let sender = sending(&server, &["-c", "in.eu", "--rate", "200KiB"], &[outbox.join("late.csv")]).spawn().await;
    eventually("it is opened", SOON, || async { (list(&server, &["--state", "open"]).await.len() == 1).then_some(()) })
        .await;
    sender.kill();
    let _ = sender.end().await;
    let before = last_sequences(&server).await;
    let said = dry(&inbox).await;
    let expected = [
        ("a.csv", "land"),
        ("b.txt", "pass_over"),
        ("huge.csv", "reject"),
        ("large.csv", "land"),
        ("late.csv", "wait"),
    ];
    assert_eq!(planned(&said), pairs(&expected));
    let paths: Vec<_> = said
        .json_lines()
        .iter()
        .filter(|event| event["action"] == "land")
        .map(|event| text(event, "path").to_owned())
        .collect();
    assert_eq!(
        paths.iter().map(Path::new).collect::<Vec<_>>(),
        [inbox.join("in/eu/a.csv"), inbox.join("in/eu/large.csv")]
    );
    assert!(!inbox.exists());
    nothing_left_but(&server, &[]).await;
    assert_eq!(last_sequences(&server).await, before);

    // What it says happens, and is nothing to be done any more.
    let _ = receiving(&server, "r", &inbox, &[&["--drain", "--patience", "1s"][..], &options].concat())
        .run()
        .await
        .exited(1);
    assert!(paths.iter().all(|path| Path::new(path).is_file()));
    assert_eq!(planned(&dry(&inbox).await), pairs(&[("late.csv", "wait")]));
    let other = receiving(&server, "r", &inbox, &["--dry-run", "-c", "elsewhere"]).run().await.exited(1);
    assert!(other.errors().contains("in.eu") || other.errors().contains('>'), "{}", other.errors());

    // A name that is taken shows.
    let said = receiving(&server, "new", &outbox, &["--dry-run"]).run().await.success().json_lines();
    assert!(said.iter().all(|event| event["taken"] == true), "{said:?}");
    drain(&server, "r", &inbox, &[&options[..], &["--patience", "1s"]].concat()).await;
    nothing_left_but(&server, &["r"]).await;
}

/// What is in the way of a file, and of one that another one of the run would be in the way of.
#[tokio::test]
async fn a_receive_tells_what_is_in_the_way() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (outbox, inbox) = (home.path().join("outbox"), home.path().join("inbox"));
    files::random_file(outbox.join("blocked/file"), 100, 1);
    files::random_file(outbox.join("twice"), 100, 2);
    send(&server, &[], &[outbox.join(".")]).await;
    files::random_file(outbox.join("twice"), 200, 3);
    send(&server, &[], &[outbox.join("twice")]).await;
    std::fs::create_dir(&inbox).unwrap();
    std::fs::write(inbox.join("blocked"), "no directory").unwrap();
    let dry = |into: &Path| receiving(&server, "r", into, &["--on-conflict", "skip", "--dry-run"]);

    let said = dry(&inbox).run().await.success().json_lines();
    let plans: Vec<_> = said
        .iter()
        .map(|event| json!([event["name"], event["action"], event["taken"], event["on_conflict"]]))
        .collect();
    assert_eq!(
        plans,
        [
            json!(["blocked/file", "reject", false, null]),
            json!(["twice", "land", false, null]),
            json!(["twice", "land", true, "skip"])
        ]
    );
    let refused = dry(&inbox.join("blocked")).run().await;
    assert_eq!(refused.code(), Some(1));
    assert!(refused.errors().contains("not a directory"), "{}", refused.errors());
}
