//! The resources that the agent speaks of with the API server.

use kube_tcpstates_client::Resource;
use kube_tcpstates_crds::{GROUP, TraceKind, VERSION};

use super::slices;

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

/// Addresses of Services.
pub const SERVICES: Resource = Resource::new("", "v1", "services");
/// The pods behind them. Version 1 came with Kubernetes 1.21.
pub const ENDPOINT_SLICES: Resource =
    Resource::new("discovery.k8s.io", "v1", "endpointslices").or(slices::OLDER);

/// All of them.
pub const ALL: [Resource; 8] =
    [PODS, NODES, NAMESPACES, TRACES, CLUSTER_TRACES, REPORTS, SERVICES, ENDPOINT_SLICES];
/// Those that are watched, the last three only when a trace needs them.
pub const WATCHED: [Resource; 7] =
    [PODS, NODES, TRACES, CLUSTER_TRACES, NAMESPACES, SERVICES, ENDPOINT_SLICES];
/// Those that tell who the other end of a connection is.
pub const OF_PEERS: [Resource; 2] = [SERVICES, ENDPOINT_SLICES];
/// Those whose lists must have come once before anything is traced.
pub const REQUIRED: [Resource; 4] = [PODS, NODES, TRACES, CLUSTER_TRACES];

/// The resource that holds a kind of trace.
pub const fn of_traces(kind: TraceKind) -> Resource {
    match kind {
        TraceKind::Namespaced => TRACES,
        TraceKind::Cluster => CLUSTER_TRACES,
    }
}
