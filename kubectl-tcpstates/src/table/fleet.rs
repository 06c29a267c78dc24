//! The agents of all nodes, and how each trace does on them.

use jiff::{SignedDuration, Timestamp};
use kube_tcpstates_crds::TcpStateNode;
use kube_tcpstates_crds::node::{NodeTrace, TcpStateNodeStatus, TraceState};
use kube_tcpstates_crds::status::{ConditionStatus, Counts};

use super::{Column, Cut, number, short_time, whole};
use crate::paint::{Colour, Paint};
use crate::standing::name_of;

/// A node as it is shown.
struct Row {
    name: String,
    status: TcpStateNodeStatus,
    reported: Option<SignedDuration>,
    is_silent: bool,
}

const NODES: &[Column<Row>] = &[
    Column::<Row>::new("NODE", 0, Cut::Never, |row| row.name.clone()),
    Column::<Row>::new("READY", 0, Cut::Never, ready).coloured(|row| bad(ready(row) != "True")),
    Column::<Row>::new("AGENT", 0, Cut::Never, |row| row.status.version.clone().unwrap_or_default()),
    Column::<Row>::new("KERNEL", 0, Cut::Never, |row| row.status.kernel.clone().unwrap_or_default()),
    Column::<Row>::new("HOOK", 0, Cut::Never, |row| row.status.hook.clone().unwrap_or_default()),
    Column::<Row>::new("TRACES", 0, Cut::Number, |row| number(row.status.traces_loaded)),
    Column::<Row>::new("EVENTS", 0, Cut::Number, |row| number(row.status.counts.map(|counts| counts.events))),
    Column::<Row>::new("LOST", 0, Cut::Number, |row| number(row.status.counts.map(|counts| counts.lost)))
        .coloured(|row| bad(row.status.counts.is_some_and(|counts| counts.lost > 0))),
    Column::<Row>::new("LIMITED", 0, Cut::Number, |row| {
        number(row.status.counts.map(|counts| counts.limited))
    }),
    Column::<Row>::new("REPORTED", 0, Cut::Never, reported).coloured(|row| bad(row.is_silent)),
];

fn bad(is_bad: bool) -> Colour {
    if is_bad { Colour::Red } else { Colour::None }
}

fn ready(row: &Row) -> String {
    let ready = row.status.conditions.iter().find(|condition| condition.type_ == "Ready");
    match ready.map(|condition| condition.status) {
        Some(ConditionStatus::True) if row.is_silent => "Unknown".to_owned(),
        Some(ConditionStatus::True) => "True".to_owned(),
        Some(ConditionStatus::False) => "False".to_owned(),
        Some(ConditionStatus::Unknown) | None => "Unknown".to_owned(),
    }
}

fn reported(row: &Row) -> String {
    let us = |age: SignedDuration| u64::try_from(age.as_micros()).unwrap_or(0);
    row.reported.map_or_else(|| "never".to_owned(), |age| format!("{} ago", short_time(us(age))))
}

/// A row for each node.
pub(crate) fn nodes(out: &mut Vec<u8>, nodes: &[TcpStateNode], now: Timestamp, paint: Paint) {
    let rows: Vec<Row> = nodes
        .iter()
        .map(|node| {
            let status = node.status.clone().unwrap_or_default();
            let reported = status.last_report_time.as_ref().map(|time| now.duration_since(time.0));
            Row {
                name: name_of(node).to_owned(),
                status,
                reported,
                is_silent: crate::standing::silent_for(node, now).is_some(),
            }
        })
        .collect();
    whole(out, NODES, &rows, paint);
}

/// A trace on all nodes together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    name: String,
    pods: u32,
    tracing: usize,
    nodes: usize,
    counts: Counts,
    /// What hinders it, and where.
    trouble: String,
}

const TRACES: &[Column<Standing>] = &[
    Column::<Standing>::new("TRACE", 0, Cut::Never, |row| row.name.clone()),
    Column::<Standing>::new("PODS", 0, Cut::Number, |row| row.pods.to_string()),
    Column::<Standing>::new("NODES", 0, Cut::Number, |row| format!("{}/{}", row.tracing, row.nodes))
        .coloured(|row| bad(row.tracing < row.nodes)),
    Column::<Standing>::new("EVENTS", 0, Cut::Number, |row| row.counts.events.to_string()),
    Column::<Standing>::new("LOST", 0, Cut::Number, |row| row.counts.lost.to_string())
        .coloured(|row| bad(row.counts.lost > 0)),
    Column::<Standing>::new("LIMITED", 0, Cut::Number, |row| row.counts.limited.to_string()),
    Column::<Standing>::new("TROUBLE", 0, Cut::Never, |row| row.trouble.clone())
        .coloured(|row| bad(!row.trouble.is_empty())),
];

/// How each trace does, by name; of one namespace and of the cluster, or of all.
pub(crate) fn standings(nodes: &[TcpStateNode], namespace: Option<&str>) -> Vec<Standing> {
    let mut found = std::collections::BTreeMap::<String, Standing>::new();
    for node in nodes {
        for trace in node.status.iter().flat_map(|status| &status.traces) {
            if namespace.is_some() && trace.namespace.is_some() && trace.namespace.as_deref() != namespace {
                continue;
            }
            let name = match &trace.namespace {
                Some(namespace) => format!("{namespace}/{}", trace.name),
                None => trace.name.clone(),
            };
            let standing = found.entry(name.clone()).or_insert_with(|| Standing {
                name,
                pods: 0,
                tracing: 0,
                nodes: 0,
                counts: Counts::default(),
                trouble: String::new(),
            });
            standing.add(name_of(node), trace);
        }
    }
    found.into_values().collect()
}

impl Standing {
    fn add(&mut self, node: &str, trace: &NodeTrace) {
        let counts = trace.counts.unwrap_or_default();
        self.counts.events += counts.events;
        self.counts.lost += counts.lost;
        self.counts.limited += counts.limited;
        self.pods += trace.pods.unwrap_or(0);
        match trace.state {
            TraceState::Idle => return,
            TraceState::Tracing => self.tracing += 1,
            state => {
                if self.trouble.is_empty() {
                    let reason = trace.reason.clone().unwrap_or_else(|| format!("{state:?}"));
                    self.trouble = format!("{reason} on {node}");
                }
            }
        }
        self.nodes += 1;
    }
}

/// A row for each trace.
pub(crate) fn traces(out: &mut Vec<u8>, standings: &[Standing], paint: Paint) {
    whole(out, TRACES, standings, paint);
}
