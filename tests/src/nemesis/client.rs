//! A producer or receiver, and the supervisor that starts it again.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::time::sleep;

use super::cable::Cable;
use super::faults::Clock;
use super::outbox::Outbox;
use super::record::Record;
use super::schedule::{Fault, Kind};
use crate::{Command, Output, Running, lock, must, steps};

/// What an init system waits before it starts a service again.
const RESTART_DELAY: Duration = Duration::from_secs(1);

/// Longer than any run.
const NO_LIMIT: Duration = Duration::from_secs(7 * 24 * 3600);

#[derive(Debug)]
pub(super) struct Client {
    kind: Kind,
    name: String,
    cable: Cable,
    record: Arc<Record>,
    process: watch::Sender<Option<Arc<Running>>>,
    /// The deadly signal that the running process was sent.
    signalled: Mutex<Option<Fault>>,
}

impl Client {
    pub(super) fn new(kind: Kind, name: String, cable: Cable, record: Arc<Record>) -> Self {
        Self { kind, name, cable, record, process: watch::Sender::new(None), signalled: Mutex::default() }
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn cable(&self) -> &Cable {
        &self.cable
    }

    /// Says that a fault is done to it.
    pub(super) fn note(&self, fault: Fault, lasts: Duration) {
        self.record.injected(fault, self.kind, &self.name, lasts);
    }

    /// The process, as soon as there is one; `None` if time is up before.
    pub(super) async fn live(&self, clock: &Clock) -> Option<Arc<Running>> {
        let mut process = self.process.subscribe();
        tokio::select! {
            found = process.wait_for(Option::is_some) => found.ok()?.clone(),
            () = clock.over() => None,
        }
    }

    /// SIGKILL or SIGTERM, whichever the fault is.
    pub(super) fn end(&self, running: &Running, fault: Fault) {
        *lock(&self.signalled) = Some(fault);
        if fault == Fault::Kill { running.kill() } else { running.terminate() }
    }

    /// Makes batches and sends each until `send` says that all is sent. Returns what it said of the files.
    pub(super) async fn send(
        self: Arc<Self>, outbox: Outbox, number: usize, stop: watch::Receiver<bool>,
    ) -> Vec<Value> {
        let mut sent = Vec::new();
        for index in 0.. {
            if *stop.borrow() {
                break;
            }
            let batch = outbox.batch(number, index).await;
            // One producer's chunks are small, the other's as large as it sees fit.
            let options: &[&str] = if number == 0 { &["--chunk-size", "256KiB"] } else { &[] };
            let command = steps::sending("", options, &[batch]);
            let output = loop {
                let output = self.run(&command).await;
                if output.code() == Some(0) {
                    break output;
                }
                self.again().await;
            };
            let events = output.json_lines();
            self.record.note(&format!("{} has sent batch {index}, {} files", self.name, events.len()));
            sent.extend(events);
        }
        sent
    }

    /// Runs a receiver, again and again, until told to stop.
    pub(super) async fn serve(self: Arc<Self>, command: Command, mut stop: watch::Receiver<bool>) {
        loop {
            let terminate = async {
                let _ = stop.wait_for(|stop| *stop).await;
                if let Ok(Some(running)) = self.process.subscribe().wait_for(Option::is_some).await.as_deref() {
                    self.end(running, Fault::Terminate);
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                _ = self.run(&command) => {}
                () = terminate => {}
            }
            if *stop.borrow() {
                return;
            }
            self.again().await;
        }
    }

    async fn again(&self) {
        sleep(RESTART_DELAY).await;
        self.record.restarted(self.kind);
    }

    /// Runs it once, to whatever end.
    async fn run(&self, command: &Command) -> Output {
        *lock(&self.signalled) = None;
        let running = Arc::new(command.clone().server(&*self.cable.url()).limit(NO_LIMIT).spawn().await);
        self.process.send_replace(Some(Arc::clone(&running)));
        let output = must(running.end().await, &self.name);
        self.process.send_replace(None);
        let signalled = *lock(&self.signalled);
        let said = |lines| format!("{}; {}", output.status, last(&output.errors(), lines));
        match (signalled, output.code()) {
            (Some(_), None) | (Some(Fault::Terminate), Some(0)) => {}
            // A sender that is terminated has not done what was asked for.
            (Some(Fault::Terminate), _) if self.kind == Kind::Producer => {}
            (Some(Fault::Terminate), _) => self.record.unclean(&self.name, &said(6)),
            (_, Some(0)) if self.kind == Kind::Producer => {}
            _ => self.record.gave_up(self.kind, &self.name, &said(1)),
        }
        output
    }
}

/// The last so many lines, in one.
fn last(text: &str, lines: usize) -> String {
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join(" / ")
}
