//! The outbox beside a simple model of a directory: writers, events that are late or lost, scans, failures.

use proptest::prelude::*;

use natsfer_producer::DigestAlgorithm;

use super::*;
use crate::cli::watch::version::Modified;

const SETTLE: Duration = Duration::from_millis(2_000);

fn path(name: u8) -> Arc<Path> {
    Path::new(&format!("{name}")).into()
}

fn version(number: u64) -> Version {
    Version { size: number, modified: Modified(1_000_000 - number as i64, 0), inode: 1, changed: Some(Modified(0, 0)) }
}

/// The digest of bytes that are told from all others by a number.
fn digest(number: u64) -> Digest {
    DigestAlgorithm::Blake3.digest(&number.to_le_bytes())
}

fn content(version: Version, number: u64) -> Content {
    Content { version, transfer: format!("{number:032x}").parse().unwrap(), digest: Some(digest(number)) }
}

/// What happens in the directory, to one of a few files.
#[derive(Debug, Clone)]
enum Happening {
    /// Somebody writes, and goes on.
    Write(u8),
    /// Somebody closes, or renames in, a new version.
    Complete(u8),
    Remove(u8),
    /// Somebody sets a new version's times back, or not even its times tell of it, and closes it.
    Disguise(u8, Trace),
    /// Its rights change.
    Alter(u8),
    /// Nobody is told of the next changes, until a scan.
    Lose,
    Scan,
    Wait(u16),
    /// The next send of this file ends like that.
    Fail(u8),
    /// The file changes while it is sent, or has changed before.
    ChangeUnderWay(u8),
    /// It changes after it was sent, and that is told of before the send's end is.
    ChangeAtTheEnd(u8, Late),
}

/// What tells of a version that has the size and time of the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trace {
    ChangeTime,
    /// As of a write through a mapping.
    Nothing,
}

/// What happens late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Late {
    NewVersion,
    Disguise,
    Removal,
}

fn happening() -> impl Strategy<Value = Happening> {
    let file = 0u8..6;
    let trace = prop_oneof![Just(Trace::ChangeTime), Just(Trace::Nothing)];
    let late = prop_oneof![Just(Late::NewVersion), Just(Late::Disguise), Just(Late::Removal)];
    prop_oneof![
        4 => file.clone().prop_map(Happening::Write),
        6 => file.clone().prop_map(Happening::Complete),
        1 => file.clone().prop_map(Happening::Remove),
        2 => (file.clone(), trace).prop_map(|(name, trace)| Happening::Disguise(name, trace)),
        1 => file.clone().prop_map(Happening::Alter),
        2 => (file.clone(), late).prop_map(|(name, late)| Happening::ChangeAtTheEnd(name, late)),
        1 => Just(Happening::Lose),
        1 => Just(Happening::Scan),
        6 => (1u16..3_000).prop_map(Happening::Wait),
        1 => file.clone().prop_map(Happening::Fail),
        1 => file.prop_map(Happening::ChangeUnderWay),
    ]
}

/// A directory and its watcher, with a clock that only moves when told.
struct World {
    outbox: Outbox,
    now: Instant,
    files: BTreeMap<Arc<Path>, Present>,
    /// All bytes ever sent, and how often, since they came.
    sent: BTreeMap<(Arc<Path>, u64), u32>,
    order: Vec<(Arc<Path>, u64)>,
    versions: u64,
    told: bool,
    failing: BTreeSet<Arc<Path>>,
    changing: BTreeSet<Arc<Path>>,
    late: BTreeMap<Arc<Path>, Late>,
}

/// A file that is there.
#[derive(Debug, Clone, Copy)]
struct Present {
    version: Version,
    /// What tells its bytes from all others.
    bytes: u64,
    since: Instant,
    /// Whether somebody was told that this version is complete.
    completion: Completion,
}

impl World {
    fn new(order: Order) -> Self {
        Self {
            outbox: Outbox::new(order, SETTLE, 2),
            now: Instant::now(),
            files: BTreeMap::new(),
            sent: BTreeMap::new(),
            order: Vec::new(),
            versions: 0,
            told: true,
            failing: BTreeSet::new(),
            changing: BTreeSet::new(),
            late: BTreeMap::new(),
        }
    }

