//! Standard error, which neither kills nor holds up the work: a thread of its own writes to it, and what it cannot write is lost.
//!
//! A log disk may be full, whoever read the pipe may have gone, or may not read: all of that is the log's trouble, and not the files'.
//! Up to [`MOST_LINES`] lines wait. The thread begins with the first line and ends with [`finish`].

use std::{
    io::{self, Write, stderr},
    sync::{Mutex, OnceLock, PoisonError},
};

use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};

use super::terminal;

/// Lines that wait to be written, at most. Those that come then are lost.
const MOST_LINES: usize = 4_096;

/// What hands lines to the thread.
static LINES: OnceLock<NonBlocking> = OnceLock::new();
/// Ends the thread once what waits is written.
static THREAD: Mutex<Option<WorkerGuard>> = Mutex::new(None);

/// Says one line.
pub(super) fn say(line: &str) {
    // The writer loses what it cannot take; there is nowhere to say so.
    let _ = lines().write_all(format!("{line}\n").as_bytes());
}

/// Waits until what was said is written, a second at most, where nobody reads it.
pub(super) fn finish() {
    drop(THREAD.lock().unwrap_or_else(PoisonError::into_inner).take());
}

/// What takes lines: for the log, each event is one.
pub(super) fn lines() -> NonBlocking {
    let begin = || {
        let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(MOST_LINES);
        let (lines, thread) = builder.thread_name("standard-error").finish(AboveBars);
        *THREAD.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        lines
    };
    LINES.get_or_init(begin).clone()
}

/// Writes above the progress bars. Each line is one write.
struct AboveBars;

impl Write for AboveBars {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        terminal::above_bars(|| stderr().write_all(bytes)).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        stderr().flush()
    }
}
