//! Who natsfer is measured against, each in a process of its own, like natsfer's programs: async-nats's object store, the
//! ceilings of what the same client library can do without a file or a check, and a copy on the same disk.

use std::{
    collections::VecDeque,
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use async_nats::jetstream::{self, Context as JetStream, consumer, context::PublishAckFuture, object_store, stream};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream as streams};
use natsfer_tests::{Command, program};
use tokio::{io::BufReader, sync::mpsc};

use crate::latency;

/// The object store's bucket.
const BUCKET: &str = "peers";
/// The stream of the ceilings.
const RAW: &str = "RAW";
/// Messages of natsfer's chunk size on a server of default settings: the largest multiple of a page that fits.
pub(crate) const MESSAGE: usize = (1 << 20) - 4096;
/// Messages published and not acknowledged, in the raw ceiling: so many, or more of small ones.
const WINDOW: usize = 16;
const SMALL_WINDOW: usize = 1_024;
/// Bytes of one pull request, in the raw ceiling.
const PULL: usize = 16 << 20;
/// What a reader of the object store reads at once: with less, the peer would be slower than it must be.
const BUFFER: usize = 1 << 20;

/// One run of one peer.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Peer {
    /// Puts a file, or every file of a directory, into an object store.
    Put { server: String, replicas: usize, tasks: usize, source: PathBuf },
    /// Gets every object into a directory.
    Get { server: String, tasks: usize, into: PathBuf },
    /// Publishes so many bytes of preallocated messages of one size.
    Publish { server: String, replicas: usize, bytes: u64, message: usize },
    /// Drains the published messages to a file.
    Drain { server: String, durability: Durability, into: PathBuf },
    /// Moves small files one by one, each as soon as the last one has landed; prints what each took.
    Latency { how: latency::Way, server: String, into: PathBuf, files: usize },
    /// Copies a file, as `cp` does, and syncs it.
    Copy { from: PathBuf, into: PathBuf },
    /// Hashes on one thread until it is killed: a load beside others.
    Burn,
}

/// What a drain leaves on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Durability {
    /// What the kernel sees fit.
    Unsynced,
    /// Everything, synced beside writing.
    Synced,
}

/// Bytes of a drain that are synced at once, beside writing.
const SYNC_BYTES: usize = 64 << 20;

/// This program again, as a peer. Its last word is to be why it failed, and not where.
pub(crate) fn command<'a>(args: impl IntoIterator<Item = &'a str>) -> Command {
    // A program that runs has a path.
    program(std::env::current_exe().unwrap_or_default(), ["peer"]).args(args).env("RUST_BACKTRACE", "0")
}

impl Peer {
    pub(crate) async fn run(self) -> Result<()> {
        match self {
            Self::Put { server, replicas, tasks, source } => {
                put(&connect(&server).await?, replicas, tasks, &source).await
            }
            Self::Get { server, tasks, into } => get(&connect(&server).await?, tasks, &into).await,
            Self::Publish { server, replicas, bytes, message } => {
                publish(&connect(&server).await?, replicas, bytes, message).await
            }
            Self::Drain { server, durability, into } => drain(&connect(&server).await?, durability, &into).await,
            Self::Latency { how, server, into, files } => latency::measure(how, &server, &into, files).await,
            Self::Copy { from, into } => {
                std::fs::create_dir_all(&into)?;
                let copy = into.join("copy");
                std::fs::copy(from, &copy)?;
                Ok(File::open(copy)?.sync_all()?)
            }
            Self::Burn => burn(),
        }
    }
}

fn burn() -> ! {
    let mut bytes = vec![0xA5; BUFFER];
    loop {
        // What comes out goes in: nothing of it can be left out.
        let digest = blake3::hash(&bytes);
        bytes[..digest.as_bytes().len()].copy_from_slice(digest.as_bytes());
    }
}

pub(crate) async fn connect(server: &str) -> Result<JetStream> {
    let servers: Vec<&str> = server.split(',').collect();
    Ok(jetstream::new(async_nats::connect(servers).await?))
}

pub(crate) async fn bucket(js: &JetStream, replicas: usize) -> Result<object_store::ObjectStore> {
    let config = object_store::Config { bucket: BUCKET.into(), num_replicas: replicas, ..Default::default() };
    Ok(js.create_object_store(config).await?)
}

