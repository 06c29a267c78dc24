//! `tcpstates.peer`: who the other end of a connection is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Named;

/// Who the other end of a connection is: who had its address when the connection began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Peer {
    /// The Kubernetes objects.
    pub k8s: PeerK8s,
    /// What told it.
    pub source: PeerSource,
}

/// The Kubernetes objects at the other end: a Service, a pod, or a pod and the only Service that it is behind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PeerK8s {
    /// Namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Named>,
    /// Service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<Named>,
    /// Pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<PeerPod>,
    /// Deployment that owns the pod. This and the other workloads are known of pods of the agent's own node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment: Option<Named>,
    /// `ReplicaSet` that owns the pod and is not a Deployment's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicaset: Option<Named>,
    /// `StatefulSet` that owns the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statefulset: Option<Named>,
    /// `DaemonSet` that owns the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub daemonset: Option<Named>,
    /// Job that owns the pod and is not a `CronJob`'s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<Named>,
    /// `CronJob` that owns the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cronjob: Option<Named>,
}

/// A pod at the other end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PeerPod {
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
}

/// What told who the other end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PeerSource {
    /// The address is a Service's.
    Service,
    /// An `EndpointSlice` names the pod.
    EndpointSlice,
    /// It is a pod of the agent's own node.
    Node,
}

impl PeerSource {
    /// As it stands on a line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::EndpointSlice => "endpointslice",
            Self::Node => "node",
        }
    }
}
