//! What one tenant can do to the others by making traces: they go on being traced, told and reported, within the memory
//! that the agents have, and nobody's log or API server is flooded.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use kube_tcpstates_e2e_tests::agent::{Agents, trace_path};
use kube_tcpstates_e2e_tests::agent_pod::{AgentPod, Metrics};
use kube_tcpstates_e2e_tests::cluster::node::Identity;
use kube_tcpstates_e2e_tests::cluster::{Cluster, NODE_A, NODE_B};
use kube_tcpstates_e2e_tests::compare::judge;
use kube_tcpstates_e2e_tests::flood;
use kube_tcpstates_e2e_tests::operator::Operators;
use kube_tcpstates_e2e_tests::report::Report;
use kube_tcpstates_e2e_tests::scene::{Scene, Server, arguments};
use kube_tcpstates_e2e_tests::wait;
use rustix::process::Signal;
use serde_json::{Value, json};

pub(crate) const TESTS: crate::Tests =
    &[("whatever_traces_a_tenant_makes_the_others_are_traced_and_told_within_the_agents_memory", hostile)];

const PATIENCE: Duration = Duration::from_mins(2);
const HOSTILE: &str = "hostile";
const VICTIM: &str = "victim";
/// Traces of the hostile namespace.
const TRACES: usize = 5_000;
/// Those among them with annotations of 256 KiB.
const LARGE: usize = 200;
const ANNOTATION: usize = 256 * 1024 - 64;
/// Those among them that are refused.
const REFUSED: usize = 17;
/// Namespaces with as many traces as may be active in one, each for ever.
const CROWD: usize = 8;
const QUOTA: usize = 8;
/// Between two edits of one trace, and two changes of a pod's labels.
const EDIT_EVERY: Duration = Duration::from_millis(100);
/// By each client of the victim, ten a second.
const CONNECTIONS: u64 = 400;
/// What a report has at most, in bytes.
const REPORT: usize = 15 * 1024;
/// Of the manifests, in bytes.
const AGENT_LIMIT: u64 = 256 * 1024 * 1024;
const OPERATOR_LIMIT: u64 = 512 * 1024 * 1024;
/// The operator's writes: so many a second, and so many at once after a quiet time.
const WRITES_PER_SECOND: f64 = 10.0;
const WRITES_AT_ONCE: f64 = 50.0;
/// Of all agents, of whatever is no transition. Each tells of 32 refused traces an hour.
const LINES_OF_THEIR_OWN: usize = 150;

fn hostile(cluster: &Cluster) -> Result<()> {
    let operators = Operators::installed(cluster)?;
    let agents = Agents::install(cluster)?;
    let victim = Scene::new(cluster, VICTIM)?;
    let server = victim.server("server", &json!({"app": "server"}), NODE_A, &[8080])?;
    let crowd = Crowd::make(cluster, &server)?;
    let (start, before) = (Instant::now(), Writes::of(cluster)?);
    flood::create(cluster.kubectl().api(), TRACES, hostile_trace)?;
    eprintln!("{TRACES} traces are there; it took {:.1} s", start.elapsed().as_secs_f64());

    let (over, edits) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let worry = scope.spawn(|| worry(cluster, &over, &edits));
        let seen = seen_by_victim(cluster, operators, &agents, &victim, &server);
        over.store(true, Ordering::Relaxed);
        let worried = worry.join().map_err(|_| anyhow::anyhow!("the edits panicked"))?;
        seen.and(worried)
    })?;
    eprintln!("{} edits and changes of labels meanwhile", edits.load(Ordering::Relaxed));
    Writes::of(cluster)?.judge(&before, start.elapsed());
    judge_log(&agents)?;
    judge_memory(cluster)?;
    drop(crowd);
    wait::until("the traces are gone", PATIENCE, || {
        let all = cluster.kubectl().get(&format!("{}?limit=1", collection(HOSTILE)))?;
        Ok(if all["items"] == json!([]) { Ok(()) } else { Err("some are there".to_owned()) })
    })
}

fn collection(namespace: &str) -> String {
    format!("/apis/tcpstates.dev/v1alpha1/namespaces/{namespace}/tcpstatetraces")
}

fn trace(namespace: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "tcpstates.dev/v1alpha1", "kind": "TcpStateTrace",
        "metadata": {"name": name, "namespace": namespace}, "spec": spec,
    })
}

fn selector() -> Value {
    json!({"matchLabels": {"app": "client"}})
}

fn hostile_trace(number: usize) -> Value {
    let mut made = trace(HOSTILE, &format!("t{number}"), &json!({"podSelector": selector()}));
    // Among the oldest: the youngest are not even looked at.
    match number {
        0..REFUSED => made["spec"]["peerCIDRs"] = json!(["10.0.0.1/8"]),
        _ if number < REFUSED + LARGE => {
            made["metadata"]["annotations"] = json!({"large": "a".repeat(ANNOTATION)});
        }
        _ => {}
    }
    made
}

