//! What turns: what the system, the scans, the server and the disk say goes into the state machines, and what they answer is
//! done.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use natsfer_common::{
    blocking,
    broker::Broker,
    cli::{Outcome, Progresses, count, print_line, report},
};
use natsfer_producer::{Deliveries, FileName, Producer, ProducerError, ReceiverName, Sent, TransferId, Word};
use serde_json::json;
use tokio::{sync::mpsc, task::JoinSet, time::MissedTickBehavior};

use super::{
    Setting, Watch,
    changes::{Changes, Lost, Watches},
    disposal::{Disposal, Disposed},
    handover::{Fate, Handover, Held},
    look::{Seen, look},
    outbox::{Extent, Failure, Hint, Outbox},
    scan::{Report, Scanner},
    shipment::{End, Now, name_of, ship},
    state::{self, Record, State},
    state_file::StateFile,
    version::Version,
};
use crate::cli::{delivery::send_again, said};

/// Looks made in one go.
const LOOKS: usize = 4_000;
/// Changes are taken so often at most: of what is written to all the time, a look now and then is enough.
const REST: Duration = Duration::from_millis(5);
/// Sources dealt with in one go.
const DISPOSALS: usize = 250;
/// How often to say what is awaited.
const REMINDER: Duration = Duration::from_secs(60);
/// Rest when receivers cannot be listened to.
const DEAF: Duration = Duration::from_secs(5);

pub(super) struct Pump<'a> {
    watch: &'a Watch,
    setting: &'a Setting,
    file: &'a StateFile,
    producer: Producer,
    progresses: Progresses,
    outbox: Outbox,
    changes: Changes,
    scanner: Scanner,
    reports: mpsc::Receiver<Report>,
    to_look: VecDeque<(Arc<Path>, Option<Hint>)>,
    /// One go at most.
    looks: JoinSet<Looked>,
    sends: JoinSet<(Arc<Path>, Version, End)>,
    handover: Handover,
    /// `None` where nobody is waited for.
    deliveries: Option<Deliveries>,
    wanted: Repairs,
    to_dispose: BTreeSet<TransferId>,
    /// One go at most.
    disposals: JoinSet<Vec<(TransferId, std::io::Result<Disposed>)>>,
    /// What could not be disposed of, which was said.
    stuck: BTreeSet<TransferId>,
    greeting: Greeting,
}

type Looked = Vec<(Arc<Path>, Option<Hint>, Seen)>;

/// What receivers want again, one after the other.
#[derive(Default)]
struct Repairs {
    waiting: BTreeMap<TransferId, ReceiverName>,
    under_way: JoinSet<(TransferId, ReceiverName, anyhow::Result<()>)>,
}

/// Whether it was said what is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Greeting {
    Due,
    Said,
}

impl<'a> Pump<'a> {
    /// Takes up what an earlier run has left.
    pub(super) async fn start(
        watch: &'a Watch, setting: &'a Setting, file: &'a StateFile, broker: &Broker, state: State,
    ) -> anyhow::Result<Self> {
        let mut outbox = Outbox::new(setting.order, watch.settle, watch.sending.concurrency());
        for (name, (version, _)) in state.sent {
            let path: Arc<Path> = Path::new(name.as_str()).into();
            // What is not looked at now is not taken for gone either.
            if setting.selection.takes_file(&path) {
                outbox.remember(path, version);
            }
        }
        let changes = Changes::default();
        let watches = Watches::new(&setting.root, &changes);
        let (mut scanner, reports) = Scanner::new(setting.root.clone(), setting.selection.clone(), watches);
        scanner.want_everything();
        let mut pump = Self {
            watch,
            setting,
            file,
            producer: watch.sending.producer(broker),
            progresses: watch.sending.progresses(),
            outbox,
            changes,
            scanner,
            reports,
            to_look: VecDeque::new(),
            looks: JoinSet::new(),
            sends: JoinSet::new(),
            handover: Handover::default(),
            deliveries: None,
            wanted: Repairs::default(),
            to_dispose: BTreeSet::new(),
            disposals: JoinSet::new(),
            stuck: BTreeSet::new(),
            greeting: Greeting::Due,
        };
        let mut awaited = Vec::new();
        for (transfer, open) in state.open {
            let unheard = watch.after_delivery.iter().filter(|receiver| !open.heard.contains_key(receiver));
            let unheard: Vec<_> = unheard.cloned().collect();
            let worst = open.heard.values().find(|word| **word == state::Word::NotLanded);
            let held = Held {
                name: open.sent.name.clone(),
                version: open.version,
                awaited: unheard.len(),
                worst: worst.copied().unwrap_or(state::Word::Landed),
            };
            let fate = pump.handover.hold(transfer, held);
            pump.decide(transfer, fate).await;
            if !unheard.is_empty() {
                awaited.push((*open.sent, unheard));
            }
        }
        if !watch.after_delivery.is_empty() {
            pump.deliveries = Some(listen(broker, &watch.sending.channel, awaited).await?);
        }
        Ok(pump)
    }

