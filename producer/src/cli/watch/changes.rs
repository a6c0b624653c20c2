//! What the operating system says about the outbox.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode, ModifyKind, RenameMode},
};
use tokio::{sync::Notify, time::Instant};

use super::{home::Home, leaving::name_before, outbox::Hint};

/// Changes that are held until they are taken. More of them are not, and everything is looked at instead.
const MOST_HELD: usize = 50_000;

/// What has changed since it was asked last. Bounded: who writes faster than we look makes us look at everything.
#[derive(Debug, Clone, Default)]
pub(super) struct Changes(Arc<Mailbox>);

#[derive(Debug, Default)]
struct Mailbox {
    held: Mutex<Held>,
    bell: Notify,
}

#[derive(Debug, Default)]
struct Held {
    /// With each, which of all changes was its last one.
    paths: HashMap<PathBuf, (u64, Hint)>,
    count: u64,
    lost: Lost,
}

/// Whether changes were lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Lost {
    #[default]
    Nothing,
    /// Only a look at everything tells what they were.
    Some,
}

/// Asks for changes, one directory at a time: who watches a directory before looking into it misses nothing.
#[derive(Debug)]
pub(super) struct Watches {
    root: PathBuf,
    watcher: Option<RecommendedWatcher>,
    said: Said,
}

/// Whether it was said that there is no telling of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Nothing,
    Limits,
}

impl Changes {
    /// Ends when something has changed, and not before that time. Cancel safe.
    pub(super) async fn wait_until_after(&self, time: Instant) {
        tokio::time::sleep_until(time).await;
        self.0.bell.notified().await;
    }

    /// Takes what has changed: the paths in the order of their last change, and whether there is more that is not known.
    pub(super) fn take(&self) -> (Vec<(PathBuf, Hint)>, Lost) {
        let held = std::mem::take(&mut *self.0.held.lock().unwrap_or_else(PoisonError::into_inner));
        let mut paths: Vec<_> = held.paths.into_iter().collect();
        paths.sort_unstable_by_key(|(_, (number, _))| *number);
        (paths.into_iter().map(|(path, (_, hint))| (path, hint)).collect(), held.lost)
    }

    /// What happens beside the outbox, and the path that it was given by, is nothing to us.
    fn hear_of(&self, root: &Path, given: &Path, event: notify::Result<Event>) {
        let is_ours = |event: &Event| {
            event.need_rescan() || event.paths.iter().any(|path| path.starts_with(root) || path == given)
        };
        if event.as_ref().map_or(true, is_ours) {
            self.hear(event);
        }
    }

    fn hear(&self, event: notify::Result<Event>) {
        let mut held = self.0.held.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Ok(event) if event.need_rescan() => held.lost = Lost::Some,
            // A file of ours that was on its way out, and has its name again: whoever writes to it has not closed it.
            Ok(event) if is_put_back(&event) => {
                event.paths.into_iter().skip(1).for_each(|path| held.note(path, Change::Touched));
            }
            Ok(event) => {
                let Some(change) = Change::of(event.kind) else { return };
                event.paths.into_iter().for_each(|path| held.note(path, change));
            }
            Err(error) => {
                tracing::warn!("cannot be told of changes: {error}");
                held.lost = Lost::Some;
            }
        }
        drop(held);
        self.0.bell.notify_one();
    }
}

/// What an event means to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Complete,
    Touched,
    /// Its rights or times: whether it is complete stays as it is.
    Attributes,
}

impl Change {
    fn of(kind: EventKind) -> Option<Self> {
        match kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => Some(Self::Complete),
            EventKind::Modify(ModifyKind::Name(RenameMode::To)) => Some(Self::Complete),
            // Said of each name already.
            EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => None,
            EventKind::Modify(ModifyKind::Metadata(_)) => Some(Self::Attributes),
            // Ours, when we read.
            EventKind::Access(_) => None,
            _ => Some(Self::Touched),
        }
    }
}

/// Whether it tells of both names of a rename that gives a file its name back.
fn is_put_back(event: &notify::Event) -> bool {
    let from = event.paths.first().and_then(|path| path.file_name());
    event.kind == EventKind::Modify(ModifyKind::Name(RenameMode::Both)) && from.and_then(name_before).is_some()
}

impl Held {
    fn note(&mut self, path: PathBuf, change: Change) {
        if self.paths.len() >= MOST_HELD && !self.paths.contains_key(&path) {
            self.paths.clear();
            self.lost = Lost::Some;
        }
        self.count += 1;
        match change {
            Change::Complete => _ = self.paths.insert(path, (self.count, Hint::Complete)),
            Change::Touched => _ = self.paths.insert(path, (self.count, Hint::Touched)),
            Change::Attributes => _ = self.paths.entry(path).or_insert((self.count, Hint::Attributes)),
        }
    }
}

