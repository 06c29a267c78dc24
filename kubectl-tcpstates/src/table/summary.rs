//! What connections add up to.

use kube_tcpstates_events::{Outcome, Role, SummaryLine, Volume};

use super::{Column, Cut, end_or_dash, full_pod, milliseconds, named_peer, node, number, peer_name, pod};
use crate::paint::Colour;

type Of = Column<SummaryLine>;

/// 116 columns.
pub(super) const TABLE: &[Of] = &[
    Of::new("TIME", 8, Cut::Never, |line| super::time(&line.time).chars().take(8).collect()),
    Of::new("POD", 28, Cut::Start, owner),
    Of::new("SIDE", 6, Cut::Never, side),
    Of::new("PEER", 28, Cut::Start, peer),
    Of::new("CONNS", 7, Cut::Number, connections),
    Of::new("FAILED", 7, Cut::Number, |line| failed(line).to_string()).coloured(colour),
    Of::new("SENT", 12, Cut::Number, |line| bytes(line.tcpstates.summary.sent)),
    Of::new("RECEIVED", 12, Cut::Number, |line| bytes(line.tcpstates.summary.received)),
];

pub(super) const WIDE: &[Of] = &[
    Of::new("TIME", 30, Cut::Never, |line| line.time.clone()),
    Of::new("NODE", 16, Cut::Never, |line| node(line.k8s.as_deref())),
    Of::new("POD", 32, Cut::Never, full_owner),
    Of::new("SIDE", 6, Cut::Never, side),
    Of::new("PORT", 5, Cut::Never, |line| {
        number(line.network.as_ref().and_then(|network| network.local.as_ref()?.port))
    }),
    Of::new("PEER", 21, Cut::Never, |line| {
        end_or_dash(line.network.as_ref().and_then(|network| network.peer.as_ref()))
    }),
    Of::new("PEER-NAME", 24, Cut::Never, |line| {
        peer_name(line.tcpstates.peer.as_deref()).unwrap_or_default()
    }),
    Of::new("CONNS", 7, Cut::Number, connections),
    Of::new("FAILED", 7, Cut::Number, |line| failed(line).to_string()).coloured(colour),
    Of::new("SENT", 12, Cut::Number, |line| bytes(line.tcpstates.summary.sent)),
    Of::new("RECEIVED", 12, Cut::Number, |line| bytes(line.tcpstates.summary.received)),
    Of::new("RETR", 7, Cut::Number, |line| number(line.tcpstates.summary.retransmits)),
    Of::new("HANDSHAKE-MS", 12, Cut::Number, |line| {
        line.tcpstates.summary.handshake.map(|times| milliseconds(times.mean_us)).unwrap_or_default()
    }),
    Of::new("OUTCOMES", 8, Cut::Never, outcomes),
];

fn full_owner(line: &SummaryLine) -> String {
    if line.tcpstates.summary.other { owner(line) } else { full_pod(line.k8s.as_deref()) }
}

pub(crate) fn owner(line: &SummaryLine) -> String {
    if line.tcpstates.summary.other { "(others)".to_owned() } else { pod(line.k8s.as_deref()) }
}

fn side(line: &SummaryLine) -> String {
    line.tcpstates.role.map_or("", Role::as_str).to_owned()
}

fn peer(line: &SummaryLine) -> String {
    named_peer(
        line.tcpstates.peer.as_deref(),
        line.network.as_ref().and_then(|network| network.peer.as_ref()),
    )
}

fn connections(line: &SummaryLine) -> String {
    line.tcpstates.summary.connections.to_string()
}

pub(crate) fn failed(line: &SummaryLine) -> u64 {
    let summary = &line.tcpstates.summary;
    summary.connections.saturating_sub(summary.by_outcome.get(&Outcome::Closed).copied().unwrap_or(0))
}

fn colour(line: &SummaryLine) -> Colour {
    if failed(line) > 0 { Colour::Red } else { Colour::None }
}

fn bytes(volume: Option<Volume>) -> String {
    number(volume.map(|volume| volume.bytes))
}

fn outcomes(line: &SummaryLine) -> String {
    let counts = line.tcpstates.summary.by_outcome.iter();
    counts.map(|(outcome, count)| format!("{}={count}", outcome.as_str())).collect::<Vec<_>>().join(",")
}