    /// Ends only with an error. Metrics, and a server that shows them, go beside this loop: they read `outbox` and `handover`.
    pub(super) async fn run(mut self) -> anyhow::Result<Outcome> {
        let mut rescan = tokio::time::interval_at(tokio::time::Instant::now() + self.watch.rescan, self.watch.rescan);
        rescan.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reminder = tokio::time::interval_at(tokio::time::Instant::now() + REMINDER, REMINDER);
        let mut changes_due = tokio::time::Instant::now();
        loop {
            self.begin_what_is_due();
            let wakes_at = self.outbox.wakes_at().map(tokio::time::Instant::from_std);
            let wake = tokio::time::sleep_until(wakes_at.unwrap_or(changes_due));
            tokio::select! {
                () = self.changes.wait_until_after(changes_due), if self.to_look.len() < LOOKS => {
                    changes_due = tokio::time::Instant::now() + REST;
                    self.take_changes().await?;
                }
                Some(report) = self.reports.recv() => self.take_report(report).await?,
                Some(looked) = self.looks.join_next() => self.take_looks(looked.context("a task failed")?).await,
                Some(ended) = self.sends.join_next() => {
                    let (path, version, end) = ended.context("a task failed")?;
                    self.take_end(&path, version, end).await;
                }
                word = next_word(&mut self.deliveries) => self.take_word(word).await,
                Some(sent) = self.wanted.under_way.join_next() => self.take_repair(sent.context("a task failed")?),
                Some(done) = self.disposals.join_next() => {
                    for (transfer, disposed) in done.context("a task failed")? {
                        self.take_disposal(transfer, disposed).await;
                    }
                }
                () = wake, if wakes_at.is_some() && self.to_look.len() < LOOKS => {}
                _ = rescan.tick() => self.scanner.want_everything(),
                _ = reminder.tick() => self.remind(),
            }
        }
    }

    fn begin_what_is_due(&mut self) {
        let now = Instant::now();
        if let Some(extent) = self.scanner.begin() {
            self.outbox.scan_begins(extent);
        }
        while self.to_look.len() < LOOKS
            && let Some(path) = self.outbox.next_look(now)
        {
            self.to_look.push_back((path, None));
        }
        if self.looks.is_empty() && !self.to_look.is_empty() {
            let go: Vec<_> = self.to_look.drain(..self.to_look.len().min(LOOKS)).collect();
            let root = self.setting.root.clone();
            let look = move |(path, hint): (Arc<Path>, _)| {
                let seen = look(&root.join(&path));
                (path, hint, seen)
            };
            self.looks.spawn_blocking(move || go.into_iter().map(look).collect());
        }
        while let Some((path, version)) = self.outbox.next_send() {
            let name = match name_of(&path) {
                Ok(name) => name,
                Err(error) => {
                    report(&error);
                    self.outbox.refused(&path);
                    continue;
                }
            };
            let (producer, progresses) = (self.producer.clone(), self.progresses.clone());
            let options = self.watch.sending.options(name.clone());
            let file = self.setting.root.join(&path);
            self.sends.spawn(async move {
                let end = ship(producer, progresses, file, name, version, options).await;
                (path, version, end)
            });
        }
        self.begin_disposals();
        self.begin_repair();
    }

    fn begin_disposals(&mut self) {
        if self.to_dispose.is_empty() || !self.disposals.is_empty() {
            return;
        }
        let mut go = Vec::new();
        while go.len() < DISPOSALS
            && let Some(transfer) = self.to_dispose.pop_first()
        {
            go.extend(self.handover.get(transfer).map(|held| (transfer, held.name.clone(), held.version)));
        }
        let (root, disposal) = (self.setting.root.clone(), self.setting.disposal.clone());
        self.disposals.spawn_blocking(move || {
            let act = |(transfer, name, version): (_, FileName, _)| (transfer, disposal.act(&root, &name, &version));
            go.into_iter().map(act).collect()
        });
    }

