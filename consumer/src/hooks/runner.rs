//! Noting runs, and running them.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use natsfer_common::{ReceiverName, blocking};
use tokio::{
    sync::{Notify, watch},
    task::{self, JoinError, JoinHandle, JoinSet},
};

use super::{
    Attempt, End, Queue, Run, RunId, Schedule, Shelf, Step, Then,
    command::{self, Ended, in_words},
    environment::environment,
    outcome::Outcome,
};
use crate::{Landed, Landing, ReceiveError, TargetDirectory, lock::Locked};

/// How often to look for what others have noted, and whether they are still there.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Runs looked for at once.
const WINDOW: usize = 1_000;

/// A command, and how it is run.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HookOptions {
    /// What `sh -c` is given.
    pub command: String,
    /// How long it may take before it is killed, with all that it has started; as long as it likes by default.
    pub timeout: Option<Duration>,
    /// How many times to try, 5 by default.
    pub tries: u32,
    /// How many to run at once, 1 by default: those that succeed at once then run in the order of landing.
    pub concurrency: usize,
}

impl HookOptions {
    /// This command.
    pub fn new(command: String) -> Self {
        Self { command, timeout: None, tries: 5, concurrency: 1 }
    }

    /// With a limit on how long it may take.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.timeout = timeout;
        self
    }

    /// With other tries.
    #[must_use]
    pub fn with_tries(mut self, tries: u32) -> Self {
        self.tries = tries;
        self
    }

    /// With as many at once.
    #[must_use]
    pub fn with_concurrency(mut self, runs: usize) -> Self {
        self.concurrency = runs;
        self
    }
}

/// What became of a try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookState {
    /// It has succeeded.
    Succeeded,
    /// It has failed, and is tried again after so long: [`Run::last`] has it.
    Retrying(Duration),
    /// It has failed too often, and is kept: [`Run::last`] has it.
    Failed,
    /// It was ended with the receiver, and goes on with its next start.
    Interrupted,
}

/// What a receiver's runs have come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Those that have failed too often.
    pub failed: u64,
}

/// Who is told of each try.
type Told = Arc<dyn Fn(&Run, &HookState) + Send + Sync>;

/// Notes runs, and runs them beside everything else. Dropped, what is under way is killed, and runs again with the next start.
#[derive(Debug)]
pub struct Hooks {
    noting: Noting,
    mode: watch::Sender<Mode>,
    running: JoinHandle<Summary>,
}

/// For those who land files. Clones are one.
#[derive(Debug, Clone)]
pub struct Noting {
    queue: Arc<Queue>,
    noted: Arc<Notify>,
}

/// How long to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Serving,
    /// Until nothing is left.
    Finishing,
    /// Until then, with what is under way alone.
    Stopping(Instant),
}

impl Hooks {
    /// Begins with what earlier processes have left. `told` is called after each try.
    ///
    /// # Errors
    /// When runs cannot be kept in the directory.
    pub fn start(
        target: &TargetDirectory, receiver: &ReceiverName, options: HookOptions,
        told: impl Fn(&Run, &HookState) + Send + Sync + 'static,
    ) -> Result<Self, ReceiveError> {
        let directory = std::path::absolute(target.path())
            .map_err(ReceiveError::disk("cannot find the place of", target.path()))?;
        let noting = Noting { queue: Arc::new(Queue::open(target, receiver)?), noted: Arc::default() };
        let (mode, modes) = watch::channel(Mode::Serving);
        let runner = Runner {
            since: noting.queue.number(),
            noting: noting.clone(),
            options: Arc::new(options),
            directory: directory.into(),
            modes,
            told: Arc::new(told),
            schedule: Schedule::new(1, 1),
            started: Instant::now(),
            tries: JoinSet::new(),
            begun: HashMap::new(),
            unkept: BTreeMap::new(),
            summary: Summary::default(),
        };
        Ok(Self { noting, mode, running: tokio::spawn(runner.run()) })
    }

    /// For those who land files.
    pub fn noting(&self) -> Noting {
        self.noting.clone()
    }

