//! What turns: what the system, the scans, the server and the disk say goes into the state machines, and what they answer is
//! done.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use metrics::Gauge;
use natsfer_common::{
    blocking,
    broker::Broker,
    cli::{Outcome, Progresses, count, report},
    metrics::{HELD_FILES, OUTBOX_FILES},
};
use natsfer_producer::{Evidence, Producer, ReceiverName, Sent, TransferId, Word};
use tokio::{sync::mpsc, task::JoinSet, time::MissedTickBehavior};

use super::{
    Setting, Watch,
    changes::{Changes, Lost, Watches},
    content::Content,
    departures::{Departure, Departures},
    disposal::{Disposal, Disposed, Source},
    handover::{Fate, Handover, Held},
    home::{Absence, Kinship},
    listening::Listening,
    look::{Seen, look},
    outbox::{Errand, Extent, Failure, Hint, Outbox, Recognition, ScanOutcome},
    repairs::Repairs,
    scan::{Report, ScanEnd, Scanner},
    shipment::{End, Now, name_of, ship},
    state::{self, Record, State},
    state_file::StateFile,
    version::Version,
};
use crate::cli::said;

/// Looks made in one go.
const LOOKS: usize = 4_000;
/// Changes are taken so often at most: of what is written to all the time, a look now and then is enough.
const REST: Duration = Duration::from_millis(5);
/// Rest before those are asked for again who write to what is to go.
const WRITERS: Duration = Duration::from_secs(2);
/// How often to look whether the directory is still there: nobody tells of mounts, nor of links above it.
const PRESENCE: Duration = Duration::from_secs(2);
/// How often to say what is awaited.
const REMINDER: Duration = Duration::from_secs(60);

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
    listening: Listening,
    repairs: Repairs,
    departures: Departures,
    kinship: Kinship,
    /// What an earlier run has sent, and something is still to happen to.
    earlier: BTreeSet<TransferId>,
    greeting: Greeting,
    gauges: Gauges,
}

/// How much there is to do, for whoever looks from outside. Held, for they are set at every turn.
struct Gauges {
    pending: Gauge,
    held: Gauge,
}

