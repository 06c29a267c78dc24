//! What changes in the API takes effect on the lines within a second, and no name outlives its pod.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use kube_tcpstates_e2e_tests::agent::Agents;
use kube_tcpstates_e2e_tests::cluster::node::Identity;
use kube_tcpstates_e2e_tests::cluster::{Cluster, NODE_A, NODE_B};
use kube_tcpstates_e2e_tests::line::Line;
use kube_tcpstates_e2e_tests::scene::{Scene, Server, pod_spec, workload};
use kube_tcpstates_e2e_tests::wait;
use kube_tcpstates_e2e_workload::log::now_us;
use serde_json::{Value, json};

pub(crate) const NAMELESS: crate::Tests =
    &[("a_pod_made_again_under_its_name_is_never_taken_for_the_old_one", a_pod_made_again)];
pub(crate) const ALONE: crate::Tests =
    &[("labels_and_traces_that_change_take_effect_within_a_second", changes_take_effect)];

/// So many pairs of clients, each with a trace of its own, at a time.
const PAIRS: usize = 3;
const ROUNDS: usize = 2;
/// Longer than what is allowed, so that a line that comes too late is seen.
const REST: Duration = Duration::from_millis(1500);
const ALLOWED_US: u64 = 1_000_000;
const NODES: [(&str, Identity); 2] = [("a", NODE_A), ("b", NODE_B)];

/// Lines that began or stopped with a change, and when the API server had answered.
#[derive(Clone)]
struct Change {
    pair: usize,
    what: &'static str,
    answered_us: u64,
    /// Whether the lines are to come or to cease.
    begins: bool,
    /// Port 8080, 8081, or both.
    ports: &'static [u64],
}

