//! The classifier against the linear scan, over random rules and random events.
//!
//! Where they come from: `arbitrary`.

use std::net::IpAddr;
use std::time::Duration;

use kube_tcpstates_common::classify::{
    Connection, Interest, Tables, Wanted, combine, judge_connection, judge_identity, judge_transition,
    judge_tuple, normalise, ports_exclude,
};
use kube_tcpstates_common::record::{UNKNOWN_NS, flag, role};
use kube_tcpstates_common::rule::{PORT_CLASSES, TraceSet};
use kube_tcpstates_common::state::State;
use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, any, prop_oneof, proptest};

use super::arbitrary::{
    Cgroups, cgroups, cidr, connection, event, family_of, peer, port, port_range, trace, words,
};
use super::linear::{Event, Verdict, judge};
use super::{Compiled, TraceFilter, UserTables, compile};
use crate::decode::{NetworkType, Role};

fn classify(rules: &Compiled, cgroups: &Cgroups, event: &Event) -> (Interest, Wanted) {
    let tables = UserTables { rules, cgroups };
    let interest = judge_connection(&tables, &rules.table, &event.connection);
    (interest, judge_transition(&rules.table, &interest, event.old_state, event.new_state, event.duration_ns))
}

fn verdict(interest: &Interest, wanted: &Wanted) -> Verdict {
    assert_eq!(wanted.maybe & !interest.maybe, 0, "only the cgroup's identity makes a maybe");
    assert_eq!(wanted.traces & interest.maybe, 0, "what waits for the cgroup's identity is not certain");
    Verdict {
        candidates: interest.candidates,
        accept: interest.accept,
        undecided: interest.undecided,
        maybe: interest.maybe,
        wanted: wanted.traces | wanted.maybe,
    }
}