/// The namespaces that have a trace in every slot, and the hostile one; with a pod each on both nodes.
struct Crowd<'a> {
    cluster: &'a Cluster,
    _scenes: Vec<Scene<'a>>,
}

impl<'a> Crowd<'a> {
    fn make(cluster: &'a Cluster, server: &Server) -> Result<Self> {
        let names = (0..CROWD).map(|number| format!("crowd-{number}")).chain([HOSTILE.to_owned()]);
        let scenes = names.map(|name| Scene::new(cluster, &name)).collect::<Result<Vec<_>>>()?;
        let mut flags: Vec<_> = server.targets().map(|target| format!("--target={target}")).collect();
        flags.push("--pace-ms=1000".to_owned());
        for scene in &scenes {
            for node in [NODE_A, NODE_B] {
                scene.client(node.name, &json!({"app": "client"}), node, &flags)?;
            }
        }
        for scene in &scenes[..CROWD] {
            for number in 0..QUOTA {
                let made =
                    trace(scene.namespace(), &format!("t{number}"), &json!({"podSelector": selector()}));
                cluster.kubectl().api().create(&made)?;
            }
        }
        Ok(Self { cluster, _scenes: scenes })
    }
}

impl Drop for Crowd<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.cluster.kubectl().api().delete_path(&collection(HOSTILE)) {
            eprintln!("{error:#}");
        }
    }
}

/// Edits a trace and flips the label that all select by, until it is over.
fn worry(cluster: &Cluster, over: &AtomicBool, edits: &AtomicU64) -> Result<()> {
    let api = cluster.kubectl().api();
    let edited = trace_path(HOSTILE, &format!("t{}", REFUSED + LARGE));
    let pod = format!("/api/v1/namespaces/{HOSTILE}/pods/{}", NODE_A.name);
    let mut port = 1;
    while !over.load(Ordering::Relaxed) {
        let began = Instant::now();
        port = port % 60_000 + 1;
        api.merge(&edited, &json!({"spec": {"peerPorts": [{"port": port}]}}))?;
        let app = if port % 2 == 0 { "client" } else { "other" };
        api.merge(&pod, &json!({"metadata": {"labels": {"app": app}}}))?;
        edits.fetch_add(2, Ordering::Relaxed);
        thread::sleep(EDIT_EVERY.saturating_sub(began.elapsed()));
    }
    Ok(())
}

/// A trace that is made last of all is Ready, has every line, and is traced by an agent that starts anew as well.
fn seen_by_victim(
    cluster: &Cluster,
    operators: Operators<'_>,
    agents: &Agents<'_>,
    scene: &Scene<'_>,
    server: &Server,
) -> Result<()> {
    let mut flags = arguments([server], &["client-close"], CONNECTIONS)?;
    flags.extend(["--pace-ms=100", "--sleep-before-ms=12000"].map(str::to_owned));
    let clients = [("client-a", NODE_A), ("client-b", NODE_B)];
    for (name, node) in clients {
        scene.client(name, &json!({"app": "client"}), node, &flags)?;
    }
    let only = format!("{VICTIM}/only");
    agents.trace(VICTIM, "only", &json!({"podSelector": selector()}))?;
    let (_, accepted) = operators.await_reason((VICTIM, "only"), "Accepted", "Valid", PATIENCE)?;
    let (_, ready) = operators.await_reason((VICTIM, "only"), "Ready", "Tracing", PATIENCE)?;
    eprintln!(
        "the victim's: Accepted after {:.1} s, Ready {:.1} s later",
        accepted.as_secs_f64(),
        ready.as_secs_f64()
    );
    ensure!(accepted < Duration::from_secs(20), "Accepted after {accepted:?}: the hostile traces came first");
    let mut sources = Vec::new();
    for (name, _) in clients {
        let log = scene.finished(name)?;
        sources.push(scene.source(name, ("pod", name), log)?);
    }
    let lines = agents.await_lines(&only, judge(&[], &sources).expected)?;
    let verdict = judge(&lines.iter().collect::<Vec<_>>(), &sources);
    assert!(verdict.is_clean(), "{verdict}");
    eprintln!("all {} lines of the victim are there", lines.len());
    await_traced(cluster, NODE_A)?;
    await_traced(cluster, NODE_B)?;
    // One that starts gets all of it at once.
    let started = |report: &Report| report.0["status"]["startTime"].clone();
    let before = started(&Report::of(cluster, NODE_B)?);
    let old = AgentPod::of_node(cluster, NODE_B)?;
    old.signal(Signal::KILL)?;
    wait::until("the agent is started again", PATIENCE, || {
        let now = AgentPod::of_node(cluster, NODE_B)?;
        let is_new = now.restarts() > old.restarts() && now.is_ready();
        Ok(if is_new { Ok(()) } else { Err(now.object["status"].to_string()) })
    })?;
    Report::awaited(cluster, NODE_B, "of its new start", |report| {
        if started(report) == before { Err("it has not".to_owned()) } else { Ok(()) }
    })?;
    await_traced(cluster, NODE_B)
}

