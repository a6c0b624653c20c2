//! What is sent: a file, bytes, or a reader.

use std::{
    fs::{File, Metadata},
    io::{self, Read},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use bytes::{Buf, Bytes, BytesMut};
use jiff::Timestamp;
use natsfer_common::{Channel, DigestAlgorithm, FileName, TransferId};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    sync::mpsc,
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    ProducerError,
    cutter::{Buffers, cut},
};

/// Files up to so many bytes are read when they are opened, in one go on one thread.
const SMALL: u64 = 64 * 1024;

/// Where the bytes come from.
pub(crate) enum Source {
    /// A regular file; it can be read again, and looked at for changes.
    File(FileSource),
    /// Bytes in memory.
    Bytes {
        /// All of them.
        all: Bytes,
        /// Those not read yet.
        left: Bytes,
    },
    /// A reader: its size shows at its end, and it is read once.
    Reader(ReaderSource),
}

pub(crate) struct FileSource {
    file: Arc<File>,
    /// A small file's bytes, read when it was opened: all of them, unless it grew meanwhile, and then one more.
    head: Option<Bytes>,
    /// Read by position: two views of one file must not move each other's place.
    offset: u64,
    path: PathBuf,
    version: Version,
}

pub(crate) struct ReaderSource {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
    /// The reader has said that it is at its end; without that, a pump that is gone has died.
    ended: bool,
    pump: Option<AbortOnDropHandle<()>>,
}

/// What a file looks like from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) size: u64,
    /// Nanoseconds since 1970.
    pub(crate) modified: Option<i128>,
    pub(crate) mode: Option<u32>,
}

impl Version {
    fn of(metadata: &Metadata) -> Self {
        let mode = Some(metadata.mode() & 0o777);
        Self { size: metadata.len(), modified: metadata.modified().ok().and_then(nanoseconds), mode }
    }

    /// When the file was last modified; `None` if that is not known, or beyond what can be said.
    pub(crate) fn mtime(&self) -> Option<Timestamp> {
        Timestamp::from_nanosecond(self.modified?).ok()
    }
}

fn nanoseconds(time: SystemTime) -> Option<i128> {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => i128::try_from(since.as_nanos()).ok(),
        Err(before) => Some(-i128::try_from(before.duration().as_nanos()).ok()?),
    }
}

impl Source {
    /// Takes bytes.
    pub(crate) fn bytes(bytes: Bytes) -> Self {
        Self::Bytes { left: bytes.clone(), all: bytes }
    }

    /// Opens a regular file. Blocking.
    pub(crate) fn file(path: &Path) -> Result<Self, ProducerError> {
        let read = |source| ProducerError::Read { path: path.into(), source };
        // Looked at before it is opened: opening a FIFO would wait for its writer.
        if !std::fs::metadata(path).map_err(read)?.is_file() {
            return Err(ProducerError::NotAFile { path: path.into() });
        }
        let file = File::open(path).map_err(read)?;
        let version = Version::of(&file.metadata().map_err(read)?);
        let mut source = FileSource { file: Arc::new(file), head: None, offset: 0, path: path.into(), version };
        if version.size <= SMALL {
            let head = cut(&mut source, version.size as usize + 1, &Buffers::default()).map_err(read)?;
            source.head = Some(head.unwrap_or_default().freeze());
        }
        Ok(Self::File(source))
    }

    /// What was read of a small file when it was opened.
    pub(crate) fn head(&mut self) -> Option<Bytes> {
        if let Self::File(file) = self { file.head.take() } else { None }
    }

    /// Takes a reader. A task reads ahead of what is taken, by two pieces at most.
    pub(crate) fn reader(mut reader: impl AsyncRead + Send + Unpin + 'static) -> Self {
        const PIECE: usize = 256 * 1024;
        let (sender, pieces) = mpsc::channel(2);
        let pump = tokio::spawn(async move {
            loop {
                let mut piece = BytesMut::with_capacity(PIECE);
                let read = reader.read_buf(&mut piece).await.map(|_| piece.freeze());
                let last = read.as_ref().map_or(true, Bytes::is_empty);
                if sender.send(read).await.is_err() || last {
                    return;
                }
            }
        });
        let pump = Some(AbortOnDropHandle::new(pump));
        Self::Reader(ReaderSource { pieces, current: Bytes::new(), ended: false, pump })
    }

