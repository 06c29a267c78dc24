//! The API server away for half a minute: tracing goes on by what was known, and is in step soon after.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use kube_tcpstates_e2e_tests::agent::Agents;
use kube_tcpstates_e2e_tests::agent_pod::{AgentPod, Metrics};
use kube_tcpstates_e2e_tests::cluster::{Cluster, NODE_A, NODE_B};
use kube_tcpstates_e2e_tests::compare::{Source, judge};
use kube_tcpstates_e2e_tests::line::Line;
use kube_tcpstates_e2e_tests::scene::{Scene, Server, arguments};
use kube_tcpstates_e2e_workload::expect::connections;
use kube_tcpstates_e2e_workload::log::now_us;
use serde_json::json;

pub(crate) const TESTS: crate::Tests =
    &[("nothing_is_lost_while_the_api_server_is_away_and_the_agents_are_soon_in_step", outage)];

const ENDINGS: [&str; 5] = ["client-close", "server-close", "client-reset", "server-reset", "refused"];
const AWAY: Duration = Duration::from_secs(30);
/// By each of the two clients, some 80 a second: until the server has been back for a moment.
const CONNECTIONS: u64 = 6000;
/// All agents are on one kernel here, so each sees the pods of the other node, and doubts for so long whether they are its
/// own. Nothing is concluded while the server is away.
const DOUBTS: Duration = Duration::from_secs(28);
/// An agent asks again after half a minute at the latest. The machine may be busy with other things than the agent.
const IN_STEP_WITHIN: Duration = Duration::from_mins(1);
const CLIENTS: [&str; 2] = ["client-a", "client-b"];

fn outage(cluster: &Cluster) -> Result<()> {
    let agents = Agents::install(cluster)?;
    let scene = Scene::new(cluster, "away")?;
    let no_limit = json!({"linesPerSecondPerNode": 100_000, "burst": 200_000});
    let spec = |app: &str| json!({"podSelector": {"matchLabels": {"app": app}}, "rateLimit": no_limit});
    agents.trace("away", "clients", &spec("client"))?;
    let servers = scene.servers(&json!({"app": "server"}), &[8080])?;
    // Those who show when the agents have taken up a trace.
    for (name, node) in [("probe-a", NODE_A), ("probe-b", NODE_B)] {
        let targets = servers.iter().flat_map(Server::targets).map(|target| format!("--target={target}"));
        let endless: Vec<_> = targets.chain(["--pace-ms=50".to_owned()]).collect();
        scene.client(name, &json!({"app": "probe"}), node, &endless)?;
    }
    for (name, node) in CLIENTS.into_iter().zip([NODE_A, NODE_B]) {
        let pace = ["--sleep-before-ms=2000", "--pace-ms=12"].map(str::to_owned);
        let client = [&pace, &arguments(&servers, &ENDINGS, CONNECTIONS)?[..]].concat();
        scene.client(name, &json!({"app": "client"}), node, &client)?;
    }
    // An agent that has not heard of its client yet will not hear of it while the server is away.
    agents.await_pods("away/clients", &CLIENTS, 100)?;

    thread::sleep(DOUBTS);
    let pods = [AgentPod::of_node(cluster, NODE_A)?, AgentPod::of_node(cluster, NODE_B)?];
    let before = pods
        .iter()
        .map(|pod| pod.metrics().map(|metrics| failed_requests(&metrics)))
        .collect::<Result<Vec<_>>>()?;
    let (away_us, back_us) = kill_for(cluster, AWAY)?;
    agents.trace("away", "late", &spec("probe"))?;
    for (pod, before) in pods.iter().zip(before) {
        let metrics = pod.await_metrics("every watch is in step", IN_STEP_WITHIN, is_in_step)?;
        let seconds = Duration::from_micros(now_us() - away_us).as_secs_f64();
        let requests = failed_requests(&metrics) - before;
        eprintln!("{}: {requests} requests failed within {seconds:.1} s", pod.name());
        // Pauses double, from a second to half a minute.
        assert!((3.0..30.0).contains(&requests), "{requests} requests failed within {seconds:.1} s");
    }
    let mut sources = Vec::new();
    for name in CLIENTS {
        let log = scene.finished(name)?;
        let away =
            connections(&log).filter(|connection| (away_us..back_us).contains(&connection.opened_us)).count();
        let after = connections(&log).filter(|connection| connection.opened_us > back_us).count();
        assert!(away > 1000 && after > 0, "{name} made {away} connections meanwhile and {after} after that");
        sources.push(scene.source(name, ("pod", name), log)?);
    }
    in_step(&agents, back_us)?;
    check(&agents, &sources)
}

/// When it was killed, and when it answered again.
fn kill_for(cluster: &Cluster, duration: Duration) -> Result<(u64, u64)> {
    /// Starts it again, also when the test fails while it is away.
    struct Back<'a>(Option<&'a Cluster>);
    impl Drop for Back<'_> {
        fn drop(&mut self) {
            if let Some(Err(error)) = self.0.map(Cluster::start_api_server) {
                eprintln!("{error:#}");
            }
        }
    }
    let mut back = Back(Some(cluster));
    let (start, away_us) = (Instant::now(), now_us());
    cluster.kill_api_server()?;
    assert!(cluster.kubectl().get("/api/v1/nodes").is_err(), "the API server answers after it was killed");
    thread::sleep(duration);
    back.0 = None;
    cluster.start_api_server()?;
    eprintln!("the API server answers again after {:.1} s", start.elapsed().as_secs_f64());
    Ok((away_us, now_us()))
}

/// Those that got no proper answer.
fn failed_requests(metrics: &Metrics) -> f64 {
    let codes = ["code=\"broken\"", "code=\"timeout\"", "code=\"5xx\"", "code=\"401\"", "code=\"429\""];
    metrics.sum("kube_tcpstates_api_requests_total", &codes)
}

fn is_in_step(metrics: &Metrics) -> bool {
    let mut samples = metrics.samples("kube_tcpstates_api_in_sync").peekable();
    samples.peek().is_some() && samples.all(|(_, value)| value > 0.5)
}

/// A trace that was made as soon as the server answered is in force everywhere soon after.
fn in_step(agents: &Agents<'_>, back_us: u64) -> Result<()> {
    let lines = agents.of("away/late")?;
    for node in [NODE_A, NODE_B] {
        let of_node = lines.iter().filter(|line| line.text("k8s.node.name") == Some(node.name));
        let first = of_node.filter_map(Line::time_us).min().context("no line of the new trace")?;
        let delay = Duration::from_micros(first.saturating_sub(back_us));
        eprintln!("{}: in step {:.2} s after the API server's answer", node.name, delay.as_secs_f64());
        assert!(delay < IN_STEP_WITHIN, "{delay:?}");
    }
    Ok(())
}

fn check(agents: &Agents<'_>, sources: &[Source]) -> Result<()> {
    let expected = judge(&[], sources).expected;
    agents.await_lines("away/clients", expected)?;
    agents.require_no_loss("away/clients")?;
    let lines = agents.of("away/clients")?;
    let verdict = judge(&lines.iter().collect::<Vec<_>>(), sources);
    eprintln!("{verdict}");
    assert!(verdict.is_clean(), "{verdict}");
    Ok(())
}
