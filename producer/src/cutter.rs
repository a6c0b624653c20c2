//! Cutting a source into full chunks, in buffers that are used again.

use std::{
    io::{self, Read},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::{Buf, Bytes, BytesMut};

/// Where buffers begin: a cache line. AMD processors copy at less than half the speed to a place a few bytes behind a page's
/// beginning, which is where large allocations lie, if what is copied begins with its page, as a file in the page cache does.
const ALIGNMENT: usize = 64;

/// Free buffers that are kept, at most.
const MOST_FREE: usize = 8;

/// Buffers that came back after their chunk was acknowledged, for all transfers of a producer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Buffers {
    free: Arc<Mutex<Vec<BytesMut>>>,
}

impl Buffers {
    fn take(&self, length: usize) -> BytesMut {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut buffer = free.filter(|buffer| buffer.capacity() >= length).unwrap_or_else(|| aligned(length));
        buffer.resize(length, 0);
        buffer
    }

    /// Takes a chunk's buffer back, if nobody else holds it.
    pub(crate) fn give_back(&self, bytes: Bytes) {
        if let Ok(buffer) = bytes.try_into_mut() {
            self.give(buffer);
        }
    }

    fn give(&self, buffer: BytesMut) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < MOST_FREE {
            free.push(buffer);
        }
    }
}

fn aligned(length: usize) -> BytesMut {
    let mut buffer = BytesMut::zeroed(length + ALIGNMENT - 1);
    // Where it cannot be told, it is only slower.
    let unused = buffer.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT - 1);
    buffer.advance(unused);
    buffer
}

/// Reads until the buffer is full or the source ends: a short read must not become a short chunk. `None` at the end.
pub(crate) fn cut(source: &mut impl Read, chunk_size: usize, buffers: &Buffers) -> io::Result<Option<BytesMut>> {
    let mut buffer = buffers.take(chunk_size);
    let mut filled = 0;
    while filled < chunk_size {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    if filled == 0 {
        buffers.give(buffer);
        return Ok(None);
    }
    buffer.truncate(filled);
    Ok(Some(buffer))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives out its bytes a few at a time, with an interruption now and then.
    struct Dribble<'a>(&'a [u8], u32);

    impl Read for Dribble<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 += 1;
            if self.1.is_multiple_of(5) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let length = self.0.len().min(buffer.len()).min(3);
            buffer[..length].copy_from_slice(&self.0[..length]);
            self.0 = &self.0[length..];
            Ok(length)
        }
    }

    #[test]
    fn short_reads_make_full_chunks() {
        let bytes: Vec<u8> = (0..105).collect();
        let (buffers, mut source) = (Buffers::default(), Dribble(&bytes, 0));
        let mut chunks = Vec::new();
        while let Some(chunk) = cut(&mut source, 10, &buffers).unwrap() {
            chunks.push(chunk.freeze());
        }
        assert_eq!(chunks.iter().map(Bytes::len).collect::<Vec<_>>(), [[10; 10].as_slice(), &[5]].concat());
        assert_eq!(chunks.concat(), bytes);
    }

    #[test]
    fn buffers_are_used_again() {
        let buffers = Buffers::default();
        let chunk = cut(&mut &[1; 10][..], 10, &buffers).unwrap().unwrap().freeze();
        let address = chunk.as_ptr();
        assert_eq!(address.addr() % ALIGNMENT, 0);
        buffers.give_back(chunk);
        let chunk = cut(&mut &[2; 4][..], 10, &buffers).unwrap().unwrap();
        assert_eq!((chunk.as_ptr(), chunk.len()), (address, 4));
    }
}
