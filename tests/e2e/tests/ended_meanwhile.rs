//! A pod that ends, and is deleted, while no agent is on its node: the next agent names it all the same, by what the one
//! before it knew.

use std::time::Duration;

use anyhow::Result;
use kube_tcpstates_e2e_tests::agent::Agents;
use kube_tcpstates_e2e_tests::agent_pod::AgentPod;
use kube_tcpstates_e2e_tests::cluster::{Cluster, NODE_A, NODE_B};
use kube_tcpstates_e2e_tests::line::Line;
use kube_tcpstates_e2e_tests::scene::{CONTAINER, Scene, arguments};
use kube_tcpstates_e2e_tests::wait;
use serde_json::json;

use crate::restart::{PATCH, Pinned, ROLL_OUT};

pub(crate) const TESTS: crate::Tests =
    &[("a_pod_that_ends_while_no_agent_is_there_is_named_by_the_next", ended_while_nobody_was_there)];

const SCENE: &str = "meanwhile";
const MAYFLY: &str = "mayfly";
/// The kubelet of 1.20 sometimes needs a minute to see a deleted pod through.
const PATIENCE: Duration = Duration::from_mins(3);

fn ended_while_nobody_was_there(cluster: &Cluster) -> Result<()> {
    let kubectl = cluster.kubectl();
    let _pinned = Pinned::new(cluster)?;
    let scene = Scene::new(cluster, SCENE)?;
    let agents = Agents::install(cluster)?;
    agents.trace(SCENE, "clients", &json!({"podSelector": {"matchLabels": {"app": "client"}}}))?;
    let server = scene.server("server", &json!({"app": "server"}), NODE_A, &[8080])?;
    let held = ["--sleep-before-ms=2000", "--hold-ms=600000"].map(str::to_owned);
    let client = [&held, &arguments([&server], &["client-close"], 1)?[..]].concat();
    scene.client(MAYFLY, &json!({"app": "client"}), NODE_B, &client)?;
    let port = wait::until("the connection is told of", PATIENCE, || {
        let lines = told(cluster)?;
        let opened = lines.iter().find(|line| is_of_mayfly(line) && is(line, "new_state", "ESTABLISHED"));
        Ok(opened.and_then(|line| line.number("network.local.port")).ok_or(format!("{} lines", lines.len())))
    })?;

    let elsewhere = |label: &str| {
        let patch =
            json!([{"op": "add", "path": "/spec/template/spec/nodeSelector", "value": {label: "linux"}}]);
        kubectl.run(&[&PATCH[..], &[&format!("--patch={patch}")]].concat())
    };
    elsewhere("kube-tcpstates/nowhere")?;
    wait::until("no agent is left", PATIENCE, || {
        let left =
            [NODE_A, NODE_B].into_iter().filter(|node| AgentPod::of_node(cluster, *node).is_ok()).count();
        Ok(if left == 0 { Ok(()) } else { Err(format!("{left} are")) })
    })?;
    kubectl.run(&["delete", "pod", MAYFLY, "--namespace", SCENE, "--grace-period=1"])?;
    elsewhere("kubernetes.io/os")?;
    kubectl.run(&ROLL_OUT)?;

    let lines = wait::until("the connection's end is told of", PATIENCE, || {
        let lines = told(cluster)?;
        let ended = |line: &Line| {
            line.is("transition")
                && line.number("network.local.port") == Some(port)
                && is(line, "old_state", "ESTABLISHED")
        };
        Ok(if lines.iter().any(ended) { Ok(lines) } else { Err(format!("{} lines", lines.len())) })
    })?;
    assert!(lines.iter().any(|line| line.is("start") && line.get("tcpstates.continues").is_some()));
    for line in lines.iter().filter(|line| line.number("network.local.port") == Some(port)) {
        eprintln!("{}", line.0);
        assert!(is_of_mayfly(line), "{}", line.0);
    }
    Ok(())
}

/// What the agent on the pod's node has told so far; nothing while it writes.
fn told(cluster: &Cluster) -> Result<Vec<Line>> {
    Ok(AgentPod::of_node(cluster, NODE_B)?.log()?.lines().unwrap_or_default())
}

fn is(line: &Line, name: &str, value: &str) -> bool {
    line.get(&format!("tcpstates.{name}")).is_some_and(|told| told == value)
}

fn is_of_mayfly(line: &Line) -> bool {
    let names = [("k8s.namespace.name", SCENE), ("k8s.pod.name", MAYFLY), ("k8s.container.name", CONTAINER)];
    names.iter().all(|(path, name)| line.get(path).is_some_and(|told| told == name))
}
