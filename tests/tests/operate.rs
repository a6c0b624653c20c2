//! What who runs natsfer sees and sets: configuration, health and metrics, logs, progress, rates, completions, man pages.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use natsfer_tests::steps::{drain, list, number, receiving, send, send_stdin, sending, text};
use natsfer_tests::{Command, Running, Server, consumer, eventually, files, get_text, producer};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(30);
const MIB: u64 = 1 << 20;

fn write(path: impl AsRef<Path>, text: &str) {
    std::fs::write(path, text).unwrap();
}

/// What is given counts more than a variable, and that more than the file.
#[tokio::test]
async fn flags_then_variables_then_the_file() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    write(home.path().join("a.txt"), "a");
    let config = home.path().join("config.toml");
    write(&config, "[send]\nchannel = 'from.file'\nmeta = ['site=x', 'line=2']\n[receive]\nname = 'billing'\n");
    let sends = async |variables: &[(&'static str, &'static str)], options: &[&str]| {
        // A new version each time, as the same would be the same transfer.
        let file = home.path().join("a.txt");
        let mut command = producer(["send", "--json", "--config"]).arg(&config).args(options).arg(file).server(&server);
        for (name, value) in variables {
            command = command.env(*name, *value);
        }
        let events = command.run().await.success().json_lines();
        text(&events[0], "channel").to_owned()
    };
    let variable = [("NATSFER_SEND_CHANNEL", "from.variable")];
    assert_eq!(sends(&[], &[]).await, "from.file");
    assert_eq!(sends(&variable, &[]).await, "from.variable");
    assert_eq!(sends(&variable, &["-c", "from.flag"]).await, "from.flag");
    // The same file for the other program, which is required to have a name; and from its usual place.
    let usual = home.path().join("configuration/natsfer");
    std::fs::create_dir_all(&usual).unwrap();
    std::fs::copy(&config, usual.join("config.toml")).unwrap();
    let received = consumer(["receive", "--drain", "--json", "--into"])
        .arg(home.path().join("inbox"))
        .env("NATSFER_CONFIG", "")
        .env("XDG_CONFIG_HOME", home.path().join("configuration"))
        .server(&server);
    assert_eq!(received.run().await.success().json_lines().len(), 3);
    let receivers = consumer(["receivers", "--json"]).server(&server).run().await.success();
    assert!(receivers.text().contains("billing"), "{}", receivers.text());
}

/// Where the server is may stand in the file, too; what is wrong in it is told with its name, and nothing is done.
#[tokio::test]
async fn the_file_says_where_the_server_is_and_what_is_wrong_in_it() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let config = home.path().join("config.toml");
    write(&config, &format!("server = '{}'\nstream = 'OTHER'\nlog-format = 'json'\n", server.url()));
    let sent = producer(["send", "--config"]).arg(&config).arg(&config).run().await.success();
    assert!(sent.text().starts_with("sent"), "{}", sent.text());
    let jetstream = server.jetstream().await;
    assert!(jetstream.get_stream("OTHER").await.is_ok() && jetstream.get_stream("NATSFER").await.is_err());
    write(&config, "[send]\nchanel = 'x'\n");
    let wrong = producer(["send", "x", "--config"]).arg(&config).server(&server).run().await.exited(2).errors();
    assert!(wrong.contains("config.toml") && wrong.contains("'chanel' is no option of send"), "{wrong}");
    let absent = producer(["send", "x", "--config", "/nonexistent"]).server(&server).run().await.exited(2).errors();
    assert!(absent.contains("/nonexistent"), "{absent}");
}

