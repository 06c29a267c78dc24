//! Agents beside the installed ones: the same image and the same pod, but for what a test changes, for nodes that exist
//! in the API alone. So what an agent lacks is seen without touching the installation.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::agent::{DAEMON_SET, NAMESPACE};
use crate::agent_pod::AgentPod;
use crate::cluster::Cluster;
use crate::cluster::node::Identity;
use crate::kubectl::Kubectl;

/// What the installer names everything of the agent.
pub const INSTALLED: &str = "kube-tcpstates-agent";

/// A pod is refused until its service account has a token.
fn await_tokens(kubectl: &Kubectl) -> Result<()> {
    crate::wait::until("the service accounts have tokens", crate::agent::PATIENCE, || {
        let accounts = kubectl.get(&format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts"))?;
        let accounts = accounts["items"].as_array().cloned().unwrap_or_default();
        let without = accounts.iter().filter(|account| account["secrets"].is_null()).count();
        Ok(if without == 0 { Ok(()) } else { Err(format!("{without} have none")) })
    })
}

/// What is made for a stand-in, in order, all of one name. Dropping it deletes it.
#[derive(Debug)]
pub(crate) struct Objects<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) list: Vec<Value>,
}

impl Objects<'_> {
    /// Makes those of several at a time: the pods when the service accounts have tokens.
    pub(crate) fn make(all: &[&Self]) -> Result<()> {
        let Some(first) = all.first() else { return Ok(()) };
        let kubectl = first.cluster.kubectl();
        let make = |is_pod: bool| {
            let objects = all.iter().flat_map(|objects| &objects.list);
            let mut objects = objects.filter(|object| (object["kind"] == "Pod") == is_pod);
            objects.try_for_each(|object| kubectl.api().create(object))
        };
        make(false)?;
        await_tokens(kubectl)?;
        make(true)
    }
}

impl Drop for Objects<'_> {
    fn drop(&mut self) {
        // The report goes with its node.
        for object in self.list.iter().rev() {
            if let Err(error) = self.cluster.kubectl().api().delete(object) {
                eprintln!("{error:#}");
            }
        }
    }
}

/// One of them: `rest` and what every object has.
pub(crate) fn object(name: &str, version: &str, kind: &str, namespace: Option<&str>, rest: &Value) -> Value {
    let mut object = rest.clone();
    object["apiVersion"] = json!(version);
    object["kind"] = json!(kind);
    object["metadata"] = json!({"name": name, "namespace": namespace});
    object
}

/// An agent for a node of its own name. Dropping it deletes what was made for it.
#[derive(Debug)]
pub struct StandIn<'a> {
    name: String,
    objects: Objects<'a>,
}

impl<'a> StandIn<'a> {
    /// Describes it; nothing is made yet. `rules` are its rights, `change` is applied to the installed pod's spec.
    pub fn new(
        cluster: &'a Cluster,
        name: &str,
        on: Identity,
        rules: &Value,
        change: impl FnOnce(&mut Value),
    ) -> Result<Self> {
        let mut spec = cluster.kubectl().get(DAEMON_SET)?["spec"]["template"]["spec"].take();
        spec["nodeName"] = json!(on.name);
        spec["serviceAccountName"] = json!(name);
        spec["serviceAccount"] = json!(name);
        spec["terminationGracePeriodSeconds"] = json!(0);
        spec["containers"][0]["env"] = json!([{"name": "NODE_NAME", "value": name}]);
        change(&mut spec);
        let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name});
        let subject = json!({"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE});
        let object = |version: &str, kind: &str, namespace: Option<&str>, rest: &Value| {
            object(name, version, kind, namespace, rest)
        };
        let rights = "rbac.authorization.k8s.io/v1";
        let mut objects = vec![
            object("v1", "ServiceAccount", Some(NAMESPACE), &json!({})),
            object(rights, "ClusterRole", None, &json!({"rules": rules})),
            object(rights, "ClusterRoleBinding", None, &json!({"roleRef": role, "subjects": [subject]})),
            object("v1", "Pod", Some(NAMESPACE), &json!({"spec": spec})),
        ];
        let node = object("v1", "Node", None, &json!({}));
        // A test that puts pods on the node has made it before.
        if cluster.kubectl().api().find(&format!("/api/v1/nodes/{name}"))?.is_none() {
            objects.insert(0, node);
        }
        Ok(Self { name: name.to_owned(), objects: Objects { cluster, list: objects } })
    }

    /// Its name, which is its node's as well.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Starts several at a time, without waiting for them.
    pub fn start(stand_ins: &[Self]) -> Result<()> {
        Objects::make(&stand_ins.iter().map(|stand_in| &stand_in.objects).collect::<Vec<_>>())
    }

    /// Its pod as it is now.
    pub fn pod(&self) -> Result<AgentPod<'a>> {
        AgentPod::named(self.objects.cluster, &self.name)
    }

    /// Deletes the pod and makes it again.
    pub fn start_anew(&self) -> Result<()> {
        let kubectl = self.objects.cluster.kubectl();
        kubectl.run(&["delete", "pod", &self.name, "--namespace", NAMESPACE])?;
        let pod = self.objects.list.last().context("there is a pod")?;
        kubectl.api().create(pod)
    }
}
