//! Traces that want the same line, and more traces than there are slots.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use kube_tcpstates_e2e_tests::agent::Agents;
use kube_tcpstates_e2e_tests::agent_pod::AgentPod;
use kube_tcpstates_e2e_tests::cluster::node::Identity;
use kube_tcpstates_e2e_tests::cluster::{Cluster, NODE_A, NODE_B};
use kube_tcpstates_e2e_tests::compare::judge;
use kube_tcpstates_e2e_tests::line::Line;
use kube_tcpstates_e2e_tests::report::Report;
use kube_tcpstates_e2e_tests::scene::{Scene, arguments};
use kube_tcpstates_e2e_tests::wait;
use kube_tcpstates_e2e_workload::log::now_us;
use rustix::process::Signal;
use serde_json::{Value, json};

pub(crate) const TESTS: crate::Tests = &[
    ("a_transition_that_two_traces_want_is_one_line_with_both_names", overlapping_traces),
    ("of_65_traces_the_same_64_are_active_on_both_nodes_and_after_a_restart", sixty_five_traces),
];

type Names = BTreeSet<String>;

fn overlapping_traces(cluster: &Cluster) -> Result<()> {
    let agents = Agents::install(cluster)?;
    let scene = Scene::new(cluster, "overlap")?;
    let labels = json!({"app": "client"});
    let one_port = json!({"podSelector": {}, "role": "Client", "peerPorts": [{"port": 8081}]});
    agents.trace("overlap", "by-label", &json!({"podSelector": {"matchLabels": labels}}))?;
    agents.trace("overlap", "by-port", &one_port)?;
    let server = scene.server("server", &json!({"app": "server"}), NODE_B, &[8080, 8081])?;
    let mut flags = arguments([&server], &["client-close", "server-reset"], 80)?;
    // The programs are attached when the first pod appears that a trace selects.
    flags.push("--sleep-before-ms=1000".to_owned());
    scene.client("client", &labels, NODE_A, &flags)?;
    let log = scene.finished("client")?;
    let sources = [scene.source("client", ("pod", "client"), log)?];

    let expected = judge(&[], &sources).expected;
    agents.await_lines("overlap/by-label", expected)?;
    let mut lines = agents.new_lines("\"overlap\"")?;
    lines.retain(|line| line.is("transition") && line.text("k8s.namespace.name") == Some("overlap"));
    // Each transition once, whoever wanted it.
    let verdict = judge(&lines.iter().collect::<Vec<_>>(), &sources);
    assert!(verdict.is_clean(), "{verdict}");
    let mut shared = 0;
    for line in &lines {
        let both = line.number("network.peer.port") == Some(8081);
        let wanted: &[&str] =
            if both { &["overlap/by-label", "overlap/by-port"] } else { &["overlap/by-label"] };
        assert_eq!(
            names(line, "tcpstates.traces"),
            wanted.iter().copied().map(str::to_owned).collect(),
            "{}",
            line.0
        );
        shared += usize::from(both);
    }
    eprintln!("{expected} transitions, {shared} of them wanted by both traces");
    assert_eq!(shared * 2, expected);
    Ok(())
}

/// Those of this test. Dropping it deletes them.
struct ClusterTraces<'a>(&'a Cluster);

impl Drop for ClusterTraces<'_> {
    fn drop(&mut self) {
        let path = "/apis/tcpstates.dev/v1alpha1/clustertcpstatetraces?labelSelector=test=slots";
        if let Err(error) = self.0.kubectl().api().delete_path(path) {
            eprintln!("{error:#}");
        }
    }
}

/// The last of them has one trace.
const NAMESPACES: [&str; 4] = ["slots-a", "slots-b", "slots-c", "slots-d"];
/// Traces that may be active in one namespace.
const QUOTA: usize = 8;
const HALVES: usize = 64;
/// The youngest of those that are the eighth of their namespace: no room is left for it.
const LAST: &str = "slots-c/t7";
/// The first of its namespace, so it comes before the second of any other, however late it is made.
const ONLY: &str = "slots-d/only";
const OVER_QUOTA: &str = "slots-a/t8";
const NODES: [Identity; 2] = [NODE_A, NODE_B];

fn sixty_five_traces(cluster: &Cluster) -> Result<()> {
    let agents = Agents::install(cluster)?;
    let scenes = NAMESPACES.map(|name| Scene::new(cluster, name));
    let scenes = scenes.into_iter().collect::<Result<Vec<_>>>()?;
    let _traces = ClusterTraces(cluster);
    start_clients(cluster, &scenes)?;

    // A trace of a namespace comes behind every cluster trace, however late that is made.
    let mut active: Names =
        (0..QUOTA * 3).map(|n| format!("{}/t{}", NAMESPACES[n / QUOTA], n % QUOTA)).collect();
    let mut namespaced: Vec<&str> = active.iter().map(String::as_str).collect();
    namespaced.extend([OVER_QUOTA, ONLY]);
    make(cluster, &namespaced)?;
    active.retain(|name| name != LAST);
    active.insert(ONLY.to_owned());
    let of_cluster: Names = (active.len()..HALVES).map(|n| format!("c{n}")).collect();
    make(cluster, &of_cluster.iter().map(String::as_str).collect::<Vec<_>>())?;
    active.extend(of_cluster);
    for node in NODES {
        let report = await_active(cluster, node, &active)?;
        assert_eq!(
            report.standing(OVER_QUOTA),
            ("Waiting", "NamespaceQuota"),
            "{:?}",
            report.trace(OVER_QUOTA)
        );
        assert_eq!(report.standing(LAST), ("Waiting", "SlotsExhausted"), "{:?}", report.trace(LAST));
        assert_eq!(report.0["status"]["tracesLoaded"], HALVES);
        let message = report.trace(LAST).map(|trace| trace["message"].to_string()).unwrap_or_default();
        assert!(message.contains("displaced"), "it was active until the cluster traces came: {message}");
        eprintln!("{}: {} traces active; {LAST}: {message}", node.name, report.in_state("Tracing").len());
    }
    await_names(&agents, &active)?;

    let first_start = start_time(&Report::of(cluster, NODE_A)?);
    restart_agent(cluster, NODE_A)?;
    await_names(&agents, &active)?;

    agents.untrace("slots-a", "t0")?;
    agents.untrace("slots-c", "t3")?;
    active.retain(|name| name != "slots-a/t0" && name != "slots-c/t3");
    active.extend([OVER_QUOTA, LAST].map(str::to_owned));
    await_names(&agents, &active)?;
    for node in NODES {
        let report = await_active(cluster, node, &active)?;
        // Of what was said of them while they waited nothing is left.
        for taken_up in [OVER_QUOTA, LAST] {
            assert_eq!(report.standing(taken_up), ("Tracing", ""), "{:?}", report.trace(taken_up));
        }
    }
    assert_ne!(start_time(&Report::of(cluster, NODE_A)?), first_start, "it is the new agent's report");
    Ok(())
}

