//! Being process 1, as in a container without an init.
//!
//! The system gives process 1 the orphans of every other process, and expects it to wait for them: those that commands (`--exec`) leave
//! behind would stay as zombies. So process 1 only runs the program as its child, hands on signals, waits for whatever ends, and ends as
//! its child did.

use std::{io, process::Command};

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, wait};
use tokio::signal::unix::{SignalKind, signal};

/// Signals that are handed on: those that end the program.
const HANDED_ON: [(SignalKind, Signal); 4] = [
    (SignalKind::interrupt(), Signal::INT),
    (SignalKind::terminate(), Signal::TERM),
    (SignalKind::hangup(), Signal::HUP),
    (SignalKind::quit(), Signal::QUIT),
];

/// Whether this process is to stand in for an init.
pub(crate) fn is_first() -> bool {
    std::process::id() == 1
}

/// Runs the program as a child, with the same arguments. Returns its exit code; a signal that ended it is told as shells do, 128 and its
/// number.
///
/// # Errors
/// When it cannot be started.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn stand_in() -> io::Result<i32> {
    let mut ended = signal(SignalKind::child())?;
    let mut signals = Vec::new();
    for (kind, handed_on) in HANDED_ON {
        signals.push((signal(kind)?, handed_on));
    }
    let program = Command::new(std::env::current_exe()?).args(std::env::args_os().skip(1)).spawn()?;
    let child = Pid::from_child(&program);
    for (mut came, handed_on) in signals {
        tokio::spawn(async move {
            while came.recv().await.is_some() {
                // One that has ended needs no signal.
                let _ = kill_process(child, handed_on);
            }
        });
    }
    loop {
        ended.recv().await;
        // One signal may stand for several that have ended.
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if pid == child {
                return Ok(code(status));
            }
        }
    }
}

fn code(status: WaitStatus) -> i32 {
    status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal)).unwrap_or(1)
}
