//! How long a small file takes from being published to being there under its name, complete; one at a time.

use std::{
    mem::MaybeUninit,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use futures_util::StreamExt;
use natsfer_consumer::{Receiver, ReceiverOptions, SaveOptions, TargetDirectory};
use natsfer_producer::{ConnectOptions, Producer, SendOptions};
use natsfer_tests::files::Random;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::{peer, scene};

const SIZE: usize = 4096;
/// Of which nothing is counted: connections and caches are cold.
const WARM_UP: usize = 20;

/// Who moves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
pub(crate) enum Way {
    /// natsfer's libraries: sent, staged, synced, renamed; the directory is synced afterwards.
    Natsfer,
    /// async-nats's object store: put, watched, got to a file that is not synced.
    ObjectStore,
}

/// What one way has come to, in milliseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Latency {
    pub(crate) way: Way,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// Both ways, in turn.
pub(crate) async fn compare(rounds: usize, files: usize) -> Result<Vec<Latency>> {
    let server = scene::server().start().await;
    let home = tempfile::tempdir()?;
    let mut took = [(Way::ObjectStore, "object-store", Vec::new()), (Way::Natsfer, "natsfer", Vec::new())];
    for round in 0..rounds {
        for (_, how, took) in &mut took {
            let into = home.path().join(format!("{how}-{round}"));
            std::fs::create_dir_all(&into)?;
            let command = peer::command(["latency", how, &server.url()]).arg(into).arg(files.to_string());
            let output = command.run().await.success();
            let lines = output.text().lines().map(str::parse).collect::<Result<Vec<f64>, _>>()?;
            took.extend(lines.into_iter().skip(WARM_UP));
        }
    }
    Ok(took.into_iter().map(|(way, _, took)| Latency::of(way, took)).collect())
}

impl Latency {
    fn of(way: Way, mut took: Vec<f64>) -> Self {
        took.sort_by(f64::total_cmp);
        let at = |share: f64| took.get((took.len() as f64 * share) as usize).copied().unwrap_or(f64::NAN) * 1e3;
        Self { way, p50: at(0.5), p99: at(0.99) }
    }
}

/// Moves the files, and prints the seconds that each took.
#[expect(clippy::print_stdout, reason = "whoever compares reads it there")]
pub(crate) async fn measure(way: Way, server: &str, into: &Path, files: usize) -> Result<()> {
    let took = match way {
        Way::Natsfer => natsfer(server, into, files).await?,
        Way::ObjectStore => object_store(server, into, files).await?,
    };
    for took in took {
        println!("{}", took.as_secs_f64());
    }
    Ok(())
}

/// When this happened to each file in the directory.
fn arrivals(directory: &Path, event: WatchFlags) -> Result<mpsc::UnboundedReceiver<Instant>> {
    let watch = inotify::init(CreateFlags::CLOEXEC)?;
    inotify::add_watch(&watch, directory, event)?;
    let (sender, arrivals) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(watch, &mut buffer);
        while events.next().is_ok() && sender.send(Instant::now()).is_ok() {}
    });
    Ok(arrivals)
}

fn small_file(index: usize) -> Vec<u8> {
    let mut bytes = vec![0; SIZE];
    Random::new(index as u64 + u64::from(std::process::id())).fill(&mut bytes);
    bytes
}

async fn natsfer(server: &str, into: &Path, files: usize) -> Result<Vec<Duration>> {
    let options = ConnectOptions::default().with_server(server);
    let target = TargetDirectory::open(into)?;
    let name = format!("latency-{}", std::process::id());
    let channel = name.replace('-', ".");
    let receiver = ReceiverOptions::new(name.parse()?).with_home(&target).with_channels(channel.parse()?);
    let mut receiver = Receiver::connect(&options, receiver).await?;
    let producer = Producer::connect(&options).await?;
    let mut arrivals = arrivals(into, WatchFlags::MOVED_TO)?;
    let mut took = Vec::new();
    for index in 0..files {
        let bytes = small_file(index);
        let start = Instant::now();
        let name = format!("{index}.bin").parse()?;
        let sending = producer.send_bytes(bytes, SendOptions::default().with_channel(channel.parse()?).with_name(name));
        let landing = async {
            let incoming = receiver.next().await?.context("no more")?;
            incoming.save_into(&target, &SaveOptions::default()).await?;
            anyhow::Ok(())
        };
        let (sent, landed) = tokio::join!(sending, landing);
        sent?;
        landed?;
        took.push(arrivals.recv().await.context("no file")?.duration_since(start));
    }
    receiver.close().await;
    producer.close().await;
    Ok(took)
}

async fn object_store(server: &str, into: &Path, files: usize) -> Result<Vec<Duration>> {
    let store = peer::bucket(&peer::connect(server).await?, 1).await?;
    let mut changes = store.watch().await?;
    let mut arrivals = arrivals(into, WatchFlags::CLOSE_WRITE)?;
    let mut took = Vec::new();
    for index in 0..files {
        let bytes = small_file(index);
        let mut bytes = bytes.as_slice();
        let start = Instant::now();
        let name = format!("{}-{index}.bin", std::process::id());
        let putting = store.put(name.as_str(), &mut bytes);
        let landing = async {
            let info = changes.next().await.context("no more")??;
            peer::save(&store, &info.name, &into.join(&info.name)).await
        };
        let (put, landed) = tokio::join!(putting, landing);
        put?;
        landed?;
        took.push(arrivals.recv().await.context("no file")?.duration_since(start));
    }
    Ok(took)
}
