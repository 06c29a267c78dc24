//! From up to 64 traces to the tables of one half.
//!
//! Owns no map and no generation: loading and swapping is the kernel layer's.

use kube_tcpstates_common::record::role;
use kube_tcpstates_common::rule::{
    MAX_NETNS, MAX_PREFIXES, MAX_TRACES, PORT_CLASSES, PortClasses, RuleTable, TraceSet, dimension,
    family_role_index, transition_index,
};
use std::collections::BTreeMap;
use std::net::IpAddr;

use super::cidr::prefix_sets;
use super::duration::thresholds;
use super::ports::classify_ports;
use super::{CgroupChoice, Cidr, PortRange, TraceFilter};
use crate::decode::{NetworkType, Role};

/// The tables of one half. What the cgroup map holds is not among them: it changes with the pods.
pub struct Compiled {
    /// The part every transition may look at. Boxed, as the port classes are: they are too big for a stack.
    pub table: Box<RuleTable>,
    /// Class of each local port; `None` when no trace constrains them.
    pub local_classes: Option<Box<PortClasses>>,
    /// Class of each peer port; `None` when no trace constrains them.
    pub peer_classes: Option<Box<PortClasses>>,
    /// IPv4 prefixes: length, address, set. `0.0.0.0/0` is always among them.
    pub v4_prefixes: Vec<(u8, [u8; 4], TraceSet)>,
    /// IPv6 prefixes: length, address, set. `::/0` is always among them.
    pub v6_prefixes: Vec<(u8, [u8; 16], TraceSet)>,
    /// Network namespaces by inode number. One that is not here is in no trace that constrains them.
    pub netns: Vec<(u32, TraceSet)>,
}

