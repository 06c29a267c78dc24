//! Transitions that some traces want for certain while others cannot be judged yet: a client that connects has no port
//! of its own, and a trace may ask for one. They wait for the socket's next record, which says what those others want;
//! then there is one line with all their names. Nobody waits longer than a second for them: the line then has the names
//! of those that are certain. Pure; time is passed in.

use kube_tcpstates_common::{record::TransitionRecord, rule::TraceSet};

use super::held::Held;
use crate::decode::{self, Transition};

/// A peer that answers at all answers within that, as a rule.
const WAIT_NS: u64 = 1_000_000_000;

/// Those that wait, by their socket.
pub(super) struct Undecided(Held<u64>);

/// What a record makes of the transition of its socket that came before it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Decided {
    /// It waits no longer; with all traces that want it.
    pub(super) ready: Option<Transition>,
    /// It is gone already, without these traces, or never came.
    pub(super) late: Option<Transition>,
}

impl Undecided {
    pub(super) fn new() -> Self {
        Self(Held::new(WAIT_NS))
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether something waits for this record, or the record says something of what waited.
    pub(super) fn concerns(&self, record: &TransitionRecord) -> bool {
        decode::decides(record) || self.0.holds(&record.socket)
    }

    /// The next record of a socket has come: what waits for it is ready, whether the record says something of it or
    /// not. `meant` says which traces a set of a generation stands for now.
    pub(super) fn next(
        &mut self,
        record: &TransitionRecord,
        meant: impl Fn(u32, TraceSet) -> TraceSet,
    ) -> Decided {
        let mut decided = decode::decided(record);
        if let Some(decided) = &mut decided {
            decided.traces = meant(decided.generation, decided.traces);
            decided.maybe = meant(decided.generation, decided.maybe);
        }
        let mut ready =
            if self.0.holds(&record.socket) { self.0.release(&record.socket).pop_front() } else { None };
        if let Some(ready) = &mut ready
            && let Some(decided) = decided.take_if(|decided| decided.boot_ns == ready.boot_ns)
        {
            // A trace that came later than the transition is not meant.
            let there = meant(ready.generation, TraceSet::MAX);
            let (traces, maybe) =
                (ready.traces | decided.traces & there, ready.maybe | decided.maybe & there);
            *ready = Transition { traces, maybe, on_cpu: ready.on_cpu, ..decided };
        }
        Decided { ready, late: decided }
    }

    /// Has one wait.
    pub(super) fn hold(&mut self, transition: &Transition, now_ns: u64) {
        self.0.hold(transition.socket, transition, now_ns);
    }

    /// One that has waited long enough.
    pub(super) fn due(&mut self, now_ns: u64) -> Option<Transition> {
        let socket = self.0.due(now_ns)?;
        self.0.release(&socket).pop_front()
    }

    /// When the next wait ends, boot time ns.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.0.next_deadline()
    }

