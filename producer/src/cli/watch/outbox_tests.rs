//! The outbox beside a simple model of a directory: writers, events that are late or lost, scans, failures.

use proptest::prelude::*;

use super::*;
use crate::cli::watch::version::Modified;

const SETTLE: Duration = Duration::from_millis(2_000);

fn path(name: u8) -> Arc<Path> {
    Path::new(&format!("{name}")).into()
}

fn version(number: u64) -> Version {
    Version { size: number, modified: Modified(1_000_000 - number as i64, 0), inode: 1 }
}

/// What happens in the directory, to one of a few files.
#[derive(Debug, Clone)]
enum Happening {
    /// Somebody writes, and goes on.
    Write(u8),
    /// Somebody closes, or renames in, a new version.
    Complete(u8),
    Remove(u8),
    /// Nobody is told of the next changes, until a scan.
    Lose,
    Scan,
    Wait(u16),
    /// The next send of this file ends like that.
    Fail(u8),
    /// The file changes while it is sent, or has changed before.
    ChangeUnderWay(u8),
}

fn happening() -> impl Strategy<Value = Happening> {
    let file = 0u8..6;
    prop_oneof![
        4 => file.clone().prop_map(Happening::Write),
        6 => file.clone().prop_map(Happening::Complete),
        1 => file.clone().prop_map(Happening::Remove),
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
    /// The version of each file, since when it is that, and whether somebody was told that it is complete.
    files: BTreeMap<Arc<Path>, (Version, Instant, Completion)>,
    /// All versions ever sent, and how often, since they came.
    sent: BTreeMap<(Arc<Path>, u64), u32>,
    order: Vec<(Arc<Path>, u64)>,
    versions: u64,
    told: bool,
    failing: BTreeSet<Arc<Path>>,
    changing: BTreeSet<Arc<Path>>,
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
        }
    }

    fn change(&mut self, path: &Arc<Path>, complete: bool) {
        self.versions += 1;
        let version = version(self.versions);
        let completion = if complete && self.told { Completion::Told } else { Completion::Settled };
        self.files.insert(path.clone(), (version, self.now, completion));
        if self.told {
            let hint = if complete { Hint::Complete } else { Hint::Touched };
            self.outbox.looked(path.clone(), version, Some(hint), self.now);
        }
    }

    fn scan(&mut self) {
        self.outbox.scan_begins(Extent::Everything);
        for (path, (version, ..)) in &self.files {
            self.outbox.found(path.clone(), *version, self.now);
        }
        self.outbox.scan_ends(Extent::Everything, ScanOutcome::Whole);
        self.told = true;
    }

    fn happen(&mut self, happening: &Happening) {
        match happening {
            Happening::Write(name) => self.change(&path(*name), false),
            Happening::Complete(name) => self.change(&path(*name), true),
            Happening::Remove(name) => {
                self.files.remove(&path(*name));
                if self.told {
                    self.outbox.gone(&path(*name));
                }
            }
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
                    Some((version, ..)) => self.outbox.looked(path, *version, None, self.now),
                    None => _ = self.outbox.gone(&path),
                }
            } else if let Some((path, version)) = self.outbox.next_send() {
                self.send(path, version);
            } else {
                return;
            }
        }
    }

    fn send(&mut self, path: Arc<Path>, version: Version) {
        if self.changing.remove(&path) {
            self.change(&path, true);
        }
        match self.files.get(&path) {
            None => self.outbox.vanished(&path),
            Some((now, ..)) if *now != version => self.outbox.changed(&path, *now, self.now),
            Some(_) if self.failing.remove(&path) => _ = self.outbox.failed(&path, self.now),
            Some((version, since, completion)) => {
                assert_eq!(self.outbox.completion(&path, version), *completion, "{path:?}");
                let settled = self.now - *since >= SETTLE;
                assert!(*completion == Completion::Told || settled, "{path:?} was sent while it was written");
                *self.sent.entry((path.clone(), version.size)).or_default() += 1;
                self.order.push((path.clone(), version.size));
                self.outbox.sent(&path);
            }
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
        for (path, (version, ..)) in &world.files {
            prop_assert!(world.sent.contains_key(&(path.clone(), version.size)), "{path:?} was forgotten");
            prop_assert!(world.outbox.is_sent(path, version));
        }
        // Versions are never used again, so that one that is sent twice was sent twice as what it was.
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
            world.files.insert(path(*name), (version(*age), world.now, Completion::Settled));
            world.outbox.found(path(*name), version(*age), world.now);
            expected.push((version(*age).modified, path(*name), *age));
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
        world.outbox.scan_ends(Extent::Everything, ScanOutcome::Whole);
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
    assert!(world.outbox.next_send().is_some());
    world.outbox.failed(&path(1), world.now);
    world.outbox.looked(path(1), version(1), Some(Hint::Touched), world.now);
    assert!(world.outbox.next_send().is_some());
}

#[test]
fn what_a_scan_could_not_see_is_not_taken_for_gone() {
    let mut world = World::new(Order::Free);
    world.outbox.remember(path(1), version(1));
    world.outbox.scan_begins(Extent::Everything);
    assert!(world.outbox.scan_ends(Extent::Everything, ScanOutcome::Partial).is_empty());
    world.outbox.scan_begins(Extent::Part);
    assert!(world.outbox.scan_ends(Extent::Part, ScanOutcome::Whole).is_empty());
    world.outbox.scan_begins(Extent::Everything);
    assert_eq!(world.outbox.scan_ends(Extent::Everything, ScanOutcome::Whole), [path(1)]);
}

#[test]
fn a_directory_takes_what_is_in_it_along() {
    let mut outbox = Outbox::new(Order::Free, SETTLE, 1);
    for name in ["a", "a.b", "d/x", "d/y/z", "d.e", "dd"] {
        outbox.remember(Path::new(name).into(), version(1));
    }
    let gone = outbox.gone_below(Path::new("d"));
    assert_eq!(gone, [Arc::from(Path::new("d/x")), Arc::from(Path::new("d/y/z"))]);
    assert_eq!(outbox.len(), 4);
}