type Looked = Vec<(Arc<Path>, Option<Hint>, Seen)>;

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
        let kinship = setting.home.identity().kinship(state.outbox.filter(|_| !state.sent.is_empty()));
        if kinship == Kinship::Same && state.outbox != Some(setting.home.identity()) {
            file.keep(Record::Outbox(setting.home.identity())).await;
        }
        for (name, content) in state.sent {
            let path: Arc<Path> = Path::new(name.as_str()).into();
            // What is not looked at now is not taken for gone either.
            if setting.selection.takes_file(&path) {
                outbox.remember(path, content);
            }
        }
        let changes = Changes::default();
        let watches = Watches::new(&setting.home, &changes);
        let (mut scanner, reports) = Scanner::new(setting.home.path().clone(), setting.selection.clone(), watches);
        scanner.want_everything();
        let mut pump = Self {
            watch,
            setting,
            file,
            producer: watch.sending.producer(broker).await?,
            progresses: watch.sending.progresses(),
            outbox,
            changes,
            scanner,
            reports,
            to_look: VecDeque::new(),
            looks: JoinSet::new(),
            sends: JoinSet::new(),
            handover: Handover::default(),
            listening: Listening::ToNobody,
            repairs: Repairs::default(),
            departures: Departures::new(setting, watch.sending.json),
            kinship,
            earlier: state.open.keys().copied().collect(),
            greeting: Greeting::Due,
            gauges: Gauges { pending: metrics::gauge!(OUTBOX_FILES), held: metrics::gauge!(HELD_FILES) },
        };
        let mut awaited = Vec::new();
        for (transfer, open) in state.open {
            let held = Held::again(&open, &watch.after_delivery);
            if !held.awaited.is_empty() {
                awaited.push((*open.sent, held.awaited.iter().cloned().collect()));
            }
            let fate = pump.handover.hold(transfer, held);
            pump.decide(transfer, fate).await;
        }
        tell_of_unnamed(&awaited, &watch.after_delivery);
        if !watch.after_delivery.is_empty() || !awaited.is_empty() {
            pump.listening = Listening::begin(broker, &watch.sending.channel, awaited).await?;
        }
        Ok(pump)
    }

    /// Ends only with an error.
    pub(super) async fn run(mut self) -> anyhow::Result<Outcome> {
        let mut rescan = tokio::time::interval_at(tokio::time::Instant::now() + self.watch.rescan, self.watch.rescan);
        rescan.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reminder = tokio::time::interval_at(tokio::time::Instant::now() + REMINDER, REMINDER);
        let mut writers = tokio::time::interval(WRITERS);
        writers.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut presence = tokio::time::interval(PRESENCE);
        presence.set_missed_tick_behavior(MissedTickBehavior::Delay);
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
                Some(looked) = self.looks.join_next() => self.take_looks(looked.context("a task failed")?).await?,
                Some(ended) = self.sends.join_next() => {
                    let (path, version, end) = ended.context("a task failed")?;
                    self.take_end(&path, version, end).await?;
                }
                word = self.listening.next() => self.take_word(word?).await,
                Some(ended) = self.repairs.ended() => if let Some((transfer, receivers)) = self.repairs.take(ended?) {
                    self.listening.give_up(transfer, receivers);
                },
                Some(ended) = self.departures.ended() => {
                    for (transfer, disposed) in ended? {
                        self.take_disposal(transfer, disposed).await?;
                    }
                }
                () = wake, if wakes_at.is_some() && self.to_look.len() < LOOKS => {}
                _ = presence.tick() => self.check_home().await?,
                _ = rescan.tick() => self.scanner.want_everything(),
                _ = writers.tick(), if self.departures.awaits_writers() => self.departures.try_in_use(),
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
            let root = self.setting.home.path().clone();
            let look = move |(path, hint): (Arc<Path>, _)| {
                let seen = look(&root.join(&path));
                (path, hint, seen)
            };
            self.looks.spawn_blocking(move || go.into_iter().map(look).collect());
        }
        while let Some(Errand { path, version, expected }) = self.outbox.next_send() {
            let name = match name_of(&path) {
                Ok(name) => name,
                Err(error) => {
                    report(&error);
                    self.outbox.refused(&path, now);
                    continue;
                }
            };
            let (producer, progresses) = (self.producer.clone(), self.progresses.clone());
            let evidence = match self.setting.disposal {
                Disposal::Keep => Evidence::Acknowledgement,
                Disposal::Delete | Disposal::Move(_) => Evidence::Message,
            };
            let options = self.watch.sending.options(name.clone()).with_evidence(evidence);
            let file = self.setting.home.path().join(&path);
            self.sends.spawn(async move {
                let end = ship(producer, progresses, file, name, (version, expected), options).await;
                (path, version, end)
            });
        }
        // Not before everything was looked at: what a run that was killed has left half-way is found then.
        if self.greeting == Greeting::Said {
            self.departures.begin(|transfer| {
                let Held { name, version, digest, completion, .. } = self.handover.get(transfer)?;
                // More may have become known since.
                let completion = self.outbox.completion(Path::new(name.as_str()), version).max(*completion);
                Some(Source { name: name.clone(), version: *version, digest: *digest, completion })
            });
        }
        self.repairs.begin(&self.producer, |transfer| {
            let name = &self.handover.get(transfer)?.name;
            Some((self.setting.home.path().join(name.as_str()), self.watch.sending.options(name.clone())))
        });
        self.gauges.pending.set(self.outbox.pending() as f64);
        self.gauges.held.set(self.handover.len() as f64);
    }

    async fn take_changes(&mut self) -> anyhow::Result<()> {
        let (paths, lost) = self.changes.take();
        if lost == Lost::Some {
            tracing::debug!("changes came too fast to be told of: looking at everything");
            self.scanner.want_everything();
        }
        for (path, hint) in paths {
            let below = path.strip_prefix(&**self.setting.home.path()).unwrap_or(Path::new(""));
            if below.as_os_str().is_empty() {
                self.check_home().await?;
            } else if self.setting.selection.looks_into(below) {
                self.to_look.push_back((below.into(), Some(hint)));
            }
        }
        Ok(())
    }

    async fn check_home(&self) -> anyhow::Result<()> {
        let home = self.setting.home.clone();
        match blocking(move || home.check()).await {
            Ok(()) => Ok(()),
            Err(astray) => bail!("{} {astray}", self.watch.directory.display()),
        }
    }

    async fn take_report(&mut self, report: Report) -> anyhow::Result<()> {
        match report {
            Report::Found(files) => {
                let now = Instant::now();
                files.into_iter().for_each(|(path, version)| self.outbox.found(path, version, now));
            }
            Report::Ended(extent, ScanEnd { outcome, hollow }) => {
                self.scanner.ended();
                self.check_home().await?;
                if self.kinship == Kinship::Other && self.outbox.recognition() == Recognition::OfSome {
                    self.kinship = Kinship::Same;
                    self.file.keep(Record::Outbox(self.setting.home.identity())).await;
                }
                let outcome = match self.kinship.absence() {
                    Absence::IsForgotten => outcome,
                    Absence::ProvesNothing => ScanOutcome::Partial,
                };
                let gone = self.outbox.scan_ends(extent, outcome, &hollow);
                self.forget(gone).await;
                if extent == Extent::Everything {
                    self.greet();
                    self.departures.try_again();
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
        let (files, pending) = (self.outbox.present(), self.outbox.pending());
        tracing::info!("watching {directory} for channel {channel}; files there: {files}, to send: {pending}");
        let absent = self.outbox.len() - files;
        if absent > 0 && (files == 0 || self.kinship == Kinship::Other) {
            let absent = count(absent as u64, "file");
            tracing::warn!(
                "{absent} that an earlier run has sent from {directory} cannot be seen there: is something to be mounted? What was \
                 sent is not forgotten"
            );
        }
    }

    async fn forget(&self, gone: Vec<Arc<Path>>) {
        for path in gone {
            if let Ok(name) = name_of(&path) {
                self.file.keep(Record::Gone { name }).await;
            }
        }
    }

    async fn take_looks(&mut self, looked: Looked) -> anyhow::Result<()> {
        let now = Instant::now();
        if looked.iter().any(|(.., seen)| matches!(seen, Seen::Nothing)) {
            // Otherwise it is the directory that is gone.
            self.check_home().await?;
        }
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
        Ok(())
    }

    async fn take_end(&mut self, path: &Path, version: Version, end: End) -> anyhow::Result<()> {
        let now = Instant::now();
        if let End::Gone | End::Sent(_, _, Now::Gone) = end {
            self.check_home().await?;
        }
        match end {
            End::Sent(sent, before, after) => {
                let content = Content { version: before, transfer: sent.transfer, digest: Some(sent.digest) };
                if let Err(error) = self.watch.sending.print(&sent) {
                    report(&error.context("a file that was sent could not be told of"));
                }
                match after {
                    Now::Changed(after) if after.resembles(&before) => {
                        // Perhaps its rights alone: its bytes tell, when it is complete.
                        self.outbox.sent(path, content, now);
                        self.hold(before, sent).await;
                        self.outbox.looked(path.into(), after, None, now);
                    }
                    Now::Changed(version) => {
                        tracing::info!("{} has changed: its new version is sent when it is complete", path.display());
                        self.outbox.changed(path, version, now);
                    }
                    Now::Same => {
                        self.outbox.sent(path, content, now);
                        self.hold(before, sent).await;
                    }
                    Now::Gone => {
                        self.outbox.vanished(path);
                        let name = sent.name.clone();
                        self.hold(before, sent).await;
                        self.file.keep(Record::Gone { name }).await;
                    }
                }
            }
            End::Same(version) => {
                self.outbox.same(path, version, now);
                if let Ok(name) = name_of(path) {
                    self.file.keep(Record::Same { name, version }).await;
                }
            }
            End::Changed(after) if after.resembles(&version) => self.outbox.changed(path, after, now),
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
                self.outbox.refused(path, now);
            }
            End::TakenBack(transfer, digest, error) => {
                report(&error.context("it is not sent again until it changes"));
                self.outbox.sent(path, Content { version, transfer, digest }, now);
                if let Ok(name) = name_of(path) {
                    self.file.keep(Record::Sent { name, version, transfer, digest }).await;
                }
            }
        }
        Ok(())
    }

    /// A version of a file was sent: what is still to happen to it begins.
    async fn hold(&mut self, version: Version, sent: Box<Sent>) {
        let (name, transfer, digest) = (sent.name.clone(), sent.transfer, sent.digest);
        let mut awaited = self.handover.awaited_of(transfer);
        awaited.extend(self.watch.after_delivery.iter().cloned());
        if awaited.is_empty() && self.setting.disposal == Disposal::Keep {
            return self.file.keep(Record::Sent { name, version, transfer, digest: Some(digest) }).await;
        }
        self.listening.add(&sent, &awaited);
        let completion = self.outbox.completion(Path::new(name.as_str()), &version);
        self.file.keep(Record::Open { version, completion, receivers: awaited.clone(), sent }).await;
        let held = Held { name, version, digest, completion, awaited, worst: state::Word::Landed };
        let fate = self.handover.hold(transfer, held);
        self.decide(transfer, fate).await;
    }

    async fn decide(&mut self, transfer: TransferId, fate: Fate) {
        match fate {
            Fate::Waits => {}
            Fate::Goes => self.departures.want(transfer),
            Fate::Stays => self.release(transfer).await,
        }
    }

    async fn release(&mut self, transfer: TransferId) {
        self.handover.release(transfer);
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
            Word::Wanted(request) => return self.repairs.want(request),
        };
        if let Err(error) = told {
            report(&anyhow::Error::from(error).context("what a receiver said could not be told of"));
        }
        let fate = self.handover.hear(transfer, &receiver, heard);
        self.file.keep(Record::Heard { transfer, receiver, word: heard }).await;
        self.decide(transfer, fate).await;
    }

    async fn take_disposal(&mut self, transfer: TransferId, disposed: std::io::Result<Disposed>) -> anyhow::Result<()> {
        let Some(Held { name, .. }) = self.handover.get(transfer).cloned() else { return Ok(()) };
        if let Ok(Disposed::Astray | Disposed::Gone) = disposed {
            self.check_home().await?;
        }
        let path = Path::new(name.as_str());
        let is_believed = match disposed {
            // A scan or an event says so, too, unless a mount is missing.
            Ok(Disposed::Gone) => !self.outbox.is_sent(path, transfer),
            Ok(Disposed::Changed | Disposed::Altered) => {
                self.kinship == Kinship::Same || !self.earlier.contains(&transfer)
            }
            _ => true,
        };
        if !is_believed {
            self.departures.put_off(transfer);
            return Ok(());
        }
        let altered = matches!(disposed, Ok(Disposed::Altered));
        if self.departures.take(transfer, &name, disposed) == Departure::PutOff {
            return Ok(());
        }
        // Otherwise a look tells, which sees what is there now.
        if self.outbox.is_sent(path, transfer) && (altered || self.is_removed(path).await) {
            if altered {
                self.outbox.altered(path, transfer, Instant::now());
            } else {
                self.outbox.vanished(path);
            }
            self.file.keep(Record::Gone { name }).await;
        }
        self.release(transfer).await;
        Ok(())
    }

    async fn is_removed(&self, path: &Path) -> bool {
        let path = self.setting.home.path().join(path);
        self.setting.disposal != Disposal::Keep && blocking(move || matches!(look(&path), Seen::Nothing)).await
    }

    fn remind(&self) {
        if let Some((transfer, receiver, more)) = self.handover.awaited() {
            let more = match more {
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

/// Says whom files of earlier runs wait for though this one does not name them: those may never come.
fn tell_of_unnamed(awaited: &[(Sent, Vec<ReceiverName>)], named: &[ReceiverName]) {
    let mut unnamed: BTreeMap<_, u64> = BTreeMap::new();
    for receiver in awaited.iter().flat_map(|(_, receivers)| receivers).filter(|receiver| !named.contains(receiver)) {
        *unnamed.entry(receiver).or_default() += 1;
    }
    for (receiver, files) in unnamed {
        let files = count(files, "file");
        tracing::warn!(
            "'{receiver}' has not landed {files} that an earlier run has sent for it, and --after-delivery does not name it \
             any more: it is waited for all the same"
        );
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
            let held = if others == 0 { "what comes next".into() } else { count(others as u64, "other") };
            tracing::warn!("it holds up {held} (--in-order); trying it again in {rest}");
        }
        Failure::Again { rest } => {
            tracing::debug!("{error:#}; trying it again in {}", humantime::format_duration(rest))
        }
    }
}