    fn begin_repair(&mut self) {
        if !self.wanted.under_way.is_empty() {
            return;
        }
        let Some((transfer, receiver)) = self.wanted.waiting.pop_first() else { return };
        let Some(held) = self.handover.get(transfer) else { return };
        let path = self.setting.root.join(held.name.as_str());
        let (producer, options) = (self.producer.clone(), self.watch.sending.options(held.name.clone()));
        self.wanted.under_way.spawn(async move {
            let result = send_again(&producer, &path, options, transfer).await;
            (transfer, receiver, result)
        });
    }

    async fn take_changes(&mut self) -> anyhow::Result<()> {
        let (paths, lost) = self.changes.take();
        if lost == Lost::Some {
            tracing::debug!("changes came too fast to be told of: looking at everything");
            self.scanner.want_everything();
        }
        for (path, hint) in paths {
            let Ok(below) = path.strip_prefix(&self.setting.root) else { continue };
            if below.as_os_str().is_empty() {
                self.check_root().await?;
            } else if self.setting.selection.looks_into(below) {
                self.to_look.push_back((below.into(), Some(hint)));
            }
        }
        Ok(())
    }

    async fn check_root(&self) -> anyhow::Result<()> {
        let root = self.setting.root.clone();
        let directory = self.setting.directory;
        if blocking(move || directory.is_gone(&root)).await {
            bail!("{} was removed, or another one has taken its place", self.watch.directory.display());
        }
        Ok(())
    }

    async fn take_report(&mut self, report: Report) -> anyhow::Result<()> {
        match report {
            Report::Found(files) => {
                let now = Instant::now();
                files.into_iter().for_each(|(path, version)| self.outbox.found(path, version, now));
            }
            Report::Ended(extent, outcome) => {
                self.scanner.ended();
                self.check_root().await?;
                let gone = self.outbox.scan_ends(extent, outcome);
                self.forget(gone).await;
                if extent == Extent::Everything {
                    self.greet();
                    // Somebody may have cleared what was in the way.
                    self.to_dispose.extend(&self.stuck);
                }
            }
        }
        Ok(())
    }

    fn greet(&mut self) {
        if std::mem::replace(&mut self.greeting, Greeting::Said) == Greeting::Said {
            return;
        }
        let (directory, channel) = (self.watch.directory.display(), &self.watch.sending.channel);
        let (files, pending) = (self.outbox.len(), self.outbox.pending());
        tracing::info!("watching {directory} for channel {channel}; files there: {files}, to send: {pending}");
    }

    async fn forget(&self, gone: Vec<Arc<Path>>) {
        for path in gone {
            if let Ok(name) = name_of(&path) {
                self.file.keep(Record::Gone { name }).await;
            }
        }
    }

    async fn take_looks(&mut self, looked: Looked) {
        let now = Instant::now();
        for (path, hint, seen) in looked {
            match seen {
                Seen::File(version) if self.setting.selection.takes_file(&path) => {
                    self.outbox.looked(path, version, hint, now);
                }
                Seen::File(_) => {}
                Seen::Nothing => {
                    let gone = self.outbox.gone_below(&path);
                    self.forget(gone).await;
                }
                Seen::Directory | Seen::Other => {
                    if let Seen::Directory = seen {
                        self.scanner.want(path.to_path_buf());
                    }
                    if self.outbox.gone(&path) {
                        self.forget(vec![path]).await;
                    }
                }
                Seen::Unknown(error) => {
                    let error = anyhow::Error::from(error).context(format!("cannot look at {}", path.display()));
                    if let Some(failure) = self.outbox.unseen(&path, now) {
                        tell(error, failure);
                    }
                }
            }
        }
    }

