//! The filter tables: bit vectors, one bit for each live trace.
//!
//! Each dimension maps a value to the set of traces that accept it; a transition's traces are the AND of the sets
//! (T. V. Lakshman and D. Stiliadis, SIGCOMM 1998). Two halves exist of everything: the program uses half
//! `generation & 1` throughout one run, user space fills the other and flips.

use bytemuck::{Pod, Zeroable};

/// A set of traces.
pub type TraceSet = u64;
/// Traces that can be live at once.
pub const MAX_TRACES: usize = 64;
/// Halves of every table.
pub const HALVES: usize = 2;
/// Rule tables: one for each half, and an empty one for each, by which nobody is traced once the lease has ended.
pub const RULE_TABLES: usize = 4;
/// Distinct port classes: 64 traces of 32 ranges cut the ports into at most 2 * 64 * 32 + 1 pieces.
pub const PORT_CLASSES: usize = 4104;
/// Ports.
pub const PORTS: usize = 65_536;
/// Entries in each longest-prefix map: 64 traces of 64 prefixes and the default.
pub const MAX_PREFIXES: u32 = 4_097;
/// What hash maps carry in the object in place of their flags. User space puts `BPF_F_NO_PREALLOC` there, or 0 where the
/// programs must not allocate. No number that an object would have for another reason, and no flag that aya refuses.
pub const HASH_FLAGS: u32 = 0x4f1a_95e1;
/// Entries in the cgroup map.
pub const MAX_CGROUPS: u32 = 65_536;
/// Entries in the network namespace map.
pub const MAX_NETNS: u32 = 16_384;

/// A dimension of the filter, an index into [`RuleTable::constrained`].
pub mod dimension {
    /// The socket's cgroup.
    pub const CGROUP: usize = 0;
    /// Old and new state.
    pub const TRANSITION: usize = 1;
    /// Address family and role.
    pub const FAMILY_ROLE: usize = 2;
    /// Local port.
    pub const LOCAL_PORT: usize = 3;
    /// Peer port.
    pub const PEER_PORT: usize = 4;
    /// Peer address.
    pub const PEER_CIDR: usize = 5;
    /// Network namespace.
    pub const NETNS: usize = 6;
    /// Time in the old state.
    pub const DURATION: usize = 7;
    /// How many there are.
    pub const COUNT: usize = 8;
}

/// The part of the rules that every transition may look at: one array element for each half.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct RuleTable {
    /// Traces that are loaded.
    pub live: TraceSet,
    /// Always empty. A constant 0 in the program would be a path of its own to the verifier wherever it meets another
    /// value; an empty set that it does not know to be empty is not.
    pub none: TraceSet,
    /// By [`dimension`]: the traces that say something about it. Others accept every value.
    pub constrained: [TraceSet; dimension::COUNT],
    /// Not 0: a socket's record may hold a transition that waits for a port or a peer, under these rules or from earlier
    /// ones.
    pub may_hold: TraceSet,
    /// The lowest and the highest local port that some trace asks for.
    pub local_ports: [u32; 2],
    /// Traces that want connections instead of transitions: one record, at the end of each.
    pub stories: TraceSet,
    /// By `(old << 4 | new)`, see [`transition_index`].
    pub transition: [TraceSet; 256],
    /// For a state outside 0..16: the traces that accept any transition.
    pub any_transition: TraceSet,
    /// By [`family_role_index`].
    pub family_role: [TraceSet; 8],
    /// Minimum durations in ns, ascending, padded with `u64::MAX`.
    pub duration_threshold: [u64; MAX_TRACES],
    /// By the number of thresholds reached: the traces that accept.
    pub duration: [TraceSet; MAX_TRACES + 1],
    /// By class of the local port.
    pub local_port: [TraceSet; PORT_CLASSES],
    /// By class of the peer port.
    pub peer_port: [TraceSet; PORT_CLASSES],
}

/// Index into [`RuleTable::transition`], or `None` when a state is outside 0..16.
#[inline(always)]
pub const fn transition_index(old_state: u8, new_state: u8) -> Option<usize> {
    if old_state < 16 && new_state < 16 {
        Some(((old_state as usize) << 4) | new_state as usize)
    } else {
        None
    }
}

/// Index into [`RuleTable::family_role`] for family 4 or 6 and a number of [`crate::record::role`].
#[inline(always)]
pub const fn family_role_index(family: u8, role: u8) -> usize {
    ((family as usize & 2) << 1) | (role as usize & 3)
}

/// A cgroup's traces, for both halves, so that pod churn needs no swap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct CgroupSets {
    /// Traces that select this cgroup.
    pub matched: [TraceSet; HALVES],
    /// Traces that could still select it.
    pub maybe: [TraceSet; HALVES],
    /// Not 0: a cgroup made below it starts with the same sets. Otherwise a new child has none, which leaves it to
    /// user space: below `kubepods` nobody knows what the next pod will be.
    pub inherited: u64,
}

/// A cgroup's entry in the filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct CgroupEntry {
    /// Its traces.
    pub sets: CgroupSets,
    /// Another one each time that user space writes the sets. A socket under another epoch than at its transition before
    /// may have been nobody's in between.
    pub epoch: u64,
}

/// Index of a port table: `half * 2 + side`, side 0 local, 1 peer.
#[inline(always)]
pub const fn port_table_index(half: u32, peer: bool) -> u32 {
    half * 2 + peer as u32
}

/// A set of traces as a longest-prefix map stores it, low word first: the value follows the address, and behind an
/// IPv4 address nothing is aligned to eight bytes.
pub type PrefixSet = [u32; 2];

/// Splits a set for a longest-prefix map.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the two halves of a word")]
pub const fn prefix_set(traces: TraceSet) -> PrefixSet {
    [traces as u32, (traces >> 32) as u32]
}

/// Puts a set together again.
#[inline(always)]
pub const fn prefix_traces(set: PrefixSet) -> TraceSet {
    set[0] as u64 | (set[1] as u64) << 32
}

/// The class of each port.
pub type PortClasses = [u16; PORTS];

/// What user space and the program share while it runs; mapped into user space.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct Control {
    /// Generation of the rules; its lowest bit names the half in use.
    pub generation: u32,
    /// 1 while the reader sleeps without limit: the next producer wakes it and sets 0.
    pub sleeping: u32,
    /// 1 while the reader rests for some milliseconds: a producer that finds the ring half full wakes it and sets 0.
    pub resting: u32,
    /// 1 when the reader has shown that it is there: the next program renews the lease and sets 0.
    pub renewed: u32,
    /// When the programs were attached, boot time ns. Between a detach and this nothing was seen, so what a socket's
    /// record says from before is no longer true.
    pub attached_ns: u64,
    /// Until when the programs trace without a reader, jiffies.
    pub lease: u64,
    /// 1 once a transition was left out because the lease had ended.
    pub lapsed: u64,
}