/// In every namespace one on each node. All talk to one server, once a second.
fn start_clients(cluster: &Cluster, scenes: &[Scene<'_>]) -> Result<()> {
    cluster.kubectl().run(&[&["label", "namespace"], &NAMESPACES[..], &["test=slots"]].concat())?;
    let labels = json!({"app": "client"});
    let server = scenes[0].server("server", &json!({"app": "server"}), NODE_A, &[8080])?;
    let mut flags: Vec<_> = server.targets().map(|target| format!("--target={target}")).collect();
    flags.push("--pace-ms=1000".to_owned());
    for scene in scenes {
        NODES.into_iter().try_for_each(|node| scene.client(node.name, &labels, node, &flags))?;
    }
    for scene in scenes {
        NODES.into_iter().try_for_each(|node| scene.await_ready(node.name).map(drop))?;
    }
    Ok(())
}

/// In this order, which is that of their creation. A name without a namespace is a cluster trace's.
fn make(cluster: &Cluster, names: &[&str]) -> Result<()> {
    let selector = json!({"matchLabels": {"app": "client"}});
    names.iter().try_for_each(|name| {
        let (kind, metadata, spec) = match name.split_once('/') {
            Some((namespace, name)) => (
                "TcpStateTrace",
                json!({"namespace": namespace, "name": name}),
                json!({"podSelector": selector}),
            ),
            None => (
                "ClusterTcpStateTrace",
                json!({"name": name, "labels": {"test": "slots"}}),
                json!({"podSelector": selector, "namespaceSelector": {"matchLabels": {"test": "slots"}}}),
            ),
        };
        let trace =
            json!({"apiVersion": "tcpstates.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec});
        cluster.kubectl().api().create(&trace)
    })
}

fn await_active(cluster: &Cluster, node: Identity, expected: &Names) -> Result<Report> {
    Report::awaited(cluster, node, &format!("{} active traces", expected.len()), |report| {
        let active = report.in_state("Tracing");
        let (missing, more): (Vec<_>, Vec<_>) =
            (expected.difference(&active).collect(), active.difference(expected).collect());
        let is_equal = missing.is_empty() && more.is_empty();
        if is_equal { Ok(()) } else { Err(format!("without {missing:?}, with {more:?}")) }
    })
}

/// Waits until the newest line of every client names exactly the active traces that select it.
fn await_names(agents: &Agents<'_>, active: &Names) -> Result<()> {
    let since_us = now_us();
    let expected = |namespace: &str, own: bool| -> Names {
        let of_line = active.iter().filter(|name| match name.split_once('/') {
            Some((of, _)) => own && of == namespace,
            None => !own,
        });
        of_line.cloned().collect()
    };
    wait::until("the lines name the active traces", Duration::from_secs(20), || {
        // Every namespace of them is named so.
        let lines = agents.new_lines("\"slots-")?;
        for namespace in NAMESPACES {
            for node in NODES {
                let of_pod = |line: &&Line| {
                    line.text("k8s.namespace.name") == Some(namespace)
                        && line.text("k8s.pod.name") == Some(node.name)
                        && line.time_us().is_some_and(|time| time > since_us)
                };
                let Some(line) = lines.iter().rev().find(of_pod) else {
                    return Ok(Err(format!("no line of {}, {namespace}", node.name)));
                };
                let named = (names(line, "tcpstates.traces"), names(line, "tcpstates.cluster_traces"));
                if named != (expected(namespace, true), expected(namespace, false)) {
                    return Ok(Err(format!("{}", line.0)));
                }
            }
        }
        Ok(Ok(()))
    })
}

fn names(line: &Line, path: &str) -> Names {
    let names = line.get(path).and_then(Value::as_array);
    names.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn start_time(report: &Report) -> Value {
    report.0["status"]["startTime"].clone()
}

/// Ends the agent's process, and waits until there is another one.
fn restart_agent(cluster: &Cluster, node: Identity) -> Result<()> {
    let before = AgentPod::of_node(cluster, node)?;
    before.signal(Signal::TERM)?;
    wait::until("the agent is started again", Duration::from_mins(1), || {
        let now = AgentPod::of_node(cluster, node)?;
        let is_new = now.restarts() > before.restarts() && now.process().is_ok();
        Ok(if is_new { Ok(()) } else { Err(now.object["status"].to_string()) })
    })
}
