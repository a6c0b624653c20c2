//! Where a contest takes place: what is moved, over which link, to which server.

use std::path::{Path, PathBuf};

use anyhow::Result;
use async_nats::jetstream;
use futures_util::TryStreamExt;
use natsfer_tests::{Builder, Cluster, Proxy, Running, Server, Usage, files, producer};
use tempfile::TempDir;

use crate::{contender::Contender, peer};

pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const GIB: u64 = 1 << 30;
/// Bytes of a small file.
const SMALL_FILE: u64 = 4096;

/// What is moved.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source {
    /// One file of so many bytes that no codec shrinks.
    Random(u64),
    /// One file of JSON log lines.
    Logs(u64),
    /// One file of so many zeros, which takes no room on disk.
    Sparse(u64),
    /// So many files of 4 KiB.
    Small(usize),
}

/// What the server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Site {
    /// One server, on loopback.
    Loopback,
    /// One server, on loopback, beside a process that keeps one core busy.
    Busy,
    /// One server behind a link of so many bytes per second, each way.
    Link(u64),
    /// Three servers, every stream on all of them.
    Replicated,
}

/// A scene that is set.
pub(crate) struct Scene {
    home: TempDir,
    source: PathBuf,
    bytes: u64,
    files: usize,
    servers: Servers,
    proxy: Option<Proxy>,
    /// Ends with the scene.
    _load: Option<Running>,
}

enum Servers {
    One(Box<Server>),
    Three(Cluster),
}

impl Source {
    fn make(self, home: &Path) -> (PathBuf, u64, usize) {
        let path = home.join("source");
        match self {
            Self::Random(bytes) => {
                files::random_file(&path, bytes, 1);
                (path, bytes, 1)
            }
            Self::Logs(bytes) => {
                files::json_logs(&path, bytes, 1);
                (path, bytes, 1)
            }
            Self::Sparse(bytes) => {
                files::sparse_file(&path, bytes);
                (path, bytes, 1)
            }
            Self::Small(count) => {
                for index in 0..count {
                    files::random_file(path.join(format!("{index}.bin")), SMALL_FILE, index as u64);
                }
                (path, SMALL_FILE * count as u64, count)
            }
        }
    }
}

/// A server to be. The object store leaves a consumer behind for each get; one of default settings takes 1,000.
pub(crate) fn server() -> Builder {
    Server::builder().jetstream_line("limits { default_max_consumers: -1 }")
}

impl Scene {
    pub(crate) async fn set(source: Source, site: Site) -> Result<Self> {
        let home = tempfile::tempdir()?;
        let (source, bytes, files) = source.make(home.path());
        let servers = match site {
            Site::Replicated => Servers::Three(Cluster::builder().servers(server()).start().await),
            _ => Servers::One(Box::new(server().start().await)),
        };
        let mut proxy = None;
        if let (Site::Link(rate), Servers::One(server)) = (site, &servers) {
            let link = Proxy::to(&server.url()).await;
            link.rate(rate);
            proxy = Some(link);
        }
        let load = if site == Site::Busy { Some(peer::command(["burn"]).spawn().await) } else { None };
        Ok(Self { home, source, bytes, files, servers, proxy, _load: load })
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    pub(crate) fn source(&self) -> &Path {
        &self.source
    }

    /// Bytes of all files.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn files(&self) -> usize {
        self.files
    }

    /// Bytes of a message of the ceilings: of a chunk, or of a small file.
    pub(crate) fn message(&self) -> usize {
        if self.files == 1 { peer::MESSAGE } else { SMALL_FILE as usize }
    }

    pub(crate) fn url(&self) -> String {
        match (&self.proxy, &self.servers) {
            (Some(proxy), _) => proxy.url(),
            (None, Servers::One(server)) => server.url(),
            (None, Servers::Three(cluster)) => cluster.url(),
        }
    }

    pub(crate) fn replicas(&self) -> usize {
        self.servers().len()
    }

    /// What the servers have used so far; their peaks begin anew.
    pub(crate) fn server_usage(&self) -> Usage {
        self.servers().iter().map(Server::usage).fold(Usage::default(), Usage::and)
    }

    fn servers(&self) -> &[Server] {
        match &self.servers {
            Servers::One(server) => std::slice::from_ref(server),
            Servers::Three(cluster) => cluster.servers(),
        }
    }

    async fn jetstream(&self) -> jetstream::Context {
        self.servers()[0].jetstream().await
    }

    /// Removes everything stored, and makes everybody's streams anew: that is nobody's time.
    pub(crate) async fn clear(&self) -> Result<()> {
        let js = self.jetstream().await;
        let names: Vec<String> = js.stream_names().try_collect().await?;
        for name in names {
            js.delete_stream(name).await?;
        }
        peer::bucket(&js, self.replicas()).await?;
        peer::raw_stream(&js, self.replicas()).await?;
        let init = producer(["init", "--replicas", &self.replicas().to_string()]).env("NATS_URL", self.url());
        let _ = init.run().await.success();
        Ok(())
    }

    /// Stores what the receiving contenders read.
    pub(crate) async fn store(&self) -> Result<()> {
        self.clear().await?;
        for contender in [Contender::Send, Contender::Put, Contender::Publish] {
            contender.run(self, "stored").await?;
        }
        Ok(())
    }

    /// Bytes that the data stream holds: however many have read them, one copy.
    pub(crate) async fn stored_bytes(&self) -> Result<u64> {
        Ok(self.jetstream().await.get_stream("NATSFER_DATA").await?.info().await?.state.bytes)
    }
}
