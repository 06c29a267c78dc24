//! A tenant reads the lines of its own traces, with kubectl alone, and nobody else's.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::process::Child;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use kube_tcpstates_e2e_tests::agent::{Agents, NAMESPACE};
use kube_tcpstates_e2e_tests::agent_pod::AgentPod;
use kube_tcpstates_e2e_tests::cluster::pki::{FRONT_PROXY, Use};
use kube_tcpstates_e2e_tests::cluster::{Cluster, NODE_A, NODE_B, is_true};
use kube_tcpstates_e2e_tests::front_proxy;
use kube_tcpstates_e2e_tests::kubectl::Kubectl;
use kube_tcpstates_e2e_tests::line::Line;
use kube_tcpstates_e2e_tests::scene::{Scene, arguments};
use kube_tcpstates_e2e_tests::undo::Undo;
use kube_tcpstates_e2e_tests::wait;
use rustix::process::Signal;
use serde_json::{Value, json};

pub(crate) const TESTS: crate::Tests = &[
    ("a_tenant_reads_the_lines_of_its_own_trace_and_of_no_other", own_lines),
    ("who_follows_the_lines_of_a_trace_is_told_what_is_missing_while_an_agent_restarts", followed),
    ("the_lines_api_answers_the_api_server_alone", api_server_alone),
];

const API: &str = "/apis/lines.tcpstates.dev/v1alpha1";
const API_SERVICE: &str = "/apis/apiregistration.k8s.io/v1/apiservices/v1alpha1.lines.tcpstates.dev";
const PATIENCE: Duration = Duration::from_mins(1);
/// By each client.
const CONNECTIONS: u64 = 40;

/// The agents are there, and kube-apiserver reaches the operators.
pub(crate) fn install(cluster: &Cluster) -> Result<Agents<'_>> {
    let agents = Agents::install(cluster)?;
    wait::until("the lines API is available", PATIENCE, || {
        let service = cluster.kubectl().get(API_SERVICE)?;
        Ok(if is_true(&service, "Available") { Ok(()) } else { Err(service["status"].to_string()) })
    })?;
    Ok(agents)
}

/// kubectl of somebody with `edit` in one namespace and no other right.
pub(crate) fn tenant(cluster: &Cluster, scene: &Scene<'_>) -> Result<Kubectl> {
    let name = format!("tenant-of-{}", scene.namespace());
    let kubeconfig = cluster.pki().user(&name, &format!("/CN={name}"))?;
    let binding = format!("--user={name}");
    let namespace = format!("--namespace={}", scene.namespace());
    cluster.kubectl().run(&[
        "create",
        "rolebinding",
        "tenant",
        "--clusterrole=edit",
        &binding,
        &namespace,
    ])?;
    Ok(Kubectl::new(&cluster.nodes()[0].command("kubectl"), &kubeconfig))
}

pub(crate) fn trace(kubectl: &Kubectl, namespace: &str, name: &str) -> Result<()> {
    let trace = json!({
        "apiVersion": "tcpstates.dev/v1alpha1", "kind": "TcpStateTrace",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"podSelector": {"matchLabels": {"app": "client"}}, "podLabels": ["app"]},
    });
    kubectl.apply(&trace.to_string()).map(drop)
}

pub(crate) fn path(namespace: &str, trace: &str, behind: &str) -> String {
    format!("{API}/namespaces/{namespace}/tcpstatetraces/{trace}/{behind}")
}

/// What kubectl prints, and of it the trace's own lines.
fn read(kubectl: &Kubectl, path: &str) -> Result<(Vec<Line>, Vec<Line>)> {
    let all = Line::parse_all(&kubectl.run(&["get", "--raw", path])?)?;
    Ok(all.into_iter().partition(|line| line.text("tcpstates.schema") == Some("tcpstates.dev/events/v1")))
}

/// What a reader of a trace is to get of the agents' lines, by run and number.
fn expected(lines: &[Line], trace: &str) -> BTreeMap<(String, u64), Value> {
    let of_trace = lines.iter().filter(|line| line.is_of(trace));
    of_trace
        .map(|line| {
            let mut reduced = line.0.clone();
            reduced["tcpstates"]["traces"] = json!([trace]);
            for foreign in ["cluster_traces", "traces_omitted"] {
                reduced["tcpstates"].as_object_mut().map(|own| own.remove(foreign));
            }
            (number(line), reduced)
        })
        .collect()
}

fn number(line: &Line) -> (String, u64) {
    (
        line.text("tcpstates.run").unwrap_or_default().to_owned(),
        line.number("tcpstates.seq").unwrap_or_default(),
    )
}

