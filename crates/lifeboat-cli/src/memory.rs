//! How this process gives memory back that it freed.

/// What the allocator keeps at the end of each heap.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT_BYTES: std::ffi::c_int = 4 << 20;
/// The length from which a buffer is a mapping of its own: regions are, and what readers use all the time is not.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED_BYTES: std::ffi::c_int = 1 << 20;

/// Lets the allocator keep little of what is freed.
///
/// glibc raises both of its thresholds with each large buffer that is freed, up to where each thread's heap keeps 64 MiB:
/// restoring one file of 64 GB took 206 MiB so, most of it free. Set once, they stay. Other allocators are left alone.
pub(crate) fn keep_little() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[expect(
        unsafe_code,
        reason = "there is no other way to tell the allocator, and it halves what large restores take"
    )]
    // SAFETY: it changes two numbers of the allocator, and no other thread is running yet.
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_BYTES);
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES);
    }
}