/// A wrong value is told with the place where it stands, and what would be right.
#[tokio::test]
async fn a_wrong_value_is_told_with_its_place() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let receive = |options: &[&str]| {
        let home = home.path().join("inbox");
        consumer(["receive", "-n", "r", "--drain", "--into"]).arg(home).args(options).server(&server)
    };
    let told = async |command: Command| command.run().await.exited(2).errors();
    let variable = told(receive(&[]).env("NATSFER_RECEIVE_CONCURRENCY", "many")).await;
    assert!(variable.contains("'NATSFER_RECEIVE_CONCURRENCY (--concurrency <N>)': 'many' is not a whole number"));
    let option = told(receive(&["--concurrency", "0"]).env("NATSFER_RECEIVE_CONCURRENCY", "4")).await;
    assert!(option.contains("'--concurrency <N>': '0' is not a whole number from 1 to 256"), "{option}");
    let address = told(receive(&["--http", "8223"])).await;
    assert!(address.contains("an IP address and a port such as 127.0.0.1:8223"), "{address}");

    let config = home.path().join("config.toml");
    write(&config, "server = ['nats://a', 'nats://b']\n");
    let list = told(receive(&["--config"]).arg(&config)).await;
    assert!(list.contains("config.toml: 'server' takes one value, not a list"), "{list}");
    let file = consumer(["receive", "-n", "r", "--drain", "--into"]).arg(&config).server(&server);
    assert!(file.run().await.exited(1).errors().contains("config.toml: not a directory"));

    let unknown = receive(&[]).env("NATSFER_RECEIVE_CHANEL", "a").env("NATSFER_SEND_CHANEL", "a");
    let unknown = unknown.run().await.success().errors();
    assert!(unknown.contains("NATSFER_RECEIVE_CHANEL says nothing to this program: is NATSFER_RECEIVE_CHANNEL meant?"));
    // The other program's own.
    assert!(!unknown.contains("NATSFER_SEND_CHANEL"), "{unknown}");
    // What is missing may be what it was to say; by the name that help shows, it does.
    let mistyped = told(producer(["watch"]).env("NATSFER_WATCH_DIRS", "outbox").server(&server)).await;
    assert!(mistyped.contains("is NATSFER_WATCH_DIR meant?") && mistyped.contains("<DIR>"), "{mistyped}");
    let watch = producer(["watch"]).env("NATSFER_WATCH_DIR", "/nonexistent").server(&server).run().await.exited(1);
    assert!(watch.errors().contains("cannot watch /nonexistent"), "{}", watch.errors());
}

/// A password that others can read in the list of processes is warned of where it is given so, and there alone.
#[tokio::test]
async fn a_password_among_the_arguments_is_warned_of() {
    let users = "authorization { user: alice, password: correct-horse }";
    let server = Server::builder().config_line(users).login("alice", "correct-horse").start().await;
    let url = |password: &str| format!("nats://alice:{password}@127.0.0.1:{}", server.port());
    let warned = "others on this machine can read the password in --server";
    let given = consumer(["list", "--server", &url("correct-horse")]).run().await.success().errors();
    assert!(given.contains(warned) && !given.contains("correct-horse"), "{given}");
    let around = consumer(["list"]).env("NATS_URL", url("correct-horse")).run().await.success().errors();
    assert!(!around.contains(warned), "{around}");
    let refused = consumer(["list"]).env("NATS_URL", url("battery-staple")).run().await.exited(1).errors();
    assert_eq!(refused.to_lowercase().matches("authorization violation").count(), 1, "{refused}");
}

