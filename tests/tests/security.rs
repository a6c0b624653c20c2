//! docs/security.md: its configurations, started as they stand there, and what each user may and may not do, through
//! natsfer's commands and past them.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::jetstream;
use async_nats::{Client, ConnectOptions, Event, HeaderMap};
use futures_util::StreamExt;
use natsfer_tests::document::{SECRET, block, start, url};
use natsfer_tests::steps::{
    consumers, drain, list, number, receipts, receiving, send, sending, staged_files, stream as stream_state, text,
};
use natsfer_tests::{Builder, Proxy, Server, consumer, eventually, files, producer};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);
const MIB: u64 = 1 << 20;
/// Chunked also where files are not large.
const ON_INVOICES: [&str; 4] = ["-c", "invoices.eu", "--chunk-size", "256KiB"];
const BELOW_INVOICES: [&str; 2] = ["-c", "invoices.>"];

fn json_block(info: &str) -> Value {
    serde_json::from_str(&block(info)).unwrap()
}

/// A user who does not keep to natsfer's ways.
struct Cheat {
    client: Client,
    violations: Arc<Mutex<Vec<String>>>,
}

impl Cheat {
    async fn login(server: &Server, user: &str) -> Self {
        let violations = Arc::<Mutex<Vec<String>>>::default();
        let noted = violations.clone();
        let options = ConnectOptions::new().user_and_password(user.into(), SECRET.into());
        let options = options.event_callback(move |event| {
            let noted = noted.clone();
            async move {
                if let Event::ServerError(error) = event {
                    noted.lock().unwrap().push(error.to_string());
                }
            }
        });
        Self { client: options.connect(server.url()).await.unwrap(), violations }
    }

    /// Publishes, and is told that it may not.
    async fn is_denied(&self, subject: &str) {
        self.is_denied_to(subject, json!({})).await;
    }

    async fn is_denied_to(&self, subject: &str, request: Value) {
        self.client
            .publish_with_reply(subject.to_owned(), self.client.new_inbox(), request.to_string().into())
            .await
            .unwrap();
        self.violation(&format!("Publish to \"{subject}\"")).await;
    }

    async fn cannot_subscribe(&self, subject: &str) {
        let _subscriber = self.client.subscribe(subject.to_owned()).await.unwrap();
        self.violation(&format!("Subscription to \"{subject}\"")).await;
    }

    async fn violation(&self, of: &str) {
        let is_there = async || self.violations.lock().unwrap().iter().any(|text| text.contains(of)).then_some(());
        eventually(&format!("the server denies {of}"), SOON, is_there).await;
    }

    /// What JetStream answers to what is permitted.
    async fn answer(&self, subject: &str, request: Value) -> Value {
        let answer = self.client.request(subject.to_owned(), request.to_string().into()).await.unwrap();
        serde_json::from_slice(&answer.payload).unwrap()
    }

    /// Asks for a consumer that this subject permits, and is refused for what stands in the request.
    async fn is_refused(&self, subject: &str, config: Value) {
        let stream = subject.split('.').nth(4).unwrap();
        let answer = self.answer(subject, json!({ "stream_name": stream, "config": config, "action": "" })).await;
        assert!(answer["error"]["err_code"].is_u64(), "{subject} with {config}: {answer}");
    }
}

/// Fails soon, by name.
async fn refused(command: natsfer_tests::Command) {
    let output = command.run().await.exited(1);
    let errors = output.errors().to_lowercase();
    assert!(errors.contains("permission") || errors.contains("not permitted"), "{errors}");
    assert!(output.elapsed < Duration::from_secs(10), "{:?}: {errors}", output.elapsed);
}

/// A small file and one in chunks.
fn outbox(home: &Path, seed: u64) -> std::path::PathBuf {
    let outbox = home.join("outbox");
    files::random_file(outbox.join("small.bin"), 1_000, seed);
    files::random_file(outbox.join("large.bin"), 3_000_000, seed + 1);
    outbox
}

async fn delete_chunk(server: &Server, index: u64) {
    let data = server.jetstream().await.get_stream("NATSFER_DATA").await.unwrap();
    let info = data.get_info().await.unwrap();
    for sequence in info.state.first_sequence..=info.state.last_sequence {
        let Ok(message) = data.get_raw_message(sequence).await else { continue };
        if message.headers.get("Natsfer-Chunk").is_some_and(|chunk| chunk.as_str() == index.to_string()) {
            data.delete_message(sequence).await.unwrap();
            return;
        }
    }
    panic!("no chunk {index}");
}

async fn messages(server: &Server, stream: &str) -> u64 {
    stream_state(server, stream).await["state"]["messages"].as_u64().unwrap()
}

