//! What the nodes have told last: who talks to whom, and what is open. Pure; the time is an argument.
//!
//! Each node tells every ten seconds what the connections that ended meanwhile add up to, and what is open then. A node
//! that has told nothing for a while is not shown any more.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use jiff::Timestamp;
use kube_tcpstates_events::{Endpoint, K8s, Line, Role, Snapshot, Socket, SummaryLine};

use crate::args::SortArgument;
use crate::table::{failed, owner, peer_name, pod};

/// Longer than from one time that a node tells to the next.
const SHOWN_FOR: Duration = Duration::from_secs(15);

/// Names that are remembered. Above this all are learned anew.
const NAMES: usize = 16_384;

/// What a row is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct About {
    pub(crate) pod: String,
    pub(crate) side: Option<&'static str>,
    /// Its address; on what is shown its name, where one is known.
    pub(crate) peer: String,
    /// The server's.
    pub(crate) port: Option<u16>,
}

/// What is told of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Figures {
    /// A second.
    pub(crate) connections: f64,
    /// Likewise: those that did not end well.
    pub(crate) failed: f64,
    /// Likewise, of payload, both ways.
    pub(crate) bytes: f64,
    /// Segments that were sent again, likewise.
    pub(crate) retransmits: f64,
    /// What 99 of 100 handshakes do not exceed; of several nodes the longest.
    pub(crate) handshake_us: Option<u64>,
    pub(crate) established: u64,
    pub(crate) opening: u64,
    pub(crate) close_wait: u64,
    pub(crate) closing: u64,
}

impl Figures {
    /// All that is open.
    pub(crate) const fn open(&self) -> u64 {
        self.established + self.opening + self.close_wait + self.closing
    }

    fn add(&mut self, other: &Self) {
        self.connections += other.connections;
        self.failed += other.failed;
        self.bytes += other.bytes;
        self.retransmits += other.retransmits;
        self.handshake_us = self.handshake_us.max(other.handshake_us);
        self.established += other.established;
        self.opening += other.opening;
        self.close_wait += other.close_wait;
        self.closing += other.closing;
    }

    fn of_socket(state: &str) -> Self {
        let mut figures = Self::default();
        *match state {
            "ESTABLISHED" => &mut figures.established,
            "SYN_SENT" | "SYN_RECV" => &mut figures.opening,
            "CLOSE_WAIT" => &mut figures.close_wait,
            _ => &mut figures.closing,
        } = 1;
        figures
    }

    fn of_summary(line: &SummaryLine) -> Self {
        let summary = &line.tcpstates.summary;
        let seconds = seconds(&summary.from, &line.time).unwrap_or(f64::from(10));
        #[expect(clippy::cast_precision_loss, reason = "rates are shown with three digits")]
        let rate = |count: u64| count as f64 / seconds;
        let bytes = [summary.sent, summary.received].into_iter().flatten().map(|volume| volume.bytes);
        Self {
            connections: rate(summary.connections),
            failed: rate(failed(line)),
            bytes: rate(bytes.sum()),
            retransmits: rate(summary.retransmits.unwrap_or(0)),
            handshake_us: summary.handshake.and_then(|times| times.p99_us),
            ..Self::default()
        }
    }
}

/// From one time to another; `None` where that is nothing, or no time.
fn seconds(from: &str, to: &str) -> Option<f64> {
    let [from, to] = [from, to].map(|text| text.parse::<Timestamp>().ok());
    let seconds = to?.duration_since(from?).as_secs_f64();
    (seconds > 0.0).then_some(seconds)
}

type Rows = BTreeMap<About, Figures>;

/// What one node has told.
#[derive(Debug, Default)]
struct Node {
    /// Since when the sums are that it told last, and when they came.
    from: String,
    summed: Duration,
    sums: Rows,
    /// Of the snapshot that is not at its end.
    coming: Rows,
    /// Of the last one, and when that was.
    looked: Option<Duration>,
    open: Rows,
    /// Connections that were open and have no line.
    left_out: u64,
}

impl Node {
    fn sum(&mut self, line: &SummaryLine, now: Duration) {
        if self.from != line.tcpstates.summary.from {
            self.from.clone_from(&line.tcpstates.summary.from);
            self.sums.clear();
        }
        self.summed = now;
        self.sums.entry(about_sums(line)).or_default().add(&Figures::of_summary(line));
    }

    fn look(&mut self, end: &Snapshot, now: Duration) {
        self.open = std::mem::take(&mut self.coming);
        self.looked = Some(now);
        self.left_out = end.tcpstates.sockets.left_out;
    }

    fn is_looked_at(&self, now: Duration) -> bool {
        self.looked.is_some_and(|looked| now.saturating_sub(looked) < SHOWN_FOR)
    }
}

/// What all nodes have told.
#[derive(Debug, Default)]
pub(crate) struct Nodes {
    nodes: BTreeMap<String, Node>,
    /// Names of other ends by address, and of servers by their port. Only sums name them.
    names: HashMap<(String, Option<u16>), String>,
}