/// The value of a metric, whatever its labels; 0 if it has none yet.
fn metric(page: &str, name: &str) -> f64 {
    let lines = page
        .lines()
        .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ') || rest.starts_with('{')));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// Where it serves them.
async fn port_of(daemon: &Running) -> u16 {
    let line = daemon.log_line(SOON, |line| line.contains("serving /metrics")).await;
    line.rsplit(':').next().unwrap().trim().parse().unwrap()
}

#[tokio::test]
async fn a_receiver_serves_health_and_metrics() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    files::random_file(home.path().join("big"), 3 * MIB, 1);
    write(home.path().join("small"), "small");
    send(&server, &[], &[home.path().join("big"), home.path().join("small")]).await;
    let receiver = receiving(&server, "r", home.path().join("inbox"), &["--http", "127.0.0.1:0"]).spawn().await;
    let port = port_of(&receiver).await;
    let address = format!("127.0.0.1:{port}");
    let get = async |path: &str| get_text(port, path).await.unwrap_or_default();
    eventually("both files are counted", SOON, || async {
        (metric(&get("/metrics").await.1, "natsfer_received_files_total") == 2.0).then_some(())
    })
    .await;
    let page = get("/metrics").await.1;
    assert_eq!(metric(&page, "natsfer_received_bytes_total"), (3 * MIB + 5) as f64);
    assert!(metric(&page, "natsfer_read_chunks_total") >= 3.0 && metric(&page, "natsfer_connected") == 1.0, "{page}");
    assert_eq!(metric(&page, "natsfer_failed_commands"), 0.0);
    assert!(page.contains("# HELP natsfer_failed_commands") && page.contains("natsfer_pending_commands 0"), "{page}");
    assert!(page.contains("# TYPE natsfer_delivery_seconds histogram") && page.contains("# HELP"), "{page}");
    assert_eq!(get("/healthz").await.0, 200);
    let health = async || consumer(["health", address.as_str()]).run().await;
    let _ = health().await.success();
    server.kill().await;
    eventually("it is not ready without a server", SOON, || async { (get("/readyz").await.0 == 503).then_some(()) })
        .await;
    assert!(health().await.exited(1).errors().contains("not connected"));
    assert_eq!(get("/healthz").await.0, 200, "it waits, and need not be restarted");
    server.restart().await;
    eventually("it is ready again", SOON, || async { (get("/readyz").await.0 == 200).then_some(()) }).await;
    receiver.terminate();
    let _ = receiver.wait().await.success();
    assert!(health().await.exited(1).errors().contains("nothing answers"));
}

/// Whoever may connect to `--http` can ask slowly: that takes neither all descriptors nor the place of others for long.
#[tokio::test]
async fn slow_clients_keep_nobody_from_files_and_metrics() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let receiver = receiving(&server, "r", home.path().join("inbox"), &["--http", "127.0.0.1:0"]).spawn().await;
    let port = port_of(&receiver).await;
    let mut slow = Vec::new();
    for _ in 0..130 {
        let mut connection = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        std::io::Write::write_all(&mut connection, b"GET /m").unwrap();
        slow.push(connection);
    }
    write(home.path().join("a"), "a");
    send(&server, &[], &[home.path().join("a")]).await;
    receiver.event(SOON, |event| event["event"] == "received").await;
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", receiver.id())).map_or(0, Iterator::count);
    assert!(descriptors() < 110, "{} descriptors", descriptors());
    eventually("those behind them have their turn", Duration::from_secs(120), || async {
        get_text(port, "/healthz").await.ok().filter(|(status, _)| *status == 200)
    })
    .await;
    drop(slow);
    receiver.terminate();
    let _ = receiver.wait().await.success();
}

/// A receiver that waits for its server can be stopped.
#[tokio::test]
async fn a_receiver_without_a_server_ends_when_it_is_told_to() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    server.kill().await;
    let receiver = receiving(&server, "r", home.path().join("inbox"), &[]).spawn().await;
    receiver.log_line(SOON, |line| line.contains("Trying again")).await;
    receiver.terminate();
    assert!(receiver.wait().await.success().errors().contains("stopping"));
}

#[tokio::test]
async fn a_watcher_serves_how_much_it_has_before_it() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let (outbox, inbox) = (home.path().join("outbox"), home.path().join("inbox"));
    std::fs::create_dir(&outbox).unwrap();
    let options = ["watch", "--http", "127.0.0.1:0", "--then", "delete", "--after-delivery", "r"];
    let watcher = producer(options).arg(&outbox).server(&server).spawn().await;
    let port = port_of(&watcher).await;
    let gauges = async |files: f64, held: f64| {
        let what = format!("{files} files to be sent, and {held} held");
        let both = || async {
            let (_, page) = get_text(port, "/metrics").await.ok()?;
            let is = |name, value| metric(&page, name) == value;
            (is("natsfer_outbox_files", files) && is("natsfer_held_files", held)).then_some(())
        };
        eventually(&what, SOON, both).await;
    };
    write(outbox.join("a"), "a");
    gauges(0.0, 1.0).await;
    server.kill().await;
    write(outbox.join("b"), "b");
    write(outbox.join("c"), "c");
    gauges(2.0, 1.0).await;
    server.restart().await;
    gauges(0.0, 3.0).await;
    drain(&server, "r", &inbox, &[]).await;
    gauges(0.0, 0.0).await;
    watcher.terminate();
    let _ = watcher.wait().await.success();
}

