//! An agent that ends during traffic, as it should and by SIGKILL: what is missing is what happened meanwhile, and nothing
//! is where agents pin.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kube_tcpstates_e2e_tests::agent::{Agents, NAMESPACE};
use kube_tcpstates_e2e_tests::agent_pod::AgentPod;
use kube_tcpstates_e2e_tests::cluster::node::Identity;
use kube_tcpstates_e2e_tests::cluster::{Cluster, NODE_A, NODE_B, place};
use kube_tcpstates_e2e_tests::compare::by_place;
use kube_tcpstates_e2e_tests::line::Line;
use kube_tcpstates_e2e_tests::scene::{Scene, arguments};
use kube_tcpstates_e2e_tests::undo::Undo;
use kube_tcpstates_e2e_tests::wait;
use kube_tcpstates_e2e_workload::expect::{Place, connections, transitions};
use kube_tcpstates_e2e_workload::log::{Connection, Entry};
use rustix::process::Signal;
use serde_json::{Value, json};

pub(crate) const TESTS: crate::Tests = &[
    ("only_what_happens_while_an_agent_is_away_is_missing", agents_restarted),
    ("nothing_is_missing_that_happens_while_an_agent_that_pins_is_away", pinning_agents_restarted),
];

const ENDINGS: [&str; 4] = ["client-close", "server-close", "client-reset", "server-reset"];
const TRACE: &str = "restart/clients";
/// By each of the two clients, some 100 a second: until the agents have been back for a while.
const CONNECTIONS: u64 = 1800;
const CLIENTS: [(&str, Identity); 2] = [("client-a", NODE_A), ("client-b", NODE_B)];
/// A client logs the end of a connection before its socket has seen the last segment.
const SETTLE_US: u64 = 20_000;

fn agents_restarted(cluster: &Cluster) -> Result<()> {
    for Restarted { how, verdict, lines } in restart(cluster)? {
        eprintln!("{how}: {verdict:?}");
        require_no_loss(&lines)?;
        assert!(verdict.wrong.is_empty(), "{verdict:?}");
        assert!(verdict.cut > 0, "no connection was made while the agent was away");
        assert!(verdict.after > 50, "{} connections after the agent was back", verdict.after);
        assert!(verdict.away_ms < 30_000, "the agent was away for {} ms", verdict.away_ms);
    }
    Ok(())
}

/// The overlay `pinned`, on two nodes of which each has a BPF file system of its own. When it is taken away again, nothing
/// stays attached.
fn pinning_agents_restarted(cluster: &Cluster) -> Result<()> {
    let kubectl = cluster.kubectl();
    let _pinned = Pinned::new(cluster)?;
    for Restarted { how, verdict, lines } in restart(cluster)? {
        let continues =
            lines.iter().find(|line| line.is("start")).and_then(|line| line.get("tcpstates.continues"));
        let said = || -> Vec<_> {
            lines.iter().filter(|line| line.is("log")).map(|line| line.0.to_string()).collect()
        };
        assert!(continues.is_some(), "{how}: the run says nothing of the one before: {:#?}", said());
        let told = lines.iter().rfind(|line| line.is("lost"));
        let lost = told.and_then(|line| line.number("tcpstates.lost.total")).unwrap_or(0);
        let places = told.and_then(|line| line.get("tcpstates.lost.by_place"));
        let first = lines.iter().find(|line| line.is("lost"));
        let by_trace = first.and_then(|line| line.get("tcpstates.lost.by_trace")).and_then(Value::as_object);
        let named: Vec<_> = by_trace.into_iter().flat_map(|by_trace| by_trace.keys()).collect();
        eprintln!("{how}: {verdict:?}, {lost} counted as lost: {places:?}");
        assert!(verdict.cut > 0, "no connection was made while the agent was away");
        assert!(named.iter().all(|name| *name == TRACE), "{how}: losses of {named:?}");
        assert!(verdict.missing as u64 <= lost, "{} are missing and {lost} counted", verdict.missing);
        assert!(how == "killed" || verdict.missing == 0, "{} are missing", verdict.missing);
        assert!(verdict.wrong.len() <= verdict.missing, "{verdict:?}");
    }

    kubectl.run(&DELETE)?;
    await_nothing_attached(cluster)
}

pub(crate) const PATCH: [&str; 6] =
    ["patch", "daemonset", "kube-tcpstates-agent", "--namespace", NAMESPACE, "--type=json"];
pub(crate) const DELETE: [&str; 5] =
    ["delete", "daemonset", "kube-tcpstates-agent", "--namespace", NAMESPACE];
pub(crate) const ROLL_OUT: [&str; 6] =
    ["rollout", "status", "daemonset/kube-tcpstates-agent", "--namespace", NAMESPACE, "--timeout=180s"];

/// Agents with the overlay `pinned`. Dropped, they are gone: whoever needs agents next installs them anew.
pub(crate) struct Pinned<'a> {
    _agents: Undo<'a>,
    _rights: Undo<'a>,
}

