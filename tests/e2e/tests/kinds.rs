//! Pods that are not the ordinary case: of the kubelet's own manifests, on the node's network, with several containers.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use kube_tcpstates_e2e_tests::agent::Agents;
use kube_tcpstates_e2e_tests::cluster::{Cluster, NODE_A, NODE_B};
use kube_tcpstates_e2e_tests::compare::{Source, judge};
use kube_tcpstates_e2e_tests::scene::{CONTAINER, Scene, Server, arguments, pod, pod_spec};
use serde_json::json;

pub(crate) const TESTS: crate::Tests = &[(
    "a_static_pod_a_pod_on_the_nodes_network_and_an_init_container_are_named_like_any_other",
    unusual_pods,
)];

/// The kubelet's file of a static pod. Dropping it removes the pod.
struct StaticPod(PathBuf);

impl Drop for StaticPod {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            eprintln!("remove {}: {error}", self.0.display());
        }
    }
}

fn unusual_pods(cluster: &Cluster) -> Result<()> {
    let agents = Agents::install(cluster)?;
    let scene = Scene::new(cluster, "kinds")?;
    agents.trace("kinds", "clients", &json!({"podSelector": {"matchLabels": {"app": "client"}}}))?;
    let server = scene.server("server", &json!({"app": "server"}), NODE_B, &[8080])?;

    let fixed = static_pod(cluster, &server)?;
    on_the_nodes_network(&scene, &server)?;
    with_an_init_container(&scene, &server)?;
    let mut sources = vec![
        source(&scene, "static-node-a", CONTAINER)?,
        source(&scene, "host-network", CONTAINER)?,
        source(&scene, "two", CONTAINER)?,
    ];
    let log = cluster.kubectl().logs("kinds", "two", "first")?;
    let mut first = scene.source(
        "two",
        ("deployment", "none"),
        kube_tcpstates_e2e_workload::log::Entry::parse_all(&log).map_err(anyhow::Error::msg)?,
    )?;
    first.names.remove("k8s.deployment.name");
    first.names.insert("k8s.container.name".to_owned(), "first".to_owned());
    sources.push(first);

    let expected = judge(&[], &sources).expected;
    assert_eq!(expected, 4 * 5 * 5, "four containers of five connections");
    let lines = agents.await_lines("kinds/clients", expected)?;
    let verdict = judge(&lines.iter().collect::<Vec<_>>(), &sources);
    assert!(verdict.is_clean(), "{verdict}");
    drop(fixed);
    Ok(())
}

fn source(scene: &Scene<'_>, pod: &str, container: &str) -> Result<Source> {
    let log = scene.finished(pod)?;
    let mut source = scene.source(pod, ("deployment", "none"), log)?;
    source.names.remove("k8s.deployment.name");
    source.names.insert("k8s.container.name".to_owned(), container.to_owned());
    Ok(source)
}

/// A kubelet that starts many pods is late in telling their containers' ids, and the agent waits two seconds.
const SLEEP_BEFORE: &str = "--sleep-before-ms=2000";

fn client(server: &Server) -> Result<Vec<String>> {
    let made = arguments([server], &["client-close"], 5)?;
    let flags = ["client", SLEEP_BEFORE, "--sleep-after-ms=600000"].map(str::to_owned);
    Ok([flags.to_vec(), made].concat())
}

/// Its cgroup bears the hash of its manifest where others have the UID that the API knows.
fn static_pod(cluster: &Cluster, server: &Server) -> Result<StaticPod> {
    let mut object = pod("static", &json!({"app": "client"}), &pod_spec(None, &client(server)?));
    object["metadata"]["namespace"] = json!("kinds");
    let file = cluster.nodes()[0].directory().join("lib/kubelet/static-pods/client.json");
    fs::write(&file, object.to_string()).with_context(|| format!("write {}", file.display()))?;
    Ok(StaticPod(file))
}

/// Its network namespace is the node's, so only the cgroup tells it from the kubelet.
fn on_the_nodes_network(scene: &Scene<'_>, server: &Server) -> Result<()> {
    let mut spec = pod_spec(Some(NODE_A), &client(server)?);
    spec["hostNetwork"] = json!(true);
    scene.create(pod("host-network", &json!({"app": "client"}), &spec))
}

fn with_an_init_container(scene: &Scene<'_>, server: &Server) -> Result<()> {
    let mut spec = pod_spec(Some(NODE_B), &client(server)?);
    let mut first = spec["containers"][0].clone();
    first["name"] = json!("first");
    first["args"] = json!(
        [vec!["client".to_owned(), SLEEP_BEFORE.to_owned()], arguments([server], &["client-close"], 5)?]
            .concat()
    );
    spec["initContainers"] = json!([first]);
    scene.create(pod("two", &json!({"app": "client"}), &spec))
}
