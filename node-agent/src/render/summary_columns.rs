//! Summaries as columns: of the table at most 120 characters, of the wide table and of CSV all there are.

use std::fmt::Write as _;

use kube_tcpstates_events::{Outcome, Role, SummaryLine};

use super::append::milliseconds;
use super::csv::field;
use super::escape::terminal;
use super::text::{cell, trim};

/// The column that has names alone.
const OWNER: &str = "OWNER";

/// A column: its name, its width in the table, and what stands in it.
pub(super) struct Column(&'static str, usize, fn(&SummaryLine) -> String);

/// Of the table: 117 characters, as long as no address or number is wider than its column.
pub(super) const TABLE: &[Column] = &[
    Column("TIME", 8, time),
    Column(OWNER, 28, owner),
    Column("SIDE", 6, side),
    Column("PEER", 28, peer),
    Column("PORT", 5, port),
    Column("CONNS", 7, connections),
    Column("FAILED", 7, failed),
    Column("SENT", 10, sent),
    Column("RECEIVED", 10, received),
];

/// Of the wide table.
pub(super) const WIDE: &[Column] = &[
    Column("TIME", 8, time),
    Column(OWNER, 60, owner),
    Column("SIDE", 6, side),
    Column("ADDRESS", 39, address),
    Column("PEER", 60, peer_name),
    Column("PORT", 5, port),
    Column("CONNS", 9, connections),
    Column("FAILED", 9, failed),
    Column("SENT", 12, sent),
    Column("RECEIVED", 12, received),
    Column("RETR", 7, retransmits),
    Column("SYN-RETR", 8, syn_retransmits),
    Column("HANDSHAKE-MS", 12, handshake),
    Column("MS", 12, lasted),
];

/// Of CSV.
pub(super) const CSV: &[Column] = &[
    Column("FROM", 0, |line| line.tcpstates.summary.from.clone()),
    Column("TIME", 0, |line| line.time.clone()),
    Column(OWNER, 0, owner),
    Column("SIDE", 0, side),
    Column("ADDRESS", 0, address),
    Column("PEER", 0, peer_name),
    Column("PORT", 0, port),
    Column("CONNECTIONS", 0, connections),
    Column("FAILED", 0, failed),
    Column("OUTCOMES", 0, outcomes),
    Column("SENT", 0, sent),
    Column("RECEIVED", 0, received),
    Column("RETRANSMITS", 0, retransmits),
    Column("UNSENT", 0, |line| known(line.tcpstates.summary.unsent_bytes)),
    Column("SYN_RETRANSMITS", 0, syn_retransmits),
    Column("HANDSHAKE_MEAN_US", 0, |line| known(line.tcpstates.summary.handshake.map(|times| times.mean_us))),
    Column("HANDSHAKE_MAX_US", 0, |line| known(line.tcpstates.summary.handshake.map(|times| times.max_us))),
    Column("MEAN_US", 0, |line| known(line.tcpstates.summary.duration.map(|times| times.mean_us))),
    Column("MAX_US", 0, |line| known(line.tcpstates.summary.duration.map(|times| times.max_us))),
];

/// The names, each padded and with a space behind it, the last one without.
pub(super) fn table_header(out: &mut Vec<u8>, columns: &[Column]) {
    row(out, columns.iter().map(|Column(name, width, _)| ((*name).to_owned(), *width, usize::MAX)));
}

/// The values, in the same way.
pub(super) fn table_row(out: &mut Vec<u8>, columns: &[Column], line: &SummaryLine) {
    row(
        out,
        columns.iter().map(|Column(name, width, value)| {
            let text = value(line);
            // Names are cut, numbers and addresses never.
            let is_name = *name == OWNER || text.contains('/');
            (text, *width, if is_name { *width } else { usize::MAX })
        }),
    );
}

fn row(out: &mut Vec<u8>, cells: impl Iterator<Item = (String, usize, usize)>) {
    for (text, width, max) in cells {
        let text = if text.is_empty() { "-" } else { &text };
        cell(out, width, |out| {
            terminal(out, text.as_bytes(), max);
        });
    }
    trim(out);
    out.push(b'\n');
}

/// The names with commas between them.
pub(super) fn csv_header(out: &mut Vec<u8>) {
    records(out, CSV.iter().map(|Column(name, ..)| (*name).to_owned()));
}

/// The values with commas between them.
pub(super) fn csv_row(out: &mut Vec<u8>, line: &SummaryLine) {
    records(out, CSV.iter().map(|Column(_, _, value)| value(line)));
}

fn records(out: &mut Vec<u8>, fields: impl Iterator<Item = String>) {
    let mut before = &b""[..];
    for text in fields {
        out.extend_from_slice(before);
        let mut escaped = Vec::new();
        terminal(&mut escaped, text.as_bytes(), usize::MAX);
        field(out, &escaped);
        before = b",";
    }
    out.push(b'\n');
}

/// The time of day in UTC at the end of the interval.
fn time(line: &SummaryLine) -> String {
    line.time.get(11..19).unwrap_or_default().to_owned()
}

/// Namespace and pod; of others the container's id, or the unit.
fn owner(line: &SummaryLine) -> String {
    if line.tcpstates.summary.other {
        return "(others)".to_owned();
    }
    let pod = line.k8s.as_ref().and_then(|k8s| {
        let name = k8s.pod.as_ref()?.name.as_ref()?;
        Some(format!("{}/{name}", k8s.namespace.as_ref().map_or("", |namespace| &namespace.name)))
    });
    let container = || line.container.as_ref().map(|container| container.id.chars().take(12).collect());
    let host =
        || line.tcpstates.host.as_ref().and_then(|host| host.unit.clone().or_else(|| host.slice.clone()));
    let cgroup = || line.tcpstates.cgroup.as_ref().map(|cgroup| format!("cgroup {}", cgroup.id));
    pod.or_else(container).or_else(host).or_else(cgroup).unwrap_or_default()
}

fn side(line: &SummaryLine) -> String {
    line.tcpstates.role.map_or("", Role::as_str).to_owned()
}

fn address(line: &SummaryLine) -> String {
    let peer = line.network.as_ref().and_then(|network| network.peer.as_ref());
    peer.and_then(|peer| peer.address.clone()).unwrap_or_default()
}

/// Namespace and Service or pod.
fn peer_name(line: &SummaryLine) -> String {
    let Some(peer) = &line.tcpstates.peer else { return String::new() };
    let service = peer.k8s.service.as_ref().map(|service| &service.name);
    let name = service.or(peer.k8s.pod.as_ref().map(|pod| &pod.name));
    let namespace = peer.k8s.namespace.as_ref().map_or("", |namespace| &namespace.name);
    name.map(|name| format!("{namespace}/{name}")).unwrap_or_default()
}

fn peer(line: &SummaryLine) -> String {
    let name = peer_name(line);
    if name.is_empty() { address(line) } else { name }
}

fn port(line: &SummaryLine) -> String {
    let ends = line.network.as_ref().map(|network| [network.local.as_ref(), network.peer.as_ref()]);
    known(ends.into_iter().flatten().flatten().find_map(|end| end.port))
}

fn connections(line: &SummaryLine) -> String {
    line.tcpstates.summary.connections.to_string()
}

fn failed(line: &SummaryLine) -> String {
    let summary = &line.tcpstates.summary;
    (summary.connections - summary.by_outcome.get(&Outcome::Closed).copied().unwrap_or(0)).to_string()
}

fn outcomes(line: &SummaryLine) -> String {
    let mut text = String::new();
    for (outcome, count) in &line.tcpstates.summary.by_outcome {
        let before = if text.is_empty() { "" } else { " " };
        // A string takes every write.
        let _ = write!(text, "{before}{}={count}", outcome.as_str());
    }
    text
}

fn sent(line: &SummaryLine) -> String {
    known(line.tcpstates.summary.sent.map(|volume| volume.bytes))
}

fn received(line: &SummaryLine) -> String {
    known(line.tcpstates.summary.received.map(|volume| volume.bytes))
}

fn retransmits(line: &SummaryLine) -> String {
    known(line.tcpstates.summary.retransmits)
}

fn syn_retransmits(line: &SummaryLine) -> String {
    line.tcpstates.summary.syn_retransmits.to_string()
}

fn handshake(line: &SummaryLine) -> String {
    mean(line.tcpstates.summary.handshake)
}

fn lasted(line: &SummaryLine) -> String {
    mean(line.tcpstates.summary.duration)
}

fn mean(times: Option<kube_tcpstates_events::Times>) -> String {
    let mut out = Vec::new();
    if let Some(times) = times {
        milliseconds(&mut out, times.mean_us.saturating_mul(1000));
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn known(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}