/// Traces at scattered slots, so that a bit is never taken for a position.
fn slotted(traces: &[TraceFilter]) -> impl Iterator<Item = (usize, &TraceFilter)> + Clone {
    traces.iter().enumerate().map(|(index, trace)| ((index * 37 + 11) % 64, trace))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn whom_the_ports_exclude_nobody_wants_whatever_port_the_kernel_chooses(
        traces in vec(trace(), 1..=4),
        cgroups in cgroups(),
        event in event(),
        unknown in any::<bool>(),
        (low, width, chosen) in (1..=65_535_u16, 0..5_000_u16, any::<u16>()),
    ) {
        let rules = compile(slotted(&traces)).unwrap();
        let tables = UserTables { rules: &rules, cgroups: &cgroups };
        let high = low.saturating_add(width);
        let mut connection = Connection { listener: 0, ..event.connection };
        connection.local_port = if unknown { 0 } else { connection.local_port };
        let identity = judge_identity(&tables, &rules.table, connection.cgroup_id, || connection.netns).0;
        let ports = (connection.local_port, connection.peer_port);
        if ports_exclude(&tables, &rules.table, identity, ports, || [low.into(), high.into()]) {
            if connection.local_port == 0 {
                connection.local_port = low + chosen % (high - low + 1);
            }
            assert_eq!(judge_connection(&tables, &rules.table, &connection).candidates, 0, "{connection:?}");
        }
    }

    #[test]
    fn the_tables_answer_as_the_traces_do_one_by_one(
        traces in vec(trace(), 1..=64),
        cgroups in cgroups(),
        events in vec(event(), 64),
    ) {
        let rules = compile(slotted(&traces)).unwrap();
        for event in &events {
            let (interest, wanted) = classify(&rules, &cgroups, event);
            assert_eq!(verdict(&interest, &wanted), judge(slotted(&traces), &cgroups, event), "{event:?}");
        }
    }

    /// The tuple's answer is kept in the socket's record; meanwhile the pod's labels may change.
    #[test]
    fn a_kept_answer_about_the_tuple_serves_after_the_cgroup_was_given_to_other_traces(
        traces in vec(trace(), 1..=16),
        before in cgroups(),
        after in cgroups(),
        events in vec(event(), 32),
    ) {
        let rules = compile(slotted(&traces)).unwrap();
        for event in &events {
            let Event { connection, .. } = event;
            let kept = judge_tuple(&UserTables { rules: &rules, cgroups: &before }, &rules.table, connection);
            let tables = UserTables { rules: &rules, cgroups: &after };
            let identity = judge_identity(&tables, &rules.table, connection.cgroup_id, || connection.netns);
            let interest = combine(identity, kept, connection.listener);
            assert_eq!(interest, classify(&rules, &after, event).0, "{event:?}");
        }
    }

    /// CLOSE -> SYN_SENT of an unbound client, judged at once and judged again when the port is there.
    #[test]
    fn a_held_syn_sent_is_judged_as_if_the_port_had_been_known(
        traces in prop_oneof![vec(trace(), 1..=3), vec(trace(), 4..=64)],
        cgroups in cgroups(),
        connection in connection(),
        local_port in port(),
        peer_port in port(),
        duration_ns in prop_oneof![Just(UNKNOWN_NS), 0..900_u64],
    ) {
        let connection = Connection { role: role::CLIENT, listener: 0, local_port, peer_port, ..connection };
        let (old_state, new_state) = (State::CLOSE.0, State::SYN_SENT.0);
        let known = Event { connection, old_state, new_state, duration_ns };
        let held = Event { connection: Connection { local_port: 0, ..connection }, ..known };
        held_composes(&traces, &cgroups, &held, &known);
    }

    /// LISTEN -> SYN_RECV before Linux 6.15: no peer yet, and an `AF_INET6` child may be IPv4-mapped.
    #[test]
    fn a_held_syn_recv_is_judged_as_if_the_peer_had_been_known(
        traces in prop_oneof![vec(trace(), 1..=3), vec(trace(), 4..=64)],
        cgroups in cgroups(),
        connection in connection(),
        local_port in port(),
        peer_port in port(),
        dual_stack in any::<bool>(),
        duration_ns in prop_oneof![Just(UNKNOWN_NS), 0..900_u64],
    ) {
        let connection = Connection { role: role::SERVER, listener: 0, local_port, peer_port, ..connection };
        let (old_state, new_state) = (State::LISTEN.0, State::SYN_RECV.0);
        let known = Event { connection, old_state, new_state, duration_ns };
        let family = if dual_stack { 6 } else { connection.family };
        let early = Connection { peer_port: 0, peer: [0; 4], family, ..connection };
        held_composes(&traces, &cgroups, &Event { connection: early, ..known }, &known);
    }

    #[test]
    fn one_look_at_the_longest_prefix_finds_every_trace_whose_prefixes_contain_the_peer(
        traces in vec(vec(cidr(), 0..16), 1..=64),
        peers in vec(peer(), 64),
    ) {
        let traces: Vec<_> =
            traces.into_iter().map(|peer_cidrs| TraceFilter { peer_cidrs, ..TraceFilter::default() }).collect();
        let rules = compile(traces.iter().enumerate()).unwrap();
        let tables = UserTables { rules: &rules, cgroups: &Cgroups::new() };
        for address in peers {
            let expected = traces.iter().enumerate().fold(0, |set, (bit, trace)| {
                set | TraceSet::from(trace.peer_cidrs.iter().any(|prefix| prefix.contains(address))) << bit
            });
            assert_eq!(tables.peer_prefix(family_of(address), &words(address)), expected, "{address}");
        }
    }

    #[test]
    fn a_port_class_stands_for_every_trace_whose_ranges_contain_the_port(
        traces in vec(vec(port_range(), 0..=32), 1..=64),
        ports in vec(prop_oneof![Just(0), port()], 64),
    ) {
        let traces: Vec<_> =
            traces.into_iter().map(|peer_ports| TraceFilter { peer_ports, ..TraceFilter::default() }).collect();
        let rules = compile(traces.iter().enumerate()).unwrap();
        let tables = UserTables { rules: &rules, cgroups: &Cgroups::new() };
        assert!(rules.local_classes.is_none());
        for port in ports {
            let expected = traces.iter().enumerate().fold(0, |set, (bit, trace)| {
                set | TraceSet::from(trace.peer_ports.iter().any(|range| range.contains(port))) << bit
            });
            let class = usize::from(tables.port_class(true, port));
            assert!(class < PORT_CLASSES);
            assert_eq!(rules.table.peer_port[class], expected, "port {port}");
        }
    }

    /// All 64 thresholds in use: the search must reach the last one.
    #[test]
    fn every_number_of_thresholds_is_found(minimums in vec(1..200_u64, 1..=64), duration_ns in 0..220_u64) {
        let traces: Vec<_> = minimums
            .iter()
            .map(|ns| TraceFilter { min_duration: Some(Duration::from_nanos(*ns)), ..TraceFilter::default() })
            .collect();
        let rules = compile(traces.iter().enumerate()).unwrap();
        let interest = Interest { accept: rules.table.live, ..NOTHING };
        let expected = minimums.iter().enumerate().fold(0, |set, (bit, minimum)| {
            set | TraceSet::from(duration_ns >= *minimum) << bit
        });
        assert_eq!(judge_transition(&rules.table, &interest, 1, 7, duration_ns).traces, expected);
        assert_eq!(judge_transition(&rules.table, &interest, 1, 7, UNKNOWN_NS).traces, 0);
    }
}