#[tokio::test]
async fn producer_and_receiver_do_all_their_work_on_their_channels() {
    let (server, home) = (start(&block("conf users")).await, tempfile::tempdir().unwrap());
    let (outbox, inbox) = (outbox(home.path(), 1), home.path().join("inbox"));
    let [operator, producer_url, billing] = ["operator", "producer", "billing"].map(|user| url(&server.url(), user));
    let sent = send(producer_url.as_str(), &ON_INVOICES, &[outbox.join(".")]).await;
    assert_eq!(sent.len(), 2);
    let again = send(producer_url.as_str(), &ON_INVOICES, &[outbox.join(".")]).await;
    assert!(again.iter().all(|event| event["status"] == "unchanged"), "{again:?}");
    // Not the receiver's.
    files::random_file(home.path().join("secret.bin"), 1_000, 3);
    send(operator.as_str(), &["-c", "payroll"], &[home.path().join("secret.bin")]).await;

    // What is stored, then what comes.
    assert_eq!(drain(billing.as_str(), "billing", &inbox, &BELOW_INVOICES).await.len(), 2);
    files::assert_same(&outbox, &inbox);
    let daemon = receiving(billing.as_str(), "billing", &inbox, &BELOW_INVOICES).spawn().await;
    let live = home.path().join("live.bin");
    files::random_file(&live, 2_000_000, 4);
    let waiting = [&ON_INVOICES[..], &["--wait-for", "billing"]].concat();
    let lines = sending(producer_url.as_str(), &waiting, &[&live]).run().await.success().json_lines();
    assert_eq!(text(&lines[1], "event"), "landed", "{lines:?}");
    daemon.event(SOON, |event| event["name"] == "live.bin").await;
    daemon.terminate();
    let _ = daemon.wait().await.success();
    files::assert_same(&live, inbox.join("live.bin"));
    assert_eq!(receipts(&server).await.len(), 3);

    let listed = list(billing.as_str(), &BELOW_INVOICES).await;
    assert_eq!(listed.len(), 3);
    let into = home.path().join("again");
    let replayed = consumer(["replay", "-c", "invoices.>", "--into"]).arg(&into).server(billing.as_str());
    let _ = replayed.run().await.success();
    files::assert_same(&live, into.join("live.bin"));
    // What the receiver refuses, its sender is told, and can be tried again.
    let waiting = sending(producer_url.as_str(), &waiting, &[home.path().join("secret.bin")]).spawn().await;
    waiting.event(SOON, |event| event["event"] == "sent").await;
    let strict = [&BELOW_INVOICES[..], &["--drain", "--max-size", "100"]].concat();
    let _ = receiving(billing.as_str(), "billing", &inbox, &strict).run().await.exited(1);
    assert_eq!(text(&waiting.wait().await.exited(1).json_lines()[1], "reason"), "rejected");
    let rejected = || consumer(["rejected", "--json", "-n", "billing", "-c", "invoices.>"]).server(billing.as_str());
    assert_eq!(rejected().run().await.success().json_lines().len(), 1);
    let retry = consumer(["retry", "-n", "billing", "--all", "-c", "invoices.>", "--into"]).arg(&inbox);
    let _ = retry.server(billing.as_str()).run().await.success();
    assert!(rejected().run().await.success().json_lines().is_empty());
    eventually("no cursor is left", SOON, || async {
        consumers(&server, "NATSFER_DATA").await.is_empty().then_some(())
    })
    .await;
    assert_eq!(consumers(&server, "NATSFER").await, ["billing"]);
}

#[tokio::test]
async fn producer_and_receiver_resume_and_repair_on_their_channels() {
    let (server, home) = (start(&block("conf users")).await, tempfile::tempdir().unwrap());
    let (source, inbox) = (home.path().join("large.bin"), home.path().join("inbox"));
    let [producer_url, billing] = ["producer", "billing"].map(|user| url(&server.url(), user));
    files::random_file(&source, 12 * MIB, 5);

    let slow = Proxy::to(&server.url()).await;
    slow.rate(4 * MIB);
    let victim = sending(url(&slow.url(), "producer").as_str(), &ON_INVOICES, &[&source]).spawn().await;
    eventually("some of it is stored", SOON, || async { (messages(&server, "NATSFER_DATA").await > 8).then_some(()) })
        .await;
    victim.kill();
    let _ = victim.wait().await;
    let resumed = send(producer_url.as_str(), &ON_INVOICES, &[&source]).await.remove(0);
    assert_eq!(resumed["status"], "resumed", "{resumed}");
    assert!(number(&resumed, "resumed_from") > 0, "{resumed}");

    let slow = Proxy::to(&server.url()).await;
    slow.rate(4 * MIB);
    let options = [&BELOW_INVOICES[..], &["--takeover", "10m"]].concat();
    let victim = receiving(url(&slow.url(), "billing").as_str(), "billing", &inbox, &options).spawn().await;
    eventually("some of it is here", SOON, || async { (slow.bytes_down() > 5 * MIB).then_some(()) }).await;
    victim.kill();
    let _ = victim.wait().await;
    // One that had come, perhaps, and one that had not.
    delete_chunk(&server, 0).await;
    delete_chunk(&server, 46).await;
    let fast = Proxy::to(&server.url()).await;
    let options = [&options[..], &["--patience", "1s"]].concat();
    let daemon = receiving(url(&fast.url(), "billing").as_str(), "billing", &inbox, &options).spawn().await;
    eventually("it asks", SOON, || async {
        let context = server.jetstream().await;
        let stream = context.get_stream("NATSFER").await.unwrap();
        let mut asked = stream.info_with_subjects("natsfer.repair.>").await.unwrap();
        asked.next().await.map(drop)
    })
    .await;
    let repaired = send(producer_url.as_str(), &ON_INVOICES, &[&source]).await.remove(0);
    assert_eq!((text(&repaired, "status"), number(&repaired, "published_chunks")), ("repaired", 2), "{repaired}");
    let received = daemon.event(SOON, |event| event["event"] == "received").await;
    assert!(number(&received, "repaired_chunks") >= 1, "{received}");
    assert!(fast.bytes_down() < 11 * MIB, "{} bytes were fetched again", fast.bytes_down());
    files::assert_same(&source, inbox.join("large.bin"));
    assert!(staged_files(&inbox, "billing").is_empty());
    // Across another connection, an acknowledgement is given only after a look at what it is for.
    let (next, before) = (home.path().join("next.bin"), fast.bytes_down());
    files::random_file(&next, 8 * MIB, 6);
    fast.rate(4 * MIB);
    send(producer_url.as_str(), &ON_INVOICES, &[&next]).await;
    eventually("some of it is here", SOON, || async { (fast.bytes_down() > before + 2 * MIB).then_some(()) }).await;
    fast.cut();
    daemon.event(SOON, |event| event["name"] == "next.bin").await;
    eventually("it is acknowledged", SOON, || async {
        let inbox = &stream_state(&server, "NATSFER").await["consumer_detail"][0];
        (number(inbox, "num_pending") + number(inbox, "num_ack_pending") == 0).then_some(())
    })
    .await;
    daemon.terminate();
    let errors = daemon.wait().await.success().errors();
    assert!(!errors.contains("not acknowledged"), "{errors}");
    assert!(drain(billing.as_str(), "billing", &inbox, &BELOW_INVOICES).await.is_empty());
}

