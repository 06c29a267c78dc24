//! Records of a real run, to be replayed.

use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use kube_tcpstates::filter::Mode;
use kube_tcpstates_common::record::{ConnectionRecord, Figures, TransitionRecord};

use super::stage::Stage;
use crate::load::{self, Length};
use crate::traces;

/// Connections recorded.
const CONNECTIONS: u64 = 2_000;

/// Every record that some thousand connections of the stage's container make, in the order of the ring.
pub(super) fn transitions(stage: &Stage<'_>) -> Result<Vec<TransitionRecord>> {
    let mut records = Vec::new();
    let report = record(stage, Mode::Transitions, |record, _| records.push(*record))?;
    ensure!(
        records.len() as u64 == report.transitions,
        "{} records of {} transitions",
        records.len(),
        report.transitions
    );
    Ok(records)
}

/// The record of each of their ends, two a connection.
pub(super) fn connections(stage: &Stage<'_>) -> Result<Vec<ConnectionRecord>> {
    let mut records = Vec::new();
    let report = record(stage, Mode::Connections, |record, figures| {
        records.extend(figures.map(|figures| ConnectionRecord { transition: *record, figures: *figures }));
    })?;
    let ends = 2 * report.connections;
    ensure!(records.len() as u64 == ends, "{} records of {ends} ends of connections", records.len());
    Ok(records)
}

fn record(
    stage: &Stage<'_>,
    mode: Mode,
    mut take: impl FnMut(&TransitionRecord, Option<&Figures>),
) -> Result<load::Report> {
    // Started first: its listener's own transition is not among what it counts.
    let mut traffic = stage.traffic(&[])?;
    let (mut kernel, mut events) = traces::attach_to_all(mode, stage.container.cgroup_id())?;
    let report = traffic.run(Length::Connections(CONNECTIONS))?;
    thread::sleep(Duration::from_millis(20));
    kernel.detach();
    let cgroup = stage.container.cgroup_id();
    let mut take_ours = |record: &TransitionRecord, figures: Option<&Figures>| {
        if record.cgroup_id == cgroup {
            take(record, figures);
        }
    };
    while events.drain(&mut take_ours) > 0 {}
    Ok(report)
}
