//! Transitions from one state to another.

use kube_tcpstates_events::{Role, Transition};

use super::{
    Column, Cut, container, end, end_or_dash, full_pod, milliseconds, named_peer, node, peer_name, pod, time,
};
use crate::paint::Colour;

type Of = Column<Transition>;

/// 118 columns, without the error.
pub(super) const TABLE: &[Of] = &[
    Of::new("TIME", 12, Cut::Never, |line| time(&line.time)),
    Of::new("POD", 28, Cut::Start, |line| pod(line.k8s.as_deref())),
    Of::new("SIDE", 6, Cut::Never, side),
    Of::new("PEER", 22, Cut::Start, peer),
    Of::new("TRANSITION", 26, Cut::Never, states).coloured(colour),
    Of::new("MS", 9, Cut::Number, duration),
    Of::new("ERROR", 12, Cut::Never, error),
];

pub(super) const WIDE: &[Of] = &[
    Of::new("TIME", 30, Cut::Never, |line| line.time.clone()),
    Of::new("NODE", 16, Cut::Never, |line| node(line.k8s.as_deref())),
    Of::new("POD", 32, Cut::Never, |line| full_pod(line.k8s.as_deref())),
    Of::new("CONTAINER", 12, Cut::Never, |line| container(line.k8s.as_deref())),
    Of::new("PROCESS", 18, Cut::Never, |line| {
        super::open::process(line.process.as_ref(), line.thread.as_ref())
    }),
    Of::new("SIDE", 6, Cut::Never, side),
    Of::new("LOCAL", 21, Cut::Never, |line| end(&line.network.local)),
    Of::new("PEER", 21, Cut::Never, |line| end_or_dash(line.network.peer.as_ref())),
    Of::new("PEER-NAME", 24, Cut::Never, |line| {
        peer_name(line.tcpstates.peer.as_deref()).unwrap_or_default()
    }),
    Of::new("TRANSITION", 26, Cut::Never, states).coloured(colour),
    Of::new("MS", 12, Cut::Number, duration),
    Of::new("ERROR", 12, Cut::Never, error),
    Of::new("CONNECTION", 16, Cut::Never, |line| line.tcpstates.connection.id.clone()),
];

fn side(line: &Transition) -> String {
    line.tcpstates.role.map_or("", Role::as_str).to_owned()
}

fn peer(line: &Transition) -> String {
    named_peer(line.tcpstates.peer.as_deref(), line.network.peer.as_ref())
}

fn states(line: &Transition) -> String {
    format!("{:11} -> {}", line.tcpstates.old_state, line.tcpstates.new_state)
}

fn duration(line: &Transition) -> String {
    line.tcpstates.state_duration_us.map(milliseconds).unwrap_or_default()
}

fn error(line: &Transition) -> String {
    line.error.as_ref().map(|error| error.kind.clone()).unwrap_or_default()
}

fn colour(line: &Transition) -> Colour {
    if line.error.is_some() { Colour::Red } else { Colour::None }
}
