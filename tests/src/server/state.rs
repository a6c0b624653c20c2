//! Breaking a server and bringing it back.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;
use tokio::time::timeout;

use super::Server;
use crate::process::Process;
use crate::{Usage, eventually, lock, must};

/// How long a server may take to shut down in good order.
const STOP_LIMIT: Duration = Duration::from_secs(30);

impl Server {
    /// Whether the process is there; a paused one is.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.process().is_some()
    }

    /// SIGKILL: the server gets no chance to write anything more. What it had
    /// written to the page cache survives; for a power cut, a harness needs a
    /// file system of its own. Killing a server that is down does nothing.
    pub async fn kill(&self) {
        let Some(process) = self.process() else {
            return;
        };
        must(process.signal(Signal::KILL), "cannot kill the server");
        must(self.gone(&process).await, "the killed server stays");
    }

    /// SIGTERM, and waits for the orderly end, also of a paused server.
    ///
    /// # Panics
    /// When it takes longer than half a minute.
    pub async fn stop(&self) {
        let Some(process) = self.process() else {
            return;
        };
        must(process.signal(Signal::TERM), "cannot stop the server");
        must(process.signal(Signal::CONT), "cannot stop the server");
        must(self.gone(&process).await, "the server does not stop");
    }

    /// Stops the server if it is running, and starts it again with the same
    /// port and store.
    ///
    /// # Panics
    /// When it does not get ready, with its log.
    pub async fn restart(&self) {
        self.stop().await;
        must(self.launch().await, "cannot restart nats-server");
        must(self.ready().await, "cannot restart nats-server");
    }

    /// Has other lines at the top level of its configuration from now on, at the next restart or [`reload`](Self::reload).
    pub fn set_config_lines(&self, lines: &[&str]) {
        lock(&self.state).lines = Some(lines.iter().map(|line| (*line).to_owned()).collect());
    }

    /// SIGHUP, with the configuration as it is now; waits until the server has read it.
    ///
    /// # Panics
    /// When it does not, or is down.
    pub async fn reload(&self) {
        let loaded = async || must(self.monitor("/varz").await, "no server to reload")["config_load_time"].clone();
        let before = loaded().await;
        must(self.write_config(), "cannot write the configuration");
        self.signal(Signal::HUP);
        eventually("the server has read its configuration", STOP_LIMIT, || async {
            (loaded().await != before).then_some(())
        })
        .await;
    }

    /// SIGSTOP: connections stay open, and nothing answers.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT, after [`pause`](Self::pause).
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// What the process has used so far; its peak of memory begins anew.
    ///
    /// # Panics
    /// When it is down, or where there is no `/proc`.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let process = must(self.process().context("it is down"), "no server to look at");
        must(Usage::of(process.id()), "cannot look at the server")
    }

    fn signal(&self, signal: Signal) {
        let process = must(self.process().context("it is down"), "no server to signal");
        must(process.signal(signal), "cannot signal the server");
    }

    fn process(&self) -> Option<Arc<Process>> {
        let process = lock(&self.state).process.clone();
        process.filter(|process| process.exit().is_none())
    }

    async fn gone(&self, process: &Process) -> Result<()> {
        timeout(STOP_LIMIT, process.wait()).await.with_context(|| format!("still there after {STOP_LIMIT:?}"))??;
        lock(&self.state).process = None;
        Ok(())
    }
}
