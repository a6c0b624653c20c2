//! Signals that whoever started the tests ignores: a script does so with SIGINT for what it starts in the background.

use std::{fs, sync::Once};

use tokio::signal::unix::{SignalKind, signal};

/// Sees to it that what is started from now on heeds the signals that end a program. Ignored signals stay ignored in a child; those that
/// are caught are not. Call it within a runtime.
pub(crate) fn heed_ignored() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup(), SignalKind::quit()] {
            if is_ignored(&status, kind.as_raw_value()) {
                // Only a signal that cannot be caught fails. It stays caught when this is dropped.
                drop(signal(kind));
            }
        }
    });
}

/// Whether a process ignores a signal, by its `/proc/PID/status`: bit N-1 of `SigIgn` is signal N (proc_pid_status(5)).
fn is_ignored(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_the_mask() {
        let status = "Name:\tsh\nSigIgn:\t0000000000000006\nSigCgt:\t0000000000000000\n";
        assert!(is_ignored(status, 2) && is_ignored(status, 3) && !is_ignored(status, 15) && !is_ignored("", 2));
    }
}
