//! A trace that a command makes for itself, and removes.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use kube_tcpstates_crds::{GROUP, TcpStateTrace, TcpStateTraceSpec, VERSION, duration};

use crate::args::TargetArguments;
use crate::edge::api::{Cluster, encoded};
use crate::edge::signals::Signals;
use crate::edge::source::{Source, Wanted as Lines};
use crate::name::TraceName;
use crate::spec::{MADE_BY, object};
use crate::target::{Pod, Target, Wanted, shown};
use crate::trouble::{Failure, Trouble};

/// Whose sockets, as far as the server knows.
pub(super) struct Chosen {
    pub(super) wanted: Wanted,
    /// Nodes with a pod that is selected; None where pods may not be listed.
    pub(super) nodes: Option<BTreeSet<String>>,
    /// For the name of the trace.
    about: String,
}

impl Chosen {
    /// Asks for the pods. That there are none is an error.
    pub(super) async fn find(cluster: &Cluster, arguments: &TargetArguments) -> Result<Self, Trouble> {
        let namespace = &cluster.namespace;
        let target = Target::parse(arguments.target.as_deref(), arguments.selector.as_deref())?;
        let (wanted, about) = match &target {
            None => (Wanted::default(), "pods".to_owned()),
            Some(Target::Labels(selector)) => {
                (Wanted { selector: selector.clone(), only_pod: None }, "pods".to_owned())
            }
            Some(Target::Object(object)) => {
                let found = cluster.get(&object.path(namespace)).await.map_err(|failure| match failure {
                    Failure::NoObject(_) | Failure::NoResource => Trouble::new(format!(
                        "there is no {} in the namespace {namespace}; see kubectl -n {namespace} get pods, or choose another -n",
                        object.shown
                    )),
                    failure => failure.trouble(
                        &format!("look at {} in the namespace {namespace}", object.shown),
                        &format!("get {} -n {namespace}", object.shown),
                    ),
                })?;
                (object.wanted(&found)?, object.name().to_owned())
            }
        };
        let nodes = match cluster.pods(namespace, &wanted.selector).await {
            Ok(pods) => Some(nodes_of(pods, &wanted, namespace)?),
            // It is traced all the same; only nobody knows where.
            Err(Failure::Forbidden(_)) => None,
            Err(failure) => {
                return Err(failure.trouble(
                    &format!("list pods in the namespace {namespace}"),
                    &format!("list pods -n {namespace}"),
                ));
            }
        };
        Ok(Self { wanted, nodes, about })
    }
}

fn nodes_of(mut pods: Vec<Pod>, wanted: &Wanted, namespace: &str) -> Result<BTreeSet<String>, Trouble> {
    if let Some(only) = &wanted.only_pod {
        pods.retain(|pod| pod.name == *only);
    }
    if pods.is_empty() {
        let which = match shown(&wanted.selector) {
            _ if wanted.only_pod.is_some() => "it has ended".to_owned(),
            labels if labels.is_empty() => "none runs there".to_owned(),
            labels => format!("none has the labels {labels}"),
        };
        return Err(Trouble::new(format!(
            "no pod is selected in the namespace {namespace}: {which}; see kubectl -n {namespace} get pods --show-labels"
        )));
    }
    let nodes: BTreeSet<String> = pods.into_iter().filter_map(|pod| pod.node).collect();
    if nodes.is_empty() {
        return Err(Trouble::new(format!(
            "no pod that is selected in the namespace {namespace} has a node yet; see kubectl -n {namespace} get pods"
        )));
    }
    Ok(nodes)
}

/// A trace in the cluster, for as long as its command runs.
pub(super) struct Made {
    pub(super) name: TraceName,
    pub(super) uid: String,
    cluster: Cluster,
}

impl Made {
    /// Finds out first whether its lines could be read, then makes it.
    pub(super) async fn make(
        cluster: &Cluster,
        chosen: &Chosen,
        mut spec: TcpStateTraceSpec,
    ) -> Result<(Self, Source), Trouble> {
        let namespace = &cluster.namespace;
        spec.pod_selector = chosen.wanted.selector.clone();
        let object = object(namespace, &chosen.about, &spec)?;
        let anywhere = TraceName { namespace: Some(namespace.clone()), name: String::new() };
        require_agents(cluster).await?;
        let source = Source::find(cluster, &anywhere).await?;
        let path = collection(namespace);
        sweep(cluster, &path).await;
        let made: TcpStateTrace = cluster.create(&path, &object).await.map_err(|failure| {
            failure.trouble(
                &format!("make a trace in the namespace {namespace}"),
                &format!("create tcpstatetraces.{GROUP} -n {namespace}"),
            )
        })?;
        let (name, uid) = (made.metadata.name.unwrap_or_default(), made.metadata.uid.unwrap_or_default());
        let name = TraceName { namespace: Some(namespace.clone()), name };
        Ok((Self { name, uid, cluster: cluster.clone() }, source))
    }