/// A service that does something with what has landed, with a NATS client alone.
#[tokio::test]
async fn a_service_hears_of_what_lands_on_its_channels_and_of_nothing_else() {
    let (server, home) = (start(&block("conf users")).await, tempfile::tempdir().unwrap());
    let [operator, producer_url, billing] = ["operator", "producer", "billing"].map(|user| url(&server.url(), user));
    let service = Cheat::login(&server, "indexer").await;
    let mut live = service.client.subscribe("natsfer.receipt.invoices.>").await.unwrap();
    service.client.flush().await.unwrap();
    send(producer_url.as_str(), &ON_INVOICES, &[outbox(home.path(), 1).join(".")]).await;
    send(operator.as_str(), &["-c", "payroll"], &[home.path().join("outbox/small.bin")]).await;
    drain(billing.as_str(), "billing", home.path().join("inbox"), &BELOW_INVOICES).await;
    drain(url(&server.url(), "archive").as_str(), "archive", home.path().join("archive"), &["-c", "payroll"]).await;

    let stream = jetstream::new(service.client.clone()).get_stream_no_info("NATSFER").await.unwrap();
    let config = jetstream::consumer::pull::Config {
        durable_name: Some("indexer".into()),
        filter_subject: "natsfer.receipt.invoices.>".into(),
        ..Default::default()
    };
    let durable = stream.create_consumer(config).await.unwrap();
    let mut messages = durable.messages().await.unwrap();
    for _ in 0..2 {
        let heard = tokio::time::timeout(SOON, live.next()).await.unwrap().unwrap();
        let told = tokio::time::timeout(SOON, messages.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(heard.subject, told.subject);
        let receipt = told.headers.as_ref().unwrap().get("Natsfer-Receipt").unwrap().as_str();
        let receipt: Value = serde_json::from_str(receipt).unwrap();
        assert!(home.path().join("inbox").join(text(&receipt, "path")).exists(), "{receipt}");
        told.double_ack().await.unwrap();
    }
    // Of the other channel it hears nothing, and it says nothing.
    assert_eq!(durable.get_info().await.unwrap().num_pending, 0);
    let id = "0".repeat(32);
    service.cannot_subscribe("natsfer.open.>").await;
    service.cannot_subscribe("natsfer.receipt.>").await;
    service.is_denied(&format!("natsfer.receipt.invoices.eu.{id}")).await;
    service.is_denied("$JS.API.CONSUMER.CREATE.NATSFER.indexer.natsfer.open.invoices.>").await;
    service.is_denied("$JS.API.CONSUMER.CREATE.NATSFER.billing.natsfer.receipt.invoices.>").await;
    service.is_denied("$JS.API.DIRECT.GET.NATSFER").await;
    service.is_denied("$JS.API.CONSUMER.MSG.NEXT.NATSFER.billing").await;
    let everything = json!({ "durable_name": "indexer", "filter_subject": "natsfer.>", "ack_policy": "explicit" });
    service.is_refused("$JS.API.CONSUMER.CREATE.NATSFER.indexer.natsfer.receipt.invoices.>", everything).await;
    Cheat::login(&server, "producer")
        .await
        .is_denied("$JS.API.CONSUMER.CREATE.NATSFER.indexer.natsfer.receipt.invoices.>")
        .await;
}

/// Chunks that are stored, and damaged on the way into the cursor's sight: read by their places, without the right to read by
/// sequence.
#[tokio::test]
async fn a_receiver_finds_other_copies_of_damaged_chunks() {
    let (server, home) = (start(&block("conf users")).await, tempfile::tempdir().unwrap());
    let (source, inbox) = (home.path().join("large.bin"), home.path().join("inbox"));
    files::random_file(&source, 3_000_000, 7);
    let [producer_url, billing] = ["producer", "billing"].map(|user| url(&server.url(), user));
    send(producer_url.as_str(), &ON_INVOICES, &[&source]).await;
    let context = server.jetstream().await;
    let data = context.get_stream("NATSFER_DATA").await.unwrap();
    // Sound copies behind the end, of two chunks whose first copies are gone and damaged.
    for (sequence, keep) in [(3, false), (8, true)] {
        let message = data.get_raw_message(sequence).await.unwrap();
        let mut headers = HeaderMap::new();
        for (name, values) in message.headers.iter().filter(|(name, _)| !name.to_string().starts_with("Nats-")) {
            values.iter().for_each(|value| headers.append(name.clone(), value.clone()));
        }
        if keep {
            let mut bad = message.payload.to_vec();
            bad[0] ^= 1;
            let sent =
                context.publish_with_headers(message.subject.clone(), headers.clone(), bad.into()).await.unwrap();
            sent.await.unwrap();
        }
        data.delete_message(sequence).await.unwrap();
        let sent =
            context.publish_with_headers(message.subject.clone(), headers, message.payload.clone()).await.unwrap();
        sent.await.unwrap();
    }
    assert_eq!(drain(billing.as_str(), "billing", &inbox, &BELOW_INVOICES).await.len(), 1);
    files::assert_same(&source, inbox.join("large.bin"));
}

#[tokio::test]
async fn a_producer_is_told_that_its_transfer_was_cancelled() {
    let (server, home) = (start(&block("conf users")).await, tempfile::tempdir().unwrap());
    let source = home.path().join("large.bin");
    files::random_file(&source, 24 * MIB, 8);
    let (slow, operator) = (Proxy::to(&server.url()).await, url(&server.url(), "operator"));
    slow.rate(2 * MIB);
    let sender = sending(url(&slow.url(), "producer").as_str(), &ON_INVOICES, &[&source]).spawn().await;
    let opened = eventually("it is open", SOON, || async { list(operator.as_str(), &[]).await.pop() }).await;
    let cancel = ["cancel", text(&opened, "transfer"), "--reason", "enough"];
    let _ = producer(cancel).server(operator.as_str()).run().await.success();
    let errors = sender.wait().await.exited(1).errors();
    assert!(errors.contains("was cancelled while it was sent: enough"), "{errors}");
}

#[tokio::test]
async fn a_producer_can_do_nothing_else() {
    let (server, home) = (start(&block("conf users")).await, tempfile::tempdir().unwrap());
    let (outbox, user) = (outbox(home.path(), 9), url(&server.url(), "producer"));
    let operator = url(&server.url(), "operator");
    let id =
        text(&send(operator.as_str(), &["-c", "payroll"], &[outbox.join("small.bin")]).await[0], "transfer").to_owned();
    send(operator.as_str(), &["-c", "payroll", "--chunk-size", "256KiB"], &[outbox.join("large.bin")]).await;
    send(user.as_str(), &ON_INVOICES, &[outbox.join("large.bin")]).await;
    let before = (messages(&server, "NATSFER").await, messages(&server, "NATSFER_DATA").await);
    refused(producer(["verify", "-c", "invoices.eu"]).arg(outbox.join("large.bin")).server(user.as_str())).await;
    for name in ["small.bin", "large.bin"] {
        refused(sending(user.as_str(), &["-c", "payroll"], &[outbox.join(name)])).await;
    }
    refused(receiving(user.as_str(), "billing", home.path().join("inbox"), &["--drain"])).await;
    refused(consumer(["list"]).server(user.as_str())).await;
    refused(consumer(["cat", id.as_str()]).server(user.as_str())).await;
    refused(producer(["prune", "--older-than", "0s"]).server(user.as_str())).await;
    refused(producer(["cancel", id.as_str()]).server(user.as_str())).await;
    refused(producer(["init", "--stream", "OTHER"]).server(user.as_str())).await;

    let cheat = Cheat::login(&server, "producer").await;
    for kind in ["open", "data", "close"] {
        cheat.is_denied(&format!("natsfer.{kind}.payroll.{id}")).await;
    }
    for kind in ["receipt", "repair", "reject"] {
        cheat.is_denied(&format!("natsfer.{kind}.invoices.{id}")).await;
    }
    cannot_administer(&cheat).await;
    cannot_read_payroll(&cheat, &["repair", "receipt", "close"]).await;
    cheat.is_denied("$JS.API.CONSUMER.CREATE.NATSFER.x.natsfer.open.invoices.>").await;
    cheat.is_denied("$JS.API.CONSUMER.CREATE.NATSFER.billing.natsfer.repair.invoices.>").await;
    for name in ["billing", "archive", "x"] {
        cheat.is_denied(&format!("$JS.API.CONSUMER.MSG.NEXT.NATSFER.{name}")).await;
        cheat.is_denied(&format!("$JS.API.CONSUMER.MSG.NEXT.NATSFER_DATA.{name}-{id}")).await;
        cheat.is_denied(&format!("$JS.ACK.NATSFER.{name}.1.1.1.1.1")).await;
    }
    assert_eq!((messages(&server, "NATSFER").await, messages(&server, "NATSFER_DATA").await), before);
}

#[tokio::test]
async fn a_receiver_can_do_nothing_else() {
    let (server, home) = (start(&block("conf users")).await, tempfile::tempdir().unwrap());
    let (outbox, user) = (outbox(home.path(), 11), url(&server.url(), "billing"));
    let operator = url(&server.url(), "operator");
    let id =
        text(&send(operator.as_str(), &["-c", "payroll"], &[outbox.join("small.bin")]).await[0], "transfer").to_owned();
    send(operator.as_str(), &["-c", "payroll", "--chunk-size", "256KiB"], &[outbox.join("large.bin")]).await;
    let before = (messages(&server, "NATSFER").await, messages(&server, "NATSFER_DATA").await);
    let into = home.path().join("inbox");
    refused(receiving(user.as_str(), "billing", &into, &["--drain"])).await;
    refused(receiving(user.as_str(), "billing", &into, &["-c", "payroll", "--drain"])).await;
    refused(receiving(user.as_str(), "archive", &into, &["-c", "invoices.>", "--drain"])).await;
    refused(sending(user.as_str(), &["-c", "invoices.eu"], &[outbox.join("small.bin")])).await;
    refused(sending(user.as_str(), &["-c", "invoices.eu"], &[outbox.join("large.bin")])).await;
    refused(consumer(["list"]).server(user.as_str())).await;
    refused(consumer(["list", "-c", "payroll"]).server(user.as_str())).await;
    refused(consumer(["cat", id.as_str()]).server(user.as_str())).await;
    refused(consumer(["forget", "-n", "archive"]).server(user.as_str())).await;
    refused(producer(["prune", "--older-than", "0s"]).server(user.as_str())).await;

    let cheat = Cheat::login(&server, "billing").await;
    for kind in ["open", "data", "close"] {
        for channel in ["invoices", "payroll"] {
            cheat.is_denied(&format!("natsfer.{kind}.{channel}.{id}")).await;
        }
    }
    for kind in ["receipt", "repair", "reject"] {
        cheat.is_denied(&format!("natsfer.{kind}.payroll.{id}")).await;
    }
    cheat.is_denied("natsfer.reject.archive").await;
    cannot_administer(&cheat).await;
    cannot_read_payroll(&cheat, &["open", "close", "receipt", "repair"]).await;
    cheat.is_denied("$JS.API.CONSUMER.CREATE.NATSFER.archive.natsfer.open.invoices.>").await;
    for api in ["MSG.NEXT", "INFO", "DELETE"] {
        cheat.is_denied(&format!("$JS.API.CONSUMER.{api}.NATSFER.archive")).await;
    }
    cheat.is_denied("$JS.ACK.NATSFER.archive.1.1.1.1.1").await;
    assert_eq!((messages(&server, "NATSFER").await, messages(&server, "NATSFER_DATA").await), before);
}

/// Nothing that removes, changes or copies what is stored.
async fn cannot_administer(cheat: &Cheat) {
    for stream in ["NATSFER", "NATSFER_DATA"] {
        for api in ["UPDATE", "DELETE", "PURGE", "SNAPSHOT", "RESTORE", "MSG.DELETE", "PEER.REMOVE", "LEADER.STEPDOWN"]
        {
            cheat.is_denied(&format!("$JS.API.STREAM.{api}.{stream}")).await;
        }
        let republish = json!({ "name": stream, "republish": { "src": ">", "dest": "elsewhere.>" } });
        cheat.is_denied_to(&format!("$JS.API.STREAM.UPDATE.{stream}"), republish).await;
        let mirror = json!({ "name": "COPY", "mirror": { "name": stream } });
        cheat.is_denied_to("$JS.API.STREAM.CREATE.COPY", mirror).await;
        cheat.is_denied(&format!("$JS.API.CONSUMER.DELETE.{stream}")).await;
        cheat.is_denied(&format!("$JS.API.CONSUMER.LIST.{stream}")).await;
        cheat.is_denied(&format!("$JS.API.CONSUMER.NAMES.{stream}")).await;
        cheat.is_denied(&format!("$JS.API.STREAM.INFO.{stream}")).await;
    }
    for api in ["INFO", "STREAM.LIST", "STREAM.NAMES", "ACCOUNT.PURGE.FILES"] {
        cheat.is_denied(&format!("$JS.API.{api}")).await;
    }
    for subject in ["natsfer.>", "$JS.ACK.>", "$JS.API.>", "$JS.EVENT.>"] {
        cheat.cannot_subscribe(subject).await;
    }
}

/// None of the ways to a message of another channel. `kinds` are those of its own channels that it may have consumers over.
async fn cannot_read_payroll(cheat: &Cheat, kinds: &[&str]) {
    for (stream, kind) in [("NATSFER", "open"), ("NATSFER_DATA", "data")] {
        let payroll = format!("natsfer.{kind}.payroll.>");
        for query in [json!({ "seq": 1 }), json!({ "last_by_subj": payroll }), json!({ "multi_last": ["natsfer.>"] })] {
            cheat.is_denied_to(&format!("$JS.API.DIRECT.GET.{stream}"), query.clone()).await;
            cheat.is_denied_to(&format!("$JS.API.STREAM.MSG.GET.{stream}"), query).await;
        }
        cheat.is_denied(&format!("$JS.API.DIRECT.GET.{stream}.{payroll}")).await;
        for api in ["CONSUMER.CREATE", "CONSUMER.DURABLE.CREATE"] {
            cheat.is_denied(&format!("$JS.API.{api}.{stream}.x")).await;
            cheat.is_denied(&format!("$JS.API.{api}.{stream}.x.{payroll}")).await;
        }
        for filter in ["natsfer.>", ">", "natsfer.*.>", "natsfer.open.*.>"] {
            cheat.is_denied(&format!("$JS.API.CONSUMER.CREATE.{stream}.x.{filter}")).await;
        }
        cheat.is_denied(&format!("$JS.API.CONSUMER.CREATE.{stream}")).await;
    }
    // What is permitted by its subject, and something else in the request.
    let permitted = kinds.iter().map(|kind| ("NATSFER", *kind)).chain([("NATSFER_DATA", "data")]);
    for (stream, kind) in permitted {
        let (own, payroll) = (format!("natsfer.{kind}.invoices.>"), format!("natsfer.{kind}.payroll.>"));
        let subject = format!("$JS.API.CONSUMER.CREATE.{stream}.x.{own}");
        for cheating in [
            json!({ "name": "x" }),
            json!({ "name": "x", "filter_subject": payroll }),
            json!({ "name": "x", "filter_subjects": [payroll] }),
            json!({ "name": "x", "filter_subject": own, "filter_subjects": [payroll] }),
            json!({ "name": "x", "durable_name": "y", "filter_subject": own }),
        ] {
            cheat.is_refused(&subject, cheating).await;
        }
        // The subject's name counts.
        let named = json!({ "stream_name": stream, "config": { "name": "y", "filter_subject": own } });
        assert_eq!(cheat.answer(&subject, named).await["name"], "x");
        let other = json!({ "stream_name": "ELSEWHERE", "config": { "name": "x", "filter_subject": own } });
        assert!(cheat.answer(&subject, other).await["error"].is_object());
    }
    // The last message of an own subject is all that can be asked for by it, whatever stands in the request.
    if kinds.contains(&"open") {
        let subject = "$JS.API.DIRECT.GET.NATSFER.natsfer.open.invoices.x";
        for query in [json!({ "seq": 1 }), json!({ "last_by_subj": "natsfer.open.payroll.>" })] {
            let answer = cheat.client.request(subject, query.to_string().into()).await.unwrap();
            assert!(answer.status.is_some() && answer.payload.is_empty(), "{answer:?}");
        }
    }
}

/// What a push consumer delivers to a subject that its maker may not publish on is stored, if at all, under the subject it had.
#[tokio::test]
async fn a_push_consumer_does_not_publish_on_another_channel() {
    let server = start(&block("conf users")).await;
    let cheat = Cheat::login(&server, "producer").await;
    let forged = "natsfer.open.payroll.0123456789abcdef0123456789abcdef";
    let mut headers = HeaderMap::new();
    headers.insert("Natsfer-Manifest", "{}");
    let context = jetstream::new(cheat.client.clone());
    context.publish_with_headers("natsfer.data.invoices.x", headers, "evil".into()).await.unwrap().await.unwrap();
    let config = json!({ "name": "x", "filter_subject": "natsfer.data.invoices.x", "deliver_subject": forged,
        "ack_policy": "none", "deliver_policy": "all" });
    let request = json!({ "stream_name": "NATSFER_DATA", "config": config, "action": "" });
    // Delivered only once somebody listens to exactly that subject.
    let operator = server.client().await;
    let mut listening = operator.subscribe(forged).await.unwrap();
    operator.flush().await.unwrap();
    let created = cheat.answer("$JS.API.CONSUMER.CREATE.NATSFER_DATA.x.natsfer.data.invoices.x", request).await;
    assert!(created["error"].is_null(), "{created}");
    let delivered = tokio::time::timeout(SOON, listening.next()).await.unwrap().unwrap();
    assert_eq!((delivered.subject.as_str(), &delivered.payload[..]), ("natsfer.data.invoices.x", &b"evil"[..]));
    let control = server.jetstream().await.get_stream("NATSFER").await.unwrap();
    let mut subjects = control.info_with_subjects("natsfer.>").await.unwrap();
    while let Some(subject) = subjects.next().await {
        assert_eq!(subject.unwrap().0, "natsfer.data.invoices.x");
    }
    assert!(list(url(&server.url(), "operator").as_str(), &[]).await.is_empty());
}

#[tokio::test]
async fn an_auditor_lists_and_can_do_nothing_else() {
    let (server, home) = (start(&block("conf users")).await, tempfile::tempdir().unwrap());
    let (outbox, user) = (outbox(home.path(), 13), url(&server.url(), "auditor"));
    let id = text(
        &send(url(&server.url(), "producer").as_str(), &ON_INVOICES, &[outbox.join("large.bin")]).await[0],
        "transfer",
    )
    .to_owned();
    send(url(&server.url(), "operator").as_str(), &["-c", "payroll"], &[outbox.join("small.bin")]).await;
    let before = (messages(&server, "NATSFER").await, messages(&server, "NATSFER_DATA").await);
    let listed = list(user.as_str(), &BELOW_INVOICES).await;
    assert_eq!((listed.len(), text(&listed[0], "state")), (1, "complete"));
    refused(consumer(["list"]).server(user.as_str())).await;
    refused(consumer(["cat", id.as_str()]).server(user.as_str())).await;
    refused(consumer(["replay", "-c", "invoices.>", "--into"]).arg(home.path().join("in")).server(user.as_str())).await;
    refused(receiving(user.as_str(), "auditor", home.path().join("in"), &["-c", "invoices.>", "--drain"])).await;
    refused(sending(user.as_str(), &["-c", "invoices.eu"], &[outbox.join("small.bin")])).await;
    refused(producer(["init", "--stream", "OTHER"]).server(user.as_str())).await;
    refused(producer(["prune", "--older-than", "0s"]).server(user.as_str())).await;

    let cheat = Cheat::login(&server, "auditor").await;
    for kind in ["open", "data", "close", "receipt", "repair", "reject"] {
        cheat.is_denied(&format!("natsfer.{kind}.invoices.{id}")).await;
    }
    cannot_administer(&cheat).await;
    cheat.is_denied("$JS.API.CONSUMER.CREATE.NATSFER_DATA.x.natsfer.data.invoices.>").await;
    cheat.is_denied("$JS.API.CONSUMER.MSG.NEXT.NATSFER_DATA.x").await;
    cheat.is_denied("$JS.API.CONSUMER.CREATE.NATSFER.billing.natsfer.open.invoices.>").await;
    assert_eq!((messages(&server, "NATSFER").await, messages(&server, "NATSFER_DATA").await), before);
}

/// Headers alone, in a stream of their own: also what was small enough to travel with its manifest.
#[tokio::test]
async fn an_auditor_of_republished_headers_sees_no_contents() {
    let users = format!(
        "accounts {{ FILES {{ jetstream: enabled, users: [ {{ user: operator, password: {SECRET} }}\n{}\n] }} }}",
        block("conf auditor")
    );
    let (server, home) = (start(&users).await, tempfile::tempdir().unwrap());
    let (outbox, context) = (outbox(home.path(), 15), server.jetstream().await);
    let (operator, user) = (url(&server.url(), "operator"), url(&server.url(), "auditor"));
    let client = Cheat::login(&server, "operator").await;
    let made = client.answer("$JS.API.STREAM.CREATE.NATSFER-AUDIT", json_block("json audit-stream")).await;
    assert!(made["error"].is_null(), "{made}");
    let mut control = client.answer("$JS.API.STREAM.INFO.NATSFER", json!({})).await["config"].take();
    control["republish"] = json_block("json republish")["republish"].take();
    let edited = client.answer("$JS.API.STREAM.UPDATE.NATSFER", control).await;
    assert!(edited["error"].is_null(), "{edited}");

    let sent = send(operator.as_str(), &["--chunk-size", "256KiB"], &[outbox.join(".")]).await;
    let large = sent.iter().find(|event| event["name"] == "large.bin").unwrap();
    let of_audit = ["--stream", "NATSFER-AUDIT"];
    let listed = list(user.as_str(), &of_audit).await;
    let states: Vec<_> = listed.iter().map(|entry| (number(entry, "size"), text(entry, "state"))).collect();
    assert!(states.contains(&(1_000, "complete")) && states.contains(&(3_000_000, "complete")), "{listed:?}");
    let _ = producer(["cancel", text(large, "transfer")]).server(operator.as_str()).run().await.success();
    let listed = list(user.as_str(), &of_audit).await;
    assert!(listed.iter().any(|entry| entry["state"] == "cancelled"), "{listed:?}");
    // It is not in there, whoever reads.
    let stored = context.get_stream("NATSFER-AUDIT").await.unwrap();
    for sequence in 1..=messages(&server, "NATSFER-AUDIT").await {
        assert!(stored.get_raw_message(sequence).await.unwrap().payload.is_empty());
    }

    refused(consumer(["list"]).server(user.as_str())).await;
    refused(consumer(["cat", text(large, "transfer")]).server(user.as_str())).await;
    let cheat = Cheat::login(&server, "auditor").await;
    cannot_administer(&cheat).await;
    cheat.is_denied("$JS.API.CONSUMER.CREATE.NATSFER.x.natsfer.open.>").await;
    cheat.is_denied("natsfer-audit.open.default.x").await;
    for api in ["UPDATE", "DELETE", "PURGE", "MSG.DELETE", "MSG.GET"] {
        cheat.is_denied(&format!("$JS.API.STREAM.{api}.NATSFER-AUDIT")).await;
    }
}

#[tokio::test]
async fn tenants_see_nothing_of_each_other() {
    let server = Server::builder().config_line(block("conf tenants")).login("red", SECRET).start().await;
    let home = tempfile::tempdir().unwrap();
    let outbox = outbox(home.path(), 17);
    let (red, blue) = (url(&server.url(), "red"), url(&server.url(), "blue"));
    assert_eq!(send(red.as_str(), &[], &[outbox.join(".")]).await.len(), 2);
    let inbox = home.path().join("inbox");
    assert!(list(blue.as_str(), &[]).await.is_empty());
    assert!(drain(blue.as_str(), "billing", &inbox, &[]).await.is_empty());
    assert_eq!(drain(red.as_str(), "billing", &inbox, &[]).await.len(), 2);
    files::assert_same(&outbox, &inbox);
}

/// What is on the disk is not what was sent.
#[tokio::test]
async fn a_careful_server_starts_and_encrypts_what_it_stores() {
    let block = block("conf careful");
    let lines = block.lines().map(str::trim);
    let lines =
        lines.filter(|line| !line.starts_with(['#', '}']) && !line.contains("store_dir") && !line.contains('{'));
    let (server, home) =
        (lines.fold(Server::builder(), Builder::jetstream_line).start().await, tempfile::tempdir().unwrap());
    let source = home.path().join("a.txt");
    std::fs::write(&source, "a line that is easily found on a disk\n".repeat(20)).unwrap();
    send(&server, &["--compression", "none"], &[&source]).await;
    drain(&server, "billing", home.path().join("inbox"), &[]).await;
    files::assert_same(&source, home.path().join("inbox/a.txt"));
    server.stop().await;
    let mut directories = vec![server.store_dir().to_owned()];
    let mut files = 0;
    while let Some(directory) = directories.pop() {
        for entry in directory.read_dir().unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                files += 1;
                let found = std::fs::read(&path).unwrap().windows(20).any(|bytes| bytes == b"easily found on a di");
                assert!(!found, "{} is readable", path.display());
            }
        }
    }
    assert!(files > 3);
}

