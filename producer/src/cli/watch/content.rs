//! What a file's bytes are: the only proof that it is what was sent.

use std::{
    fs::{File, Metadata},
    io,
    os::unix::fs::FileExt as _,
    path::Path,
};

use natsfer_producer::{Digest, TransferId};
use rustix::{
    fs::{Mode, OFlags, open},
    io::Errno,
};

use super::version::Version;

/// Bytes read at once.
const PIECE: usize = 256 * 1024;

/// What was sent of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Content {
    /// What the file looked like.
    pub(super) version: Version,
    pub(super) transfer: TransferId,
    /// What it was. Not known of what earlier programs have sent.
    pub(super) digest: Option<Digest>,
}

impl Content {
    /// The digest to compare a file with that looks like this: with these bytes, it need not be sent.
    pub(super) fn expected_of(&self, version: &Version) -> Option<Digest> {
        self.digest.filter(|_| self.version.resembles(version))
    }
}

/// What came of reading a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Same,
    Different,
    /// It was to be given up before the end.
    GivenUp,
}

/// Reads a file to its end, and compares its bytes with those that have this digest. Asks now and then whether to go on. Blocking.
pub(super) fn compare(
    file: &File, size: u64, digest: Digest, mut goes_on: impl FnMut() -> bool,
) -> io::Result<Comparison> {
    let (mut hasher, mut piece, mut offset) = (digest.algorithm().hasher(), vec![0; PIECE], 0);
    loop {
        if !goes_on() {
            return Ok(Comparison::GivenUp);
        }
        let read = match file.read_at(&mut piece, offset) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        offset += read as u64;
        if read == 0 || offset > size {
            let same = (offset, hasher.finish()) == (size, digest);
            return Ok(if same { Comparison::Same } else { Comparison::Different });
        }
        hasher.update(&piece[..read]);
    }
}

/// A file's bytes as they are now, and what it looks like then; `None` if it is no regular file any more. Blocking.
pub(super) fn read(path: &Path, digest: Digest) -> io::Result<Option<(Comparison, Version)>> {
    let Some((file, metadata)) = open_file(path)? else { return Ok(None) };
    let comparison = compare(&file, metadata.len(), digest, || true)?;
    Ok(Some((comparison, Version::from(&file.metadata()?))))
}

/// The digest of a file's bytes; `None` if it is no regular file any more. Blocking.
pub(super) fn digest(path: &Path, algorithm: natsfer_producer::DigestAlgorithm) -> io::Result<Option<Digest>> {
    let Some((file, _)) = open_file(path)? else { return Ok(None) };
    let (mut hasher, mut piece, mut offset) = (algorithm.hasher(), vec![0; PIECE], 0);
    loop {
        match file.read_at(&mut piece, offset) {
            Ok(0) => return Ok(Some(hasher.finish())),
            Ok(read) => {
                offset += read as u64;
                hasher.update(&piece[..read]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn open_file(path: &Path) -> io::Result<Option<(File, Metadata)>> {
    // Whatever has come there since: opening a FIFO would wait.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let metadata = file.metadata()?;
    Ok(metadata.is_file().then_some((file, metadata)))
}

#[cfg(test)]
mod tests {
    use natsfer_producer::DigestAlgorithm;

    use super::*;

    #[test]
    fn only_the_same_bytes_are_the_same_whatever_the_size_that_is_said() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a");
        for size in [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE] {
            let bytes = vec![7; size];
            std::fs::write(&path, &bytes).unwrap();
            let file = File::open(&path).unwrap();
            for algorithm in [DigestAlgorithm::Blake3, DigestAlgorithm::Sha256] {
                let expected = algorithm.digest(&bytes);
                let compare = |said| compare(&file, said, expected, || true).unwrap();
                assert_eq!(compare(size as u64), Comparison::Same);
                assert_eq!(compare(size as u64 + 1), Comparison::Different);
                assert_eq!(digest(&path, algorithm).unwrap(), Some(expected));
                let other = algorithm.digest(b"something else");
                let (comparison, version) = read(&path, other).unwrap().unwrap();
                assert_eq!((comparison, version.size), (Comparison::Different, size as u64));
            }
            let gone = compare(&file, size as u64, DigestAlgorithm::Blake3.digest(&bytes), || false).unwrap();
            assert_eq!(gone, Comparison::GivenUp);
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(digest(&path, DigestAlgorithm::Blake3).unwrap(), None);
        assert_eq!(read(home.path(), DigestAlgorithm::Blake3.digest(b"")).unwrap(), None);
    }
}
