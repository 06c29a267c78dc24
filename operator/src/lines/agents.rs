//! Which agents there are: their pods, watched for as long as the operator runs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::{Api, Client};
use kube_tcpstates_client::{Broken, Delta, Resource, Teller, Watch};
use tokio::sync::{mpsc, watch};

/// The container of an agent's pod.
pub(crate) const CONTAINER: &str = "agent";
const PODS: Resource = Resource::new("", "v1", "pods");
const COMPONENT: &str = "app.kubernetes.io/component";

/// The pod of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AgentPod {
    /// Of the pod: another pod on the node is another source of lines.
    pub(crate) uid: String,
    /// The pod's name.
    pub(crate) name: String,
    /// Where it runs.
    pub(crate) node: String,
    /// How often its container was started again.
    pub(crate) restarts: i32,
    /// The latest of these starts.
    pub(crate) started: Option<Timestamp>,
}

impl AgentPod {
    /// Whether its container has ever run: one that has not has no log yet.
    pub(crate) fn has_log(&self) -> bool {
        self.started.is_some() || self.restarts > 0
    }
}

/// All of them by uid; None before they were listed.
pub(crate) type Agents = Option<Arc<BTreeMap<String, AgentPod>>>;

enum Message {
    Pods(Delta<AgentPod>),
    Broken(Broken),
}

impl From<Broken> for Message {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

/// Follows them for ever.
pub(crate) async fn follow(client: Client, agents: watch::Sender<Agents>) {
    let pods = Watch::<Pod, AgentPod, Message> {
        resource: PODS,
        api: Api::default_namespaced(client),
        older: None,
        fields: None,
        keep,
        message: Message::Pods,
        lists_again: false,
        thin: None,
        seen: None,
    };
    let (sender, mut messages) = mpsc::unbounded_channel();
    let listen = async {
        let mut known = BTreeMap::new();
        let mut teller = Teller::new("operator");
        while let Some(message) = messages.recv().await {
            match message {
                Message::Broken(broken) => {
                    teller.broken(&broken, Instant::now());
                    continue;
                }
                Message::Pods(delta) => apply(&mut known, delta),
            }
            teller.works(PODS, Instant::now());
            agents.send_replace(Some(Arc::new(known.clone())));
        }
    };
    tokio::join!(pods.follow(sender), listen);
}

fn apply(known: &mut BTreeMap<String, AgentPod>, delta: Delta<AgentPod>) {
    match delta {
        Delta::Listed(pods) => *known = pods.into_iter().map(|pod| (pod.uid.clone(), pod)).collect(),
        Delta::Applied(pod) => {
            known.insert(pod.uid.clone(), pod);
        }
        Delta::Deleted(pod) => {
            known.remove(&pod.uid);
        }
    }
}

/// What matters of a pod. One that ends may have no status of its container, and is to be known by its uid all the same.
fn keep(pod: Pod) -> Option<AgentPod> {
    if pod.metadata.labels.as_ref()?.get(COMPONENT).is_none_or(|component| component != "agent") {
        return None;
    }
    let statuses = pod.status.and_then(|status| status.container_statuses).unwrap_or_default();
    let status = statuses.into_iter().find(|status| status.name == CONTAINER);
    Some(AgentPod {
        uid: pod.metadata.uid?,
        name: pod.metadata.name?,
        node: pod.spec?.node_name?,
        restarts: status.as_ref().map_or(0, |status| status.restart_count),
        started: status.as_ref().and_then(started),
    })
}

fn started(status: &ContainerStatus) -> Option<Timestamp> {
    let state = status.state.as_ref()?;
    let running = state.running.as_ref().and_then(|running| running.started_at.as_ref());
    let ended = state.terminated.as_ref().and_then(|ended| ended.started_at.as_ref());
    running.or(ended).map(|time| time.0)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(component: &str, statuses: &[Value]) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "agent-1", "uid": "u", "labels": {COMPONENT: component}},
            "spec": {"nodeName": "node-a", "containers": []},
            "status": {"containerStatuses": statuses},
        }))
        .unwrap()
    }

    fn status(name: &str, restarts: i32, state: &Value) -> Value {
        json!({"name": name, "image": "i", "imageID": "i", "ready": true, "restartCount": restarts, "state": state})
    }

    #[test]
    fn an_agents_pod_has_a_log_once_its_container_has_run() {
        let running = json!({"running": {"startedAt": "2026-11-27T00:00:00Z"}});
        let waiting = json!({"waiting": {"reason": "CrashLoopBackOff"}});
        let known = keep(pod("agent", &[status(CONTAINER, 0, &running)])).unwrap();
        assert_eq!((known.node.as_str(), known.restarts), ("node-a", 0));
        assert_eq!(known.started, Some("2026-11-27T00:00:00Z".parse().unwrap()));
        assert!(known.has_log());
        let has_log = |status| keep(pod("agent", &[status])).unwrap().has_log();
        assert!(has_log(status(CONTAINER, 3, &waiting)));
        assert!(!has_log(status(CONTAINER, 0, &waiting)));
        assert!(!has_log(status("another", 0, &running)));
        assert_eq!(keep(pod("operator", &[status(CONTAINER, 0, &running)])), None);
    }

    #[test]
    fn a_pod_that_is_deleted_is_gone_though_nothing_says_any_more_that_it_ran() {
        let running = json!({"running": {"startedAt": "2026-11-27T00:00:00Z"}});
        let mut known = BTreeMap::new();
        apply(&mut known, Delta::Applied(keep(pod("agent", &[status(CONTAINER, 0, &running)])).unwrap()));
        assert_eq!(known.len(), 1);
        if let Some(deleted) = keep(pod("agent", &[])) {
            apply(&mut known, Delta::Deleted(deleted));
        }
        assert!(known.is_empty(), "{known:?}");
    }
}
