//! The libraries as a service embeds them: in this process, without our binaries.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::time::Duration;

use futures_util::StreamExt;
use natsfer_consumer::{Incoming, Landing, ReceiveError, Receiver, ReceiverOptions, SaveOptions, TargetDirectory};
use natsfer_producer::{ConnectOptions, Producer, SendOptions, SentStatus};
use natsfer_tests::steps::{consumers, nothing_left_but, stream};
use natsfer_tests::{Server, files};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(10);

fn connect_to(server: &Server) -> ConnectOptions {
    ConnectOptions::default().with_server(server.url()).with_client_name("service")
}

fn named(name: &str) -> SendOptions {
    SendOptions::default().with_name(name.parse().unwrap()).with_chunk_size("64KiB".parse().unwrap())
}

fn random(size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    files::Random::new(size as u64).fill(&mut bytes);
    bytes
}

async fn receiver(server: &Server, name: &str) -> Receiver {
    let options = ReceiverOptions::new(name.parse().unwrap());
    Receiver::connect(&connect_to(server), options).await.unwrap()
}

async fn next(receiver: &mut Receiver) -> Incoming {
    timeout(SOON, receiver.next()).await.unwrap().unwrap().unwrap()
}

/// Whether nothing more comes: the server answers a second receiver's state, not a wait.
async fn is_done(receiver: &Receiver) -> bool {
    let backlog = receiver.backlog().await.unwrap().unwrap();
    (backlog.waiting, backlog.taken) == (0, 0)
}

#[tokio::test]
async fn bytes_readers_and_files_are_sent_with_progress() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let producer = Producer::connect(&connect_to(&server)).await.unwrap();
    let bytes = random(1_000_000);

    let sending = producer.send_bytes(bytes.clone(), named("bytes").with_metadata("colour", "blue"));
    let progress = sending.progress();
    let sent = sending.await.unwrap();
    assert_eq!((sent.size, sent.status, sent.chunks), (1_000_000, SentStatus::Sent, 16));
    let steps: Vec<_> = timeout(SOON, progress.collect()).await.unwrap();
    let last = steps.last().unwrap();
    assert_eq!((last.bytes_read, last.bytes_stored, last.size), (1_000_000, 1_000_000, Some(1_000_000)));
    assert!(steps.is_sorted_by_key(|step| step.bytes_stored), "{steps:?}");
    let again = producer.send_bytes(bytes.clone(), named("bytes")).await.unwrap();
    assert_eq!((again.status, again.transfer), (SentStatus::Unchanged, sent.transfer));

    let sent = producer.send_reader(std::io::Cursor::new(bytes.clone()), named("reader")).await.unwrap();
    assert_eq!((sent.size, sent.name.as_str()), (1_000_000, "reader"));

    let path = home.path().join("file.bin");
    std::fs::write(&path, &bytes).unwrap();
    let sent = producer.send_file(&path, SendOptions::default()).await.unwrap();
    assert_eq!(sent.name.as_str(), "file.bin");
    let missing = producer.send_file(home.path().join("missing"), SendOptions::default()).await.unwrap_err();
    assert!(missing.to_string().contains("missing"), "{missing}");
    assert!(producer.send_bytes(bytes, SendOptions::default()).await.is_err(), "bytes need a name");
    producer.close().await;
    nothing_left_but(&server, &[]).await;
}

#[tokio::test]
async fn a_dropped_send_stops_and_the_next_one_goes_on() {
    let server = Server::start().await;
    let producer = Producer::connect(&connect_to(&server)).await.unwrap().with_window(256 << 10);
    let bytes = random(300 * 65_536);
    let sending = producer.send_bytes(bytes.clone(), named("dropped"));
    let mut progress = sending.progress();
    while progress.next().await.unwrap().bytes_stored < 20 * 65_536 {}
    drop(sending);
    timeout(SOON, progress.for_each(async |_| ())).await.unwrap();
    let sent = producer.send_bytes(bytes, named("dropped")).await.unwrap();
    assert_eq!((sent.status, sent.chunks), (SentStatus::Resumed, 300));
    assert!(sent.resumed_from >= 20 * 65_536 && sent.published_chunks <= 280, "{sent:?}");
    producer.close().await;
    nothing_left_but(&server, &[]).await;
}

