//! A ring record as one or two transitions.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use kube_tcpstates_common::{
    record::{Figures, TransitionRecord, UNKNOWN_NS, flag, owner, role},
    state::State,
};

use kube_tcpstates_events::{NetworkType, OwnerSource, Role};

use super::transition::{Endpoint, OnCpu, Process, Transition};

/// Hands over the transitions of a record, in their order: the pending one first, where there is one. A part that no trace
/// wants (only the other part was) is left out. `figures` are of the connection that the record's own transition ends.
#[inline]
pub fn for_each_transition(
    record: &TransitionRecord,
    figures: Option<&Figures>,
    mut take: impl FnMut(&mut Transition),
) {
    if record.flags & flag::PENDING != 0 {
        take(&mut earlier(record));
    }
    if record.traces | record.maybe != 0 {
        let mut own = transition(record);
        own.figures = figures.copied();
        take(&mut own);
    }
}

/// The same in a list, for whom that is fast enough.
pub fn transitions(record: &TransitionRecord) -> Vec<Transition> {
    let mut list = Vec::new();
    for_each_transition(record, None, |transition| list.push(*transition));
    list
}

/// How many transitions the kernel has counted as emitted for a record.
pub fn weight(record: &TransitionRecord) -> u64 {
    let own = u64::from(record.traces | record.maybe != 0);
    let earlier = u64::from(record.pending_traces | record.pending_maybe != 0);
    own + earlier - (earlier & u64::from(decides(record)))
}

/// Whether further traces may want the record's transition: the next record of its socket tells.
pub fn is_undecided(record: &TransitionRecord) -> bool {
    record.flags & flag::UNDECIDED != 0
}

/// Whether the record says more of the socket's last record, which was left undecided.
pub fn decides(record: &TransitionRecord) -> bool {
    record.flags & flag::DECIDES != 0
}

/// The transition that the socket's last record left undecided, with those traces alone that turn out to want it, too.
pub fn decided(record: &TransitionRecord) -> Option<Transition> {
    decides(record).then(|| earlier(record))
}

/// What is in the `pending_*` fields.
fn earlier(record: &TransitionRecord) -> Transition {
    Transition {
        boot_ns: record.pending_boot_ns,
        duration_ns: known(record.pending_duration_ns),
        since_attach: false,
        old_state: State(record.pending_old_state),
        new_state: State(record.pending_new_state),
        error: None,
        gap: false,
        inferred: record.flags & flag::PENDING_INFERRED != 0,
        on_cpu: on_cpu_of_pending(record),
        traces: record.pending_traces,
        maybe: record.pending_maybe,
        ..transition(record)
    }
}

fn transition(record: &TransitionRecord) -> Transition {
    let has = |bit: u16| record.flags & bit != 0;
    let family = if record.family == 6 { NetworkType::Ipv6 } else { NetworkType::Ipv4 };
    let (local, peer) = (address(family, record.local), address(family, record.peer));
    // Others bind to an interface for reasons of their own; their addresses mean the same on each.
    let has_scope = record.interface != 0 && (is_link_local(local) || is_link_local(peer));
    Transition {
        boot_ns: record.boot_ns,
        duration_ns: known(record.duration_ns),
        since_attach: has(flag::SINCE_ATTACH),
        old_state: State(record.old_state),
        new_state: State(record.new_state),
        family,
        v4_mapped: has(flag::V4_MAPPED),
        mptcp: has(flag::MPTCP),
        local: Endpoint { address: local, port: record.local_port },
        peer: (record.peer_port != 0).then_some(Endpoint { address: peer, port: record.peer_port }),
        interface: has_scope.then_some(record.interface),
        role: match record.role {
            role::CLIENT => Some(Role::Client),
            role::SERVER => Some(Role::Server),
            _ => None,
        },
        error: Some(record.socket_error).filter(|error| *error != 0 && record.new_state == State::CLOSE.0),
        socket: record.socket,
        birth_ns: record.birth_ns,
        birth_known: !has(flag::BIRTH_UNKNOWN),
        gap: has(flag::GAP),
        inferred: has(flag::INFERRED),
        cookie: Some(record.cookie).filter(|cookie| *cookie != 0),
        cgroup_id: Some(record.cgroup_id).filter(|id| *id != 0),
        task_cgroup: Some(record.task_cgroup).filter(|id| *id != 0),
        netns: Some(record.netns).filter(|inode| *inode != 0),
        netns_cookie: Some(record.netns_cookie).filter(|cookie| *cookie != 0),
        process: process_of(record),
        on_cpu: OnCpu { pid: record.on_cpu_pid, comm: record.on_cpu_comm },
        figures: None,
        traces: record.traces,
        maybe: record.maybe,
        generation: record.generation,
    }
}

