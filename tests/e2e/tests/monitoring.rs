//! Whatever dashboards and rules ask, on a real Prometheus that scrapes agents and operators while pods connect.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use kube_tcpstates_deploy_tests::{documents, grafana, promql, root};
use kube_tcpstates_e2e_tests::agent::{Agents, NAMESPACE};
use kube_tcpstates_e2e_tests::cluster::{Cluster, NODE_A, NODE_B};
use kube_tcpstates_e2e_tests::kubectl::Kubectl;
use kube_tcpstates_e2e_tests::operator::Operators;
use kube_tcpstates_e2e_tests::prometheus::Prometheus;
use kube_tcpstates_e2e_tests::scene::{Scene, arguments, pod, pod_spec, workload};
use kube_tcpstates_e2e_tests::undo::Undo;
use kube_tcpstates_e2e_tests::wait;
use serde_json::{Value, json};

pub(crate) const TESTS: crate::Tests =
    &[("every_panel_and_rule_has_data_on_a_prometheus_that_scrapes_the_agents", everything_has_data)];

/// Rates are over a minute, and an agent's queue to an endpoint that is not there must be full first.
const PATIENCE: Duration = Duration::from_mins(4);
/// Whatever is to be seen: workloads, and an endpoint that takes nothing.
const ARGUMENTS: [&str; 4] =
    ["agent", "--workload-metrics=1s", "--otlp-endpoint=http://127.0.0.1:9", "--otlp-queue=64KiB"];

fn everything_has_data(cluster: &Cluster) -> Result<()> {
    let agents = Agents::install(cluster)?;
    Operators::installed(cluster)?;
    let kubectl = cluster.kubectl();
    let back = change_arguments(kubectl, &ARGUMENTS)?;
    Operators::installed(cluster)?;
    let scene = Scene::new(cluster, "watched")?;
    make_traffic(&agents, &scene)?;

    let file = |name: &str| root().join("deploy/prometheus").join(name);
    let text = fs::read_to_string(file("scrape.yaml")).context("read scrape.yaml")?;
    let configuration = documents(&text)?.into_iter().next().context("a configuration")?;
    let prometheus = Prometheus::start(cluster, &configuration, &file("rules.yaml"))?;
    panels_have_data(&prometheus)?;
    rules_have_data(&prometheus)?;
    drop(prometheus);
    drop(back);
    roll_out(kubectl)
}

/// A Deployment that is refused and reset, long connections, a leak; a trace that counts, one with a limit, one refused.
fn make_traffic(agents: &Agents<'_>, scene: &Scene<'_>) -> Result<()> {
    let everybody = json!({"podSelector": {}, "mode": "Connections"});
    let few = json!({"podSelector": {}, "rateLimit": {"linesPerSecondPerNode": 1, "burst": 1}});
    let wrong = json!({"podSelector": {}, "peerCIDRs": ["10.0.0.1/8"]});
    for (name, spec) in [("everybody", &everybody), ("few", &few), ("wrong", &wrong)] {
        agents.trace(scene.namespace(), name, spec)?;
    }
    let server = scene.server("server", &json!({"app": "server"}), NODE_A, &[8080])?;
    let endings = ["client-close", "refused", "server-reset", "server-close"];
    let mut flags = vec!["client".to_owned(), "--pace-ms=10".to_owned(), "--hold-ms=100".to_owned()];
    flags.extend(arguments([&server], &endings, 100_000)?);
    let labels = json!({"app": "checkout"});
    scene.create(workload("Deployment", "checkout", &labels, 2, pod_spec(None, &flags)))?;
    let leak = ["leak".to_owned(), "--count=20".to_owned()];
    scene.create(pod("leaker", &json!({"app": "leaker"}), &pod_spec(Some(NODE_B), &leak)))?;
    scene.finished("leaker").map(drop)
}

/// Each expression of each panel, by itself.
fn panels_have_data(prometheus: &Prometheus<'_>) -> Result<()> {
    let mut empty = BTreeMap::new();
    for (file, dashboard) in grafana::dashboards()? {
        for panel in grafana::panels(&dashboard) {
            for expression in grafana::expressions(panel, "prometheus") {
                let name = format!("{file}: {}: {expression}", panel["title"]);
                empty.insert(name, grafana::filled(expression));
            }
        }
    }
    let asked = empty.len();
    wait::until("every panel shows something", PATIENCE, || {
        let mut still = BTreeMap::new();
        for (name, expression) in std::mem::take(&mut empty) {
            if prometheus.values(&expression)?.is_empty() {
                still.insert(name, expression);
            }
        }
        empty = still;
        let names: Vec<_> = empty.keys().collect();
        Ok(if empty.is_empty() { Ok(()) } else { Err(format!("{} do not: {names:#?}", names.len())) })
    })?;
    eprintln!("{asked} expressions of panels have data");
    Ok(())
}

/// No rule is broken, each asks for what is there, and those are told of which something is known to be wrong.
fn rules_have_data(prometheus: &Prometheus<'_>) -> Result<()> {
    let told = ["TcpstatesConnectionsFail", "TcpstatesOutletLost", "TcpstatesTracesNotInForce"];
    // A machine that builds something meanwhile may lose some.
    let may_be_told = ["TcpstatesLinesLost", "TcpstatesTransitionsSkipped"];
    let rules = wait::until("what is wrong is told", PATIENCE, || {
        let rules = prometheus.rules()?;
        let active = |rule: &&Value| rule["state"] != "inactive";
        let names = rules.iter().filter(active).filter_map(|rule| rule["name"].as_str());
        let names: BTreeSet<_> = names.filter(|name| !may_be_told.contains(name)).collect();
        Ok(if names == BTreeSet::from(told) { Ok(rules.clone()) } else { Err(format!("{names:?} are")) })
    })?;
    let mut metrics = BTreeSet::new();
    for rule in &rules {
        assert_eq!(rule["health"], "ok", "{rule}");
        metrics.extend(promql::metrics(rule["query"].as_str().context("an expression")?));
    }
    for metric in &metrics {
        assert!(!prometheus.values(metric)?.is_empty(), "a rule asks for {metric}, and there is none");
    }
    eprintln!("{} rules are well; {} metrics in them have data", rules.len(), metrics.len());
    Ok(())
}

/// Gives the agents other arguments, and waits until all have them. Dropping the answer takes them back.
fn change_arguments<'a>(kubectl: &'a Kubectl, arguments: &[&str]) -> Result<Undo<'a>> {
    let patch = |arguments: &[&str]| {
        let path = "/spec/template/spec/containers/0/args";
        let change = json!([{"op": "replace", "path": path, "value": arguments}]);
        let flags = ["patch", "daemonset", "kube-tcpstates-agent", "--namespace", NAMESPACE, "--type=json"];
        let mut flags: Vec<_> = flags.map(str::to_owned).into();
        flags.push(format!("--patch={change}"));
        flags
    };
    let (forth, back) = (patch(arguments), patch(&["agent"]));
    let undo = Undo::new(kubectl, &back.iter().map(String::as_str).collect::<Vec<_>>());
    kubectl.run(&forth.iter().map(String::as_str).collect::<Vec<_>>())?;
    roll_out(kubectl)?;
    Ok(undo)
}

fn roll_out(kubectl: &Kubectl) -> Result<()> {
    let flags = ["--namespace", NAMESPACE, "--timeout=180s"];
    kubectl.run(&[&["rollout", "status", "daemonset/kube-tcpstates-agent"], &flags[..]].concat()).map(drop)
}
