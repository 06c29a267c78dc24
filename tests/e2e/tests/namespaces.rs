//! An agent that may not see namespaces: traces of one namespace go on, those that select namespaces say why they do
//! not.

use std::time::Duration;

use anyhow::{Context as _, Result};
use kube_tcpstates_e2e_tests::agent::Agents;
use kube_tcpstates_e2e_tests::cluster::{Cluster, NODE_A, NODE_B};
use kube_tcpstates_e2e_tests::compare::judge;
use kube_tcpstates_e2e_tests::kubectl::Kubectl;
use kube_tcpstates_e2e_tests::report::path;
use kube_tcpstates_e2e_tests::rights::installed_rules;
use kube_tcpstates_e2e_tests::scene::{Scene, arguments};
use kube_tcpstates_e2e_tests::stand_in::INSTALLED;
use kube_tcpstates_e2e_tests::undo::Undo;
use kube_tcpstates_e2e_tests::wait;
use serde_json::{Value, json};

pub(crate) const TESTS: crate::Tests =
    &[("without_the_right_to_namespaces_namespaced_traces_go_on_and_others_say_why_not", refused_alone)];

/// A report is written at most every ten seconds; a watch that was refused is tried ever more rarely.
const PATIENCE: Duration = Duration::from_mins(1);

fn refused_alone(cluster: &Cluster) -> Result<()> {
    let agents = Agents::install(cluster)?;
    let kubectl = cluster.kubectl();
    let scene = Scene::new(cluster, "refused")?;
    kubectl.run(&["label", "namespace", "refused", "team=checkout"])?;
    let server = scene.server("server", &json!({"app": "server"}), NODE_A, &[8080])?;
    let restore = Restore::new(cluster)?;
    restore.take_away_namespaces()?;
    agents.trace("refused", "clients", &json!({"podSelector": {"matchLabels": {"app": "client"}}}))?;
    kubectl.apply(
        &json!({
            "apiVersion": "tcpstates.dev/v1alpha1", "kind": "ClusterTcpStateTrace", "metadata": {"name": "teams"},
            "spec": {"namespaceSelector": {"matchLabels": {"team": "checkout"}}, "podSelector": {}},
        })
        .to_string(),
    )?;
    let _untrace = Undo::new(kubectl, &["delete", "clustertcpstatetrace", "teams"]);
    let clients = [("client-a", NODE_A), ("client-b", NODE_B)];
    for (name, node) in clients {
        let rest = ["--sleep-before-ms=2000".to_owned(), "--pace-ms=5".to_owned()];
        let client = [&rest, &arguments([&server], &["client-close", "refused"], 200)?[..]].concat();
        scene.client(name, &json!({"app": "client"}), node, &client)?;
    }
    let mut sources = Vec::new();
    for (name, _) in clients {
        let log = scene.finished(name)?;
        sources.push(scene.source(name, ("pod", name), log)?);
    }
    let expected = judge(&[], &sources).expected;
    agents.await_lines("refused/clients", expected)?;
    let lines = agents.of("refused/clients")?;
    let verdict = judge(&lines.iter().collect::<Vec<_>>(), &sources);
    assert!(verdict.is_clean(), "{verdict}");
    let widened = lines.iter().find(|line| line.get("tcpstates.cluster_traces").is_some());
    assert_eq!(widened, None, "a trace whose namespaces are not known shows nothing");
    await_standing(kubectl, &|trace| trace["state"] == "Failed" && trace["reason"] == "NamespacesUnknown")?;

    drop(restore);
    // The server's pod is left on one node, and nothing on the other.
    await_standing(kubectl, &|trace| trace["state"] == "Tracing" || trace.is_null())
}

/// Waits until the reports of both nodes say this of the cluster trace.
fn await_standing(kubectl: &Kubectl, holds: &dyn Fn(&Value) -> bool) -> Result<()> {
    for node in [NODE_A, NODE_B] {
        let trace = wait::until("the node's report tells of the trace", PATIENCE, || {
            let report = kubectl.get(&path(node.name))?;
            let mut traces = report["status"]["traces"].as_array().into_iter().flatten();
            let trace = traces.find(|trace| trace["name"] == "teams").cloned().unwrap_or_default();
            Ok(if holds(&trace) { Ok(trace) } else { Err(trace.to_string()) })
        })?;
        eprintln!("{}: {trace}", node.name);
    }
    Ok(())
}

/// Gives the agents their rights back.
struct Restore<'a> {
    kubectl: &'a Kubectl,
    rules: Value,
}

impl<'a> Restore<'a> {
    fn new(cluster: &'a Cluster) -> Result<Self> {
        Ok(Self { kubectl: cluster.kubectl(), rules: installed_rules(cluster, "ClusterRole", INSTALLED)? })
    }

    fn take_away_namespaces(&self) -> Result<()> {
        let rules = self.rules.as_array().context("a list of rules")?;
        let left: Vec<_> = rules.iter().filter(|rule| rule["resources"] != json!(["namespaces"])).collect();
        anyhow::ensure!(left.len() + 1 == rules.len(), "one rule is about namespaces: {rules:?}");
        self.set(&json!(left))
    }

    fn set(&self, rules: &Value) -> Result<()> {
        let patch = format!("--patch={}", json!({"rules": rules}));
        self.kubectl.run(&["patch", "clusterrole", INSTALLED, "--type=merge", &patch]).map(drop)
    }
}

impl Drop for Restore<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.set(&self.rules) {
            eprintln!("{error:#}");
        }
    }
}