/// The report of a node has the victim's trace, and of every namespace of the crowd one.
fn await_traced(cluster: &Cluster, node: Identity) -> Result<()> {
    let report = Report::awaited(cluster, node, "the victim's trace", |report| {
        let traced = report.in_state("Tracing");
        let has = |namespace: &str| traced.iter().any(|name| name.starts_with(&format!("{namespace}/")));
        let crowd = (0..CROWD).map(|number| format!("crowd-{number}"));
        let absent: Vec<_> = crowd.chain([VICTIM.to_owned()]).filter(|namespace| !has(namespace)).collect();
        if absent.is_empty() { Ok(()) } else { Err(format!("none of {absent:?} is traced")) }
    })?;
    let told = |state: &str| report.in_state(state).len();
    let bytes = report.0["status"].to_string().len();
    assert!(bytes <= REPORT, "the report of {} has {bytes} bytes", node.name);
    eprintln!(
        "{} tells of {} traces that are traced, {} that wait and {} that are refused; {} loaded; {} bytes",
        node.name,
        told("Tracing"),
        told("Waiting"),
        told("Refused"),
        report.0["status"]["tracesLoaded"],
        bytes,
    );
    Ok(())
}

/// What the operators have written so far.
struct Writes {
    statuses: f64,
    events: f64,
}

impl Writes {
    fn of(cluster: &Cluster) -> Result<Self> {
        let pages = operators(cluster)?;
        let pages: Vec<Metrics> = pages.iter().map(AgentPod::operator_metrics).collect::<Result<_>>()?;
        let sum = |name: &str| pages.iter().map(|page| page.sum(name, &[""])).sum();
        Ok(Self {
            statuses: sum("kube_tcpstates_operator_status_writes_total"),
            events: sum("kube_tcpstates_operator_event_writes_total"),
        })
    }

    fn judge(&self, before: &Self, took: Duration) {
        let (statuses, events) = (self.statuses - before.statuses, self.events - before.events);
        let most = WRITES_AT_ONCE + WRITES_PER_SECOND * took.as_secs_f64();
        eprintln!(
            "{statuses} writes of a status and {events} of Events in {:.0} s; at most {most:.0}",
            took.as_secs_f64()
        );
        // Two lists and the metrics are not read at one instant.
        assert!(statuses <= most * 1.1, "{statuses} writes where {most} are allowed");
        assert!(
            statuses >= most / 4.0,
            "{statuses} writes: the operator is not kept busy, and nothing is shown"
        );
    }
}

fn operators(cluster: &Cluster) -> Result<Vec<AgentPod<'_>>> {
    let pods = cluster.kubectl().get(kube_tcpstates_e2e_tests::operator::PODS)?;
    let names = pods["items"].as_array().into_iter().flatten();
    names
        .map(|pod| AgentPod::named(cluster, pod["metadata"]["name"].as_str().context("a pod has a name")?))
        .collect()
}

fn judge_log(agents: &Agents<'_>) -> Result<()> {
    let mut kinds = std::collections::BTreeMap::<String, usize>::new();
    for line in agents.new_lines("{")? {
        *kinds.entry(line.text("tcpstates.type").unwrap_or_default().to_owned()).or_default() += 1;
    }
    eprintln!("lines of the agents: {kinds:?}");
    let own: usize = kinds.iter().filter(|(kind, _)| *kind != "transition").map(|(_, count)| count).sum();
    assert!(own <= LINES_OF_THEIR_OWN, "{own} lines that are no transitions: {kinds:?}");
    Ok(())
}

fn judge_memory(cluster: &Cluster) -> Result<()> {
    for (node, restarts) in [(NODE_A, None), (NODE_B, Some("Error"))] {
        let agent = AgentPod::of_node(cluster, node)?;
        let peak = agent.memory_peak()?;
        eprintln!("{}: the agent's memory was {} MiB at most", node.name, peak >> 20);
        assert!(peak < AGENT_LIMIT * 9 / 10, "{}: {peak} bytes", node.name);
        let ended = &agent.object["status"]["containerStatuses"][0]["lastState"]["terminated"]["reason"];
        assert!(ended.as_str().is_none_or(|reason| Some(reason) == restarts), "{}: {ended}", node.name);
    }
    for operator in operators(cluster)? {
        let peak = operator.memory_peak()?;
        eprintln!("{}: its memory was {} MiB at most", operator.name(), peak >> 20);
        assert!(peak < OPERATOR_LIMIT / 2, "{}: {peak} bytes", operator.name());
        assert_eq!(operator.restarts(), 0, "{}", operator.name());
    }
    Ok(())
}
