//! What the kernel side remembers of a socket between its transitions, and where.

use core::ptr;

use aya_ebpf::{bindings::BPF_SK_STORAGE_GET_F_CREATE, helpers::generated::bpf_sk_storage_get};
use kube_tcpstates_common::record::COMM_LEN;

use crate::maps::{SOCKET_HASH, SOCKET_STORAGE};

/// A transition waits in this record for the next one.
pub(crate) const PENDING: u8 = 1 << 0;
/// `tuple` is the whole answer for this generation.
pub(crate) const TUPLE_JUDGED: u8 = 1 << 1;
/// `since_ns` is when the tracer found the socket, not when it entered the state.
pub(crate) const SINCE_ATTACH: u8 = 1 << 2;
/// The birth was not seen.
pub(crate) const BIRTH_UNKNOWN: u8 = 1 << 3;

/// `since_ns` is not that of the present state.
pub(crate) const SINCE_UNKNOWN: u8 = 1 << 4;

/// One socket's record. Changes of a socket's state are made under its lock, so nothing here needs one.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct SocketRecord {
    /// When it entered `state`, boot time ns.
    pub(crate) since_ns: u64,
    /// When the connection was born or first seen, boot time ns.
    pub(crate) birth_ns: u64,
    /// The pending transition's time and duration, ns.
    pub(crate) pending_boot_ns: u64,
    pub(crate) pending_duration_ns: u64,
    /// Traces that may want the pending transition; all bits where it has not been emitted.
    pub(crate) pending_for: u64,
    /// Traces that accept the tuple.
    pub(crate) tuple: u64,
    /// Generation that `tuple` belongs to.
    pub(crate) generation: u32,
    pub(crate) owner_pid: u32,
    pub(crate) owner_comm: [u8; COMM_LEN],
    pub(crate) owner_source: u8,
    pub(crate) role: u8,
    pub(crate) state: u8,
    pub(crate) flags: u8,
    pub(crate) pending_old_state: u8,
    pub(crate) pending_new_state: u8,
    /// 1 where the pending transition has been emitted for those traces that were certain, else 0.
    pub(crate) pending_shown: u8,
    pub(crate) padding: u8,
}

/// A record of zeros, in read-only data: on the stack it would take a fifth of what a program has.
static EMPTY: SocketRecord = SocketRecord {
    since_ns: 0,
    birth_ns: 0,
    pending_boot_ns: 0,
    pending_duration_ns: 0,
    pending_for: 0,
    tuple: 0,
    generation: 0,
    owner_pid: 0,
    owner_comm: [0; COMM_LEN],
    owner_source: 0,
    role: 0,
    state: 0,
    flags: 0,
    pending_old_state: 0,
    pending_new_state: 0,
    pending_shown: 0,
    padding: 0,
};

/// Where socket records live.
pub(crate) trait Records {
    /// Whether the kernel copies a listener's record to its children.
    const INHERITED: bool;

    /// The record of a socket, if it has one.
    fn get(socket: *const u8) -> Option<&'static mut SocketRecord>;
    /// Makes a record of zeros, or returns the one that is there.
    fn create(socket: *const u8) -> Option<&'static mut SocketRecord>;
    /// Forgets a closed socket. Returns whether there was a record.
    fn closed(socket: *const u8) -> bool;
}

/// `BPF_MAP_TYPE_SK_STORAGE`: freed with the socket, inherited by a listener's children.
pub(crate) struct InStorage;

impl InStorage {
    #[inline(always)]
    fn lookup(socket: *const u8, flags: u32) -> Option<&'static mut SocketRecord> {
        // SAFETY: the verifier checks that `socket` is a socket; the value lives
        // until the socket is freed, which cannot happen while the program runs.
        unsafe {
            bpf_sk_storage_get(
                (&raw const SOCKET_STORAGE).cast_mut().cast(),
                socket.cast_mut().cast(),
                ptr::null_mut(),
                flags.into(),
            )
            .cast::<SocketRecord>()
            .as_mut()
        }
    }
}

impl Records for InStorage {
    const INHERITED: bool = true;

    #[inline(always)]
    fn get(socket: *const u8) -> Option<&'static mut SocketRecord> {
        Self::lookup(socket, 0)
    }

    #[inline(always)]
    fn create(socket: *const u8) -> Option<&'static mut SocketRecord> {
        Self::lookup(socket, BPF_SK_STORAGE_GET_F_CREATE)
    }

    /// The kernel frees the record with the socket.
    #[inline(always)]
    fn closed(_: *const u8) -> bool {
        false
    }
}

/// A hash keyed by the socket's address, where there is no socket storage.
pub(crate) struct InHash;

impl Records for InHash {
    const INHERITED: bool = false;

    #[inline(always)]
    fn get(socket: *const u8) -> Option<&'static mut SocketRecord> {
        // SAFETY: an element is only freed after a grace period, and only this socket's own -> CLOSE deletes it.
        SOCKET_HASH.get_ptr_mut(socket as u64).and_then(|record| unsafe { record.as_mut() })
    }

    #[expect(
        clippy::needless_borrows_for_generic_args,
        reason = "by value the record would be copied to the stack"
    )]
    #[inline(always)]
    fn create(socket: *const u8) -> Option<&'static mut SocketRecord> {
        SOCKET_HASH.insert(socket as u64, &EMPTY, 0).ok()?;
        Self::get(socket)
    }

    #[inline(always)]
    fn closed(socket: *const u8) -> bool {
        SOCKET_HASH.remove(socket as u64).is_ok()
    }
}
