//! The judgement on one transition: which traces want it, and whether its socket is still worth a record.
//!
//! The same code runs in the eBPF program (over maps) and in user space (over slices, for the property tests).
//! Every function is inlined: to the verifier the program is one straight piece.

use crate::record::{UNKNOWN_NS, flag, role};
use crate::rule::{
    CgroupSets, MAX_TRACES, RuleTable, TraceSet, dimension, family_role_index, transition_index,
};
use crate::verifier::{highest_bit_everywhere, masked};

/// An address as four words that lie in memory as the address does on the wire; IPv4 in the first, zeros behind.
pub type Address = [u32; 4];

/// An address's sixteen bytes as words.
#[inline(always)]
pub fn address_words(bytes: [u8; 16]) -> Address {
    bytemuck::cast(bytes)
}

/// The tables of one slot beside [`RuleTable`].
pub trait Tables {
    /// The entry of a cgroup: (matched, pending), or `None` when it has none.
    fn cgroup(&self, id: u64) -> Option<(TraceSet, TraceSet)>;
    /// The traces that select a network namespace by its inode number.
    fn netns(&self, inode: u32) -> TraceSet;
    /// The class of a port.
    fn port_class(&self, peer: bool, port: u16) -> u16;
    /// The traces that accept a peer address: the set stored for its longest prefix.
    fn peer_prefix(&self, family: u8, address: &Address) -> TraceSet;
}

/// What a connection is, as far as it is known at this transition.
#[derive(Clone, Copy, Debug)]
pub struct Connection {
    /// cgroup2 id, 0 when it cannot be read.
    pub cgroup_id: u64,
    /// Network namespace inode, 0 when it cannot be read.
    pub netns: u32,
    /// 4 or 6.
    pub family: u8,
    /// See [`crate::record::role`].
    pub role: u8,
    /// 0 at CLOSE -> SYN_SENT of an unbound client: not yet known.
    pub local_port: u16,
    /// 0 for listeners, and at LISTEN -> SYN_RECV before about 6.15.
    pub peer_port: u16,
    /// Address of the other end.
    pub peer: Address,
    /// A listening socket: it has no peer, and its children may be of either family.
    pub listener: bool,
}

impl Connection {
    #[inline(always)]
    fn local_known(&self) -> bool {
        self.local_port != 0
    }

    /// A client's peer is set before its first transition, even the port 0 that `connect()` lets through; only a
    /// child of a listener may still be without.
    #[inline(always)]
    fn peer_known(&self) -> bool {
        self.peer_port != 0 || (self.role == role::CLIENT && !self.listener)
    }
}

/// What the connection's own properties leave of the live traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interest {
    /// Traces that may want some transition of this connection or of its children: it is worth a record.
    pub candidates: TraceSet,
    /// The candidates whose connection properties all accept, or are undecided.
    pub accept: TraceSet,
    /// The part of `accept` that waits for the address or port.
    pub undecided: TraceSet,
    /// The part of `accept` that waits for the cgroup's identity.
    pub pending: TraceSet,
}

/// Traces that want a transition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Wanted {
    /// For certain.
    pub traces: TraceSet,
    /// If the cgroup turns out to be theirs.
    pub maybe: TraceSet,
}

impl Wanted {
    /// No trace wants it.
    #[inline(always)]
    pub const fn is_empty(self) -> bool {
        self.traces | self.maybe == 0
    }
}

/// A cgroup's (accepting, pending) traces among those constrained by cgroup. A key absent from the map may be any
/// pod's, and where the cgroup cannot be read (id 0) user space may know better: pending for all of them.
#[inline(always)]
fn judge_cgroup(tables: &impl Tables, constrained: TraceSet, id: u64) -> (TraceSet, TraceSet) {
    let known = if id == 0 { None } else { tables.cgroup(id) };
    let (matched, pending) = known.unwrap_or((0, constrained));
    (matched & constrained, pending & !matched & constrained)
}

