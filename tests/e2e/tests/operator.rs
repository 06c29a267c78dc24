//! What the operators make of all reports: the status of a trace, whoever of them leads.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use kube_tcpstates_e2e_tests::agent::{Agents, NAMESPACE};
use kube_tcpstates_e2e_tests::agent_pod::AgentPod;
use kube_tcpstates_e2e_tests::cluster::{Cluster, NODE_A, NODE_B};
use kube_tcpstates_e2e_tests::operator::Operators;
use kube_tcpstates_e2e_tests::scene::{Scene, Server, arguments};
use kube_tcpstates_e2e_tests::undo::Undo;
use kube_tcpstates_e2e_tests::wait;
use kube_tcpstates_e2e_workload::expect::connections;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::limits;

pub(crate) const TESTS: crate::Tests = &[
    ("a_trace_is_ready_once_a_node_traces_it_and_tells_of_how_many", ready),
    ("a_trace_that_cannot_be_traced_says_so_in_its_status_and_by_an_event", refused),
    ("events_tell_of_a_cluster_trace_that_is_refused_and_of_one_that_is_traced", of_cluster),
    ("a_trace_whose_ttl_is_over_is_expired_and_stays", expired),
    ("another_operator_writes_when_the_one_that_did_is_killed_or_ends", followed),
    ("without_an_operator_tracing_goes_on_and_status_is_true_again_with_one", away),
];

/// What takes seconds may take longer on a machine that builds something meanwhile; how long it took is printed.
const PATIENCE: Duration = Duration::from_mins(1);

