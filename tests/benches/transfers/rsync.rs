//! rsync, as others use it to move files over a line: a daemon on loopback, and a client that pushes or pulls.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use natsfer_tests::{Command, Running, program, try_eventually};
use tokio::net::TcpStream;

/// What the daemon calls its directory.
const MODULE: &str = "files";

/// A running daemon, and the directory that it serves. Both end with it.
pub(crate) struct Daemon {
    running: Running,
    port: u16,
    directory: PathBuf,
}

/// Whether this machine has it.
pub(crate) fn is_installed() -> bool {
    let mut rsync = std::process::Command::new("rsync");
    let version = rsync.arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}

impl Daemon {
    /// Serves a new directory below `home`, for writing, too.
    pub(crate) async fn start(home: &Path) -> Result<Self> {
        let directory = home.join("rsync");
        fs::create_dir_all(&directory)?;
        // Free a moment ago: whoever takes it meanwhile ends the run.
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let (user, group) = (rustix::process::getuid(), rustix::process::getgid());
        let config = home.join("rsyncd.conf");
        // As whoever runs this: the daemon would be nobody for root.
        let lines = [
            "use chroot = no".to_owned(),
            format!("log file = {}", home.join("rsyncd.log").display()),
            format!("[{MODULE}]"),
            format!("path = {}", directory.display()),
            "read only = no".to_owned(),
            format!("uid = {}", user.as_raw()),
            format!("gid = {}", group.as_raw()),
        ];
        fs::write(&config, lines.join("\n") + "\n").context("cannot write rsync's configuration")?;
        let daemon = program("rsync", ["--daemon", "--no-detach", "--address=127.0.0.1"]);
        let daemon = daemon.arg(format!("--port={port}")).arg(format!("--config={}", config.display()));
        let running = daemon.spawn().await;
        let listens = || async { TcpStream::connect(("127.0.0.1", port)).await.ok() };
        try_eventually("rsync's daemon listens", Duration::from_secs(20), listens).await?;
        ensure!(running.is_running(), "rsync's daemon has ended");
        Ok(Self { running, port, directory })
    }

    /// Where it listens, on loopback.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The directory that it serves.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether it still serves.
    pub(crate) fn is_running(&self) -> bool {
        self.running.is_running()
    }
}

/// Sends a file into a directory of the daemon's, which is made.
pub(crate) fn push(port: u16, source: &Path, directory: &str) -> Command {
    client().arg(source).arg(format!("rsync://127.0.0.1:{port}/{MODULE}/{directory}/"))
}

/// Gets one of the daemon's files into a directory, which is made.
pub(crate) fn pull(port: u16, name: &str, into: &Path) -> Command {
    client().arg(format!("rsync://127.0.0.1:{port}/{MODULE}/{name}")).arg(format!("{}/", into.display()))
}

fn client() -> Command {
    program("rsync", ["--whole-file"])
}
