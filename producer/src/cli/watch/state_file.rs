//! The file that a watcher's state is kept in. Records are appended, and the file is written anew where most of it has been
//! overtaken.
//!
//! A record is written to the page cache at once, so a process that dies loses nothing, and synced within a second. Of what a
//! power cut takes, sending again finds everything stored and publishes nothing, unless it was pruned in that second: that is
//! worth no sync for each file. A file that is written anew is synced before it gets the name: otherwise a power cut could
//! leave an empty one, and everything that was ever pruned would be sent again.

use std::{
    fs::{DirBuilder, File, TryLockError},
    io::{self, BufRead as _, BufReader, BufWriter, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use natsfer_common::{blocking, count};
use natsfer_producer::Channel;
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};

use super::state::{Record, State};

const LOCK: &str = "watch.lock";
/// Rights of the records: what was sent is nobody's but their owner's to know.
const PRIVATE: u32 = 0o600;
/// No record is as long as this; what is, is passed over without being held.
const LONGEST_LINE: u64 = 64 * 1024;
const SYNC_WITHIN: Duration = Duration::from_secs(1);
/// Rest before what cannot be written is tried again.
const REST: Duration = Duration::from_secs(1);
/// How long the end waits for the disk.
const CLOSING: Duration = Duration::from_secs(5);
/// Lines that may be overtaken before the file is written anew, besides as many as are not.
const SLACK: usize = 1_000;
/// Records that wait to be written; who has another one waits.
const MOST_WAITING: usize = 1_000;

/// Where a state is kept. Holds the lock of its directory.
#[derive(Debug)]
pub(super) struct StateFile {
    records: mpsc::Sender<Record>,
    writing: JoinHandle<()>,
}

#[derive(Debug)]
struct Writer {
    path: PathBuf,
    file: File,
    /// Not to be read: it is locked as long as it is open.
    _lock: File,
    lines: usize,
    /// How many lines said everything when the file was written anew.
    needed: usize,
    end: End,
}

/// How the file ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// With a line's end, or empty.
    Clean,
    /// In the middle of a line: what comes next begins another one.
    Torn,
}

impl StateFile {
    /// Opens the state of what was sent on a channel, and says what it holds. Blocking.
    pub(super) fn open(directory: &Path, channel: &Channel) -> anyhow::Result<(Self, State)> {
        let lock = lock(directory)?;
        let path = path_of(directory, channel);
        let (mut writer, state) = Writer::open(path, lock)?;
        writer.compact_if_worthwhile(&state)?;
        let (records, received) = mpsc::channel(MOST_WAITING);
        Ok((Self { records, writing: tokio::spawn(write(writer, received)) }, state))
    }

    /// Keeps a record. Waits while the disk does.
    pub(super) async fn keep(&self, record: Record) {
        // Only the runtime's end takes the other side away.
        let _ = self.records.send(record).await;
    }

    /// Ends when everything is synced, or a disk that is full or slow has been waited for: what it lacks is looked for in the stream.
    pub(super) async fn close(self) {
        drop(self.records);
        if tokio::time::timeout(CLOSING, self.writing).await.is_err() {
            tracing::warn!("not all that was sent could be noted: the next run looks it up in the stream");
        }
    }
}

/// What the state of a channel says, without opening it for a watcher: nothing is made, locked or written. Blocking.
pub(super) fn remembered(directory: &Path, channel: &Channel) -> anyhow::Result<State> {
    let path = path_of(directory, channel);
    match read(&path) {
        Ok(read) => Ok(read.state),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(State::default()),
        Err(error) => Err(error).with_context(|| format!("cannot use {}", path.display())),
    }
}

fn path_of(directory: &Path, channel: &Channel) -> PathBuf {
    directory.join(format!("watch.{channel}.jsonl"))
}

/// What a file says.
#[derive(Debug)]
struct Contents {
    state: State,
    lines: usize,
    /// Lines that say nothing. A last one that is torn is none of them: that is what being killed leaves behind.
    unsound: usize,
    end: End,
}

fn read(path: &Path) -> io::Result<Contents> {
    let mut reader = BufReader::new(File::open(path)?);
    let mut contents = Contents { state: State::default(), lines: 0, unsound: 0, end: End::Clean };
    let mut line = Vec::new();
    loop {
        line.clear();
        if (&mut reader).take(LONGEST_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(contents);
        }
        contents.lines += 1;
        let Some(text) = line.strip_suffix(b"\n") else {
            if line.len() as u64 == LONGEST_LINE {
                contents.unsound += 1;
                reader.skip_until(b'\n')?;
                continue;
            }
            contents.end = End::Torn;
            continue;
        };
        match Record::from_line(text) {
            Some(record) => contents.state.take(record),
            None if text.is_empty() => {}
            None => contents.unsound += 1,
        }
    }
}