impl Nodes {
    /// Takes a line; true if there is something new to show.
    pub(crate) fn take(&mut self, line: &Line, now: Duration) -> bool {
        match line {
            Line::Summary(line) => {
                self.learn(line);
                self.node(line.k8s.as_deref()).sum(line, now);
            }
            Line::Socket(line) => {
                let figures = Figures::of_socket(&line.tcpstates.state);
                let node = self.node(line.k8s.as_deref());
                node.coming.entry(about_socket(line)).or_default().add(&figures);
                return false;
            }
            Line::Snapshot(end) => self.node(end.k8s.as_deref()).look(end, now),
            _ => return false,
        }
        true
    }

    fn learn(&mut self, line: &SummaryLine) {
        let Some(name) = peer_name(line.tcpstates.peer.as_deref()) else { return };
        if self.names.len() >= NAMES {
            self.names.clear();
        }
        self.names.insert(place(&about_sums(line)), name);
    }

    fn named(&self, about: &About) -> About {
        let name = self.names.get(&place(about));
        About { peer: name.unwrap_or(&about.peer).clone(), ..about.clone() }
    }

    fn node(&mut self, k8s: Option<&K8s>) -> &mut Node {
        let name = k8s.and_then(|k8s| k8s.node.as_ref()).map(|node| node.name.as_str());
        self.nodes.entry(name.unwrap_or_default().to_owned()).or_default()
    }

    /// Nodes that have told what is open.
    pub(crate) fn looked(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().filter(|(_, node)| node.looked.is_some()).map(|(name, _)| name.as_str())
    }

    /// What is shown at this time.
    pub(crate) fn now(&self, now: Duration) -> Now {
        let mut rows = Rows::new();
        let (mut nodes, mut left_out) = (0, 0);
        for node in self.nodes.values() {
            let is_summed = !node.sums.is_empty() && now.saturating_sub(node.summed) < SHOWN_FOR;
            let is_looked_at = node.is_looked_at(now);
            nodes += usize::from(is_summed || is_looked_at);
            left_out += if is_looked_at { node.left_out } else { 0 };
            let told = [(is_summed, &node.sums), (is_looked_at, &node.open)];
            for (about, figures) in
                told.into_iter().filter(|(is_told, _)| *is_told).flat_map(|(_, rows)| rows)
            {
                rows.entry(self.named(about)).or_default().add(figures);
            }
        }
        Now { rows: rows.into_iter().collect(), nodes, left_out }
    }
}

/// What is shown at one time.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Now {
    pub(crate) rows: Vec<(About, Figures)>,
    /// Nodes that it is from.
    pub(crate) nodes: usize,
    /// Open connections that are not in it.
    pub(crate) left_out: u64,
}

impl Now {
    /// The most first; of what weighs the same, the one with more connections, then the one whose name comes first.
    pub(crate) fn sort(&mut self, by: SortArgument) {
        #[expect(clippy::cast_precision_loss, reason = "only compared")]
        let weight = |figures: &Figures| match by {
            SortArgument::Open => figures.open() as f64,
            SortArgument::Connections => figures.connections,
            SortArgument::Failed => figures.failed,
            SortArgument::Bytes => figures.bytes,
            SortArgument::Retransmits => figures.retransmits,
            SortArgument::Handshake => figures.handshake_us.unwrap_or(0) as f64,
        };
        self.rows.sort_by(|(one, left), (other, right)| {
            let by_weight = weight(right).total_cmp(&weight(left));
            let by_connections = || right.connections.total_cmp(&left.connections);
            by_weight
                .then_with(by_connections)
                .then_with(|| Reverse(left.open()).cmp(&Reverse(right.open())))
                .then_with(|| one.cmp(other))
        });
    }

    /// All rows together.
    pub(crate) fn sum(&self) -> Figures {
        let mut sum = Figures::default();
        for (_, figures) in &self.rows {
            sum.add(figures);
        }
        sum
    }
}

/// By what the other end's name is found: a server listens at one port, a client has another each time.
fn place(about: &About) -> (String, Option<u16>) {
    let is_server = about.side == Some(Role::Client.as_str());
    (about.peer.clone(), about.port.filter(|_| is_server))
}

fn about_sums(line: &SummaryLine) -> About {
    let network = line.network.as_ref();
    let ends = (network.and_then(|own| own.local.as_ref()), network.and_then(|own| own.peer.as_ref()));
    about(owner(line), line.tcpstates.role, ends)
}

fn about_socket(line: &Socket) -> About {
    let ends = (Some(&line.network.local), line.network.peer.as_ref());
    about(pod(line.k8s.as_deref()), line.tcpstates.open.role, ends)
}

fn about(pod: String, role: Option<Role>, (local, peer): (Option<&Endpoint>, Option<&Endpoint>)) -> About {
    let servers = match role {
        Some(Role::Client) => peer,
        Some(Role::Server) => local,
        None => None,
    };
    About {
        pod,
        side: role.map(Role::as_str),
        peer: peer.and_then(|end| end.address.clone()).unwrap_or_default(),
        port: servers.and_then(|end| end.port),
    }
}

#[cfg(test)]
#[path = "live_tests.rs"]
mod tests;
