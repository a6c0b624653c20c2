//! docker-compose.yml, brought up beside whatever else runs on the engine, and broken.

mod faults;
mod removal;

use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use async_nats::jetstream;
use serde_json::Value;
use tempfile::TempDir;

use super::{Images, User};
use crate::{Command, eventually, must, ports};

/// How long a container may take to start, or to find out that a connection is dead.
const SOON: Duration = Duration::from_secs(120);

/// Which services are started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// One server: what the repository's `.env` chooses.
    Single,
    /// Three.
    Cluster,
}

/// The compose file's containers, volumes and network, under a name and on ports of their own, with an outbox and an inbox of their
/// own. All of it is removed on drop.
#[derive(Debug)]
pub struct Project {
    images: Arc<Images>,
    name: String,
    profile: Profile,
    user: User,
    ports: Vec<u16>,
    home: TempDir,
}

impl Project {
    /// One that is not up yet; `None`, said on standard error, where no engine answers.
    ///
    /// # Panics
    /// When its images cannot be built.
    pub async fn prepare(profile: Profile, user: User) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let images = Images::get().await?;
        let name = format!("natsfer-test-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let home = must(tempfile::tempdir().context("no temporary directory"), "cannot prepare a project");
        let project = Self { images, name, profile, user, ports: Vec::new(), home };
        for directory in [project.outbox(), project.inbox()] {
            must(std::fs::create_dir(&directory).context("no directory"), "cannot prepare a project");
        }
        Some(project)
    }

    /// One that is up, and whose producer and consumer are healthy.
    ///
    /// # Panics
    /// When they do not get there.
    pub async fn start(profile: Profile) -> Option<Self> {
        let mut project = Self::prepare(profile, User::of_this_test()).await?;
        must(project.first_up().await, "cannot bring the project up");
        project.ready().await;
        Some(project)
    }

    async fn first_up(&mut self) -> Result<()> {
        for _ in 0..5 {
            self.ports = ports::free(3)?;
            let up = self.compose(&["up", "-d", "--no-build"]).run().await;
            let errors = up.errors();
            match up.code() {
                Some(0) => return Ok(()),
                // Somebody was given the port that was found free.
                _ if errors.contains("already allocated") || errors.contains("already in use") => {}
                _ => bail!("{errors}"),
            }
        }
        bail!("found no ports that stay free")
    }

    /// Compose, on this project.
    pub fn compose(&self, args: &[&str]) -> Command {
        let mut command = self.images.compose(["-p", &self.name].into_iter().chain(args.iter().copied()));
        if self.profile == Profile::Cluster {
            command = command.env("COMPOSE_PROFILES", "cluster");
        }
        if let Some(ids) = self.user.setting() {
            command = command.env("UID_GID", ids);
        }
        let port = |index: usize| self.ports.get(index).map_or_else(|| "0".to_owned(), u16::to_string);
        command = match self.profile {
            Profile::Single => command.env("NATS_PORT", port(0)),
            Profile::Cluster => {
                command.env("NATS_PORT_1", port(0)).env("NATS_PORT_2", port(1)).env("NATS_PORT_3", port(2))
            }
        };
        command.env("NATSFER_OUTBOX", self.outbox()).env("NATSFER_INBOX", self.inbox())
    }

    /// Starts what is not running, and waits until the producer and the consumer are healthy.
    ///
    /// # Panics
    /// When they do not get there.
    pub async fn up(&self) {
        let _ = self.compose(&["up", "-d", "--no-build"]).run().await.success();
        self.ready().await;
    }

    /// Waits until the producer and the consumer are healthy.
    ///
    /// # Panics
    /// When they do not get there.
    pub async fn ready(&self) {
        for service in [self.producer(), self.consumer()] {
            self.healthy(service).await;
        }
    }

