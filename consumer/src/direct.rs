//! Writing a file past the page cache.
//!
//! A copy into the page cache is half of what receiving a large file costs, and the sync behind it waits for all of it to be
//! written out. Written directly, a chunk goes from our memory to the disk; only what the disk itself has not kept yet, and where the
//! file lies, is left to the sync. Not every file system can do it: there, and on systems without it, the page cache takes the file.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, IoSlice},
    ops::Deref,
    os::unix::fs::FileExt as _,
    sync::{Arc, Condvar, Mutex, PoisonError},
};

use bytes::Bytes;
use tokio::{runtime::Handle, task::JoinHandle};

/// What begins, ends and lies in memory at multiples of this can be written directly: a page, and no smaller than most disks' blocks.
/// Where a file system wants more, it refuses.
const BLOCK: usize = 4096;
/// Bytes that are written at once.
const PIECE_BYTES: usize = 1 << 20;
/// Pieces that are made ready or being written at once, of all files together: enough for any disk always to have work.
const MOST_PIECES: usize = 4;

/// A file that is written directly, so far as that can be done. Blocking; use it off the runtime, and within it.
#[derive(Debug)]
pub(crate) struct Direct {
    files: Arc<Files>,
    pieces: Arc<Pieces>,
    runtime: Handle,
    under_way: VecDeque<JoinHandle<io::Result<()>>>,
}

/// One file, opened twice.
#[derive(Debug)]
struct Files {
    direct: File,
    cached: File,
}

/// Room for pieces, which all files of a directory share.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    room: Mutex<Room>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct Room {
    free: Vec<Buffer>,
    taken: usize,
}

/// Room for one piece, given back when dropped.
struct Piece {
    buffer: Buffer,
    pieces: Arc<Pieces>,
}

/// Chunks lie anywhere in memory, and are copied to where a block may begin.
#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    /// Where the first block begins.
    begin: usize,
}

impl Direct {
    /// Of a file that was opened for that, and once more; `None` outside of a runtime.
    pub(crate) fn new(direct: File, cached: File, pieces: &Arc<Pieces>) -> Option<Self> {
        let (runtime, files) = (Handle::try_current().ok()?, Arc::new(Files { direct, cached }));
        Some(Self { files, pieces: pieces.clone(), runtime, under_way: VecDeque::new() })
    }

    /// Begins to write these bytes, one behind the other: they are written once [`Direct::settle`] says so.
    ///
    /// # Errors
    /// When they, or something before them, cannot be written.
    pub(crate) fn write_at(&mut self, bytes: &[Bytes], offset: u64) -> io::Result<()> {
        let (mut at, mut left) = (offset, bytes.iter().map(Bytes::len).sum());
        // Only whole blocks can be written directly.
        left = if offset.is_multiple_of(BLOCK as u64) { left / BLOCK * BLOCK } else { 0 };
        let mut bytes = Vec::from_iter(bytes.iter().map(|bytes| IoSlice::new(bytes)));
        let mut bytes = bytes.as_mut_slice();
        while left > 0 {
            let (mut room, files, length) = (self.pieces.take(), self.files.clone(), left.min(PIECE_BYTES));
            gather(&mut bytes, room.buffer.blocks(length));
            let write = move || files.write_at(room.buffer.blocks(length), at);
            self.under_way.push_back(self.runtime.spawn_blocking(write));
            (at, left) = (at + length as u64, left - length);
        }
        write_cached(&self.files.cached, bytes, at)
    }

    /// Waits until everything is written that was begun.
    ///
    /// # Errors
    /// When some of it could not be written.
    pub(crate) fn settle(&mut self) -> io::Result<()> {
        let mut settled = Ok(());
        for write in self.under_way.drain(..) {
            settled = settled.and(self.runtime.block_on(write).map_err(io::Error::from).flatten());
        }
        settled
    }
}

impl Pieces {
    /// Waits for room. Nobody waits for something else while holding it.
    fn take(self: &Arc<Self>) -> Piece {
        let room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |room: &mut Room| room.taken == MOST_PIECES;
        let mut room = self.freed.wait_while(room, full).unwrap_or_else(PoisonError::into_inner);
        room.taken += 1;
        Piece { buffer: room.free.pop().unwrap_or_else(Buffer::aligned), pieces: self.clone() }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let mut room = self.pieces.room.lock().unwrap_or_else(PoisonError::into_inner);
        room.free.push(std::mem::take(&mut self.buffer));
        room.taken -= 1;
        self.pieces.freed.notify_one();
    }
}

