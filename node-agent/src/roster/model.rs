//! A pod as this crate keeps it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::names::Workload;

/// What is kept of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
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
    /// Where it is to be reached.
    pub network: PodNetwork,
}

/// Addresses of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodNetwork {
    /// `status.podIPs`; none until it has one.
    pub addresses: Vec<IpAddr>,
    /// `spec.hostNetwork`: its addresses are the node's, and others have them too.
    pub is_the_nodes: bool,
    /// `status.startTime`, seconds since the Unix epoch.
    pub started_s: Option<i64>,
}

/// A container of a pod: an ordinary, init, sidecar or ephemeral one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerInfo {
    /// Its name in the spec.
    pub name: String,
    /// Ids without `<runtime>://`, the running one and the last terminated one. Empty while the kubelet has published
    /// none.
    pub ids: Vec<String>,
}

impl PodInfo {
    /// Name of the container with an id. The first container of a pod that has only one need not be in the status yet:
    /// the kubelet publishes ids a second or two after the start.
    pub fn container_name(&self, id: &str) -> Option<&str> {
        let of = |container: &&ContainerInfo| container.ids.iter().any(|known| known == id);
        let found = self.containers.iter().find(of).or(match self.containers.as_slice() {
            [only] if only.ids.is_empty() => Some(only),
            _ => None,
        });
        found.map(|container| container.name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::{ContainerInfo, PodInfo};

    fn pod(containers: &[(&str, &[&str])]) -> PodInfo {
        let containers = containers.iter().map(|(name, ids)| ContainerInfo {
            name: (*name).to_owned(),
            ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        });
        PodInfo { containers: containers.collect(), ..PodInfo::default() }
    }

    #[test]
    fn the_only_container_of_a_pod_is_known_before_the_status_has_its_id() {
        assert_eq!(pod(&[("app", &[])]).container_name("aa"), Some("app"));
        // One that was started again, or a debug container that is not in the list yet: who knows.
        assert_eq!(pod(&[("app", &["aa"])]).container_name("bb"), None);
        assert_eq!(pod(&[("app", &["aa"])]).container_name("aa"), Some("app"));
        assert_eq!(pod(&[("app", &[]), ("proxy", &[])]).container_name("aa"), None);
        assert_eq!(pod(&[("app", &["aa"]), ("proxy", &[])]).container_name("bb"), None);
        assert_eq!(pod(&[]).container_name("aa"), None);
    }
}
