//! What the system's allocator does with freed memory, where the C library is glibc. Call these first.
#![allow(unsafe_code, reason = "there is no other way to say so but the environment, which is read before we are")]

/// Has freed memory kept in few places. Otherwise each of many threads would have some of its own.
pub fn keep_memory_together() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    set(&[(libc::M_ARENA_MAX, 2)]);
}

/// Has freed memory kept for the next chunk. Otherwise each chunk's would be given back to the system, and come again as pages that are
/// cleared, a sixth of what receiving a large file costs.
pub fn keep_freed_memory() {
    /// Bytes.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    const KEPT: i32 = 8 << 20;
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    set(&[(libc::M_MMAP_THRESHOLD, KEPT), (libc::M_TRIM_THRESHOLD, KEPT)]);
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn set(parameters: &[(i32, i32)]) {
    for (parameter, value) in parameters {
        // SAFETY: it takes two numbers, and may be called at any time (mallopt(3)). What it refuses changes nothing.
        unsafe { libc::mallopt(*parameter, *value) };
    }
}