/// Makes the directory, and locks it for as long as the file is open.
fn lock(directory: &Path) -> anyhow::Result<File> {
    let shown = directory.display();
    let what = || {
        format!(
            "cannot keep what was sent in {shown}: it must be writable; where the outbox is not, give another with --state"
        )
    };
    DirBuilder::new().recursive(true).mode(0o700).create(directory).with_context(what)?;
    let path = directory.join(LOCK);
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(PRIVATE)
        .open(&path)
        .with_context(what)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // For the message alone.
            let _ = (&mut file).take(20).read_to_string(&mut holder);
            let holder = holder.trim().parse::<u32>().map_or(String::new(), |id| format!(" (process {id})"));
            bail!("another watcher{holder} is at work with {shown}: stop it, or give another directory with --state");
        }
        Err(TryLockError::Error(error)) => return Err(error).with_context(what),
    }
    file.set_len(0).with_context(what)?;
    writeln!(file, "{}", std::process::id()).with_context(what)?;
    Ok(file)
}

/// Writes what comes, and tries again what cannot be written.
async fn write(mut writer: Writer, mut records: mpsc::Receiver<Record>) {
    let mut batch = Vec::new();
    let mut unsynced_since = None::<Instant>;
    loop {
        let due = unsynced_since.map(|since| since + SYNC_WITHIN);
        tokio::select! {
            count = records.recv_many(&mut batch, MOST_WAITING) => {
                let ended = count == 0;
                writer = persist(writer, Writer::append, std::mem::take(&mut batch)).await;
                unsynced_since.get_or_insert_with(Instant::now);
                if ended {
                    persist(writer, |writer, _| writer.file.sync_data(), Vec::new()).await;
                    return;
                }
            }
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                writer = persist(writer, |writer, _| writer.file.sync_data(), Vec::new()).await;
                writer = persist(writer, Writer::compact_in_place, Vec::new()).await;
                unsynced_since = None;
            }
        }
    }
}

/// Does it until it succeeds: what is full has room again some day, and until then nothing more is sent.
async fn persist(
    mut writer: Writer, action: fn(&mut Writer, &[Record]) -> io::Result<()>, records: Vec<Record>,
) -> Writer {
    let mut records = records;
    let mut said = false;
    loop {
        let result;
        (writer, records, result) = blocking(move || {
            let result = action(&mut writer, &records);
            (writer, records, result)
        })
        .await;
        match result {
            Ok(()) => return writer,
            Err(error) if !std::mem::replace(&mut said, true) => {
                tracing::error!("cannot write {}: {error}. Trying again.", writer.path.display());
            }
            Err(_) => {}
        }
        sleep(REST).await;
    }
}

impl Writer {
    fn open(path: PathBuf, lock: File) -> anyhow::Result<(Self, State)> {
        let what = || format!("cannot use {}", path.display());
        let file = File::options().read(true).append(true).create(true).mode(PRIVATE).open(&path).with_context(what)?;
        ensure!(file.metadata().with_context(what)?.is_file(), "{}: it is not a regular file", what());
        let mut writer = Self { path: path.clone(), file, _lock: lock, lines: 0, needed: 0, end: End::Clean };
        let (state, unsound) = writer.read().with_context(what)?;
        if unsound > 0 {
            let shown = path.display();
            tracing::warn!("{shown}: {} damaged, what was said there is forgotten", count(unsound as u64, "line"));
        }
        writer.needed = state.records().count();
        Ok((writer, state))
    }

    /// What the file says, and how many lines say nothing.
    fn read(&mut self) -> io::Result<(State, usize)> {
        let Contents { state, lines, unsound, end } = read(&self.path)?;
        (self.lines, self.end) = (lines, end);
        Ok((state, unsound))
    }

    fn append(&mut self, records: &[Record]) -> io::Result<()> {
        let mut text = String::new();
        if self.end == End::Torn {
            text.push('\n');
        }
        for record in records {
            text.push_str(&record.to_line()?);
        }
        // Cut short, as on a full disk, it is written once more, whole: what stands twice is said once.
        self.end = End::Torn;
        self.file.write_all(text.as_bytes())?;
        self.end = End::Clean;
        self.lines += records.len();
        Ok(())
    }

    /// While at work: what is remembered is read back from the file, so that it need not be held.
    fn compact_in_place(&mut self, _: &[Record]) -> io::Result<()> {
        if !self.is_compaction_worthwhile() {
            return Ok(());
        }
        let (state, _) = self.read()?;
        self.compact_if_worthwhile(&state)
    }

    fn is_compaction_worthwhile(&self) -> bool {
        self.lines > 2 * self.needed + SLACK
    }

    /// Writes the file anew, synced, in the old one's place.
    fn compact_if_worthwhile(&mut self, state: &State) -> io::Result<()> {
        self.needed = state.records().count();
        if !self.is_compaction_worthwhile() {
            return Ok(());
        }
        let new = self.path.with_extension("jsonl.new");
        let file = File::options().write(true).create(true).truncate(true).mode(PRIVATE).open(&new)?;
        let mut writer = BufWriter::new(file);
        for record in state.records() {
            writer.write_all(record.to_line()?.as_bytes())?;
        }
        writer.into_inner()?.sync_all()?;
        std::fs::rename(&new, &self.path)?;
        if let Some(directory) = self.path.parent() {
            File::open(directory)?.sync_all()?;
        }
        self.file = File::options().read(true).append(true).open(&self.path)?;
        (self.lines, self.end) = (self.needed, End::Clean);
        Ok(())
    }
}

#[cfg(test)]
#[path = "state_file_tests.rs"]
mod tests;
