//! Which traces are active on this node, under which bit, and which pods and containers each of them selects. Pure:
//! resources, pods and the time go in, a [`Plan`] comes out; `pipeline` puts it in force, `cluster` reports it.
//!
//! ```text
//!  TraceObject (checked) ─┐
//!  Roster ────────────────┼─► Planner ─► Plan ─► pipeline: rules (filter), cgroup sets, names of lines, rates
//!  node, namespaces ──────┘                └───► cluster: TcpStateNode (state and reason of each trace)
//! ```

mod active;
mod api;
mod bound;
mod convert;
mod input;
mod judge;
mod planner;
mod scope;
mod stories;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod world;

use std::sync::Arc;

#[cfg(test)]
pub(crate) use active::support as tests_support;
pub use active::{ActiveTrace, Container, Plan, Sets, Subject};
pub use bound::{bound, thin};
pub use input::{Inputs, NamespaceLabels, TraceObject};
pub use kube_tcpstates_crds::TraceKey;
pub use kube_tcpstates_crds::node::TraceState;
pub use planner::{Planned, Planner, TraceStanding};
pub use scope::{IdScope, PodScope, Scope};
pub use stories::{Outcomes, Stories};

use crate::roster::{PodInfo, Roster};

/// What a run before this one knew.
#[derive(Clone, Debug, Default)]
pub struct Remembered {
    /// What it traced by, where that goes on until there is another plan.
    pub plan: Option<Plan>,
    /// Pods, and when each was deleted, boot time, ns.
    pub pods: Vec<(PodInfo, Option<u64>)>,
}

/// What the pipeline works by until the next one.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The active traces.
    pub plan: Arc<Plan>,
    /// The pods; `None` where no cluster is asked.
    pub roster: Option<Arc<Roster>>,
    /// Traces of this node that are refused, for the heartbeat.
    pub refused: u32,
}
