//! The command for each file that has landed: its options.

use std::time::Duration;

use natsfer_common::cli::{number, parse_duration};
use natsfer_consumer::hooks::HookOptions;

/// What to run for each file that has landed.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ExecArguments {
    /// Run this with sh -c for each file that has landed, in the target directory, until it exits with 0; the file is in its
    /// environment: NATSFER_PATH, NATSFER_NAME, NATSFER_CHANNEL, NATSFER_META_KEY …
    #[arg(long, value_name = "COMMAND", value_parser = command, help_heading = EXEC)]
    exec: Option<String>,
    /// Kill the command, and what it has started, after so long; by default it may take as long as it likes
    #[arg(long, value_name = "TIME", requires = "exec", value_parser = parse_duration, help_heading = EXEC)]
    exec_timeout: Option<Duration>,
    /// Try so many times, resting 1s after the first failure, then twice as long each time, up to 5m
    #[arg(long, value_name = "N", default_value_t = 5, requires = "exec", value_parser = number::<u32>(1..=u64::MAX), help_heading = EXEC)]
    exec_tries: u32,
    /// Run so many commands at once; with more than one, not in the order of landing
    #[arg(long, value_name = "N", default_value_t = 1, requires = "exec", value_parser = number::<u16>(1..=256), help_heading = EXEC)]
    exec_concurrency: u16,
}

/// What these options stand under.
const EXEC: &str = "Command for each file";

impl ExecArguments {
    /// The command, if there is to be one.
    pub(crate) fn options(&self) -> Option<HookOptions> {
        let Self { exec, exec_timeout, exec_tries, exec_concurrency } = self.clone();
        let options = HookOptions::new(exec?).with_timeout(exec_timeout).with_tries(exec_tries);
        Some(options.with_concurrency(exec_concurrency.into()))
    }
}

/// A command, which must be one: an empty text comes from a variable that was never set.
fn command(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("there is no command in it: leave it out to run none".into()),
        _ => Ok(text.into()),
    }
}
