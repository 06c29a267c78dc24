//! Kernel memory as it is: a hash table's description, and the heads of its chains.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use kube_tcpstates_common::{
    verifier::masked,
    walk::{COPIED, end},
};

use super::shared;

/// Copies `stride` bytes from `base` to `words`; zeros where they cannot be read.
#[unsafe(no_mangle)]
#[unsafe(link_section = "raw_tp/walk")]
extern "C" fn walk_memory(_: *const u64) -> i32 {
    let Some(walk) = shared() else { return end::LOST.cast_signed() };
    let len = masked::<{ COPIED * 2 - 1 }>(walk.cursor.stride as usize);
    // SAFETY: `words` has 64 KiB; the helper reads any kernel address safely.
    let read = unsafe {
        bpf_probe_read_kernel(walk.words.as_mut_ptr().cast(), len as u32, walk.cursor.base as *const _)
    };
    if read == 0 { end::DONE.cast_signed() } else { end::LOST.cast_signed() }
}
