//! A source whose first bytes were read, to see whether it fits in one message.

use std::io::{self, Cursor, Read};

use bytes::Bytes;
use natsfer_common::{Digest, blocking};

use crate::{
    cutter::{Buffers, cut},
    prepare::digest,
    source::Source,
};

/// A source, and what was read of it already.
pub(crate) struct Input {
    head: Bytes,
    rest: Source,
    /// Whether the head is all there is.
    whole: bool,
}

impl Input {
    /// Reads the source's first bytes, unless it is known not to fit in one chunk.
    pub(crate) async fn read(mut source: Source, chunk_size: usize) -> io::Result<Self> {
        if source.version().is_some_and(|version| version.size > chunk_size as u64) {
            let head = source.head().unwrap_or_default();
            return Ok(Self { head, rest: source, whole: false });
        }
        // One byte more than there should be, also of a head, tells whether there is more.
        let most = source.version().map_or(chunk_size, |version| version.size as usize) + 1;
        if let Some(head) = source.head() {
            let whole = head.len() < most;
            return Ok(Self { head, rest: source, whole });
        }
        blocking(move || {
            let head = cut(&mut source, most, &Buffers::default())?.unwrap_or_default().freeze();
            let whole = head.len() < most;
            Ok(Self { head, rest: source, whole })
        })
        .await
    }

    /// All its bytes, if they fit in one chunk.
    pub(crate) fn whole(&self) -> Option<&Bytes> {
        self.whole.then_some(&self.head)
    }

    /// The source behind what was read.
    pub(crate) fn source(&self) -> &Source {
        &self.rest
    }

    /// All its bytes, from the first one on. Blocking to read.
    pub(crate) fn reader(self) -> impl Read + Send + 'static {
        Cursor::new(self.head).chain(self.rest)
    }

    /// Whether its bytes have this size and digest.
    pub(crate) async fn has(self, size: u64, expected: Digest) -> io::Result<bool> {
        let mut reader = self.reader();
        let found = blocking(move || digest(&mut reader, expected.algorithm())).await?;
        Ok(found == (size, expected))
    }

    /// The same bytes to be read again; `None` where they can be read only once.
    pub(crate) fn again(&self) -> Option<Self> {
        Some(Self { head: self.head.clone(), rest: self.rest.again_from(self.head.len())?, whole: self.whole })
    }
}
