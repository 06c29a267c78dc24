//! What is open.

use kube_tcpstates_events::{Listener, Process, Socket, Thread, TimeWait};

use super::{
    Column, Cut, container, end, end_or_dash, full_pod, named_peer, node, number, peer_name, pod, short_time,
};
use crate::paint::Colour;

/// A lower bound of an age that is worth telling.
const LEAST_BOUND_US: u64 = 1_000_000;

/// 118 columns.
pub(super) const SOCKETS: &[Column<Socket>] = &[
    Column::new("STATE", 11, Cut::Never, state).coloured(colour),
    Column::new("AGE", 7, Cut::Number, age),
    Column::new("IDLE", 6, Cut::Number, idle),
    Column::new("UNREAD", 6, Cut::Number, |line| number(line.tcpstates.unread_bytes)),
    Column::new("UNSENT", 6, Cut::Number, |line| number(line.tcpstates.unsent_bytes)),
    Column::new("LOCAL", 21, Cut::Start, |line| end(&line.network.local)),
    Column::new("PEER", 21, Cut::Start, peer),
    Column::new("POD", 32, Cut::Start, |line| pod(line.k8s.as_deref())),
];

pub(super) const SOCKETS_WIDE: &[Column<Socket>] = &[
    Column::new("STATE", 11, Cut::Never, state).coloured(colour),
    Column::new("AGE", 7, Cut::Number, age),
    Column::new("IDLE", 6, Cut::Number, idle),
    Column::new("UNREAD", 7, Cut::Number, |line| number(line.tcpstates.unread_bytes)),
    Column::new("UNSENT", 7, Cut::Number, |line| number(line.tcpstates.unsent_bytes)),
    Column::new("RT", 2, Cut::Number, |line| number(line.tcpstates.retransmits_pending)),
    Column::new("LOCAL", 21, Cut::Never, |line| end(&line.network.local)),
    Column::new("PEER", 21, Cut::Never, |line| end_or_dash(line.network.peer.as_ref())),
    Column::new("PEER-NAME", 24, Cut::Never, |line| {
        peer_name(line.tcpstates.peer.as_deref()).unwrap_or_default()
    }),
    Column::new("NODE", 16, Cut::Never, |line| node(line.k8s.as_deref())),
    Column::new("POD", 32, Cut::Never, |line| full_pod(line.k8s.as_deref())),
    Column::new("CONTAINER", 12, Cut::Never, |line| container(line.k8s.as_deref())),
    Column::new("PROCESS", 18, Cut::Never, |line| process(line.process.as_ref(), line.thread.as_ref())),
];

/// 110 columns.
pub(super) const LISTENERS: &[Column<Listener>] = &[
    Column::new("STATE", 11, Cut::Never, |_| "LISTEN".to_owned()),
    Column::new("QUEUE", 6, Cut::Number, |line| number(line.tcpstates.accept_queue.length)),
    Column::new("LIMIT", 6, Cut::Number, |line| number(line.tcpstates.accept_queue.limit)),
    Column::new("DROPS", 8, Cut::Number, drops).coloured(dropped),
    Column::new("OPENING", 7, Cut::Number, |line| number(line.tcpstates.half_open.count)),
    Column::new("LOCAL", 34, Cut::Start, |line| end(&line.network.local)),
    Column::new("POD", 32, Cut::Start, |line| pod(line.k8s.as_deref())),
];

pub(super) const LISTENERS_WIDE: &[Column<Listener>] = &[
    Column::new("STATE", 11, Cut::Never, |_| "LISTEN".to_owned()),
    Column::new("QUEUE", 6, Cut::Number, |line| number(line.tcpstates.accept_queue.length)),
    Column::new("LIMIT", 6, Cut::Number, |line| number(line.tcpstates.accept_queue.limit)),
    Column::new("DROPS", 8, Cut::Number, drops).coloured(dropped),
    Column::new("OPENING", 7, Cut::Number, |line| number(line.tcpstates.half_open.count)),
    Column::new("ACKED", 6, Cut::Number, |line| number(line.tcpstates.half_open.acknowledged)),
    Column::new("LOCAL", 21, Cut::Never, |line| end(&line.network.local)),
    Column::new("NODE", 16, Cut::Never, |line| node(line.k8s.as_deref())),
    Column::new("POD", 32, Cut::Never, |line| full_pod(line.k8s.as_deref())),
    Column::new("CONTAINER", 12, Cut::Never, |line| container(line.k8s.as_deref())),
    Column::new("PROCESS", 18, Cut::Never, |line| process(line.process.as_ref(), line.thread.as_ref())),
];

pub(super) const TIME_WAIT: &[Column<TimeWait>] = &[
    Column::new("STATE", 11, Cut::Never, |_| "TIME_WAIT".to_owned()),
    Column::new("COUNT", 8, Cut::Number, |line| line.tcpstates.count.to_string()),
    Column::new("FIN_WAIT2", 9, Cut::Number, |line| line.tcpstates.fin_wait2.to_string()),
    Column::new("NODE", 16, Cut::Never, |line| node(line.k8s.as_deref())),
    Column::new("POD", 32, Cut::Never, |line| full_pod(line.k8s.as_deref())),
];

fn peer(line: &Socket) -> String {
    named_peer(line.tcpstates.peer.as_deref(), line.network.peer.as_ref())
}

fn state(line: &Socket) -> String {
    line.tcpstates.state.clone()
}

/// The program has been told that the peer is done, and has not closed.
fn colour(line: &Socket) -> Colour {
    if line.tcpstates.state == "CLOSE_WAIT" { Colour::Red } else { Colour::None }
}

/// At least so long, where nobody saw it enter the state. That it is as old as the look at it says nothing.
fn age(line: &Socket) -> String {
    let own = &line.tcpstates;
    match own.state_age_us {
        Some(us) if !own.state_age_since_attach => short_time(us),
        Some(us) if us >= LEAST_BOUND_US => format!(">{}", short_time(us)),
        _ => String::new(),
    }
}

fn idle(line: &Socket) -> String {
    line.tcpstates.idle_us.map(short_time).unwrap_or_default()
}

fn drops(line: &Listener) -> String {
    number(line.tcpstates.accept_queue.drops)
}

fn dropped(line: &Listener) -> Colour {
    if line.tcpstates.accept_queue.drops.is_some_and(|drops| drops > 0) { Colour::Red } else { Colour::None }
}

/// `4242/nginx`
pub(super) fn process(process: Option<&Process>, thread: Option<&Thread>) -> String {
    match (process, thread) {
        (Some(process), Some(thread)) => format!("{}/{}", process.pid, thread.name),
        (Some(process), None) => process.pid.to_string(),
        (None, _) => String::new(),
    }
}
