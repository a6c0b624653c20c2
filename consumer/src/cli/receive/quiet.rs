//! Why nothing comes, where an operator is the reason. Nothing else would ever tell.

use std::time::Duration;

use natsfer_consumer::Backlog;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

/// When to look first, and how often while nothing is received.
const FIRST: Duration = Duration::from_secs(2);
const INTERVAL: Duration = Duration::from_secs(10);

/// Why the server delivers nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    Paused,
    Full,
}

/// Tells of it once each time it begins and ends.
#[derive(Debug)]
pub(super) struct Quiet {
    due: Interval,
    told: Option<Why>,
}

impl Quiet {
    pub(super) fn new() -> Self {
        let mut due = interval_at(Instant::now() + FIRST, INTERVAL);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { due, told: None }
    }

    /// Waits until it is time to look.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn due(&mut self) {
        self.due.tick().await;
    }

    /// Notes how the inbox is, and says what is to be told of it.
    pub(super) fn note(&mut self, backlog: &Backlog) -> Option<String> {
        let why = match (backlog.paused, backlog.is_full) {
            (Some(_), _) => Some(Why::Paused),
            (None, true) if backlog.waiting > 0 => Some(Why::Full),
            (None, _) => None,
        };
        if std::mem::replace(&mut self.told, why) == why {
            return None;
        }
        Some(match (why, backlog.paused) {
            (Some(Why::Paused), paused) => {
                let left = humantime::format_duration(Duration::from_secs(paused.unwrap_or_default().as_secs()));
                format!("an operator has paused this receiver's inbox for {left} from now: nothing comes meanwhile")
            }
            (Some(Why::Full), _) => format!(
                "{} files are taken and not done, as many as the server lets a receiver take (max_ack_pending): no others come before",
                backlog.taken
            ),
            (None, _) => "the receiver's inbox delivers again".into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_reason_is_told_once() {
        let mut quiet = Quiet::new();
        let mut told = |paused: Option<u64>, is_full| {
            let paused = paused.map(Duration::from_secs);
            quiet.note(&Backlog { waiting: 5, taken: 7, done_to: 0, paused, is_full }).unwrap_or_default()
        };
        assert_eq!(told(None, false), "");
        assert!(told(Some(3_600), false).contains("paused this receiver's inbox for 1h"));
        assert_eq!(told(Some(3_599), false), "");
        assert!(told(None, false).contains("delivers again"));
        assert!(told(None, true).starts_with("7 files"));
    }
}
