//! The judgement on one transition: which traces want it, and whether its socket is still worth a record.
//!
//! The same code runs in the eBPF program (over maps) and in user space (over slices, for the property tests).
//! Every function is inlined: to the verifier the program is one straight piece.

use crate::record::{UNKNOWN_NS, flag, role};
use crate::rule::{CgroupSets, MAX_TRACES, RuleTable, TraceSet, dimension, family_role_index};
use crate::verifier::{any_bit, any_bit_everywhere, bit_everywhere, forget, highest_bit, masked, select};

/// An address as four words that lie in memory as the address does on the wire; IPv4 in the first, zeros behind.
pub type Address = [u32; 4];

/// An address's sixteen bytes as words.
#[inline(always)]
pub fn address_words(bytes: [u8; 16]) -> Address {
    bytemuck::cast(bytes)
}

/// The tables of one half beside [`RuleTable`].
pub trait Tables {
    /// The entry of a cgroup: (matched, maybe), or `None` when it has none.
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
    /// All ones for a listening socket, else 0: it has no peer, and its children may be of either family.
    pub listener: u64,
}

impl Connection {
    /// All ones where the local port is known, else 0.
    #[inline(always)]
    fn local_known(&self) -> u64 {
        any_bit_everywhere(self.local_port.into())
    }

