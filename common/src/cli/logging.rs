//! Logs, on standard error.

use std::{
    io::{IsTerminal as _, stderr},
    sync::OnceLock,
};

use tracing_subscriber::{
    EnvFilter, Layer as _, filter::filter_fn, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use jiff::Timestamp;
use serde_json::json;

use super::standard_error;

/// What is logged, and how.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Logs and configuration")]
pub struct LoggingArguments {
    /// Log more (-v debug, -vv trace); RUST_LOG takes precedence
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    verbose: u8,
    /// How logs are written, on standard error
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT", global = true)]
    log_format: LogFormat,
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum LogFormat {
    /// For people, in colour on a terminal.
    #[default]
    Text,
    /// One JSON object a line: timestamp, level, target, message and fields.
    Json,
}

/// How lines look, once that was said.
static FORMAT: OnceLock<LogFormat> = OnceLock::new();

/// Says a line that is no event of the log, and looks like one where the log is JSON. `level` is the log's word.
pub(super) fn say(level: tracing::Level, line: &str) {
    standard_error::say(&match FORMAT.get().copied().unwrap_or_default() {
        LogFormat::Text if level == tracing::Level::ERROR => format!("error: {line}"),
        LogFormat::Text => line.to_owned(),
        LogFormat::Json => {
            let (timestamp, level) = (Timestamp::now().to_string(), level.as_str());
            json!({ "timestamp": timestamp, "level": level, "message": line, "target": "natsfer" }).to_string()
        }
    });
}

/// Whether colours are wanted: see <https://no-color.org>.
fn is_coloured() -> bool {
    stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

impl LoggingArguments {
    /// Begins to log. `RUST_LOG` decides what; without it, how often `-v` was given.
    pub(super) fn start(&self) {
        let default = match self.verbose {
            // notify warns of every watched directory that is removed; what the client has to say, we say.
            0 => "warn,notify=error,async_nats=off,natsfer=info",
            1 => "info,notify=error,natsfer=debug,natsfer_common=debug,natsfer_producer=debug,natsfer_consumer=debug",
            _ => "debug,natsfer=trace,natsfer_common=trace,natsfer_producer=trace,natsfer_consumer=trace",
        };
        let chosen = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
        // At this level the client writes down what it says to the server, its login included.
        let harmless =
            filter_fn(|about| !(about.target().starts_with("async_nats") && *about.level() == tracing::Level::TRACE));
        FORMAT.get_or_init(|| self.log_format);
        // What cannot be written is lost, and not said on standard error, where it cannot be written.
        let lines = fmt::layer().with_writer(standard_error::lines()).log_internal_errors(false);
        let lines = match self.log_format {
            LogFormat::Json => lines.json().flatten_event(true).boxed(),
            // Where in the program it was said helps who looks for a fault in it.
            LogFormat::Text => lines.with_ansi(is_coloured()).with_target(self.verbose > 0).boxed(),
        };
        // A second start, as in tests, keeps the first.
        let _ = tracing_subscriber::registry().with(chosen).with(harmless).with(lines).try_init();
    }
}
