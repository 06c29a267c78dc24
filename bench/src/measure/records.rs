//! Records of a real run, to be replayed.

use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use kube_tcpstates_common::record::TransitionRecord;

use super::stage::Stage;
use crate::load::Length;
use crate::traces;

/// Connections recorded.
const CONNECTIONS: u64 = 2_000;

/// Every record that some thousand connections of the stage's container make, in the order of the ring.
pub(super) fn record(stage: &Stage<'_>) -> Result<Vec<TransitionRecord>> {
    // Started first: its listener's own transition is not among what it counts.
    let mut traffic = stage.traffic(&[])?;
    let (mut kernel, mut events) = traces::attach(1, false, stage.container.cgroup_id())?;
    let report = traffic.run(Length::Connections(CONNECTIONS))?;
    thread::sleep(Duration::from_millis(20));
    kernel.detach();
    let cgroup = stage.container.cgroup_id();
    let mut records = Vec::new();
    while events.drain(|record, _| records.extend((record.cgroup_id == cgroup).then_some(*record))) > 0 {}
    ensure!(
        records.len() as u64 == report.transitions,
        "{} records of {} transitions",
        records.len(),
        report.transitions
    );
    Ok(records)
}
