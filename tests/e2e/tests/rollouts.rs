//! Agents that pin are killed, rolled out and upgraded over and over during traffic. All runs of a node together show every
//! transition once, or count it as lost; ids and durations of connections go on through all of them.

mod judge;

use std::collections::BTreeSet;
use std::env;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use kube_tcpstates_e2e_tests::agent::{Agents, NAMESPACE};
use kube_tcpstates_e2e_tests::agent_pod::{AgentPod, Log};
use kube_tcpstates_e2e_tests::cluster::node::Identity;
use kube_tcpstates_e2e_tests::cluster::{Cluster, NODE_A, NODE_B, place};
use kube_tcpstates_e2e_tests::scene::{Scene, arguments};
use rustix::process::Signal;
use serde_json::json;

use crate::restart::{DELETE, PATCH, Pinned, ROLL_OUT, await_nothing_attached, await_successor};

pub(crate) const TESTS: crate::Tests =
    &[("nothing_is_missing_over_kills_rollouts_and_upgrades", over_and_over)];

const ENDINGS: [&str; 4] = ["client-close", "server-close", "client-reset", "server-reset"];
const TRACE: &str = "rollouts/clients";
const CLIENTS: [(&str, Identity); 2] = [("client-a", NODE_A), ("client-b", NODE_B)];
/// `ROLLOUTS` says otherwise.
const TIMES: u64 = 3;
/// Of each client, between two connections. `PACE_MS` says otherwise.
const PACE_MS: u64 = 8;
/// Of each client.
const STOP_PORT: u16 = 9999;
const IMAGE_IDS: [&str; 7] = [
    "get",
    "pods",
    "--namespace",
    NAMESPACE,
    "--selector=app.kubernetes.io/component=agent",
    "--output=jsonpath={.items[*].status.containerStatuses[*].imageID}",
    "--field-selector=status.phase=Running",
];
/// The archive of an image of another commit, made there by `./x image --fast`, which the agents are brought to and back.
const OTHER_IMAGE: &str = "OTHER_IMAGE";
const RESTART: [&str; 5] = ["rollout", "restart", "daemonset/kube-tcpstates-agent", "--namespace", NAMESPACE];
const UNDO: [&str; 5] = ["rollout", "undo", "daemonset/kube-tcpstates-agent", "--namespace", NAMESPACE];

/// One process of a node's agents.
struct Run {
    /// How the one before it ended.
    how: &'static str,
    log: Log,
}

fn number(variable: &str, otherwise: u64) -> Result<u64> {
    let Ok(text) = env::var(variable) else { return Ok(otherwise) };
    text.parse().with_context(|| format!("{variable}={text}: not a number"))
}

fn over_and_over(cluster: &Cluster) -> Result<()> {
    let times = number("ROLLOUTS", TIMES)?;
    let pace_ms = number("PACE_MS", PACE_MS)?;
    let _pinned = Pinned::new(cluster)?;
    let scene = Scene::new(cluster, "rollouts")?;
    let other_image = env::var_os(OTHER_IMAGE);
    start_clients(cluster, &scene, pace_ms)?;
    let begun = Instant::now();

    let mut runs = Runs { cluster, by_node: CLIENTS.map(|_| Vec::new()) };
    runs.add("nothing")?;
    for _ in 0..times {
        runs.kill()?;
        runs.roll_out("rolled out", &RESTART)?;
    }
    // Another set of programs and maps, as another build has, and back.
    let arguments = "/spec/template/spec/containers/0/args/-";
    let patch = json!([{"op": "add", "path": arguments, "value": "--ring-size=4MiB"}]);
    runs.roll_out("upgraded", &[&PATCH[..], &[&format!("--patch={patch}")]].concat())?;
    runs.roll_out("upgraded", &UNDO)?;
    if let Some(image) = other_image {
        let ours = image_ids(cluster)?;
        let other = OtherImage::import(cluster, Path::new(&image))?;
        runs.roll_out("upgraded", &RESTART)?;
        let theirs = image_ids(cluster)?;
        ensure!(theirs != ours, "the agents still have the image {ours}");
        drop(other);
        runs.roll_out("upgraded", &RESTART)?;
        ensure!(image_ids(cluster)? == ours, "the agents do not have the image {ours} again");
        eprintln!("upgraded from {ours} to {theirs}, and back");
    }

    stop_clients(cluster, &scene)?;
    let seconds = begun.elapsed().as_secs();
    let logs = [scene.finished(CLIENTS[0].0)?, scene.finished(CLIENTS[1].0)?];
    eprintln!("the clients made connections for {seconds} s");
    // The last lines are on their way.
    std::thread::sleep(Duration::from_secs(2));
    for ((runs, log), (client, _)) in runs.by_node.into_iter().zip(&logs).zip(CLIENTS) {
        judge::judge(client, runs, log)?;
    }
    cluster.kubectl().run(&DELETE)?;
    await_nothing_attached(cluster)
}

