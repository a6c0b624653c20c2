//! The images of docker-compose.yml, on stand-ins for their bases.

use std::path::Path;
use std::process;
use std::sync::{Arc, Weak};

use anyhow::{Context, Result};
use tempfile::TempDir;
use tokio::sync::Mutex;

use super::Docker;
use super::root::Root;
use crate::{Command, DEFAULT_VERSION, must, our_binary, server_binary};

/// The repository, which is also what natsfer's image is built from.
const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// nats:alpine's, as far as it matters here.
const NATS_ENTRYPOINT: &str = r#"#!/bin/sh
case "$1" in -*) set -- nats-server "$@" ;; esac
exec "$@"
"#;

/// Hands out what cargo has made of the same source for this test, stripped: to compile it again takes minutes.
const CARGO: &str = r#"#!/bin/sh
set -eu
[ "$*" = "build --release --locked --bins -p natsfer-producer -p natsfer-consumer" ]
[ "$CARGO_PROFILE_RELEASE_STRIP" = symbols ]
[ -f Cargo.lock ]
mkdir -p target/release
cp /compiled/* target/release/
"#;

/// natsfer's image, built by Compose from the Dockerfile, and what it stands on. Removed on drop.
#[derive(Debug)]
pub struct Images {
    /// The engine that has them.
    pub docker: Docker,
    prefix: String,
}

impl Images {
    /// The images of this test process: those another test has built, or new ones. `None`, said on standard error, where no engine
    /// answers.
    ///
    /// # Panics
    /// When they cannot be built.
    pub async fn get() -> Option<Arc<Self>> {
        static BUILT: Mutex<Weak<Images>> = Mutex::const_new(Weak::new());
        let mut built = BUILT.lock().await;
        if let Some(images) = built.upgrade() {
            return Some(images);
        }
        let docker = Docker::find().await?;
        let images = Arc::new(Self { docker, prefix: format!("natsfer-test-{}", process::id()) });
        must(images.build().await, "cannot build the images");
        *built = Arc::downgrade(&images);
        Some(images)
    }

    async fn build(&self) -> Result<()> {
        let roots = tokio::task::spawn_blocking(stand_ins).await??;
        for (name, context) in roots {
            let tag = self.tag(name);
            let build = self.docker.docker(["build", "--quiet", "--label", &self.label(), "--tag", &tag]);
            let _ = build.arg(context.path()).run().await.success();
        }
        let _ = self.compose(["build"]).run().await.success();
        Ok(())
    }

    /// The tag of one: `nats`, `rust`, `runtime`; `natsfer` itself, and `build`, its first stage.
    #[must_use]
    pub fn tag(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// What the stand-ins have, and all that is built on them.
    fn label(&self) -> String {
        format!("natsfer.test={}", self.prefix)
    }

    /// The repository.
    #[must_use]
    pub fn source(&self) -> &'static Path {
        Path::new(REPOSITORY)
    }

    /// Copies what natsfer's image is built from to `to`, as the Dockerfile's first stage has it.
    ///
    /// # Panics
    /// When the engine does not.
    pub async fn copy_context(&self, to: &Path) {
        let (stage, arg) = (self.tag("build"), format!("RUST_IMAGE={}", self.tag("rust")));
        let build = ["build", "--quiet", "--target=build", "--tag", &stage, "--build-arg", &arg];
        let _ = self.docker.docker(build).arg(self.source()).run().await.success();
        let created = self.docker.docker(["create", "--name", &stage, &stage, "none"]).run().await.success();
        let copied = self.docker.docker(["cp", &format!("{stage}:/src")]).arg(to).run().await;
        let _ = self.docker.docker(["rm", created.text().trim()]).run().await.success();
        let _ = copied.success();
    }

    /// Compose on the repository's file, with these images.
    pub fn compose<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Command {
        let file = self.source().join("docker-compose.yml");
        let images = [
            ("NATS_IMAGE", "nats"),
            ("RUST_IMAGE", "rust"),
            ("RUNTIME_IMAGE", "runtime"),
            ("NATSFER_IMAGE", "natsfer"),
        ];
        let command = self.docker.compose(["-f"]).arg(file).args(args).current_dir(self.source());
        // How the developer runs it is not how a test does.
        let command = ["COMPOSE_", "NATSFER_", "UID_GID"].into_iter().fold(command, Command::hide_env);
        images.iter().fold(command, |command, (variable, name)| command.env(*variable, self.tag(name)))
    }
}

/// What is built of this machine's programs, each with a Dockerfile.
fn stand_ins() -> Result<[(&'static str, TempDir); 3]> {
    let (producer, consumer) = (our_binary("natsfer-producer")?, our_binary("natsfer-consumer")?);
    let nats = Root::new()?
        .with_programs(&["sh", "wget", "stat", "chown"])?
        .with_binary(&server_binary(DEFAULT_VERSION)?, "/usr/local/bin/nats-server")?
        .with_script("/usr/local/bin/docker-entrypoint.sh", NATS_ENTRYPOINT)?
        .into_context(r#"ENTRYPOINT ["docker-entrypoint.sh"]"#)
        .context("nats")?;
    let rust = Root::new()?
        .with_programs(&["sh", "mkdir", "cp"])?
        .with_script("/usr/local/bin/cargo", CARGO)?
        .with_file("/etc/ssl/certs/ca-certificates.crt", "")?
        .with_stripped(&producer, "/compiled/natsfer-producer")?
        .with_stripped(&consumer, "/compiled/natsfer-consumer")?
        .into_context("")
        .context("rust")?;
    // No shell: nothing may need one.
    let runtime =
        Root::new()?.with_libraries_of(&producer)?.with_libraries_of(&consumer)?.into_context("").context("runtime")?;
    Ok([("nats", nats), ("rust", rust), ("runtime", runtime)])
}

impl Drop for Images {
    fn drop(&mut self) {
        let remove = |args: &[&str]| process::Command::new("docker").args(args).output();
        // What a build that failed has left out is not there to be removed.
        for name in ["natsfer", "build", "runtime", "rust", "nats"] {
            let _ = remove(&["image", "rm", "--force", &self.tag(name)]);
        }
        // The Dockerfile's first stage, which has no tag.
        let _ = remove(&["image", "prune", "--force", "--filter", &format!("label={}", self.label())]);
    }
}
