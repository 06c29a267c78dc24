//! The `summary` line: what connections that have ended add up to.

use kube_tcpstates_events::{
    Cgroup, Endpoint, Interface, K8s, SchemaId, Summary, SummaryAttributes, SummaryLine, SummaryNetwork,
    Times, Transport, Volume,
};

use super::{
    open::Of,
    peer,
    time::rfc3339,
    traces,
    whose::{self, cut},
};
use crate::{
    decode::Role,
    names::TraceNames,
    summary::{Common, Kept, Period, Spread, Sums, Whose},
};

const SECOND_NS: u64 = 1_000_000_000;
/// A line that is too long has labels as long as there is another way.
const LABELS_BELOW: usize = 3_000;

/// What a summary is made from.
#[derive(Clone, Copy, Debug)]
pub struct Added<'a> {
    /// What its connections have in common; `None` of those that were not kept apart.
    pub common: Option<&'a Common>,
    /// What came together.
    pub kept: &'a Kept,
    /// The interval.
    pub period: Period,
    /// Wall-clock time since when it came together, ns since the epoch.
    pub from_unix_ns: u64,
}

/// The line of a summary. `k8s` is of the node, for a line without an owner.
pub fn summary_line(of: &Of, added: &Added<'_>, k8s: Option<&K8s>, names: &TraceNames) -> SummaryLine {
    let Added { common, kept, .. } = added;
    let owner = kept.owner.as_ref().map(|owner| &***owner);
    let (traces, cluster_traces, _) = traces::lists(names);
    let nobody = common.and_then(|common| match common.whose {
        Whose::Cgroup(id) => id,
        Whose::Owner(_) => None,
    });
    let tcpstates = SummaryAttributes {
        schema: SchemaId::V1,
        run: of.run.clone(),
        seq: 0,
        role: common.and_then(|common| common.role),
        summary: summary(added),
        qos: owner.and_then(|owner| owner.qos).map(str::to_owned),
        labels_omitted: owner.and_then(whose::labels_omitted),
        container: owner.and_then(whose::runtime),
        host: owner.and_then(whose::host),
        cgroup: nobody.map(|id| Cgroup { id: id.to_string() }),
        peer: kept.peer.as_ref().map(|known| Box::new(peer::line(known))),
        interface: common.and_then(|common| common.interface).map(|index| Interface { index }),
        attribution: common.map(|common| common.attribution),
        traces,
        cluster_traces,
    };
    SummaryLine {
        time: rfc3339(of.unix_ns),
        tcpstates,
        network: common.map(network),
        k8s: owner.and_then(whose::k8s).or_else(|| k8s.cloned()).map(Box::new),
        container: owner.and_then(whose::container),
    }
}

fn summary(added: &Added<'_>) -> Summary {
    let sums: &Sums = &added.kept.sums;
    let measured = |sum: u64| (sums.measured > 0).then_some(sum);
    let volume = |bytes: u64| measured(bytes).map(|bytes| Volume { bytes });
    Summary {
        from: rfc3339(added.from_unix_ns),
        interval_s: added.period.interval_ns / SECOND_NS,
        other: added.common.is_none(),
        connections: sums.connections,
        by_outcome: sums.outcomes().collect(),
        sent: volume(sums.sent),
        received: volume(sums.received),
        retransmits: measured(sums.retransmits),
        unsent_bytes: measured(sums.unsent),
        unmeasured: Some(sums.connections - sums.measured).filter(|count| *count > 0),
        syn_retransmits: sums.syn_retransmits,
        handshake: times(&sums.handshakes).map(|times| Times {
            p50_us: sums.handshake_quantile(50),
            p99_us: sums.handshake_quantile(99),
            ..times
        }),
        duration: times(&sums.durations),
    }
}

/// Makes a line shorter that is too long, which takes names of hundreds of characters: without the names of the other end,
/// then without labels, then with names cut.
pub(super) fn shorten(line: &mut SummaryLine, max: usize) {
    line.tcpstates.peer = None;
    let Some(k8s) = line.k8s.as_deref_mut().filter(|_| max < LABELS_BELOW) else { return };
    if let Some(pod) = &mut k8s.pod {
        let omitted = u32::try_from(pod.label.len()).unwrap_or(u32::MAX);
        pod.label.clear();
        let omitted = omitted.saturating_add(line.tcpstates.labels_omitted.unwrap_or(0));
        line.tcpstates.labels_omitted = Some(omitted).filter(|omitted| *omitted > 0);
    }
    for named in [&mut k8s.cluster, &mut k8s.node].into_iter().flatten() {
        named.name = cut(&named.name, max / 16);
    }
}

fn times(spread: &Spread) -> Option<Times> {
    spread.mean().map(|mean_us| Times {
        count: spread.count,
        mean_us,
        max_us: spread.max,
        ..Times::default()
    })
}

fn network(common: &Common) -> SummaryNetwork {
    let port = Some(common.port).filter(|port| *port != 0);
    let is_server = common.role == Some(Role::Server);
    let peer = Endpoint {
        address: common.peer.map(|address| address.to_string()),
        port: port.filter(|_| !is_server),
    };
    SummaryNetwork {
        transport: Transport::Tcp,
        kind: common.family,
        local: port.filter(|_| is_server).map(|port| Endpoint { address: None, port: Some(port) }),
        peer: common.peer.map(|_| peer),
    }
}

#[cfg(test)]
#[path = "summary_tests.rs"]
mod tests;
