//! The resources that the agent speaks of with the API server.

use kube_tcpstates_crds::{GROUP, TraceKind, VERSION};

/// A resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// The pods of the node.
    Pods,
    /// The node itself.
    Nodes,
    /// Labels of namespaces.
    Namespaces,
    /// `TcpStateTrace`.
    Traces,
    /// `ClusterTcpStateTrace`.
    ClusterTraces,
    /// `TcpStateNode`, the agent's report.
    Reports,
}

impl Resource {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Pods, Self::Nodes, Self::Namespaces, Self::Traces, Self::ClusterTraces, Self::Reports];
    /// Those that are watched, one of them only when a trace needs it.
    pub const WATCHED: [Self; 5] =
        [Self::Pods, Self::Nodes, Self::Namespaces, Self::Traces, Self::ClusterTraces];
    /// Those whose lists must have come once before anything is traced.
    pub const REQUIRED: [Self; 4] = [Self::Pods, Self::Nodes, Self::Traces, Self::ClusterTraces];

    /// Its name in a path.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Pods => "pods",
            Self::Nodes => "nodes",
            Self::Namespaces => "namespaces",
            Self::Traces => "tcpstatetraces",
            Self::ClusterTraces => "clustertcpstatetraces",
            Self::Reports => "tcpstatenodes",
        }
    }

    /// The resource that holds a kind of trace.
    pub const fn of_traces(kind: TraceKind) -> Self {
        match kind {
            TraceKind::Namespaced => Self::Traces,
            TraceKind::Cluster => Self::ClusterTraces,
        }
    }

    /// Which resource a request is about. All of the agent's requests are about all namespaces.
    pub fn of_path(path: &str) -> Option<Self> {
        let rest = path.strip_prefix("/api/v1/").or_else(|| {
            let rest = path.strip_prefix("/apis/")?;
            rest.strip_prefix(GROUP)?.strip_prefix('/')?.strip_prefix(VERSION)?.strip_prefix('/')
        })?;
        let plural = rest.split('/').next()?;
        Self::ALL.into_iter().find(|resource| resource.plural() == plural)
    }
}

#[cfg(test)]
mod tests {
    use super::Resource;

    #[test]
    fn a_path_tells_its_resource() {
        let cases = [
            ("/api/v1/pods", Some(Resource::Pods)),
            ("/api/v1/nodes", Some(Resource::Nodes)),
            ("/apis/tcpstates.dev/v1alpha1/tcpstatetraces", Some(Resource::Traces)),
            ("/apis/tcpstates.dev/v1alpha1/tcpstatenodes/node-a/status", Some(Resource::Reports)),
            ("/apis/tcpstates.dev/v2/tcpstatenodes", None),
            ("/version", None),
        ];
        for (path, resource) in cases {
            assert_eq!(Resource::of_path(path), resource, "{path}");
        }
    }
}
