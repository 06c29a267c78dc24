//! The walk over the kernel's own tables: what user space asks of one slice, and what the program tells.
//!
//! User space and program share one [`Walk`]. A program runs only while user space waits for it, so neither ever sees
//! the other at work.

use bytemuck::{Pod, Zeroable};

use crate::record::COMM_LEN;

/// Most buckets, or memory in words, that one slice is asked for.
pub const WORDS: usize = 8_192;
/// Most bytes of memory that one slice copies.
pub const COPIED: usize = 32 * 1024;
/// Most tasks whose descriptors one slice is asked for: two words each.
pub const ASKED_TASKS: usize = WORDS / 2;
/// Most sockets that one slice tells of.
pub const SOCKETS: usize = 1_024;
/// Most sockets that one slice looks at closely.
pub const CLOSE_LOOKS: usize = 512;
/// Most tasks that one slice tells of.
pub const TASKS: usize = 1_024;
/// Most descriptors that one slice tells of.
pub const HOLDINGS: usize = 2_048;
/// Most hash tables that one slice tells of.
pub const TABLES: usize = 1_024;

/// Most open connections that the program is told of.
pub const MAX_FOUND: u32 = 262_144;
/// The same where the map is allocated as a whole: 7 MiB.
pub const MAX_FOUND_AT_ONCE: u32 = 65_536;

/// Nodes, buckets, namespaces, tasks or descriptors that one slice looks at: 50 to 400 us.
pub const STEPS: u32 = 512;
/// How often a slice begins the same chain anew before it gives the chain up.
pub const TRIES: u32 = 64;

/// Bytes of what a slice tells.
const TOLD: usize = SOCKETS * size_of::<OpenSocket>();

/// Why a slice ended.
pub mod end {
    /// It has done its steps; the next slice goes on where it stands.
    pub const STEPS: u32 = 0;
    /// Nothing is left.
    pub const DONE: u32 = 1;
    /// What it tells has no more room.
    pub const FULL: u32 = 2;
    /// Where it stood is gone: begin anew.
    pub const LOST: u32 = 3;
}

/// What user space asks for, and where the program stands.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct Cursor {
    /// Address of the node, task or namespace where it stands; 0 at the beginning.
    pub at: u64,
    /// Where a ring began.
    pub first: u64,
    /// Hash table that was told of last.
    pub last_table: u64,
    /// Address of the head of bucket 0, or of the memory to copy.
    pub base: u64,
    /// Array of the present task's open files.
    pub files: u64,
    /// Descriptor of the present task that is next.
    pub descriptor: u32,
    /// Bytes from one bucket's head to the next, or of memory to copy.
    pub stride: u32,
    /// What the mark at a chain's end says of bucket 0.
    pub mark: u32,
    /// A socket's hash under this mask is its bucket; 0 where the bucket does not depend on its hash.
    pub mask: u32,
    /// How many of `words` are asked for.
    pub asked: u32,
    /// Which of them is next.
    pub next: u32,
    /// How often the present chain was begun.
    pub tries: u32,
    /// Chains given up because they changed too fast.
    pub given_up: u32,
    /// How many of `told` are in use.
    pub count: u32,
    /// Not 0: tells of `TIME_WAIT` and requests as well.
    pub passing: u32,
    /// The kernel's jiffies at the beginning of the slice.
    pub jiffies: u64,
}

/// What user space and the program share.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Walk {
    /// Where it stands.
    pub cursor: Cursor,
    /// Buckets, or tasks and when they started, or copied memory.
    pub words: [u64; WORDS],
    /// What was found, as the program at work tells it.
    pub told: [u64; TOLD / 8],
}