/// What the page says that these rights do not keep from.
#[tokio::test]
async fn what_the_rights_leave_open_is_as_the_page_says() {
    let users = block("conf users");
    // A list ends with the next bracket.
    let mut parts = users.split("deny: [");
    let first = parts.next().unwrap().to_owned();
    let without_deny = parts.fold(first, |config, part| config + part.split_once(']').unwrap().1);
    assert!(without_deny.len() < users.len());
    let (server, home) = (start(&without_deny).await, tempfile::tempdir().unwrap());
    let (source, operator) = (home.path().join("small.bin"), url(&server.url(), "operator"));
    std::fs::write(&source, "small, and secret").unwrap();
    send(operator.as_str(), &["-c", "invoices.eu"], &[&source]).await;
    drain(url(&server.url(), "archive").as_str(), "archive", home.path().join("inbox"), &[]).await;

    // An auditor of manifests reads small files: that only headers are asked for stands in the request.
    let auditor = Cheat::login(&server, "auditor").await;
    let inbox = auditor.client.new_inbox();
    let mut delivered = auditor.client.subscribe(inbox.clone()).await.unwrap();
    let config = json!({ "name": "x", "filter_subject": "natsfer.open.invoices.>", "deliver_subject": inbox,
        "ack_policy": "none", "deliver_policy": "all" });
    let request = json!({ "stream_name": "NATSFER", "config": config, "action": "" });
    let _ = auditor.answer("$JS.API.CONSUMER.CREATE.NATSFER.x.natsfer.open.invoices.>", request).await;
    let message = tokio::time::timeout(SOON, delivered.next()).await.unwrap().unwrap();
    assert!(message.headers.unwrap().get("Natsfer-Manifest").is_some());
    assert!(!message.payload.is_empty());

    // A receiver pulls from another one's cursor, if it knows its name.
    let context = server.jetstream().await;
    context.publish("natsfer.data.payroll.x", "secret".into()).await.unwrap().await.unwrap();
    let cursor = jetstream::consumer::pull::Config {
        durable_name: Some("archive-x".into()),
        filter_subject: "natsfer.data.payroll.x".into(),
        ..Default::default()
    };
    let _ = context.create_consumer_on_stream(cursor, "NATSFER_DATA").await.unwrap();
    let billing = Cheat::login(&server, "billing").await;
    let inbox = billing.client.new_inbox();
    let mut pulled = billing.client.subscribe(inbox.clone()).await.unwrap();
    let pull = "$JS.API.CONSUMER.MSG.NEXT.NATSFER_DATA.archive-x";
    billing.client.publish_with_reply(pull, inbox, "".into()).await.unwrap();
    let message = tokio::time::timeout(SOON, pulled.next()).await.unwrap().unwrap();
    assert_eq!((message.subject.as_str(), &message.payload[..]), ("natsfer.data.payroll.x", &b"secret"[..]));

    // Without the list of names, anybody who may create consumers points another one's inbox elsewhere.
    let producer = Cheat::login(&server, "producer").await;
    let config = json!({ "name": "archive", "durable_name": "archive", "filter_subject": "natsfer.repair.invoices.>",
        "ack_policy": "explicit", "deliver_policy": "all", "max_deliver": -1, "max_ack_pending": 1_000_000 });
    let request = json!({ "stream_name": "NATSFER", "config": config, "action": "" });
    let subject = "$JS.API.CONSUMER.CREATE.NATSFER.archive.natsfer.repair.invoices.>";
    let changed = producer.answer(subject, request).await;
    assert_eq!(changed["config"]["filter_subject"], "natsfer.repair.invoices.>", "{changed}");
}