    /// All ones where the peer is known, else 0. A client's peer is set before its first transition, even the port 0
    /// that `connect()` lets through; only a child of a listener may still be without.
    #[inline(always)]
    fn peer_known(&self) -> u64 {
        let client = !any_bit_everywhere((self.role ^ role::CLIENT).into());
        any_bit_everywhere(self.peer_port.into()) | (client & !self.listener)
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
    pub maybe: TraceSet,
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

    /// 1 if some trace wants it, or may, else 0.
    #[inline(always)]
    pub fn count(self) -> u64 {
        any_bit(self.traces | self.maybe)
    }
}

/// A cgroup's (accepting, maybe) traces among those constrained by cgroup. A key absent from the map may be any
/// pod's, and where the cgroup cannot be read (id 0) user space may know better: maybe for all of them.
#[inline(always)]
fn judge_cgroup(tables: &impl Tables, constrained: TraceSet, id: u64) -> (TraceSet, TraceSet) {
    let known = if id == 0 { None } else { tables.cgroup(id) };
    let (matched, maybe) = known.unwrap_or((0, constrained));
    (matched & constrained, maybe & !matched & constrained)
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
    let mapped = rules.family_role[masked::<7>(family_role_index(4, connection.role))];
    // Where the family is 4, both are the same.
    let open = !(connection.listener | connection.peer_known());
    (accept | (mapped & open), constrained & (accept ^ mapped) & open)
}

/// What the local port, or the peer's, leaves of `mask`. `known`: all ones or 0. An unknown port is that of some class
/// too, of which nothing is taken.
#[inline(always)]
fn judge_port<const PEER: bool>(
    tables: &impl Tables,
    rules: &RuleTable,
    mask: TraceSet,
    port: u16,
    known: u64,
) -> TraceSet {
    let constrained = rules.constrained[if PEER { dimension::PEER_PORT } else { dimension::LOCAL_PORT }];
    if mask & constrained == 0 {
        return mask;
    }
    let class = tables.port_class(PEER, port) as usize;
    let accept = if PEER { rules.peer_port.get(class) } else { rules.local_port.get(class) };
    mask & (accept.copied().unwrap_or(0) | !(constrained & known))
}

/// Whether the ports alone keep every trace of `mask` from a connection, which is no listener. Asked first, when nothing
/// is known of the socket but its ports; 0 where a port is not known yet. `chosen_from`: between which two the kernel
/// chooses the local one, both 0 where nobody knows.
#[inline(always)]
pub fn ports_exclude(
    tables: &impl Tables,
    rules: &RuleTable,
    mask: TraceSet,
    (local_port, peer_port): (u16, u16),
    chosen_from: impl FnOnce() -> [u32; 2],
) -> bool {
    let by_local = rules.constrained[dimension::LOCAL_PORT];
    if mask & !(by_local | rules.constrained[dimension::PEER_PORT]) != 0 {
        return false;
    }
    let peer_known = any_bit_everywhere(peer_port.into());
    let left = judge_port::<true>(tables, rules, mask, peer_port, peer_known);
    if left == 0 {
        return true;
    }
    if left & !by_local != 0 {
        return false;
    }
    if local_port != 0 {
        return judge_port::<false>(tables, rules, left, local_port, u64::MAX) == 0;
    }
    let ([low, high], [lowest, highest]) = (chosen_from(), rules.local_ports);
    high != 0 && (high < lowest || highest < low)
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
    let (local_known, peer_known) = (connection.local_known(), connection.peer_known());
    let by_family = rules.constrained[dimension::FAMILY_ROLE];
    if mask & by_family != 0 {
        let (accept, waiting) = judge_family_role(rules, by_family, connection);
        mask &= accept | !by_family;
        undecided |= waiting;
    }
    mask = judge_port::<false>(tables, rules, mask, connection.local_port, local_known);
    undecided |= rules.constrained[dimension::LOCAL_PORT] & !local_known;
    mask = judge_port::<true>(tables, rules, mask, connection.peer_port, peer_known);
    undecided |= rules.constrained[dimension::PEER_PORT] & !peer_known;
    let by_prefix = rules.constrained[dimension::PEER_CIDR];
    if mask & by_prefix != 0 {
        let accept = tables.peer_prefix(connection.family, &connection.peer);
        mask &= accept | !(by_prefix & peer_known);
        undecided |= by_prefix & !peer_known;
    }
    let mask = forget(mask, rules.none);
    (mask, mask & forget(undecided, rules.none))
}

/// What the cgroup and the network namespace leave of the live traces: `(accepting or maybe, maybe)`. First,
/// because most sockets of a busy node are nobody's; `netns` is asked only where a trace looks at it.
#[inline(always)]
pub fn judge_identity(
    tables: &impl Tables,
    rules: &RuleTable,
    cgroup_id: u64,
    netns: impl FnOnce() -> u32,
) -> (TraceSet, TraceSet) {
    let mut mask = rules.live;
    let mut maybe = rules.none;
    let by_cgroup = rules.constrained[dimension::CGROUP];
    if by_cgroup != 0 {
        let (matched, waiting) = judge_cgroup(tables, by_cgroup, cgroup_id);
        mask &= matched | waiting | !by_cgroup;
        maybe = waiting;
    }
    let by_netns = rules.constrained[dimension::NETNS];
    if mask & by_netns != 0 {
        mask &= tables.netns(netns()) | !by_netns;
    }
    let mask = forget(mask, rules.none);
    (mask, forget(maybe, rules.none) & mask)
}

/// The traces that accept the tuple and role, whatever their cgroup: `(accepting or undecided, undecided)`. Once
/// nothing is undecided the answer holds for the rest of the connection, as long as the generation stands.
#[inline(always)]
pub fn judge_tuple(tables: &impl Tables, rules: &RuleTable, connection: &Connection) -> (TraceSet, TraceSet) {
    judge_tuple_of(tables, rules, rules.live, connection)
}

/// Puts the answers of [`judge_identity`] and [`judge_tuple`] together. `listener` as in [`Connection`].
#[inline(always)]
pub fn combine(identity: (TraceSet, TraceSet), tuple: (TraceSet, TraceSet), listener: u64) -> Interest {
    let (mask, maybe) = identity;
    let accept = mask & tuple.0;
    let undecided = accept & tuple.1;
    // A listener has no peer, so a trace that names one never wants its own transitions; its children are another
    // matter, and inherit the listener's record.
    let candidates = accept | (mask & listener);
    let accept = accept & !(undecided & listener);
    Interest { candidates, accept, undecided: undecided & !listener, maybe: maybe & accept }
}

/// Judges everything that does not change from transition to transition.
#[inline(always)]
pub fn judge_connection(tables: &impl Tables, rules: &RuleTable, connection: &Connection) -> Interest {
    let identity = judge_identity(tables, rules, connection.cgroup_id, || connection.netns);
    combine(identity, judge_tuple(tables, rules, connection), connection.listener)
}

/// 1 when `value >= threshold`, else 0, without a branch: seven branches in a row would be a hundred paths for the
/// verifier to follow. The borrow of a subtraction (H. S. Warren, Hacker's Delight, 2-12).
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "0 or 1")]
fn at_least(value: u64, threshold: u64) -> usize {
    let borrow = (!value & threshold) | ((!value | threshold) & value.wrapping_sub(threshold));
    highest_bit(!borrow) as usize
}

