//! A stream that takes few consumers.

use async_nats::jetstream::consumer::pull;
use natsfer_consumer::{Broker, ConnectOptions, Rejections, SaveOptions, TargetDirectory};
use natsfer_tests::steps::{consumers, drain, nothing_left_but, receiving, send, sending, text};
use natsfer_tests::{Server, eventually, files};
use serde_json::Value;

use crate::forger::{CHUNK, Forger, Forgery};
use crate::{GOOD, SOON, rejected, start};

/// Consumers that the data stream takes.
const MOST: i32 = 12;

/// As [`start`], with a data stream that takes few consumers.
async fn start_with_few(most: i32) -> (Server, tempfile::TempDir) {
    let (server, home) = start().await;
    let jetstream = server.jetstream().await;
    let mut config = jetstream.get_stream("NATSFER_DATA").await.unwrap().cached_info().config.clone();
    config.max_consumers = most;
    let _ = jetstream.delete_stream("NATSFER_DATA").await.unwrap();
    let _ = jetstream.create_stream(config).await.unwrap();
    (server, home)
}

/// A transfer whose sender has died: before its first chunk, or behind it.
fn left(number: usize) -> Forgery {
    let mut left = Forgery::new(number, &format!("left-{number}"), &[1; 3 * CHUNK]);
    left.chunks.truncate(number % 2);
    left.closing = Value::Null;
    left
}

/// Many more transfers wait for their senders than there are consumers: they have none, also when a receiver has just been started
/// again, and what is finished comes.
#[tokio::test]
async fn what_waits_for_its_sender_has_no_consumer() {
    let (server, home) = start_with_few(MOST).await;
    let forger = Forger::new(&server).await;
    for number in 1..=5 * MOST as usize {
        forger.publish(&left(number)).await;
    }
    let large = home.path().join("large");
    files::random_file(&large, 3 << 20, 1);
    let inbox = |name: &str| home.path().join(name);
    let mut daemons = Vec::new();
    for name in ["a", "b"] {
        daemons.push(receiving(&server, name, inbox(name), &["--patience", "1s"]).spawn().await);
    }
    forger.publish(&Forgery::inline(GOOD, "small", b"bytes")).await;
    send(&server, &[], &[&large]).await;
    for daemon in &daemons {
        daemon.event(SOON, |event| event["name"] == "small").await;
        daemon.event(SOON, |event| event["name"] == "large").await;
        // The last one has been left, too.
        let last = format!("{:032x}", 5 * MOST);
        daemon.log_line(SOON, |line| line.contains("put back for later") && line.contains(&last)).await;
    }
    let none = || async { consumers(&server, "NATSFER_DATA").await.is_empty().then_some(()) };
    eventually("no cursor is left", SOON, none).await;

    let again = daemons.remove(0);
    again.terminate();
    let _ = again.wait().await.success();
    daemons.push(receiving(&server, "a", inbox("a"), &["--patience", "1s"]).spawn().await);
    // Each begins again once its sender goes on.
    for number in 1..=4 {
        let mut rest = Forgery::new(number, "", &[1; 3 * CHUNK]);
        rest.chunks.drain(..number % 2);
        forger.finish(&rest).await;
        for daemon in &daemons {
            daemon.event(SOON, |event| event["transfer"] == rest.id.as_str()).await;
        }
    }
    for daemon in daemons {
        daemon.terminate();
        let _ = daemon.wait().await.success();
    }
    nothing_left_but(&server, &["a", "b"]).await;
}

