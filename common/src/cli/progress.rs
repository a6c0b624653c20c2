//! How far transfers are, for people who look at a terminal and for programs that read events.

use std::{
    io::{IsTerminal as _, stderr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{Stream, StreamExt as _};
use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;
use tokio::{
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval_at},
};

use super::{harmless, human_bytes, print_line, speed::Speed, terminal};

/// What takes less is over before anybody has read of it.
const WORTH_SHOWING: Duration = Duration::from_millis(300);
/// How often a bar is drawn anew.
const REDRAW: Duration = Duration::from_millis(100);
/// How often an event says how far a transfer is.
const EVENT_INTERVAL: Duration = Duration::from_secs(1);
/// After so long without a byte, a bar says what is awaited.
const STILL: Duration = Duration::from_secs(2);
/// So many bars at once; more would push each other off the screen.
const MOST_BARS: usize = 8;

/// How progress is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ProgressMode {
    /// Bars, where standard error is a terminal
    #[default]
    Auto,
    /// Not at all
    Never,
    /// A JSON object a line on standard output, each second, for each file; with --json
    Events,
}

/// How far one transfer is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moved {
    /// Bytes that are where they are to go.
    pub bytes: u64,
    /// Bytes of them that were there before: no speed of this run.
    pub found: u64,
    /// Bytes in all, once that is known.
    pub size: Option<u64>,
}

/// One transfer, as it is shown.
pub struct Shown<S> {
    /// What people know it by.
    pub name: String,
    /// What programs know it by: the fields of each event.
    pub about: Value,
    /// How far it is, now and at every change.
    pub moved: S,
    /// Says what it waits for when nothing moves.
    pub awaited: Box<dyn Fn() -> &'static str + Send>,
}

/// All transfers of a command. Clones are the same.
#[derive(Debug, Clone)]
pub struct Progresses(Arc<Screen>);

#[derive(Debug)]
enum Screen {
    Nothing,
    Events,
    Bars {
        /// The line below the bars.
        total: ProgressBar,
        bars: AtomicUsize,
        files: AtomicU64,
        bytes: AtomicU64,
    },
}

/// One transfer being shown, until this is dropped.
#[derive(Debug)]
pub struct Followed {
    progresses: Progresses,
    task: Option<JoinHandle<()>>,
    told: Option<Arc<Mutex<Told>>>,
}

/// What was told of one transfer in events.
#[derive(Debug)]
struct Told {
    about: Value,
    began: Instant,
    /// Bytes that were there before.
    found: u64,
    speed: Speed,
    progress: Telling,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Telling {
    /// Nothing was told: it is over before anybody asks.
    NotYet,
    Begun,
    Ended,
}

impl Progresses {
    /// Shown like this.
    pub fn new(mode: ProgressMode) -> Self {
        Self(Arc::new(match mode {
            ProgressMode::Auto if stderr().is_terminal() => {
                let total = terminal::bars().add(ProgressBar::new_spinner());
                total.set_style(style("{spinner} {msg}  {elapsed}"));
                total.enable_steady_tick(REDRAW);
                let (bars, files, bytes) = Default::default();
                Screen::Bars { total, bars, files, bytes }
            }
            ProgressMode::Auto | ProgressMode::Never => Screen::Nothing,
            ProgressMode::Events => Screen::Events,
        }))
    }

    /// Shows a transfer. What it is, is only asked where somebody looks.
    pub fn follow<S>(&self, transfer: impl FnOnce() -> Shown<S>) -> Followed
    where
        S: Stream<Item = Moved> + Send + Unpin + 'static,
    {
        let (task, told) = match *self.0 {
            Screen::Nothing => (None, None),
            Screen::Events => {
                let transfer = transfer();
                let told = Arc::new(Mutex::new(Told::nothing(transfer.about.clone())));
                (Some(tokio::spawn(tell(transfer, told.clone()))), Some(told))
            }
            Screen::Bars { .. } => {
                let (screen, transfer) = (self.0.clone(), transfer());
                (Some(tokio::spawn(async move { draw(&screen, transfer).await })), None)
            }
        };
        Followed { progresses: self.clone(), task, told }
    }

