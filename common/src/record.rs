//! What crosses the ring buffers: one [`TransitionRecord`] for each emitted transition (or two, see
//! [`flag::PENDING`]), one [`CgroupRecord`] for each cgroup made or removed.

use bytemuck::{Pod, Zeroable};

/// A duration that is not known.
pub const UNKNOWN_NS: u64 = u64::MAX;
/// Length of a task's name with its final NUL (`TASK_COMM_LEN`, `include/linux/sched.h`).
pub const COMM_LEN: usize = 16;
/// Longest cgroup path that crosses the ring, with its final NUL. A longer one is cut; user space then looks the
/// cgroup up by its id.
pub const CGROUP_PATH_LEN: usize = 512;

/// Bits of [`TransitionRecord::flags`] and of the socket's record in the kernel.
pub mod flag {
    /// The socket is `AF_INET6` and both addresses are IPv4-mapped; the record holds them as IPv4.
    pub const V4_MAPPED: u16 = 1 << 0;
    /// A subflow of an MPTCP connection (`tcp_sock.is_mptcp`).
    pub const MPTCP: u16 = 1 << 1;
    /// The socket was open before the tracer attached: the duration counts from then and is a lower bound.
    pub const SINCE_ATTACH: u16 = 1 << 2;
    /// The socket's birth was not seen; `birth_ns` is when it was first seen.
    pub const BIRTH_UNKNOWN: u16 = 1 << 3;
    /// The record carries a second, earlier transition of the same socket in the `pending_*` fields.
    pub const PENDING: u16 = 1 << 4;
    /// The old state is not the one last recorded for the socket: a transition was missed.
    pub const GAP: u16 = 1 << 5;
    /// The `pending_*` fields are of a transition that came in an earlier record, marked [`UNDECIDED`]: the traces that could
    /// not be judged then, and want it.
    pub const DECIDES: u16 = 1 << 6;
    /// Some traces cannot be judged yet; `traces` and `maybe` are those that can. What those others want is in the
    /// socket's next record, if they want it.
    pub const UNDECIDED: u16 = 1 << 7;
    /// No program got the transition: it follows from the state last recorded and from the socket's end.
    pub const INFERRED: u16 = 1 << 8;
    /// No program got the pending transition: it follows from the states before and after it.
    pub const PENDING_INFERRED: u16 = 1 << 9;
}

/// Where an owner was learned.
pub mod owner {
    /// No owner known.
    pub const NONE: u8 = 0;
    /// The task that called `connect()`.
    pub const CONNECT: u8 = 1;
    /// The task that called `listen()`, for the listener and the sockets accepted from it.
    pub const LISTEN: u8 = 2;
    /// The task that called `accept()`.
    pub const ACCEPT: u8 = 3;
    /// The task that closed the socket, when nothing earlier was seen.
    pub const CLOSE: u8 = 4;
    /// A kernel thread made the connection.
    pub const KERNEL: u8 = 5;
    /// A task that held the socket's descriptor when the tracer started.
    pub const DESCRIPTOR: u8 = 6;
}

/// Side of a connection. The numbers are an index into the rules.
pub mod role {
    /// Not known: open before the start and not deducible.
    pub const UNKNOWN: u8 = 0;
    /// It sent the first SYN.
    pub const CLIENT: u8 = 1;
    /// A listener, or a socket that came out of one.
    pub const SERVER: u8 = 2;
}