/// While others have all consumers, what needs none comes past what needs one; that comes, and a sender goes on, once there are some.
#[tokio::test]
async fn consumers_are_not_waited_for_with_a_hand() {
    let (server, home) = start_with_few(MOST).await;
    let forger = Forger::new(&server).await;
    let jetstream = server.jetstream().await;
    let stream = jetstream.get_stream("NATSFER_DATA").await.unwrap();
    for number in 0..MOST {
        let config = pull::Config { durable_name: Some(format!("other-{number}")), ..Default::default() };
        let _ = stream.create_consumer(config).await.unwrap();
    }
    for number in 1..=3 {
        forger.publish(&Forgery::new(number, &format!("large-{number}"), &[2; 3 * CHUNK])).await;
    }
    let receiver = receiving(&server, "r", home.path().join("inbox"), &["--concurrency", "1"]).spawn().await;
    let told = receiver.log_line(SOON, |line| line.contains("max_consumers")).await;
    assert!(told.contains("put back for later") && told.contains("10026"), "{told}");
    forger.publish(&Forgery::inline(GOOD, "small", b"bytes")).await;
    receiver.event(SOON, |event| event["name"] == "small").await;
    let source = home.path().join("sent");
    files::random_file(&source, 3 << 20, 1);
    let sender = sending(&server, &[], &[&source]).spawn().await;
    sender.log_line(SOON, |line| line.contains("max_consumers")).await;
    for number in 0..MOST {
        let _ = stream.delete_consumer(&format!("other-{number}")).await.unwrap();
    }
    let _ = sender.wait().await.success();
    let mut names = Vec::new();
    while names.len() < 4 {
        let landed = receiver
            .event(SOON, |event| !names.contains(&text(event, "name").to_owned()) && text(event, "name") != "small");
        names.push(text(&landed.await, "name").to_owned());
    }
    receiver.terminate();
    let _ = receiver.wait().await.success();
    nothing_left_but(&server, &["r"]).await;
}

/// A drain has more files at hand than the stream takes consumers: its own are given up one after the other, and it lands them all.
#[tokio::test]
async fn a_drain_waits_for_consumers_as_long_as_files_land() {
    let (server, home) = start_with_few(2).await;
    let outbox = home.path().join("outbox");
    for number in 0..12 {
        files::random_file(outbox.join(number.to_string()), 1 << 20, number);
    }
    send(&server, &["--concurrency", "1"], &[outbox.join(".")]).await;
    let inbox = home.path().join("inbox");
    drain(&server, "r", &inbox, &[]).await;
    files::assert_same(&outbox, &inbox);
}

/// What somebody asks for is read, although nothing new is stored of it: its sender may be at work.
#[tokio::test]
async fn who_retries_what_was_abandoned_waits_for_its_sender() {
    let (server, home) = start().await;
    let (forger, inbox) = (Forger::new(&server).await, home.path().join("inbox"));
    let unfinished = left(1);
    forger.publish(&unfinished).await;
    let options = ["--patience", "100ms", "--max-open", "0"];
    let daemon = receiving(&server, "r", &inbox, &options).spawn().await;
    let abandoned = || async { (rejected(&server, "r").await.len() == 1).then_some(()) };
    eventually("it is rejected", SOON, abandoned).await;
    daemon.terminate();
    let _ = daemon.wait().await.success();
    assert!(consumers(&server, "NATSFER_DATA").await.is_empty());

    let broker = Broker::connect(&ConnectOptions::default().with_server(server.url())).await.unwrap();
    let rejections = Rejections::new(broker.clone(), "r".parse().unwrap());
    let listed = rejections.list(&">".parse().unwrap()).await.unwrap();
    let incoming = rejections.open(&listed[0]).await.unwrap();
    let (target, options) = (TargetDirectory::open(&inbox).unwrap(), SaveOptions::default().with_patience(10 * SOON));
    let finish = async {
        let reads = || async { (!consumers(&server, "NATSFER_DATA").await.is_empty()).then_some(()) };
        eventually("it is read", SOON, reads).await;
        let mut rest = Forgery::new(1, "", &[1; 3 * CHUNK]);
        rest.chunks.drain(..unfinished.chunks.len());
        forger.finish(&rest).await;
        Ok(())
    };
    let _ = tokio::try_join!(incoming.save_into(&target, &options), finish).unwrap();
    broker.close().await;
    assert_eq!(std::fs::read(inbox.join("left-1")).unwrap(), [1; 3 * CHUNK]);
    nothing_left_but(&server, &["r"]).await;
}