fn changes_take_effect(cluster: &Cluster) -> Result<()> {
    let agents = Agents::install(cluster)?;
    await_calm(cluster)?;
    let scene = Scene::new(cluster, "changes")?;
    let server = scene.server("server", &json!({"app": "server"}), NODE_A, &[8080, 8081])?;
    let agents = &agents;
    let clients: Vec<_> =
        (0..PAIRS).flat_map(|pair| NODES.map(|(node, on)| (pair, client(pair, node), on))).collect();
    for (pair, name, node) in &clients {
        scene.client(name, &json!({"app": format!("client-{pair}")}), *node, &endless(&server))?;
    }
    for (_, name, _) in &clients {
        scene.await_ready(name)?;
    }
    let changes = thread::scope(|scope| {
        let threads: Vec<_> =
            (0..PAIRS).map(|pair| scope.spawn(move || change(cluster, agents, pair))).collect();
        let changes = threads.into_iter().map(|thread| match thread.join() {
            Ok(changes) => changes,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        changes.collect::<Result<Vec<_>>>()
    })?;
    let mut lines = Vec::new();
    for pair in 0..PAIRS {
        lines.extend(agents.of(&format!("changes/of-{pair}"))?);
    }
    judge(&lines, &changes.concat());
    Ok(())
}

/// What is measured is the agent, not a machine that takes down an earlier test's pods.
fn await_calm(cluster: &Cluster) -> Result<()> {
    wait::until("the pods of earlier tests are gone", Duration::from_mins(1), || {
        let pods = cluster.kubectl().get("/api/v1/pods")?;
        let mut pods = pods["items"].as_array().into_iter().flatten();
        let going = pods.find(|pod| pod["metadata"]["deletionTimestamp"].is_string());
        Ok(going.map_or(Ok(()), |pod| Err(format!("{} is not", pod["metadata"]["name"]))))
    })
}

fn client(pair: usize, node: &str) -> String {
    format!("client-{pair}-{node}")
}

/// Everything that can change for one pair of clients, one after the other.
fn change(cluster: &Cluster, agents: &Agents<'_>, pair: usize) -> Result<Vec<Change>> {
    let app = format!("client-{pair}");
    let name = format!("of-{pair}");
    let label = |value: &str| {
        let pods = NODES.map(|(node, _)| format!("pod/{}", client(pair, node)));
        let flags = ["label", "--namespace", "changes", "--overwrite", &pods[0], &pods[1], value];
        cluster.kubectl().run(&flags).map(drop)
    };
    let trace = |port: u64| agents.trace("changes", &name, &spec(&app, port));
    let mut changes = Vec::new();
    let mut change = |what, make: &dyn Fn() -> Result<()>, effects: &[(bool, &'static [u64])]| {
        make()?;
        let answered_us = now_us();
        thread::sleep(REST);
        let effects = effects.iter().copied();
        changes.extend(effects.map(|(begins, ports)| Change { pair, what, answered_us, begins, ports }));
        anyhow::Ok(())
    };
    for _ in 0..ROUNDS {
        change("trace made", &|| trace(8080), &[(true, &[8080])])?;
        change("label removed", &|| label("app-"), &[(false, &[8080, 8081])])?;
        change("label set", &|| label(&format!("app={app}")), &[(true, &[8080])])?;
        change("trace edited", &|| trace(8081), &[(false, &[8080]), (true, &[8081])])?;
        change("trace deleted", &|| agents.untrace("changes", &name), &[(false, &[8080, 8081])])?;
    }
    Ok(changes)
}

/// For each change and each client: how long until the first line, or until the last.
fn judge(lines: &[Line], changes: &[Change]) {
    let mut delays: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for change in changes {
        let rest_us = u64::try_from(REST.as_micros()).unwrap_or(u64::MAX);
        for (node, _) in NODES {
            let client = client(change.pair, node);
            let window = change.answered_us..change.answered_us + rest_us;
            let of_client = lines.iter().filter(|line| line.text("k8s.pod.name") == Some(&client));
            let of_ports = of_client.filter(|line| {
                line.number("network.peer.port").is_some_and(|port| change.ports.contains(&port))
            });
            let times = of_ports.filter_map(Line::time_us).filter(|time| window.contains(time));
            let delay = if change.begins {
                times.min().map_or(u64::MAX, |first| first - change.answered_us)
            } else {
                times.max().map_or(0, |last| last - change.answered_us)
            };
            delays.entry(change.what).or_default().push(delay);
        }
    }
    for (what, delays) in &mut delays {
        delays.sort_unstable();
        eprintln!("{what}: {delays:?} us");
    }
    let worst =
        delays.into_iter().filter(|(_, delays)| delays.last().is_some_and(|worst| *worst > ALLOWED_US));
    assert_eq!(worst.collect::<Vec<_>>(), [], "changes that took more than a second");
}

/// Before the pod is deleted: enough to be told from lines that other lives were mistaken for.
const LINES_OF_A_LIFE: usize = 100;

fn a_pod_made_again(cluster: &Cluster) -> Result<()> {
    let agents = Agents::install(cluster)?;
    let scene = Scene::new(cluster, "again")?;
    let server = scene.server("server", &json!({"app": "server"}), NODE_B, &[8080])?;
    agents.trace("again", "all", &json!({"podSelector": {"matchLabels": {"app": "ledger"}}}))?;
    let client = [vec!["client".to_owned()], endless(&server)].concat();
    scene.create(workload(
        "StatefulSet",
        "ledger",
        &json!({"app": "ledger"}),
        1,
        pod_spec(Some(NODE_A), &client),
    ))?;

    // Of each life by its address, which no other pod gets again so soon.
    let mut uids = BTreeMap::new();
    for _ in 0..4 {
        let pod = wait::until("the pod is made again", Duration::from_secs(30), || {
            let pod = scene.await_ready("ledger-0");
            Ok(match pod {
                Ok(pod) if !uids.contains_key(&text(&pod["status"]["podIP"])) => Ok(pod),
                Ok(_) => Err("it is still the old one".to_owned()),
                Err(error) => Err(format!("{error:#}")),
            })
        })?;
        let uid = text(&pod["metadata"]["uid"]);
        wait::until("a life has its lines", Duration::from_secs(30), || {
            let lines = agents.of("again/all")?;
            let count = lines.iter().filter(|line| line.text("k8s.pod.uid") == Some(&uid)).count();
            Ok(if count > LINES_OF_A_LIFE { Ok(()) } else { Err(format!("{count} lines with {uid}")) })
        })?;
        uids.insert(text(&pod["status"]["podIP"]), uid);
        cluster.kubectl().run(&["delete", "pod", "ledger-0", "--namespace", "again", "--wait=false"])?;
    }
    let lines = agents.of("again/all")?;
    for line in &lines {
        // A client that is not bound yet has no address.
        if let Some(uid) = line.text("network.local.address").and_then(|address| uids.get(address)) {
            let names = (line.text("k8s.pod.uid"), line.text("k8s.pod.name"));
            assert_eq!(names, (Some(uid.as_str()), Some("ledger-0")), "{}", line.0);
        }
    }
    Ok(())
}

/// To every port of the server in turn, some 50 connections a second.
fn endless(server: &Server) -> Vec<String> {
    let mut arguments: Vec<_> = server.targets().map(|target| format!("--target={target}")).collect();
    arguments.push("--pace-ms=20".to_owned());
    arguments
}

fn spec(app: &str, port: u64) -> Value {
    json!({"podSelector": {"matchLabels": {"app": app}}, "role": "Client", "peerPorts": [{"port": port}]})
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