    fn change(&mut self, path: &Arc<Path>, complete: bool) {
        self.versions += 1;
        let version = version(self.versions);
        let completion = if complete && self.told { Completion::Told } else { Completion::Settled };
        let present = Present { version, bytes: self.versions, since: self.now, completion };
        self.files.insert(path.clone(), present);
        if self.told {
            let hint = if complete { Hint::Complete } else { Hint::Touched };
            self.outbox.looked(path.clone(), version, Some(hint), self.now);
        }
    }

    /// The bytes stay, and it is as complete as it was.
    fn alter(&mut self, path: &Path) {
        self.versions += 1;
        let Some(file) = self.files.get_mut(path) else { return };
        // Otherwise that would tell of more.
        let is_known = self.outbox.files.get(path).is_some_and(|known| known.version.is_still(&file.version));
        if self.told && is_known {
            file.version.changed = Some(Modified(self.versions as i64, 0));
            self.outbox.looked(path.into(), file.version, Some(Hint::Attributes), self.now);
        }
    }

    fn disguise(&mut self, path: &Path, trace: Trace) {
        self.versions += 1;
        let Some(file) = self.files.get_mut(path) else { return };
        file.bytes = self.versions;
        if trace == Trace::ChangeTime {
            file.version.changed = Some(Modified(self.versions as i64, 0));
            file.completion = Completion::Settled;
            file.since = self.now;
        }
        // Of what leaves no trace, looking would tell nothing.
        if self.told || trace == Trace::Nothing {
            file.completion = Completion::Told;
            self.outbox.looked(path.into(), file.version, Some(Hint::Complete), self.now);
        }
    }

    fn remove(&mut self, path: &Path) {
        self.files.remove(path);
        if self.told {
            self.outbox.gone(path);
        }
    }

    fn scan(&mut self) {
        self.outbox.scan_begins(Extent::Everything);
        for (path, file) in &self.files {
            self.outbox.found(path.clone(), file.version, self.now);
        }
        self.outbox.scan_ends(Extent::Everything, ScanOutcome::Whole, &BTreeSet::new());
        self.told = true;
    }

    fn happen(&mut self, happening: &Happening) {
        match happening {
            Happening::Write(name) => self.change(&path(*name), false),
            Happening::Complete(name) => self.change(&path(*name), true),
            Happening::Remove(name) => self.remove(&path(*name)),
            Happening::Disguise(name, trace) => self.disguise(&path(*name), *trace),
            Happening::Alter(name) => self.alter(&path(*name)),
            Happening::ChangeAtTheEnd(name, late) => _ = self.late.insert(path(*name), *late),
            Happening::Lose => self.told = false,
            Happening::Scan => self.scan(),
            Happening::Wait(milliseconds) => self.wait(Duration::from_millis((*milliseconds).into())),
            Happening::Fail(name) => _ = self.failing.insert(path(*name)),
            Happening::ChangeUnderWay(name) => _ = self.changing.insert(path(*name)),
        }
        self.work();
    }