fn own_lines(cluster: &Cluster) -> Result<()> {
    let agents = install(cluster)?;
    let (ours, theirs) = (Scene::new(cluster, "lines-ours")?, Scene::new(cluster, "lines-theirs")?);
    let tenant = tenant(cluster, &ours)?;
    trace(&tenant, "lines-ours", "clients")?;
    trace(&tenant, "lines-ours", "clients-too")?;
    trace(cluster.kubectl(), "lines-theirs", "clients")?;
    let _everything = Undo::new(cluster.kubectl(), &["delete", "clustertcpstatetrace", "lines-all"]);
    let all = json!({
        "apiVersion": "tcpstates.dev/v1alpha1", "kind": "ClusterTcpStateTrace", "metadata": {"name": "lines-all"},
        "spec": {"podSelector": {"matchLabels": {"app": "client"}}, "namespaceSelector": {}},
    });
    cluster.kubectl().apply(&all.to_string())?;
    let server = ours.server("server", &json!({"app": "server"}), NODE_A, &[8080])?;
    for scene in [&ours, &theirs] {
        for (name, node) in [("client-a", NODE_A), ("client-b", NODE_B)] {
            let mut flags = arguments([&server], &["client-close", "refused"], CONNECTIONS)?;
            flags.extend(["--sleep-before-ms=3000", "--pace-ms=50"].map(str::to_owned));
            scene.client(name, &json!({"app": "client"}), node, &flags)?;
        }
    }
    for scene in [&ours, &theirs] {
        for name in ["client-a", "client-b"] {
            scene.finished(name)?;
        }
    }
    // The last lines are on their way.
    thread::sleep(Duration::from_secs(2));

    let written = agents.new_lines("\"lines-ours/clients\"")?;
    let wanted = expected(&written, "lines-ours/clients");
    ensure!(wanted.len() as u64 > 4 * CONNECTIONS, "the agents wrote {} lines", wanted.len());
    let (lines, notices) = read(&tenant, &path("lines-ours", "clients", "lines"))?;
    let got: BTreeMap<_, _> = lines.iter().map(|line| (number(line), line.0.clone())).collect();
    assert_eq!(got.len(), lines.len(), "a line came twice");
    assert_eq!(got, wanted);
    let told: Vec<_> =
        notices.iter().map(|line| (line.text("tcpstates.type"), line.text("tcpstates.reason"))).collect();
    assert_eq!(told, [(Some("end"), Some("complete"))], "{notices:?}");
    in_order(&lines);
    eprintln!("{} lines of the trace, {} of the agents in all", lines.len(), agents.new_lines("{")?.len());

    let (first, _) = read(&tenant, &path("lines-ours", "clients", "log?limit=7"))?;
    assert_eq!(first, lines[..7]);
    let (none, notices) = read(&tenant, &path("lines-ours", "clients", "lines?sinceSeconds=1"))?;
    assert_eq!((none.len(), notices.len()), (0, 1));
    let (all, _) = read(cluster.kubectl(), &format!("{API}/clustertcpstatetraces/lines-all/lines"))?;
    assert!(all.iter().all(|line| line.get("tcpstates.traces").is_none()));
    assert_eq!(all.len(), agents.new_lines("\"lines-all\"")?.len());

    refusals(cluster, &tenant)?;
    of_own_traces(&tenant)
}

/// Between the agents; what one agent wrote stays in its order.
fn in_order(lines: &[Line]) {
    let mut latest: BTreeMap<&str, u64> = BTreeMap::new();
    for line in lines {
        let seq = line.number("tcpstates.seq").unwrap_or_default();
        let before = latest.insert(line.text("tcpstates.run").unwrap_or_default(), seq);
        assert!(before < Some(seq), "behind {before:?}: {}", line.0);
    }
    assert!(latest.len() >= 2, "of one agent alone");
    // Whatever comes later of another agent is younger.
    let mut next: BTreeMap<&str, u64> = BTreeMap::new();
    for line in lines.iter().rev() {
        let (run, time) =
            (line.text("tcpstates.run").unwrap_or_default(), line.time_us().unwrap_or_default());
        let younger = next.iter().all(|(other, next)| *other == run || time <= *next);
        assert!(younger, "before an older one: {}", line.0);
        next.insert(run, time);
    }
    let changes =
        lines.windows(2).filter(|pair| pair[0].text("tcpstates.run") != pair[1].text("tcpstates.run"));
    assert!(changes.count() > 10, "the agents wrote at different times: nothing is shown");
}

