//! A command that has been started.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::Signal;
use serde_json::Value;
use tokio::time::timeout;

use crate::capture::{Capture, Lines};
use crate::process::Process;
use crate::{Output, must};

/// A child process of a test. Dropping it kills it.
#[derive(Debug)]
pub struct Running {
    pub(super) process: Process,
    pub(super) stdout: Arc<Capture>,
    pub(super) stderr: Arc<Capture>,
    pub(super) command: String,
    pub(super) started: Instant,
    pub(super) limit: Duration,
}

impl Running {
    /// The process id.
    #[must_use]
    pub fn id(&self) -> i32 {
        self.process.id()
    }

    /// Whether it has not ended yet; a paused one has not.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.process.exit().is_none()
    }

    /// SIGKILL. Signals to a process that has ended go nowhere.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// SIGINT, as Ctrl-C sends it.
    pub fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    /// SIGTERM, as a service manager sends it.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// SIGSTOP.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        must(self.process.signal(signal), &self.command);
    }

    /// The most memory it has had in RAM so far, in bytes; sampled, and zero
    /// where there is no `/proc`.
    #[must_use]
    pub fn peak_rss(&self) -> u64 {
        self.process.peak_rss()
    }

    /// The lines of standard output from the first one on; each call starts
    /// over.
    #[must_use]
    pub fn lines(&self) -> Lines {
        self.stdout.lines()
    }

    /// Waits for a line of standard output, an earlier one included.
    ///
    /// # Panics
    /// When there is none within `limit` or before the command's end, with all
    /// it has said.
    pub async fn line(&self, limit: Duration, wanted: impl FnMut(&str) -> bool) -> String {
        self.find(self.lines(), limit, wanted).await
    }

    /// Waits for a line of standard error, an earlier one included.
    ///
    /// # Panics
    /// As [`line`](Self::line).
    pub async fn log_line(&self, limit: Duration, wanted: impl FnMut(&str) -> bool) -> String {
        self.find(self.stderr.lines(), limit, wanted).await
    }

    async fn find(&self, mut lines: Lines, limit: Duration, mut wanted: impl FnMut(&str) -> bool) -> String {
        let search = async {
            while let Some(line) = lines.next().await {
                if wanted(&line) {
                    return Some(line);
                }
            }
            None
        };
        match timeout(limit, search).await {
            Ok(Some(line)) => line,
            Ok(None) => panic!("ended without the line waited for: {}", self.describe()),
            Err(_) => panic!("not the line within {limit:?}: {}", self.describe()),
        }
    }

    /// Waits for a line of standard output that is JSON and `wanted`; other
    /// lines are passed over.
    ///
    /// # Panics
    /// As [`line`](Self::line).
    pub async fn event(&self, limit: Duration, mut wanted: impl FnMut(&Value) -> bool) -> Value {
        let mut event = Value::Null;
        self.line(limit, |line| {
            event = serde_json::from_str(line).unwrap_or_default();
            !event.is_null() && wanted(&event)
        })
        .await;
        event
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it has not come in the command's limit, counted from now.
    pub async fn wait(self) -> Output {
        match self.end().await {
            Ok(output) => output,
            Err(error) => panic!("{error:#}: {}", self.describe()),
        }
    }

    /// Waits for its end, and leaves it to others to look on meanwhile.
    ///
    /// # Errors
    /// When it has not come in the command's limit, counted from now. The command runs on.
    pub async fn end(&self) -> Result<Output> {
        let exit = timeout(self.limit, self.process.wait())
            .await
            .with_context(|| format!("still running after {:?}", self.limit))??;
        Ok(Output {
            command: self.command.clone(),
            status: exit.status,
            elapsed: self.started.elapsed(),
            stdout: self.stdout.all().await,
            stderr: self.stderr.all().await,
            peak_rss_bytes: exit.peak_rss,
            cpu: exit.cpu,
        })
    }

    fn describe(&self) -> String {
        let (stdout, stderr) = (self.stdout.so_far(), self.stderr.so_far());
        format!(
            "{}\n--- stdout so far\n{}\n--- stderr so far\n{}\n---",
            self.command,
            String::from_utf8_lossy(&stdout),
            String::from_utf8_lossy(&stderr)
        )
    }
}
