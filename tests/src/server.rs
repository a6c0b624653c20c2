//! One nats-server process.

mod launch;
mod state;

pub(crate) use launch::is_clash;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::{Result, ensure};
use async_nats::{Client, jetstream};
use serde_json::Value;
use tempfile::TempDir;

use crate::ports::Ports;
use crate::process::Process;
use crate::{Builder, http, lock, must, store};

/// What the harness' own connections are called, so as not to count them.
const HARNESS: &str = "natsfer-harness";

/// A real nats-server with JetStream, on ports the system chose.
///
/// All methods take `&self`, so that a scenario can kill the server while
/// something else is using it. Dropping it kills the process and removes its
/// store, unless the store was given with [`Builder::store_dir`].
#[derive(Debug)]
pub struct Server {
    builder: Builder,
    binary: PathBuf,
    dir: TempDir,
    store: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    process: Option<Arc<Process>>,
    /// Kept while the server is down: it comes back on the same ports.
    ports: Option<Ports>,
    /// Those that its configuration names: none before it was started once.
    named_ports: Option<Ports>,
    /// Lines instead of those it was described with.
    lines: Option<Vec<String>>,
}

impl Server {
    /// Describes a server before it is started.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Starts the default server.
    ///
    /// # Panics
    /// When it does not get ready, with its log.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// Where clients connect; the same after a restart.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port())
    }

    /// The client port.
    #[must_use]
    pub fn port(&self) -> u16 {
        must(self.ports(), "no port").client
    }

    /// The version the running server reports.
    pub async fn version(&self) -> String {
        let answer = must(self.monitor("/varz").await, "cannot ask for the version");
        answer["version"].as_str().unwrap_or_default().to_owned()
    }

    /// A new connection of the harness. It reconnects by itself after a
    /// restart, and [`connections`](Self::connections) does not count it.
    pub async fn client(&self) -> Client {
        must(self.try_client().await, "the harness cannot connect")
    }

    /// JetStream over a new connection of the harness.
    pub async fn jetstream(&self) -> jetstream::Context {
        jetstream::new(self.client().await)
    }

    /// Whether the server says it is well. `false` also when it is down, or
    /// does not answer for five seconds.
    pub async fn healthz(&self) -> bool {
        let Ok(ports) = self.ports() else {
            return false;
        };
        matches!(http::get(ports.http, "/healthz").await, Ok((200, _)))
    }

    /// How many clients are connected, the harness' own not counted: to prove
    /// that nothing of ours stays behind.
    pub async fn connections(&self) -> usize {
        self.connection_names().await.len()
    }

    /// The names of the connected clients, empty for those that gave none, the
    /// harness' own left out.
    pub async fn connection_names(&self) -> Vec<String> {
        let answer = self.monitor("/connz?limit=65536").await;
        let answer = must(answer, "cannot ask for connections");
        let connections = answer["connections"].as_array();
        connections
            .into_iter()
            .flatten()
            .map(|connection| connection["name"].as_str().unwrap_or_default().to_owned())
            .filter(|name| name != HARNESS)
            .collect()
    }

    /// The body of a monitoring request such as `/jsz?streams=true`.
    ///
    /// # Errors
    /// When the server is down or does not answer for five seconds.
    pub async fn monitor(&self, path: &str) -> Result<Value> {
        let (_, body) = http::get(self.ports()?.http, path).await?;
        Ok(body)
    }

    /// The directory with the server's streams. The server keeps them in its
    /// subdirectory `jetstream`.
    #[must_use]
    pub fn store_dir(&self) -> &Path {
        &self.store
    }

    /// Removes everything stored.
    ///
    /// # Panics
    /// When the server is running.
    pub fn wipe_store(&self) {
        must(self.down().and_then(|()| store::empty(&self.store)), "wipe");
    }

    /// Copies the store to `to`, an empty or missing directory.
    ///
    /// # Panics
    /// When the server is running.
    pub fn snapshot_store(&self, to: &Path) {
        let copied = self.down().and_then(|()| store::copy(&self.store, to));
        must(copied, "cannot take a snapshot of the store");
    }

    /// Puts back what [`snapshot_store`](Self::snapshot_store) took; whatever
    /// came after is gone, as on a machine restored from an older disk.
    ///
    /// # Panics
    /// When the server is running.
    pub fn restore_store(&self, from: &Path) {
        self.wipe_store();
        must(store::copy(from, &self.store), "cannot restore the store");
    }

    /// All the server has said since it was first started.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = std::fs::read(self.log_file()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn log_file(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    fn ports(&self) -> Result<Ports> {
        let ports = lock(&self.state).ports;
        ports.ok_or_else(|| anyhow::anyhow!("the server was never started"))
    }

    async fn try_client(&self) -> Result<Client> {
        Ok(self.builder.client.clone().name(HARNESS).connect(self.url()).await?)
    }

    fn down(&self) -> Result<()> {
        ensure!(!self.is_running(), "the server is running: stop it first");
        Ok(())
    }
}