/// One that was delivered beyond that would wait for this process's death, and nobody else would be given it.
#[tokio::test]
async fn no_more_is_taken_than_may_be_held() {
    let server = Server::start().await;
    let producer = Producer::connect(&connect_to(&server)).await.unwrap();
    for number in 0..20 {
        producer.send_bytes(random(100 + number), named(&format!("{number}.bin"))).await.unwrap();
    }
    let options = ReceiverOptions::new("service".parse().unwrap()).with_concurrency(4);
    let mut receiver = Receiver::connect(&connect_to(&server), options).await.unwrap();
    let mut held = Vec::new();
    for left in (1..=20).rev() {
        while held.len() < left.min(4) {
            held.extend(timeout(SOON, receiver.next_several()).await.unwrap().unwrap());
            let taken = receiver.backlog().await.unwrap().unwrap().taken;
            assert!(held.len() <= 4 && taken <= 4, "{taken} are taken, {} of them here", held.len());
        }
        held.pop().unwrap().skip().await;
    }
    assert!(is_done(&receiver).await);
}

/// However many readers have nothing to give, others send; and a send that is dropped lets go of its reader.
#[tokio::test]
async fn a_quiet_reader_holds_nobody_up() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let producer = Producer::connect(&connect_to(&server)).await.unwrap().with_window(256 << 10);
    let mut quiet = Vec::new();
    for number in 0..20 {
        let (mut writer, reader) = tokio::io::duplex(1 << 20);
        writer.write_all(&random(100_000)).await.unwrap();
        let sending = producer.send_reader(reader, named(&format!("quiet-{number}")));
        let mut progress = sending.progress();
        timeout(SOON, async { while progress.next().await.unwrap().bytes_stored < 65_536 {} }).await.unwrap();
        quiet.push((writer, sending));
    }
    let bytes = random(2_000_000);
    let sent = timeout(SOON, producer.send_bytes(bytes.clone(), named("bytes"))).await.unwrap().unwrap();
    assert_eq!(sent.size, 2_000_000);
    let path = home.path().join("file.bin");
    std::fs::write(&path, &bytes).unwrap();
    timeout(SOON, producer.send_file(&path, named("file"))).await.unwrap().unwrap();
    for (mut writer, sending) in quiet {
        drop(sending);
        timeout(SOON, async { while writer.write_all(b"more").await.is_ok() {} }).await.unwrap();
    }
}

#[tokio::test]
async fn a_transfer_ends_in_one_call() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let producer = Producer::connect(&connect_to(&server)).await.unwrap();
    let bytes = random(500_000);
    for name in ["saved", "read", "skipped", "rejected"] {
        let options = named(name).with_metadata("for", name).with_media_type("application/x-test");
        producer.send_bytes(bytes.clone(), options).await.unwrap();
    }
    let inbox = TargetDirectory::open(home.path().join("inbox")).unwrap();
    let mut receiver = receiver(&server, "service").await;
    for _ in 0..4 {
        let incoming = next(&mut receiver).await;
        let manifest = incoming.manifest().clone();
        assert_eq!((manifest.size, manifest.media_type.as_deref()), (Some(500_000), Some("application/x-test")));
        assert_eq!(manifest.metadata["for"], manifest.name.as_str());
        match manifest.name.as_str() {
            "saved" => {
                let saved = incoming.save_into(&inbox, &SaveOptions::default()).await.unwrap();
                assert!(std::fs::read(&saved.path).unwrap() == bytes);
            }
            "read" => {
                let mut reader = incoming.read().await.unwrap();
                let mut read = Vec::new();
                reader.read_to_end(&mut read).await.unwrap();
                reader.finish().await;
                assert!(read == bytes);
            }
            "skipped" => incoming.skip().await,
            _ => incoming.reject("not what we ordered").await,
        }
    }
    assert!(is_done(&receiver).await);
    receiver.close().await;
    producer.close().await;
    assert!(consumers(&server, "NATSFER_DATA").await.is_empty());
    assert!(!home.path().join("inbox/skipped").exists());
    nothing_left_but(&server, &["service"]).await;
}

