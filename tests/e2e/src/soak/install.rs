//! What an installation has, but for agents and operator: definitions, rights, and a `DaemonSet` that selects no node.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::cluster::{Cluster, place};

/// What the agent needs of it.
const KINDS: [&str; 8] = [
    "Namespace",
    "CustomResourceDefinition",
    "ServiceAccount",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
    "DaemonSet",
];

/// Installs it, with the rights of an agent that pins.
pub(super) fn install(cluster: &Cluster) -> Result<()> {
    let manifests = place::given("KUBE_TCPSTATES_MANIFESTS")?;
    let kubectl = cluster.kubectl();
    let installer = format!("--filename={}", manifests.join("tcptrace.yaml").display());
    let read = ["create", "--dry-run=client", "--output=json", "--validate=false", &installer];
    let text = kubectl.run(&read)?;
    let objects: Vec<Value> =
        serde_json::Deserializer::from_str(&text).into_iter().collect::<Result<_, _>>()?;
    let mut wanted = Vec::new();
    for kind in KINDS {
        wanted.extend(objects.iter().filter(|object| object["kind"] == kind).cloned());
    }
    let daemon_set =
        wanted.iter_mut().find(|object| object["kind"] == "DaemonSet").context("the installer has agents")?;
    // The one agent that there is asks for it when it ends.
    daemon_set["spec"]["template"]["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": "nowhere"});
    kubectl.apply(&json!({"apiVersion": "v1", "kind": "List", "items": wanted}).to_string())?;
    let rights = manifests.join("overlays/pinned/rights.yaml").display().to_string();
    kubectl.run(&["apply", "--filename", &rights])?;
    for definition in ["tcpstatetraces", "clustertcpstatetraces", "tcpstatenodes"] {
        let name = format!("customresourcedefinition/{definition}.tcpstates.dev");
        kubectl.run(&["wait", "--for=condition=Established", "--timeout=60s", &name])?;
    }
    Ok(())
}
