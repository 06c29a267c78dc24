//! A pod as this crate keeps it.

use std::collections::BTreeMap;

use crate::names::Workload;

/// What is kept of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodInfo {
    /// `metadata.uid`.
    pub uid: String,
    /// Annotation `kubernetes.io/config.hash` of a mirror pod: what the cgroup path of a static pod has instead of
    /// the UID, 32 hex digits.
    pub config_hash: Option<String>,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// What owns it, by the rules of `docs/output.md`.
    pub workload: Option<Workload>,
    /// Containers of every kind, with the ids that the status has told so far.
    pub containers: Vec<ContainerInfo>,
    /// Phase Succeeded or Failed: it runs no more.
    pub ended: bool,
}

/// A container of a pod: an ordinary, init, sidecar or ephemeral one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerInfo {
    /// Its name in the spec.
    pub name: String,
    /// Ids without `<runtime>://`, the running one and the last terminated one. Empty while the kubelet has published
    /// none.
    pub ids: Vec<String>,
}

impl PodInfo {
    /// Name of the container with an id.
    pub fn container_name(&self, id: &str) -> Option<&str> {
        let of = |container: &&ContainerInfo| container.ids.iter().any(|known| known == id);
        self.containers.iter().find(of).map(|container| container.name.as_str())
    }
}
