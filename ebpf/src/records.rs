//! Counting and forgetting socket records: iterators over socket storage (`iter/bpf_sk_storage_map`, 5.9).

use kube_tcpstates_common::state::State;

use crate::{
    globals::offset,
    maps::RECORD_COUNT,
    memory::{Memory, Typed},
    socket::{InStorage, Records as _, SocketRecord},
};

/// `struct bpf_iter__bpf_sk_storage_map`, `net/core/bpf_sk_storage.c`: pointers 64 bits apart.
#[repr(C)]
struct StorageElement {
    meta: u64,
    map: u64,
    socket: *const u8,
    record: *const SocketRecord,
}

/// Both pointers are read once: the verifier would take a second load for another, unchecked pointer.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/bpf_sk_storage_map")]
extern "C" fn count_records(context: *const StorageElement) -> i32 {
    // SAFETY: the context of this iterator.
    let (socket, record) = unsafe {
        ((&raw const (*context).socket).read_volatile(), (&raw const (*context).record).read_volatile())
    };
    if socket.is_null() || record.is_null() {
        return 0;
    }
    count(0);
    if Typed::field::<u8>(socket, offset!(state)) == State::CLOSE.0 {
        count(1);
    }
    0
}

/// Forgets a socket. Its record stays readable to whoever is reading it until a grace period has passed.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/bpf_sk_storage_map")]
extern "C" fn forget_records(context: *const StorageElement) -> i32 {
    // SAFETY: the context of this iterator.
    let socket = unsafe { (&raw const (*context).socket).read_volatile() };
    if !socket.is_null() {
        InStorage::forget(socket);
    }
    0
}

#[inline(always)]
fn count(slot: u32) {
    if let Some(cell) = RECORD_COUNT.get_ptr_mut(slot) {
        // SAFETY: one iterator runs at a time.
        unsafe { *cell += 1 };
    }
}