    /// See [`Held::keep_bits`].
    pub(super) fn keep_bits(&mut self, kept: TraceSet) {
        self.0.keep_bits(kept);
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable as _;
    use kube_tcpstates_common::{
        record::{TransitionRecord, flag},
        state::State,
    };
    use proptest::prelude::*;

    use super::{Decided, Undecided, WAIT_NS};
    use crate::decode::{Transition, is_undecided, transitions};

    const MS: u64 = 1_000_000;

    /// A client connects: certain for `traces`, undecided for others.
    fn connects(socket: u64, boot_ns: u64, traces: u64) -> TransitionRecord {
        TransitionRecord {
            socket,
            boot_ns,
            birth_ns: boot_ns,
            traces,
            flags: flag::UNDECIDED,
            new_state: State::SYN_SENT.0,
            old_state: State::CLOSE.0,
            ..TransitionRecord::zeroed()
        }
    }

    /// The answer, wanted by `traces`; `others` want the connect at `born_ns`, too.
    fn connected(socket: u64, born_ns: u64, boot_ns: u64, traces: u64, others: u64) -> TransitionRecord {
        TransitionRecord {
            boot_ns,
            birth_ns: born_ns,
            traces,
            flags: if others == 0 { 0 } else { flag::DECIDES },
            local_port: 40_000,
            pending_boot_ns: born_ns,
            pending_traces: others,
            pending_old_state: State::CLOSE.0,
            pending_new_state: State::SYN_SENT.0,
            old_state: State::SYN_SENT.0,
            new_state: State::ESTABLISHED.0,
            ..connects(socket, boot_ns, 0)
        }
    }

    fn all(_: u32, set: u64) -> u64 {
        set
    }

    /// What the flow does with a record: what comes out, by socket, time and traces.
    fn take(undecided: &mut Undecided, record: &TransitionRecord, out: &mut Vec<(u64, u64, u64)>) -> u64 {
        let Decided { ready, late } = undecided.next(record, all);
        let mut put =
            |transition: Transition| out.push((transition.socket, transition.boot_ns, transition.traces));
        ready.into_iter().for_each(&mut put);
        for transition in transitions(record) {
            if is_undecided(record) {
                undecided.hold(&transition, record.boot_ns);
            } else {
                put(transition);
            }
        }
        late.map_or(0, |late| late.traces)
    }

    #[test]
    fn the_next_record_of_the_socket_adds_who_else_wants_it_and_the_port() {
        let mut undecided = Undecided::new();
        let (mut out, record) = (Vec::new(), connects(1, 10, 0b01));
        take(&mut undecided, &record, &mut out);
        assert_eq!((out.len(), undecided.len()), (0, 1));
        let ready = undecided.next(&connected(1, 10, 20, 0b11, 0b10), all).ready.unwrap();
        assert_eq!((ready.boot_ns, ready.traces, ready.local.port), (10, 0b11, 40_000));
        assert_eq!(ready.new_state, State::SYN_SENT);
        assert_eq!((undecided.len(), undecided.next_deadline()), (0, None));
    }

    #[test]
    fn nobody_waits_longer_than_a_second_and_who_comes_later_goes_without() {
        let (mut undecided, mut out) = (Undecided::new(), Vec::new());
        take(&mut undecided, &connects(1, 10, 0b01), &mut out);
        assert_eq!((undecided.due(WAIT_NS + 9), undecided.next_deadline()), (None, Some(WAIT_NS + 10)));
        let due = undecided.due(WAIT_NS + 10).unwrap();
        assert_eq!((due.traces, due.boot_ns, undecided.len()), (0b01, 10, 0));
        let missed = take(&mut undecided, &connected(1, 10, 2 * WAIT_NS, 0b11, 0b10), &mut out);
        assert_eq!((missed, out), (0b10, vec![(1, 2 * WAIT_NS, 0b11)]));
    }

    #[test]
    fn another_connection_of_the_socket_settles_nothing_of_the_one_before() {
        let (mut undecided, mut out) = (Undecided::new(), Vec::new());
        take(&mut undecided, &connects(1, 10, 0b01), &mut out);
        take(&mut undecided, &connects(1, 30, 0b01), &mut out);
        assert_eq!(out, [(1, 10, 0b01)]);
        assert_eq!(take(&mut undecided, &connected(1, 10, 40, 0, 0b10), &mut out), 0b10);
        assert_eq!(out, [(1, 10, 0b01), (1, 30, 0b01)]);
    }

    #[test]
    fn a_bit_that_went_to_another_trace_meanwhile_is_not_meant() {
        let mut undecided = Undecided::new();
        undecided.hold(&transitions(&connects(1, 10, 0b001))[0], 10);
        let answer = TransitionRecord { generation: 1, ..connected(1, 10, 20, 0b001, 0b110) };
        let decided =
            undecided.next(&answer, |generation, set| if generation == 0 { set & 0b011 } else { set });
        assert_eq!((decided.ready.unwrap().traces, decided.late), (0b011, None));
    }

    /// As of programs that are no more: bit 1 has become bit 5, and nobody has bit 2 any more.
    #[test]
    fn who_else_wants_it_is_told_by_what_the_bits_stand_for_now() {
        let moved = |_, set: u64| (set >> 1 & 1) << 5 | set & 1;
        let answer = connected(1, 10, 20, 0, 0b110);
        let mut undecided = Undecided::new();
        undecided.hold(&transitions(&connects(1, 10, 0b001))[0], 10);
        let decided = undecided.next(&answer, moved);
        assert_eq!((decided.ready.unwrap().traces, decided.late), (0b10_0001, None));
        let late = undecided.next(&answer, moved).late.unwrap();
        assert_eq!(late.traces, 0b10_0000);
    }

    /// One connection: when it starts, who is certain, when the answer comes, who wants that, who else the connect.
    fn connection() -> impl Strategy<Value = (u64, u64, u64, u64, u64)> {
        (0..3_000_u64, 1..4_u64, 1..3_000_u64, 0..16_u64, 0..4_u64).prop_map(
            |(start, sure, wait, next, others)| (start * MS, sure, (start + wait) * MS, next, others << 2),
        )
    }

    proptest! {
        #[test]
        fn every_transition_comes_out_once_in_its_connections_order_within_a_second(
            connections in prop::collection::vec(connection(), 1..40),
        ) {
            let mut records = Vec::new();
            for (socket, (start, sure, answer, next, others)) in (1..).zip(&connections) {
                records.push(connects(socket, *start, *sure));
                if next | others != 0 {
                    records.push(connected(socket, *start, *answer, *next, *others));
                }
            }
            records.sort_by_key(|record| record.boot_ns);
            let (mut undecided, mut out, mut missed) = (Undecided::new(), Vec::new(), vec![0; connections.len() + 1]);
            for record in &records {
                while let Some(due) = undecided.due(record.boot_ns) {
                    out.push((due.socket, due.boot_ns, due.traces));
                }
                prop_assert!(undecided.next_deadline().is_none_or(|at| at > record.boot_ns));
                missed[usize::try_from(record.socket).unwrap()] |= take(&mut undecided, record, &mut out);
            }
            while let Some(due) = undecided.due(u64::MAX) {
                out.push((due.socket, due.boot_ns, due.traces));
            }
            prop_assert_eq!(undecided.len(), 0);
            for (socket, (start, sure, answer, next, others)) in (1..).zip(&connections) {
                let in_time = *answer < start + WAIT_NS;
                let mut expected = vec![(*start, if in_time { sure | others } else { *sure })];
                expected.extend((*next != 0).then_some((*answer, *next)));
                let of_socket: Vec<_> =
                    out.iter().filter(|line| line.0 == socket).map(|line| (line.1, line.2)).collect();
                prop_assert_eq!(of_socket, expected);
                let late = if in_time { 0 } else { *others };
                prop_assert_eq!(missed[usize::try_from(socket).unwrap()], late);
            }
        }
    }
}
