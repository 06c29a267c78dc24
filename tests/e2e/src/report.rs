//! What each node's agent reports of itself and of each trace: its `TcpStateNode`.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use crate::cluster::Cluster;
use crate::cluster::node::Identity;
use crate::wait;

/// An agent tells a change of state at once, but ten seconds after its last report at the soonest.
const PATIENCE: Duration = Duration::from_mins(1);

/// Of a node's report, in the API.
pub fn path(node: &str) -> String {
    format!("/apis/tcpstates.dev/v1alpha1/tcpstatenodes/{node}")
}

/// The report of one node.
#[derive(Clone, Debug)]
pub struct Report(pub Value);

impl Report {
    /// The report as the API server has it now.
    pub fn of(cluster: &Cluster, node: Identity) -> Result<Self> {
        cluster.kubectl().get(&path(node.name)).map(Self)
    }

    /// Waits until a node's report is as it should be; `holds` says why it is not.
    pub fn awaited(
        cluster: &Cluster,
        node: Identity,
        what: &str,
        holds: impl Fn(&Self) -> Result<(), String>,
    ) -> Result<Self> {
        wait::until(&format!("{} reports {what}", node.name), PATIENCE, || {
            let report = Self::of(cluster, node)?;
            Ok(holds(&report).map(|()| report))
        })
    }

    /// What it says of a trace: `namespace/name`, or the name of a cluster trace.
    pub fn trace(&self, name: &str) -> Option<&Value> {
        self.traces().find(|trace| name_of(trace) == name)
    }

    /// State and reason of a trace, each empty when it is not told.
    pub fn standing(&self, name: &str) -> (&str, &str) {
        let of_trace = |key: &str| self.trace(name).and_then(|trace| trace[key].as_str()).unwrap_or_default();
        (of_trace("state"), of_trace("reason"))
    }

    /// Names of the traces that are in a state.
    pub fn in_state(&self, state: &str) -> BTreeSet<String> {
        self.traces().filter(|trace| trace["state"] == state).map(name_of).collect()
    }

    fn traces(&self) -> impl Iterator<Item = &Value> {
        self.0["status"]["traces"].as_array().into_iter().flatten()
    }
}

fn name_of(trace: &Value) -> String {
    let name = trace["name"].as_str().unwrap_or_default();
    trace["namespace"].as_str().map_or_else(|| name.to_owned(), |namespace| format!("{namespace}/{name}"))
}
