//! The harness, tried on itself: each capability that scenarios rely on.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod lines;

use std::time::{Duration, Instant};

use async_nats::jetstream::{self, stream};
use natsfer_tests::{Cluster, KNOWN_VERSIONS, Proxy, Server, eventually, files, program, try_eventually};

const SOON: Duration = Duration::from_secs(20);

/// A stream `T` over the subjects `t.>`.
async fn make_stream(js: &jetstream::Context, replicas: usize) {
    js.create_stream(stream::Config {
        name: "T".into(),
        subjects: vec!["t.>".into()],
        num_replicas: replicas,
        ..Default::default()
    })
    .await
    .unwrap();
}

async fn publish(js: &jetstream::Context, count: usize) {
    for _ in 0..count {
        let ack = js.publish("t.x", "payload".into()).await.unwrap();
        ack.await.unwrap();
    }
}

async fn messages(js: &jetstream::Context) -> u64 {
    let stream = js.get_stream("T").await.unwrap();
    stream.cached_info().state.messages
}

/// A client that is to be counted, and answers from its server soon or never.
async fn connect(url: &str) -> Result<async_nats::Client, async_nats::ConnectError> {
    async_nats::ConnectOptions::new()
        .name("under-test")
        .connection_timeout(Duration::from_millis(500))
        .connect(url)
        .await
}

#[tokio::test]
async fn a_restart_keeps_port_and_store() {
    let server = Server::builder().sync_always().start().await;
    assert!(server.healthz().await);
    let url = server.url();
    let js = server.jetstream().await;
    make_stream(&js, 1).await;
    publish(&js, 3).await;

    server.kill().await;
    assert!(!server.is_running());
    assert!(!server.healthz().await);
    server.restart().await;
    assert_eq!(server.url(), url);
    assert_eq!(messages(&server.jetstream().await).await, 3);

    server.stop().await;
    server.restart().await;
    server.restart().await;
    assert_eq!(messages(&server.jetstream().await).await, 3);
    assert!(server.log().contains("Server is ready"));
}

#[tokio::test]
async fn every_known_version_starts() {
    for version in KNOWN_VERSIONS {
        let server = Server::builder().version(version).start().await;
        assert_eq!(server.version().await, version);
        make_stream(&server.jetstream().await, 1).await;
    }
}

#[tokio::test]
async fn a_store_goes_back_in_time() {
    let server = Server::start().await;
    let js = server.jetstream().await;
    make_stream(&js, 1).await;
    publish(&js, 2).await;
    server.stop().await;
    let older = tempfile::tempdir().unwrap();
    server.snapshot_store(older.path());

    server.restart().await;
    publish(&server.jetstream().await, 2).await;
    server.stop().await;
    server.restore_store(older.path());
    server.restart().await;
    assert_eq!(messages(&server.jetstream().await).await, 2);

    server.stop().await;
    server.wipe_store();
    server.restart().await;
    let js = server.jetstream().await;
    assert!(js.get_stream("T").await.is_err());
}

#[tokio::test]
async fn a_paused_server_is_silent_and_comes_back() {
    let server = Server::start().await;
    let js = jetstream::new(connect(&server.url()).await.unwrap());
    server.pause();
    assert!(server.is_running());
    // A signal takes effect when the system gets to it.
    eventually("it is silent", Duration::from_secs(20), || async {
        let answer = tokio::time::timeout(Duration::from_millis(300), js.query_account());
        answer.await.is_err().then_some(())
    })
    .await;
    server.resume();
    js.query_account().await.unwrap();
}

#[tokio::test]
async fn a_server_can_be_stopped_and_dropped_while_paused() {
    let server = Server::start().await;
    server.pause();
    server.stop().await;
    server.restart().await;
    server.pause();
    let store = server.store_dir().to_owned();
    let started = Instant::now();
    drop(server);
    assert!(started.elapsed() < Duration::from_secs(3));
    assert!(!store.exists());
}

#[tokio::test]
async fn connections_are_counted_without_our_own() {
    let server = Server::start().await;
    let _ours = server.client().await;
    assert_eq!(server.connections().await, 0);
    let client = connect(&server.url()).await.unwrap();
    assert_eq!(server.connection_names().await, ["under-test"]);
    drop(client);
    eventually("the client is gone", SOON, || async { (server.connections().await == 0).then_some(()) }).await;
}

