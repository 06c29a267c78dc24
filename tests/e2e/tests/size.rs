//! What an agent costs depends on its own node, and not on the size of the cluster.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use kube_tcpstates_e2e_tests::agent::Agents;
use kube_tcpstates_e2e_tests::cluster::{Cluster, NODE_B};
use kube_tcpstates_e2e_tests::flood;
use kube_tcpstates_e2e_tests::rights::installed_rules;
use kube_tcpstates_e2e_tests::scene::Scene;
use kube_tcpstates_e2e_tests::stand_in::{INSTALLED, StandIn};
use kube_tcpstates_e2e_tests::wait;
use serde_json::{Value, json};

pub(crate) const TESTS: crate::Tests =
    &[("an_agent_costs_what_its_own_node_does_however_many_pods_there_are_elsewhere", size)];

const OWN: &str = "size-own";
const OWN_PODS: usize = 100;
/// The node of one other agent's pods, and how many.
const OTHER_PODS: usize = 2000;
/// Nodes for the rest of the pods.
const REST: usize = 8;
/// In the cluster altogether.
const PODS: usize = 10_000;
const PATIENCE: Duration = Duration::from_mins(1);

/// What an agent has cost so far.
#[derive(Clone, Copy, Debug)]
struct Cost {
    /// What it received, from the API server in the main: bytes of its network namespace.
    received: f64,
    /// Resident, kB.
    memory: f64,
}

impl Cost {
    fn of(stand_in: &StandIn<'_>) -> Result<Self> {
        let process = stand_in.pod()?.process()?;
        let read = |name: &str| {
            fs::read_to_string(format!("/proc/{process}/{name}"))
                .with_context(|| format!("read {name} of {process}"))
        };
        let (devices, status) = (read("net/dev")?, read("status")?);
        let number = |text: &str, name: &str| -> Result<f64> {
            let rest = text.lines().find_map(|line| line.trim().strip_prefix(name));
            Ok(rest
                .and_then(|rest| rest.split_whitespace().next())
                .with_context(|| format!("no {name}"))?
                .parse()?)
        };
        Ok(Self { received: number(&devices, "eth0:")?, memory: number(&status, "VmRSS:")? })
    }

    fn check(self, alone: Self, when: &str) {
        let (received, memory) = (self.received / alone.received, self.memory / alone.memory);
        eprintln!("{when}: received {received:.3}, memory {memory:.3} of its own node's alone; {self:?}");
        assert!(received <= 1.1 && memory <= 1.1, "{when}: {self:?} instead of {alone:?}");
    }
}

fn size(cluster: &Cluster) -> Result<()> {
    let agents = Agents::install(cluster)?;
    let kubectl = cluster.kubectl();
    let _scene = Scene::new(cluster, "size")?;
    let nodes = Nodes::make(cluster)?;
    let make = |range: std::ops::Range<usize>| {
        let pod = |number| pod(range.start + number);
        flood::create(kubectl.api(), range.len(), pod)
    };
    make(0..OWN_PODS)?;
    // Namespaces of earlier tests end in their own time, and every agent hears of each trace in them.
    wait::until("the traces of earlier tests are gone", PATIENCE, || {
        let all = kubectl.get("/apis/tcpstates.dev/v1alpha1/tcpstatetraces")?;
        let left = all["items"].as_array().map_or(0, Vec::len);
        Ok(if left == 0 { Ok(()) } else { Err(format!("{left} are there")) })
    })?;
    agents.trace("size", "all", &json!({"podSelector": {"matchLabels": {"app": "size"}}}))?;
    let rules = installed_rules(cluster, "ClusterRole", INSTALLED)?;
    // Probes would be received as well.
    let stand_in = StandIn::new(cluster, OWN, NODE_B, &rules, |spec| {
        spec["containers"][0]["livenessProbe"].take();
        spec["containers"][0]["readinessProbe"].take();
    })?;
    StandIn::start(std::slice::from_ref(&stand_in))?;
    let alone = settled(&stand_in)?;

    let start = Instant::now();
    make(OWN_PODS..PODS)?;
    eprintln!("{PODS} pods are there; it took {:.1} s", start.elapsed().as_secs_f64());
    // What was received meanwhile, and then what a new one receives.
    thread::sleep(Duration::from_secs(1));
    Cost::of(&stand_in)?.check(alone, "while the others came");
    stand_in.start_anew()?;
    settled(&stand_in)?.check(alone, "started when they were there");
    drop(nodes);
    Ok(())
}

/// Once it traces all the pods of its node, and has had the time to report itself.
fn settled(stand_in: &StandIn<'_>) -> Result<Cost> {
    wait::until("the agent runs", PATIENCE, || {
        let pod = stand_in.pod()?;
        Ok(pod.metrics().map(drop).map_err(|error| format!("{error:#}: {}", pod.object["status"])))
    })?;
    let own_pods = f64::from(u32::try_from(OWN_PODS)?);
    stand_in.pod()?.await_metrics("the agent traces the pods of its node", PATIENCE, |metrics| {
        metrics.sum("kube_tcpstates_pods", &[""]) >= own_pods
            && metrics.sum("kube_tcpstates_traces", &["state=\"tracing\""]) >= 1.0
    })?;
    thread::sleep(Duration::from_secs(2));
    Cost::of(stand_in)
}

/// The first are its own, then come those of one other node, then the rest.
fn pod(number: usize) -> Value {
    let node = match number {
        0..OWN_PODS => OWN.to_owned(),
        _ if number < OWN_PODS + OTHER_PODS => "size-other".to_owned(),
        _ => format!("size-{}", number % REST),
    };
    let environment: Vec<_> =
        (0..10).map(|key| json!({"name": format!("KEY_{key}"), "value": "a value of some length"})).collect();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "size", "name": format!("checkout-{number}"), "labels": {"app": "size"}},
        "spec": {
            "nodeName": node,
            "containers": [{"name": "app", "image": "localhost/none", "env": environment}],
            "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 0,
        },
    })
}

/// Of the others: pods of a node that does not exist would be collected. Deleted in the end.
struct Nodes<'a> {
    cluster: &'a Cluster,
    names: Vec<String>,
}

impl<'a> Nodes<'a> {
    fn make(cluster: &'a Cluster) -> Result<Self> {
        let names: Vec<_> = (0..REST)
            .map(|number| format!("size-{number}"))
            .chain([OWN.to_owned(), "size-other".to_owned()])
            .collect();
        let nodes = Self { cluster, names };
        nodes.names.iter().try_for_each(|name| cluster.kubectl().api().create(&node(name)))?;
        Ok(nodes)
    }
}

impl Drop for Nodes<'_> {
    fn drop(&mut self) {
        for name in &self.names {
            if let Err(error) = self.cluster.kubectl().api().delete(&node(name)) {
                eprintln!("{error:#}");
            }
        }
    }
}

fn node(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
}
