//! Running our own binaries, and whatever else a scenario needs.

mod running;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

pub use running::Running;

use crate::build::our_binary;
use crate::capture::Capture;
use crate::process::{self, Process, find_on_path};
use crate::{Cluster, Output, Proxy, Server, must, signals};

/// How our binaries are told where the server is.
const SERVER_VARIABLE: &str = "NATS_URL";

/// A command that outlives this is killed and fails its test, unless the test
/// says otherwise.
const LIMIT: Duration = Duration::from_secs(300);

/// A command to run, described step by step. Its child gets the test's
/// environment but for the `NATS_` and `NATSFER_` variables, and dies with the [`Running`] that stands for it.
#[derive(Clone, Debug)]
#[must_use]
pub struct Command {
    program: Program,
    args: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    hidden: Vec<&'static str>,
    directory: Option<PathBuf>,
    stdin: Stdin,
    limit: Duration,
}

#[derive(Clone, Debug)]
enum Program {
    /// Built before it is run.
    Ours(&'static str),
    Other(PathBuf),
}

#[derive(Clone, Debug)]
enum Stdin {
    Nothing,
    Bytes(Arc<[u8]>),
    File(PathBuf),
}

/// `natsfer-producer` with these arguments.
pub fn producer<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Command {
    Command::new(Program::Ours("natsfer-producer")).args(args)
}

/// `natsfer-consumer` with these arguments.
pub fn consumer<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Command {
    Command::new(Program::Ours("natsfer-consumer")).args(args)
}

/// Any other program, by path or by name.
pub fn program<A: AsRef<OsStr>>(program: impl Into<PathBuf>, args: impl IntoIterator<Item = A>) -> Command {
    Command::new(Program::Other(program.into())).args(args)
}

impl Command {
    fn new(program: Program) -> Self {
        Self {
            program,
            args: Vec::new(),
            // What whoever runs the tests has configured is no part of them.
            environment: vec![("NATSFER_CONFIG".into(), "/dev/null".into())],
            hidden: vec!["NATS_", "NATSFER_"],
            directory: None,
            stdin: Stdin::Nothing,
            limit: LIMIT,
        }
    }

    /// One more argument.
    pub fn arg(self, arg: impl AsRef<OsStr>) -> Self {
        self.args([arg])
    }

    /// More arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        let args = args.into_iter().map(|arg| arg.as_ref().to_owned());
        self.args.extend(args);
        self
    }

    /// Which server to use, in the environment variable `NATS_URL`.
    pub fn server(self, server: &(impl Address + ?Sized)) -> Self {
        self.env(SERVER_VARIABLE, server.address())
    }

    /// An environment variable.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Keeps variables of the test's environment that begin with `prefix` from it, as those with `NATS_` and `NATSFER_` always are.
    pub fn hide_env(mut self, prefix: &'static str) -> Self {
        self.hidden.push(prefix);
        self
    }

    /// The directory to run in.
    pub fn current_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Bytes for standard input, which is empty otherwise.
    pub fn stdin_bytes(mut self, bytes: impl Into<Arc<[u8]>>) -> Self {
        self.stdin = Stdin::Bytes(bytes.into());
        self
    }

    /// A file as standard input.
    pub fn stdin_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.stdin = Stdin::File(file.into());
        self
    }

    /// How long it may run, instead of five minutes.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs it to its end, whatever that is; see [`Output::success`].
    ///
    /// # Panics
    /// When it cannot be started, or has not ended in time.
    pub async fn run(self) -> Output {
        self.spawn().await.wait().await
    }

    /// Starts it.
    ///
    /// # Panics
    /// When it cannot be started, or our binaries cannot be built.
    pub async fn spawn(self) -> Running {
        signals::heed_ignored();
        let program = self.program.clone();
        // Building may take minutes.
        let path = tokio::task::spawn_blocking(move || program.path()).await;
        let path = must(path.map_err(Into::into).flatten(), "cannot run a command");
        must(self.start(&path), "cannot run a command")
    }

    fn start(self, program: &Path) -> Result<Running> {
        let mut command = process::command(program);
        // How the developer connects is not how a test does.
        let hidden = |name: &OsStr| {
            let name = name.as_encoded_bytes();
            self.hidden.iter().any(|prefix| name.starts_with(prefix.as_bytes()))
        };
        for (name, _) in std::env::vars_os().filter(|(name, _)| hidden(name)) {
            command.env_remove(name);
        }
        command.args(&self.args).envs(self.environment);
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        let stdin = match &self.stdin {
            Stdin::Nothing => Stdio::null(),
            Stdin::Bytes(_) => Stdio::piped(),
            Stdin::File(file) => {
                File::open(file).with_context(|| format!("no standard input {}", file.display()))?.into()
            }
        };
        command.stdin(stdin);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let shown = format!("{} {:?}", program.display(), self.args);
        let started = Instant::now();
        let (process, pipes) = Process::spawn(command, true)?;
        if let (Some(mut pipe), Stdin::Bytes(bytes)) = (pipes.stdin, self.stdin) {
            // A command may well end without reading all of it.
            let feed = move || drop(pipe.write_all(&bytes));
            std::thread::Builder::new().spawn(feed)?;
        }
        Ok(Running {
            process,
            stdout: Capture::start(pipes.stdout.context("no standard output")?)?,
            stderr: Capture::start(pipes.stderr.context("no standard error")?)?,
            command: shown,
            started,
            limit: self.limit,
        })
    }
}

impl Program {
    fn path(&self) -> Result<PathBuf> {
        match self {
            Self::Ours(name) => our_binary(name),
            Self::Other(name) if name.components().count() == 1 => {
                find_on_path(&name.to_string_lossy()).with_context(|| format!("no {} on PATH", name.display()))
            }
            Self::Other(path) => {
                ensure!(path.is_file(), "no program {}", path.display());
                // The child may run in another directory.
                Ok(std::path::absolute(path)?)
            }
        }
    }
}

/// Something a client can be pointed at.
pub trait Address {
    /// The URL, or several joined by commas.
    fn address(&self) -> String;
}

impl Address for Server {
    fn address(&self) -> String {
        self.url()
    }
}

impl Address for Cluster {
    fn address(&self) -> String {
        self.url()
    }
}

impl Address for Proxy {
    fn address(&self) -> String {
        self.url()
    }
}

impl Address for str {
    fn address(&self) -> String {
        self.to_owned()
    }
}
