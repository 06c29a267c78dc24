//! From a pod as the API server hands it out to what is kept of it.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::workload::workload;
use super::{ContainerInfo, PodInfo, PodNetwork};

/// On a mirror pod: what the kubelet calls the static pod, also in cgroup paths.
const CONFIG_HASH: &str = "kubernetes.io/config.hash";
/// Marks a mirror pod; its value is the same hash.
const CONFIG_MIRROR: &str = "kubernetes.io/config.mirror";

impl PodInfo {
    /// What is kept of a pod. `None` for an object without UID, name or namespace, which no API server hands out.
    pub fn from_api(pod: &Pod) -> Option<Self> {
        let metadata = &pod.metadata;
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        Some(Self {
            uid: metadata.uid.clone().filter(|uid| !uid.is_empty())?,
            config_hash: config_hash(metadata),
            namespace: metadata.namespace.clone()?,
            name: metadata.name.clone()?,
            labels: metadata.labels.clone().unwrap_or_default(),
            workload: workload(metadata),
            containers: containers(pod.spec.as_ref(), pod.status.as_ref()),
            ended: matches!(phase, Some("Succeeded" | "Failed")),
            network: network(pod.spec.as_ref(), pod.status.as_ref()),
        })
    }
}

/// Only of a mirror pod. On any other pod the annotation is a claim to somebody else's cgroup.
fn config_hash(metadata: &ObjectMeta) -> Option<String> {
    let annotations = metadata.annotations.as_ref()?;
    let hash = annotations.get(CONFIG_HASH).filter(|hash| !hash.is_empty())?;
    (annotations.get(CONFIG_MIRROR) == Some(hash)).then(|| hash.clone())
}

/// `podIP` is the first of `podIPs`, and all there is from servers before 1.16.
fn network(spec: Option<&PodSpec>, status: Option<&PodStatus>) -> PodNetwork {
    let all = status.into_iter().flat_map(|status| status.pod_ips.iter().flatten()).map(|ip| &ip.ip);
    let mut addresses: Vec<_> = all.filter_map(|ip| ip.parse().ok()).collect();
    if addresses.is_empty() {
        addresses.extend(status.and_then(|status| status.pod_ip.as_ref()?.parse::<IpAddr>().ok()));
    }
    PodNetwork {
        addresses,
        is_the_nodes: spec.is_some_and(|spec| spec.host_network == Some(true)),
        started_s: status.and_then(|status| Some(status.start_time.as_ref()?.0.as_second())),
    }
}

/// Containers that the spec names, in its order, with the ids of the status.
fn containers(spec: Option<&PodSpec>, status: Option<&PodStatus>) -> Vec<ContainerInfo> {
    let mut containers: Vec<ContainerInfo> = spec.into_iter().flat_map(names).map(named).collect();
    for status in status.into_iter().flat_map(statuses) {
        let index = containers.iter().position(|known| known.name == status.name).unwrap_or_else(|| {
            containers.push(named(&status.name));
            containers.len() - 1
        });
        let known = &mut containers[index].ids;
        for id in ids(status) {
            if !known.iter().any(|known| known == id) {
                known.push(id.to_owned());
            }
        }
    }
    containers
}

fn named(name: &str) -> ContainerInfo {
    ContainerInfo { name: name.to_owned(), ids: Vec::new() }
}

fn names(spec: &PodSpec) -> impl Iterator<Item = &str> {
    let init = spec.init_containers.iter().flatten().map(|container| &container.name);
    let ordinary = spec.containers.iter().map(|container| &container.name);
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|container| &container.name);
    init.chain(ordinary).chain(ephemeral).map(String::as_str)
}

fn statuses(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    let kinds =
        [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses];
    kinds.into_iter().flatten().flatten()
}

