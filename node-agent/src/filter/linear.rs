//! One trace after the other, in the plainest words: for sockets that were found open, of which there are few at a time,
//! and for the tests of the classifier, here and over the kernel's maps, which hold the tables against it. It shares no
//! table and no arithmetic with them.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use kube_tcpstates_common::classify::Connection;
use kube_tcpstates_common::record::{UNKNOWN_NS, role};
use kube_tcpstates_common::rule::TraceSet;

use super::{CgroupChoice, Mode, PortRange, TraceFilter};
use crate::decode::{NetworkType, Role};

/// One transition of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// The connection as known at this transition.
    pub connection: Connection,
    /// State left.
    pub old_state: u8,
    /// State entered.
    pub new_state: u8,
    /// Time in the old state, ns, or [`UNKNOWN_NS`].
    pub duration_ns: u64,
}

/// What a set of traces says to an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Traces for which the connection (or a child of it) is worth a record.
    pub candidates: TraceSet,
    /// Traces that accept the connection, or wait to know more.
    pub accept: TraceSet,
    /// Those of `accept` that wait for an address or a port.
    pub undecided: TraceSet,
    /// Those of `accept` that wait for the cgroup's identity.
    pub maybe: TraceSet,
    /// Those of `accept` that also want this transition with this duration.
    pub wanted: TraceSet,
}

/// What one dimension of one trace says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    Yes,
    No,
    /// The tuple will tell.
    Later,
    /// The cgroup's identity will tell.
    Maybe,
}

impl From<bool> for Answer {
    fn from(yes: bool) -> Self {
        if yes { Self::Yes } else { Self::No }
    }
}

/// Judges an event by every trace, one at a time.
pub fn judge<'a, S: BuildHasher>(
    traces: impl IntoIterator<Item = (usize, &'a TraceFilter)>,
    cgroups: &HashMap<u64, (TraceSet, TraceSet), S>,
    event: &Event,
) -> Verdict {
    let mut verdict = Verdict::default();
    for (slot, trace) in traces {
        let connection = &event.connection;
        let place = [cgroup(trace, slot, cgroups, connection.cgroup_id), netns(trace, connection.netns)];
        let tuple = [
            family(trace, connection),
            side(trace, connection.role),
            local_port(trace, connection),
            peer_port(trace, connection),
            peer_address(trace, connection),
        ];
        let says = |answer| place.contains(&answer) || tuple.contains(&answer);
        let bit = 1 << slot;
        // A listener is worth a record for its children, and its own lines never wait.
        let refused = says(Answer::No) || (connection.listener != 0 && says(Answer::Later));
        if !refused || (connection.listener != 0 && !place.contains(&Answer::No)) {
            verdict.candidates |= bit;
        }
        if refused {
            continue;
        }
        verdict.accept |= bit;
        if says(Answer::Later) {
            verdict.undecided |= bit;
        }
        if says(Answer::Maybe) {
            verdict.maybe |= bit;
        }
        if transition(trace, event) && long_enough(trace, event.duration_ns) {
            verdict.wanted |= bit;
        }
    }
    verdict
}

fn cgroup<S: BuildHasher>(
    trace: &TraceFilter,
    slot: usize,
    cgroups: &HashMap<u64, (TraceSet, TraceSet), S>,
    id: u64,
) -> Answer {
    if trace.cgroups == CgroupChoice::Any {
        return Answer::Yes;
    }
    match (id, cgroups.get(&id)) {
        (0, _) | (_, None) => Answer::Maybe,
        (_, Some((matched, _))) if matched >> slot & 1 == 1 => Answer::Yes,
        (_, Some((_, maybe))) if maybe >> slot & 1 == 1 => Answer::Maybe,
        _ => Answer::No,
    }
}

fn netns(trace: &TraceFilter, inode: u32) -> Answer {
    trace.netns.as_ref().is_none_or(|wanted| inode != 0 && wanted.contains(&inode)).into()
}

/// No peer yet, but one will come: a child of a listener on kernels that report it before they fill it in. A
/// client has its peer from the start.
fn peer_to_come(connection: &Connection) -> bool {
    connection.listener == 0 && connection.role != role::CLIENT && connection.peer_port == 0
}

fn family(trace: &TraceFilter, connection: &Connection) -> Answer {
    match trace.family {
        None => Answer::Yes,
        // It may turn out IPv4-mapped.
        Some(_) if connection.family == 6 && peer_to_come(connection) => Answer::Later,
        Some(NetworkType::Ipv4) => (connection.family != 6).into(),
        Some(NetworkType::Ipv6) => (connection.family == 6).into(),
    }
}

fn side(trace: &TraceFilter, number: u8) -> Answer {
    match trace.role {
        None => Answer::Yes,
        Some(Role::Client) => (number == role::CLIENT).into(),
        Some(Role::Server) => (number == role::SERVER).into(),
    }
}

fn local_port(trace: &TraceFilter, connection: &Connection) -> Answer {
    if trace.local_ports.is_empty() {
        return Answer::Yes;
    }
    if connection.local_port == 0 {
        return Answer::Later;
    }
    in_ranges(&trace.local_ports, connection.local_port)
}

fn peer_port(trace: &TraceFilter, connection: &Connection) -> Answer {
    if trace.peer_ports.is_empty() {
        return Answer::Yes;
    }
    if connection.listener != 0 {
        return Answer::No;
    }
    if peer_to_come(connection) { Answer::Later } else { in_ranges(&trace.peer_ports, connection.peer_port) }
}

fn in_ranges(ranges: &[PortRange], port: u16) -> Answer {
    ranges.iter().any(|range| range.contains(port)).into()
}

fn peer_address(trace: &TraceFilter, connection: &Connection) -> Answer {
    if trace.peer_cidrs.is_empty() {
        return Answer::Yes;
    }
    if connection.listener != 0 {
        return Answer::No;
    }
    if peer_to_come(connection) {
        return Answer::Later;
    }
    let bytes: [u8; 16] = bytemuck::cast(connection.peer);
    let [a, b, c, d, ..] = bytes;
    let address: IpAddr =
        if connection.family == 6 { Ipv6Addr::from(bytes).into() } else { Ipv4Addr::new(a, b, c, d).into() };
    trace.peer_cidrs.iter().any(|prefix| prefix.contains(address)).into()
}

fn transition(trace: &TraceFilter, event: &Event) -> bool {
    if trace.mode != Mode::Transitions {
        // A connection ends: neither a listener nor a socket that is closed already.
        return event.new_state == 7 && event.old_state < 16 && ![7, 10].contains(&event.old_state);
    }
    trace.transitions.is_empty()
        || trace.transitions.iter().any(|wanted| wanted.accepts(event.old_state, event.new_state))
}

fn long_enough(trace: &TraceFilter, duration_ns: u64) -> bool {
    trace
        .minimum()
        .is_none_or(|minimum| duration_ns != UNKNOWN_NS && u128::from(duration_ns) >= minimum.as_nanos())
}