    /// Goes from one thing that is due to the next.
    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(due) = self.outbox.wakes_at().filter(|due| *due <= until) {
            self.now = due.max(self.now);
            self.work();
        }
        self.now = until;
    }

    fn work(&mut self) {
        loop {
            if let Some(path) = self.outbox.next_look(self.now) {
                match self.files.get(&path) {
                    Some(file) => self.outbox.looked(path, file.version, None, self.now),
                    None => _ = self.outbox.gone(&path),
                }
            } else if let Some(errand) = self.outbox.next_send() {
                self.send(errand);
            } else {
                return;
            }
        }
    }

    fn send(&mut self, Errand { path, version, expected }: Errand) {
        if self.changing.remove(&path) {
            self.change(&path, true);
        }
        let Some(file) = self.files.get(&path).copied() else { return self.outbox.vanished(&path) };
        if file.version != version {
            return self.outbox.changed(&path, file.version, self.now);
        }
        if self.failing.remove(&path) {
            _ = self.outbox.failed(&path, self.now);
            return;
        }
        let same = expected == Some(digest(file.bytes));
        if !same {
            assert_eq!(self.outbox.completion(&path, &version), file.completion, "{path:?}");
            let settled = self.now - file.since >= SETTLE;
            assert!(file.completion == Completion::Told || settled, "{path:?} was sent while it was written");
            *self.sent.entry((path.clone(), file.bytes)).or_default() += 1;
            self.order.push((path.clone(), version.size));
        }
        // It was sent, or needed not to be, and its end is told of late.
        match self.late.remove(&path) {
            Some(Late::NewVersion) => self.change(&path, true),
            Some(Late::Disguise) => self.disguise(&path, Trace::Nothing),
            Some(Late::Removal) => self.remove(&path),
            None => {}
        }
        if same {
            self.outbox.same(&path, version, self.now);
        } else {
            self.outbox.sent(&path, content(version, file.bytes), self.now);
        }
    }

    /// Nothing happens any more, and everything is looked at once.
    fn rest(&mut self) {
        self.scan();
        self.work();
        self.wait(Duration::from_secs(3_600));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn nothing_is_forgotten_sent_twice_or_sent_half(
        kept in any::<bool>(), happenings in proptest::collection::vec(happening(), 0..60),
    ) {
        let mut world = World::new(if kept { Order::Kept } else { Order::Free });
        for happening in &happenings {
            world.happen(happening);
        }
        world.rest();
        for (path, file) in &world.files {
            prop_assert!(world.sent.contains_key(&(path.clone(), file.bytes)), "{path:?} was forgotten");
            prop_assert!(world.outbox.is_sent(path, content(file.version, file.bytes).transfer));
        }
        // Bytes are never used again, so that those that are sent twice were sent twice as what they were.
        prop_assert!(world.sent.values().all(|times| *times == 1), "{:?}", world.sent);
        prop_assert_eq!(world.outbox.len(), world.files.len());
        let agenda = &world.outbox.agenda;
        prop_assert!(agenda.pending() == 0 && agenda.sending() == 0);
        prop_assert!(agenda.first().is_none() && agenda.next_look().is_none());
    }

    /// What came while nobody looked goes by age and name, what comes later in the order in which it is told of.
    #[test]
    fn order_is_kept(before in proptest::collection::btree_map(0u8..20, 0u64..5, 0..15),
                     after in proptest::collection::vec(20u8..40, 0..15), failing in 0u8..40) {
        let mut world = World::new(Order::Kept);
        world.failing.insert(path(failing));
        world.outbox.scan_begins(Extent::Everything);
        let mut expected = Vec::new();
        for (name, age) in &before {
            let (version, bytes, since) = (version(*age), *age, world.now);
            world.files.insert(path(*name), Present { version, bytes, since, completion: Completion::Settled });
            world.outbox.found(path(*name), version, world.now);
            expected.push((version.modified, path(*name), *age));
        }
        expected.sort();
        let mut expected: Vec<_> = expected.into_iter().map(|(_, path, size)| (path, size)).collect();
        world.versions = 100;
        let mut last = BTreeMap::new();
        for name in &after {
            world.change(&path(*name), true);
            // Not before the scan has seen what is older.
            prop_assert!(world.outbox.next_send().is_none());
            last.insert(path(*name), world.versions);
        }
        let mut later: Vec<_> = last.into_iter().collect();
        later.sort_by_key(|(_, version)| *version);
        expected.extend(later);
        world.outbox.scan_ends(Extent::Everything, ScanOutcome::Whole, &BTreeSet::new());
        world.work();
        world.wait(Duration::from_secs(60));
        prop_assert_eq!(world.order, expected);
    }
}

