//! The resources that the agent speaks of with the API server.

use kube_tcpstates_client::Resource;
use kube_tcpstates_crds::{GROUP, TraceKind, VERSION};

/// The pods of the node.
pub const PODS: Resource = Resource::new("", "v1", "pods");
/// The node itself.
pub const NODES: Resource = Resource::new("", "v1", "nodes");
/// Labels of namespaces.
pub const NAMESPACES: Resource = Resource::new("", "v1", "namespaces");
/// `TcpStateTrace`.
pub const TRACES: Resource = Resource::new(GROUP, VERSION, "tcpstatetraces");
/// `ClusterTcpStateTrace`.
pub const CLUSTER_TRACES: Resource = Resource::new(GROUP, VERSION, "clustertcpstatetraces");
/// `TcpStateNode`, the agent's report.
pub const REPORTS: Resource = Resource::new(GROUP, VERSION, "tcpstatenodes");

/// All of them.
pub const ALL: [Resource; 6] = [PODS, NODES, NAMESPACES, TRACES, CLUSTER_TRACES, REPORTS];
/// Those that are watched, one of them only when a trace needs it.
pub const WATCHED: [Resource; 5] = [PODS, NODES, NAMESPACES, TRACES, CLUSTER_TRACES];
/// Those whose lists must have come once before anything is traced.
pub const REQUIRED: [Resource; 4] = [PODS, NODES, TRACES, CLUSTER_TRACES];

/// The resource that holds a kind of trace.
pub const fn of_traces(kind: TraceKind) -> Resource {
    match kind {
        TraceKind::Namespaced => TRACES,
        TraceKind::Cluster => CLUSTER_TRACES,
    }
}
