//! The object that `cargo xtask bpf` built, and the one thing in it that depends on the kernel.

use kube_tcpstates_common::{
    rule::HASH_FLAGS,
    walk::{MAX_FOUND, MAX_FOUND_AT_ONCE},
};
use kube_tcpstates_events::Hook;

use super::release::{kernel_release, kernel_version};

/// Aligned as an ELF file must be.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("KUBE_TCPSTATES_BPF_OBJECT"));
/// `include/uapi/linux/bpf.h`.
const BPF_F_NO_PREALLOC: u32 = 1;

/// The object for a hook on the running kernel, as words, so that it is aligned; to be read as bytes.
pub(super) fn for_hook(hook: Hook) -> Vec<u64> {
    with_hash_flags(if may_allocate_here(hook) { BPF_F_NO_PREALLOC } else { 0 })
}

/// How many open connections the programs of a hook can be told of on the running kernel.
pub(super) fn max_found(hook: Hook) -> u32 {
    if may_allocate_here(hook) { MAX_FOUND } else { MAX_FOUND_AT_ONCE }
}

fn may_allocate_here(hook: Hook) -> bool {
    may_allocate(hook, kernel_version(&kernel_release()))
}

/// Whether the programs of a hook may use a hash that allocates as it goes. From a tracepoint or kprobe they did so with
/// the kernel's own allocator before 6.1, perhaps while that was at work below them, and the verifier says so with a
/// WARN (`check_map_prog_compatibility`, `kernel/bpf/verifier.c`). Programs of `tp_btf` were never counted among those:
/// sockets change their state where memory may be allocated.
fn may_allocate(hook: Hook, kernel: Option<(u32, u32)>) -> bool {
    hook == Hook::TpBtf || kernel.is_some_and(|kernel| kernel >= (6, 1))
}

fn with_hash_flags(flags: u32) -> Vec<u64> {
    let mut words = vec![0; OBJECT.len().div_ceil(size_of::<u64>())];
    let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut words);
    bytes[..OBJECT.len()].copy_from_slice(OBJECT);
    let mark = HASH_FLAGS.to_le_bytes();
    let mut from = 0;
    while let Some(found) = find(&bytes[from..], mark) {
        from += found + mark.len();
        bytes[from - mark.len()..from].copy_from_slice(&flags.to_le_bytes());
    }
    words
}

fn find(bytes: &[u8], mark: [u8; 4]) -> Option<usize> {
    bytes.windows(mark.len()).position(|window| window == mark)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn before_6_1_only_tp_btf_may_allocate() {
        let old = Some((6, 0));
        assert_eq!(
            [Hook::TpBtf, Hook::RawTp, Hook::Tracepoint, Hook::Kprobe].map(|hook| may_allocate(hook, old)),
            [true, false, false, false]
        );
        assert!(may_allocate(Hook::RawTp, Some((6, 1))));
        assert!(!may_allocate(Hook::RawTp, None));
    }

    #[test]
    fn the_objects_mark_becomes_the_flags_that_are_asked_for() {
        let mark = HASH_FLAGS.to_le_bytes();
        let place = find(OBJECT, mark).expect("the object has the mark");
        for flags in [0, BPF_F_NO_PREALLOC] {
            let words = with_hash_flags(flags);
            let bytes: &[u8] = bytemuck::cast_slice(&words);
            assert_eq!(bytes[place..place + 4], flags.to_le_bytes());
            assert_eq!(find(bytes, mark), None);
        }
    }
}
