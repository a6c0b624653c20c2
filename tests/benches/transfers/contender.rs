//! Who runs, and what a run takes.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use futures_util::future::join_all;
use natsfer_tests::{Command, Running, Usage, consumer, producer};
use serde::Serialize;

use crate::{
    peer,
    scene::{GIB, Scene},
};

/// Files that are moved at once, by natsfer and by its peers.
const TASKS: &str = "64";
/// No run takes as long, but for one that hangs.
const LIMIT: Duration = Duration::from_secs(900);

/// One way to move a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Contender {
    /// `natsfer-producer send`.
    Send,
    /// `natsfer-producer send --compression none`.
    SendPlain,
    /// `natsfer-consumer receive --drain`, so many at once, of different names.
    Receive(usize),
    /// `send` and `receive` at once.
    Live,
    /// async-nats's object store: put.
    Put,
    /// async-nats's object store: get to a file.
    Get,
    /// One behind the other.
    PutThenGet,
    /// Messages of the same size, published from memory.
    Publish,
    /// Published messages, drained to a file by so many at once.
    Drain(usize),
    /// The same, synced as natsfer does: beside writing, and at the end.
    DrainSynced,
    /// A copy on the same disk, synced.
    Copy,
}

/// What one run took.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Sample {
    /// From the start of the first process to the end of the last one.
    pub(crate) seconds: f64,
    pub(crate) client: Cost,
    pub(crate) server: Cost,
}

/// What processes used.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Cost {
    /// Processor time, user and system, of all of them.
    pub(crate) cpu_seconds: f64,
    /// The most memory that one of them had in RAM.
    pub(crate) peak_bytes: u64,
}

impl Contender {
    /// As it stands in tables.
    pub(crate) fn label(self) -> String {
        match self {
            Self::Send => "natsfer send".into(),
            Self::SendPlain => "natsfer send --compression none".into(),
            Self::Receive(1) => "natsfer receive".into(),
            Self::Receive(count) => format!("{count} × natsfer receive"),
            Self::Live => "natsfer send and receive at once".into(),
            Self::Put => "object store put".into(),
            Self::Get => "object store get".into(),
            Self::PutThenGet => "object store put, then get".into(),
            Self::Publish => "raw publish".into(),
            Self::Drain(1) => "raw drain".into(),
            Self::Drain(count) => format!("{count} × raw drain"),
            Self::DrainSynced => "raw drain, synced".into(),
            Self::Copy => "cp".into(),
        }
    }

    /// How many times the source is moved.
    pub(crate) fn times(self) -> usize {
        match self {
            Self::Receive(count) | Self::Drain(count) => count,
            _ => 1,
        }
    }

    /// Steps one behind the other, each of commands that run at once.
    fn steps(self, scene: &Scene, run: &Run) -> Vec<Vec<Command>> {
        let source = scene.source();
        let send = |options: &[&str]| {
            let many = if source.is_dir() { &["--concurrency", TASKS][..] } else { &[] };
            let command = producer(["send"]).args(options).args(many).arg(source);
            command.env("NATS_URL", scene.url())
        };
        let receive = |index: usize, end: &[&str]| {
            let name = format!("{}-{index}", run.name);
            let many = if source.is_dir() { &["--concurrency", TASKS][..] } else { &[] };
            let command = consumer(["receive", "-n", &name, "--into"]).arg(run.directory(index)).args(end).args(many);
            command.env("NATS_URL", scene.url())
        };
        let replicas = scene.replicas().to_string();
        let tasks = if source.is_dir() { TASKS } else { "1" };
        let put = || peer::command(["put", &scene.url(), &replicas, tasks]).arg(source);
        let get = || peer::command(["get", &scene.url(), tasks]).arg(run.directory(0));
        let drain = |index, durability| peer::command(["drain", &scene.url(), durability]).arg(run.directory(index));
        match self {
            Self::Send => vec![vec![send(&[])]],
            Self::SendPlain => vec![vec![send(&["--compression", "none"])]],
            Self::Receive(count) => vec![(0..count).map(|index| receive(index, &["--drain"])).collect()],
            Self::Live => vec![vec![receive(0, &["--count", &scene.files().to_string()]), send(&[])]],
            Self::Put => vec![vec![put()]],
            Self::Get => vec![vec![get()]],
            Self::PutThenGet => vec![vec![put()], vec![get()]],
            Self::Publish => {
                let message = scene.message().to_string();
                vec![vec![peer::command(["publish", &scene.url(), &replicas, &scene.bytes().to_string(), &message])]]
            }
            Self::Drain(count) => vec![(0..count).map(|index| drain(index, "unsynced")).collect()],
            Self::DrainSynced => vec![vec![drain(0, "synced")]],
            Self::Copy => vec![vec![peer::command(["copy"]).arg(source).arg(run.directory(0))]],
        }
    }

