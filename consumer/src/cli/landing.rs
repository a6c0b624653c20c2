//! Where and how files are landed, and what is refused: the options of every command that lands any.

use std::path::{Path, PathBuf};

use natsfer_common::{
    Rate,
    broker::{Broker, BrokerError},
    cli::{ByteCount, number, parse_rate},
};
use natsfer_consumer::{ConflictPolicy, Layout, Limits, ReceiveError, SaveOptions, TargetDirectory, Unwanted};

/// Where and how to land files.
#[derive(Debug, clap::Args)]
pub(crate) struct LandingArguments {
    /// Directory to land files in; created if missing
    #[arg(long, value_name = "DIR")]
    into: PathBuf,
    /// If another file of the name is there: rename, overwrite, skip or fail. Of several files of one name, which keeps it
    /// depends on the order in which they land: with --concurrency 1, and with overwrite, that in which they were sent
    #[arg(long, default_value = "rename", value_name = "POLICY")]
    on_conflict: ConflictPolicy,
    /// Where files stand in it: {name} as sent, {dir} {file} {stem} {ext} {.ext}, {channel}, {channel/} as directories, {date} {year}
    /// {month} {day} {hour} of publishing (UTC), {transfer}, {receiver}, {meta.KEY}; {meta.KEY:-other} for where there is none
    #[arg(long, value_name = "TEMPLATE", default_value_t, hide_default_value = true)]
    layout: Layout,
    /// Read at most so many bytes per second, of all files together: 20MiB
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    rate: Option<Rate>,
    /// Connections to read chunks over, where one cannot fill the line
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = number::<u16>(1..=64))]
    connections: u16,
    /// Reject larger files: 10GiB
    #[arg(long, value_name = "BYTES", help_heading = LIMITS)]
    max_size: Option<ByteCount>,
    /// Let the directory grow to so many bytes, unfinished files included; what has no room waits, and a
    /// larger file is rejected
    #[arg(long, value_name = "BYTES", help_heading = LIMITS)]
    max_disk: Option<ByteCount>,
    /// Unfinished files kept on disk; the one left alone for longest is removed, and fetched again later
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = number::<u32>(1..=u64::MAX), help_heading = LIMITS)]
    max_parts: u32,
    /// Reject files in larger chunks, which must fit in memory
    #[arg(long, value_name = "BYTES", default_value = "64MiB", help_heading = LIMITS)]
    max_chunk: ByteCount,
    /// Reject files of so many chunks that their journal, 24 bytes for each, would be larger
    #[arg(long, value_name = "BYTES", default_value = "64MiB", help_heading = LIMITS)]
    max_journal: ByteCount,
    /// Reject files of these kinds, comma-separated: hidden (.name), unportable (to Windows; names that differ only in case are
    /// then one), executable
    #[arg(long, value_name = "KINDS", value_delimiter = ',', help_heading = LIMITS)]
    refuse: Vec<Unwanted>,
}

/// What the options that protect a receiver stand under.
pub(crate) const LIMITS: &str = "Limits";

impl LandingArguments {
    /// Opens the directory.
    pub(crate) fn target(&self) -> Result<TargetDirectory, ReceiveError> {
        let target = TargetDirectory::open(&self.into)?;
        target.ensure_writable()?;
        Ok(match self.max_disk {
            Some(ByteCount(bytes)) => target.with_max_disk(bytes),
            None => target,
        })
    }

    /// The connection, with as many beside it as chunks are to be read over.
    pub(crate) async fn over(&self, broker: Broker) -> Result<Broker, BrokerError> {
        broker.with_connections(self.connections.into()).await
    }

    /// The directory, whether it is there or not.
    pub(crate) fn directory(&self) -> &Path {
        &self.into
    }

    /// What is done where another file of the name is there.
    pub(crate) fn on_conflict(&self) -> ConflictPolicy {
        self.on_conflict
    }

    /// How each file is saved.
    pub(crate) fn save_options(&self) -> SaveOptions {
        SaveOptions::default().with_on_conflict(self.on_conflict).with_layout(self.layout.clone())
    }

    /// How fast they may come.
    pub(crate) fn rate(&self) -> Option<Rate> {
        self.rate
    }

    /// Where files stand.
    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// What no file may exceed, the limit on the whole directory included.
    pub(crate) fn limits_of_each(&self) -> Limits {
        self.limits().also_within(self.max_disk.map(|ByteCount(bytes)| bytes))
    }

    pub(crate) fn limits(&self) -> Limits {
        let limits = Limits::default()
            .with_max_size(self.max_size.map(|ByteCount(bytes)| bytes))
            .with_max_parts(usize::try_from(self.max_parts).unwrap_or(usize::MAX))
            .with_max_chunk(self.max_chunk.0)
            .with_max_journal(self.max_journal.0);
        self.refuse.iter().fold(limits, |limits, unwanted| limits.without(*unwanted))
    }
}
