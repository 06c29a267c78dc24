//! What a running pipeline tells of itself when it is asked: for the node's status and for metrics.

use std::{collections::BTreeMap, sync::Arc};

use super::Tally;
use crate::workloads::Workloads;

/// Counts of one trace since the agent started, transitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TraceCounts {
    /// Written.
    pub events: u64,
    /// Lost, in the kernel or on the way.
    pub lost: u64,
    /// Left out by a rate limit.
    pub limited: u64,
}

/// Everything a pipeline tells.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// All counts; running, so they may differ by what is in flight.
    pub tally: Tally,
    /// The programs are attached.
    pub attached: bool,
    /// Why what should be traced is not, the last time that was tried.
    pub failure: Option<String>,
    /// Counts by the trace's UID. A trace that is gone keeps its counts.
    pub traces: BTreeMap<String, TraceCounts>,
    /// Transitions that wait for an owner's name, or for who else wants them.
    pub held: u64,
    /// Cgroups known.
    pub cgroups: usize,
    /// What the connections of workloads add up to, where that is counted.
    pub workloads: Option<Arc<Workloads>>,
}