    async fn take_end(&mut self, path: &Path, version: Version, end: End) {
        let now = Instant::now();
        match end {
            End::Sent(sent, after) => {
                if let Err(error) = self.watch.sending.print(&sent) {
                    report(&error.context("a file that was sent could not be told of"));
                }
                match after {
                    Now::Changed(version) => {
                        tracing::info!("{} has changed: its new version is sent when it is complete", path.display());
                        self.outbox.changed(path, version, now);
                    }
                    Now::Same => {
                        self.outbox.sent(path);
                        self.hold(version, sent).await;
                    }
                    Now::Gone => {
                        self.outbox.vanished(path);
                        let name = sent.name.clone();
                        self.hold(version, sent).await;
                        self.file.keep(Record::Gone { name }).await;
                    }
                }
            }
            End::Changed(version) => {
                tracing::info!("{} changed while it was sent: it is sent when it is complete", path.display());
                self.outbox.changed(path, version, now);
            }
            End::Gone => {
                tracing::info!("{} is gone before it was sent", path.display());
                self.outbox.vanished(path);
                // An earlier version may have been sent.
                self.forget(vec![path.into()]).await;
            }
            End::Failed(error) => {
                let failure = self.outbox.failed(path, now);
                tell(error, failure);
            }
            End::Refused(error) => {
                report(&error);
                self.outbox.refused(path);
            }
            End::TakenBack(transfer, error) => {
                report(&error.context("it is not sent again until it changes"));
                self.outbox.sent(path);
                if let Ok(name) = name_of(path) {
                    self.file.keep(Record::Sent { name, version, transfer }).await;
                }
            }
        }
    }

    /// A version of a file was sent: what is still to happen to it begins.
    async fn hold(&mut self, version: Version, sent: Box<Sent>) {
        let (name, transfer) = (sent.name.clone(), sent.transfer);
        let receivers = &self.watch.after_delivery;
        if receivers.is_empty() && self.setting.disposal == Disposal::Keep {
            return self.file.keep(Record::Sent { name, version, transfer }).await;
        }
        if let Some(deliveries) = &mut self.deliveries {
            deliveries.add(&sent, receivers.iter().cloned());
        }
        self.file.keep(Record::Open { version, sent }).await;
        let held = Held { name, version, awaited: receivers.len(), worst: state::Word::Landed };
        let fate = self.handover.hold(transfer, held);
        self.decide(transfer, fate).await;
    }

    async fn decide(&mut self, transfer: TransferId, fate: Fate) {
        match fate {
            Fate::Waits => {}
            Fate::Goes => _ = self.to_dispose.insert(transfer),
            Fate::Stays => self.release(transfer).await,
        }
    }

    async fn release(&mut self, transfer: TransferId) {
        self.handover.release(transfer);
        self.stuck.remove(&transfer);
        self.file.keep(Record::Done { transfer }).await;
    }

    async fn take_word(&mut self, word: Word) {
        let json = self.watch.sending.json;
        let (transfer, receiver, heard, told) = match word {
            Word::Landed(receipt) => {
                let name = self.name_of(receipt.transfer);
                let told = said::landed(json, &receipt, &name);
                (receipt.transfer, receipt.receiver, state::Word::Landed, told)
            }
            Word::NotLanded { transfer, receiver, why } => {
                let told = said::not_landed(json, transfer, &self.name_of(transfer), &receiver, why);
                (transfer, receiver, state::Word::NotLanded, told)
            }
            Word::Wanted(request) => {
                let (transfer, receiver, chunks) = (request.transfer, request.receiver, request.chunks);
                tracing::info!(%transfer, %receiver, %chunks, "asked to send chunks again");
                self.wanted.waiting.insert(transfer, receiver);
                return;
            }
        };
        if let Err(error) = told {
            report(&anyhow::Error::from(error).context("what a receiver said could not be told of"));
        }
        self.file.keep(Record::Heard { transfer, receiver, word: heard }).await;
        let fate = self.handover.hear(transfer, heard);
        self.decide(transfer, fate).await;
    }

    fn take_repair(&mut self, (transfer, receiver, result): (TransferId, ReceiverName, anyhow::Result<()>)) {
        let Err(error) = result else { return };
        // What passes is asked for once more: the others would be left without.
        let passing = error.downcast_ref().is_some_and(|error| match error {
            ProducerError::Stalled { .. } => true,
            ProducerError::Broker(error) => error.is_passing(),
            _ => false,
        });
        report(&error.context(format!("what '{receiver}' needs of {transfer} was not sent again")));
        if passing {
            self.wanted.waiting.insert(transfer, receiver);
        } else if let Some(deliveries) = &mut self.deliveries
            && deliveries.awaited().any(|awaited| awaited == (transfer, &receiver))
        {
            deliveries.give_up(transfer);
        }
    }