const NOTHING: Interest = Interest { candidates: 0, accept: 0, undecided: 0, maybe: 0 };

/// What is sure early stays, what was refused early stays refused, and judging again gives what knowing gives.
fn held_composes(traces: &[TraceFilter], cgroups: &Cgroups, held: &Event, known: &Event) {
    let rules = compile(slotted(traces)).unwrap();
    let (early, early_wanted) = classify(&rules, cgroups, held);
    let (late, late_wanted) = classify(&rules, cgroups, known);
    let all = |wanted: Wanted| wanted.traces | wanted.maybe;
    assert_eq!(all(late_wanted) & !all(early_wanted), 0, "refused too early");
    assert_eq!(all(early_wanted) & !early.undecided & !all(late_wanted), 0, "sure too early");
    assert_eq!(late.candidates & !early.candidates, 0, "the record that holds it would not have been made");
    assert_eq!(late.undecided, 0);

    // The way of the kernel program at the next transition: the tuple is judged unless the early answer was whole,
    // and what that leaves judges the held transition too.
    let tables = UserTables { rules: &rules, cgroups };
    let Connection { cgroup_id, netns, listener, .. } = known.connection;
    let kept = judge_tuple(&tables, &rules.table, &held.connection);
    let tuple = if kept.1 == 0 { kept } else { judge_tuple(&tables, &rules.table, &known.connection) };
    let interest = combine(judge_identity(&tables, &rules.table, cgroup_id, || netns), tuple, listener);
    assert_eq!(interest, late);
    let again = judge_transition(&rules.table, &interest, held.old_state, held.new_state, held.duration_ns);
    assert_eq!(again, late_wanted);
}

fn client(peer: IpAddr) -> Connection {
    Connection {
        cgroup_id: 1,
        netns: 1,
        family: family_of(peer),
        role: role::CLIENT,
        local_port: 40_000,
        peer_port: 443,
        peer: words(peer),
        listener: 0,
    }
}

fn accepts(trace: &TraceFilter, connection: &Connection) -> bool {
    let rules = compile([(0, trace)]).unwrap();
    let interest =
        judge_connection(&UserTables { rules: &rules, cgroups: &Cgroups::new() }, &rules.table, connection);
    interest.accept & !interest.undecided & !interest.maybe == 1
}

fn peers(text: &str) -> TraceFilter {
    TraceFilter { peer_cidrs: super::cidr::parse_cidrs("f", text).unwrap(), ..TraceFilter::default() }
}

#[test]
fn prefixes_of_one_family_leave_out_the_other() {
    let (v4, v6) = (client("10.0.0.1".parse().unwrap()), client("fd00::1".parse().unwrap()));
    for (text, takes_v4, takes_v6) in [
        ("10.0.0.0/8", true, false),
        ("0.0.0.0/0", true, false),
        ("fd00::/8", false, true),
        ("::/0", false, true),
        ("10.0.0.0/8,fd00::/8", true, true),
    ] {
        assert_eq!(accepts(&peers(text), &v4), takes_v4, "{text}");
        assert_eq!(accepts(&peers(text), &v6), takes_v6, "{text}");
    }
}

#[test]
fn a_mapped_peer_is_ipv4_to_prefix_and_family() {
    let mut family = 6;
    let mut local = words("::ffff:10.0.0.2".parse().unwrap());
    let mut peer = words("::ffff:10.0.0.1".parse().unwrap());
    assert_eq!(normalise(&mut family, &mut local, &mut peer), flag::V4_MAPPED);
    let connection = Connection { family, peer, ..client("10.0.0.1".parse().unwrap()) };
    assert!(accepts(&peers("10.0.0.0/8"), &connection));
    assert!(accepts(&peers("::ffff:10.0.0.0/104"), &connection));
    assert!(!accepts(&peers("::/0"), &connection));
    assert!(accepts(&TraceFilter { family: Some(NetworkType::Ipv4), ..TraceFilter::default() }, &connection));
    assert!(!accepts(
        &TraceFilter { family: Some(NetworkType::Ipv6), ..TraceFilter::default() },
        &connection
    ));
    assert_eq!(local, words("10.0.0.2".parse().unwrap()));
    assert_eq!(peer, words("10.0.0.1".parse().unwrap()));
}

