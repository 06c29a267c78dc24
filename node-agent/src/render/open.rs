//! The lines of what is open: `socket`, `listener`, `time_wait` and `snapshot`.

use kube_tcpstates_events::{
    AcceptQueue, HalfOpen, K8s, Line, Listener, ListenerAttributes, SchemaId, Shown, Snapshot,
    SnapshotAttributes, Socket, SocketAttributes, TimeWait, TimeWaitAttributes,
};

use super::{
    event::Event,
    time::rfc3339,
    traces,
    whose::{self, Around},
};
use crate::{
    decode::Transition,
    names::{Owner, TraceNames},
    open::{Counts, Figures, Queue, What},
};

/// What the lines of one snapshot have in common.
#[derive(Clone, Debug)]
pub struct Of {
    /// Names the run, 8 hex digits.
    pub run: String,
    /// When it was taken, ns since the epoch.
    pub unix_ns: u64,
}

/// The line of an open socket. `id` is its connection's, where a tracer has a record of it.
pub fn socket_line(of: &Of, event: &Event<'_>, what: &What, id: Option<u64>) -> Line {
    match what {
        What::Connection(figures) => Line::Socket(Box::new(socket(of, event, figures, id))),
        What::Listener(queue) => Line::Listener(Box::new(listener(of, event, queue, id))),
    }
}

fn socket(of: &Of, event: &Event<'_>, figures: &Figures, id: Option<u64>) -> Socket {
    let Around { network, k8s, container, process, thread } = Around::of(event);
    let transition = event.transition;
    let state = transition.new_state;
    let tcpstates = SocketAttributes {
        schema: SchemaId::V1,
        run: of.run.clone(),
        seq: 0,
        state: state.name().map_or_else(|| state.0.to_string(), str::to_owned),
        state_age_us: age_us(transition),
        state_age_since_attach: transition.since_attach,
        idle_us: figures.idle_ns.map(|ns| ns / 1000),
        unread_bytes: figures.unread_bytes,
        unsent_bytes: figures.unsent_bytes,
        retransmits_pending: figures.retransmits,
        open: whose::own(event, id),
    };
    Socket { time: rfc3339(of.unix_ns), tcpstates, network, k8s, container, process, thread }
}

fn listener(of: &Of, event: &Event<'_>, queue: &Queue, id: Option<u64>) -> Listener {
    let Around { network, k8s, container, process, thread } = Around::of(event);
    let transition = event.transition;
    let tcpstates = ListenerAttributes {
        schema: SchemaId::V1,
        run: of.run.clone(),
        seq: 0,
        state_age_us: age_us(transition),
        state_age_since_attach: transition.since_attach,
        accept_queue: AcceptQueue { length: queue.length, limit: queue.limit, drops: queue.drops },
        half_open: HalfOpen { count: queue.half_open, acknowledged: queue.acknowledged },
        open: whose::own(event, id),
    };
    Listener { time: rfc3339(of.unix_ns), tcpstates, network, k8s, container, process, thread }
}

fn age_us(transition: &Transition) -> Option<u64> {
    transition.duration_ns.map(|ns| ns / 1000)
}

/// How many connections of a network namespace are in `TIME_WAIT`, and how many more wait for their peer's FIN. One of
/// them says which namespace it is.
pub fn time_wait_line(
    of: &Of,
    one: &Transition,
    (count, fin_wait2): (u64, u64),
    owner: Option<&Owner>,
    names: &TraceNames,
) -> Line {
    let (traces, cluster_traces, _) = traces::lists(names);
    let tcpstates = TimeWaitAttributes {
        schema: SchemaId::V1,
        run: of.run.clone(),
        seq: 0,
        count,
        fin_wait2,
        netns: whose::netns(one),
        traces,
        cluster_traces,
    };
    let k8s = owner.and_then(whose::k8s).map(Box::new);
    let container = owner.and_then(whose::container);
    Line::TimeWait(Box::new(TimeWait { time: rfc3339(of.unix_ns), tcpstates, k8s, container }))
}

/// The end of a snapshot.
pub fn snapshot_line(
    of: &Of,
    counts: &Counts,
    (time_wait, is_incomplete): (u64, bool),
    k8s: Option<K8s>,
    names: &TraceNames,
) -> Line {
    let (traces, cluster_traces, _) = traces::lists(names);
    let shown = |(open, shown): (u64, u64)| Shown { open, shown, left_out: open - shown };
    let tcpstates = SnapshotAttributes {
        schema: SchemaId::V1,
        run: of.run.clone(),
        seq: 0,
        sockets: shown(counts.sockets),
        listeners: shown(counts.listeners),
        time_wait,
        incomplete: is_incomplete,
        traces,
        cluster_traces,
    };
    let k8s = k8s.map(Box::new);
    Line::Snapshot(Box::new(Snapshot { time: rfc3339(of.unix_ns), tcpstates, k8s }))
}