/// A file that has landed, but could not be noted, waits without a consumer, and is recognised when it comes again.
#[tokio::test]
async fn what_is_put_back_has_no_consumer() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let producer = Producer::connect(&connect_to(&server)).await.unwrap();
    let bytes = random(2_000_000);
    producer.send_bytes(bytes.clone(), named("unnoted")).await.unwrap();
    let (inbox, options) = (TargetDirectory::open(home.path()).unwrap(), SaveOptions::default());
    let mut receiver = receiver(&server, "clerk").await;
    let landed = next(&mut receiver).await.land_into(&inbox, &options).await.unwrap();
    assert_eq!(consumers(&server, "NATSFER_DATA").await.len(), 1);
    let (transfer, source) = (landed.manifest().transfer, std::io::Error::other("read-only"));
    let _ = landed.put_back(ReceiveError::NotNoted { transfer, source }).await;
    assert!(consumers(&server, "NATSFER_DATA").await.is_empty());
    let saved = next(&mut receiver).await.save_into(&inbox, &options).await.unwrap();
    assert_eq!((saved.landing, saved.refetched_bytes), (Landing::Identical, 0));
    assert!(std::fs::read(saved.path).unwrap() == bytes);
    receiver.close().await;
    producer.close().await;
    nothing_left_but(&server, &["clerk"]).await;
}

#[tokio::test]
async fn what_is_dropped_comes_again_at_once() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let producer = Producer::connect(&connect_to(&server)).await.unwrap();
    let bytes = random(2_000_000);
    producer.send_bytes(bytes.clone(), named("boomerang")).await.unwrap();
    let mut receiver = receiver(&server, "juggler").await;

    drop(next(&mut receiver).await);
    let mut half_read = next(&mut receiver).await.read().await.unwrap();
    half_read.read_exact(&mut vec![0; 100_000]).await.unwrap();
    drop(half_read);
    let mut unfinished = next(&mut receiver).await.read().await.unwrap();
    unfinished.read_exact(&mut vec![0; 100_000]).await.unwrap();
    unfinished.finish().await;
    let inbox = TargetDirectory::open(home.path()).unwrap();
    let saved = next(&mut receiver).await.save_into(&inbox, &SaveOptions::default()).await.unwrap();
    assert!(std::fs::read(saved.path).unwrap() == bytes);
    assert!(is_done(&receiver).await);
    receiver.close().await;
    producer.close().await;
    nothing_left_but(&server, &["juggler"]).await;
}

#[tokio::test]
async fn transfers_are_a_stream_and_can_be_read_while_they_are_sent() {
    let server = Server::start().await;
    let producer = Producer::connect(&connect_to(&server)).await.unwrap();
    let (mut writer, reader) = tokio::io::duplex(1 << 16);
    let sending = producer.send_reader(reader, named("live"));
    let receiver = receiver(&server, "live").await;
    let mut transfers = Box::pin(receiver.into_stream());

    let bytes = random(6 * 65_536 + 5);
    writer.write_all(&bytes[..4 * 65_536]).await.unwrap();
    let incoming = timeout(SOON, transfers.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(incoming.manifest().size, None);
    let mut live = incoming.read().await.unwrap();
    let mut early = vec![0; 2 * 65_536];
    timeout(SOON, live.read_exact(&mut early)).await.unwrap().unwrap();
    assert!(early == bytes[..early.len()], "the first chunks are here before the last are sent");
    writer.write_all(&bytes[4 * 65_536..]).await.unwrap();
    drop(writer);
    sending.await.unwrap();
    let mut rest = Vec::new();
    timeout(SOON, live.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert!(rest == bytes[early.len()..]);
    live.finish().await;
    drop(transfers);
    producer.close().await;
    nothing_left_but(&server, &["live"]).await;
    assert_eq!(stream(&server, "NATSFER").await["consumer_detail"][0]["num_ack_pending"], 0);
}