    async fn take_disposal(&mut self, transfer: TransferId, disposed: std::io::Result<Disposed>) {
        let Some(Held { name, version, .. }) = self.handover.get(transfer).cloned() else { return };
        let path = Path::new(name.as_str());
        let mut told = Ok(());
        match disposed {
            Ok(Disposed::Kept) => {}
            Ok(Disposed::Deleted) => told = self.tell_disposal("deleted", transfer, &name, None),
            Ok(Disposed::Moved(to)) => told = self.tell_disposal("moved", transfer, &name, Some(&to)),
            Ok(Disposed::Changed) => tracing::info!("{name} has changed since it was sent ({transfer}): it stays"),
            Ok(Disposed::Gone) => tracing::debug!("{name} is gone already"),
            Err(error) => {
                if self.stuck.insert(transfer) {
                    let error = anyhow::Error::from(error);
                    report(
                        &error.context(format!("{name} was sent, and cannot be removed; trying again now and then")),
                    );
                }
                return;
            }
        }
        if let Err(error) = told {
            report(&anyhow::Error::from(error).context("what became of a file could not be told of"));
        }
        // Otherwise a look tells, which sees what is there now.
        let removed =
            !path.as_os_str().is_empty() && self.outbox.is_sent(path, &version) && self.is_removed(path).await;
        if removed {
            self.outbox.vanished(path);
            self.file.keep(Record::Gone { name }).await;
        }
        self.release(transfer).await;
    }

    async fn is_removed(&self, path: &Path) -> bool {
        let path = self.setting.root.join(path);
        self.setting.disposal != Disposal::Keep && blocking(move || matches!(look(&path), Seen::Nothing)).await
    }

    fn tell_disposal(
        &self, event: &str, transfer: TransferId, name: &FileName, to: Option<&PathBuf>,
    ) -> std::io::Result<()> {
        if self.watch.sending.json {
            let mut line = json!({ "event": event, "transfer": transfer, "name": name });
            if let Some(to) = to {
                line["to"] = to.to_string_lossy().into();
            }
            return print_line(&line.to_string());
        }
        let to = to.map_or(String::new(), |to| format!("  to {}", to.display()));
        print_line(&format!("{event}  {transfer}  {name}{to}"))
    }

    fn remind(&self) {
        let Some(deliveries) = &self.deliveries else { return };
        if let Some((transfer, receiver)) = deliveries.awaited().next() {
            let more = match deliveries.outstanding() - 1 {
                0 => String::new(),
                more => format!(", and {}", count(more as u64, "more receipt")),
            };
            let name = self.name_of(transfer);
            tracing::info!("waiting for '{receiver}' to land {name} ({transfer}){more}");
        }
    }

    fn name_of(&self, transfer: TransferId) -> String {
        self.handover.get(transfer).map_or(String::new(), |held| held.name.to_string())
    }
}

/// Says once what will be tried again.
fn tell(error: anyhow::Error, failure: Failure) {
    match failure {
        Failure::First { rest } => {
            let rest = humantime::format_duration(rest);
            report(&error);
            tracing::info!("trying it again in {rest}");
        }
        Failure::FirstHoldsUp { others, rest } => {
            let rest = humantime::format_duration(rest);
            report(&error);
            tracing::warn!("it holds up {} (--in-order); trying it again in {rest}", count(others as u64, "other"));
        }
        Failure::Again { rest } => {
            tracing::debug!("{error:#}; trying it again in {}", humantime::format_duration(rest))
        }
    }
}

/// Listens to what is said of what is sent, as soon as that can be done.
async fn listen(
    broker: &Broker, channel: &natsfer_producer::Channel, awaited: Vec<(Sent, Vec<ReceiverName>)>,
) -> anyhow::Result<Deliveries> {
    loop {
        match Deliveries::on(broker, channel, awaited.clone()).await {
            Err(ProducerError::Broker(error)) if error.is_passing() => {
                tracing::warn!("cannot listen to receivers ({error}). Trying again.");
                tokio::time::sleep(DEAF).await;
            }
            deliveries => return Ok(deliveries?),
        }
    }
}

/// The next word, if anybody is listened to. Cancel safe.
async fn next_word(deliveries: &mut Option<Deliveries>) -> Word {
    let Some(deliveries) = deliveries else { return std::future::pending().await };
    loop {
        match deliveries.next().await {
            Ok(Some(word)) => return word,
            Ok(None) => {}
            // Files are sent all the same, and those that are sent wait.
            Err(error) => tracing::warn!("receivers cannot be heard: {:#}. Trying again.", anyhow::Error::from(error)),
        }
        tokio::time::sleep(DEAF).await;
    }
}