    /// The task that reads a reader ahead. Once it is dropped, nothing more is read, and who waits for that is told.
    pub(crate) fn pump(&mut self) -> Option<AbortOnDropHandle<()>> {
        if let Self::Reader(reader) = self { reader.pump.take() } else { None }
    }

    /// What the file looked like when it was opened; the size where it is known.
    pub(crate) fn version(&self) -> Option<Version> {
        match self {
            Self::File(file) => Some(file.version),
            Self::Bytes { all, .. } => Some(Version { size: all.len() as u64, modified: None, mode: None }),
            Self::Reader(_) => None,
        }
    }

    /// A name for errors.
    pub(crate) fn path(&self, name: &FileName) -> PathBuf {
        match self {
            Self::File(file) => file.path.clone(),
            _ => name.as_str().into(),
        }
    }

    /// The id of this source, at a revision; `None` where it has none but a random one.
    pub(crate) fn transfer_id(&self, channel: &Channel, name: &FileName, revision: u32) -> Option<TransferId> {
        let version = match self {
            Self::File(FileSource { version: Version { size, modified, .. }, .. }) => {
                [&size.to_le_bytes()[..], &modified.unwrap_or(0).to_le_bytes()[..]].concat()
            }
            Self::Bytes { all, .. } => DigestAlgorithm::Blake3.digest(all).to_string().into_bytes(),
            Self::Reader(_) => return None,
        };
        Some(TransferId::derive(channel, name, &version, revision))
    }

    /// Whether a file is another than when it was opened, or its name now stands for another one. Blocking.
    pub(crate) fn has_changed(&self) -> io::Result<bool> {
        match self {
            Self::File(file) => {
                let metadata = file.file.metadata()?;
                let now = Version::of(&metadata);
                let altered = (now.size, now.modified) != (file.version.size, file.version.modified);
                // One that was removed meanwhile has been read to its end all the same.
                let replaced = std::fs::metadata(&file.path)
                    .is_ok_and(|named| (named.dev(), named.ino()) != (metadata.dev(), metadata.ino()));
                Ok(altered || replaced)
            }
            _ => Ok(false),
        }
    }

    /// A second view of the same source, from its beginning; `None` where there is none.
    pub(crate) fn again(&self) -> Option<Self> {
        self.again_from(0)
    }

    /// A second view of the same source, without its first bytes; `None` where there is none.
    pub(crate) fn again_from(&self, offset: usize) -> Option<Self> {
        match self {
            Self::File(FileSource { file, path, version, .. }) => {
                let (file, path, offset) = (file.clone(), path.clone(), offset as u64);
                Some(Self::File(FileSource { file, head: None, offset, path, version: *version }))
            }
            Self::Bytes { all, .. } => Some(Self::Bytes { all: all.clone(), left: all.slice(offset.min(all.len())..) }),
            Self::Reader(_) => None,
        }
    }
}

/// Blocking. Behind what is in the head.
impl Read for FileSource {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

/// Blocking: not to be called on the runtime's own threads.
impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read(buffer),
            Self::Bytes { left, .. } => {
                let length = left.len().min(buffer.len());
                left.copy_to_slice(&mut buffer[..length]);
                Ok(length)
            }
            Self::Reader(reader) => {
                if reader.current.is_empty() && !reader.ended {
                    let piece = reader.pieces.blocking_recv();
                    reader.current = piece.unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()))?;
                    reader.ended = reader.current.is_empty();
                }
                let length = reader.current.len().min(buffer.len());
                reader.current.copy_to_slice(&mut buffer[..length]);
                Ok(length)
            }
        }
    }
}
