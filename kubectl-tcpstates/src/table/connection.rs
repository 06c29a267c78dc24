//! Connections that have ended.

use kube_tcpstates_events::{ConnectionLine, Outcome, Role};

use super::{
    Column, Cut, container, end, end_or_dash, full_pod, milliseconds, named_peer, node, number, peer_name,
    pod, time,
};
use crate::paint::Colour;

type Of = Column<ConnectionLine>;

/// 120 columns.
pub(super) const TABLE: &[Of] = &[
    Of::new("TIME", 12, Cut::Never, |line| time(&line.time)),
    Of::new("POD", 28, Cut::Start, |line| pod(line.k8s.as_deref())),
    Of::new("SIDE", 6, Cut::Never, side),
    Of::new("PEER", 21, Cut::Start, peer),
    Of::new("OUTCOME", 25, Cut::End, outcome).coloured(colour),
    Of::new("MS", 9, Cut::Number, duration),
    Of::new("SENT/RECEIVED", 12, Cut::Never, sent_and_received),
];

pub(super) const WIDE: &[Of] = &[
    Of::new("TIME", 30, Cut::Never, |line| line.time.clone()),
    Of::new("NODE", 16, Cut::Never, |line| node(line.k8s.as_deref())),
    Of::new("POD", 32, Cut::Never, |line| full_pod(line.k8s.as_deref())),
    Of::new("CONTAINER", 12, Cut::Never, |line| container(line.k8s.as_deref())),
    Of::new("PROCESS", 18, Cut::Never, process),
    Of::new("SIDE", 6, Cut::Never, side),
    Of::new("LOCAL", 21, Cut::Never, |line| end(&line.network.local)),
    Of::new("PEER", 21, Cut::Never, |line| end_or_dash(line.network.peer.as_ref())),
    Of::new("PEER-NAME", 24, Cut::Never, |line| {
        peer_name(line.tcpstates.peer.as_deref()).unwrap_or_default()
    }),
    Of::new("OUTCOME", 22, Cut::Never, outcome).coloured(colour),
    Of::new("CLOSED-BY", 9, Cut::Never, |line| {
        line.tcpstates.closed_by.map(|by| by.as_str().to_owned()).unwrap_or_default()
    }),
    Of::new("MS", 12, Cut::Number, duration),
    Of::new("HANDSHAKE-MS", 12, Cut::Number, |line| known_time(line.tcpstates.handshake_us)),
    Of::new("IDLE-MS", 10, Cut::Number, |line| known_time(line.tcpstates.idle_us)),
    Of::new("SILENT-MS", 10, Cut::Number, |line| {
        known_time(line.tcpstates.received.and_then(|received| received.idle_us))
    }),
    Of::new("SENT", 10, Cut::Number, |line| number(line.tcpstates.sent.map(|sent| sent.bytes))),
    Of::new("RECEIVED", 10, Cut::Number, |line| {
        number(line.tcpstates.received.map(|received| received.bytes))
    }),
    Of::new("RETR", 5, Cut::Number, |line| number(line.tcpstates.retransmits)),
];

/// At least so long, where nobody saw it begin.
fn duration(line: &ConnectionLine) -> String {
    let at_least = if line.tcpstates.since_attach { ">" } else { "" };
    format!("{at_least}{}", milliseconds(line.tcpstates.duration_us))
}

fn side(line: &ConnectionLine) -> String {
    line.tcpstates.role.map_or("", Role::as_str).to_owned()
}

fn peer(line: &ConnectionLine) -> String {
    named_peer(line.tcpstates.peer.as_deref(), line.network.peer.as_ref())
}

/// Why stands behind how; of what an ICMP message ended the error says which.
fn outcome(line: &ConnectionLine) -> String {
    let own = &line.tcpstates;
    let error = line.error.as_ref().filter(|_| own.outcome == Outcome::Rejected);
    match (own.cause, error) {
        (Some(cause), _) => format!("{}:{}", own.outcome.as_str(), cause.as_str()),
        (None, Some(error)) => format!("{}:{}", own.outcome.as_str(), error.kind),
        (None, None) => own.outcome.as_str().to_owned(),
    }
}

fn colour(line: &ConnectionLine) -> Colour {
    if line.tcpstates.outcome == Outcome::Closed { Colour::None } else { Colour::Red }
}

fn sent_and_received(line: &ConnectionLine) -> String {
    let bytes = |direction: Option<kube_tcpstates_events::Direction>| {
        direction.map_or_else(|| super::DASH.to_owned(), |direction| direction.bytes.to_string())
    };
    format!("{}/{}", bytes(line.tcpstates.sent), bytes(line.tcpstates.received))
}

fn process(line: &ConnectionLine) -> String {
    super::open::process(line.process.as_ref(), line.thread.as_ref())
}

fn known_time(us: Option<u64>) -> String {
    us.map(milliseconds).unwrap_or_default()
}
