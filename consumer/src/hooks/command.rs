//! Running a command: `sh -c`, in a process group of its own.

use std::{
    collections::BTreeMap,
    io,
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use natsfer_common::{TransferId, cli::harmless};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::{Child, Command},
    task::JoinSet,
};

use super::{
    environment::is_ours,
    output::{Lines, Tail},
};

/// How long to go on reading after a command's end: what it has left in the background may hold its output open.
const AFTERWARDS: Duration = Duration::from_millis(500);

/// How a command ended.
#[derive(Debug)]
pub(super) enum Ended<T> {
    /// By itself.
    Exited(ExitStatus),
    /// It was killed, with all that it had started, for this.
    Killed(T),
}

/// A command under way. Dropped, it and what it has started are killed.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    group: Option<Pid>,
    tail: Arc<Mutex<Tail>>,
    readers: JoinSet<()>,
}

/// Starts it, with nothing to read. What it writes is logged, line by line.
pub(super) fn start(
    command: &str, directory: &Path, variables: BTreeMap<String, String>, transfer: TransferId,
) -> io::Result<Running> {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command).current_dir(directory).process_group(0).kill_on_drop(true);
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_ours)) {
        shell.env_remove(name);
    }
    let mut child = shell.envs(variables).spawn()?;
    let group = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
    let (tail, mut readers) = (Arc::<Mutex<Tail>>::default(), JoinSet::new());
    if let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) {
        readers.spawn(read(stdout, tail.clone(), transfer));
        readers.spawn(read(stderr, tail.clone(), transfer));
    }
    Ok(Running { child, group, tail, readers })
}

impl Running {
    /// Waits until it ends by itself, or must not go on. Gives the end of its output, too.
    pub(super) async fn end<T>(mut self, over: impl Future<Output = T>) -> (io::Result<Ended<T>>, String) {
        let ended = tokio::select! {
            biased;
            status = self.child.wait() => {
                self.group = None;
                status.map(Ended::Exited)
            }
            why = over => {
                self.kill();
                Ok(Ended::Killed(why))
            }
        };
        // A killed one is not waited for before: its group's number is its own until then.
        let _ = self.child.wait().await;
        let reading = async { while self.readers.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(AFTERWARDS, reading).await;
        let tail = lock(&self.tail).text();
        (ended, tail)
    }

    fn kill(&mut self) {
        if let Some(group) = self.group.take() {
            // None of it may be left.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn read(mut pipe: impl AsyncRead + Unpin, tail: Arc<Mutex<Tail>>, transfer: TransferId) {
    let (mut buffer, mut lines) = (vec![0; 4096], Lines::default());
    let log = |line: &str| tracing::info!(%transfer, "exec: {}", harmless(line));
    while let Ok(read @ 1..) = pipe.read(&mut buffer).await {
        lock(&tail).push(&buffer[..read]);
        lines.push(&buffer[..read]).iter().for_each(|line| log(line));
    }
    lines.end().iter().for_each(|line| log(line));
}

fn lock(tail: &Mutex<Tail>) -> MutexGuard<'_, Tail> {
    tail.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a status says, in words.
pub(super) fn in_words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("it exited with {code}"),
        (None, Some(signal)) => format!("it was ended by signal {signal}"),
        (None, None) => "it ended somehow".into(),
    }
}