/// The id of the container that runs or ran last, and of the one before it.
fn ids(status: &ContainerStatus) -> impl Iterator<Item = &str> {
    let last = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let last = last.and_then(|terminated| terminated.container_id.as_deref());
    let ids = status.container_id.as_deref().into_iter().chain(last);
    // `<runtime>://<id>`; empty until the container was made.
    ids.map(|id| id.split_once("://").map_or(id, |(_, id)| id)).filter(|id| !id.is_empty())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;
    use crate::names::{Workload, WorkloadKind};

    fn pod(object: Value) -> Option<PodInfo> {
        PodInfo::from_api(&serde_json::from_value(object).unwrap())
    }

    #[test]
    fn a_pod_keeps_what_lines_and_selectors_need() {
        let full = pod(json!({
            "metadata": {
                "uid": "u1", "namespace": "shop", "name": "cart-7d4f-x", "labels": {"app": "cart", "pod-template-hash": "7d4f"},
                "annotations": {"secret": "not kept"},
                "ownerReferences": [
                    {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "cart-7d4f", "uid": "r", "controller": true},
                ],
            },
            "spec": {
                "containers": [{"name": "app"}, {"name": "proxy"}],
                "initContainers": [{"name": "migrate"}],
                "ephemeralContainers": [{"name": "debug"}],
            },
            "status": {
                "phase": "Running", "podIP": "10.1.2.3", "podIPs": [{"ip": "10.1.2.3"}, {"ip": "fd00::3"}],
                "startTime": "2026-11-22T15:25:00Z",
                "containerStatuses": [
                    {"name": "app", "containerID": "containerd://aa", "image": "", "imageID": "", "ready": true,
                     "restartCount": 1, "lastState": {"terminated": {"containerID": "containerd://bb", "exitCode": 1}}},
                    {"name": "proxy", "containerID": "", "image": "", "imageID": "", "ready": false, "restartCount": 0},
                ],
                "initContainerStatuses": [
                    {"name": "migrate", "containerID": "cri-o://cc", "image": "", "imageID": "", "ready": true,
                     "restartCount": 0, "state": {"terminated": {"containerID": "cri-o://cc", "exitCode": 0}}},
                ],
                "ephemeralContainerStatuses": [
                    {"name": "debug", "containerID": "docker://dd", "image": "", "imageID": "", "ready": false,
                     "restartCount": 0},
                ],
            },
        }))
        .unwrap();
        let container = |name: &str, ids: &[&str]| ContainerInfo {
            name: name.to_owned(),
            ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        };
        let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let expected = PodInfo {
            uid: "u1".to_owned(),
            config_hash: None,
            namespace: "shop".to_owned(),
            name: "cart-7d4f-x".to_owned(),
            labels: BTreeMap::from([label("app", "cart"), label("pod-template-hash", "7d4f")]),
            workload: Some(Workload { kind: WorkloadKind::Deployment, name: "cart".to_owned() }),
            containers: vec![
                container("migrate", &["cc"]),
                container("app", &["aa", "bb"]),
                container("proxy", &[]),
                container("debug", &["dd"]),
            ],
            ended: false,
            network: PodNetwork {
                addresses: vec!["10.1.2.3".parse().unwrap(), "fd00::3".parse().unwrap()],
                is_the_nodes: false,
                started_s: Some(1_795_361_100),
            },
        };
        assert_eq!(full, expected);
    }

    #[test]
    fn a_pod_in_the_nodes_network_and_one_of_an_old_server_have_their_addresses() {
        let pod = pod(json!({
            "metadata": {"uid": "u", "namespace": "a", "name": "b"}, "spec": {"hostNetwork": true, "containers": []},
            "status": {"podIP": "192.0.2.1"},
        }));
        let expected =
            PodNetwork { addresses: vec!["192.0.2.1".parse().unwrap()], is_the_nodes: true, started_s: None };
        assert_eq!(pod.unwrap().network, expected);
    }

    #[test]
    fn a_pod_has_ended_when_its_phase_says_so() {
        for (phase, ended) in [
            ("Pending", false),
            ("Running", false),
            ("Unknown", false),
            ("Succeeded", true),
            ("Failed", true),
        ] {
            let pod = pod(json!({
                "metadata": {"uid": "u", "namespace": "a", "name": "b"}, "status": {"phase": phase},
            }));
            assert_eq!(pod.unwrap().ended, ended, "{phase}");
        }
    }

    #[test]
    fn only_a_mirror_pod_stands_for_a_static_pod() {
        for (annotations, expected) in [
            (json!({CONFIG_HASH: "4aa2", CONFIG_MIRROR: "4aa2"}), Some("4aa2")),
            (json!({CONFIG_HASH: "4aa2"}), None),
            (json!({CONFIG_HASH: "4aa2", CONFIG_MIRROR: "5bb3"}), None),
            (json!({CONFIG_HASH: "", CONFIG_MIRROR: ""}), None),
        ] {
            let pod = pod(json!({
                "metadata": {"uid": "u", "namespace": "kube-system", "name": "etcd", "annotations": annotations},
            }));
            assert_eq!(pod.unwrap().config_hash.as_deref(), expected, "{annotations}");
        }
    }

    #[test]
    fn an_object_without_a_name_or_uid_is_no_pod() {
        assert_eq!(pod(json!({"metadata": {"namespace": "a", "name": "b"}})), None);
        assert_eq!(pod(json!({"metadata": {"uid": "", "namespace": "a", "name": "b"}})), None);
        assert_eq!(pod(json!({"metadata": {"uid": "u", "name": "b"}})), None);
        assert_eq!(pod(json!({"metadata": {"uid": "u", "namespace": "a"}})), None);
    }
}
