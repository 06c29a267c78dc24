//! Gives traces their bits.

use std::sync::Arc;

use kube_tcpstates_crds::node::TraceState;

use super::{Inputs, Plan, TraceKey};

/// What became of a trace on this node.
pub type State = TraceState;

/// How a trace stands on this node, for the report.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceStanding {
    /// `metadata.uid`.
    pub uid: String,
    /// Its name.
    pub key: TraceKey,
    /// `metadata.generation` of the spec this is about.
    pub generation: i64,
    /// What became of it.
    pub state: State,
    /// Why, in one word: `NoMatchingPods`, `NoMatchingNodes`, `SlotsExhausted`, `NamespaceQuota`, `InvalidSpec`,
    /// `UnsupportedByAgent`, `Expired`, `NamespacesUnknown`.
    pub reason: Option<&'static str>,
    /// The field at fault.
    pub field: Option<String>,
    /// Why, for people.
    pub message: Option<String>,
    /// Pods selected on this node.
    pub pods: u32,
}

/// Makes plans, one after the other: it remembers which trace has which bit.
#[derive(Debug, Default)]
pub struct Planner {
    /// Traces of one namespace that may be active; 0 is no limit.
    pub max_per_namespace: usize,
    last: Arc<Plan>,
}

/// What came of planning.
#[derive(Clone, Debug, Default)]
pub struct Planned {
    /// The active traces.
    pub plan: Arc<Plan>,
    /// Every trace that concerns the node, in the order in which they get slots.
    pub standings: Vec<TraceStanding>,
    /// When a ttl ends next, seconds since the Unix epoch.
    pub next_expiry_s: Option<i64>,
    /// A cluster trace asks for labels of namespaces.
    pub needs_namespaces: bool,
}

impl Planner {
    /// The plan for what is there now.
    pub fn plan(&mut self, inputs: &Inputs<'_>) -> Planned {
        let _ = inputs;
        Planned { plan: Arc::clone(&self.last), ..Planned::default() }
    }
}