impl Watches {
    /// Without events, where there can be none: that is said, and scans see what has changed.
    pub(super) fn new(home: &Home, changes: &Changes) -> Self {
        let root = home.path();
        let (changes, below, given) = (changes.clone(), root.clone(), home.given().to_owned());
        let config = notify::Config::default().with_follow_symlinks(false);
        let mut watcher = match RecommendedWatcher::new(move |event| changes.hear_of(&below, &given, event), config) {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                tracing::warn!(
                    "cannot be told of changes ({error}): they are seen by looking, every --rescan. On Linux, \
                     fs.inotify.max_user_instances may have to be raised"
                );
                None
            }
        };
        // Whether the directory itself is removed: of one below which a file is open, as the state is, the system tells only there.
        // And whether a link to it comes to lead elsewhere. Who may not look there sees it a little later.
        for parent in [root.parent(), home.given().parent()].into_iter().flatten() {
            if let Some(watcher) = &mut watcher
                && let Err(error) = watcher.watch(parent, RecursiveMode::NonRecursive)
            {
                tracing::debug!("cannot be told of changes in {}: {error}", parent.display());
            }
        }
        Self { root: root.to_path_buf(), watcher, said: Said::Nothing }
    }

    /// Asks for changes in a directory, but not below. Blocking.
    pub(super) fn watch(&mut self, directory: &Path) {
        let Some(watcher) = &mut self.watcher else { return };
        // `join` would add a separator.
        let path = if directory.as_os_str().is_empty() { self.root.clone() } else { self.root.join(directory) };
        match watcher.watch(&path, RecursiveMode::NonRecursive) {
            Ok(()) => {}
            Err(error) if matches!(error.kind, notify::ErrorKind::MaxFilesWatch) => {
                if std::mem::replace(&mut self.said, Said::Limits) == Said::Nothing {
                    tracing::warn!(
                        "the system watches no more directories: changes in some, beginning with {}, are seen by looking, \
                         every --rescan. To be told of them at once, raise the limit, for instance with `sysctl \
                         fs.inotify.max_user_watches=1048576`",
                        path.display()
                    );
                }
            }
            // It is gone again, or cannot be watched where it lies: the next scan tells.
            Err(error) => tracing::debug!("cannot be told of changes in {}: {error}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use notify::event::{CreateKind, DataChange, MetadataKind, RemoveKind};

    use super::*;

    fn held(kinds: &[EventKind]) -> Option<Hint> {
        let changes = Changes::default();
        for kind in kinds {
            changes.hear(Ok(Event::new(*kind).add_path("a".into())));
        }
        changes.take().0.pop().map(|(_, hint)| hint)
    }

    #[test]
    fn the_last_word_of_a_file_counts_but_for_its_attributes() {
        let create = EventKind::Create(CreateKind::File);
        let write = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        let close = EventKind::Access(AccessKind::Close(AccessMode::Write));
        let attributes = EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any));
        let opened = EventKind::Access(AccessKind::Open(AccessMode::Any));
        assert_eq!(held(&[create, write]), Some(Hint::Touched));
        assert_eq!(held(&[create, write, close]), Some(Hint::Complete));
        assert_eq!(held(&[close, attributes]), Some(Hint::Complete));
        assert_eq!(held(&[attributes]), Some(Hint::Attributes));
        assert_eq!(held(&[attributes, write]), Some(Hint::Touched));
        assert_eq!(held(&[close, write]), Some(Hint::Touched));
        assert_eq!(held(&[EventKind::Modify(ModifyKind::Name(RenameMode::To))]), Some(Hint::Complete));
        assert_eq!(held(&[EventKind::Remove(RemoveKind::File)]), Some(Hint::Touched));
        assert_eq!(held(&[opened, EventKind::Access(AccessKind::Close(AccessMode::Read))]), None);
    }

    #[test]
    fn what_happens_beside_the_outbox_is_not_heard() {
        let (changes, root, given) = (Changes::default(), Path::new("/srv/outbox"), Path::new("/srv/current"));
        let remove = |path: &str| Ok(Event::new(EventKind::Remove(RemoveKind::Any)).add_path(path.into()));
        for path in ["/srv/outbox2", "/srv/current/a", "/srv"] {
            changes.hear_of(root, given, remove(path));
        }
        assert!(changes.take().0.is_empty());
        for path in ["/srv/outbox", "/srv/outbox/a", "/srv/current"] {
            changes.hear_of(root, given, remove(path));
            assert_eq!(changes.take().0, [(path.into(), Hint::Touched)]);
        }
    }

    #[test]
    fn changes_are_taken_in_order() {
        let changes = Changes::default();
        let close = EventKind::Access(AccessKind::Close(AccessMode::Write));
        for name in ["b", "a", "c", "b"] {
            changes.hear(Ok(Event::new(close).add_path(name.into())));
        }
        let names: Vec<_> = changes.take().0.into_iter().map(|(path, _)| path).collect();
        assert_eq!(names, [Path::new("a"), Path::new("c"), Path::new("b")]);
    }

    #[test]
    fn changes_that_are_too_many_are_lost_and_said_to_be() {
        let changes = Changes::default();
        for number in 0..=MOST_HELD {
            changes.hear(Ok(Event::new(EventKind::Create(CreateKind::File)).add_path(number.to_string().into())));
        }
        let (paths, lost) = changes.take();
        assert!(paths.len() <= MOST_HELD && lost == Lost::Some);
        assert_eq!(changes.take().1, Lost::Nothing);
        changes.hear(Ok(Event::new(EventKind::Other).set_flag(notify::event::Flag::Rescan)));
        assert_eq!(changes.take().1, Lost::Some);
    }
}