    /// Says what is waited for when no transfer is under way. What that is, is only asked where somebody looks.
    pub fn waiting(&self, what: impl FnOnce() -> String) {
        if let Screen::Bars { total, .. } = &*self.0 {
            total.set_message(harmless(&what()).into_owned());
        }
    }
}

impl Followed {
    /// It is there: so many bytes.
    pub fn done(self, size: u64) {
        if let Some(told) = &self.told {
            told.lock().unwrap_or_else(PoisonError::into_inner).end(size);
        }
        if let Screen::Bars { total, files, bytes, .. } = &*self.progresses.0 {
            let files = files.fetch_add(1, Ordering::Relaxed) + 1;
            let bytes = bytes.fetch_add(size, Ordering::Relaxed) + size;
            let plural = if files == 1 { "" } else { "s" };
            total.set_message(format!("{files} file{plural}, {}", human_bytes(bytes)));
            total.tick();
        }
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    // The templates are ours, and parse: a test draws them.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

/// One of the bars; gone with its transfer.
struct Bar<'a> {
    bar: ProgressBar,
    bars: &'a AtomicUsize,
}

impl Drop for Bar<'_> {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        terminal::bars().remove(&self.bar);
        self.bars.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn draw<S: Stream<Item = Moved> + Unpin>(screen: &Screen, transfer: Shown<S>) {
    let Shown { name, mut moved, awaited, .. } = transfer;
    let name = harmless(&name).into_owned();
    let Screen::Bars { total, bars, .. } = screen else { return };
    let mut ticks = interval_at(Instant::now() + WORTH_SHOWING, REDRAW);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut now, mut changed, mut bar) = (Moved::default(), Instant::now(), None::<Bar<'_>>);
    let (began, mut speed) = (Instant::now(), Speed::default());
    loop {
        tokio::select! {
            next = moved.next() => match next {
                Some(next) if next.bytes != now.bytes => (now, changed) = (next, Instant::now()),
                Some(next) => now = next,
                // What comes of it is told by whoever follows.
                None => std::future::pending().await,
            },
            _ = ticks.tick() => {
                if bar.is_none() {
                    if bars.fetch_add(1, Ordering::Relaxed) >= MOST_BARS {
                        bars.fetch_sub(1, Ordering::Relaxed);
                        continue;
                    }
                    let new = ProgressBar::with_draw_target(now.size, ProgressDrawTarget::hidden());
                    let new = terminal::bars().insert_before(total, new);
                    new.set_prefix(name.clone());
                    bar = Some(Bar { bar: new, bars });
                }
                let time = began.elapsed();
                speed.note(time, now.moved());
                if let Some(Bar { bar, .. }) = &bar {
                    bar.set_style(style(match now.size {
                        Some(_) => "{prefix:.32!}  {bar:20} {percent:>3}%  {bytes}/{total_bytes}  {msg}",
                        None => "{prefix:.32!}  {bytes}  {msg}",
                    }));
                    if let Some(size) = now.size {
                        bar.set_length(size);
                    }
                    bar.set_position(now.bytes);
                    bar.set_message(match changed.elapsed() < STILL {
                        true => pace(&speed, time, now),
                        // On a slow line a chunk takes its time.
                        false => format!("{}; {}", pace(&speed, time, now), awaited()),
                    });
                }
            }
        }
    }
}

impl Moved {
    /// Bytes that this run has moved.
    fn moved(self) -> u64 {
        self.bytes.saturating_sub(self.found)
    }
}

/// The speed, and the time left, in words.
fn pace(speed: &Speed, time: Duration, now: Moved) -> String {
    let rate = format!("{}/s", human_bytes(speed.bytes_per_second(time) as u64));
    match now.size.and_then(|size| speed.time_for(time, size.saturating_sub(now.bytes))) {
        Some(left) => format!("{rate}  {} left", HumanDuration(Duration::from_secs(left.as_secs()))),
        None => rate,
    }
}

impl Told {
    fn nothing(about: Value) -> Self {
        Self { about, began: Instant::now(), found: 0, speed: Speed::default(), progress: Telling::NotYet }
    }