impl<'a> Pinned<'a> {
    pub(crate) fn new(cluster: &'a Cluster) -> Result<Self> {
        Agents::install(cluster)?;
        let kubectl = cluster.kubectl();
        let directory = place::given("KUBE_TCPSTATES_MANIFESTS")?.join("overlays/pinned");
        let rights = directory.join("rights.yaml").display().to_string();
        kubectl.run(&["apply", "--filename", &rights])?;
        let rights = Undo::new(kubectl, &["delete", "--filename", &rights]);
        let kustomization = std::fs::read_to_string(directory.join("kustomization.yaml"))?;
        let (_, patch) = kustomization.split_once("patch: |-\n").context("no patch")?;
        let agents = Undo::new(kubectl, &[&DELETE[..], &["--ignore-not-found"]].concat());
        kubectl.run(&[&PATCH[..], &[&("--patch=".to_owned() + patch)]].concat())?;
        kubectl.run(&ROLL_OUT)?;
        Ok(Self { _agents: agents, _rights: rights })
    }
}

/// Waits until no program is pinned on any node.
pub(crate) fn await_nothing_attached(cluster: &Cluster) -> Result<()> {
    wait::until("nothing is attached any more", Duration::from_mins(1), || {
        let mut left = Vec::new();
        for node in cluster.nodes() {
            let found = node.command("find").args(["/sys/fs/bpf", "-name", "link_*"]).output()?;
            left.extend(String::from_utf8_lossy(&found.stdout).lines().map(str::to_owned));
        }
        Ok(if left.is_empty() { Ok(()) } else { Err(left.join(" ")) })
    })
}

/// What came of one agent's restart.
struct Restarted {
    how: &'static str,
    verdict: Verdict,
    /// Of the new run.
    lines: Vec<Line>,
}

/// Ends an agent during traffic, and kills another.
fn restart(cluster: &Cluster) -> Result<Vec<Restarted>> {
    let agents = Agents::install(cluster)?;
    for node in [NODE_A, NODE_B] {
        renew_restarted(cluster, node)?;
    }
    let scene = Scene::new(cluster, "restart")?;
    let no_limit = json!({"linesPerSecondPerNode": 100_000, "burst": 200_000});
    agents.trace(
        "restart",
        "clients",
        &json!({"podSelector": {"matchLabels": {"app": "client"}}, "rateLimit": no_limit}),
    )?;
    let servers = scene.servers(&json!({"app": "server"}), &[8080])?;
    for (name, node) in CLIENTS {
        let pace = ["--sleep-before-ms=2000", "--pace-ms=8"].map(str::to_owned);
        let client = [&pace, &arguments(&servers, &ENDINGS, CONNECTIONS)?[..]].concat();
        scene.client(name, &json!({"app": "client"}), node, &client)?;
    }
    agents.await_pods(TRACE, &CLIENTS.map(|(name, _)| name), 100)?;

    let old = [AgentPod::of_node(cluster, NODE_A)?, AgentPod::of_node(cluster, NODE_B)?];
    let old_logs = [old[0].log()?, old[1].log()?];
    // The processes and not a pod: the kubelet of 1.20 sometimes needs a minute to see a deleted pod through.
    for (pod, signal) in old.iter().zip([Signal::TERM, Signal::KILL]) {
        pod.signal(signal)?;
    }
    let new = [await_successor(cluster, NODE_A, &old[0])?, await_successor(cluster, NODE_B, &old[1])?];

    let mut logs = Vec::new();
    for (name, _) in CLIENTS {
        logs.push(scene.finished(name)?);
    }
    // The last lines are on their way.
    std::thread::sleep(Duration::from_secs(2));
    let mut restarted = Vec::new();
    for (((old_log, new), log), how) in old_logs.into_iter().zip(new).zip(&logs).zip(["ended", "killed"]) {
        let (before, after) = (old_log.lines()?, new.log()?.lines()?);
        let is_final = before.iter().any(|line| line.get("tcpstates.final").is_some_and(|last| last == true));
        assert_eq!(is_final, how == "ended", "a run that ends by SIGTERM says so, and no other does");
        for run in [&before, &after] {
            check_run(run)?;
        }
        require_no_loss(&before)?;
        let verdict = compare(&before, &after, log)?;
        restarted.push(Restarted { how, verdict, lines: after });
    }
    Ok(restarted)
}

/// The kubelet lets a container that ends wait, longer each time, but for the first time: what other tests have done
/// must not keep the agents away that are ended here.
fn renew_restarted(cluster: &Cluster, node: Identity) -> Result<()> {
    let pod = AgentPod::of_node(cluster, node)?;
    if pod.restarts() > 0 {
        cluster.kubectl().run(&["delete", "pod", pod.name(), "--namespace", NAMESPACE])?;
        await_successor(cluster, node, &pod)?;
    }
    Ok(())
}