/// One transition, as the kernel program saw it. Addresses are 16 bytes, IPv4 in the first four; ports in host
/// order, 0 where there is none (yet).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct TransitionRecord {
    /// `CLOCK_BOOTTIME` of the transition, ns.
    pub boot_ns: u64,
    /// Time spent in the old state, ns, or [`UNKNOWN_NS`].
    pub duration_ns: u64,
    /// `CLOCK_BOOTTIME` at which this connection was born (or first seen), ns.
    pub birth_ns: u64,
    /// Kernel address of the socket.
    pub socket: u64,
    /// Socket cookie, 0 where the kernel has not given it one yet.
    pub cookie: u64,
    /// cgroup2 id of the cgroup that made the socket, 0 where it cannot be read.
    pub cgroup_id: u64,
    /// Id of the cgroup v1 in which the task was that connected or listened, 0 where it was not read.
    pub task_cgroup: u64,
    /// `CLOCK_BOOTTIME` at which the owner was noted, ns: its number was its own then.
    pub owner_ns: u64,
    /// Cookie of the network namespace, 0 where the kernel has none.
    pub netns_cookie: u64,
    /// Traces that want the transition for certain.
    pub traces: u64,
    /// Traces that want it if the cgroup turns out to be theirs.
    pub maybe: u64,
    /// The pending transition's time, ns.
    pub pending_boot_ns: u64,
    /// The pending transition's duration, ns, or [`UNKNOWN_NS`].
    pub pending_duration_ns: u64,
    /// Traces that want the pending transition for certain.
    pub pending_traces: u64,
    /// Traces that want the pending transition if the cgroup turns out to be theirs.
    pub pending_maybe: u64,
    /// Generation of the rules that judged the record.
    pub generation: u32,
    /// Inode number of the network namespace, 0 where it cannot be read.
    pub netns: u32,
    /// Process id (thread group) of the socket's owner, in the initial pid namespace; 0 when unknown.
    pub owner_pid: u32,
    /// Process id of the task that was on the CPU.
    pub on_cpu_pid: u32,
    /// `sk_err`, an errno or 0; it tells why only at -> CLOSE.
    pub socket_error: u32,
    /// Local port.
    pub local_port: u16,
    /// Peer port.
    pub peer_port: u16,
    /// Local address, see [`crate::classify::Address`].
    pub local: [u32; 4],
    /// Peer address.
    pub peer: [u32; 4],
    /// Name of the thread that owns the socket.
    pub owner_comm: [u8; COMM_LEN],
    /// Name of the thread that was on the CPU.
    pub on_cpu_comm: [u8; COMM_LEN],
    /// See [`flag`].
    pub flags: u16,
    /// 4 or 6, after IPv4-mapped addresses became IPv4.
    pub family: u8,
    /// See [`role`].
    pub role: u8,
    /// State left.
    pub old_state: u8,
    /// State entered.
    pub new_state: u8,
    /// State left by the pending transition.
    pub pending_old_state: u8,
    /// State entered by the pending transition.
    pub pending_new_state: u8,
    /// See [`owner`].
    pub owner_source: u8,
    /// Zero.
    pub padding: [u8; 3],
    /// Index of the interface that the socket is bound to, in its network namespace; 0 for none. The kernel binds whoever
    /// uses link-local addresses.
    pub interface: u32,
}

/// How many states have a place in [`Figures::state_ns`].
pub const TIMED_STATES: usize = 8;

/// A transition that ends a connection, with what is known of the whole connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct ConnectionRecord {
    /// The transition to CLOSE.
    pub transition: TransitionRecord,
    /// What the connection was.
    pub figures: Figures,
}

/// Bits of [`Figures::known`].
pub mod known {
    /// What is read from the socket was read; else all of it is 0.
    pub const SOCKET: u8 = 1 << 0;
    /// There is a record of the socket; else what comes from it is 0.
    pub const RECORD: u8 = 1 << 1;
    /// `out_of_order`: not all kernels count it.
    pub const OUT_OF_ORDER: u8 = 1 << 2;
    /// `segments_at_fin`.
    pub const SEGMENTS_AT_FIN: u8 = 1 << 3;
    /// The kernel told that it took a reset from the peer.
    pub const RESET_RECEIVED: u8 = 1 << 4;
    /// `handshake_us` and `syn_retransmits`.
    pub const HANDSHAKE: u8 = 1 << 5;
}