fn start_clients(cluster: &Cluster, scene: &Scene<'_>, pace_ms: u64) -> Result<()> {
    let agents = Agents::install(cluster)?;
    let no_limit = json!({"linesPerSecondPerNode": 100_000, "burst": 200_000});
    agents.trace(
        "rollouts",
        "clients",
        &json!({"podSelector": {"matchLabels": {"app": "client"}}, "rateLimit": no_limit}),
    )?;
    let servers = scene.servers(&json!({"app": "server"}), &[8080])?;
    for (name, node) in CLIENTS {
        let options = [
            "--sleep-before-ms=2000".to_owned(),
            format!("--pace-ms={pace_ms}"),
            format!("--stop-port={STOP_PORT}"),
        ];
        let client = [&options, &arguments(&servers, &ENDINGS, u64::MAX)?[..]].concat();
        scene.client(name, &json!({"app": "client"}), node, &client)?;
    }
    agents.await_pods(TRACE, &CLIENTS.map(|(name, _)| name), 100)
}

fn stop_clients(cluster: &Cluster, scene: &Scene<'_>) -> Result<()> {
    for (client, _) in CLIENTS {
        let datagram = format!("echo stop > /dev/udp/{}/{STOP_PORT}", scene.address(client)?);
        let status = cluster.nodes()[0].command("bash").args(["-c", &datagram]).status()?;
        ensure!(status.success(), "{datagram}: {status}");
    }
    Ok(())
}

/// Another image by the name of ours, on every node. Dropped, it is ours again.
struct OtherImage<'a>(&'a Cluster);

impl<'a> OtherImage<'a> {
    fn import(cluster: &'a Cluster, image: &Path) -> Result<Self> {
        let undo = Self(cluster);
        import(cluster, image)?;
        Ok(undo)
    }
}

impl Drop for OtherImage<'_> {
    fn drop(&mut self) {
        let ours = place::given("KUBE_TCPSTATES_AGENT_IMAGE");
        if let Err(error) = ours.and_then(|ours| import(self.0, &ours)) {
            eprintln!("the other image stays: {error:#}");
        }
    }
}

/// What the agents' containers were made from.
fn image_ids(cluster: &Cluster) -> Result<String> {
    let ids = cluster.kubectl().run(&IMAGE_IDS)?;
    let different: BTreeSet<&str> = ids.split_whitespace().collect();
    Ok(different.into_iter().collect::<Vec<_>>().join(" "))
}

fn import(cluster: &Cluster, image: &Path) -> Result<()> {
    cluster.nodes().iter().try_for_each(|node| node.import(image))
}

struct Runs<'a> {
    cluster: &'a Cluster,
    by_node: [Vec<Run>; 2],
}

impl<'a> Runs<'a> {
    fn pods(&self) -> Result<[AgentPod<'a>; 2]> {
        Ok([AgentPod::of_node(self.cluster, NODE_A)?, AgentPod::of_node(self.cluster, NODE_B)?])
    }

    fn add(&mut self, how: &'static str) -> Result<()> {
        let pods = self.pods()?;
        for (runs, pod) in self.by_node.iter_mut().zip(pods) {
            runs.push(Run { how, log: pod.log()? });
        }
        Ok(())
    }

    fn kill(&mut self) -> Result<()> {
        let old = self.pods()?;
        for pod in &old {
            pod.signal(Signal::KILL)?;
        }
        for (pod, node) in old.iter().zip([NODE_A, NODE_B]) {
            await_successor(self.cluster, node, pod)?;
        }
        self.add("killed")
    }

    fn roll_out(&mut self, how: &'static str, command: &[&str]) -> Result<()> {
        let old = self.pods()?;
        self.cluster.kubectl().run(command)?;
        self.cluster.kubectl().run(&ROLL_OUT)?;
        for (pod, node) in old.iter().zip([NODE_A, NODE_B]) {
            await_successor(self.cluster, node, pod)?;
        }
        self.add(how)
    }
}
