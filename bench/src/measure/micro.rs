//! The pure parts, one at a time, on records of a real run.

use std::collections::HashMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use kube_tcpstates::connection::ConnectionIds;
use kube_tcpstates::decode::{self, Transition};
use kube_tcpstates::filter::{TraceFilter, UserTables, compile};
use kube_tcpstates::identity::{Index, Limits};
use kube_tcpstates::names::{Numbered, Owner, TraceName};
use kube_tcpstates::render::{
    Attribution, AttributionSource, AttributionStatus, Event, FORMATS, FormatOptions,
};
use kube_tcpstates_common::classify::{Connection, judge_connection, judge_transition};
use kube_tcpstates_common::record::TransitionRecord;

use super::{records, stage::Stage};
use crate::report::Report;

const GROUP: &str = "pure parts, user space";
const BATCHES: usize = 11;
/// A batch takes at least so long.
const LEAST: Duration = Duration::from_millis(50);
/// Containers in the index.
const CONTAINERS: u64 = 1_000;

pub(super) fn measure(stage: &Stage<'_>, report: &mut Report) -> Result<()> {
    let records = records::transitions(stage)?;
    let transitions: Vec<Transition> = records.iter().flat_map(decode::transitions).collect();
    report.add(
        GROUP,
        "decode a record",
        "ns",
        per_item(&records, |record| {
            decode::for_each_transition(record, None, |transition| {
                black_box(transition);
            });
        }),
    );
    let ids = ConnectionIds::new("00000000-0000-4000-8000-000000000000", [7; 16]);
    report.add(
        GROUP,
        "name a connection",
        "ns",
        per_item(&transitions, |transition| {
            black_box(ids.id(transition));
        }),
    );
    let index = index(stage.container.cgroup_id(), &stage.container.path());
    report.add(
        GROUP,
        "look up a cgroup among 1,000",
        "ns",
        per_item(&transitions, |transition| {
            black_box(transition.cgroup_id.and_then(|id| index.get(id)));
        }),
    );
    classify(&records, report)?;
    render(&transitions, report);
    Ok(())
}

fn index(id: u64, path: &str) -> Index {
    let mut index = Index::new(Limits::default());
    for number in 1..=CONTAINERS {
        let path = format!("/kubepods/burstable/pod{number:08x}-7e57-4000-8000-000000000000/{number:064x}");
        index.created(number, &path, 1);
    }
    index.created(id, path, 1);
    index
}

fn classify(records: &[TransitionRecord], report: &mut Report) -> Result<()> {
    let filter = TraceFilter::default();
    let rules = compile([(0, &filter)]).context("compile a trace")?;
    let cgroups = HashMap::new();
    let tables = UserTables { rules: &rules, cgroups: &cgroups };
    report.add(
        GROUP,
        "classify (one trace, tables of user space)",
        "ns",
        per_item(records, |record| {
            let connection = Connection {
                cgroup_id: record.cgroup_id,
                netns: record.netns,
                family: record.family,
                role: record.role,
                local_port: record.local_port,
                peer_port: record.peer_port,
                peer: record.peer,
                listener: 0,
            };
            let interest = judge_connection(&tables, &rules.table, &connection);
            black_box(judge_transition(
                &rules.table,
                &interest,
                record.old_state,
                record.new_state,
                record.duration_ns,
            ));
        }),
    );
    Ok(())
}

fn render(transitions: &[Transition], report: &mut Report) {
    let owner = Numbered::new(Owner {
        container_id: Some("c0ffee".repeat(11)),
        pod_uid: Some("6f9d1c2e-0b1a-4c3d-8e5f-0123456789ab".to_owned()),
        qos: Some("burstable"),
        pod_name: Some("client-7d9c5b8f6d-x2x4z".to_owned()),
        namespace: Some("shop".to_owned()),
        container_name: Some("client".to_owned()),
        node: Some("node-1".to_owned()),
        ..Owner::default()
    });
    let traces = Numbered::new(vec![TraceName::Namespaced("client-resets".to_owned())]);
    for entry in FORMATS {
        let mut format = (entry.make)(&FormatOptions::default());
        let mut out = Vec::with_capacity(1 << 16);
        let runs = per_item(transitions, |transition| {
            if out.len() > 60_000 {
                out.clear();
            }
            let event = Event {
                transition,
                unix_ns: 1_800_000_000_000_000_000 + transition.boot_ns,
                connection_id: transition.socket,
                attribution: Attribution {
                    source: AttributionSource::SocketCgroup,
                    status: AttributionStatus::Resolved,
                },
                owner: Some(&owner),
                peer: None,
                traces: &traces,
            };
            format.transition(&mut out, 1, &event);
        });
        report.add(GROUP, format!("render, {}", entry.name), "ns", runs);
    }
}

/// Nanoseconds for each item, batch by batch.
#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn per_item<T>(items: &[T], mut act: impl FnMut(&T)) -> Vec<f64> {
    let mut batch = || {
        let start = Instant::now();
        let mut count = 0_u64;
        while start.elapsed() < LEAST {
            items.iter().for_each(&mut act);
            count += items.len() as u64;
        }
        start.elapsed().as_nanos() as f64 / count as f64
    };
    // The first one warms up.
    batch();
    (0..BATCHES).map(|_| batch()).collect()
}
