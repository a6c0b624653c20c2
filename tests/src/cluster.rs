//! Several servers that replicate to each other.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::config::Member;
use crate::server::is_clash;
use crate::{Builder, Server, eventually, must, ports, try_eventually};

/// Elections take seconds, on a busy machine many.
const READY_LIMIT: Duration = Duration::from_secs(90);

/// Servers with routes to each other on loopback. Dropping it ends them all.
#[derive(Debug)]
pub struct Cluster {
    servers: Vec<Server>,
}

/// Describes a [`Cluster`]; made by [`Cluster::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct ClusterBuilder {
    size: usize,
    server: Builder,
}

impl ClusterBuilder {
    /// How many servers; three unless told.
    pub fn size(mut self, size: usize) -> Self {
        self.size = size;
        self
    }

    /// Sets what all servers have in common, such as
    /// `Server::builder().sync_always()`. A store directory is not: each
    /// server has its own.
    pub fn servers(mut self, like: Builder) -> Self {
        self.server = like;
        self
    }

    /// Starts the servers, and waits until they have a leader and all are
    /// current.
    ///
    /// # Panics
    /// When they do not get there.
    pub async fn start(self) -> Cluster {
        must(self.try_start().await, "cannot start the cluster")
    }

    async fn try_start(self) -> Result<Cluster> {
        for _ in 0..5 {
            match self.launch().await {
                Ok(cluster) => {
                    cluster.try_ready().await?;
                    return Ok(cluster);
                }
                // Another test was given the port that we had found free.
                Err(error) if is_clash(&error) => {}
                Err(error) => return Err(error),
            }
        }
        bail!("found no ports that stay free")
    }

    async fn launch(&self) -> Result<Cluster> {
        let routes = ports::free(self.size)?;
        let mut servers = Vec::new();
        for (index, &route) in routes.iter().enumerate() {
            let mut builder = self.server.clone();
            builder.store = None;
            builder.member = Some(Member { name: name(index), route, routes: routes.clone() });
            let server = Server::prepare(builder).await?;
            server.launch().await?;
            servers.push(server);
        }
        Ok(Cluster { servers })
    }
}

impl Cluster {
    /// Describes a cluster before it is started.
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder { size: 3, server: Server::builder() }
    }

    /// Starts `size` default servers; see [`ClusterBuilder::start`].
    ///
    /// # Panics
    /// When they do not get ready.
    pub async fn start(size: usize) -> Self {
        Self::builder().size(size).start().await
    }

    /// The addresses of all servers, joined by commas, running or not.
    #[must_use]
    pub fn url(&self) -> String {
        let urls: Vec<_> = self.servers.iter().map(Server::url).collect();
        urls.join(",")
    }

    /// All servers.
    #[must_use]
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// One server, counted from zero.
    #[must_use]
    pub fn server(&self, index: usize) -> &Server {
        &self.servers[index]
    }

    /// Kills one server with SIGKILL.
    pub async fn kill(&self, index: usize) {
        self.servers[index].kill().await;
    }

    /// Restarts one server, and waits until it is in the cluster again if the
    /// cluster has a majority; without one, only until it listens.
    ///
    /// # Panics
    /// When it does not get there.
    pub async fn restart(&self, index: usize) {
        let server = &self.servers[index];
        server.stop().await;
        must(server.launch().await, "cannot restart a cluster's server");
        if self.running().count() * 2 > self.servers.len() {
            must(server.ready().await, "cannot restart a cluster's server");
        }
    }

    /// Waits until there is a leader and all running servers are current.
    ///
    /// # Panics
    /// When they do not get there.
    pub async fn ready(&self) {
        must(self.try_ready().await, "the cluster does not get ready");
    }

    /// The server that leads everything but the single streams, if there is one.
    pub async fn meta_leader(&self) -> Option<usize> {
        self.meta().await.map(|(leader, _)| leader)
    }

    /// The server that leads a stream; waits for an election to end.
    ///
    /// # Panics
    /// When there is no such stream, or none leads it for a long time.
    pub async fn leader_of(&self, stream: &str) -> usize {
        let what = format!("a running server leads stream {stream}");
        eventually(&what, READY_LIMIT, || async {
            let js = self.running().next()?.jetstream().await;
            let stream = js.get_stream(stream).await.ok()?;
            let leader = self.index(&stream.cached_info().cluster.as_ref()?.leader.clone()?)?;
            // A server just killed is called leader until the others notice.
            self.servers[leader].is_running().then_some(leader)
        })
        .await
    }

    async fn try_ready(&self) -> Result<()> {
        let others = self.running().count() - 1;
        let what = "a leader is there and all its followers are current";
        let led = try_eventually(what, READY_LIMIT, || async {
            let (_, meta) = self.meta().await?;
            let replicas = meta["replicas"].as_array()?.iter();
            let current =
                replicas.filter(|replica| replica["current"] == true && !replica["offline"].as_bool().unwrap_or(false));
            (current.count() >= others).then_some(())
        });
        led.await?;
        for server in self.running() {
            server.ready().await.context("a server is not ready")?;
        }
        Ok(())
    }

    /// The leader and what it says of its followers: only it knows them.
    async fn meta(&self) -> Option<(usize, Value)> {
        for (index, server) in self.servers.iter().enumerate() {
            if !server.is_running() {
                continue;
            }
            let Ok(mut jsz) = server.monitor("/jsz").await else {
                continue;
            };
            let meta = jsz["meta_cluster"].take();
            if meta["leader"] == name(index) {
                return Some((index, meta));
            }
        }
        None
    }

    fn running(&self) -> impl Iterator<Item = &Server> {
        self.servers.iter().filter(|server| server.is_running())
    }

    fn index(&self, of: &str) -> Option<usize> {
        (0..self.servers.len()).find(|&index| name(index) == of)
    }
}

fn name(index: usize) -> String {
    format!("server-{index}")
}
