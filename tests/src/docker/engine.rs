//! The engine, and the Compose that is there to talk to it.

use std::ffi::OsStr;
use std::io::Write;

use anyhow::{Context, Result, ensure};

use crate::process::find_on_path;
use crate::{Command, must, program};

/// A Docker engine that answers.
#[derive(Clone, Copy, Debug)]
pub struct Docker {
    compose: Compose,
}

/// How Compose is called.
#[derive(Clone, Copy, Debug)]
enum Compose {
    /// `docker compose`, version 2.
    Plugin,
    /// `docker-compose`, version 1.
    Program,
}

impl Docker {
    /// This machine's engine. Where none answers, says so on standard error, past the test's captured output, and there is
    /// nothing to test. Elsewhere than on Linux there is neither: this machine's programs do not run in containers.
    ///
    /// # Panics
    /// When an engine answers, and there is no Compose.
    pub async fn find() -> Option<Self> {
        match engine_answers().await {
            Ok(()) => Some(Self { compose: must(Compose::find().await, "a Docker engine answers") }),
            Err(why) => {
                // A line that cannot be written leaves nobody to tell.
                let _ = writeln!(std::io::stderr(), "compose test: no Docker engine answers ({why:#}): NOT RUN");
                None
            }
        }
    }

    /// `docker` with these arguments.
    pub fn docker<A: AsRef<OsStr>>(self, args: impl IntoIterator<Item = A>) -> Command {
        program("docker", args)
    }

    /// Compose with these arguments.
    pub fn compose<A: AsRef<OsStr>>(self, args: impl IntoIterator<Item = A>) -> Command {
        match self.compose {
            Compose::Plugin => program("docker", ["compose"]),
            Compose::Program => program("docker-compose", [""; 0]),
        }
        .args(args)
    }
}

impl Compose {
    async fn find() -> Result<Self> {
        if program("docker", ["compose", "version"]).run().await.code() == Some(0) {
            return Ok(Self::Plugin);
        }
        find_on_path("docker-compose")
            .context("and there is no Compose: install the plugin, or docker-compose 1.29")?;
        Ok(Self::Program)
    }
}

async fn engine_answers() -> Result<()> {
    ensure!(cfg!(target_os = "linux"), "only Linux's programs run in containers");
    find_on_path("docker").context("no docker on PATH")?;
    let output = program("docker", ["version", "--format", "{{.Server.Os}}"]).run().await;
    let errors = output.errors();
    ensure!(output.code() == Some(0), "{}", errors.lines().last().unwrap_or("docker version failed").trim());
    ensure!(output.text().trim() == "linux", "it runs no Linux containers");
    Ok(())
}
