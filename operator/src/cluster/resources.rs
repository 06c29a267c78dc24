//! The resources that the operator speaks of with the API server.

use kube_tcpstates_client::Resource;
use kube_tcpstates_crds::{GROUP, TraceKind, VERSION};

/// `TcpStateTrace`.
pub const TRACES: Resource = Resource::new(GROUP, VERSION, "tcpstatetraces");
/// `ClusterTcpStateTrace`.
pub const CLUSTER_TRACES: Resource = Resource::new(GROUP, VERSION, "clustertcpstatetraces");
/// What agents report.
pub const REPORTS: Resource = Resource::new(GROUP, VERSION, "tcpstatenodes");
/// Nodes, their metadata.
pub const NODES: Resource = Resource::new("", "v1", "nodes");
/// Who leads.
pub const LEASES: Resource = Resource::new("coordination.k8s.io", "v1", "leases");
/// What happened to a trace.
pub const EVENTS: Resource = Resource::new("events.k8s.io", "v1", "events");

/// All of them.
pub const ALL: [Resource; 6] = [TRACES, CLUSTER_TRACES, REPORTS, NODES, LEASES, EVENTS];
/// Those that are watched.
pub const WATCHED: [Resource; 4] = [TRACES, CLUSTER_TRACES, REPORTS, NODES];

/// The resource that holds a kind of trace.
pub const fn of_traces(kind: TraceKind) -> Resource {
    match kind {
        TraceKind::Namespaced => TRACES,
        TraceKind::Cluster => CLUSTER_TRACES,
    }
}