/// The pod that stands in a pod's place, or the same pod with a new process, once it is Ready.
pub(crate) fn await_successor<'a>(
    cluster: &'a Cluster,
    node: Identity,
    old: &AgentPod<'_>,
) -> Result<AgentPod<'a>> {
    wait::until("the agent is back", Duration::from_mins(1), || {
        let Ok(pod) = AgentPod::of_node(cluster, node) else { return Ok(Err("there is no pod".to_owned())) };
        let is_new = pod.name() != old.name() || pod.restarts() > old.restarts();
        Ok(if is_new && pod.is_ready() { Ok(pod) } else { Err(pod.object["status"].to_string()) })
    })
}

/// A run's numbered lines are there without a gap, and the first is `start`.
fn check_run(lines: &[Line]) -> Result<()> {
    let numbered: Vec<_> = lines.iter().filter(|line| line.get("tcpstates.seq").is_some()).collect();
    ensure!(numbered.first().is_some_and(|line| line.is("start")), "the first line of a run is `start`");
    for (line, seq) in numbered.iter().zip(1..) {
        ensure!(line.number("tcpstates.seq") == Some(seq), "{seq} is missing before {}", line.0);
    }
    Ok(())
}

/// None of a run's lines tells of a loss of the trace.
fn require_no_loss(lines: &[Line]) -> Result<()> {
    let lost = lines.iter().find(|line| line.get(&format!("tcpstates.lost.by_trace.{TRACE}")).is_some());
    ensure!(lost.is_none(), "transitions of the trace were lost: {lost:?}");
    Ok(())
}

#[derive(Debug, Default)]
struct Verdict {
    /// From the old run's last transition to the `start` line.
    away_ms: u64,
    /// Connections that were over before that, and all of whose transitions are there.
    before: usize,
    /// Connections that began after that, likewise.
    after: usize,
    /// Connections that were open at some time of it.
    cut: usize,
    /// Transitions of those that no line shows.
    missing: usize,
    wrong: Vec<String>,
}

fn compare(before: &[Line], after: &[Line], log: &[Entry]) -> Result<Verdict> {
    let of_trace = |lines: &[Line]| -> Vec<Line> {
        lines.iter().filter(|line| line.is("transition") && line.is_of(TRACE)).cloned().collect()
    };
    let start =
        after.iter().find(|line| line.is("start")).and_then(Line::time_us).context("no start line")?;
    let (before, after) = (of_trace(before), of_trace(after));
    let last = before.iter().filter_map(Line::time_us).max().context("no line before")?;
    let mut verdict = Verdict { away_ms: start.saturating_sub(last) / 1000, ..Verdict::default() };

    let mut foreign = Vec::new();
    let mut shown = [shown(&before, &mut foreign), shown(&after, &mut foreign)];
    let mut of_place: BTreeMap<Place, Vec<&Connection>> = BTreeMap::new();
    for connection in connections(log) {
        of_place.entry((connection.local, connection.peer)).or_default().push(connection);
    }
    for (place, steps) in transitions(log) {
        let [first, second] = shown.each_mut().map(|shown| shown.remove(&place).unwrap_or_default());
        let connections = of_place.remove(&place).unwrap_or_default();
        let is_cut = connections
            .iter()
            .any(|connection| connection.opened_us <= start && connection.closed_us + SETTLE_US >= last);
        if is_cut {
            verdict.cut += 1;
            verdict.missing += steps.len().saturating_sub(first.len() + second.len());
            // What comes before the agent's end and after its return, nothing twice and nothing in between.
            if !(steps.starts_with(&first)
                && steps.ends_with(&second)
                && first.len() + second.len() <= steps.len())
            {
                verdict.wrong.push(format!("{place:?}: {first:?}, then {second:?}"));
            }
            continue;
        }
        let is_before = connections.iter().all(|connection| connection.closed_us < last);
        *(if is_before { &mut verdict.before } else { &mut verdict.after }) += 1;
        if [first.clone(), second.clone()].concat() != steps {
            verdict.wrong.push(format!(
                "{place:?}, {connections:?}, away {last}..{start}: {first:?}, then {second:?}"
            ));
        }
    }
    verdict.wrong.extend(shown.iter().flat_map(BTreeMap::keys).map(|place| format!("{place:?}: not logged")));
    // Of a connection whose first transition was the last one seen, the port is never learned.
    let unseen = foreign.into_iter().filter(|line| !line.contains("\"SYN_SENT\"")).collect::<Vec<_>>();
    verdict.wrong.extend(unseen);
    Ok(verdict)
}

fn shown<'a>(lines: &'a [Line], foreign: &mut Vec<String>) -> BTreeMap<Place, Vec<(&'a str, &'a str)>> {
    let lines: Vec<_> = lines.iter().collect();
    let places = by_place(&lines, foreign).into_iter();
    places.map(|(place, lines)| (place, lines.iter().filter_map(|line| line.step()).collect())).collect()
}