#[tokio::test]
async fn configuration_reaches_the_server() {
    let store = tempfile::tempdir().unwrap();
    let server = Server::builder()
        .max_payload(2_000_000)
        .store_dir(store.path())
        .jetstream_line("max_file_store: 1000000")
        .config_line("authorization { user: tester, password: secret }")
        .login("tester", "secret")
        .start()
        .await;
    let client = server.client().await;
    assert_eq!(client.server_info().max_payload, 2_000_000);
    assert!(connect(&server.url()).await.is_err());
    drop(server);
    assert!(store.path().join("jetstream").exists());
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why() {
    let builder = Server::builder().config_line("no_such_thing: [");
    let error = builder.try_start().await.unwrap_err();
    let text = format!("{error:#}");
    assert!(text.contains("Parse error"), "{text}");

    let unknown = Server::builder().version("0.0.1").try_start().await;
    let text = format!("{:#}", unknown.unwrap_err());
    assert!(text.contains("0.0.1") && text.contains("to do"), "{text}");
}

#[tokio::test]
async fn a_cluster_survives_its_leader() {
    let cluster = Cluster::start(3).await;
    assert!(cluster.meta_leader().await.is_some());
    let client = async_nats::ConnectOptions::new().connect(cluster.url().split(',').collect::<Vec<_>>()).await.unwrap();
    let js = jetstream::new(client);
    make_stream(&js, 3).await;
    publish(&js, 3).await;

    let leader = cluster.leader_of("T").await;
    let port = cluster.server(leader).port();
    cluster.kill(leader).await;
    let next = cluster.leader_of("T").await;
    assert_ne!(next, leader);
    let stored = eventually("the stream takes messages again", SOON, || async {
        js.publish("t.x", "more".into()).await.ok()?.await.ok()
    });
    stored.await;

    cluster.restart(leader).await;
    cluster.ready().await;
    assert_eq!(cluster.server(leader).port(), port);
    assert!(messages(&js).await >= 4);
}

#[tokio::test]
async fn a_cut_closes_connections_and_a_refusal_keeps_them_away() {
    let server = Server::start().await;
    let proxy = Proxy::to(&server.url()).await;
    let client = connect(&proxy.url()).await.unwrap();
    client.flush().await.unwrap();
    assert_eq!((proxy.connections(), server.connections().await), (1, 1));
    assert!(proxy.bytes_up() > 0 && proxy.bytes_down() > 0);

    proxy.refuse();
    proxy.cut();
    eventually("no connection is left", SOON, || async {
        (proxy.connections() == 0 && server.connections().await == 0).then_some(())
    })
    .await;
    assert!(connect(&proxy.url()).await.is_err());

    proxy.accept();
    eventually("the client is back by itself", SOON, || async { (server.connections().await == 1).then_some(()) })
        .await;
    drop(proxy);
    eventually("the proxy left nothing open", SOON, || async { (server.connections().await == 0).then_some(()) }).await;
}

#[tokio::test]
async fn a_black_hole_swallows_nothing_for_good() {
    let server = Server::start().await;
    let proxy = Proxy::to(&server.url()).await;
    let client = connect(&proxy.url()).await.unwrap();
    let js = jetstream::new(client.clone());
    make_stream(&js, 1).await;

    proxy.black_hole(true);
    client.publish("t.x", "held".into()).await.unwrap();
    assert!(connect(&proxy.url()).await.is_err());
    assert_eq!(messages(&server.jetstream().await).await, 0);
    proxy.black_hole(false);
    eventually("what was sent arrives", SOON, || async {
        (messages(&server.jetstream().await).await == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn latency_and_rate_are_felt() {
    let server = Server::start().await;
    let proxy = Proxy::to(&server.url()).await;
    let client = connect(&proxy.url()).await.unwrap();
    let js = jetstream::new(client);

    proxy.latency(Duration::from_millis(50));
    let started = Instant::now();
    js.query_account().await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(100));
    proxy.latency(Duration::ZERO);

    make_stream(&js, 1).await;
    proxy.rate(1_000_000);
    let started = Instant::now();
    let ack = js.publish("t.x", vec![7; 400_000].into()).await.unwrap();
    ack.await.unwrap();
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(390), "{took:?}");
    proxy.rate(None);
    let ack = js.publish("t.x", vec![7; 400_000].into()).await.unwrap();
    ack.await.unwrap();
}

#[tokio::test]
async fn losses_stall_and_lose_nothing() {
    let server = Server::start().await;
    let proxy = Proxy::to(&server.url()).await;
    let js = jetstream::new(connect(&proxy.url()).await.unwrap());
    make_stream(&js, 1).await;
    let publish = async |bytes: usize| {
        let started = Instant::now();
        let ack = js.publish("t.x", vec![7; bytes].into()).await.unwrap();
        ack.await.unwrap();
        started.elapsed()
    };

    // 274 segments: none is lost less than once in 10^12.
    proxy.loss(0.1);
    let took = publish(400_000).await;
    assert!(took >= Duration::from_millis(200), "{took:?}");
    proxy.loss(0.0);
    publish(400_000).await;
    assert_eq!(messages(&js).await, 2);
}

#[tokio::test]
async fn commands_report_what_they_did() {
    let script = r#"cat; echo '{"event":"done"}'; echo oops >&2; exit 3"#;
    let command = program("sh", ["-c", script]).stdin_bytes(*b"{\"event\":\"start\"}\n");
    let output = command.run().await.exited(3);
    let events: Vec<_> = output.json_lines();
    assert_eq!(events[0]["event"], "start");
    assert_eq!(events[1]["event"], "done");
    assert_eq!(output.errors(), "oops\n");

    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("in");
    files::text_file(&input, 100_000, 1);
    let copied = program("cat", [""; 0]).stdin_file(&input);
    assert_eq!(copied.run().await.success().stdout.len(), 100_000);

    let server = Server::start().await;
    let url = program("sh", ["-c", "echo $NATS_URL"]).server(&server);
    assert_eq!(url.run().await.success().text().trim(), server.url());
}

#[tokio::test]
#[should_panic(expected = "the reason")]
async fn a_failed_command_shows_its_output() {
    let command = program("sh", ["-c", "echo the reason >&2; exit 1"]);
    let _ = command.run().await.success();
}

#[tokio::test]
async fn running_commands_take_signals() {
    take_signals().await;
}

/// As in the background of a script.
#[tokio::test]
async fn running_commands_take_signals_that_whoever_runs_the_tests_ignores() {
    let this = std::env::current_exe().unwrap();
    let again = r#"trap '' INT; exec "$0" --exact running_commands_take_signals"#;
    let again = program("sh", ["-c", again]).arg(this).run().await.success();
    assert!(again.text().contains("1 passed"), "{}", again.text());
}

async fn take_signals() {
    let script = r#"trap 'echo "{\"event\":\"bye\"}"; exit 0' INT
        echo '{"event":"up"}'; while :; do sleep 0.05; done"#;
    let running = program("sh", ["-c", script]).spawn().await;
    let up = running.event(SOON, |event| event["event"] == "up").await;
    assert_eq!(up["event"], "up");
    running.pause();
    running.interrupt();
    assert!(running.is_running());
    running.resume();
    running.event(SOON, |event| event["event"] == "bye").await;
    let output = running.wait().await.success();
    assert_eq!(output.json_lines().len(), 2);

    let running = program("sleep", ["1000"]).spawn().await;
    running.kill();
    assert_eq!(running.wait().await.code(), None);

    let running = program("sleep", ["1000"]).spawn().await;
    let proc = std::path::PathBuf::from(format!("/proc/{}", running.id()));
    drop(running);
    assert!(!proc.exists(), "dropped, and still there");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn memory_and_time_are_measured() {
    const MIB: u64 = 1 << 20;
    // Our own memory must not be taken for the child's.
    let ours = vec![1_u8; 200 * MIB as usize];
    let small = program("sleep", ["0.2"]).run().await.success();
    assert!(small.peak_rss_bytes < 50 * MIB, "{}", small.peak_rss_bytes);
    assert!(small.elapsed >= Duration::from_millis(200));
    // dd's buffer is the memory it uses.
    let dd = ["if=/dev/zero", "of=/dev/null", "bs=300M", "count=3"];
    let large = program("dd", dd).run().await.success();
    assert!(large.peak_rss_bytes > 300 * MIB, "{}", large.peak_rss_bytes);
    assert!(large.peak_rss_bytes < 330 * MIB, "{}", large.peak_rss_bytes);
    assert!(large.cpu > Duration::ZERO);
    assert_eq!(ours.len() as u64, 200 * MIB);
}

#[test]
fn files_are_the_same_every_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    for size in [0, 1, 262_144, 1_000_003] {
        files::random_file(path("a"), size, 7);
        files::random_file(path("b"), size, 7);
        assert_eq!(path("a").metadata().unwrap().len(), size);
        assert_eq!(files::digest(path("a")), files::digest(path("b")));
    }
    files::random_file(path("b"), 1_000_003, 8);
    assert_ne!(files::digest(path("a")), files::digest(path("b")));
    files::json_logs(path("log"), 50_000, 1);
    let log = std::fs::read_to_string(path("log")).unwrap();
    assert_eq!(log.len(), 50_000);
    let first = log.lines().next().unwrap();
    serde_json::from_str::<serde_json::Value>(first).unwrap();
    files::sparse_file(path("hole"), 1 << 40);
    assert_eq!(path("hole").metadata().unwrap().len(), 1 << 40);
}

#[test]
fn trees_are_compared_to_the_last_bit() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    let names = files::tree(&a, 20, 0..5000, 3);
    assert_eq!(files::tree(&b, 20, 0..5000, 3), names);
    assert_eq!(names.len(), 20);
    files::assert_same(&a, &b);
    let differ = |expected: &str| {
        let error = files::same_tree(&a, &b).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains(expected), "{text}");
    };
    let victim = b.join(&names[5]);
    let file = std::fs::File::options().write(true).open(&victim).unwrap();
    let before = file.metadata().unwrap().modified().unwrap();
    file.set_modified(before + Duration::from_nanos(1)).unwrap();
    differ("modified at");
    file.set_modified(before).unwrap();
    files::assert_same(&a, &b);
    std::fs::write(b.join("extra"), "x").unwrap();
    differ("extra is only in");
    std::fs::remove_file(b.join("extra")).unwrap();
    file.set_len(1).unwrap();
    differ("sizes");
}

#[tokio::test]
async fn waiting_ends_with_its_subject() {
    let never = || async { None::<()> };
    let error = try_eventually("pigs fly", Duration::from_millis(30), never).await;
    assert!(error.unwrap_err().to_string().contains("pigs fly"));
    // A probe that hangs does not outlive the limit.
    let hangs = || std::future::pending::<Option<()>>();
    let error = try_eventually("it answers", Duration::from_millis(30), hangs).await;
    assert!(error.is_err());
}
