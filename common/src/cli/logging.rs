//! Logs, on standard error.

use tracing_subscriber::{EnvFilter, filter::filter_fn, layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// Begins to log, in colour when standard error is a terminal. `RUST_LOG` decides what; without it, how often `-v` was given.
pub(super) fn start(verbose: u8) {
    let default = match verbose {
        // notify warns of every watched directory that is removed.
        0 => "warn,notify=error,natsfer=info",
        1 => "info,notify=error,natsfer=debug,natsfer_common=debug,natsfer_producer=debug,natsfer_consumer=debug",
        _ => "debug,natsfer=trace,natsfer_common=trace,natsfer_producer=trace,natsfer_consumer=trace",
    };
    let chosen = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    // At this level the client writes down what it says to the server, its login included.
    let harmless =
        filter_fn(|about| !(about.target().starts_with("async_nats") && *about.level() == tracing::Level::TRACE));
    let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let lines = tracing_subscriber::fmt::layer().with_ansi(colour).with_writer(std::io::stderr);
    // A second start, as in tests, keeps the first.
    let _ = tracing_subscriber::registry().with(chosen).with(harmless).with(lines).try_init();
}