/// Why traces cannot be live together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// The slot is no bit of a set.
    #[error("trace slot {0} does not exist: there are {MAX_TRACES}")]
    NoSuchSlot(usize),
    /// Two traces for one bit.
    #[error("trace slot {0} is used twice")]
    SlotTaken(usize),
    /// Which ports, and the limit.
    #[error(
        "the {0} port ranges of all traces cut the ports into more than {PORT_CLASSES} kinds; use fewer ranges"
    )]
    TooManyPortRanges(&'static str),
    /// Which family, and how many.
    #[error("all traces together name {1} {0} prefixes; the limit is {max}", max = MAX_PREFIXES - 1)]
    TooManyPrefixes(&'static str, usize),
    /// How many.
    #[error("all traces together name {0} network namespaces; the limit is {MAX_NETNS}")]
    TooManyNamespaces(usize),
}

/// Compiles traces, each with its slot: the bit that stands for it in every set. Slots may be left empty.
pub fn compile<'a>(
    traces: impl IntoIterator<Item = (usize, &'a TraceFilter)>,
) -> Result<Compiled, CompileError> {
    let traces: Vec<_> = traces.into_iter().collect();
    let mut table: Box<RuleTable> = bytemuck::zeroed_box();
    for &(slot, trace) in &traces {
        if slot >= MAX_TRACES {
            return Err(CompileError::NoSuchSlot(slot));
        }
        if table.live & 1 << slot != 0 {
            return Err(CompileError::SlotTaken(slot));
        }
        table.live |= 1 << slot;
        table.stories |= TraceSet::from(trace.mode.is_of_connections()) << slot;
        constrain(&mut table, slot, trace);
        fill_transitions(&mut table, slot, trace);
        fill_family_role(&mut table, slot, trace);
    }
    for dimension in
        [dimension::FAMILY_ROLE, dimension::LOCAL_PORT, dimension::PEER_PORT, dimension::PEER_CIDR]
    {
        table.may_hold |= table.constrained[dimension];
    }
    // No trace that asks for transitions takes a state without a number in the table: any side means 0 to 15.
    table.any_transition = table.live & !table.constrained[dimension::TRANSITION];

    let minimums: Vec<_> =
        traces.iter().filter_map(|(slot, trace)| Some((*slot, trace.minimum()?))).collect();
    thresholds(&minimums, &mut table.duration_threshold, &mut table.duration);

    table.local_ports = PortRange::hull(traces.iter().flat_map(|(_, trace)| &trace.local_ports));
    let local_classes = compile_ports(&traces, |trace| &trace.local_ports, &mut table.local_port)
        .ok_or(CompileError::TooManyPortRanges("local"))?;
    let peer_classes = compile_ports(&traces, |trace| &trace.peer_ports, &mut table.peer_port)
        .ok_or(CompileError::TooManyPortRanges("peer"))?;
    let (v4_prefixes, v6_prefixes) = compile_prefixes(&traces)?;
    let netns = compile_netns(&traces)?;
    Ok(Compiled { table, local_classes, peer_classes, v4_prefixes, v6_prefixes, netns })
}

/// Marks the dimensions that a trace says something about.
fn constrain(table: &mut RuleTable, slot: usize, trace: &TraceFilter) {
    let TraceFilter {
        mode: _,
        cgroups,
        family,
        role,
        local_ports,
        peer_ports,
        peer_cidrs,
        transitions: _,
        netns,
        min_duration: _,
    } = trace;
    for (dimension, says) in [
        (dimension::CGROUP, *cgroups == CgroupChoice::Selected),
        (dimension::TRANSITION, trace.narrows_states()),
        (dimension::FAMILY_ROLE, family.is_some() || role.is_some()),
        (dimension::LOCAL_PORT, !local_ports.is_empty()),
        (dimension::PEER_PORT, !peer_ports.is_empty()),
        (dimension::PEER_CIDR, !peer_cidrs.is_empty()),
        (dimension::NETNS, netns.is_some()),
        (dimension::DURATION, trace.minimum().is_some()),
    ] {
        table.constrained[dimension] |= TraceSet::from(says) << slot;
    }
}

fn fill_transitions(table: &mut RuleTable, slot: usize, trace: &TraceFilter) {
    for old in 0..16 {
        for new in 0..16 {
            let accepts = trace.accepts_states(old, new);
            if let Some(index) = transition_index(old, new) {
                table.transition[index] |= TraceSet::from(accepts) << slot;
            }
        }
    }
}

/// A role that is not known (or is no role) is in no trace that asks for one.
fn fill_family_role(table: &mut RuleTable, slot: usize, trace: &TraceFilter) {
    for (number, family) in [(4, NetworkType::Ipv4), (6, NetworkType::Ipv6)] {
        for (index, side) in [
            (role::UNKNOWN, None),
            (role::CLIENT, Some(Role::Client)),
            (role::SERVER, Some(Role::Server)),
            (3, None),
        ] {
            let accepts = trace.family.is_none_or(|wanted| wanted == family)
                && trace.role.is_none_or(|wanted| Some(wanted) == side);
            table.family_role[family_role_index(number, index)] |= TraceSet::from(accepts) << slot;
        }
    }
}

/// `None` when there are too many kinds of port; `Some(None)` when no trace constrains them.
#[expect(clippy::option_option, reason = "the caller names the side in its error, and keeps the inner one")]
fn compile_ports(
    traces: &[(usize, &TraceFilter)],
    ports: impl Fn(&TraceFilter) -> &Vec<PortRange>,
    sets: &mut [TraceSet; PORT_CLASSES],
) -> Option<Option<Box<PortClasses>>> {
    let ranges: Vec<_> =
        traces.iter().flat_map(|(slot, trace)| ports(trace).iter().map(|range| (*slot, *range))).collect();
    if ranges.is_empty() {
        return Some(None);
    }
    let mut classes: Box<PortClasses> = bytemuck::zeroed_box();
    classify_ports(&ranges, &mut classes, sets).ok()?;
    Some(Some(classes))
}

type V4Prefixes = Vec<(u8, [u8; 4], TraceSet)>;
type V6Prefixes = Vec<(u8, [u8; 16], TraceSet)>;

fn compile_prefixes(traces: &[(usize, &TraceFilter)]) -> Result<(V4Prefixes, V6Prefixes), CompileError> {
    let all =
        || traces.iter().flat_map(|(slot, trace)| trace.peer_cidrs.iter().map(|prefix| (*slot, *prefix)));
    let mut v4 = Vec::new();
    for (prefix, set) in prefix_sets(all().filter(|(_, prefix)| prefix.is_v4()), Cidr::ANY_V4) {
        if let IpAddr::V4(address) = prefix.network() {
            v4.push((prefix.prefix_len(), address.octets(), set));
        }
    }
    let mut v6 = Vec::new();
    for (prefix, set) in prefix_sets(all().filter(|(_, prefix)| !prefix.is_v4()), Cidr::ANY_V6) {
        if let IpAddr::V6(address) = prefix.network() {
            v6.push((prefix.prefix_len(), address.octets(), set));
        }
    }
    for (family, count) in [("IPv4", v4.len()), ("IPv6", v6.len())] {
        if count > MAX_PREFIXES as usize {
            return Err(CompileError::TooManyPrefixes(family, count - 1));
        }
    }
    Ok((v4, v6))
}

fn compile_netns(traces: &[(usize, &TraceFilter)]) -> Result<Vec<(u32, TraceSet)>, CompileError> {
    let mut sets = BTreeMap::new();
    for (slot, trace) in traces {
        // Inode 0 is "could not be read", never a namespace.
        for inode in trace.netns.iter().flatten().filter(|inode| **inode != 0) {
            *sets.entry(*inode).or_insert(0) |= 1 << slot;
        }
    }
    if sets.len() > MAX_NETNS as usize {
        return Err(CompileError::TooManyNamespaces(sets.len()));
    }
    Ok(sets.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::{CompileError, Compiled, MAX_PREFIXES, PORT_CLASSES, TraceFilter, compile};
    use crate::filter::Mode;
    use crate::filter::PortRange;
    use crate::filter::cidr::parse_cidrs;
    use crate::filter::ports::parse_ports;
    use crate::filter::states::parse_transitions;
    use std::time::Duration;

    fn compiled(traces: &[TraceFilter]) -> Result<Compiled, CompileError> {
        compile(traces.iter().enumerate())
    }

    #[test]
    fn nothing_live_wants_nothing_and_needs_no_port_table() {
        let none = compiled(&[]).unwrap();
        assert_eq!(none.table.live, 0);
        assert!(none.local_classes.is_none() && none.peer_classes.is_none());
        assert_eq!(none.v4_prefixes, [(0, [0; 4], 0)]);
        assert_eq!(none.v6_prefixes, [(0, [0; 16], 0)]);
    }

    #[test]
    fn a_trace_that_asks_for_nothing_constrains_nothing() {
        let every = TraceFilter { min_duration: Some(Duration::ZERO), ..TraceFilter::default() };
        let table = compiled(&[TraceFilter::default(), every]).unwrap().table;
        assert_eq!(table.live, 0b11);
        assert_eq!(table.constrained, [0; 8]);
        assert_eq!(table.any_transition, 0b11);
    }

    #[test]
    fn a_slot_is_one_bit_and_used_once() {
        let trace = TraceFilter::default();
        assert_eq!(compile([(63, &trace), (5, &trace)]).unwrap().table.live, 1 << 63 | 1 << 5);
        assert_eq!(compile([(64, &trace)]).err(), Some(CompileError::NoSuchSlot(64)));
        assert_eq!(compile([(5, &trace), (5, &trace)]).err(), Some(CompileError::SlotTaken(5)));
    }

    #[test]
    fn a_longer_prefix_carries_the_traces_of_all_around_it() {
        let peers =
            |text| TraceFilter { peer_cidrs: parse_cidrs("f", text).unwrap(), ..TraceFilter::default() };
        let prefixes = compiled(&[
            peers("10.0.0.0/8"),
            peers("10.1.0.0/16,fd00::/8"),
            peers("0.0.0.0/0"),
            peers("10.1.2.0/24"),
        ])
        .unwrap();
        assert_eq!(
            prefixes.v4_prefixes,
            [
                (0, [0, 0, 0, 0], 0b0100),
                (8, [10, 0, 0, 0], 0b0101),
                (16, [10, 1, 0, 0], 0b0111),
                (24, [10, 1, 2, 0], 0b1111),
            ]
        );
        let mut fd = [0; 16];
        fd[0] = 0xfd;
        assert_eq!(prefixes.v6_prefixes, [(0, [0; 16], 0), (8, fd, 0b0010)]);
    }

    #[test]
    fn thresholds_are_sorted_and_their_sets_add_up() {
        let least =
            |ms| TraceFilter { min_duration: Some(Duration::from_millis(ms)), ..TraceFilter::default() };
        let table = compiled(&[least(300), least(100), least(200), least(100)]).unwrap().table;
        assert_eq!(
            table.duration_threshold[..5],
            [100_000_000, 100_000_000, 200_000_000, 300_000_000, u64::MAX]
        );
        assert_eq!(table.duration[..5], [0, 0b0010, 0b1010, 0b1110, 0b1111]);
    }

    #[test]
    fn the_most_ranges_that_resources_allow_fit_in_the_port_classes() {
        // 64 traces of 32 ranges that hardly share an edge, so that nearly every piece has a set of its own.
        let mut random = 1_u32;
        let mut edge = || {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            u16::try_from(random >> 16).unwrap().max(1)
        };
        let mut disjoint = || {
            let mut edges: Vec<u16> = (0..64).map(|_| edge()).collect();
            edges.sort_unstable();
            edges.chunks(2).map(|ends| PortRange::new(ends[0], ends[1]).unwrap()).collect()
        };
        let traces: Vec<_> =
            (0..64).map(|_| TraceFilter { local_ports: disjoint(), ..TraceFilter::default() }).collect();
        let rules = compiled(&traces).unwrap();
        let classes = rules.local_classes.unwrap();
        let used = usize::from(*classes.iter().max().unwrap()) + 1;
        assert!(used > 3_900, "the case is as bad as it was meant to be: {used}");
        assert!(used <= PORT_CLASSES);
        for (port, class) in (0..=u16::MAX).zip(classes.iter()) {
            let expected = traces.iter().enumerate().fold(0, |set, (bit, trace)| {
                set | u64::from(trace.local_ports.iter().any(|range| range.contains(port))) << bit
            });
            assert_eq!(rules.table.local_port[usize::from(*class)], expected, "port {port}");
        }
    }

    #[test]
    fn what_does_not_fit_is_an_error_and_not_a_panic() {
        let mut trace = TraceFilter::default();
        let text: Vec<String> =
            (0..=MAX_PREFIXES).map(|n| format!("10.{}.{}.0/24", n >> 8, n & 255)).collect();
        trace.peer_cidrs = parse_cidrs("f", &text.join(",")).unwrap();
        let count = MAX_PREFIXES as usize + 1;
        assert_eq!(compiled(&[trace]).err(), Some(CompileError::TooManyPrefixes("IPv4", count)));

        // Sets that differ at every port: the binary digits of its number, a trace for each digit.
        let digits: Vec<_> = (0..13)
            .map(|digit| TraceFilter {
                peer_ports: (1..8192)
                    .filter(|port| port >> digit & 1 == 1)
                    .map(|p| PortRange::new(p, p).unwrap())
                    .collect(),
                ..TraceFilter::default()
            })
            .collect();
        assert_eq!(compiled(&digits).err(), Some(CompileError::TooManyPortRanges("peer")));
    }

    #[test]
    fn a_trace_of_everything_at_once_fills_every_dimension() {
        let trace = TraceFilter {
            mode: Mode::Transitions,
            cgroups: crate::filter::CgroupChoice::Selected,
            family: Some(crate::decode::NetworkType::Ipv4),
            role: None,
            local_ports: parse_ports("f", "80").unwrap(),
            peer_ports: parse_ports("f", "443").unwrap(),
            peer_cidrs: parse_cidrs("f", "10.0.0.0/8").unwrap(),
            transitions: parse_transitions("f", "*>CLOSE").unwrap(),
            netns: Some([1].into()),
            min_duration: Some(Duration::from_millis(1)),
        };
        assert_eq!(compiled(&[trace]).unwrap().table.constrained, [1; 8]);
    }
}
