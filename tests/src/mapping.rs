//! A file that is mapped into memory and written there, after every descriptor of it is closed.

use std::fs::File;
use std::io;

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// A shared, writable mapping. It ends when it is dropped.
#[derive(Debug)]
pub struct Mapping {
    start: *mut std::ffi::c_void,
    length: usize,
}

impl Mapping {
    /// Maps the first bytes of a file that is open for reading and writing, and closes it.
    ///
    /// # Errors
    /// What the system says.
    #[expect(unsafe_code, reason = "a mapping is memory that others write to")]
    pub fn of(file: File, length: usize) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the system's choice touches no memory of ours.
        let start = unsafe {
            mmap(std::ptr::null_mut(), length, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, &file, 0)
        }?;
        Ok(Self { start, length })
    }

    /// Writes at the beginning.
    ///
    /// # Panics
    /// If there are more bytes than are mapped.
    #[expect(unsafe_code, reason = "a mapping is memory that others write to")]
    pub fn write(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= self.length, "only {} bytes are mapped", self.length);
        // SAFETY: the mapping is as long as that, is ours until it is dropped, and no reference into it is ever made.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.start.cast(), bytes.len()) };
    }
}

impl Drop for Mapping {
    #[expect(unsafe_code, reason = "a mapping is memory that others write to")]
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length, and nobody else has the address.
        let _ = unsafe { munmap(self.start, self.length) };
    }
}
