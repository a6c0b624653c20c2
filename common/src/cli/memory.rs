//! What the system's allocator keeps for us.

/// Bytes that are kept at once, rather than given back.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT: i32 = 8 << 20;

/// Has freed memory kept for the next chunk, where the C library is glibc: it gives each chunk's memory back to the system, and gets
/// it as pages that are cleared again, a sixth of what receiving a large file costs.
///
/// Call it first.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[allow(unsafe_code, reason = "there is no other way to say so but the environment, which is read before we are")]
    // SAFETY: it takes two numbers, and may be called at any time (mallopt(3)). One that it refuses changes nothing.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, KEPT);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
    }
}
