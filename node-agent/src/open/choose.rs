//! Which of the sockets that were found a snapshot shows.

use std::{cmp::Reverse, collections::HashMap};

use kube_tcpstates_common::{classify::Connection, record::UNKNOWN_NS, rule::TraceSet};

use super::{Found, OpenStates, What};
use crate::filter::{
    TraceFilter,
    linear::{Event, judge},
};

/// How a trace asks for snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshots {
    /// Time between two, ns.
    pub every_ns: u64,
    /// States.
    pub states: OpenStates,
    /// Least time in the state, ns; 0 asks for nothing.
    pub min_age_ns: u64,
    /// Most connections, and most listeners.
    pub limit: usize,
}

impl Snapshots {
    /// What the trace under that bit wants of one.
    pub const fn wish(&self, bit: usize) -> Wish {
        let Self { every_ns: _, states, min_age_ns, limit } = *self;
        Wish { bit, states, min_age_ns, min_idle_ns: 0, limit }
    }
}

/// What one trace wants of a snapshot, beside what its filter says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The trace's bit.
    pub bit: usize,
    /// States.
    pub states: OpenStates,
    /// Least time in the state, ns; 0 asks for nothing.
    pub min_age_ns: u64,
    /// Least time without data, ns; 0 asks for nothing.
    pub min_idle_ns: u64,
    /// Most connections, and most listeners, that it shows.
    pub limit: usize,
}

/// The traces that accept an open socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// They accept it.
    pub sure: TraceSet,
    /// They accept it if it is theirs.
    pub maybe: TraceSet,
}

impl Choice {
    /// What traces say of a socket. Transitions and times in a state are not asked for here.
    pub fn of<'a>(
        connection: &Connection,
        traces: impl IntoIterator<Item = (usize, &'a TraceFilter)>,
    ) -> Self {
        let event = Event { connection: *connection, old_state: 0, new_state: 0, duration_ns: UNKNOWN_NS };
        let verdict = judge(traces, &HashMap::new(), &event);
        let accept = verdict.accept & !verdict.undecided;
        Self { sure: accept & !verdict.maybe, maybe: accept & verdict.maybe }
    }
}

/// How many there were of what one wish asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections: all, and those shown.
    pub sockets: (u64, u64),
    /// Listeners: all, and those shown.
    pub listeners: (u64, u64),
}

/// A socket to be shown: its place in what was found, and the traces that show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Its place.
    pub index: usize,
    /// The traces.
    pub traces: TraceSet,
}

/// Chooses by what each wishes, of sockets with the traces that want them. Connections come first, the longest idle of all
/// before the others, then listeners, the one with the longest queue first: so a limit leaves out what matters least.
/// Counts are in the order of the wishes.
pub fn choose<'a>(
    found: impl IntoIterator<Item = (&'a Found, TraceSet)>,
    wishes: &[Wish],
) -> (Vec<Chosen>, Vec<Counts>) {
    let mut order: Vec<(usize, (&Found, TraceSet))> = found.into_iter().enumerate().collect();
    order.sort_by_key(|(_, (found, _))| rank(found));
    let mut counts = vec![Counts::default(); wishes.len()];
    let mut chosen = Vec::new();
    for (index, (socket, wanted)) in order {
        let mut traces = 0;
        for (wish, counts) in wishes.iter().zip(&mut counts) {
            if wanted >> wish.bit & 1 == 0 || !wish.takes(socket) {
                continue;
            }
            let (all, shown) = match socket.what {
                What::Connection(_) => &mut counts.sockets,
                What::Listener(_) => &mut counts.listeners,
            };
            *all += 1;
            if *shown < wish.limit as u64 {
                *shown += 1;
                traces |= 1 << wish.bit;
            }
        }
        if traces != 0 {
            chosen.push(Chosen { index, traces });
        }
    }
    (chosen, counts)
}

/// The order of lines: what is longest idle, or has the longest queue, is first.
fn rank(found: &Found) -> impl Ord + use<> {
    let end = (found.seen.netns, found.seen.local.port, found.seen.peer.map(|peer| peer.port));
    match found.what {
        What::Connection(figures) => (0, Reverse(figures.idle_ns), Reverse(None), end),
        What::Listener(queue) => (1, Reverse(queue.length.map(u64::from)), Reverse(queue.drops), end),
    }
}

impl Wish {
    fn takes(&self, found: &Found) -> bool {
        let long_enough = |least: u64, time: Option<u64>| least == 0 || time.is_some_and(|ns| ns >= least);
        let is_in_state = self.states.contains(found.seen.new_state);
        match found.what {
            What::Connection(figures) => {
                is_in_state
                    && long_enough(self.min_age_ns, found.seen.duration_ns)
                    && long_enough(self.min_idle_ns, figures.idle_ns)
            }
            // Neither time means anything there.
            What::Listener(_) => is_in_state,
        }
    }
}