/// A socket in one of the kernel's hash tables of TCP sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct OpenSocket {
    /// Its kernel address.
    pub socket: u64,
    /// The MPTCP socket whose subflow it is, or 0: programs hold that one.
    pub mptcp: u64,
    /// Socket cookie, 0 where the kernel has not given it one yet.
    pub cookie: u64,
    /// cgroup2 id of the cgroup that made it, 0 where it cannot be read.
    pub cgroup_id: u64,
    /// Cookie of the network namespace, 0 where the kernel has none.
    pub netns_cookie: u64,
    /// Of a request: kernel address of the listener that it is for.
    pub listener: u64,
    /// Local address, see [`crate::classify::Address`]; IPv4-mapped ones are not IPv4 yet.
    pub local: [u32; 4],
    /// Peer address.
    pub peer: [u32; 4],
    /// Inode number of the network namespace, 0 where it cannot be read.
    pub netns: u32,
    /// Local port, host order.
    pub local_port: u16,
    /// Peer port, host order.
    pub peer_port: u16,
    /// 4 or 6.
    pub family: u8,
    /// See [`crate::state::State`].
    pub state: u8,
    /// 1 where an `AF_INET6` socket takes no IPv4 (`IPV6_V6ONLY`).
    pub v6_only: u8,
    /// In `TIME_WAIT`: the state that it stands for, that or `FIN_WAIT2`.
    pub substate: u8,
    /// Of a request: 1 where the handshake's last ACK has come and found no room in the accept queue.
    pub acked: u8,
    /// Zero.
    pub padding: [u8; 3],
}

/// A socket looked at closely: what [`OpenSocket`] says, read anew, and its figures. Those that this kernel does not have
/// are 0: see [`crate::offsets::WalkOffsets`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct CloseLook {
    /// The socket, as it is now: another may have taken its memory.
    pub socket: OpenSocket,
    /// Which of the sockets that were asked for.
    pub asked: u32,
    /// Index of the interface that it is bound to, or 0.
    pub interface: u32,
    /// Next byte that is expected of the peer.
    pub received: u32,
    /// Next byte that the program will read.
    pub read: u32,
    /// Next byte that the program will write.
    pub written: u32,
    /// First byte that the peer has not acknowledged.
    pub unacknowledged: u32,
    /// When data was last sent, jiffies.
    pub last_sent: u32,
    /// When data last came, jiffies.
    pub last_received: u32,
    /// Of a listener: connections that wait to be accepted.
    pub queued: u32,
    /// Of a listener: how many may.
    pub queue_limit: u32,
    /// Of a listener: what it has dropped.
    pub drops: u32,
    /// Retransmissions by timeout that nothing has answered yet.
    pub retransmits: u8,
    /// Zero.
    pub padding: [u8; 3],
}

/// A process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Task {
    /// Kernel address of its leading thread.
    pub task: u64,
    /// When it started, as the kernel keeps it: tells it from another at the same address.
    pub started: u64,
    /// Name of the leading thread.
    pub comm: [u8; COMM_LEN],
    /// See [`crate::record::TransitionRecord::task_cgroup`].
    pub cgroup: u64,
    /// Process id in the initial pid namespace.
    pub pid: u32,
    /// Zero.
    pub padding: u32,
}

/// A process holds a descriptor of a TCP or MPTCP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Holding {
    /// Kernel address of the socket.
    pub socket: u64,
    /// Which of the tasks that were asked for.
    pub task: u32,
    /// Zero.
    pub padding: u32,
}

/// What the transition program takes over of a socket that was open before it was attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Found {
    /// When it was found, boot time ns.
    pub since_ns: u64,
    /// See [`crate::record::TransitionRecord::task_cgroup`].
    pub task_cgroup: u64,
    /// Peer address, after IPv4-mapped addresses became IPv4.
    pub peer: [u32; 4],
    /// Network namespace inode.
    pub netns: u32,
    /// Local port, host order.
    pub local_port: u16,
    /// Peer port, host order.
    pub peer_port: u16,
    /// See [`crate::record::TransitionRecord::owner_pid`].
    pub owner_pid: u32,
    /// Name of the owner.
    pub owner_comm: [u8; COMM_LEN],
    /// See [`crate::record::owner`].
    pub owner_source: u8,
    /// See [`crate::record::role`].
    pub role: u8,
    /// State that it was found in.
    pub state: u8,
    /// Zero.
    pub padding: u8,
}

const _: () = assert!(
    size_of::<Holding>() * HOLDINGS <= TOLD
        && size_of::<Task>() * TASKS <= TOLD
        && size_of::<CloseLook>() * CLOSE_LOOKS <= TOLD
        && TABLES * 8 <= TOLD
);
