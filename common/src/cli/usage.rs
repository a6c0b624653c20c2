//! Wrong usage that only the program itself can tell.

use clap::{Command, error::ErrorKind};

/// Ends the program as clap does: the error, how the command is meant, exit code 2. `subcommand` is the one that was used
/// wrongly, if it is known.
pub fn wrong_usage(
    mut program: Command, subcommand: Option<&str>, kind: ErrorKind, wrong: impl std::fmt::Display,
) -> ! {
    program.build();
    let command = match subcommand {
        Some(name) => program.find_subcommand_mut(name),
        None => None,
    };
    match command {
        Some(command) => super::end_by_usage(&command.error(kind, wrong)),
        None => super::end_by_usage(&program.error(kind, wrong)),
    }
}