/// The record tells who was on the CPU at its last transition. At the pending one of a client it was the task that
/// connects, which is the owner; at that of a server, or one that no program got, nobody knows.
fn on_cpu_of_pending(record: &TransitionRecord) -> OnCpu {
    if record.owner_source == owner::CONNECT && record.flags & flag::PENDING_INFERRED == 0 {
        OnCpu { pid: record.owner_pid, comm: record.owner_comm }
    } else {
        OnCpu { pid: 0, comm: [0; 16] }
    }
}

fn known(duration_ns: u64) -> Option<u64> {
    Some(duration_ns).filter(|duration| *duration != UNKNOWN_NS)
}

fn address(family: NetworkType, words: [u32; 4]) -> IpAddr {
    match family {
        NetworkType::Ipv4 => Ipv4Addr::from(words[0].to_ne_bytes()).into(),
        NetworkType::Ipv6 => {
            let mut bytes = [0; 16];
            for (four, word) in bytes.chunks_exact_mut(4).zip(words) {
                four.copy_from_slice(&word.to_ne_bytes());
            }
            Ipv6Addr::from(bytes).into()
        }
    }
}

/// Whether an address is one of `fe80::/10`, and says nothing without its interface.
fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

fn process_of(record: &TransitionRecord) -> Option<Process> {
    let source = match record.owner_source {
        owner::CONNECT => OwnerSource::Connect,
        owner::LISTEN => OwnerSource::Listen,
        owner::ACCEPT => OwnerSource::Accept,
        owner::CLOSE => OwnerSource::Close,
        owner::KERNEL => OwnerSource::Kernel,
        owner::DESCRIPTOR => OwnerSource::Descriptor,
        _ => return None,
    };
    Some(Process { pid: record.owner_pid, comm: record.owner_comm, source, noted_ns: record.owner_ns })
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable as _;
    use kube_tcpstates_common::{
        classify::address_words,
        record::{TransitionRecord, UNKNOWN_NS, flag, owner, role},
        state::State,
    };

    use super::{decided, transitions};
    use crate::decode::{OwnerSource, Role};

    fn record() -> TransitionRecord {
        TransitionRecord {
            boot_ns: 2_000,
            duration_ns: 1_000,
            family: 4,
            local: address_words([127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            local_port: 40_000,
            peer_port: 80,
            old_state: State::SYN_SENT.0,
            new_state: State::ESTABLISHED.0,
            role: role::CLIENT,
            owner_source: owner::CONNECT,
            owner_pid: 7,
            traces: 1,
            ..TransitionRecord::zeroed()
        }
    }

    #[test]
    fn zeros_and_marks_of_the_unknown_become_none() {
        let found = transitions(&TransitionRecord { duration_ns: UNKNOWN_NS, peer_port: 0, ..record() });
        let [only] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((only.duration_ns, only.peer, only.cgroup_id, only.cookie), (None, None, None, None));
        assert_eq!(only.local.to_string_for_test(), "127.0.0.1:40000");
        assert_eq!(
            (only.role, only.process.map(|process| process.source)),
            (Some(Role::Client), Some(OwnerSource::Connect))
        );
    }

    #[test]
    fn a_pending_transition_comes_first_with_its_own_time_and_traces() {
        let held = TransitionRecord {
            flags: flag::PENDING,
            pending_boot_ns: 1_000,
            pending_duration_ns: UNKNOWN_NS,
            pending_old_state: State::CLOSE.0,
            pending_new_state: State::SYN_SENT.0,
            pending_traces: 2,
            ..record()
        };
        let found: Vec<_> =
            transitions(&held).into_iter().map(|t| (t.boot_ns, t.new_state, t.traces)).collect();
        assert_eq!(found, [(1_000, State::SYN_SENT, 2), (2_000, State::ESTABLISHED, 1)]);
        let on_cpu: Vec<_> = transitions(&TransitionRecord { on_cpu_pid: 9, ..held })
            .into_iter()
            .map(|t| t.on_cpu.pid)
            .collect();
        assert_eq!(on_cpu, [7, 9], "the client's own task connected, another was on the CPU at the answer");
        let alone: Vec<_> =
            transitions(&TransitionRecord { traces: 0, ..held }).into_iter().map(|t| t.new_state).collect();
        assert_eq!(alone, [State::SYN_SENT]);
    }

    #[test]
    fn of_two_transitions_the_one_that_no_program_got_is_marked() {
        let missed = TransitionRecord {
            flags: flag::PENDING | flag::GAP | flag::PENDING_INFERRED,
            pending_boot_ns: 2_000,
            pending_duration_ns: UNKNOWN_NS,
            pending_old_state: State::SYN_SENT.0,
            pending_new_state: State::ESTABLISHED.0,
            pending_traces: 1,
            old_state: State::ESTABLISHED.0,
            new_state: State::FIN_WAIT1.0,
            ..record()
        };
        let found: Vec<_> = transitions(&missed)
            .into_iter()
            .map(|t| (t.new_state, t.inferred, t.gap, t.on_cpu.pid))
            .collect();
        assert_eq!(found, [(State::ESTABLISHED, true, false, 0), (State::FIN_WAIT1, false, true, 0)]);
        let end = TransitionRecord { flags: flag::INFERRED, new_state: State::CLOSE.0, ..record() };
        assert!(transitions(&end)[0].inferred);
    }

    #[test]
    fn what_settles_an_earlier_transition_is_none_itself() {
        let record = TransitionRecord {
            flags: flag::DECIDES,
            pending_boot_ns: 1_000,
            pending_old_state: State::CLOSE.0,
            pending_new_state: State::SYN_SENT.0,
            pending_traces: 2,
            ..record()
        };
        let found: Vec<_> = transitions(&record).into_iter().map(|t| (t.new_state, t.traces)).collect();
        assert_eq!(found, [(State::ESTABLISHED, 1)]);
        let decided = decided(&record).unwrap();
        assert_eq!((decided.boot_ns, decided.new_state, decided.traces), (1_000, State::SYN_SENT, 2));
        assert_eq!(decided.local.port, 40_000, "known by now");
        assert!(super::decided(&TransitionRecord { flags: flag::PENDING, ..record }).is_none());
    }

    #[test]
    fn an_error_is_the_reason_of_a_close_only() {
        let error = |new_state: State| {
            let record = TransitionRecord { socket_error: 111, new_state: new_state.0, ..record() };
            transitions(&record)[0].error
        };
        assert_eq!((error(State::CLOSE), error(State::ESTABLISHED)), (Some(111), None));
    }

    #[test]
    fn sixteen_byte_addresses_keep_their_order() {
        let mut bytes = [0; 16];
        bytes[0] = 0xfd;
        bytes[15] = 1;
        let six = TransitionRecord { family: 6, local: address_words(bytes), ..record() };
        assert_eq!(transitions(&six)[0].local.address.to_string(), "fd00::1");
    }

    #[test]
    fn an_interface_belongs_to_link_local_addresses_alone() {
        let interface = |family, first: [u8; 2]| {
            let mut bytes = [0; 16];
            bytes[..2].copy_from_slice(&first);
            let record = TransitionRecord { family, interface: 3, peer: address_words(bytes), ..record() };
            transitions(&record)[0].interface
        };
        assert_eq!(interface(6, [0xfe, 0x80]), Some(3));
        assert_eq!(interface(6, [0xfe, 0xbf]), Some(3));
        assert_eq!(interface(6, [0xfe, 0xc0]), None);
        assert_eq!(interface(4, [0xfe, 0x80]), None);
        let unbound = TransitionRecord { family: 6, local: address_words([0xfe; 16]), ..record() };
        assert_eq!(transitions(&unbound)[0].interface, None);
    }

    impl crate::decode::Endpoint {
        fn to_string_for_test(self) -> String {
            std::net::SocketAddr::new(self.address, self.port).to_string()
        }
    }
}
