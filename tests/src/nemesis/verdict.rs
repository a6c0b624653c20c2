//! Whether everything has come out right once the faults are over.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::record::Record;
use super::report::Report;
use super::schedule::Kind;
use super::servers::Servers;
use super::tree::{differing, sizes, walk};
use super::{Nemesis, RECEIVERS, receipts};
use crate::{files, steps, try_eventually};

/// How long it may take until all has converged: what waits for its sender is looked at again every 15 s, and the
/// backlog of a long run may be long.
pub(super) fn limit(faults: Duration) -> Duration {
    Duration::from_secs(60) + faults / 10
}

/// Collects what is wrong; each step is taken whatever the ones before have found.
#[derive(Debug)]
pub(super) struct Verdict<'a> {
    home: &'a Path,
    servers: &'a Servers,
    deadline: Instant,
    landed: BTreeMap<String, usize>,
    leftovers: Vec<String>,
    failures: Vec<String>,
}

impl<'a> Verdict<'a> {
    pub(super) fn new(home: &'a Path, servers: &'a Servers, limit: Duration) -> Self {
        let deadline = Instant::now() + limit;
        Self { home, servers, deadline, landed: BTreeMap::new(), leftovers: Vec::new(), failures: Vec::new() }
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    fn fail(&mut self, what: &str, result: Result<()>) {
        if let Err(error) = result {
            self.failures.push(format!("{what}: {error:#}"));
        }
    }

    /// Waits for the producers, and returns what they said of the files.
    pub(super) async fn sent(&mut self, mut producers: JoinSet<Vec<Value>>) -> Vec<Value> {
        let mut sent = Vec::new();
        loop {
            match timeout_at(self.deadline, producers.join_next()).await {
                Ok(Some(Ok(events))) => sent.extend(events),
                Ok(None) => return sent,
                Ok(Some(Err(error))) => self.failures.push(format!("a producer's supervisor failed: {error}")),
                Err(_) => {
                    self.failures.push("a producer has not sent all in time".into());
                    return sent;
                }
            }
        }
    }

    /// Waits until every receiver has all files.
    pub(super) async fn landed(&mut self) {
        let wanted = sizes(&self.home.join("outbox"));
        for (name, _) in RECEIVERS {
            let inbox = self.home.join(name);
            let all = async || (sizes(&inbox) == wanted).then_some(());
            let waited = try_eventually("all files have landed, and no other", self.left(), all).await;
            let found = sizes(&inbox);
            let differing = differing(&wanted, &found);
            self.landed.insert(name.into(), found.len());
            self.fail(name, waited.with_context(|| format!("{differing:?}")));
        }
    }

    /// Waits until no receiver has parts or journals, and the server no cursors.
    pub(super) async fn nothing_staged(&mut self) {
        for (name, _) in RECEIVERS {
            let staged = || steps::staged_files(&self.home.join(name), name);
            let empty = async || staged().is_empty().then_some(());
            if try_eventually("no part and no journal is left", self.left(), empty).await.is_err() {
                self.leftovers.extend(staged().iter().map(|path| format!("{name}: {}", path.display())));
            }
        }
        for server in self.servers.all() {
            let none = async || steps::consumers(server, "NATSFER_DATA").await.is_empty().then_some(());
            if try_eventually("no cursor is left", self.left(), none).await.is_err() {
                let cursors = steps::consumers(server, "NATSFER_DATA").await;
                self.leftovers.push(format!("cursors at {}: {cursors:?}", server.url()));
            }
        }
    }

    /// Waits until no receiver has anything before it. Who died between landing a file and saying so has it said by whoever is
    /// given it next.
    pub(super) async fn nothing_to_do(&mut self) {
        for (name, _) in RECEIVERS {
            let idle = async || receipts::inbox_is_idle(&self.servers.all()[0], name).await.ok()?.then_some(());
            let waited = try_eventually("all is done", self.left(), idle).await;
            self.fail(name, waited);
        }
    }

    /// Waits for the receivers, which have been told to end, and leave nothing of theirs.
    pub(super) async fn ended(&mut self, mut receivers: JoinSet<()>) {
        let all = async {
            while let Some(ended) = receivers.join_next().await {
                ended.context("a receiver's supervisor failed")?;
            }
            anyhow::Ok(())
        };
        let ended = timeout_at(self.deadline, all).await.context("a receiver does not end");
        self.fail("the end", ended.flatten());
        for (name, _) in RECEIVERS {
            let staging = self.home.join(name).join(".natsfer/receivers").join(name);
            self.leftovers.extend(walk(&staging).iter().map(|path| format!("{name}: {}", path.display())));
        }
    }

    /// Waits until nobody of ours is connected.
    pub(super) async fn nothing_connected(&mut self) {
        for server in self.servers.all() {
            let none = async || (server.connections().await == 0).then_some(());
            let waited = try_eventually("nobody is connected", Duration::from_secs(20), none).await;
            if waited.is_err() {
                self.leftovers.push(format!("connections: {:?}", server.connection_names().await));
            }
        }
    }

    /// Compares all files, byte for byte.
    pub(super) fn same_bytes(&mut self) {
        for (name, _) in RECEIVERS {
            let compared = walk(&self.home.join("outbox")).iter().try_for_each(|file| {
                files::same_tree(self.home.join("outbox").join(file), self.home.join(name).join(file))
            });
            self.fail(name, compared);
        }
    }

    /// Checks that there is one receipt for each file and receiver; returns how many there are.
    pub(super) async fn receipts(&mut self, sent: &[Value]) -> usize {
        match receipts::read(&self.servers.all()[0]).await {
            Ok(found) => {
                self.failures.extend(receipts::faults(&found, sent, &RECEIVERS.map(|(name, _)| name)));
                found.len()
            }
            Err(error) => {
                self.failures.push(format!("cannot read the receipts: {error:#}"));
                0
            }
        }
    }

    /// Adds what the record knows.
    pub(super) fn report(
        mut self, run: Nemesis, record: &Record, sent: &[Value], receipts: usize, converged: Duration,
    ) -> Report {
        let counts = record.counts();
        if counts.injected.is_empty() {
            self.failures.push("nothing was injected".into());
        }
        let bytes = sent.iter().filter_map(|event| event["size"].as_u64()).sum();
        if bytes == 0 {
            self.failures.push("nothing was moved".into());
        }
        self.failures.extend(self.leftovers.iter().map(|left| format!("left over: {left}")));
        self.failures.extend(counts.unclean.iter().cloned());
        let receivers = counts.gave_up.iter().filter(|end| end.kind == Kind::Receiver);
        self.failures.extend(receivers.map(|end| end.what.clone()));
        Report {
            seed: run.seed,
            servers: run.servers,
            lasted: run.lasts,
            injected: counts.injected,
            restarts: counts.restarts,
            gave_up: counts.gave_up,
            files: sent.len(),
            bytes,
            landed: self.landed,
            receipts,
            leftovers: self.leftovers.len(),
            converged,
            failures: self.failures,
        }
    }
}