    /// Waits until all that is noted has been run, or has failed too often, and that is on disk.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn finish(&mut self) -> Summary {
        self.mode.send_replace(Mode::Finishing);
        // Nothing but its panic could fail, and that has been reported.
        (&mut self.running).await.unwrap_or(Summary { failed: 1 })
    }

    /// Begins nothing more, and lets what is under way go on for so long at most. What is not done goes on with the next start.
    ///
    /// # Cancel safety
    /// Dropped, what is under way is killed at once, and runs again with the next start.
    pub async fn stop(mut self, grace: Duration) {
        self.mode.send_replace(Mode::Stopping(Instant::now() + grace));
        if !self.running.is_finished() {
            let _ = (&mut self.running).await;
        }
    }
}

impl Drop for Hooks {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Noting {
    /// Notes the run for a file that has landed, unless that was done before: this comes before its sender and the inbox are told.
    ///
    /// # Cancel safety
    /// Dropped, a write that has begun goes on: the run may be noted, and begins then when it is looked for next.
    ///
    /// # Errors
    /// When it cannot be written: the transfer is to be put back.
    pub async fn note(&self, landed: &Landed) -> Result<(), ReceiveError> {
        let transfer = landed.manifest().transfer;
        let failed = |source| ReceiveError::NotNoted { transfer, source };
        match landed.saved().landing {
            Landing::Skipped => return Ok(()),
            Landing::Landed => {}
            // After a crash in between, nobody else will.
            Landing::Identical => {
                let queue = self.queue.clone();
                if landed.was_told().await? || blocking(move || queue.has(transfer)).await.map_err(failed)? {
                    return Ok(());
                }
            }
        }
        let (queue, run) = (self.queue.clone(), Run::new(landed, self.queue.receiver().clone()));
        blocking(move || queue.note(&run)).await.map_err(failed)?;
        self.noted.notify_one();
        Ok(())
    }
}

/// A run that was tried, what follows, and how the command ended.
type Tried = (Run, HookState, End);

struct Runner {
    noting: Noting,
    options: Arc<HookOptions>,
    directory: Arc<Path>,
    modes: watch::Receiver<Mode>,
    told: Told,
    schedule: Schedule<RunId>,
    started: Instant,
    /// The number that the next run noted here would have had at the start.
    since: u64,
    /// Each gives nothing if somebody has removed its run.
    tries: JoinSet<io::Result<Option<Tried>>>,
    /// Whose tries these are, which a try that has panicked does not say.
    begun: HashMap<task::Id, RunId>,
    /// What has ended, and could not be kept.
    unkept: BTreeMap<RunId, Outcome>,
    summary: Summary,
}

impl Runner {
    async fn run(mut self) -> Summary {
        let Some(_lock) = self.locked().await else { return self.summary };
        self.schedule = Schedule::new(self.options.concurrency, self.options.tries);
        if *self.modes.borrow() == Mode::Serving {
            tracing::debug!(command = self.options.command, "running it for each file that lands");
        }
        let mut before = Mode::Serving;
        loop {
            let mode = *self.modes.borrow_and_update();
            if std::mem::replace(&mut before, mode) != mode {
                // What was noted just before counts.
                self.schedule.noted();
            }
            let step = match mode {
                Mode::Stopping(_) if self.tries.is_empty() => {
                    // What is not kept now runs again.
                    for (id, outcome) in self.unkept.clone() {
                        self.keep(id, outcome).await;
                    }
                    return self.summary;
                }
                Mode::Stopping(_) => Step::Wait(None),
                _ => self.schedule.next(self.started.elapsed()),
            };
            match step {
                Step::Run(id) => self.begin(id),
                Step::Keep(id) => match self.unkept.get(&id).cloned() {
                    Some(outcome) => self.keep(id, outcome).await,
                    None => self.schedule.kept(&id, Then::Done, self.started.elapsed()),
                },
                Step::Look => self.look().await,
                Step::Wait(_) if mode == Mode::Finishing && self.schedule.is_idle() => return self.summary,
                Step::Wait(due) => self.wait(due).await,
            }
        }
    }