/// The traces that accept a time in the old state. An unknown time matches none that asks for a minimum; a time
/// that is a lower bound counts as it is.
#[inline(always)]
fn judge_duration(rules: &RuleTable, duration_ns: u64) -> TraceSet {
    let by_duration = rules.constrained[dimension::DURATION];
    let known = any_bit_everywhere(duration_ns ^ UNKNOWN_NS);
    let mut reached = 0_usize;
    let mut power = 6_u32;
    while power > 0 {
        power -= 1;
        let last = reached + (1 << power) - 1;
        let threshold = rules.duration_threshold[masked::<{ MAX_TRACES - 1 }>(last)];
        reached += at_least(duration_ns, threshold) << power;
    }
    // Below 64 so far.
    let last = masked::<{ MAX_TRACES - 1 }>(reached);
    reached = last + at_least(duration_ns, rules.duration_threshold[last]);
    (rules.duration.get(masked::<127>(reached)).copied().unwrap_or(0) & known) | !by_duration
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
        let outside = any_bit_everywhere(u64::from(old_state | new_state) >> 4);
        let known = rules.transition[masked::<255>(((old_state & 15) << 4 | (new_state & 15)) as usize)];
        mask &= select(outside, rules.any_transition, known) | !by_transition;
    }
    if mask & rules.constrained[dimension::DURATION] != 0 {
        mask &= judge_duration(rules, duration_ns);
    }
    let mask = forget(mask, rules.none);
    Wanted { traces: mask & !interest.maybe, maybe: mask & interest.maybe }
}

/// All ones for an IPv4-mapped address (`::ffff:a.b.c.d`, RFC 4291 section 2.5.5.2), else 0.
#[inline(always)]
fn v4_mapped(address: &Address) -> u64 {
    let differs = address[0] | address[1] | (address[2] ^ u32::from_ne_bytes([0, 0, 0xff, 0xff]));
    !any_bit_everywhere(differs.into())
}

/// Makes IPv4-mapped addresses IPv4, in place, and returns the flags to set. A dual-stack socket with one address
/// unspecified follows the other.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "masks, of which the lowest bits are as good, and single bits"
)]
pub fn normalise(family: &mut u8, local: &mut Address, peer: &mut Address) -> u16 {
    // 6 is the only family with this bit.
    let mapped = bit_everywhere::<1>((*family).into()) & (v4_mapped(peer) | v4_mapped(local));
    let is_mapped = highest_bit(mapped);
    *family ^= (is_mapped as u8) << 1;
    for address in [local, peer] {
        address[0] = select(mapped, address[3].into(), address[0].into()) as u32;
        address[1] &= !mapped as u32;
        address[2] &= !mapped as u32;
        address[3] &= !mapped as u32;
    }
    (is_mapped as u16) << flag::V4_MAPPED.trailing_zeros()
}

/// A cgroup's sets in one half.
#[inline(always)]
pub fn half_sets(sets: &CgroupSets, half: u32) -> (TraceSet, TraceSet) {
    let half = masked::<1>(half as usize);
    (sets.matched[half], sets.maybe[half])
}
