//! Memory after the start.

/// Returns to the system what the start has freed: reading the kernel's types takes ten times the memory of a run, and
/// glibc keeps what lies below anything still in use.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "nobody binds malloc_trim safely")]
pub(super) fn give_back() {
    // SAFETY: it has no preconditions and may be called from any thread.
    unsafe { libc::malloc_trim(0) };
}

/// Other allocators return it by themselves.
#[cfg(not(target_env = "gnu"))]
pub(super) fn give_back() {}
