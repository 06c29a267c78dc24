//! Random traces and events for the tests. Values come from small pools, so that rules overlap and events hit them.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use kube_tcpstates_common::classify::{Address, Connection, address_words};
use kube_tcpstates_common::record::UNKNOWN_NS;
use kube_tcpstates_common::rule::TraceSet;
use kube_tcpstates_common::state::State;
use proptest::collection::{btree_set, hash_map, vec};
use proptest::option;
use proptest::prelude::{Just, Strategy, any, prop_oneof};

use super::linear::Event;
use super::{CgroupChoice, Cidr, Mode, PortRange, Reason, StateSet, TraceFilter, TransitionFilter};
use crate::decode::{NetworkType, Role};

pub(super) type Cgroups = HashMap<u64, (TraceSet, TraceSet)>;

/// Few distinct numbers, and the ends.
pub(super) fn port() -> impl Strategy<Value = u16> {
    prop_oneof![4 => 1..40_u16, 1 => Just(u16::MAX), 1 => 1..=u16::MAX]
}

pub(super) fn port_range() -> impl Strategy<Value = PortRange> {
    (port(), port()).prop_map(|(a, b)| PortRange::new(a.min(b), a.max(b)).unwrap())
}

/// Addresses that differ in few bits, at both ends and around byte edges.
pub(super) fn v4() -> impl Strategy<Value = Ipv4Addr> {
    (0..4_u32, 0..4_u32, 0..4_u32, 0..4_u32)
        .prop_map(|(a, b, c, d)| Ipv4Addr::from_bits(a << 30 | b << 23 | c << 15 | d))
}

pub(super) fn v6() -> impl Strategy<Value = Ipv6Addr> {
    (0..4_u128, 0..4_u128, 0..4_u128, 0..4_u128)
        .prop_map(|(a, b, c, d)| Ipv6Addr::from_bits(a << 126 | b << 95 | c << 63 | d))
}

pub(super) fn cidr() -> impl Strategy<Value = Cidr> {
    let masked = |address: IpAddr, len: u8| {
        // The error of a prefix with host bits names the one without.
        Cidr::new(address, len).or_else(|error| match error {
            Reason::HostBits(text) => text.parse(),
            other => Err(other),
        })
    };
    prop_oneof![
        (v4(), 0..=32_u8).prop_map(move |(address, len)| masked(address.into(), len).unwrap()),
        (v6(), 0..=128_u8).prop_map(move |(address, len)| masked(address.into(), len).unwrap()),
    ]
}

pub(super) fn states() -> impl Strategy<Value = StateSet> {
    let seen: Vec<State> =
        State::all().filter(|state| ![State::TIME_WAIT, State::NEW_SYN_RECV].contains(state)).collect();
    proptest::sample::subsequence(seen, 0..4).prop_map(|states| StateSet::of(states).unwrap())
}

pub(super) fn transition() -> impl Strategy<Value = TransitionFilter> {
    (states(), states()).prop_filter_map("any to any", |(from, to)| TransitionFilter::new(from, to).ok())
}

pub(super) fn trace() -> impl Strategy<Value = TraceFilter> {
    let sometimes = |items| prop_oneof![2 => Just(0..1), 1 => Just(items)];
    (
        (
            prop_oneof![3 => Just(Mode::Transitions), 1 => Just(Mode::Connections), 1 => Just(Mode::Summary)],
            prop_oneof![Just(CgroupChoice::Any), Just(CgroupChoice::Selected)],
        ),
        prop_oneof![2 => Just(None), 1 => Just(Some(NetworkType::Ipv4)), 1 => Just(Some(NetworkType::Ipv6))],
        prop_oneof![2 => Just(None), 1 => Just(Some(Role::Client)), 1 => Just(Some(Role::Server))],
        sometimes(1..6).prop_flat_map(|size| vec(port_range(), size)),
        sometimes(1..6).prop_flat_map(|size| vec(port_range(), size)),
        sometimes(1..8).prop_flat_map(|size| vec(cidr(), size)),
        sometimes(1..4).prop_flat_map(|size| vec(transition(), size)),
        option::weighted(0.3, btree_set(0..5_u32, 0..4)),
        option::weighted(0.4, (0..8_u64).prop_map(|step| Duration::from_nanos(step * 100))),
    )
        .prop_map(
            |(
                (mode, cgroups),
                family,
                role,
                local_ports,
                peer_ports,
                peer_cidrs,
                transitions,
                netns,
                min_duration,
            )| {
                TraceFilter {
                    mode,
                    cgroups,
                    family,
                    role,
                    local_ports,
                    peer_ports,
                    peer_cidrs,
                    transitions,
                    netns,
                    min_duration,
                }
            },
        )
}

/// Entries for cgroups 1 to 4; 5 is absent, 0 cannot be read.
pub(super) fn cgroups() -> impl Strategy<Value = Cgroups> {
    hash_map(1..=4_u64, (any::<u64>(), any::<u64>()), 0..=4)
}

/// An address as the kernel program holds it.
pub(super) fn words(address: IpAddr) -> Address {
    let mut bytes = [0; 16];
    match address {
        IpAddr::V4(address) => bytes[..4].copy_from_slice(&address.octets()),
        IpAddr::V6(address) => bytes = address.octets(),
    }
    address_words(bytes)
}

pub(super) fn peer() -> impl Strategy<Value = IpAddr> {
    prop_oneof![v4().prop_map(IpAddr::from), v6().prop_map(IpAddr::from)]
}

/// The number the kernel program has for an address's family.
pub(super) fn family_of(address: IpAddr) -> u8 {
    if address.is_ipv4() { 4 } else { 6 }
}

pub(super) fn connection() -> impl Strategy<Value = Connection> {
    let maybe_port = || prop_oneof![1 => Just(0), 3 => port()];
    (0..=5_u64, 0..6_u32, peer(), 0..=3_u8, maybe_port(), maybe_port(), proptest::bool::weighted(0.2))
        .prop_map(|(cgroup_id, netns, peer, role, local_port, peer_port, listener)| Connection {
            cgroup_id,
            netns,
            family: family_of(peer),
            role,
            local_port,
            peer_port: if listener { 0 } else { peer_port },
            peer: words(peer),
            listener: u64::from(listener).wrapping_neg(),
        })
}

pub(super) fn event() -> impl Strategy<Value = Event> {
    let state = || prop_oneof![8 => 0..16_u8, 1 => any::<u8>()];
    let duration = prop_oneof![
        4 => 0..900_u64,
        4 => (0..9_u64).prop_map(|step| step * 100),
        1 => Just(UNKNOWN_NS),
        1 => Just(UNKNOWN_NS - 1),
    ];
    (connection(), state(), state(), duration).prop_map(|(connection, old_state, new_state, duration_ns)| {
        Event { connection, old_state, new_state, duration_ns }
    })
}