fn ready(cluster: &Cluster) -> Result<()> {
    let operators = Operators::installed(cluster)?;
    let agents = Agents::install(cluster)?;
    let scene = Scene::new(cluster, "status")?;
    scene.servers(&json!({"app": "server"}), &[8080])?;
    agents.trace("status", "servers", &json!({"podSelector": {"matchLabels": {"app": "server"}}}))?;
    let start = Instant::now();
    let kubectl = cluster.kubectl();
    kubectl.run(&["wait", "--for=condition=Ready", "tst/servers", "--namespace=status", "--timeout=60s"])?;
    eprintln!("Ready after {:.1} s", start.elapsed().as_secs_f64());
    let row = wait::until("both nodes tell that they trace", PATIENCE, || {
        let table = kubectl.run(&["get", "tst", "servers", "--namespace=status", "--output=wide"])?;
        let rows = table.lines().map(|row| row.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        let [header, row] = &rows.collect::<Vec<_>>()[..] else { anyhow::bail!("not one row: {table}") };
        let columns = "NAME READY PODS NODES EVENTS LOST EXPIRES AGE LIMITED REASON";
        let shown: Vec<_> =
            columns.split(' ').filter(|name| header.iter().any(|cell| cell == name)).collect();
        assert_eq!(shown.len(), header.len(), "{table}");
        Ok(if row[1..4] == ["True", "2", "2/2"] { Ok(table) } else { Err(table) })
    })?;
    eprintln!("both after {:.1} s:\n{row}", start.elapsed().as_secs_f64());
    assert!(row.trim_end().ends_with("Tracing"), "{row}");
    let trace = operators.await_reason(("status", "servers"), "Ready", "Tracing", PATIENCE)?.0;
    assert_eq!((&trace["observedGeneration"], &trace["nodes"]["selected"]), (&json!(1), &json!(2)));
    let told = operators.events("status", "servers", "Tracing")?;
    assert_eq!((told.len(), &told[0]["type"]), (1, &json!("Normal")), "{told:?}");

    // A trace of nobody: sure, because both agents have told.
    agents.trace("status", "nobody", &json!({"podSelector": {"matchLabels": {"app": "nobody"}}}))?;
    // Who has nothing new to tell tells it once a minute.
    let patience = 2 * PATIENCE;
    let (status, took) = operators.await_reason(("status", "nobody"), "Ready", "NoMatchingPods", patience)?;
    eprintln!("NoMatchingPods after {:.1} s", took.as_secs_f64());
    assert_eq!(status["nodes"]["summary"], "0/0");
    let windows = json!({"podSelector": {}, "nodeSelector": {"kubernetes.io/os": "windows"}});
    agents.trace("status", "nowhere", &windows)?;
    operators.await_reason(("status", "nowhere"), "Ready", "NoMatchingNodes", PATIENCE)?;
    Ok(())
}

fn refused(cluster: &Cluster) -> Result<()> {
    let operators = Operators::installed(cluster)?;
    let agents = Agents::install(cluster)?;
    let _scene = Scene::new(cluster, "mistakes")?;
    let wrong = json!({"podSelector": {}, "peerCIDRs": ["10.0.0.1/8"]});
    agents.trace("mistakes", "typo", &wrong)?;
    let (status, took) = operators.await_reason(("mistakes", "typo"), "Accepted", "InvalidSpec", PATIENCE)?;
    let told = wait::until("an Event tells of it", PATIENCE, || {
        let events = operators.events("mistakes", "typo", "InvalidSpec")?;
        Ok(events.into_iter().next().ok_or("there is none".to_owned()))
    })?;
    eprintln!("refused after {:.1} s: {}", took.as_secs_f64(), told["note"]);
    let accepted = &status["conditions"][0];
    let words = "spec.peerCIDRs[0]: has bits set behind its prefix length; did you mean 10.0.0.0/8?";
    assert_eq!(
        (&accepted["type"], &accepted["status"], &accepted["message"]),
        (&json!("Accepted"), &json!("False"), &json!(words))
    );
    assert_eq!((&status["conditions"][1]["status"], &told["note"]), (&json!("False"), &json!(words)));
    assert_eq!((&told["type"], &told["regarding"]["kind"]), (&json!("Warning"), &json!("TcpStateTrace")));

    agents.trace("mistakes", "typo", &json!({"podSelector": {}, "peerCIDRs": ["10.0.0.0/8"]}))?;
    let (status, took) = operators.await_reason(("mistakes", "typo"), "Accepted", "Valid", PATIENCE)?;
    eprintln!("mended after {:.1} s", took.as_secs_f64());
    assert_eq!(status["observedGeneration"], 2);

    agents.trace("mistakes", "typo", &wrong)?;
    operators.await_reason(("mistakes", "typo"), "Accepted", "InvalidSpec", PATIENCE)?;
    wait::until("the same Event tells it again", PATIENCE, || {
        let events = operators.events("mistakes", "typo", "InvalidSpec")?;
        let is_so = events.len() == 1 && events[0]["series"]["count"] == 2;
        Ok(if is_so { Ok(()) } else { Err(json!(events).to_string()) })
    })
}

fn of_cluster(cluster: &Cluster) -> Result<()> {
    let operators = Operators::installed(cluster)?;
    let kubectl = cluster.kubectl();
    let scene = Scene::new(cluster, "of-cluster")?;
    scene.servers(&json!({"app": "server"}), &[8080])?;
    kubectl.run(&["label", "namespace", "of-cluster", "of-cluster=yes"])?;
    let _untrace = Undo::new(kubectl, &["delete", "ctst", "of-cluster"]);
    for (cidr, type_, reason) in
        [("10.0.0.1/8", "Warning", "InvalidSpec"), ("10.0.0.0/8", "Normal", "Tracing")]
    {
        let trace = json!({
            "apiVersion": "tcpstates.dev/v1alpha1", "kind": "ClusterTcpStateTrace",
            "metadata": {"name": "of-cluster"},
            "spec": {
                "namespaceSelector": {"matchLabels": {"of-cluster": "yes"}},
                "podSelector": {}, "peerCIDRs": [cidr],
            },
        });
        let start = Instant::now();
        kubectl.apply(&trace.to_string())?;
        let told = wait::until(&format!("an Event says {reason}"), PATIENCE, || {
            let mut events = operators.events("default", "of-cluster", reason)?;
            events.extend(operators.events("kube-system", "of-cluster", reason)?);
            Ok(events.pop().ok_or("there is none".to_owned()))
        })?;
        let namespace = &told["metadata"]["namespace"];
        eprintln!("{reason} is told after {:.1} s in {namespace}", start.elapsed().as_secs_f64());
        assert_eq!(
            (&told["type"], &told["regarding"]["kind"]),
            (&json!(type_), &json!("ClusterTcpStateTrace"))
        );
        let described = kubectl.run(&["describe", "ctst", "of-cluster"])?;
        let is_told = described.lines().any(|line| line.contains(type_) && line.contains(reason));
        assert!(is_told, "{described}");
    }
    Ok(())
}

fn expired(cluster: &Cluster) -> Result<()> {
    let operators = Operators::installed(cluster)?;
    let agents = Agents::install(cluster)?;
    let _scene = Scene::new(cluster, "short")?;
    agents.trace("short", "short", &json!({"podSelector": {}, "ttl": "10s"}))?;
    let (status, took) = operators.await_reason(("short", "short"), "Ready", "Expired", PATIENCE)?;
    eprintln!("Expired after {:.1} s", took.as_secs_f64());
    assert!(took > Duration::from_secs(8), "{took:?}");
    assert_eq!(status["conditions"][1]["status"], "False");
    let told = status["conditions"][1]["message"].as_str().unwrap_or_default();
    assert!(told.ends_with(status["expiresAt"].as_str().context("expiresAt")?), "{status}");
    Ok(())
}

fn followed(cluster: &Cluster) -> Result<()> {
    let operators = Operators::installed(cluster)?;
    let agents = Agents::install(cluster)?;
    let _scene = Scene::new(cluster, "followed")?;
    let kubectl = cluster.kubectl();
    let written = |name: &str| -> Result<Duration> {
        let start = Instant::now();
        agents.trace("followed", name, &json!({"podSelector": {}}))?;
        operators.await_reason(("followed", name), "Accepted", "Valid", PATIENCE)?;
        Ok(start.elapsed())
    };
    eprintln!("with a leader a status is there after {:.1} s", written("before")?.as_secs_f64());

    let holder = operators.holder()?;
    let leader = operators.await_leader("an operator leads", |_| true)?;
    AgentPod::named(cluster, &leader)?.signal(Signal::KILL)?;
    let took = written("killed")?;
    eprintln!("the leader killed: a status is there after {:.1} s", took.as_secs_f64());
    assert_ne!(operators.holder()?, holder, "another has taken the lease");
    assert!(took > Duration::from_secs(2), "nobody wrote while the lease was the other's: {took:?}");

    operators.await_ready(2)?;
    let leader = operators.await_leader("an operator leads", |_| true)?;
    kubectl.run(&["delete", "pod", &leader, "--namespace", NAMESPACE, "--wait=false"])?;
    let took = written("ended")?;
    eprintln!("the leader told to end: a status is there after {:.1} s", took.as_secs_f64());
    operators.await_leader("another operator leads", |pod| pod != leader)?;
    operators.await_ready(2)?;
    Ok(())
}

fn away(cluster: &Cluster) -> Result<()> {
    let operators = Operators::installed(cluster)?;
    let agents = Agents::install(cluster)?;
    let scene = Scene::new(cluster, "alone")?;
    let kubectl = cluster.kubectl();
    let scale = ["scale", "deployment", "kube-tcpstates-operator", "--namespace", NAMESPACE, "--replicas=2"];
    let _back = Undo::new(kubectl, &scale);
    operators.scale(0)?;
    agents.trace("alone", "clients", &json!({"podSelector": {"matchLabels": {"app": "client"}}}))?;
    let server = scene.server("server", &json!({"app": "server"}), NODE_B, &[8080])?;
    bounded_alone(&agents, &scene, &server)?;
    let mut flags = arguments([&server], &["client-close"], 20)?;
    flags.push("--sleep-before-ms=1000".to_owned());
    scene.client("client", &json!({"app": "client"}), NODE_A, &flags)?;
    scene.finished("client")?;
    // CLOSE to SYN_SENT, and so on to CLOSE again: five of each connection.
    let lines = agents.await_lines("alone/clients", 100)?;
    assert_eq!(lines.len(), 100, "the agents trace by themselves");
    for trace in ["clients", "short", "limited"] {
        assert_eq!(scene.trace(trace)?["status"], Value::Null, "nobody writes");
    }
    operators.scale(2)?;
    let (_, took) = operators.await_reason(("alone", "clients"), "Accepted", "Valid", PATIENCE)?;
    eprintln!("{:.1} s after both were Ready the status is there", took.as_secs_f64());
    operators.await_reason(("alone", "short"), "Ready", "Expired", PATIENCE)?;
    Ok(())
}

/// What bounds a trace is the agents' to keep: it ends by itself, and writes no more than its rate.
fn bounded_alone(agents: &Agents<'_>, scene: &Scene<'_>, server: &Server) -> Result<()> {
    let limit = json!({"linesPerSecondPerNode": limits::PER_SECOND, "burst": limits::BURST});
    let pods = |name: &str| json!({"matchLabels": {"app": name}});
    for (name, spec) in [
        ("short", json!({"podSelector": pods("short"), "ttl": "10s"})),
        ("limited", json!({"podSelector": pods("limited"), "rateLimit": limit})),
    ] {
        scene.client(name, &json!({"app": name}), NODE_A, &limits::endless(server))?;
        scene.await_ready(name)?;
        agents.trace("alone", name, &spec)?;
    }
    limits::require_end(agents, scene, "short", "short", 10)?;
    let lines = agents.of("alone/limited")?;
    let (written, may) = (lines.len(), limits::allowed(&lines)?);
    // Five transitions each.
    let made = connections(&scene.log("limited")?).count() * 5;
    eprintln!("without an operator {written} lines of {made} transitions were written, {may} are allowed");
    // A line is admitted some milliseconds after its transition.
    assert!(written <= may + 3, "{written} lines where {may} are allowed");
    assert!(written * 2 < made, "hardly anything was limited");
    Ok(())
}