impl Files {
    fn write_at(&self, blocks: &[u8], offset: u64) -> io::Result<()> {
        match self.direct.write_all_at(blocks, offset) {
            // The file system takes this for no whole blocks.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => self.cached.write_all_at(blocks, offset),
            written => written,
        }
    }
}

impl Buffer {
    fn aligned() -> Self {
        let bytes = vec![0; PIECE_BYTES + BLOCK - 1];
        // Where it cannot be told, the file system refuses what does not lie well.
        let begin = bytes.as_ptr().align_offset(BLOCK).min(BLOCK - 1);
        Self { bytes, begin }
    }

    fn blocks(&mut self, length: usize) -> &mut [u8] {
        &mut self.bytes[self.begin..][..length]
    }
}

/// Moves as many bytes as there is room for from the beginning of these.
fn gather(from: &mut &mut [IoSlice<'_>], mut room: &mut [u8]) {
    while let Some(first) = from.first().filter(|_| !room.is_empty()) {
        let (here, beyond) = room.split_at_mut(first.len().min(room.len()));
        here.copy_from_slice(&first[..here.len()]);
        IoSlice::advance_slices(from, here.len());
        room = beyond;
    }
}

/// Writes these bytes, one behind the other, through the page cache.
pub(crate) fn write_cached(file: &File, bytes: &[impl Deref<Target = [u8]>], mut offset: u64) -> io::Result<()> {
    for bytes in bytes {
        file.write_all_at(bytes, offset)?;
        offset += bytes.len() as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use proptest::prelude::*;

    use super::*;

    /// A file opened twice, directly where the file system lets it.
    fn files(home: &std::path::Path) -> (File, File) {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true);
        let cached = options.open(home.join("file")).unwrap();
        #[cfg(target_os = "linux")]
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, rustix::fs::OFlags::DIRECT.bits() as i32);
        let direct = options.open(home.join("file")).unwrap_or_else(|_| cached.try_clone().unwrap());
        (direct, cached)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Anywhere, of any length, over each other: what is there is what was written last.
        #[test]
        fn what_is_written_is_there(
            writes in proptest::collection::vec((0u64..8, 0u64..3, 0usize..3 * PIECE_BYTES / 2, any::<u8>(), any::<bool>()), 1..12),
            cut in 500usize..2 * PIECE_BYTES,
        ) {
            let home = tempfile::tempdir().unwrap();
            let (direct, cached) = files(home.path());
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let mut direct = { let _within = runtime.enter(); Direct::new(direct, cached.try_clone().unwrap(), &Arc::default()).unwrap() };
            let mut model = Vec::new();
            for (block, beside, length, byte, settle) in writes {
                let bytes: Vec<u8> = (0..length).map(|at| byte.wrapping_add((at / 1000) as u8)).collect();
                let offset = block * 64 * BLOCK as u64 + beside;
                let end = offset as usize + length;
                if length > 0 && model.len() < end {
                    model.resize(end, 0);
                }
                // Two that are under way at once are never of the same place.
                direct.settle().unwrap();
                // In one piece, or in several that are cut anywhere.
                let whole = Bytes::from(bytes);
                let cut: Vec<Bytes> = whole.chunks(cut).map(|bytes| whole.slice_ref(bytes)).collect();
                direct.write_at(&cut, offset).unwrap();
                model[offset as usize..].iter_mut().zip(&whole).for_each(|(there, byte)| *there = *byte);
                if settle {
                    direct.settle().unwrap();
                    prop_assert!(std::fs::read(home.path().join("file")).unwrap() == model);
                }
            }
            direct.settle().unwrap();
            prop_assert!(std::fs::read(home.path().join("file")).unwrap() == model);
        }
    }

    #[test]
    fn what_cannot_be_written_directly_is_written_all_the_same() {
        let home = tempfile::tempdir().unwrap();
        let (direct, cached) = files(home.path());
        Files { direct, cached }.write_at(b"no whole block", 1).unwrap();
        assert_eq!(std::fs::read(home.path().join("file")).unwrap(), b"\0no whole block");
    }

    #[test]
    fn a_write_that_fails_is_told_and_leaves_nothing_under_way() {
        let home = tempfile::tempdir().unwrap();
        let (_, cached) = files(home.path());
        let unwritable = || File::open(home.path().join("file")).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _within = runtime.enter();
        let mut direct = Direct::new(unwritable(), unwritable(), &Arc::default()).unwrap();
        direct.write_at(&[Bytes::from_static(&[1; BLOCK])], 0).unwrap();
        direct.settle().unwrap_err();
        direct.settle().unwrap();
        drop(cached);
    }
}
