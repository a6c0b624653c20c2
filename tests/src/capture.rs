//! What a child writes, kept whole and readable while it is written.

use std::io::Read;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::lock;

/// How long after a child's end its pipe may stay open; longer only if it has
/// left children of its own.
const END_LIMIT: Duration = Duration::from_secs(5);

/// One captured pipe.
#[derive(Debug)]
pub(crate) struct Capture {
    bytes: Mutex<Vec<u8>>,
    /// Length so far, and whether that is all.
    grown: watch::Receiver<(usize, bool)>,
}

impl Capture {
    /// Reads the pipe to its end on a thread of its own, so that a child never
    /// waits for a test to look.
    pub(crate) fn start(mut pipe: impl Read + Send + 'static) -> Result<Arc<Self>> {
        let (grow, grown) = watch::channel((0, false));
        let bytes = Mutex::default();
        let capture = Arc::new(Self { bytes, grown });
        let filled = Arc::clone(&capture);
        let read = move || {
            let mut piece = vec![0; 64 * 1024];
            loop {
                let count = pipe.read(&mut piece).unwrap_or(0);
                let mut bytes = lock(&filled.bytes);
                bytes.extend_from_slice(&piece[..count]);
                grow.send_replace((bytes.len(), count == 0));
                if count == 0 {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("capture".into()).spawn(read).context("no thread to read a pipe")?;
        Ok(capture)
    }

    pub(crate) fn so_far(&self) -> Vec<u8> {
        lock(&self.bytes).clone()
    }

    /// Everything, once the child has ended.
    pub(crate) async fn all(&self) -> Vec<u8> {
        let mut grown = self.grown.clone();
        drop(timeout(END_LIMIT, grown.wait_for(|now| now.1)).await);
        self.so_far()
    }

    pub(crate) fn lines(self: &Arc<Self>) -> Lines {
        Lines { capture: Arc::clone(self), grown: self.grown.clone(), at: 0 }
    }

    /// The line starting there and where the next one starts; a last line
    /// without an end counts once the pipe is closed.
    fn line(&self, at: usize, closed: bool) -> Option<(String, usize)> {
        let bytes = lock(&self.bytes);
        let rest = bytes.get(at..).filter(|rest| !rest.is_empty())?;
        let end = rest.iter().position(|&byte| byte == b'\n');
        let (end, next) = match end {
            Some(end) => (end, end + 1),
            None if closed => (rest.len(), rest.len()),
            None => return None,
        };
        let line = String::from_utf8_lossy(&rest[..end]).into_owned();
        Some((line, at + next))
    }
}

/// The lines of a child's standard output, from its first one on, as they come.
#[derive(Debug)]
pub struct Lines {
    capture: Arc<Capture>,
    grown: watch::Receiver<(usize, bool)>,
    at: usize,
}

impl Lines {
    /// The next line, or `None` at the end of the output.
    ///
    /// # Cancel safety
    /// Safe: no line is lost.
    pub async fn next(&mut self) -> Option<String> {
        loop {
            let closed = self.grown.borrow_and_update().1;
            if let Some((line, next)) = self.capture.line(self.at, closed) {
                self.at = next;
                return Some(line);
            }
            if closed || self.grown.changed().await.is_err() {
                return None;
            }
        }
    }
}