#[test]
fn normalising_leaves_plain_addresses_alone_and_takes_a_listener_along() {
    let octets = |text: &str| words(text.parse().unwrap());
    for (local, peer, family_after) in [
        ("fd00::1", "fd00::2", 6),
        ("::", "::", 6),
        ("::ffff:10.0.0.1", "::", 4),
        ("::", "::ffff:10.0.0.1", 4),
        ("::fffe:10.0.0.1", "::1:ffff:10.0.0.1", 6),
    ] {
        let (mut family, mut l, mut p) = (6, octets(local), octets(peer));
        let flags = normalise(&mut family, &mut l, &mut p);
        assert_eq!((family, flags != 0), (family_after, family_after == 4), "{local} {peer}");
        assert_eq!(
            family_after == 6,
            l == octets(local) && p == octets(peer) && flags == 0,
            "{local} {peer}"
        );
    }
}

#[test]
fn a_client_to_port_zero_has_its_peer_from_the_start() {
    let connection = Connection { peer_port: 0, ..client("10.0.0.1".parse().unwrap()) };
    assert!(accepts(&peers("10.0.0.0/8"), &connection));
    assert!(!accepts(&peers("11.0.0.0/8"), &connection));
}

#[test]
fn a_child_without_its_peer_is_already_known_by_role_and_by_plain_ipv4() {
    let child = Connection { role: role::SERVER, peer_port: 0, ..client("0.0.0.0".parse().unwrap()) };
    let trace = |family, role| TraceFilter { family, role, ..TraceFilter::default() };
    let judged = |trace: &TraceFilter, connection: &Connection| {
        let rules = compile([(0, trace)]).unwrap();
        let tables = UserTables { rules: &rules, cgroups: &Cgroups::new() };
        let interest = judge_connection(&tables, &rules.table, connection);
        (interest.accept, interest.undecided)
    };
    let v6 = Connection { family: 6, ..child };
    assert_eq!(judged(&trace(None, Some(Role::Client)), &v6), (0, 0));
    assert_eq!(judged(&trace(None, Some(Role::Server)), &v6), (1, 0));
    assert_eq!(judged(&trace(Some(NetworkType::Ipv4), Some(Role::Server)), &v6), (1, 1));
    assert_eq!(judged(&trace(Some(NetworkType::Ipv6), Some(Role::Client)), &v6), (0, 0));
    assert_eq!(judged(&trace(Some(NetworkType::Ipv6), None), &child), (0, 0));
    assert_eq!(judged(&trace(Some(NetworkType::Ipv4), None), &child), (1, 0));
}

#[test]
fn a_client_is_excluded_at_once_where_the_kernel_cannot_choose_a_port_that_is_asked_for() {
    let ports = |text: &str| match text {
        "" => Vec::new(),
        text => super::ports::parse_ports("f", text).unwrap(),
    };
    let excludes = |local: &str, peer: &str, local_port, range| {
        let trace =
            TraceFilter { local_ports: ports(local), peer_ports: ports(peer), ..TraceFilter::default() };
        let rules = compile([(0, &trace)]).unwrap();
        let tables = UserTables { rules: &rules, cgroups: &Cgroups::new() };
        ports_exclude(&tables, &rules.table, rules.table.live, (local_port, 443), || range)
    };
    let usual = [32_768, 60_999];
    assert!(excludes("80,443", "", 0, usual));
    assert!(excludes("61000-65535", "", 0, usual));
    assert!(!excludes("80,50000", "", 0, usual));
    assert!(!excludes("80", "", 0, [1, 60_999]));
    // Nobody knows the range.
    assert!(!excludes("80", "", 0, [0, 0]));
    assert!(excludes("80", "", 40_000, [0, 0]));
    assert!(!excludes("40000", "", 40_000, usual));
    assert!(excludes("40000", "80", 40_000, usual));
    assert!(excludes("", "80", 0, [0, 0]));
    assert!(!excludes("", "443", 0, usual));
}
