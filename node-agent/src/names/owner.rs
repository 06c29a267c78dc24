//! Who owns a socket, by all the names that are known of it.

use super::Workload;

/// What is known of the owner of a socket. Everything absent is left out of the line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Container id, 64 hex digits as a rule.
    pub container_id: Option<String>,
    /// Container runtime.
    pub runtime: Option<&'static str>,
    /// UID of the pod.
    pub pod_uid: Option<String>,
    /// Quality of service class: `guaranteed`, `burstable`, `besteffort`.
    pub qos: Option<&'static str>,
    /// Name of the pod.
    pub pod_name: Option<String>,
    /// Namespace of the pod.
    pub namespace: Option<String>,
    /// Name of the container in the pod.
    pub container_name: Option<String>,
    /// Name of the node.
    pub node: Option<String>,
    /// Name of the cluster.
    pub cluster: Option<String>,
    /// The workload that owns the pod.
    pub workload: Option<Workload>,
    /// Labels of the pod that the traces ask for, the important ones first.
    pub pod_labels: Vec<(String, String)>,
    /// systemd slice of a host process.
    pub host_slice: Option<String>,
    /// systemd unit of a host process.
    pub host_unit: Option<String>,
}
