//! Shows natsfer at work on this machine: a private nats-server, real files, two independent receivers, one replay, and the
//! digests side by side. Ends with 0 if all of them agree, with 1 otherwise.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it is a program for people to look at")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use natsfer_tests::{Command, Server, consumer, files, our_binary, producer};
use serde_json::Value;

const USAGE: &str = "usage: natsfer-demo [--mib N]     size of the random file in MiB, 256 if not given";
const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// Enough for a random file of a terabyte on a slow machine; the harness' own limit is meant for tests.
const LIMIT: Duration = Duration::from_secs(24 * 3600);

fn main() -> ExitCode {
    let mib = match parse(std::env::args().skip(1)) {
        Ok(mib) => mib,
        Err(error) => {
            eprintln!("{error:#}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(mib) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<u64> {
    match (arguments.next().as_deref(), arguments.next(), arguments.next()) {
        (None, ..) => Ok(256),
        (Some("--mib"), Some(mib), None) => {
            mib.parse().ok().filter(|mib| (1..=1 << 20).contains(mib)).context("N is a number from 1 to 1048576")
        }
        _ => bail!("unknown arguments"),
    }
}

/// Runs the demo to its end, or until Ctrl-C; either way nothing is left behind.
#[tokio::main]
async fn run(mib: u64) -> Result<bool> {
    let mut demo = tokio::spawn(demo(mib));
    tokio::select! {
        agree = &mut demo => agree.context("the demo could not go on")?,
        _ = tokio::signal::ctrl_c() => {
            demo.abort();
            let _ = demo.await;
            bail!("stopped")
        }
    }
}

async fn demo(mib: u64) -> Result<bool> {
    say("Building natsfer-producer and natsfer-consumer, as far as they are not built yet");
    tokio::task::spawn_blocking(|| our_binary("natsfer-producer")).await??;

    let directory = tempfile::tempdir()?;
    let work = directory.path();
    say(&format!(
        "What to send: this repository's source, and {mib} MiB of random bytes, in {}/outbox",
        work.display()
    ));
    let outbox = work.join("outbox");
    copy_source(Path::new(WORKSPACE), &outbox.join("natsfer"))?;
    files::random_file(outbox.join("random.bin"), mib << 20, u64::from(std::process::id()));

    say("A nats-server of its own, with JetStream");
    let server = Server::builder().store_dir(work.join("server")).start().await;
    println!("    nats-server {}\n$ export NATS_URL={}", server.version().await, server.url());
    let shell = Shell { work, server: &server };

    say("Send; nobody is receiving");
    let sent = shell.run("natsfer-producer", &["send", "-c", "demo", "outbox/natsfer", "outbox/random.bin"]).await?;
    let random = sent.into_iter().find(|line| line["name"] == "random.bin");
    let random = random.and_then(|line| line["transfer"].as_str().map(str::to_owned));
    let random = random.context("random.bin was not sent")?;

    say("Receive as alice; nobody is sending");
    shell.run("natsfer-consumer", &["receive", "-n", "alice", "-c", "demo", "--into", "alice", "--drain"]).await?;

    say("Restart the server");
    server.restart().await;

    say("Receive as bob, who was never there before");
    shell.run("natsfer-consumer", &["receive", "-n", "bob", "-c", "demo", "--into", "bob", "--drain"]).await?;

    say("Replay one transfer");
    shell.run("natsfer-consumer", &["replay", &random, "--into", "replayed"]).await?;

    say("Send everything again: the stream has it already");
    let again = shell.run("natsfer-producer", &["send", "-c", "demo", "outbox/natsfer", "outbox/random.bin"]).await?;
    let published: u64 = again.iter().filter_map(|line| line["published_bytes"].as_u64()).sum();
    let unchanged = again.iter().all(|line| line["status"] == "unchanged") && published == 0;
    println!("    {published} bytes were published");

    say("BLAKE3 digests, computed here from the files on disk");
    let agree = compare(work)?;
    println!("\n{}", if agree && unchanged { "Everything agrees." } else { "SOMETHING DIFFERS." });
    Ok(agree && unchanged)
}

fn say(what: &str) {
    println!("\n# {what}");
}

/// Runs the real programs as one would type them.
struct Shell<'a> {
    work: &'a Path,
    server: &'a Server,
}

impl Shell<'_> {
    async fn run(&self, program: &str, arguments: &[&str]) -> Result<Vec<Value>> {
        println!("$ {program} {}", arguments.join(" "));
        let command: Command = match program {
            "natsfer-producer" => producer(arguments),
            _ => consumer(arguments),
        };
        let output = command.arg("--json").server(self.server).current_dir(self.work).limit(LIMIT).run().await;
        ensure!(output.code() == Some(0), "{program} ended with {}:\n{}", output.status, output.errors());
        let lines = output.json_lines();
        let bytes: u64 = lines.iter().filter_map(|line| line["size"].as_u64()).sum();
        println!(
            "    {} files, {:.1} MiB, in {:.2} s; peak memory {:.0} MiB",
            lines.len(),
            bytes as f64 / f64::from(1 << 20),
            output.elapsed.as_secs_f64(),
            output.peak_rss_bytes as f64 / f64::from(1 << 20),
        );
        Ok(lines)
    }
}

/// Prints the digests side by side, and tells whether all that should agree does: names, bytes, times and modes.
fn compare(work: &Path) -> Result<bool> {
    println!("{:10}  {:>7}  {:16}  {:16}", "IN", "FILES", "SOURCE TREE", "RANDOM.BIN");
    let row = |place: &str| -> Result<(usize, String, String)> {
        let (count, tree) = tree_digest(&work.join(place).join("natsfer"))?;
        let row = (count, tree, files::digest(work.join(place).join("random.bin")));
        println!("{place:10}  {count:>7}  {:16}  {:16}", &row.1[..16], &row.2[..16]);
        Ok(row)
    };
    let (source, alice, bob) = (row("outbox")?, row("alice")?, row("bob")?);
    let replayed = files::digest(work.join("replayed/random.bin"));
    println!("{:10}  {:>7}  {:16}  {:16}", "replayed", "-", "-", &replayed[..16]);
    let mut agree = source == alice && source == bob && source.2 == replayed;
    for receiver in ["alice", "bob"] {
        if let Err(error) = files::same_tree(work.join("outbox"), work.join(receiver)) {
            println!("outbox and {receiver} differ: {error:#}");
            agree = false;
        }
    }
    Ok(agree)
}

/// How many files lie below a directory, and one digest over their names and contents.
fn tree_digest(root: &Path) -> Result<(usize, String)> {
    let mut names = list(root)?;
    names.sort();
    let mut hasher = blake3::Hasher::new();
    for name in &names {
        hasher.update(format!("{}  {}\n", files::digest(root.join(name)), name.display()).as_bytes());
    }
    Ok((names.len(), hasher.finalize().to_hex().to_string()))
}

/// Copies what is source: nothing that cargo or git made, and no symbolic links.
fn copy_source(from: &Path, to: &Path) -> Result<()> {
    for name in list(from)? {
        let target = to.join(&name);
        fs::create_dir_all(target.parent().context("a file without a directory")?)?;
        fs::copy(from.join(&name), target).with_context(|| format!("cannot copy {}", name.display()))?;
    }
    Ok(())
}

/// The regular files below a directory, by their paths below it.
fn list(root: &Path) -> Result<Vec<PathBuf>> {
    let (mut found, mut pending) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(below) = pending.pop() {
        for entry in fs::read_dir(root.join(&below)).with_context(|| format!("cannot read {}", root.display()))? {
            let entry = entry?;
            let (kind, name) = (entry.file_type()?, below.join(entry.file_name()));
            if kind.is_dir() && !["target", ".git"].map(Some).contains(&entry.file_name().to_str()) {
                pending.push(name);
            } else if kind.is_file() {
                found.push(name);
            }
        }
    }
    Ok(found)
}
