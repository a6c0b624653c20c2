//! What is written while progress bars stand below it, so that neither garbles the other.

use std::sync::OnceLock;

use indicatif::{MultiProgress, ProgressDrawTarget};

/// The bars of this process, once there are any.
static BARS: OnceLock<MultiProgress> = OnceLock::new();

/// The bars, on standard error; drawn only where that is a terminal.
pub(super) fn bars() -> &'static MultiProgress {
    BARS.get_or_init(MultiProgress::new)
}

/// Writes above the bars, if there are any.
pub(super) fn above_bars<T>(write: impl FnOnce() -> T) -> T {
    match BARS.get() {
        Some(bars) => bars.suspend(write),
        None => write(),
    }
}

/// Takes the bars away for good: the program ends. What is said from now on stays where it is written.
pub(super) fn clear_bars() {
    if let Some(bars) = BARS.get() {
        // A terminal that has gone shows none.
        let _ = bars.clear();
        bars.set_draw_target(ProgressDrawTarget::hidden());
    }
}
