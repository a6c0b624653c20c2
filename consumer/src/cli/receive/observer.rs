//! What a receiver's run makes known.

use std::path::PathBuf;

use futures_util::StreamExt as _;
use natsfer_common::cli::{Followed, Moved, Progresses, Shown, count, report};
use natsfer_consumer::{
    Failure, Incoming, Manifest, Progress, ReceiveError, Saved, TargetDirectory,
    hooks::{HookState, Run},
};
use serde_json::json;

use crate::cli::{event::Format, named::Named};

/// Every moment of a run passes here, once. Who shows progress, keeps metrics or answers over HTTP listens here.
#[derive(Debug)]
pub(super) struct Observer {
    format: Format,
    progresses: Progresses,
    /// Where files land.
    target: PathBuf,
}

/// Whether what happened could be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Told {
    Told,
    /// Standard output does not take it, as on a full disk.
    Not,
}

impl Observer {
    pub(super) fn new(format: Format, progresses: Progresses, target: &TargetDirectory) -> Self {
        Self { format, progresses, target: target.path().to_owned() }
    }

    /// A transfer was taken from the inbox, to be saved.
    pub(super) fn taken(&self, incoming: &Incoming) -> Followed {
        let Manifest { transfer, channel, name, .. } = incoming.manifest();
        tracing::debug!(%transfer, %name, "receiving");
        self.progresses.follow(|| {
            let broker = incoming.broker().clone();
            Shown {
                name: name.to_string(),
                about: json!({ "transfer": transfer, "channel": channel, "name": name }),
                moved: incoming.progress().map(
                    |Progress { bytes_received: bytes, bytes_found: found, size, .. }| Moved { bytes, found, size },
                ),
                awaited: Box::new(move || match broker.is_connected() {
                    true => "waiting for its sender, for room here, or the rate",
                    false => "waiting for the server",
                }),
            }
        })
    }

    /// A transfer was saved.
    pub(super) fn saved(&self, saved: &Saved) -> Told {
        told(self.format.received(saved), "a received file")
    }

    /// A command was tried for a file.
    pub(super) fn exec(&self, run: &Run, state: &HookState) {
        let path = self.target.join(&run.path);
        let what = format!("the command for {}", path.display());
        let reason = run.last.as_ref().map_or("", |last| &last.reason);
        match state {
            HookState::Succeeded => tracing::debug!("{what} has succeeded"),
            HookState::Retrying(after) => {
                tracing::warn!("{what} has failed: {reason}; trying again in {:.1} s", after.as_secs_f64());
            }
            HookState::Failed => report(&anyhow::anyhow!(
                "{what} has failed {}: {reason}; `natsfer-consumer hooks --into {}` lists it",
                count(run.failures.into(), "time"),
                self.target.display(),
            )),
            HookState::Interrupted => tracing::info!("{what} was ended; it runs again with the next start"),
        }
        // What it has come to is counted where it is decided.
        let _ = told(self.format.exec(run, state, &path), "a command");
    }

    /// A transfer was not saved.
    pub(super) fn failed(&self, named: &Named, error: ReceiveError) {
        let which = named.before(&error);
        match error.failure() {
            Failure::Cancelled => tracing::info!("{:#}", anyhow::Error::from(error)),
            Failure::PassedOver => tracing::debug!("{error}"),
            Failure::Passing => tracing::warn!("{which} is put back for later: {:#}", anyhow::Error::from(error)),
            Failure::Final => {
                // That it has failed is counted either way.
                let _ = told(self.format.rejected(named.transfer, &error), "a rejected file");
                let end = if error.rejection().is_some() { "is rejected" } else { "was not received" };
                report(&anyhow::Error::from(error).context(format!("{which} {end}")));
            }
        }
    }
}

fn told(printed: std::io::Result<()>, what: &str) -> Told {
    match printed {
        Ok(()) => Told::Told,
        Err(error) => {
            report(&anyhow::Error::from(error).context(format!("{what} could not be told of")));
            Told::Not
        }
    }
}