    /// It has come so far.
    fn note(&mut self, now: Moved) -> &Speed {
        let time = self.began.elapsed();
        self.found = now.found;
        self.speed.note(time, now.moved());
        &self.speed
    }

    /// The next event. None comes behind the last one.
    fn next(&mut self, now: Moved) -> Option<Value> {
        if self.progress == Telling::Ended {
            return None;
        }
        self.progress = Telling::Begun;
        let time = self.began.elapsed();
        let rate = self.note(now).bytes_per_second(time);
        let mut event = self.about.clone();
        event["event"] = "progress".into();
        event["bytes"] = now.bytes.into();
        event["size"] = now.size.into();
        event["bytes_per_second"] = (rate as u64).into();
        Some(event)
    }

    /// The last event, where there were others: whoever draws them draws the end, too.
    fn last(&mut self, size: u64) -> Option<Value> {
        let begun = self.progress == Telling::Begun;
        let event = begun.then(|| self.next(Moved { bytes: size, found: self.found, size: Some(size) })).flatten();
        self.progress = Telling::Ended;
        event
    }

    fn end(&mut self, size: u64) {
        self.last(size).iter().for_each(print);
    }
}

fn print(event: &Value) {
    // Whoever reads may have gone: the results say so.
    let _ = print_line(&event.to_string());
}

/// Says each second how far it is.
async fn tell<S: Stream<Item = Moved> + Unpin>(transfer: Shown<S>, told: Arc<Mutex<Told>>) {
    let mut moved = transfer.moved;
    let mut ticks = interval_at(Instant::now() + EVENT_INTERVAL, EVENT_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut now = Moved::default();
    loop {
        tokio::select! {
            next = moved.next() => match next {
                Some(next) => {
                    now = next;
                    told.lock().unwrap_or_else(PoisonError::into_inner).note(now);
                }
                None => std::future::pending().await,
            },
            // Told while it is held: nothing comes behind the last event.
            _ = ticks.tick() => {
                let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
                told.next(now).iter().for_each(print);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_there_before_is_no_speed() {
        let mut told = Told::nothing(json!({"name": "a"}));
        told.began -= Duration::from_secs(10);
        let moved = |bytes| Moved { bytes, found: 1_000_000, size: Some(2_000_000) };
        told.note(moved(1_000_000));
        let event = told.next(moved(1_000_500)).unwrap();
        assert_eq!(event["bytes"], 1_000_500);
        // 500 bytes in ten seconds.
        assert!((45..=50).contains(&event["bytes_per_second"].as_u64().unwrap()), "{event}");
        // Found while it is sent: it moves the position alone.
        let event = told.next(Moved { bytes: 1_900_500, found: 1_900_000, size: Some(2_000_000) }).unwrap();
        assert!(event["bytes_per_second"].as_u64().unwrap() <= 50);
    }

    #[test]
    fn events_that_have_begun_end_with_all_of_it() {
        let moved = |bytes| Moved { bytes, found: 0, size: Some(9) };
        let mut told = Told::nothing(json!({"name": "a"}));
        assert_eq!(told.next(moved(3)).unwrap()["bytes"], 3);
        let last = told.last(9).unwrap();
        assert_eq!((&last["event"], &last["name"], &last["bytes"]), (&json!("progress"), &json!("a"), &json!(9)));
        assert_eq!(told.next(moved(3)), None);
        // It was over before anything was told.
        assert_eq!(Told::nothing(Value::Null).last(9), None);
    }
}