    /// Waits for the lock; `None` if it was not needed any more.
    async fn locked(&mut self) -> Option<Locked> {
        let mut said = false;
        loop {
            let queue = self.noting.queue.clone();
            match blocking(move || queue.lock()).await {
                Ok(Some(file)) => return Some(file),
                Ok(None) => {}
                Err(error) if !said => tracing::warn!("cannot lock the commands to run: {error}"),
                Err(_) => {}
            }
            if !std::mem::replace(&mut said, true) {
                tracing::info!("another process of this receiver runs the commands");
            }
            let mode = *self.modes.borrow_and_update();
            match mode {
                Mode::Stopping(_) => return None,
                Mode::Finishing => {
                    let (queue, since) = (self.noting.queue.clone(), self.since);
                    let left = blocking(move || Ok((queue.first(1, |_| false)?.0, queue.failed_since(since)?))).await;
                    if let Ok::<_, io::Error>((pending, failed)) = left
                        && pending.is_empty()
                    {
                        self.summary.failed = failed;
                        return None;
                    }
                }
                Mode::Serving => {}
            }
            tokio::select! {
                _ = self.modes.changed() => {}
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
            }
        }
    }

    async fn look(&mut self) {
        let (queue, known) = (self.noting.queue.clone(), self.schedule.known());
        match blocking(move || queue.first(WINDOW, |id| known.contains(id))).await {
            Ok((found, all)) => self.schedule.looked(found, all),
            Err(error) => {
                tracing::warn!("cannot look for commands to run: {error}");
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        }
    }

    /// Waits until something has happened.
    async fn wait(&mut self, due: Option<Duration>) {
        let wake = due.map_or(LOOK_INTERVAL, |due| due.saturating_sub(self.started.elapsed()).min(LOOK_INTERVAL));
        tokio::select! {
            Some(joined) = self.tries.join_next_with_id() => self.joined(joined).await,
            () = self.noting.noted.notified() => self.schedule.noted(),
            changed = self.modes.changed() => if changed.is_err() {
                // Whoever started this has gone without a word.
                std::future::pending().await
            },
            // Others may have noted something.
            () = tokio::time::sleep(wake) => self.schedule.noted(),
        }
    }

    fn begin(&mut self, id: RunId) {
        let (queue, options, directory) = (self.noting.queue.clone(), self.options.clone(), self.directory.clone());
        let modes = self.modes.clone();
        let task = self.tries.spawn(async move {
            match blocking(move || queue.read(Shelf::Pending, id)).await {
                Ok(Some(run)) => Ok(Some(attempt(run, &options, &directory, modes).await)),
                Ok(None) => Ok(None),
                Err(error) => Err(error),
            }
        });
        self.begun.insert(task.id(), id);
    }

    async fn joined(&mut self, joined: Result<(task::Id, io::Result<Option<Tried>>), JoinError>) {
        let task = joined.as_ref().map_or_else(JoinError::id, |(task, _)| *task);
        let Some(id) = self.begun.remove(&task) else { return };
        match joined {
            Ok((_, result)) => self.ended(id, result).await,
            // Its panic was reported. Left as it is, it would take a place for ever.
            Err(_) => {
                tracing::warn!(run = %id, "running a command has failed in natsfer itself; it is tried again");
                self.end(id, End::Disturbed);
            }
        }
    }

    fn end(&mut self, id: RunId, end: End) -> Then {
        self.schedule.ended(&id, end, self.started.elapsed(), random())
    }

    /// Keeps what became of a try, and says so.
    async fn ended(&mut self, id: RunId, result: io::Result<Option<Tried>>) {
        let (run, state, came) = match result {
            Ok(Some(tried)) => tried,
            Ok(None) => {
                self.end(id, End::Succeeded);
                return;
            }
            Err(error) => {
                tracing::warn!(run = %id, "a command to run cannot be read: {error}");
                if error.kind() == io::ErrorKind::InvalidData || error.kind() == io::ErrorKind::UnexpectedEof {
                    self.summary.failed += 1;
                    // It has ended: it is not looked for again.
                    self.end(id, End::Succeeded);
                    self.keep(id, Outcome::Unreadable).await;
                } else {
                    self.end(id, End::Disturbed);
                }
                return;
            }
        };
        if state == HookState::Interrupted {
            (self.told)(&run, &state);
            self.end(id, End::Disturbed);
            return;
        }
        let then = self.end(id, came);
        let run = Arc::new(run);
        self.keep(id, Outcome::Tried(run.clone(), then)).await;
        let state = match then {
            Then::Done => HookState::Succeeded,
            Then::Again(after) => HookState::Retrying(after),
            Then::GiveUp => HookState::Failed,
        };
        self.summary.failed += u64::from(state == HookState::Failed);
        (self.told)(&run, &state);
    }

    /// Keeps what a run has come to; what cannot be kept now, as on a full disk, later: a command that has succeeded must not run
    /// again because of its disk.
    async fn keep(&mut self, id: RunId, outcome: Outcome) {
        let (queue, then, written) = (self.noting.queue.clone(), outcome.then(), outcome.clone());
        match blocking(move || written.keep(&queue, id)).await {
            Ok(()) => {
                if self.unkept.remove(&id).is_some() {
                    self.schedule.kept(&id, then, self.started.elapsed());
                }
            }
            Err(error) => {
                if self.unkept.insert(id, outcome).is_none() {
                    tracing::warn!(run = %id, "what became of a command cannot be kept now, and is kept later: {error}");
                }
                self.schedule.unkept(&id, self.started.elapsed(), random());
            }
        }
    }
}

/// Anything between 0 and 1.
fn random() -> f64 {
    f64::from(getrandom::u32().unwrap_or_default()) / f64::from(u32::MAX)
}

/// Why a command must not go on.
enum Over {
    TimedOut,
    Stopped,
}

/// Runs the command once.
async fn attempt(mut run: Run, options: &HookOptions, directory: &Path, modes: watch::Receiver<Mode>) -> Tried {
    let transfer = run.manifest.transfer;
    let directory: PathBuf = directory.into();
    let started = environment(&run, &directory)
        .map_err(io::Error::other)
        .and_then(|variables| command::start(&options.command, &directory, variables, transfer));
    let (reason, exit_code, output) = match started {
        Err(error) => (format!("it could not be started: {error}"), None, String::new()),
        Ok(running) => {
            let over = async {
                tokio::select! {
                    () = after(options.timeout) => Over::TimedOut,
                    () = stop(modes) => Over::Stopped,
                }
            };
            let (ended, output) = running.end(over).await;
            match ended {
                Ok(Ended::Exited(status)) if status.success() => {
                    return (run, HookState::Succeeded, End::Succeeded);
                }
                Ok(Ended::Exited(status)) => (in_words(status), status.code(), output),
                Ok(Ended::Killed(Over::Stopped)) => return (run, HookState::Interrupted, End::Disturbed),
                Ok(Ended::Killed(Over::TimedOut)) => {
                    let limit = options.timeout.unwrap_or_default();
                    (format!("it was killed after {}", humantime::format_duration(limit)), None, output)
                }
                Err(error) => (format!("it could not be waited for: {error}"), None, output),
            }
        }
    };
    run.failures = run.failures.saturating_add(1);
    run.last = Some(Attempt { at: Timestamp::now(), exit_code, reason, output });
    let end = End::Failed { failures: run.failures };
    (run, HookState::Failed, end)
}

async fn after(limit: Option<Duration>) {
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}

/// Waits until there is no more time.
async fn stop(mut modes: watch::Receiver<Mode>) {
    let until = match modes.wait_for(|mode| matches!(mode, Mode::Stopping(_))).await {
        Ok(mode) => *mode,
        // Whoever started this has gone, and this goes with it.
        Err(_) => return,
    };
    if let Mode::Stopping(until) = until {
        tokio::time::sleep_until(until.into()).await;
    }
}
