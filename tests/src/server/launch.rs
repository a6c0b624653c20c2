//! From a description to a server that answers.

use std::fs::OpenOptions;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use async_nats::jetstream;
use tempfile::TempDir;
use tokio::time::sleep;

use super::Server;
use crate::binary::server_binary;
use crate::ports::Ports;
use crate::process::{Process, command};
use crate::{Builder, http, lock, try_eventually};

/// A store of gigabytes takes a while to recover on a small machine; a server
/// that dies is noticed at once, so the limit is seldom waited for.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// How much of a server's log an error shows.
const TAIL_LINES: usize = 30;

impl Server {
    /// Finds the binary and makes the directories; starts nothing.
    pub(crate) async fn prepare(builder: Builder) -> Result<Self> {
        let version = builder.version.clone();
        // May have to download it.
        let binary = tokio::task::spawn_blocking(move || server_binary(&version)).await??;
        let dir = TempDir::with_prefix("natsfer-server-")?;
        let store = match &builder.store {
            Some(given) => given.clone(),
            None => dir.path().join("store"),
        };
        std::fs::create_dir_all(&store).with_context(|| format!("cannot create {}", store.display()))?;
        Ok(Self { builder, binary, dir, store, state: std::sync::Mutex::default() })
    }

    /// Starts the process and waits until it listens.
    pub(crate) async fn launch(&self) -> Result<()> {
        self.down()?;
        // After a restart someone may sit on our port for a moment: most often
        // the far ends of our own clients' attempts to reconnect.
        for _ in 0..50 {
            match self.launch_once().await {
                Err(error) if self.keeps_ports() && is_clash(&error) => {
                    sleep(Duration::from_millis(100)).await;
                }
                result => return result,
            }
        }
        bail!("somebody else has taken port {}", self.port())
    }

    /// Waits until the server is well and JetStream answers a client.
    pub(crate) async fn ready(&self) -> Result<()> {
        self.healthy().await?;
        let answered = try_eventually("JetStream answers a client", READY_LIMIT, || async {
            let client = self.try_client().await.ok()?;
            jetstream::new(client).query_account().await.ok()
        });
        answered.await.with_context(|| self.tail(0))?;
        Ok(())
    }

    /// Waits until the monitoring port says the server is well.
    pub(crate) async fn healthy(&self) -> Result<()> {
        let ports = self.ports()?;
        let well = try_eventually("the server is healthy", READY_LIMIT, || async {
            if !self.is_running() {
                return Some(Err(anyhow!("the server ended")));
            }
            let (status, _) = http::get(ports.http, "/healthz").await.ok()?;
            (status == 200).then_some(Ok(()))
        });
        well.await.flatten().with_context(|| self.tail(0))
    }

    fn keeps_ports(&self) -> bool {
        lock(&self.state).ports.is_some()
    }

    async fn launch_once(&self) -> Result<()> {
        // The ports file's name holds the pid: an old one would be mistaken.
        let run_dir = self.dir.path().join("run");
        if run_dir.exists() {
            std::fs::remove_dir_all(&run_dir)?;
        }
        std::fs::create_dir_all(&run_dir)?;
        let known = {
            let mut state = lock(&self.state);
            state.named_ports = state.ports;
            state.ports
        };
        let config = self.write_config()?;
        let log = OpenOptions::new().create(true).append(true).open(self.log_file())?;
        let logged = log.metadata()?.len();

        let mut command = command(&self.binary);
        command.arg("-c").arg(&config).current_dir(self.dir.path());
        command.stdin(std::process::Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        let (process, _) = Process::spawn(command, false)?;
        let process = Arc::new(process);
        let listens = try_eventually("the server listens", READY_LIMIT, || async {
            if let Some(exit) = process.exit() {
                return Some(Err(anyhow!("the server ended: {}", exit.status)));
            }
            Ports::read(&run_dir).map(Ok)
        });
        let ports = listens.await.flatten().with_context(|| self.tail(logged))?;
        ensure!(known.is_none_or(|known| known.client == ports.client), "the server came back on another port");
        let mut state = lock(&self.state);
        state.ports = Some(ports);
        state.process = Some(process);
        Ok(())
    }

    /// Writes down how it is to be, with the ports that it was started with.
    pub(super) fn write_config(&self) -> Result<std::path::PathBuf> {
        let (run_dir, config) = (self.dir.path().join("run"), self.dir.path().join("server.conf"));
        let state = lock(&self.state);
        let builder = match &state.lines {
            Some(lines) => self.builder.clone().with_config_lines(lines.clone()),
            None => self.builder.clone(),
        };
        std::fs::write(&config, builder.render(state.named_ports, &run_dir, &self.store))?;
        Ok(config)
    }

    /// The end of what the server has logged after the first `skip` bytes.
    fn tail(&self, skip: u64) -> String {
        let log = self.log();
        let new = usize::try_from(skip).ok().and_then(|skip| log.get(skip..)).unwrap_or(&log);
        let lines: Vec<_> = new.lines().collect();
        let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
        format!("nats-server {} said:\n{tail}\n", self.builder.version)
    }
}

/// Whether a server failed to start because a port was not free.
pub(crate) fn is_clash(error: &anyhow::Error) -> bool {
    format!("{error:#}").contains("address already in use")
}