    /// Runs it once; what it leaves on disk is removed.
    pub(crate) async fn run(self, scene: &Scene, name: &str) -> Result<Sample> {
        let run = Run { name: name.to_owned(), home: scene.home().join(format!("{name}-{self:?}")) };
        // What earlier runs left to be written is not this one's to wait for.
        rustix::fs::sync();
        let server = scene.server_usage();
        let (mut elapsed, mut client) = (Duration::ZERO, Usage::default());
        for step in self.steps(scene, &run) {
            let start = Instant::now();
            let running = join_all(step.into_iter().map(|command| command.limit(LIMIT).spawn())).await;
            let outputs = join_all(running.into_iter().map(Running::wait)).await;
            elapsed += start.elapsed();
            for output in outputs {
                let output = output.success();
                client.cpu += output.cpu;
                client.peak_rss_bytes = client.peak_rss_bytes.max(output.peak_rss_bytes);
            }
        }
        let server = scene.server_usage().since(server);
        for index in 0..self.times() {
            let arrived = run.directory(index);
            if arrived.is_dir() {
                let size = size_of(&arrived)?;
                ensure!(size >= scene.bytes(), "{} left {size} bytes in {}", self.label(), arrived.display());
            }
        }
        // Many files stay until the scene ends: ext4 is slow to make files where many were removed.
        if scene.files() == 1 && run.home.is_dir() {
            std::fs::remove_dir_all(&run.home).context("cannot remove what a run left")?;
        }
        Ok(Sample { seconds: elapsed.as_secs_f64(), client: client.into(), server: server.into() })
    }
}

impl Sample {
    /// MiB per second, of so many bytes.
    pub(crate) fn rate(&self, bytes: u64) -> f64 {
        bytes as f64 / f64::from(1 << 20) / self.seconds
    }

    /// Both sides' processor seconds for each GiB of so many bytes.
    pub(crate) fn cpu_per_gib(&self, bytes: u64) -> (f64, f64) {
        let gib = bytes as f64 / GIB as f64;
        (self.client.cpu_seconds / gib, self.server.cpu_seconds / gib)
    }
}

impl From<Usage> for Cost {
    fn from(usage: Usage) -> Self {
        Self { cpu_seconds: usage.cpu.as_secs_f64(), peak_bytes: usage.peak_rss_bytes }
    }
}

/// Where one run leaves what it moves.
struct Run {
    name: String,
    home: PathBuf,
}

impl Run {
    fn directory(&self, index: usize) -> PathBuf {
        self.home.join(index.to_string())
    }
}

/// Bytes of all files below a directory, natsfer's own apart.
fn size_of(directory: &Path) -> Result<u64> {
    let mut size = 0;
    for entry in directory.read_dir()? {
        let entry = entry?;
        size += match entry.file_type()? {
            kind if kind.is_dir() && entry.file_name() != ".natsfer" => size_of(&entry.path())?,
            kind if kind.is_file() => entry.metadata()?.len(),
            _ => 0,
        };
    }
    Ok(size)
}
