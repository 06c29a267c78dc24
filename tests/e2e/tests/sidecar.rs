//! An agent beside one pod: it sees the pod's own connections and nobody else's, with two capabilities, no API server and
//! nothing of the node.

use std::time::Duration;

use anyhow::Result;
use kube_tcpstates_e2e_tests::agent::Agents;
use kube_tcpstates_e2e_tests::cluster::{Cluster, NODE_A, NODE_B};
use kube_tcpstates_e2e_tests::compare::judge;
use kube_tcpstates_e2e_tests::line::Line;
use kube_tcpstates_e2e_tests::scene::{Scene, arguments, pod, pod_spec};
use kube_tcpstates_e2e_tests::wait;
use serde_json::{Value, json};

pub(crate) const TESTS: crate::Tests = &[
    ("a_sidecar_sees_the_connections_of_its_own_pod_and_of_no_other", own_pod),
    ("a_sidecar_refuses_the_nodes_network", nodes_network),
];

const PATIENCE: Duration = Duration::from_mins(2);
const SIDECAR: &str = "tcpstates";
const CONNECTIONS: u64 = 50;
const ENDINGS: [&str; 3] = ["client-close", "server-reset", "refused"];

fn own_pod(cluster: &Cluster) -> Result<()> {
    // For the image that the installer names.
    Agents::install(cluster)?;
    let scene = Scene::new(cluster, "beside")?;
    let server = scene.server("server", &json!({"app": "server"}), NODE_B, &[8080])?;
    let mut client =
        vec!["client".to_owned(), "--sleep-before-ms=8000".to_owned(), "--pace-ms=20".to_owned()];
    client.extend(arguments([&server], &ENDINGS, CONNECTIONS)?);
    let mut spec = pod_spec(Some(NODE_A), &client);
    add_sidecar(cluster, &mut spec)?;
    scene.create(pod("own", &json!({"app": "own", "tier": "web"}), &spec))?;
    // Of the same node and the same namespace, to the same server.
    scene.create(pod("neighbour", &json!({"app": "own"}), &pod_spec(Some(NODE_A), &client)))?;
    scene.finished("neighbour")?;
    let log = scene.finished("own")?;

    let mut source = scene.source("own", ("pod", "own"), log)?;
    // Nobody tells a sidecar which container is whose.
    source.names.retain(|path, _| path != "k8s.container.name");
    let sources = [source];
    let expected = judge(&[], &sources).expected;
    let lines = wait::until(&format!("the sidecar has {expected} lines"), PATIENCE, || {
        let lines = transitions(cluster)?;
        Ok(if lines.len() >= expected { Ok(lines) } else { Err(format!("it has {}", lines.len())) })
    })?;
    let verdict = judge(&lines.iter().collect::<Vec<_>>(), &sources);
    eprintln!("{verdict}");
    assert!(verdict.is_clean(), "{verdict}");
    for line in &lines {
        assert_eq!(line.text("tcpstates.attribution.source"), Some("netns"), "{}", line.0);
        assert_eq!(line.text("k8s.pod.label.tier"), Some("web"), "{}", line.0);
    }
    Ok(())
}

fn nodes_network(cluster: &Cluster) -> Result<()> {
    Agents::install(cluster)?;
    let scene = Scene::new(cluster, "beside-node")?;
    let mut spec = pod_spec(Some(NODE_A), &["client".to_owned(), "--sleep-before-ms=60000".to_owned()]);
    add_sidecar(cluster, &mut spec)?;
    spec["hostNetwork"] = json!(true);
    scene.create(pod("own", &json!({"app": "own"}), &spec))?;
    let state = wait::until("the sidecar has ended", PATIENCE, || {
        let pod = scene.pod("own")?;
        let statuses = pod["status"]["containerStatuses"].as_array().cloned().unwrap_or_default();
        let own = statuses.into_iter().find(|status| status["name"] == SIDECAR).unwrap_or_default();
        let ended = own["state"]["terminated"].clone();
        Ok(if ended.is_null() { Err(own.to_string()) } else { Ok(ended) })
    })?;
    assert_eq!(state["exitCode"], 2, "{state}");
    let said = cluster.kubectl().logs("beside-node", "own", SIDECAR)?;
    assert!(said.contains("hostNetwork"), "{said}");
    Ok(())
}

/// As docs/sidecar.md has it.
fn add_sidecar(cluster: &Cluster, spec: &mut Value) -> Result<()> {
    let installed = cluster.kubectl().get(kube_tcpstates_e2e_tests::agent::DAEMON_SET)?;
    let image = installed["spec"]["template"]["spec"]["containers"][0]["image"].clone();
    let field =
        |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let containers = spec["containers"].as_array_mut().expect("a list of containers");
    containers.push(json!({
        "name": SIDECAR,
        "image": image,
        "imagePullPolicy": "Never",
        "args": ["agent", "--scope=pod", "--pod-labels=/etc/podinfo/labels"],
        "env": [
            field("POD_NAME", "metadata.name"),
            field("POD_NAMESPACE", "metadata.namespace"),
            field("POD_UID", "metadata.uid"),
            field("POD_IP", "status.podIP"),
            field("HOST_IP", "status.hostIP"),
            field("NODE_NAME", "spec.nodeName"),
        ],
        "securityContext": {
            "runAsUser": 0,
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"], "add": ["BPF", "PERFMON"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [{"name": "podinfo", "mountPath": "/etc/podinfo", "readOnly": true}],
    }));
    let labels = json!({"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}});
    spec["volumes"] = json!([{"name": "podinfo", "downwardAPI": {"items": [labels]}}]);
    Ok(())
}

fn transitions(cluster: &Cluster) -> Result<Vec<Line>> {
    let mut lines = Line::parse_all(&cluster.kubectl().logs("beside", "own", SIDECAR)?)?;
    lines.retain(|line| line.is("transition"));
    Ok(lines)
}