fn refusals(cluster: &Cluster, tenant: &Kubectl) -> Result<()> {
    let forbidden = |resource: &str, name: &str, place: &str| {
        format!(
            "Error from server (Forbidden): {resource}.lines.tcpstates.dev \"{name}\" is forbidden: User \
             \"tenant-of-lines-ours\" cannot get resource \"{resource}/lines\" in API group \"lines.tcpstates.dev\" {place}"
        )
    };
    for (path, words) in [
        (
            path("lines-theirs", "clients", "lines"),
            forbidden("tcpstatetraces", "clients", "in the namespace \"lines-theirs\""),
        ),
        (
            format!("{API}/clustertcpstatetraces/lines-all/lines"),
            forbidden("clustertcpstatetraces", "lines-all", "at the cluster scope"),
        ),
        (
            path("lines-ours", "typo", "lines"),
            "Error from server (NotFound): tcpstatetraces.tcpstates.dev \"typo\" not found".to_owned(),
        ),
        (
            path("lines-ours", "clients", "lines?follow=maybe"),
            "Error from server (BadRequest): follow: \"maybe\": it is true or false".to_owned(),
        ),
    ] {
        let error = tenant.run(&["get", "--raw", &path]).err().context("it is answered")?.to_string();
        assert!(error.contains(&words), "{path}: {error}\ninstead of\n{words}");
    }
    let status = ["auth", "can-i", "get", "pods/log", "--namespace", NAMESPACE];
    ensure!(tenant.run(&status).is_err(), "the tenant reads the agents' log");
    ensure!(cluster.kubectl().get(&format!("{API}/"))?["resources"].is_array(), "there is no discovery");
    Ok(())
}

/// What becomes of its traces, by what everybody does to objects.
fn of_own_traces(tenant: &Kubectl) -> Result<()> {
    let here = "--namespace=lines-ours";
    let apply = |name: &str, spec: &Value| {
        let trace = json!({
            "apiVersion": "tcpstates.dev/v1alpha1", "kind": "TcpStateTrace",
            "metadata": {"name": name, "namespace": "lines-ours"}, "spec": spec,
        });
        tenant.apply(&trace.to_string())
    };
    apply("server", &json!({"podSelector": {"matchLabels": {"app": "server"}}}))?;
    tenant.run(&["wait", "--for=condition=Ready", "tst/server", here, "--timeout=60s"])?;

    apply("mistake", &json!({"podSelector": {}, "peerCIDRs": ["10.0.0.1/8"]}))?;
    tenant.run(&["wait", "--for=condition=Accepted=false", "tst/mistake", here, "--timeout=60s"])?;
    let reason = "spec.peerCIDRs[0]: has bits set behind its prefix length; did you mean 10.0.0.0/8?";
    let path = r#"--output=jsonpath={.status.conditions[?(@.type=="Accepted")].message}"#;
    assert_eq!(tenant.run(&["get", "tst", "mistake", here, path])?, reason);
    wait::until("its description has an Event that tells of it", PATIENCE, || {
        let described = tenant.run(&["describe", "tst", "mistake", here])?;
        let told = described.lines().filter(|line| line.contains(reason)).collect::<Vec<_>>();
        let is_event = |line: &&str| line.contains("Warning") && line.contains("InvalidSpec");
        // Its status says the same.
        let is_told = told.iter().any(is_event) && told.len() > 1;
        Ok(if is_told { Ok(()) } else { Err(described) })
    })?;

    let refused = tenant.run(&["get", "tst", "--namespace=lines-theirs"]).err().context("it is answered")?;
    let words = "User \"tenant-of-lines-ours\" cannot list resource \"tcpstatetraces\" in API group \"tcpstates.dev\" \
                 in the namespace \"lines-theirs\"";
    assert!(refused.to_string().contains(words), "{refused}\ninstead of\n{words}");
    Ok(())
}

/// kubectl at work.
struct Follower {
    kubectl: Child,
    lines: mpsc::Receiver<String>,
    seen: Vec<Line>,
}

impl Follower {
    fn start(kubectl: &Kubectl, path: &str) -> Result<Self> {
        let mut kubectl = kubectl.command(&["get", "--raw", path]).spawn().context("start kubectl")?;
        let output = kubectl.stdout.take().context("kubectl's output")?;
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            BufReader::new(output).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Ok(Self { kubectl, lines, seen: Vec::new() })
    }

    /// Waits until what came is as it should be.
    fn until(&mut self, what: &str, holds: impl Fn(&[Line]) -> bool) -> Result<()> {
        let deadline = Instant::now() + 2 * PATIENCE;
        while !holds(&self.seen) {
            let left = deadline.saturating_duration_since(Instant::now());
            let text = self.lines.recv_timeout(left);
            let text = text.with_context(|| format!("{what}: {} lines came", self.seen.len()))?;
            self.seen.extend(Line::parse_all(&text)?);
        }
        Ok(())
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        drop(self.kubectl.kill());
        drop(self.kubectl.wait());
    }
}