/// What the kernel knows of a connection when it ends, before it is cleared. Sequence numbers and jiffies are the lower 32
/// bits, as the kernel keeps them. Names of kernel fields: `struct tcp_sock`, `include/linux/tcp.h`, and
/// `struct inet_connection_sock`, Linux 6.18.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Figures {
    /// Time spent in each state, ns; by [`crate::state::State::TIMED`].
    pub state_ns: [u64; TIMED_STATES],
    /// Kernel address of the listener that an accepted socket came out of, 0 where none is known.
    pub listener: u64,
    /// When that listener was born, boot time ns.
    pub listener_birth_ns: u64,
    /// `bytes_acked`: payload, and one each for a client's SYN and for the own FIN, once acknowledged.
    pub bytes_acked: u64,
    /// `bytes_received`: payload, and one for the peer's FIN.
    pub bytes_received: u64,
    /// `sk_flags`, see `enum sock_flags` (`include/net/sock.h`).
    pub socket_flags: u64,
    /// Now, jiffies.
    pub jiffies: u32,
    /// `lsndtime`: when data was last sent, jiffies.
    pub last_sent: u32,
    /// `icsk_ack.lrcvtime`: when data last came, jiffies.
    pub last_received: u32,
    /// `chrono_start`: since when `chrono_type` holds, jiffies.
    pub chrono_start: u32,
    /// `chrono_stat`: time spent busy, limited by the peer's window, limited by the send buffer, jiffies.
    pub chrono: [u32; 3],
    /// `rcv_nxt`: the next sequence number that the peer shall send.
    pub receive_next: u32,
    /// `copied_seq`: the next one that the program shall read.
    pub copied: u32,
    /// `write_seq`: the next one that the program shall write.
    pub write_next: u32,
    /// `snd_una`: the first that the peer has not acknowledged.
    pub unacknowledged: u32,
    /// `data_segs_out`: segments with payload, retransmissions included.
    pub segments_sent: u32,
    /// `data_segs_in`: segments with payload.
    pub segments_received: u32,
    /// `data_segs_in` less `sk_drops` when the program had closed and the FIN went out; see [`known::SEGMENTS_AT_FIN`].
    pub segments_at_fin: u32,
    /// `sk_drops`: segments that came and were dropped, copies of what had come before among them.
    pub drops: u32,
    /// `snd_wl1`: where the segment began that last said something new of acknowledgement or window.
    pub window_from: u32,
    /// `segs_out`: all segments.
    pub all_segments_sent: u32,
    /// `total_retrans`: retransmitted segments, SYNs included.
    pub retransmits: u32,
    /// `rcv_ooopack`: segments that came out of order.
    pub out_of_order: u32,
    /// `srtt_us`: smoothed round-trip time, eighths of a microsecond.
    pub srtt_us8: u32,
    /// `rtt_min`: least round-trip time of late, us.
    pub min_rtt_us: u32,
    /// Round-trip time of the SYN and its answer, eighths of a microsecond: `srtt_us` at -> ESTABLISHED.
    pub handshake_us8: u32,
    /// `icsk_user_timeout`, ms; 0 is none.
    pub user_timeout: u32,
    /// `sk_lingertime`, its lower half.
    pub linger_time: u32,
    /// States that the connection was in, a bit each.
    pub visited: u16,
    /// SYNs, or answers to one, that were sent again before the connection was established.
    pub syn_retransmits: u16,
    /// `chrono_type`: 0, or one more than the index into `chrono` of what holds now.
    pub chrono_type: u8,
    /// `sk_shutdown`: 1 no more is received, 2 no more is sent.
    pub shutdown: u8,
    /// `icsk_retransmits`: retransmissions in a row without an answer.
    pub retransmits_in_row: u8,
    /// `icsk_probes_out`: probes of keepalive or of a closed window without an answer.
    pub probes: u8,
    /// 1 where a descriptor may stand for the socket (`sk_socket`), else 0.
    pub has_descriptor: u8,
    /// See [`known`].
    pub known: u8,
    /// Zero.
    pub padding: [u8; 6],
}

/// A cgroup was made or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct CgroupRecord {
    /// The inode number of its directory: one among those of its hierarchy.
    pub id: u64,
    /// Number of the hierarchy, 0 for the unified one.
    pub hierarchy: u32,
    /// Zero.
    pub padding: u32,
    /// 1 when it was removed, 0 when it was made.
    pub removed: u32,
    /// Bytes of `path` in use, the final NUL included; negative when it could not be read.
    pub path_len: i32,
    /// Path from the root of the hierarchy, NUL-terminated.
    pub path: [u8; CGROUP_PATH_LEN],
}

#[cfg(test)]
mod tests {
    use super::{CgroupRecord, ConnectionRecord, Figures, TransitionRecord};
    use core::mem::{align_of, offset_of, size_of};

    #[test]
    fn layouts_have_no_hidden_padding_and_fit_eight_byte_slots() {
        assert_eq!(size_of::<TransitionRecord>(), 224);
        assert_eq!(align_of::<TransitionRecord>(), 8);
        assert_eq!(offset_of!(TransitionRecord, local), 140 + 4);
        assert_eq!(size_of::<Figures>(), 216);
        assert_eq!(size_of::<ConnectionRecord>(), 224 + 216);
        assert_eq!(size_of::<CgroupRecord>(), 24 + 512);
    }
}
