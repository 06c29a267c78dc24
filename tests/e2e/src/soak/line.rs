//! What the soak reads of a line. Millions of them come, so nothing else is kept of one.

use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// One JSON line of the agent.
#[derive(Debug, Deserialize)]
pub(super) struct Line {
    pub(super) tcpstates: Tcpstates,
    #[serde(default)]
    k8s: Kubernetes,
}

/// What is under `tcpstates`.
#[derive(Debug, Deserialize)]
pub(super) struct Tcpstates {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) run: String,
    pub(super) seq: Option<u64>,
    pub(super) old_state: Option<String>,
    pub(super) new_state: Option<String>,
    #[serde(default)]
    pub(super) inferred: bool,
    #[serde(default)]
    pub(super) gap: bool,
    #[serde(default)]
    traces: Vec<String>,
    connection: Option<Id>,
    cgroup: Option<Id>,
    pub(super) continues: Option<Continues>,
    pub(super) lost: Option<Lost>,
    #[serde(default, rename = "final")]
    pub(super) is_final: bool,
    pub(super) level: Option<String>,
    pub(super) text: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Id {
    id: Option<String>,
}

/// The run that one goes on from, and how many numbered lines of it count as written.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Continues {
    pub(super) run: String,
    pub(super) seq: u64,
}

/// Of a `lost` line.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) by_place: BTreeMap<String, u64>,
    /// Not read: a name may be anything.
    #[serde(default)]
    pub(super) by_trace: BTreeMap<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
struct Kubernetes {
    pod: Option<Named>,
}

#[derive(Debug, Deserialize)]
struct Named {
    name: Option<String>,
}

impl Line {
    /// Whether a trace asked for it; `namespace/name`.
    pub(super) fn is_of(&self, trace: &str) -> bool {
        self.tcpstates.traces.iter().any(|named| named == trace)
    }

    /// The pod that it names.
    pub(super) fn pod(&self) -> Option<&str> {
        self.k8s.pod.as_ref()?.name.as_deref()
    }

    /// The cgroup that made the socket, as the kernel numbers it.
    pub(super) fn cgroup(&self) -> Option<u64> {
        self.tcpstates.cgroup.as_ref()?.id.as_ref()?.parse().ok()
    }

    /// Which transition it is: a connection makes each but once.
    pub(super) fn transition(&self) -> Option<(&str, &str, &str)> {
        let id = self.tcpstates.connection.as_ref()?.id.as_deref()?;
        Some((id, self.tcpstates.old_state.as_deref()?, self.tcpstates.new_state.as_deref()?))
    }
}
