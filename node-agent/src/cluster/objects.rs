//! Which objects are watched and what is kept of each; the rest is dropped as soon as it is read.

use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::api::{ApiResource, DynamicObject, PartialObjectMeta};
use kube::{Api, Client};
use kube_tcpstates_crds::{ClusterTcpStateTrace, TcpStateTrace, TraceKind};

use super::change::{Change, NamespaceObject, NodeObject};
use super::resource::Resource;
use super::watch::Watch;
use crate::plan::TraceObject;
use crate::roster::PodInfo;

/// The pods of a node.
pub(super) fn pods(client: &Client, node: &str) -> Watch<Pod, PodInfo> {
    Watch {
        resource: Resource::Pods,
        api: Api::all(client.clone()),
        fields: Some(format!("spec.nodeName={node}")),
        keep: |pod| PodInfo::from_api(&pod),
        change: Change::Pods,
    }
}

/// The node: its metadata, since its status changes all the time.
pub(super) fn node(client: &Client, node: &str) -> Watch<PartialObjectMeta<Node>, NodeObject> {
    Watch {
        resource: Resource::Nodes,
        api: Api::all(client.clone()),
        fields: Some(format!("metadata.name={node}")),
        keep: |node| {
            Some(NodeObject { uid: node.metadata.uid?, labels: node.metadata.labels.unwrap_or_default() })
        },
        change: Change::Nodes,
    }
}

/// Labels of all namespaces.
pub(super) fn namespaces(client: &Client) -> Watch<PartialObjectMeta<Namespace>, NamespaceObject> {
    Watch {
        resource: Resource::Namespaces,
        api: Api::all(client.clone()),
        fields: None,
        keep: |namespace| {
            let metadata = namespace.metadata;
            Some(NamespaceObject { name: metadata.name?, labels: metadata.labels.unwrap_or_default() })
        },
        change: Change::Namespaces,
    }
}

/// Traces of a kind, as JSON: a typed watch would lose the fields that this agent does not know, and trace more than
/// was asked.
pub(super) fn traces(client: &Client, kind: TraceKind) -> Watch<DynamicObject, TraceObject> {
    match kind {
        TraceKind::Namespaced => Watch {
            resource: Resource::Traces,
            api: Api::all_with(client.clone(), &ApiResource::erase::<TcpStateTrace>(&())),
            fields: None,
            keep: |trace| TraceObject::from_api(TraceKind::Namespaced, &serde_json::to_value(trace).ok()?),
            change: |told| Change::Traces(TraceKind::Namespaced, Box::new(told)),
        },
        TraceKind::Cluster => Watch {
            resource: Resource::ClusterTraces,
            api: Api::all_with(client.clone(), &ApiResource::erase::<ClusterTcpStateTrace>(&())),
            fields: None,
            keep: |trace| TraceObject::from_api(TraceKind::Cluster, &serde_json::to_value(trace).ok()?),
            change: |told| Change::Traces(TraceKind::Cluster, Box::new(told)),
        },
    }
}