/// Each rate is kept to by all files together. A limit on what passes is a limit from below on the time.
#[tokio::test]
async fn rates_are_kept_to() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    for (seed, name) in ["a", "b"].into_iter().enumerate() {
        files::random_file(home.path().join(name), 2 * MIB, seed as u64);
    }
    let started = Instant::now();
    send(&server, &["--rate", "2MiB"], &[home.path().join("a"), home.path().join("b")]).await;
    // The last chunk passes when those before it have taken their time.
    assert!(started.elapsed() >= Duration::from_millis(1_300), "{:?}", started.elapsed());
    let started = Instant::now();
    let received = drain(&server, "r", home.path().join("inbox"), &["--rate", "2MiB/s"]).await;
    assert!(started.elapsed() >= Duration::from_millis(1_300), "{:?}", started.elapsed());
    assert_eq!(received.len(), 2);
    // Slower than one chunk in the time that a sender may be silent: that is no silence.
    let slow = drain(&server, "slow", home.path().join("slow"), &["--rate", "512KiB", "--patience", "1s"]).await;
    assert_eq!(slow.len(), 2);
    assert!(slow.iter().all(|event| number(event, "refetched_bytes") == 0), "{slow:?}");
}

#[tokio::test]
async fn progress_is_told_as_events_and_only_on_request() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    files::random_file(home.path().join("big"), 4 * MIB, 1);
    let options = ["--rate", "1MiB", "--progress", "events"];
    let is_progress = |event: &&Value| event["event"] == "progress";
    let sent = send(&server, &options, &[home.path().join("big")]).await;
    let received = drain(&server, "r", home.path().join("inbox"), &options).await;
    for (events, end) in [(&sent, "sent"), (&received, "received")] {
        let progress: Vec<_> = events.iter().filter(is_progress).collect();
        assert!(progress.len() >= 2 && progress.iter().all(|event| event["name"] == "big"), "{events:?}");
        let bytes: Vec<_> = progress.iter().map(|event| number(event, "bytes")).collect();
        assert!(bytes.is_sorted() && bytes.last() == Some(&(4 * MIB)), "{bytes:?}");
        assert!(progress.iter().all(|event| event["size"] == 4 * MIB), "{progress:?}");
        assert_eq!(text(events.last().unwrap(), "event"), end);
    }
    let quiet = drain(&server, "quiet", home.path().join("quiet"), &["--rate", "2MiB"]).await;
    assert_eq!(quiet.len(), 1, "{quiet:?}");
    // Text and JSON do not mix.
    let mixed = producer(["send", "--progress", "events"]).arg(home.path().join("big")).server(&server).run().await;
    assert!(mixed.exited(2).errors().contains("--json"));
}

/// Who is interrupted is told how to go on, and does.
#[tokio::test]
async fn an_interrupted_send_says_how_to_go_on() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let big = home.path().join("big");
    files::random_file(&big, 8 * MIB, 1);
    let slow = sending(&server, &["--rate", "1MiB", "--progress", "events"], &[&big]).spawn().await;
    slow.event(SOON, |event| event["bytes"].as_u64() > Some(MIB)).await;
    slow.interrupt();
    assert!(slow.wait().await.exited(1).errors().contains("run the same command again to go on from here"));
    let resumed = send(&server, &[], &[&big]).await;
    assert!(number(&resumed[0], "resumed_from") >= MIB, "{resumed:?}");
}