#[test]
fn what_fails_is_tried_again_ever_more_rarely() {
    let mut world = World::new(Order::Free);
    world.change(&path(1), true);
    let mut rests = Vec::new();
    for _ in 0..10 {
        assert!(world.outbox.next_send().is_some());
        rests.push(match world.outbox.failed(&path(1), world.now) {
            Failure::First { rest } | Failure::FirstHoldsUp { rest, .. } | Failure::Again { rest } => rest.as_secs(),
        });
        world.now = world.outbox.wakes_at().unwrap();
        let look = world.outbox.next_look(world.now).unwrap();
        world.outbox.looked(look, version(1), None, world.now);
    }
    assert_eq!(rests, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    // Its rights have changed, perhaps: at once.
    let readable = Version { changed: Some(Modified(1, 0)), ..version(1) };
    for (version, hint) in [(version(1), Hint::Touched), (readable, Hint::Attributes)] {
        assert!(world.outbox.next_send().is_some());
        world.outbox.failed(&path(1), world.now);
        world.outbox.looked(path(1), version, Some(hint), world.now);
    }
    assert_eq!(world.outbox.next_send().map(|errand| errand.version), Some(readable));
}

#[test]
fn what_a_scan_could_not_see_is_not_taken_for_gone() {
    let mut world = World::new(Order::Free);
    world.outbox.remember(path(1), content(version(1), 1));
    world.outbox.scan_begins(Extent::Everything);
    assert!(world.outbox.scan_ends(Extent::Everything, ScanOutcome::Partial, &BTreeSet::new()).is_empty());
    world.outbox.scan_begins(Extent::Part);
    assert!(world.outbox.scan_ends(Extent::Part, ScanOutcome::Whole, &BTreeSet::new()).is_empty());
    world.outbox.scan_begins(Extent::Everything);
    assert_eq!(world.outbox.scan_ends(Extent::Everything, ScanOutcome::Whole, &BTreeSet::new()), [path(1)]);
}

#[test]
fn a_directory_takes_what_is_in_it_along() {
    let mut outbox = Outbox::new(Order::Free, SETTLE, 1);
    for name in ["a", "a.b", "d/x", "d/y/z", "d.e", "dd"] {
        outbox.remember(Path::new(name).into(), content(version(1), 1));
    }
    let gone = outbox.gone_below(Path::new("d"));
    assert_eq!(gone, [Arc::from(Path::new("d/x")), Arc::from(Path::new("d/y/z"))]);
    assert_eq!(outbox.len(), 4);
}

/// A mount may be missing, of the outbox or below it.
#[test]
fn nothing_is_taken_for_gone_from_a_directory_with_nothing_at_all_in_it() {
    for (hollow, gone) in
        [(&[""][..], &[][..]), (&["d"], &["a", "e/x"]), (&["d", "e"], &["a"]), (&["d/y"], &["a", "d/x", "e/x"])]
    {
        let mut outbox = Outbox::new(Order::Free, SETTLE, 1);
        for name in ["a", "d/x", "d/y/z", "e/x"] {
            outbox.remember(Path::new(name).into(), content(version(1), 1));
        }
        outbox.scan_begins(Extent::Everything);
        let hollow = hollow.iter().map(PathBuf::from).collect();
        let found = outbox.scan_ends(Extent::Everything, ScanOutcome::Whole, &hollow);
        assert_eq!(found, gone.iter().map(|name| Arc::from(Path::new(name))).collect::<Vec<_>>(), "{hollow:?}");
    }
}

#[test]
fn a_directory_is_recognised_by_what_was_sent_from_it_and_not_by_a_name() {
    let mut outbox = Outbox::new(Order::Free, SETTLE, 1);
    outbox.remember(path(1), content(version(1), 1));
    outbox.scan_begins(Extent::Everything);
    outbox.found(path(1), version(2), Instant::now());
    outbox.found(path(2), version(1), Instant::now());
    assert_eq!(outbox.recognition(), Recognition::OfNothing);
    outbox.found(path(1), Version { inode: 9, ..version(1) }, Instant::now());
    assert_eq!(outbox.recognition(), Recognition::OfSome);
}

/// Earlier programs noted neither the time of the last change nor the digest: what they sent is not sent again for that.
#[test]
fn what_an_earlier_program_has_sent_is_taken_as_it_is_found() {
    let (mut outbox, now) = (Outbox::new(Order::Free, SETTLE, 1), Instant::now());
    let old = Content { digest: None, ..content(Version { changed: None, ..version(1) }, 1) };
    outbox.remember(path(1), old);
    outbox.found(path(1), version(1), now);
    assert!(outbox.next_look(now).is_none() && outbox.is_sent(&path(1), old.transfer));
    // From here on, the time counts.
    outbox.found(path(1), Version { changed: Some(Modified(1, 0)), ..version(1) }, now);
    assert_eq!(outbox.next_look(now), Some(path(1)));
}

#[test]
fn what_was_found_to_have_other_bytes_is_sent_unless_that_has_been_done() {
    let (mut outbox, now) = (Outbox::new(Order::Free, SETTLE, 1), Instant::now());
    let sent = content(version(1), 1);
    outbox.remember(path(1), sent);
    outbox.altered(&path(1), content(version(1), 2).transfer, now);
    assert!(outbox.wakes_at().is_none());
    outbox.altered(&path(1), sent.transfer, now);
    let due = outbox.wakes_at().unwrap();
    let look = outbox.next_look(due).unwrap();
    outbox.looked(look, version(1), None, due);
    assert_eq!(outbox.next_send(), Some(Errand { path: path(1), version: version(1), expected: None }));
}