/// What family and role leave of the traces they constrain: `(accepting or undecided, undecided)`. The role is
/// known at once. Without a peer an `AF_INET6` child may yet turn out IPv4-mapped; an `AF_INET` one stays what it is.
#[inline(always)]
fn judge_family_role(
    rules: &RuleTable,
    constrained: TraceSet,
    connection: &Connection,
) -> (TraceSet, TraceSet) {
    let accept = rules.family_role[masked::<7>(family_role_index(connection.family, connection.role))];
    if connection.listener || connection.peer_known() || connection.family != 6 {
        return (accept, 0);
    }
    let mapped = rules.family_role[masked::<7>(family_role_index(4, connection.role))];
    (accept | mapped, constrained & (accept ^ mapped))
}

/// What the tuple leaves of `mask`: `(accepting or undecided, undecided)`.
#[inline(always)]
fn judge_tuple_of(
    tables: &impl Tables,
    rules: &RuleTable,
    mut mask: TraceSet,
    connection: &Connection,
) -> (TraceSet, TraceSet) {
    let mut undecided = rules.none;
    let by_family = rules.constrained[dimension::FAMILY_ROLE];
    if mask & by_family != 0 {
        let (accept, waiting) = judge_family_role(rules, by_family, connection);
        mask &= accept | !by_family;
        undecided |= waiting;
    }
    let by_local = rules.constrained[dimension::LOCAL_PORT];
    if mask & by_local != 0 {
        if connection.local_known() {
            let class = tables.port_class(false, connection.local_port) as usize;
            mask &= rules.local_port.get(class).copied().unwrap_or(0) | !by_local;
        } else {
            undecided |= by_local;
        }
    }
    let by_peer = rules.constrained[dimension::PEER_PORT];
    if mask & by_peer != 0 {
        if connection.peer_known() {
            let class = tables.port_class(true, connection.peer_port) as usize;
            mask &= rules.peer_port.get(class).copied().unwrap_or(0) | !by_peer;
        } else {
            undecided |= by_peer;
        }
    }
    let by_prefix = rules.constrained[dimension::PEER_CIDR];
    if mask & by_prefix != 0 {
        if connection.peer_known() {
            mask &= tables.peer_prefix(connection.family, &connection.peer) | !by_prefix;
        } else {
            undecided |= by_prefix;
        }
    }
    (mask, mask & undecided)
}

/// What the cgroup and the network namespace leave of the live traces: `(accepting or pending, pending)`. First,
/// because most sockets of a busy node are nobody's.
#[inline(always)]
pub fn judge_identity(
    tables: &impl Tables,
    rules: &RuleTable,
    cgroup_id: u64,
    netns: u32,
) -> (TraceSet, TraceSet) {
    let mut mask = rules.live;
    let mut pending = rules.none;
    let by_cgroup = rules.constrained[dimension::CGROUP];
    if by_cgroup != 0 {
        let (matched, waiting) = judge_cgroup(tables, by_cgroup, cgroup_id);
        mask &= matched | waiting | !by_cgroup;
        pending = waiting;
    }
    let by_netns = rules.constrained[dimension::NETNS];
    if mask & by_netns != 0 {
        mask &= tables.netns(netns) | !by_netns;
    }
    (mask, pending & mask)
}

/// The traces that accept the tuple and role, whatever their cgroup: `(accepting or undecided, undecided)`. Once
/// nothing is undecided the answer holds for the rest of the connection, as long as the generation stands.
#[inline(always)]
pub fn judge_tuple(tables: &impl Tables, rules: &RuleTable, connection: &Connection) -> (TraceSet, TraceSet) {
    judge_tuple_of(tables, rules, rules.live, connection)
}

/// Puts the answers of [`judge_identity`] and [`judge_tuple`] together.
#[inline(always)]
pub fn combine(identity: (TraceSet, TraceSet), tuple: (TraceSet, TraceSet), listener: bool) -> Interest {
    let (mask, pending) = identity;
    let accept = mask & tuple.0;
    let undecided = accept & tuple.1;
    if listener {
        // A listener has no peer, so a trace that names one never wants its own transitions; its children are
        // another matter, and inherit the listener's record.
        let accept = accept & !undecided;
        return Interest { candidates: mask, accept, undecided: 0, pending: pending & accept };
    }
    Interest { candidates: accept, accept, undecided, pending: pending & accept }
}

