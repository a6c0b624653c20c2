//! A child process that can be signalled and waited for from anywhere, and
//! that is gone when its owner is.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tokio::sync::watch;
use wait4::{ResourceUsage, Wait4};

use crate::lock;

/// How long a drop waits for a killed child: only a process stuck in the
/// kernel takes longer, and a test must not hang on that.
const DROP_LIMIT: Duration = Duration::from_secs(5);

/// What is known of a process that has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exit {
    pub(crate) status: ExitStatus,
    pub(crate) peak_rss: u64,
    pub(crate) cpu: Duration,
}

/// A running or ended child. Dropping it kills the child and reaps it.
#[derive(Debug)]
pub(crate) struct Process {
    shared: Arc<Shared>,
    ended: watch::Receiver<Option<Exit>>,
}

#[derive(Debug)]
struct Shared {
    pid: Pid,
    /// Set in the same critical section that reaps, so that nobody signals a
    /// pid which the system may already have given to someone else.
    reaped: Mutex<bool>,
    gone: Condvar,
    /// The highest resident size seen by polling, in bytes.
    sampled: AtomicU64,
}

impl Process {
    /// Starts `command` (made by [`command`]); with `sample`, its memory is watched while it runs.
    ///
    /// The child is spawned from the thread that later reaps it. On Linux the
    /// death signal that `setpriv` arms is bound to the spawning *thread*, so
    /// that thread has to live exactly as long as the child.
    pub(crate) fn spawn(mut command: Command, sample: bool) -> Result<(Self, Pipes)> {
        let what = format!("{command:?}");
        let (started, start) = mpsc::channel();
        let (end, ended) = watch::channel(None);
        let run = move || match command.spawn() {
            Err(error) => drop(started.send(Err(error))),
            Ok(mut child) => {
                let shared = Arc::new(Shared {
                    pid: Pid::from_child(&child),
                    reaped: Mutex::new(false),
                    gone: Condvar::new(),
                    sampled: AtomicU64::new(0),
                });
                let pipes =
                    Pipes { stdin: child.stdin.take(), stdout: child.stdout.take(), stderr: child.stderr.take() };
                drop(started.send(Ok((Arc::clone(&shared), pipes))));
                reap(child, &shared, &end);
            }
        };
        thread::Builder::new().name("reaper".into()).spawn(run).context("no thread to watch a child")?;
        let (shared, pipes) = start
            .recv()
            .map_err(|_| anyhow!("the thread that starts {what} is gone"))?
            .with_context(|| format!("cannot start {what}"))?;
        if sample && cfg!(target_os = "linux") {
            let shared = Arc::clone(&shared);
            thread::Builder::new()
                .name("sampler".into())
                .spawn(move || watch_memory(&shared))
                .context("no thread to watch a child's memory")?;
        }
        Ok((Self { shared, ended }, pipes))
    }

    pub(crate) fn id(&self) -> i32 {
        self.shared.pid.as_raw_pid()
    }

    /// Sends a signal; one to an ended process goes nowhere and is no error.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let reaped = lock(&self.shared.reaped);
        if *reaped {
            return Ok(());
        }
        kill_process(self.shared.pid, signal)
            .with_context(|| format!("cannot send {signal:?} to process {}", self.id()))
    }

    /// How it ended, or `None` while it runs.
    pub(crate) fn exit(&self) -> Option<Exit> {
        *self.ended.borrow()
    }

    /// Waits for the end. Cancel safe.
    pub(crate) async fn wait(&self) -> Result<Exit> {
        let mut ended = self.ended.clone();
        let exit = ended.wait_for(Option::is_some).await.map_err(|_| anyhow!("lost track of process {}", self.id()))?;
        exit.ok_or_else(|| anyhow!("process {} has no exit", self.id()))
    }

    /// The peak resident size so far, in bytes; zero if never sampled.
    pub(crate) fn peak_rss(&self) -> u64 {
        let sampled = self.shared.sampled.load(Ordering::Relaxed);
        self.exit().map_or(sampled, |exit| exit.peak_rss)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SIGKILL also ends a stopped process, so a paused one is no trap.
        let _ = self.signal(Signal::KILL);
        let reaped = lock(&self.shared.reaped);
        let gone = &self.shared.gone;
        drop(gone.wait_timeout_while(reaped, DROP_LIMIT, |reaped| !*reaped));
    }
}

/// The child's ends of its pipes, where they were asked for.
#[derive(Debug)]
pub(crate) struct Pipes {
    pub(crate) stdin: Option<std::process::ChildStdin>,
    pub(crate) stdout: Option<std::process::ChildStdout>,
    pub(crate) stderr: Option<std::process::ChildStderr>,
}

fn reap(mut child: Child, shared: &Shared, end: &watch::Sender<Option<Exit>>) {
    // Wait without reaping first: until the pid is reaped under the lock, a
    // signal sent meanwhile still meets our own zombie.
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(shared.pid), options) {}
    let own = own_peak();
    let mut reaped = lock(&shared.reaped);
    if let Ok(used) = child.wait4() {
        end.send_replace(Some(Exit {
            status: used.status,
            peak_rss: peak(&used.rusage, own, shared.sampled.load(Ordering::Relaxed)),
            cpu: used.rusage.utime + used.rusage.stime,
        }));
    }
    *reaped = true;
    shared.gone.notify_all();
}

/// Linux counts the memory a child shared with us before its exec, so its own
/// figure can be trusted only above our peak; below, the samples know better.
fn peak(usage: &ResourceUsage, own: u64, sampled: u64) -> u64 {
    if sampled == 0 || usage.maxrss > own { usage.maxrss } else { sampled }
}

fn own_peak() -> u64 {
    high_water("self").unwrap_or(0)
}

fn watch_memory(shared: &Shared) {
    let pid = shared.pid.as_raw_pid().to_string();
    let mut pause = Duration::from_millis(1);
    while !*lock(&shared.reaped) {
        if let Ok(bytes) = high_water(&pid) {
            shared.sampled.fetch_max(bytes, Ordering::Relaxed);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// The kernel's own high-water mark: sampling can miss only what was added
/// after the last look.
pub(crate) fn high_water(pid: &str) -> io::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok())
        .map(|kib| kib * 1024)
        .ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// A command for `program`, behind `setpriv` where there is one, so that the
/// child dies with us even if we are killed. `setpriv` execs: the pid, and so
/// every signal, is the child's.
pub(crate) fn command(program: &Path) -> Command {
    let Some(setpriv) = find_on_path("setpriv").filter(|_| cfg!(target_os = "linux")) else {
        return Command::new(program);
    };
    let mut command = Command::new(setpriv);
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// The first file of that name on `PATH`.
pub(crate) fn find_on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|file| file.is_file())
}
