//! What the kernel side remembers of a socket between its transitions, and where.

use core::ptr;

use aya_ebpf::{
    bindings::BPF_SK_STORAGE_GET_F_CREATE,
    helpers::generated::{bpf_sk_storage_delete, bpf_sk_storage_get},
};
use kube_tcpstates_common::record::{COMM_LEN, TIMED_STATES};
pub(crate) use kube_tcpstates_common::socket::{
    BIRTH_UNKNOWN, HANDSHAKE, PENDING, RESET_RECEIVED, SEGMENTS_AT_FIN, SINCE_ATTACH, SINCE_UNKNOWN,
    SocketRecord, TUPLE_JUDGED,
};

use crate::maps::{LISTENERS, SOCKET_HASH, SOCKET_STORAGE};

/// A record of zeros, in read-only data: on the stack it would take two fifths of what a program has.
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
    birth_errors_queued: 0,
    epoch: 0,
    birth_error: 0,
    birth_soft_error: 0,
    used_before: 0,
    birth_port: 0,
    owner_ns: 0,
    task_cgroup: 0,
    state_ns: [0; TIMED_STATES],
    listener: 0,
    listener_birth_ns: 0,
    handshake_us8: 0,
    segments_at_fin: 0,
    visited: 0,
    syn_retransmits: 0,
    padding: 0,
};

/// Where socket records live.
pub(crate) trait Records {
    /// Whether a record goes by itself when its socket does.
    const FREED_WITH_SOCKET: bool;

    /// The record of a socket, if it has one.
    fn get(socket: *const u8) -> Option<&'static mut SocketRecord>;
    /// Makes a record of zeros, or returns the one that is there.
    fn create(socket: *const u8) -> Option<&'static mut SocketRecord>;
    /// Forgets a socket. Returns whether there was a record.
    fn forget(socket: *const u8) -> bool;
}

/// `BPF_MAP_TYPE_SK_STORAGE`: freed with the socket.
pub(crate) struct InStorage;

impl InStorage {
    #[inline(always)]
    fn lookup(socket: *const u8, flags: u32) -> Option<&'static mut SocketRecord> {
        // SAFETY: the verifier checks that `socket` is a socket; the value lives
        // until the socket is freed or listens, and neither can happen while the program runs.
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
    const FREED_WITH_SOCKET: bool = true;

    #[inline(always)]
    fn get(socket: *const u8) -> Option<&'static mut SocketRecord> {
        Self::lookup(socket, 0)
    }

    #[inline(always)]
    fn create(socket: *const u8) -> Option<&'static mut SocketRecord> {
        Self::lookup(socket, BPF_SK_STORAGE_GET_F_CREATE)
    }

    #[inline(always)]
    fn forget(socket: *const u8) -> bool {
        // SAFETY: the verifier checks that `socket` is a socket.
        unsafe {
            bpf_sk_storage_delete((&raw const SOCKET_STORAGE).cast_mut().cast(), socket.cast_mut().cast())
                == 0
        }
    }
}

/// A hash keyed by the socket's address.
macro_rules! in_hash {
    ($(#[$doc:meta])* $name:ident, $map:ident) => {
        $(#[$doc])*
        pub(crate) struct $name;

        impl Records for $name {
            const FREED_WITH_SOCKET: bool = false;

            #[inline(always)]
            fn get(socket: *const u8) -> Option<&'static mut SocketRecord> {
                // SAFETY: an element is only freed after a grace period, and only this socket's own end deletes it.
                $map.get_ptr_mut(socket as u64).and_then(|record| unsafe { record.as_mut() })
            }

            #[inline(always)]
            fn create(socket: *const u8) -> Option<&'static mut SocketRecord> {
                // By value the record would be copied to the stack.
                $map.insert(socket as u64, &EMPTY, 0).ok()?;
                Self::get(socket)
            }

            #[inline(always)]
            fn forget(socket: *const u8) -> bool {
                $map.remove(socket as u64).is_ok()
            }
        }
    };
}

in_hash!(
    /// Connections, where there is no socket storage.
    InHash, SOCKET_HASH
);
in_hash!(
    /// Listeners, everywhere.
    Listeners, LISTENERS
);