/// Judges everything that does not change from transition to transition.
#[inline(always)]
pub fn judge_connection(tables: &impl Tables, rules: &RuleTable, connection: &Connection) -> Interest {
    let identity = judge_identity(tables, rules, connection.cgroup_id, connection.netns);
    combine(identity, judge_tuple(tables, rules, connection), connection.listener)
}

/// All ones when `value >= threshold`, else 0, without a branch: seven branches in a row would be a hundred paths for
/// the verifier to follow. The borrow of a subtraction (H. S. Warren, Hacker's Delight, 2-12).
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "all ones, or none")]
fn at_least(value: u64, threshold: u64) -> usize {
    let borrow = (!value & threshold) | ((!value | threshold) & value.wrapping_sub(threshold));
    !highest_bit_everywhere(borrow) as usize
}

/// The traces that accept a time in the old state. An unknown time matches none that asks for a minimum; a time
/// that is a lower bound counts as it is.
#[inline(always)]
fn judge_duration(rules: &RuleTable, duration_ns: u64) -> TraceSet {
    let by_duration = rules.constrained[dimension::DURATION];
    if by_duration == 0 {
        return TraceSet::MAX;
    }
    if duration_ns == UNKNOWN_NS {
        return !by_duration;
    }
    let mut reached = 0_usize;
    let mut step = 32_usize;
    while step > 0 {
        let threshold = rules.duration_threshold[masked::<{ MAX_TRACES - 1 }>(reached + step - 1)];
        reached += step & at_least(duration_ns, threshold);
        step >>= 1;
    }
    // Below 64 so far.
    let last = masked::<{ MAX_TRACES - 1 }>(reached);
    reached = last + (1 & at_least(duration_ns, rules.duration_threshold[last]));
    rules.duration.get(masked::<127>(reached)).copied().unwrap_or(0) | !by_duration
}

/// The traces that want a transition, given what is left of the connection's.
#[inline(always)]
pub fn judge_transition(
    rules: &RuleTable,
    interest: &Interest,
    old_state: u8,
    new_state: u8,
    duration_ns: u64,
) -> Wanted {
    let by_transition = rules.constrained[dimension::TRANSITION];
    let mut mask = interest.accept;
    if mask & by_transition != 0 {
        mask &= match transition_index(old_state, new_state) {
            Some(index) => rules.transition[masked::<255>(index)],
            None => rules.any_transition,
        } | !by_transition;
    }
    if mask != 0 {
        mask &= judge_duration(rules, duration_ns);
    }
    Wanted { traces: mask & !interest.pending, maybe: mask & interest.pending }
}

/// An IPv4-mapped address (`::ffff:a.b.c.d`, RFC 4291 section 2.5.5.2).
#[inline(always)]
pub const fn is_v4_mapped(address: &Address) -> bool {
    address[0] | address[1] == 0 && address[2] == u32::from_ne_bytes([0, 0, 0xff, 0xff])
}

/// Makes IPv4-mapped addresses IPv4, in place, and returns the flags to set. A dual-stack socket with one address
/// unspecified follows the other.
#[inline(always)]
pub fn normalise(family: &mut u8, local: &mut Address, peer: &mut Address) -> u16 {
    if *family != 6 || !(is_v4_mapped(peer) || is_v4_mapped(local)) {
        return 0;
    }
    *family = 4;
    *local = [local[3], 0, 0, 0];
    *peer = [peer[3], 0, 0, 0];
    flag::V4_MAPPED
}

/// A cgroup's sets in one slot.
#[inline(always)]
pub fn slot_sets(sets: &CgroupSets, slot: u32) -> (TraceSet, TraceSet) {
    if slot & 1 == 0 { (sets.matched[0], sets.pending[0]) } else { (sets.matched[1], sets.pending[1]) }
}
