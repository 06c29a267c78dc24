//! One transition, in the types the rest of the agent works with.

use std::net::IpAddr;

use kube_tcpstates_common::{record::Figures, state::State};
use kube_tcpstates_events::{NetworkType, OwnerSource, Role};

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Unspecified (all zeros) for a listener on every address and for an end that is not there yet.
    pub address: IpAddr,
    /// 0 when not known or not there.
    pub port: u16,
}

/// The process that owns the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Process id in the initial pid namespace.
    pub pid: u32,
    /// Name of its thread, NUL-padded, any bytes.
    pub comm: [u8; 16],
    /// How it was learned.
    pub source: OwnerSource,
    /// When, `CLOCK_BOOTTIME` ns. Later the number may be another process's.
    pub noted_ns: u64,
}

/// The task that happened to be on the CPU; only the BCC table shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnCpu {
    /// Process id.
    pub pid: u32,
    /// Name of its thread, NUL-padded, any bytes.
    pub comm: [u8; 16],
}

/// One TCP state transition of one socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts of one event, as the line shows them")]
pub struct Transition {
    /// `CLOCK_BOOTTIME`, ns.
    pub boot_ns: u64,
    /// Time in the old state, ns; `None` when not known.
    pub duration_ns: Option<u64>,
    /// The duration counts from the tracer's start, so it is a lower bound: the socket is older.
    pub since_attach: bool,
    /// State left.
    pub old_state: State,
    /// State entered.
    pub new_state: State,
    /// IP version of both ends, after IPv4-mapped addresses became IPv4.
    pub family: NetworkType,
    /// The socket is `AF_INET6` and speaks IPv4.
    pub v4_mapped: bool,
    /// A subflow of an MPTCP connection.
    pub mptcp: bool,
    /// This socket's end.
    pub local: Endpoint,
    /// The other end, before NAT; `None` for a listener and where the kernel has none yet.
    pub peer: Option<Endpoint>,
    /// Index of the interface, in the socket's network namespace, to which link-local addresses belong; `None` without
    /// such an address.
    pub interface: Option<u32>,
    /// Side, when known.
    pub role: Option<Role>,
    /// `sk_err` at -> CLOSE, an errno; `None` when 0.
    pub error: Option<u32>,
    /// Kernel address of the socket. Never shown unless asked for.
    pub socket: u64,
    /// Birth of the connection (or when it was first seen), `CLOCK_BOOTTIME` ns.
    pub birth_ns: u64,
    /// The birth was seen, so the connection id is the same for all its lines.
    pub birth_known: bool,
    /// The old state is not the one last seen: a transition was missed.
    pub gap: bool,
    /// No program got it: it follows from the states before and after it, and `boot_ns` is the latest it can have been.
    pub inferred: bool,
    /// Socket cookie (`SO_COOKIE`), when the kernel has given one.
    pub cookie: Option<u64>,
    /// cgroup2 id of the cgroup that made the socket.
    pub cgroup_id: Option<u64>,
    /// Id of the cgroup v1 in which the task was that connected or listened.
    pub task_cgroup: Option<u64>,
    /// Inode number of the network namespace.
    pub netns: Option<u32>,
    /// Cookie of the network namespace; unlike the inode number it is never used again.
    pub netns_cookie: Option<u64>,
    /// The process that owns the socket, when known.
    pub process: Option<Process>,
    /// Task on the CPU, when asked for.
    pub on_cpu: OnCpu,
    /// What the kernel said of the whole connection, at its end and where a trace asks for it.
    pub figures: Option<Figures>,
    /// Bits of the traces that want the line.
    pub traces: u64,
    /// Bits of the traces that want it if the cgroup is theirs.
    pub maybe: u64,
    /// Generation of the rules that judged it.
    pub generation: u32,
}
