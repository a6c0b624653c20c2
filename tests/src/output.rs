//! What a command left behind.

use std::process::ExitStatus;
use std::time::Duration;

use serde_json::Value;

/// A finished command: how it ended, what it said and what it used.
#[derive(Clone, Debug)]
#[must_use]
pub struct Output {
    /// The command line, for messages.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
    /// The most memory it had in RAM at once. On Linux exact when it is above
    /// the test process' own peak; below, sampled every 20 ms from the kernel's
    /// high-water mark, and for a command gone before the first sample only
    /// known to be no more than this. Elsewhere what the system reports.
    pub peak_rss_bytes: u64,
    /// The processor time it used, user and system.
    pub cpu: Duration,
    /// How long it ran.
    pub elapsed: Duration,
}

impl Output {
    /// The exit code; `None` when a signal ended it.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Standard output as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    #[must_use]
    pub fn errors(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// The lines of standard output, each a JSON value.
    ///
    /// # Panics
    /// When a line is not JSON, with the whole output.
    #[must_use]
    pub fn json_lines(&self) -> Vec<Value> {
        let text = self.text();
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        lines
            .map(|line| match serde_json::from_str(line) {
                Ok(value) => value,
                Err(error) => panic!("not JSON ({error}): {line}\n{}", self.describe()),
            })
            .collect()
    }

    /// Itself, if the exit code is 0.
    ///
    /// # Panics
    /// When it is not, with the whole output.
    pub fn success(self) -> Self {
        self.exited(0)
    }

    /// Itself, if the exit code is that one.
    ///
    /// # Panics
    /// When it is not, with the whole output.
    pub fn exited(self, code: i32) -> Self {
        assert_eq!(self.code(), Some(code), "{}", self.describe());
        self
    }

    /// Everything a message about this command should hold.
    pub(crate) fn describe(&self) -> String {
        format!(
            "{}\nended with {} after {:?}\n--- stdout\n{}\n--- stderr\n{}\n---",
            self.command,
            self.status,
            self.elapsed,
            self.text(),
            self.errors()
        )
    }
}
