//! Looking through the outbox, on a thread of its own.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::mpsc;

use super::{
    changes::Watches,
    emptied::SeenNonEmpty,
    home::Root,
    leaving,
    outbox::{Extent, ScanOutcome},
    selection::Selection,
    version::Version,
};

/// Files told of at once.
const BATCH: usize = 1_000;

/// What a scan tells.
#[derive(Debug)]
pub(super) enum Report {
    Found(Vec<(Arc<Path>, Version)>),
    Ended(Extent, ScanEnd),
}

/// How a scan has ended.
#[derive(Debug)]
pub(super) struct ScanEnd {
    pub(super) outcome: ScanOutcome,
    /// Directories with nothing at all in them, that were not seen to be emptied.
    pub(super) hollow: BTreeSet<PathBuf>,
}

/// Whether what a run that was killed has left half-way is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Remains {
    PutBack,
    LeftAlone,
}

/// Looks through the outbox, or directories of it, one scan at a time.
#[derive(Debug)]
pub(super) struct Scanner {
    root: Arc<Path>,
    selection: Arc<Selection>,
    watches: Arc<Mutex<Watches>>,
    /// What could not be looked at, which was said.
    said: Arc<Mutex<BTreeSet<PathBuf>>>,
    seen_non_empty: Arc<Mutex<SeenNonEmpty>>,
    reports: mpsc::Sender<Report>,
    wanted: Wanted,
    progress: Progress,
    remains: Remains,
}

#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Nothing,
    These(BTreeSet<PathBuf>),
    Everything,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Idle,
    UnderWay,
}

impl Scanner {
    /// The other side is told what is found.
    pub(super) fn new(root: Arc<Path>, selection: Arc<Selection>, watches: Watches) -> (Self, mpsc::Receiver<Report>) {
        let (reports, receiver) = mpsc::channel(4);
        let watches = Arc::new(Mutex::new(watches));
        let (wanted, progress, remains) = (Wanted::Nothing, Progress::Idle, Remains::PutBack);
        (
            Self {
                root,
                selection,
                watches,
                said: Arc::default(),
                seen_non_empty: Arc::default(),
                reports,
                wanted,
                progress,
                remains,
            },
            receiver,
        )
    }

    /// Everything is to be looked at.
    pub(super) fn want_everything(&mut self) {
        self.wanted = Wanted::Everything;
    }

    /// A directory, and what is below, is to be looked at.
    pub(super) fn want(&mut self, directory: PathBuf) {
        match &mut self.wanted {
            Wanted::Nothing => self.wanted = Wanted::These(BTreeSet::from([directory])),
            Wanted::These(directories) => _ = directories.insert(directory),
            Wanted::Everything => {}
        }
    }

    /// The last scan has told that it has ended.
    pub(super) fn ended(&mut self) {
        self.progress = Progress::Idle;
    }

    /// Begins with what is wanted, and says how much that is; unless there is nothing, or a scan is under way.
    pub(super) fn begin(&mut self) -> Option<Extent> {
        if self.progress == Progress::UnderWay {
            return None;
        }
        let (extent, directories) = match std::mem::replace(&mut self.wanted, Wanted::Nothing) {
            Wanted::Nothing => return None,
            Wanted::Everything => (Extent::Everything, vec![PathBuf::new()]),
            Wanted::These(directories) => (Extent::Part, directories.into_iter().collect()),
        };
        self.progress = Progress::UnderWay;
        if extent == Extent::Everything {
            self.seen_non_empty.lock().unwrap_or_else(PoisonError::into_inner).begin_everything();
        }
        let scan = Scan {
            root: self.root.clone(),
            selection: self.selection.clone(),
            watches: self.watches.clone(),
            said: self.said.clone(),
            seen_non_empty: self.seen_non_empty.clone(),
            reports: self.reports.clone(),
            // Later, what looks like that is under way.
            remains: std::mem::replace(&mut self.remains, Remains::LeftAlone),
            found: Vec::new(),
            end: ScanEnd { outcome: ScanOutcome::Whole, hollow: BTreeSet::new() },
        };
        let reports = self.reports.clone();
        let scan = tokio::task::spawn_blocking(move || scan.run(directories));
        tokio::spawn(async move {
            // Whatever happens: the next scan waits for this one's end.
            let end = scan.await.unwrap_or_else(|error| {
                tracing::error!("looking through the directory failed: {error}");
                ScanEnd { outcome: ScanOutcome::Partial, hollow: BTreeSet::new() }
            });
            let _ = reports.send(Report::Ended(extent, end)).await;
        });
        Some(extent)
    }
}

struct Scan {
    root: Arc<Path>,
    selection: Arc<Selection>,
    watches: Arc<Mutex<Watches>>,
    seen_non_empty: Arc<Mutex<SeenNonEmpty>>,
    said: Arc<Mutex<BTreeSet<PathBuf>>>,
    reports: mpsc::Sender<Report>,
    remains: Remains,
    found: Vec<(Arc<Path>, Version)>,
    end: ScanEnd,
}