async fn put(js: &JetStream, replicas: usize, tasks: usize, source: &Path) -> Result<()> {
    let store = &bucket(js, replicas).await?;
    let files = if source.is_dir() {
        source.read_dir()?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?
    } else {
        vec![source.to_owned()]
    };
    let puts = files.into_iter().map(|path| async move {
        let name = path.file_name().and_then(|name| name.to_str()).context("a name that is no text")?;
        let mut file = BufReader::with_capacity(BUFFER, tokio::fs::File::open(&path).await?);
        store.put(name, &mut file).await?;
        anyhow::Ok(())
    });
    streams::iter(puts).buffer_unordered(tasks).try_collect().await
}

async fn get(js: &JetStream, tasks: usize, into: &Path) -> Result<()> {
    let store = &js.get_object_store(BUCKET).await?;
    std::fs::create_dir_all(into)?;
    let objects = store.list().await?;
    let got = objects
        .map_err(anyhow::Error::from)
        .map_ok(|info| async move { save(store, &info.name, &into.join(&info.name)).await });
    got.try_buffer_unordered(tasks).try_collect().await
}

/// Gets one object into a file, not synced.
pub(crate) async fn save(store: &object_store::ObjectStore, name: &str, path: &Path) -> Result<()> {
    let mut object = BufReader::with_capacity(BUFFER, store.get(name).await?);
    let mut file = tokio::fs::File::create(path).await?;
    tokio::io::copy_buf(&mut object, &mut file).await?;
    Ok(tokio::io::AsyncWriteExt::flush(&mut file).await?)
}

/// The stream of the ceilings.
pub(crate) async fn raw_stream(js: &JetStream, replicas: usize) -> Result<()> {
    let config =
        stream::Config { name: RAW.into(), subjects: vec!["raw".into()], num_replicas: replicas, ..Default::default() };
    js.create_stream(config).await?;
    Ok(())
}

async fn publish(js: &JetStream, replicas: usize, bytes: u64, size: usize) -> Result<()> {
    raw_stream(js, replicas).await?;
    // What no codec or file system can shrink is not needed: nobody looks at it.
    let message = Bytes::from(vec![0xA5; size]);
    let window = (WINDOW * MESSAGE / size).min(SMALL_WINDOW);
    let mut acknowledgements = VecDeque::<PublishAckFuture>::new();
    for _ in 0..bytes.div_ceil(size as u64) {
        if acknowledgements.len() == window
            && let Some(oldest) = acknowledgements.pop_front()
        {
            oldest.await?;
        }
        acknowledgements.push_back(js.publish("raw", message.clone()).await?);
    }
    for acknowledgement in acknowledgements {
        acknowledgement.await?;
    }
    Ok(())
}

async fn drain(js: &JetStream, durability: Durability, into: &Path) -> Result<()> {
    std::fs::create_dir_all(into)?;
    let mut stream = js.get_stream(RAW).await?;
    let mut left = stream.info().await?.state.messages;
    let config =
        consumer::pull::Config { ack_policy: consumer::AckPolicy::None, memory_storage: true, ..Default::default() };
    let consumer = stream.create_consumer(config).await?;
    let mut messages = consumer.stream().max_messages_per_batch(1_000).max_bytes_per_batch(PULL).messages().await?;
    let mut file = File::create(into.join("drained"))?;
    let (sender, mut payloads) = mpsc::channel::<Bytes>(WINDOW);
    let writer = tokio::task::spawn_blocking(move || {
        std::thread::scope(|threads| {
            let synced = file.try_clone()?;
            let (due, is_due) = std::sync::mpsc::channel::<()>();
            let syncing = threads.spawn(move || is_due.iter().try_for_each(|()| synced.sync_data()));
            let mut written = 0;
            while let Some(payload) = payloads.blocking_recv() {
                file.write_all(&payload)?;
                written += payload.len();
                if durability == Durability::Synced && written >= SYNC_BYTES {
                    written = 0;
                    due.send(())?;
                }
            }
            drop(due);
            syncing.join().map_err(|_| anyhow::anyhow!("the syncing thread died"))??;
            if durability == Durability::Synced {
                file.sync_all()?;
            }
            anyhow::Ok(())
        })
    });
    while left > 0 {
        let message = messages.next().await.context("the stream of messages has ended")??;
        sender.send(message.payload.clone()).await?;
        left -= 1;
    }
    drop(sender);
    writer.await??;
    ensure!(left == 0);
    Ok(())
}
