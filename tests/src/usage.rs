//! What processes have used.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// Processor time and memory of one process, or of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time, user and system, of all of them.
    pub cpu: Duration,
    /// The most memory that one of them had in RAM, in bytes.
    pub peak_rss_bytes: u64,
}

impl Usage {
    /// Of a running process, so far; its peak begins anew. From `/proc`: see proc(5).
    pub(crate) fn of(pid: i32) -> Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("no statistics of a process")?;
        // The second field is a name in parentheses, which may hold spaces; the third is the first behind it.
        let fields: Vec<_> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        let ticks = |field: usize| fields.get(field - 3).and_then(|ticks| ticks.parse::<u64>().ok());
        let ticks = ticks(14).zip(ticks(15)).map(|(user, system)| user + system).context("no processor time")?;
        let per_second = rustix::param::clock_ticks_per_second();
        let peak_rss_bytes = crate::process::high_water(&pid.to_string()).context("no peak of memory")?;
        fs::write(format!("/proc/{pid}/clear_refs"), "5").context("the peak cannot begin anew")?;
        Ok(Self { cpu: Duration::from_secs_f64(ticks as f64 / per_second as f64), peak_rss_bytes })
    }

    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { cpu: self.cpu + other.cpu, peak_rss_bytes: self.peak_rss_bytes.max(other.peak_rss_bytes) }
    }

    /// What was used since an earlier look.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self { cpu: self.cpu.saturating_sub(earlier.cpu), ..self }
    }
}
