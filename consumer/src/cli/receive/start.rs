//! What a receiver that starts has before it, in words.

use std::time::Duration;

use natsfer_common::cli::count;
use natsfer_consumer::{Backlog, hooks::Counts};

/// How many files there are to be received.
pub(super) fn files(backlog: Backlog) -> String {
    let Backlog { waiting, taken, .. } = backlog;
    let waiting = count(waiting, "file");
    match taken {
        0 => format!("{waiting} to be received"),
        1 => format!("{waiting} to be received, and 1 that was taken before"),
        taken => format!("{waiting} to be received, and {taken} that were taken before"),
    }
}

/// That what was taken before is waited for, and for how long at most.
pub(super) fn waiting(files: u64, takeover: Duration) -> Option<String> {
    let takeover = humantime::format_duration(takeover);
    let (were, they_come) = if files == 1 { ("was", "it comes") } else { ("were", "they come") };
    (files > 0).then(|| {
        format!(
            "waiting for {} that {were} given to another process of this name before: if that has died, {they_come} within \
             {takeover} (--takeover)",
            count(files, "file")
        )
    })
}

/// That commands wait which this run does not run.
pub(super) fn commands(counts: Counts) -> Option<String> {
    let Counts { pending, .. } = counts;
    (pending > 0).then(|| {
        let (commands, are) = (count(pending, "command"), if pending == 1 { "is" } else { "are" });
        format!("{commands} of earlier runs {are} still to be run, by a receiver with --exec: `hooks` shows what for")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_before_is_told_with_what_waits() {
        let told = |waiting, taken| files(Backlog { waiting, taken, done_to: 0, paused: None, is_full: false });
        assert_eq!(told(1, 0), "1 file to be received");
        assert_eq!(told(0, 1), "0 files to be received, and 1 that was taken before");
        assert_eq!(told(56, 4), "56 files to be received, and 4 that were taken before");
    }

    #[test]
    fn what_is_waited_for_is_told_only_where_there_is_any() {
        assert_eq!(waiting(0, Duration::from_secs(30)), None);
        let told = waiting(1, Duration::from_secs(30)).unwrap();
        assert!(told.contains("1 file that was") && told.ends_with("it comes within 30s (--takeover)"), "{told}");
        let of = |pending, failed| commands(Counts { pending, failed });
        assert_eq!(of(0, 3), None);
        assert!(of(2, 0).unwrap().starts_with("2 commands of earlier runs are"));
    }
}
