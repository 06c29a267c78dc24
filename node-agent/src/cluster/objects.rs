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
pub fn pods(client: &Client, node: &str) -> Watch<Pod, PodInfo> {
    Watch {
        resource: Resource::Pods,
        api: Api::all(client.clone()),
        fields: Some(format!("spec.nodeName={node}")),
        keep: |pod| PodInfo::from_api(&pod),
        change: Change::Pods,
    }
}

/// The node: its metadata, since its status changes all the time.
pub fn node(client: &Client, node: &str) -> Watch<PartialObjectMeta<Node>, NodeObject> {
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
pub fn namespaces(client: &Client) -> Watch<PartialObjectMeta<Namespace>, NamespaceObject> {
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
pub fn traces(client: &Client, kind: TraceKind) -> Watch<DynamicObject, TraceObject> {
    let (resource, change): (_, fn(_) -> _) = match kind {
        TraceKind::Namespaced => {
            (ApiResource::erase::<TcpStateTrace>(&()), |told| Change::Traces(TraceKind::Namespaced, told))
        }
        TraceKind::Cluster => {
            (ApiResource::erase::<ClusterTcpStateTrace>(&()), |told| Change::Traces(TraceKind::Cluster, told))
        }
    };
    Watch {
        resource: Resource::of_traces(kind),
        api: Api::all_with(client.clone(), &resource),
        fields: None,
        keep: |trace| TraceObject::from_api(&serde_json::to_value(trace).ok()?),
        change,
    }
}

// TEMPORARY until h-roster is merged.
impl PodInfo {
    pub fn from_api(pod: &Pod) -> Option<Self> {
        let m = &pod.metadata;
        let st = pod.status.as_ref();
        let containers = pod
            .spec
            .as_ref()?
            .containers
            .iter()
            .map(|c| crate::roster::ContainerInfo {
                name: c.name.clone(),
                ids: st
                    .and_then(|s| s.container_statuses.as_ref())
                    .into_iter()
                    .flatten()
                    .filter(|s| s.name == c.name)
                    .filter_map(|s| s.container_id.as_ref())
                    .filter_map(|i| Some(i.split_once("://")?.1.to_owned()))
                    .collect(),
            })
            .collect();
        Some(Self {
            uid: m.uid.clone()?,
            namespace: m.namespace.clone()?,
            name: m.name.clone()?,
            labels: m.labels.clone().unwrap_or_default(),
            containers,
            ..Self::default()
        })
    }
}
impl TraceObject {
    pub fn from_api(v: &serde_json::Value) -> Option<Self> {
        let m = &v["metadata"];
        Some(Self {
            key: crate::plan::TraceKey {
                namespace: m["namespace"].as_str().map(str::to_owned),
                name: m["name"].as_str()?.to_owned(),
            },
            uid: m["uid"].as_str()?.to_owned(),
            generation: m["generation"].as_i64()?,
            created_s: 0,
            checked: kube_tcpstates_crds::validate::check_object(v),
        })
    }
}