    /// The name of the producer's service.
    #[must_use]
    pub fn producer(&self) -> &'static str {
        match self.profile {
            Profile::Single => "producer",
            Profile::Cluster => "cluster-producer",
        }
    }

    /// The name of the consumer's service.
    #[must_use]
    pub fn consumer(&self) -> &'static str {
        match self.profile {
            Profile::Single => "consumer",
            Profile::Cluster => "cluster-consumer",
        }
    }

    /// The directory that is watched.
    #[must_use]
    pub fn outbox(&self) -> PathBuf {
        self.home.path().join("outbox")
    }

    /// The directory that is filled.
    #[must_use]
    pub fn inbox(&self) -> PathBuf {
        self.home.path().join("inbox")
    }

    /// Who the containers run as.
    #[must_use]
    pub fn user(&self) -> User {
        self.user
    }

    /// Drops what `make` makes at the path it is given into the outbox, under `name`.
    ///
    /// # Panics
    /// When it cannot be put there.
    pub fn drop_in(&self, name: &str, make: impl FnOnce(&Path)) {
        let draft = self.home.path().join("draft");
        make(&draft);
        let moved = || -> Result<()> {
            self.user.give(&draft)?;
            let target = self.outbox().join(name);
            // One step, as whoever drops a file should: the outbox is on the same file system.
            rustix::fs::rename(&draft, &target).with_context(|| target.display().to_string())
        };
        must(moved(), "cannot drop a file into the outbox");
    }

    /// Makes the inbox somebody's, where the test may: where it is root.
    ///
    /// # Panics
    /// When it may, and cannot.
    pub fn give_inbox_to(&self, user: User) {
        must(user.give(&self.inbox()), "cannot give the inbox away");
    }

    /// The id of a service's container, running or not.
    ///
    /// # Panics
    /// When it has none.
    pub async fn container(&self, service: &str) -> String {
        let filter = format!("label=com.docker.compose.service={service}");
        let list = self.docker(&["ps", "-aq", "--filter", &self.filter(), "--filter", &filter]).await;
        must(list.lines().next().context("no container").map(str::to_owned), service)
    }

    /// What the engine says of a service's container.
    ///
    /// # Panics
    /// When it has none.
    pub async fn inspect(&self, service: &str) -> Value {
        let id = self.container(service).await;
        let text = self.docker(&["inspect", "--format", "{{json .}}", &id]).await;
        must(serde_json::from_str(&text).context("docker inspect"), service)
    }

    /// Waits until a service's health check says so.
    ///
    /// # Panics
    /// When it does not.
    pub async fn healthy(&self, service: &str) {
        self.health(service, "healthy").await;
    }

    /// Waits until a service's health is `expected`.
    ///
    /// # Panics
    /// When it does not get there.
    pub async fn health(&self, service: &str, expected: &str) {
        eventually(&format!("{service} is {expected}"), SOON, || async {
            let state = &self.inspect(service).await["State"];
            (state["Running"] == true && state["Health"]["Status"] == expected).then_some(())
        })
        .await;
    }

    /// Waits until a service has logged a line with `part`.
    ///
    /// # Panics
    /// When it does not.
    pub async fn log_line(&self, service: &str, part: &str) {
        let id = self.container(service).await;
        eventually(&format!("{service} logs '{part}'"), SOON, async || {
            let logs = self.images.docker.docker(["logs", &id]).run().await.success();
            logs.errors().contains(part).then_some(())
        })
        .await;
    }

    /// A connection to the server, or to the cluster's one of that index.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn jetstream(&self, index: usize) -> Result<jetstream::Context> {
        let port = self.ports.get(index).context("not up")?;
        Ok(jetstream::new(async_nats::connect(format!("nats://127.0.0.1:{port}")).await?))
    }

    /// Standard output of a docker command that must succeed.
    async fn docker(&self, args: &[&str]) -> String {
        self.images.docker.docker(args).run().await.success().text()
    }

    /// What the engine's lists are to show.
    fn filter(&self) -> String {
        format!("label=com.docker.compose.project={}", self.name)
    }
}