    /// Its lines from the beginning on: agents may have attached before anybody reads.
    pub(super) fn lines(&self) -> Lines {
        let since = Some(Duration::from_secs(10));
        Lines { trace: self.name.clone(), follow: true, since, exists_since: None }
    }

    /// Removes it. A signal meanwhile ends the wait.
    pub(super) async fn remove(&self, signals: &mut Signals) -> Result<(), Trouble> {
        let path = self.name.path();
        let namespace = &self.cluster.namespace;
        let left = |why: &str| {
            Trouble::new(format!(
                "the trace {} is left behind ({why}); it ends by itself, or remove it with kubectl -n {namespace} delete \
                 tst {}",
                self.name, self.name.name
            ))
        };
        tokio::select! {
            removed = self.cluster.delete(&path) => removed.map_err(|failure| {
                let right = format!("delete tcpstatetraces.{GROUP} -n {namespace}");
                left(&failure.trouble("delete it", &right).to_string())
            }),
            () = signals.next() => Err(left("you did not wait")),
        }
    }
}

fn collection(namespace: &str) -> String {
    format!("/apis/{GROUP}/{VERSION}/namespaces/{namespace}/tcpstatetraces")
}

/// That no agent reports is told at once, to those who may know.
async fn require_agents(cluster: &Cluster) -> Result<(), Trouble> {
    match cluster.has_agents().await {
        Ok(false) => Err(cluster.no_agent_reports()),
        Ok(true) | Err(Failure::Forbidden(_)) => Ok(()),
        Err(failure) => Err(failure.trouble("look at the agents", &format!("list tcpstatenodes.{GROUP}"))),
    }
}

/// Removes what commands that were killed have left behind and that is over.
async fn sweep(cluster: &Cluster, path: &str) {
    // Who may not list them leaves them where they are.
    let Ok(traces) = cluster.list(&format!("{path}?labelSelector={}", encoded(MADE_BY))).await else {
        return;
    };
    for trace in traces.into_iter().filter_map(|trace| serde_json::from_value::<TcpStateTrace>(trace).ok()) {
        if let (true, Some(name)) = (is_over(&trace, Timestamp::now()), &trace.metadata.name) {
            let _ = cluster.delete(&format!("{path}/{name}")).await;
        }
    }
}

/// Whether a trace's ttl is over.
fn is_over(trace: &TcpStateTrace, now: Timestamp) -> bool {
    let ttl = trace.spec.ttl.as_deref().and_then(|ttl| duration::parse(ttl).ok());
    let ends = trace.metadata.creation_timestamp.as_ref().zip(ttl);
    ends.is_some_and(|(made, ttl)| made.0.checked_add(ttl).is_ok_and(|end| end < now))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_is_over_is_swept_away() {
        let over = |ttl: Option<&str>| {
            let trace = serde_json::from_value(json!({
                "apiVersion": "tcpstates.dev/v1alpha1", "kind": "TcpStateTrace",
                "metadata": {"name": "a", "creationTimestamp": "2026-11-27T12:00:00Z"},
                "spec": {"podSelector": {}, "ttl": ttl},
            }));
            is_over(&trace.unwrap(), "2026-11-27T12:01:00Z".parse().unwrap())
        };
        assert!(over(Some("59s")));
        assert!(!over(Some("1m1s")));
        assert!(!over(None));
    }

    #[test]
    fn the_nodes_are_those_of_the_pods_that_are_selected() {
        let pod =
            |name: &str, node: Option<&str>| Pod { name: name.to_owned(), node: node.map(str::to_owned) };
        let pods = || vec![pod("a-0", Some("n1")), pod("a-1", Some("n2")), pod("a-2", None)];
        let mut wanted = Wanted::default();
        assert_eq!(nodes_of(pods(), &wanted, "shop").unwrap().len(), 2);
        wanted.only_pod = Some("a-1".to_owned());
        assert_eq!(nodes_of(pods(), &wanted, "shop").unwrap(), BTreeSet::from(["n2".to_owned()]));
        wanted.only_pod = Some("a-2".to_owned());
        assert!(nodes_of(pods(), &wanted, "shop").unwrap_err().to_string().contains("has a node yet"));
        let none = nodes_of(Vec::new(), &Wanted::default(), "shop").unwrap_err().to_string();
        assert!(none.starts_with("no pod is selected in the namespace shop: none runs there"), "{none}");
    }
}
