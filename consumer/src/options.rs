//! What can be chosen.

use std::{str::FromStr, time::Duration};

use natsfer_common::{ChannelFilter, Rate, ReceiverName};

use crate::{Layout, Limits, Selection, TargetDirectory};

/// A receiver's name, channels and limits.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ReceiverOptions {
    /// Its durable name.
    pub name: ReceiverName,
    /// The channels it listens on; all by default.
    pub channels: ChannelFilter,
    /// Transfers it holds at once, 16 by default: [`crate::Receiver::next`] waits while there are as many.
    pub concurrency: usize,
    /// Bytes asked for ahead in all transfers together, 16 MiB by default.
    pub window: u64,
    /// Time after which another process of the same name takes over the transfers of one that has died: 30 s by default.
    pub takeover: Duration,
    /// Where the receiver notes what it holds, so that after a crash the next process of the name gets it at once and not
    /// after the takeover time: the directory it lands files in. Nowhere by default.
    pub home: Option<TargetDirectory>,
    /// What it refuses, and how much it keeps.
    pub limits: Limits,
    /// Bytes per second at most, in all transfers together, as they come; unlimited by default.
    pub rate: Option<Rate>,
    /// What it takes; all by default. The rest is done without being received.
    pub selection: Selection,
}

impl ReceiverOptions {
    /// A receiver of this name on every channel.
    pub fn new(name: ReceiverName) -> Self {
        Self {
            name,
            channels: ChannelFilter::default(),
            concurrency: 16,
            window: 16 << 20,
            takeover: Duration::from_secs(30),
            home: None,
            limits: Limits::default(),
            rate: None,
            selection: Selection::default(),
        }
    }

    /// On these channels only.
    #[must_use]
    pub fn with_channels(mut self, channels: ChannelFilter) -> Self {
        self.channels = channels;
        self
    }

    /// With as many transfers at once; at least one.
    #[must_use]
    pub fn with_concurrency(mut self, transfers: usize) -> Self {
        self.concurrency = transfers.max(1);
        self
    }

    /// With as many bytes asked for ahead, in all transfers together.
    #[must_use]
    pub fn with_window(mut self, bytes: u64) -> Self {
        self.window = bytes;
        self
    }

    /// With notes of what it holds, in the directory it lands files in.
    #[must_use]
    pub fn with_home(mut self, home: &TargetDirectory) -> Self {
        self.home = Some(home.clone());
        self
    }

    /// With other limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// With no more than so many bytes per second.
    #[must_use]
    pub fn with_rate(mut self, rate: Option<Rate>) -> Self {
        self.rate = rate;
        self
    }

    /// With only what is selected.
    #[must_use]
    pub fn with_selection(mut self, selection: Selection) -> Self {
        self.selection = selection;
        self
    }

    /// With another time until a dead process's transfers are taken over; at least a second.
    #[must_use]
    pub fn with_takeover(mut self, after: Duration) -> Self {
        self.takeover = after.max(Duration::from_secs(1));
        self
    }
}

/// How a transfer is saved.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SaveOptions {
    /// What to do when a file of the name is there already.
    pub on_conflict: ConflictPolicy,
    /// Where files stand in the directory.
    pub layout: Layout,
    /// How long nothing may come of a transfer that its sender has not closed, before it is put back: 10 s by default.
    pub patience: Duration,
}

impl Default for SaveOptions {
    fn default() -> Self {
        Self { on_conflict: ConflictPolicy::default(), layout: Layout::default(), patience: Duration::from_secs(10) }
    }
}

impl SaveOptions {
    /// With another policy for names that are taken.
    #[must_use]
    pub fn with_on_conflict(mut self, policy: ConflictPolicy) -> Self {
        self.on_conflict = policy;
        self
    }

    /// With another layout of the directory.
    #[must_use]
    pub fn with_layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// With another time to wait for a sender that has gone silent.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }
}

/// What to do when a file of the name is there already. An identical one is always left as it is, and the transfer done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ConflictPolicy {
    /// Land beside it, as `name (1).txt`.
    #[default]
    Rename,
    /// Replace it.
    Overwrite,
    /// Leave it, and take the transfer for done.
    Skip,
    /// Leave it, and let the transfer fail.
    Fail,
}

impl ConflictPolicy {
    const ALL: [Self; 4] = [Self::Rename, Self::Overwrite, Self::Skip, Self::Fail];

    /// As `--on-conflict` has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rename => "rename",
            Self::Overwrite => "overwrite",
            Self::Skip => "skip",
            Self::Fail => "fail",
        }
    }
}

impl FromStr for ConflictPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = Self::ALL.into_iter().find(|policy| policy.as_str() == text);
        named.ok_or_else(|| format!("the policy is one of {}", Self::ALL.map(Self::as_str).join(", ")))
    }
}
