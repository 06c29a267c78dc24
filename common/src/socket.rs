//! What the kernel side remembers of a socket between its transitions. User space makes the records of those listeners
//! that are older than the programs.

use bytemuck::{Pod, Zeroable};

use crate::record::{COMM_LEN, TIMED_STATES};

/// A transition waits in this record for the next one.
pub const PENDING: u8 = 1 << 0;
/// `tuple` is the whole answer for this generation.
pub const TUPLE_JUDGED: u8 = 1 << 1;
/// `since_ns` is when the tracer found the socket, not when it entered the state.
pub const SINCE_ATTACH: u8 = 1 << 2;
/// The birth was not seen.
pub const BIRTH_UNKNOWN: u8 = 1 << 3;

/// `since_ns` is not that of the present state.
pub const SINCE_UNKNOWN: u8 = 1 << 4;
/// The peer has reset the connection.
pub const RESET_RECEIVED: u8 = 1 << 5;
/// `segments_at_fin` was taken.
pub const SEGMENTS_AT_FIN: u8 = 1 << 6;
/// `handshake_us8` and `syn_retransmits` were taken.
pub const HANDSHAKE: u8 = 1 << 7;

/// One socket's record. Changes of a socket's state are made under its lock, so nothing here needs one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct SocketRecord {
    /// When it entered `state`, boot time ns.
    pub since_ns: u64,
    /// When the connection was born or first seen, boot time ns.
    pub birth_ns: u64,
    /// The pending transition's time and duration, ns.
    pub pending_boot_ns: u64,
    /// See `pending_boot_ns`.
    pub pending_duration_ns: u64,
    /// Traces that may want the pending transition; all bits where it has not been emitted.
    pub pending_for: u64,
    /// Traces that accept the tuple.
    pub tuple: u64,
    /// Generation that `tuple` belongs to.
    pub generation: u32,
    /// See [`crate::record::TransitionRecord::owner_pid`].
    pub owner_pid: u32,
    /// Name of the owner.
    pub owner_comm: [u8; COMM_LEN],
    /// See [`crate::record::owner`].
    pub owner_source: u8,
    /// See [`crate::record::role`].
    pub role: u8,
    /// See [`crate::state::State`].
    pub state: u8,
    /// [`PENDING`] and those below it.
    pub flags: u8,
    /// The state that the pending transition left.
    pub pending_old_state: u8,
    /// The state that it went to.
    pub pending_new_state: u8,
    /// 1 where the pending transition has been emitted for those traces that were certain, else 0.
    pub pending_shown: u8,
    /// Length of the socket's error queue at birth, its lowest byte.
    pub birth_errors_queued: u8,
    /// Epoch of the cgroup's entry at the last transition.
    pub epoch: u64,
    /// `sk_err` as it was at birth, left by an earlier connection of the same socket; 0 once the SYN is answered.
    pub birth_error: u16,
    /// `sk_err_soft` at birth.
    pub birth_soft_error: u16,
    /// All ones where the socket had been used before its birth, else 0.
    pub used_before: u16,
    /// `skc_num` at birth.
    pub birth_port: u16,
    /// See [`crate::record::TransitionRecord::owner_ns`].
    pub owner_ns: u64,
    /// See [`crate::record::TransitionRecord::task_cgroup`].
    pub task_cgroup: u64,
    /// See [`crate::record::Figures::state_ns`].
    pub state_ns: [u64; TIMED_STATES],
    /// See [`crate::record::Figures::listener`].
    pub listener: u64,
    /// See [`crate::record::Figures::listener_birth_ns`].
    pub listener_birth_ns: u64,
    /// See [`crate::record::Figures::handshake_us8`].
    pub handshake_us8: u32,
    /// See [`crate::record::Figures::segments_at_fin`].
    pub segments_at_fin: u32,
    /// See [`crate::record::Figures::visited`].
    pub visited: u16,
    /// See [`crate::record::Figures::syn_retransmits`].
    pub syn_retransmits: u16,
    /// Zero.
    pub padding: u32,
}

/// What an iterator tells of one socket's record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct ToldRecord {
    /// Kernel address of the socket.
    pub socket: u64,
    /// See [`SocketRecord::since_ns`].
    pub since_ns: u64,
    /// See [`SocketRecord::birth_ns`].
    pub birth_ns: u64,
    /// See [`SocketRecord::state`].
    pub state: u32,
    /// See [`SocketRecord::flags`].
    pub flags: u32,
}