/// What cannot go on is not said to: it is stored, which is shown, and can be removed.
#[tokio::test]
async fn an_interrupted_pipe_says_that_it_begins_anew() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let big = home.path().join("big");
    files::random_file(&big, 8 * MIB, 1);
    let options = ["--name", "piped", "--rate", "1MiB", "--chunk-size", "256KiB", "--progress", "events"];
    let slow = sending(&server, &options, &["-"]).stdin_file(&big).spawn().await;
    slow.event(SOON, |event| event["bytes"].as_u64() > Some(MIB)).await;
    slow.interrupt();
    let output = slow.wait().await.exited(1);
    assert!(output.errors().contains("begins anew") && output.errors().contains("prune --state open"));
    let open = &list(&server, &["--state", "open"]).await[0];
    assert!(number(open, "stored_at_most") >= MIB && open["stored_bytes"].is_null(), "{open}");
}

#[tokio::test]
async fn logs_are_json_on_request() {
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let log = async |options: &[&str]| {
        let inbox = home.path().join("inbox");
        receiving(&server, "r", inbox, &[&["--drain", "-v"], options].concat()).run().await.success().errors()
    };
    send_stdin(&server, &[], "x", b"x".to_vec()).await;
    let lines = log(&["--log-format", "json"]).await;
    let parsed: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(!parsed.is_empty());
    for line in &parsed {
        assert!(line["timestamp"].is_string() && line["level"].is_string() && line["message"].is_string(), "{line}");
    }
}

/// What is generated is taken by what it is generated for.
#[tokio::test]
async fn completions_and_man_pages_are_generated() {
    let home = tempfile::tempdir().unwrap();
    for (name, command) in [
        ("natsfer-producer", producer(["completions", "bash"])),
        ("natsfer-consumer", consumer(["completions", "bash"])),
    ] {
        let script = command.run().await.success().text();
        assert!(script.contains(name) && script.contains("--channel"), "{script}");
        let path = home.path().join(name);
        write(&path, &script);
        let checked = std::process::Command::new("bash").arg("-n").arg(&path).stdin(Stdio::null()).status().unwrap();
        assert!(checked.success());
    }
    for shell in ["zsh", "fish"] {
        assert!(producer(["completions", shell]).run().await.success().text().contains("natsfer-producer"));
    }
    let _ = producer(["man"]).arg(home.path()).run().await.success();
    let page = std::fs::read_to_string(home.path().join("natsfer-producer-send.1")).unwrap();
    assert!(page.contains("natsfer\\-producer send") && page.contains("\\-\\-channel"), "{page}");
    assert!(home.path().join("natsfer-producer.1").exists());
    assert!(page.contains("[OPTIONS] <PATH>..."), "{page}");
    let deeper = home.path().join("share/man1");
    let _ = consumer(["man"]).arg(&deeper).run().await.success();
    assert!(deeper.join("natsfer-consumer.1").exists());
    let within_file = deeper.join("natsfer-consumer.1/man1");
    let refused = producer(["man"]).arg(&within_file).run().await.exited(1).errors();
    assert!(refused.contains("cannot create directory") && refused.contains("natsfer-consumer.1/man1"), "{refused}");
}

/// The command that a line of help begins with; none, where it goes on with the line before.
fn command_of(line: &str) -> Option<&str> {
    let line = line.strip_prefix("  ")?;
    line.split(' ').next().filter(|word| !word.is_empty())
}

/// Each command's help has an example of how it is used.
#[tokio::test]
async fn help_teaches_by_example() {
    for (name, help) in [("natsfer-producer", producer(["--help"])), ("natsfer-consumer", consumer(["--help"]))] {
        let help = help.run().await.success().text();
        let commands = help.lines().skip_while(|line| !line.starts_with("Commands:")).skip(1);
        let commands: Vec<_> = commands.take_while(|line| !line.is_empty()).filter_map(command_of).collect();
        assert!(commands.len() > 8, "{help}");
        for command in commands.into_iter().filter(|command| *command != "help") {
            let arguments = [command, "--help"];
            let own = if name.ends_with("producer") { producer(arguments) } else { consumer(arguments) };
            let own = own.run().await.success().text();
            assert!(own.contains(&format!("{name} {command} ")), "`{name} {command} --help` has no example:\n{own}");
        }
    }
}
