//! A command for each file that has landed: run at least once, whatever happens in between.
//!
//! A run is noted on disk, in `.natsfer/exec` of the target directory, before the receiver's inbox is told that the file is done. It
//! is removed once the command has succeeded, and kept as failed once it has failed too often. Whoever holds a receiver's lock there
//! runs what is noted; others of its name only note. Landing waits for none of it.

mod command;
mod counts;
mod environment;
mod outcome;
mod output;
mod queue;
mod run;
mod runner;
mod schedule;

pub use counts::Counts;
pub use output::harmless_lines;
pub use queue::{Queue, Shelf};
pub use run::{Attempt, Run, RunId};
pub use runner::{HookOptions, HookState, Hooks, Noting, Summary};
pub use schedule::{End, Schedule, Step, Then, rest};