fn followed(cluster: &Cluster) -> Result<()> {
    let agents = install(cluster)?;
    let scene = Scene::new(cluster, "lines-followed")?;
    let tenant = tenant(cluster, &scene)?;
    trace(&tenant, "lines-followed", "clients")?;
    let server = scene.server("server", &json!({"app": "server"}), NODE_A, &[8080])?;
    for (name, node) in [("client-a", NODE_A), ("client-b", NODE_B)] {
        let mut flags = arguments([&server], &["client-close"], 3000)?;
        flags.push("--pace-ms=25".to_owned());
        scene.client(name, &json!({"app": "client"}), node, &flags)?;
    }
    let mut follower = Follower::start(&tenant, &path("lines-followed", "clients", "log?follow=true"))?;
    let begin = Instant::now();
    let of_node = |lines: &[Line], node: &str| {
        lines.iter().filter(|line| line.is("transition") && line.text("k8s.node.name") == Some(node)).count()
    };
    follower.until("lines of both nodes", |lines| {
        [NODE_A, NODE_B].iter().all(|node| of_node(lines, node.name) > 100)
    })?;
    let old = AgentPod::of_node(cluster, NODE_B)?;
    old.signal(Signal::KILL)?;
    let old_run = follower.seen.iter().rev().find(|line| line.text("k8s.node.name") == Some(NODE_B.name));
    let old_run = old_run.and_then(|line| line.text("tcpstates.run")).context("a line has a run")?.to_owned();
    let is_new = |line: &Line| {
        line.is("transition")
            && line.text("k8s.node.name") == Some(NODE_B.name)
            && line.text("tcpstates.run") != Some(&old_run)
    };
    follower.until("lines of the agent that was started again", |lines| {
        lines.iter().filter(|line| is_new(line)).count() > 100
    })?;
    // Longer than kube-apiserver lets a request be that is not called so.
    follower.until("lines after a minute", |_| begin.elapsed() > Duration::from_secs(70))?;

    let missing: Vec<_> = follower.seen.iter().filter(|line| line.is("missing")).collect();
    let told: Vec<_> =
        missing.iter().map(|line| (line.text("tcpstates.reason"), line.text("tcpstates.run"))).collect();
    assert_eq!(told, [(Some("unfinished"), Some(&*old_run))], "{missing:?}");
    let lines: Vec<_> = follower.seen.iter().filter(|line| line.is("transition")).collect();
    let got: BTreeSet<_> = lines.iter().map(|line| number(line)).collect();
    assert_eq!(got.len(), lines.len(), "a line came twice");
    // Of what the agents have written, all has come up to the latest that came of each run.
    let mut latest: BTreeMap<&str, u64> = BTreeMap::new();
    for line in &lines {
        let seq = line.number("tcpstates.seq").unwrap_or_default();
        latest
            .entry(line.text("tcpstates.run").unwrap_or_default())
            .and_modify(|it| *it = seq.max(*it))
            .or_insert(seq);
    }
    let written = agents.new_lines("\"lines-followed/clients\"")?;
    let due = expected(&written, "lines-followed/clients").into_keys();
    let due: BTreeSet<_> =
        due.filter(|(run, seq)| latest.get(run.as_str()).is_some_and(|it| seq <= it)).collect();
    assert_eq!(got, due);
    eprintln!("{} lines over a restart and {:?}", got.len(), begin.elapsed());

    tenant.run(&["delete", "tcpstatetrace", "clients", "--namespace=lines-followed"])?;
    follower.until("its end", |lines| lines.last().is_some_and(|line| line.is("end")))?;
    assert_eq!(follower.seen.last().and_then(|line| line.text("tcpstates.reason")), Some("deleted"));
    Ok(())
}

fn api_server_alone(cluster: &Cluster) -> Result<()> {
    install(cluster)?;
    let pods =
        format!("/api/v1/namespaces/{NAMESPACE}/pods?labelSelector=app.kubernetes.io/component=operator");
    let pods = cluster.kubectl().get(&pods)?;
    let address = pods["items"][0]["status"]["podIP"].as_str().context("an operator has an address")?;
    let pki = cluster.pki();
    pki.user("stranger", "/CN=front-proxy-client")?;
    pki.issue_by(FRONT_PROXY, "another-proxy", "/CN=another-proxy", Use::Client)?;
    let path = path("default", "any", "lines");
    let ask = |who| front_proxy::ask(cluster, address, &path, who);
    let head = |answer: &str| answer.lines().next().unwrap_or_default().to_owned();
    assert_eq!(head(&ask(None)?), "HTTP/1.1 401 Unauthorized");
    assert_eq!(head(&ask(Some("another-proxy"))?), "HTTP/1.1 403 Forbidden");
    // Of another authority, by the right name: the connection is refused.
    assert_eq!(ask(Some("stranger"))?, "");
    // Who has the certificate is believed: there is no such trace.
    assert_eq!(head(&ask(Some(front_proxy::API_SERVER))?), "HTTP/1.1 404 Not Found");
    Ok(())
}
