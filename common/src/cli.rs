//! What the two binaries share.

mod config;
pub mod doctor;
mod health;
mod http;
mod logging;
pub mod look;
mod offline;
mod pages;
mod program;
mod progress;
mod select;
mod server;
mod stored;
mod table;
mod terminal;
mod usage;
mod variables;
mod which;

use std::str::FromStr;

use crate::{Rate, file_name::deceives};

pub use config::{COMMANDS, ConfigError};
pub use health::Health;
pub use http::{Http, HttpArguments};
pub use logging::LoggingArguments;
pub use offline::Offline;
pub use program::{Globals, Program, command, parse};
pub use progress::{Followed, Moved, ProgressMode, Progresses, Shown};
pub use select::{parse_glob, parse_time};
pub use server::ServerArguments;
pub use stored::Stored;
pub use table::{Column, Table};
pub use usage::wrong_usage;
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
    terminal::clear_bars();
    // At once: a thread that waits for standard input or a disk cannot be ended otherwise.
    std::process::exit(code)
}

/// Prints an error and what caused it, on one line of standard error.
#[expect(clippy::print_stderr, reason = "this is where the binaries speak to their user")]
pub fn report(error: &anyhow::Error) {
    eprintln!("error: {}", harmless(&line_of(error)));
}

/// An error and what caused it, on one line.
fn line_of(error: &anyhow::Error) -> String {
    let mut causes = error.chain().map(ToString::to_string);
    let mut line = causes.next().unwrap_or_default();
    for cause in causes {
        // Some libraries' errors say what their source says, too.
        if !line.ends_with(&cause) {
            line.extend([": ", &cause]);
        }
    }
    line
}

/// Says something on standard error that is neither a result nor an error: that there is nothing to show, how much was shown.
#[expect(clippy::print_stderr, reason = "this is where the binaries speak to their user")]
pub fn note(line: &str) {
    terminal::above_bars(|| eprintln!("{}", harmless(line)));
}

/// A line without characters that a terminal obeys, or that make it read other than it is: strangers may have written parts of it.
/// Escaped so that JSON stays the same JSON.
pub fn harmless(line: &str) -> std::borrow::Cow<'_, str> {
    if !line.chars().any(deceives) {
        return line.into();
    }
    let escape = |c: char| if deceives(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
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

/// A number of bytes: `1048576`, `64K`, `10GiB`. Units are powers of 1,024.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteCount(pub u64);

impl FromStr for ByteCount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let error = || format!("'{text}' is not a number of bytes such as 1048576, 512K, 10GiB");
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let power = match text[digits..].trim().to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kib" => 1,
            "m" | "mib" => 2,
            "g" | "gib" => 3,
            "t" | "tib" => 4,
            _ => return Err(error()),
        };
        let number: u64 = text[..digits].parse().map_err(|_| error())?;
        number.checked_mul(1 << (10 * power)).map(Self).ok_or_else(error)
    }
}

/// A number of bytes per second: `500KiB`, `20MiB/s`.
///
/// # Errors
/// In words, when it is none, or 0.
pub fn parse_rate(text: &str) -> Result<Rate, String> {
    let bytes: Result<ByteCount, _> = text.strip_suffix("/s").unwrap_or(text).parse();
    let rate = bytes.ok().and_then(|ByteCount(bytes)| Rate::new(bytes));
    rate.ok_or_else(|| format!("'{text}' is not a number of bytes per second such as 500KiB or 20MiB"))
}

/// A size as people read it: `1.5 GiB`.
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let power = (bytes.max(1).ilog2() / 10).min(5);
    match power {
        0 => format!("{bytes} B"),
        power => format!("{:.1} {}", bytes as f64 / f64::from(power * 10).exp2(), UNITS[power as usize]),
    }
}

/// Whether something failed only because whoever read standard output has gone away, as `head` does.
pub fn is_unread(error: &anyhow::Error) -> bool {
    let is_pipe = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    };
    error.chain().any(is_pipe)
}

/// How long something took or is ago, by its largest unit: `5m`.
pub fn human_age(age: jiff::SignedDuration) -> String {
    let seconds = age.as_secs().max(0);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// One or several, in words: `1 file`, `2 files`.
pub fn count(number: u64, of: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {of}{plural}")
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
    fn byte_counts_read_and_write_as_people_do() {
        assert_eq!("10GiB".parse(), Ok(ByteCount(10 << 30)));
        assert_eq!("512k".parse(), Ok(ByteCount(512 << 10)));
        assert!("1.5G".parse::<ByteCount>().is_err() && "99999999999T".parse::<ByteCount>().is_err());
        assert_eq!(parse_rate("20MiB/s").map(Rate::bytes_per_second), Ok(20 << 20));
        assert!(["0", "fast", "1/m", "/s"].iter().all(|text| parse_rate(text).is_err()));
        assert_eq!(human_bytes(0), "0 B");
        assert_eq!(human_bytes(1023), "1023 B");
        assert_eq!(human_bytes(3 << 29), "1.5 GiB");
    }
}
