//! What the two binaries share.

mod config;
pub mod doctor;
mod health;
mod http;
mod logging;
pub mod look;
mod memory;
mod offline;
mod option_name;
mod pages;
mod program;
mod progress;
mod select;
mod server;
mod speed;
mod standard_error;
mod stored;
mod table;
mod terminal;
mod usage;
mod values;
mod variables;
mod which;

use std::str::FromStr;

use crate::{TransferId, file_name::deceives};

pub use crate::in_words::{count, human_age, human_bytes};
pub use config::ConfigError;
pub use health::Health;
pub use http::{Http, HttpArguments};
pub use logging::LoggingArguments;
pub use memory::{keep_freed_memory, keep_memory_together};
pub use offline::Offline;
pub use program::{Globals, Program, check, check_example, parse};
pub use progress::{Followed, Moved, ProgressMode, Progresses, Shown};
pub use select::{StateName, glob, parse_glob, parse_time};
pub use server::ServerArguments;
pub use stored::Stored;
pub use table::{Column, Table};
pub use usage::wrong_usage;
pub use values::{number, parse_address, parse_duration, parse_rate};
pub use variables::TOLD_TO_COMMANDS;
pub use which::{WhichTransfer, choose};

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Everything that was asked for is done.
    Done,
    /// Something failed, and was reported.
    Failed,
}

/// Ends the program with an outcome's exit code: 0 done, 1 something failed. Wrong usage is clap's, and 2.
pub fn exit(result: anyhow::Result<Outcome>) -> ! {
    let code = match result {
        Ok(Outcome::Done) => 0,
        Ok(Outcome::Failed) => 1,
        Err(error) => {
            report(&error);
            1
        }
    };
    end(code)
}

/// Ends the program once all is written that was said.
fn end(code: i32) -> ! {
    terminal::clear_bars();
    standard_error::finish();
    // At once: a thread that waits for standard input or a disk cannot be ended otherwise.
    std::process::exit(code)
}

/// Ends the program with what clap has to say: help and version, which were asked for, or that the usage is wrong.
fn end_by_usage(usage: &clap::Error) -> ! {
    let (printed, code) = (usage.print(), usage.exit_code());
    // Help that cannot be written is not what was asked for. A reader that has gone away, as `head` does, is no error.
    match printed {
        Err(error) if code == 0 && error.kind() != std::io::ErrorKind::BrokenPipe => {
            exit(Err(anyhow::Error::new(error).context("cannot write the help")))
        }
        _ => end(code),
    }
}

/// Prints an error and what caused it, on one line of standard error.
pub fn report(error: &anyhow::Error) {
    logging::say(tracing::Level::ERROR, &harmless(&line_of(error.as_ref())));
}

/// An error and what caused it, on one line.
fn line_of(error: &(dyn std::error::Error + 'static)) -> String {
    let mut line = error.to_string();
    for cause in std::iter::successors(error.source(), |error| error.source()) {
        let cause = cause.to_string();
        // Some libraries' errors say what their source says, too.
        if !line.ends_with(&cause) {
            line.extend([": ", &cause]);
        }
    }
    line
}

/// What was said of a transfer, where its id stands beside it.
pub fn without_id(said: &str, transfer: Option<TransferId>) -> String {
    let Some(transfer) = transfer else { return said.to_owned() };
    said.replace(&format!(" of transfer {transfer}"), "").replace(&format!("transfer {transfer}"), "it")
}

/// Longest text of a stranger in a table, in characters.
const MOST_SHOWN: usize = 300;

/// The beginning of what a stranger has said, escaped, for a table; `--json` has the whole.
pub fn in_brief(said: &str) -> String {
    let said = harmless(said);
    let mut shown: String = said.chars().take(MOST_SHOWN).collect();
    if said.chars().nth(MOST_SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

/// Says something on standard error that is neither a result nor an error: that there is nothing to show, how much was shown.
pub fn note(line: &str) {
    logging::say(tracing::Level::INFO, &harmless(line));
}

/// A line without characters that a terminal obeys, or that make it read other than it is: strangers may have written parts of it.
/// Escaped so that JSON stays the same JSON.
pub fn harmless(line: &str) -> std::borrow::Cow<'_, str> {
    // Separators, and what is not seen at all, beside what no name may have.
    let is_harmful = |c| deceives(c) || matches!(c, '\u{200b}' | '\u{2028}' | '\u{2029}' | '\u{feff}');
    if !line.chars().any(is_harmful) {
        return line.into();
    }
    let escape = |c: char| if is_harmful(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
    line.chars().map(escape).collect::<String>().into()
}

/// Prints one line of standard output. A reader that has gone away, as `head` does, is no error.
///
/// # Errors
/// When it cannot be written, as on a full disk.
pub fn print_line(line: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    match terminal::above_bars(|| writeln!(std::io::stdout().lock(), "{}", harmless(line))) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// A number of bytes: `1048576`, `64K`, `10GiB`, `20MB`. Units are powers of 1,024, but for those that end in `B` without an `i`, which are
/// powers of 1,000 (IEC 80000-13).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteCount(pub u64);

impl FromStr for ByteCount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let error = || format!("'{text}' is not a number of bytes such as 1048576, 512KiB, 20MiB or 10GiB");
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let unit = match text[digits..].trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "kib" => 1 << 10,
            "m" | "mib" => 1 << 20,
            "g" | "gib" => 1 << 30,
            "t" | "tib" => 1 << 40,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "tb" => 1_000_000_000_000,
            _ => return Err(error()),
        };
        let number: u64 = text[..digits].parse().map_err(|_| error())?;
        number.checked_mul(unit).map(Self).ok_or_else(error)
    }
}

/// Whether something failed only because whoever read standard output has gone away, as `head` does.
pub fn is_unread(error: &anyhow::Error) -> bool {
    let is_pipe = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    };
    error.chain().any(is_pipe)
}

/// Ends when SIGINT or SIGTERM comes.
///
/// # Errors
/// When signals cannot be listened for.
pub fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        // The terminal has written `^C` below them: what is drawn anew would wipe out what is said about the end.
        terminal::clear_bars();
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stranger_says_at_length_is_cut() {
        assert_eq!(in_brief("a\nb 'c'"), "a\\u000ab 'c'");
        assert_eq!(in_brief(&"ä".repeat(MOST_SHOWN)), "ä".repeat(MOST_SHOWN));
        assert_eq!(in_brief(&"ä".repeat(20_000)), "ä".repeat(MOST_SHOWN) + "…");
    }

    #[test]
    fn byte_counts_are_read_as_people_write_them() {
        assert_eq!("10GiB".parse(), Ok(ByteCount(10 << 30)));
        assert_eq!("512k".parse(), Ok(ByteCount(512 << 10)));
        assert_eq!("20MB".parse(), Ok(ByteCount(20_000_000)));
        assert!("1.5G".parse::<ByteCount>().is_err() && "99999999999T".parse::<ByteCount>().is_err());
    }
}
