//! Standard input that a scenario feeds as slowly as it likes.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::must;

/// Who does not read for so long has died, or waits for what it should not wait for.
const LIMIT: Duration = Duration::from_secs(60);

/// A named pipe, for [`Command::stdin_file`](crate::Command::stdin_file). It ends for its reader when it is closed or
/// dropped.
#[derive(Debug)]
pub struct Pipe {
    path: PathBuf,
    /// Open both ways: opening neither end waits for the other then.
    file: File,
}

impl Pipe {
    /// A pipe at this path, which must be free.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        must(Self::make(path.into()), "cannot make a pipe")
    }

    fn make(path: PathBuf) -> Result<Self> {
        let status = Command::new("mkfifo").arg(&path).status().context("cannot run mkfifo")?;
        ensure!(status.success(), "mkfifo {} ended with {status}", path.display());
        let file = File::options().read(true).write(true).open(&path)?;
        Ok(Self { path, file })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes all of it: done when the last byte is in the pipe, which holds 64 KiB or so.
    ///
    /// # Panics
    /// When nobody reads for a minute.
    pub async fn write(&self, bytes: &[u8]) {
        must(self.try_write(bytes.to_vec()).await, "cannot write to a pipe");
    }

    async fn try_write(&self, bytes: Vec<u8>) -> Result<()> {
        let mut file = self.file.try_clone()?;
        let (done, written) = oneshot::channel();
        // A thread of its own: one that is stuck must not hold up the runtime's end.
        std::thread::Builder::new().spawn(move || done.send(file.write_all(&bytes)))?;
        timeout(LIMIT, written).await.context("nobody reads it")???;
        Ok(())
    }

    /// Ends it.
    pub fn close(self) {}
}
