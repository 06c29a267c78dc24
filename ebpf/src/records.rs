//! Counting, telling and forgetting socket records: iterators over socket storage (`iter/bpf_sk_storage_map`, 5.9).

use aya_ebpf::{bindings::seq_file, helpers::generated::bpf_seq_write};
use kube_tcpstates_common::{socket::ToldRecord, state::State};

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

/// Prints what a record says of how long its socket has been in its state.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/bpf_sk_storage_map")]
extern "C" fn tell_records(context: *const StorageElement) -> i32 {
    // SAFETY: the context of this iterator, and its `struct bpf_iter_meta`, of which the first is the file.
    let (meta, socket, record) = unsafe {
        (
            (&raw const (*context).meta).read_volatile() as *const *mut seq_file,
            (&raw const (*context).socket).read_volatile(),
            (&raw const (*context).record).read_volatile(),
        )
    };
    if socket.is_null() || record.is_null() {
        return 0;
    }
    // SAFETY: both were found to be there.
    unsafe {
        let told = ToldRecord {
            socket: socket as u64,
            since_ns: (*record).since_ns,
            birth_ns: (*record).birth_ns,
            state: (*record).state.into(),
            flags: (*record).flags.into(),
        };
        bpf_seq_write(meta.read_volatile(), (&raw const told).cast(), size_of::<ToldRecord>() as u32);
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
