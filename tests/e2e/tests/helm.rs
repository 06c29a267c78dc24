//! The chart, from its installation to its removal.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kube_tcpstates_e2e_tests::agent::{Agents, DAEMON_SET, trace_path};
use kube_tcpstates_e2e_tests::agent_pod::AgentPod;
use kube_tcpstates_e2e_tests::cluster::{Cluster, NODE_A, NODE_B, place};
use kube_tcpstates_e2e_tests::helm::Helm;
use kube_tcpstates_e2e_tests::kubectl::Kubectl;
use kube_tcpstates_e2e_tests::operator::Operators;
use kube_tcpstates_e2e_tests::scene::{Scene, arguments};
use serde_json::{Value, json};

pub(crate) const TESTS: crate::Tests =
    &[("the_chart_is_installed_upgraded_rolled_back_and_removed", from_beginning_to_end)];

const DEFINITION: &str =
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/tcpstatetraces.tcpstates.dev";
const PATIENCE: Duration = Duration::from_mins(1);
/// CLOSE to SYN_SENT, and so on to CLOSE again.
const TRANSITIONS: usize = 5;
const CONNECTIONS: u64 = 20;

fn from_beginning_to_end(cluster: &Cluster) -> Result<()> {
    let kubectl = cluster.kubectl();
    let helm = Helm::new(kubectl)?;
    // What kubectl has installed is taken over.
    Agents::install(cluster)?;
    helm.install(helm.chart(), &["--take-ownership"])?;
    removed(&helm, kubectl)?;

    let old = old_chart(helm.chart())?;
    helm.install(&old, &[])?;
    Operators::installed(cluster)?;
    let agents = Agents::install(cluster)?;
    assert_eq!(short_name(kubectl)?, "old");
    let scene = Scene::new(cluster, "by-helm")?;
    let server = scene.server("server", &json!({"app": "server"}), NODE_B, &[8080])?;
    agents.trace("by-helm", "clients", &json!({"podSelector": {"matchLabels": {"app": "client"}}}))?;
    let clusters = connect(&agents, &scene, &server, "first")?;
    assert_eq!(clusters, [Value::Null], "no name of the cluster was given");

    helm.upgrade(helm.chart(), &["--set=clusterName=prod", "--set=agent.workloadMetrics=1s"])?;
    rolled_out(kubectl)?;
    assert_eq!(short_name(kubectl)?, "tst", "the definitions come with the release");
    assert_eq!(arguments_of_agents(kubectl)?, json!(["agent", "--workload-metrics=1s"]));
    let agents = Agents::install(cluster)?;
    let clusters = connect(&agents, &scene, &server, "second")?;
    assert_eq!(clusters, [json!("prod")]);
    AgentPod::of_node(cluster, NODE_A)?.await_metrics("workloads are counted", PATIENCE, |metrics| {
        metrics.samples("kube_tcpstates_workloads").count() == 1
    })?;

    helm.roll_back("1")?;
    rolled_out(kubectl)?;
    assert_eq!(short_name(kubectl)?, "old", "and go back with it");
    assert_eq!(arguments_of_agents(kubectl)?, json!(["agent"]));
    let agents = Agents::install(cluster)?;
    assert_eq!(connect(&agents, &scene, &server, "third")?, [Value::Null]);

    removed(&helm, kubectl)?;
    let trace = kubectl.api().find(&trace_path("by-helm", "clients"))?;
    ensure!(trace.is_some(), "the trace went with the release");
    // As the next test finds them: no older definitions.
    kubectl.run(&["delete", "crd", "--selector=app.kubernetes.io/name=kube-tcpstates"]).map(drop)
}

/// Of the release, and of its namespace, the definitions alone are left.
fn removed(helm: &Helm<'_>, kubectl: &Kubectl) -> Result<()> {
    let manifest = helm.manifest()?;
    helm.uninstall()?;
    let left =
        kubectl.run_with(&["get", "--ignore-not-found", "--output=name", "--filename=-"], &manifest)?;
    let expected = ["clustertcpstatetraces", "tcpstatenodes", "tcpstatetraces"]
        .map(|name| format!("customresourcedefinition.apiextensions.k8s.io/{name}.tcpstates.dev"));
    let mut left: Vec<_> = left.lines().collect();
    left.sort_unstable();
    assert_eq!(left, expected);
    assert_eq!(helm.releases()?.trim(), "", "releases");
    let records =
        kubectl.run(&["get", "secrets", "--all-namespaces", "--selector=owner=helm", "--output=name"])?;
    assert_eq!(records, "", "helm's own records");
    Ok(())
}

/// The chart of a release before this one, whose definitions were others.
fn old_chart(chart: &Path) -> Result<std::path::PathBuf> {
    let old = Path::new(place::STATE).join("old-chart");
    drop(fs::remove_dir_all(&old));
    let copied = Command::new("cp").args(["--recursive", "--dereference"]).arg(chart).arg(&old).status();
    ensure!(copied.context("start cp")?.success(), "the chart is not copied");
    for (file, now, then) in [
        ("definitions/tcpstatetraces.yaml", "- tst\n", "- old\n"),
        ("Chart.yaml", "version: 0.1.0", "version: 0.0.9"),
    ] {
        let text = fs::read_to_string(old.join(file)).with_context(|| format!("read {file}"))?;
        ensure!(text.contains(now), "{file} has no {now:?}");
        fs::write(old.join(file), text.replacen(now, then, 1)).with_context(|| format!("write {file}"))?;
    }
    Ok(old)
}

fn short_name(kubectl: &Kubectl) -> Result<String> {
    let definition = kubectl.get(DEFINITION)?;
    Ok(definition["spec"]["names"]["shortNames"][0].as_str().unwrap_or_default().to_owned())
}

fn arguments_of_agents(kubectl: &Kubectl) -> Result<Value> {
    Ok(kubectl.get(DAEMON_SET)?["spec"]["template"]["spec"]["containers"][0]["args"].take())
}

fn rolled_out(kubectl: &Kubectl) -> Result<()> {
    let daemon_set = "daemonset/kube-tcpstates-agent";
    kubectl.run(&["rollout", "status", daemon_set, "--namespace=kube-tcpstates", "--timeout=180s"]).map(drop)
}

/// Lets a client connect and expects all of its transitions; what their lines say of the cluster.
fn connect(
    agents: &Agents<'_>,
    scene: &Scene<'_>,
    server: &kube_tcpstates_e2e_tests::scene::Server,
    client: &str,
) -> Result<Vec<Value>> {
    let mut flags = arguments([server], &["client-close"], CONNECTIONS)?;
    flags.push("--sleep-before-ms=2000".to_owned());
    scene.client(client, &json!({"app": "client"}), NODE_A, &flags)?;
    scene.finished(client)?;
    let expected = TRANSITIONS * usize::try_from(CONNECTIONS)?;
    agents.await_pods("by-helm/clients", &[client], expected)?;
    let mut lines = agents.of("by-helm/clients")?;
    lines.retain(|line| line.text("k8s.pod.name") == Some(client));
    assert_eq!(lines.len(), expected, "{client}");
    let mut clusters: Vec<_> =
        lines.iter().map(|line| line.get("k8s.cluster.name").cloned().unwrap_or_default()).collect();
    clusters.dedup();
    Ok(clusters)
}