/// Nobody listens any more.
struct Deserted;

/// What tells the directory at a path from others; `None` where nobody can look.
fn root_of(path: &Path) -> Option<Root> {
    std::fs::metadata(path).ok().map(|metadata| Root::of(&metadata))
}

impl Scan {
    fn run(mut self, directories: Vec<PathBuf>) -> ScanEnd {
        match self.look_through(directories).and_then(|()| self.tell()) {
            Ok(()) => self.end,
            Err(Deserted) => ScanEnd { outcome: ScanOutcome::Partial, hollow: BTreeSet::new() },
        }
    }

    fn look_through(&mut self, mut directories: Vec<PathBuf>) -> Result<(), Deserted> {
        while let Some(directory) = directories.pop() {
            // Before the look: what comes in between is told twice, and not missed.
            self.watches.lock().unwrap_or_else(PoisonError::into_inner).watch(&directory);
            let path = self.root.join(&directory);
            let before = root_of(&path);
            let entries = match std::fs::read_dir(&path) {
                Ok(entries) => {
                    self.said().remove(&path);
                    entries
                }
                Err(error) => {
                    self.note(&path, &error, directory.as_os_str().is_empty());
                    continue;
                }
            };
            let mut empty = true;
            for entry in entries {
                empty = false;
                let entry = match entry {
                    Ok(entry) => entry,
                    Err(error) => {
                        self.note(&path, &error, true);
                        break;
                    }
                };
                let below = directory.join(entry.file_name());
                if let Some(name) = leaving::name_before(&entry.file_name()) {
                    self.put_back(&directory, name)?;
                    continue;
                }
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => {
                        if self.selection.looks_into(&below) {
                            directories.push(below);
                        }
                    }
                    Ok(kind) if kind.is_file() => {
                        if self.selection.takes_file(&below) {
                            self.find(below, &entry.metadata())?;
                        }
                    }
                    Ok(_) => tracing::debug!("skipping {}: not a regular file", entry.path().display()),
                    Err(error) => self.note(&entry.path(), &error, false),
                }
            }
            self.note_content(directory, before, empty);
        }
        Ok(())
    }

    /// Notes whether something was in a directory, which was this one before it was looked into. Of the outbox itself, that it is the same
    /// proves little: what is behind a FUSE file system may be gone, and its root stays.
    fn note_content(&mut self, directory: PathBuf, before: Option<Root>, empty: bool) {
        // Nothing was mounted meanwhile.
        let root = before.filter(|before| root_of(&self.root.join(&directory)) == Some(*before));
        let mut seen = self.seen_non_empty.lock().unwrap_or_else(PoisonError::into_inner);
        match (empty, root) {
            (false, Some(root)) => seen.note(&directory, root),
            (true, Some(root)) if !directory.as_os_str().is_empty() && seen.is_emptied(&directory, root) => {}
            (true, _) => _ = self.end.hollow.insert(directory),
            (false, None) => {}
        }
    }

    fn find(&mut self, path: PathBuf, metadata: &io::Result<std::fs::Metadata>) -> Result<(), Deserted> {
        match metadata {
            Ok(metadata) => self.found.push((path.into(), Version::from(metadata))),
            Err(error) => self.note(&path, error, false),
        }
        if self.found.len() >= BATCH { self.tell() } else { Ok(()) }
    }

    /// A file that was about to be deleted when a run was killed is still there.
    fn put_back(&mut self, directory: &Path, name: &OsStr) -> Result<(), Deserted> {
        if self.remains == Remains::LeftAlone {
            return Ok(());
        }
        let path = self.root.join(directory);
        let found = leaving::put_back(&path, name).and_then(|name| {
            let metadata = std::fs::symlink_metadata(path.join(&name))?;
            Ok((directory.join(name), metadata))
        });
        match found {
            Ok((below, metadata)) if metadata.is_file() && self.selection.takes_file(&below) => {
                self.find(below, &Ok(metadata))
            }
            Ok(_) => Ok(()),
            Err(error) => {
                self.note(&path.join(name), &error, false);
                Ok(())
            }
        }
    }

    fn tell(&mut self) -> Result<(), Deserted> {
        let found = std::mem::take(&mut self.found);
        self.reports.blocking_send(Report::Found(found)).map_err(|_| Deserted)
    }

    /// What could not be looked at is not taken for gone, unless it is.
    fn note(&mut self, path: &Path, error: &io::Error, needed: bool) {
        if error.kind() == io::ErrorKind::NotFound && !needed {
            return;
        }
        self.end.outcome = ScanOutcome::Partial;
        if self.said().insert(path.into()) {
            tracing::warn!("cannot look at {}: {error}", path.display());
        }
    }

    fn said(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
