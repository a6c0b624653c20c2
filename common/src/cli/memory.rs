//! What the system's allocator does with freed memory.

/// Bytes that are kept at once, rather than given back.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT: i32 = 8 << 20;
/// Places it is kept in.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const ARENAS: i32 = 2;

/// Has freed memory kept for the next chunk, and in few places, where the C library is glibc. It would give each chunk's memory back to
/// the system, and get it as pages that are cleared again, a sixth of what receiving a large file costs; and keep some for each
/// of many threads.
///
/// Call it first.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[allow(unsafe_code, reason = "there is no other way to say so but the environment, which is read before we are")]
    // SAFETY: it takes two numbers, and may be called at any time (mallopt(3)). What it refuses changes nothing.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, KEPT);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
        libc::mallopt(libc::M_ARENA_MAX, ARENAS);
    }
}
