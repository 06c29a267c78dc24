//! kubectl-tcpstates as people run it: on a cluster, as administrators and as users who may not.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use kube_tcpstates_e2e_tests::agent::Agents;
use kube_tcpstates_e2e_tests::agent_pod::AgentPod;
use kube_tcpstates_e2e_tests::cluster::{Cluster, NODE_A, NODE_B};
use kube_tcpstates_e2e_tests::kubectl::Kubectl;
use kube_tcpstates_e2e_tests::scene::{Scene, arguments, pod, pod_spec, workload};
use kube_tcpstates_e2e_tests::wait;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

pub(crate) const TESTS: crate::Tests = &[
    ("the_plugin_shows_the_failures_of_a_deployment_and_leaves_nothing_behind", failures),
    ("the_plugin_shows_who_talks_to_whom_now", talking),
    ("the_plugin_removes_its_trace_when_it_is_interrupted", interrupted),
    ("the_plugin_goes_on_and_says_so_when_an_agent_is_killed", agent_killed),
    ("the_plugin_lists_a_leak_that_is_older_than_its_trace", leak),
    ("the_plugin_explains_a_trace_and_the_fleet", explained),
    ("the_plugin_says_in_one_sentence_what_one_may_not_do", without_rights),
];

const PATIENCE: Duration = Duration::from_mins(1);
const LEAKED: usize = 20;

/// How the plugin ended, and what it said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) errors: String,
}

pub(crate) fn said(kubectl: &Kubectl, arguments: &[&str]) -> Result<Said> {
    let output = kubectl.plugin(arguments)?.output().context("start the plugin")?;
    let said = Said {
        code: output.status.code(),
        out: String::from_utf8(output.stdout)?,
        errors: String::from_utf8(output.stderr)?,
    };
    eprintln!("$ kubectl tcpstates {}\n{}{}", arguments.join(" "), said.out, said.errors);
    Ok(said)
}

/// A Deployment of clients on both nodes, each of which is refused for as long as it runs.
fn clients(scene: &Scene<'_>, kubectl: &Kubectl) -> Result<()> {
    let server = scene.server("server", &json!({"app": "server"}), NODE_A, &[8080])?;
    let mut flags = vec!["client".to_owned(), "--pace-ms=200".to_owned()];
    flags.extend(arguments([&server], &["refused", "client-close"], 100_000)?);
    let labels = json!({"app": "checkout"});
    scene.create(workload("Deployment", "checkout", &labels, 2, pod_spec(None, &flags)))?;
    let names = scene.await_pods("app=checkout", 2)?;
    for name in &names {
        scene.await_ready(name)?;
    }
    require_no_traces(kubectl, scene.namespace())
}

/// Where it is installed, it is what the plugin takes.
fn has_lines_api(kubectl: &Kubectl) -> bool {
    kubectl.get("/apis/lines.tcpstates.dev/v1alpha1").is_ok()
}

fn require_no_traces(kubectl: &Kubectl, namespace: &str) -> Result<()> {
    let traces =
        kubectl.get(&format!("/apis/tcpstates.dev/v1alpha1/namespaces/{namespace}/tcpstatetraces"))?;
    ensure!(traces["items"].as_array().is_some_and(Vec::is_empty), "traces are left: {traces}");
    Ok(())
}

fn failures(cluster: &Cluster) -> Result<()> {
    let _agents = Agents::install(cluster)?;
    let scene = Scene::new(cluster, "plugin")?;
    let kubectl = cluster.kubectl();
    clients(&scene, kubectl)?;
    let here = "--namespace=plugin";
    let table = said(kubectl, &["trace", "deploy/checkout", "--failures", "--for=5s", here])?;
    assert_eq!(table.code, Some(0), "{table:?}");
    assert!(table.out.starts_with("TIME         POD "), "{table:?}");
    let place = if has_lines_api(kubectl) { "the lines API" } else { "the agents' logs" };
    assert!(table.errors.contains(&format!("lines come from {place}")), "{table:?}");
    assert!(table.errors.contains("attached on ") && table.errors.contains(" is removed"), "{table:?}");
    let names = scene.await_pods("app=checkout", 2)?;
    for name in &names {
        let of_pod = table.out.lines().filter(|line| line.contains(name.as_str()));
        assert!(of_pod.count() >= 5, "{name}: {table:?}");
    }
    for line in table.out.lines().skip(1) {
        assert!(line.contains(" client ") && line.contains(" refused "), "{line}");
    }
    require_no_traces(kubectl, "plugin")?;

    let one = &names[0];
    let target = format!("pod/{one}");
    let documents = said(kubectl, &["trace", &target, "--mode=transitions", "--for=3s", "-ojson", here])?;
    assert_eq!(documents.code, Some(0), "{documents:?}");
    let lines: Vec<Value> = documents.out.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    assert!(lines.len() > 5, "{documents:?}");
    for line in &lines {
        assert_eq!(line["k8s"]["pod"]["name"], one.as_str(), "{line}");
        assert_eq!(line["k8s"]["deployment"]["name"], "checkout", "{line}");
    }
    require_no_traces(kubectl, "plugin")
}

/// Two clients: half of what they begin is refused, the other half a server of theirs takes.
fn talking(cluster: &Cluster) -> Result<()> {
    let _agents = Agents::install(cluster)?;
    let scene = Scene::new(cluster, "talking")?;
    let kubectl = cluster.kubectl();
    clients(&scene, kubectl)?;
    let here = "--namespace=talking";
    let now = said(kubectl, &["top", "--once", "--sort=failed", here])?;
    assert_eq!(now.code, Some(0), "{now:?}");
    assert!(now.out.starts_with("2 nodes: ") && now.out.contains("; 0 transitions lost"), "{now:?}");
    let rows: Vec<Vec<&str>> =
        now.out.lines().skip(2).map(|line| line.split_whitespace().collect()).collect();
    let names = scene.await_pods("app=checkout", 2)?;
    let rate = |row: &[&str], column: usize| row[column].parse::<f64>().expect("a rate");
    for (place, name) in names.iter().enumerate() {
        let of_pod =
            || rows.iter().filter(|row| name.ends_with(row[0].trim_start_matches('…')) && row[1] == "client");
        let refused = of_pod().find(|row| row[3] == "9").with_context(|| format!("{name}: {now:?}"))?;
        let served = of_pod().find(|row| row[3] == "8080").with_context(|| format!("{name}: {now:?}"))?;
        assert!(rate(refused, 8) > 1.0 && refused[7] == refused[8], "{refused:?}");
        assert!(rate(served, 7) > 1.0 && served[8] == "0.0", "{served:?}");
        assert_eq!(rows[place][3], "9", "what fails most is first: {now:?}");
    }
    let at_server: f64 = rows.iter().filter(|row| row[1] == "server").map(|row| rate(row, 7)).sum();
    assert!(at_server > 2.0, "{now:?}");
    require_no_traces(kubectl, "talking")?;

    let again = said(kubectl, &["top", "deploy/checkout", "--once", "--rows=1", here])?;
    assert!(again.out.ends_with("--sort others first\n") && again.out.lines().count() == 4, "{again:?}");
    assert!(!again.out.contains(" server "), "{again:?}");
    Ok(())
}

/// The plugin at work.
struct Running(Child);

impl Running {
    fn start(kubectl: &Kubectl, arguments: &[&str]) -> Result<Self> {
        Ok(Self(kubectl.plugin(arguments)?.spawn().context("start the plugin")?))
    }

    fn interrupt(&self) -> Result<()> {
        let pid = Pid::from_raw(self.0.id().try_into()?).context("the plugin's id")?;
        kill_process(pid, Signal::INT).context("interrupt the plugin")
    }

    /// Its status and what it has said on stderr.
    fn ended(&mut self) -> Result<(Option<i32>, String)> {
        let child = &mut self.0;
        let status = wait::until("the plugin has ended", PATIENCE, || {
            Ok(child.try_wait().context("wait for the plugin")?.ok_or_else(String::new))
        })?;
        let mut errors = String::new();
        child.stderr.take().context("the plugin's stderr")?.read_to_string(&mut errors)?;
        Ok((status.code(), errors))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn interrupted(cluster: &Cluster) -> Result<()> {
    let _agents = Agents::install(cluster)?;
    let scene = Scene::new(cluster, "interrupted")?;
    let kubectl = cluster.kubectl();
    clients(&scene, kubectl)?;
    let mut running = Running::start(kubectl, &["trace", "-l", "app=checkout", "-n", "interrupted"])?;
    let path = "/apis/tcpstates.dev/v1alpha1/namespaces/interrupted/tcpstatetraces";
    let traces = wait::until("the trace is there", PATIENCE, || {
        let traces = kubectl.get(path)?["items"].take();
        Ok(if traces.as_array().is_some_and(|it| it.len() == 1) {
            Ok(traces)
        } else {
            Err(traces.to_string())
        })
    })?;
    assert_eq!(traces[0]["spec"]["ttl"], "15m15s", "{traces}");
    std::thread::sleep(Duration::from_secs(1));
    let start = Instant::now();
    running.interrupt()?;
    let (code, errors) = running.ended()?;
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(code, Some(0), "{errors}");
    assert!(errors.contains(" is removed"), "{errors}");
    require_no_traces(kubectl, "interrupted")?;

    let mut running = Running::start(kubectl, &["trace", "deploy/checkout", "-n", "interrupted"])?;
    let output = running.0.stdout.take().context("the plugin's stdout")?;
    let mut head = String::new();
    BufReader::new(output).read_line(&mut head).context("read the plugin's head")?;
    assert!(head.starts_with("TIME "), "{head}");
    // Nobody reads any more.
    let (code, errors) = running.ended()?;
    assert_eq!(code, Some(0), "{errors}");
    require_no_traces(kubectl, "interrupted")
}

/// The kubelet starts it again at once.
fn agent_killed(cluster: &Cluster) -> Result<()> {
    let _agents = Agents::install(cluster)?;
    let scene = Scene::new(cluster, "killed")?;
    let kubectl = cluster.kubectl();
    let server = scene.server("server", &json!({"app": "server"}), NODE_A, &[8080])?;
    let mut flags = vec!["--pace-ms=100".to_owned()];
    flags.extend(arguments([&server], &["refused"], 100_000)?);
    scene.client("client", &json!({"app": "client"}), NODE_B, &flags)?;
    scene.await_ready("client")?;
    let mut running =
        Running::start(kubectl, &["trace", "pod/client", "--for=40s", "-o", "json", "-nkilled"])?;
    let output = running.0.stdout.take().context("the plugin's stdout")?;
    let mut lines = BufReader::new(output).lines();
    let mut next = || -> Result<Value> {
        let line = lines.next().context("the plugin has ended")?.context("read from the plugin")?;
        serde_json::from_str(&line).context("a line of the plugin")
    };
    let run = next()?["tcpstates"]["run"].take();
    AgentPod::of_node(cluster, NODE_B)?.signal(Signal::KILL)?;
    while next()?["tcpstates"]["run"] == run {}
    running.interrupt()?;
    let (code, errors) = running.ended()?;
    assert_eq!(code, Some(0), "{errors}");
    assert!(errors.contains("node-b: its agent ended without a last word"), "{errors}");
    require_no_traces(kubectl, "killed")
}

fn leak(cluster: &Cluster) -> Result<()> {
    let _agents = Agents::install(cluster)?;
    let scene = Scene::new(cluster, "leaking")?;
    let kubectl = cluster.kubectl();
    let flags = ["leak".to_owned(), format!("--count={LEAKED}")];
    scene.create(pod("leaker", &json!({"app": "leaker"}), &pod_spec(Some(NODE_B), &flags)))?;
    scene.finished("leaker")?;
    let listed = said(kubectl, &["list", "pod/leaker", "--state=CLOSE_WAIT", "-nleaking"])?;
    assert_eq!(listed.code, Some(0), "{listed:?}");
    let leaked =
        listed.out.lines().filter(|line| line.starts_with("CLOSE_WAIT ") && line.ends_with(" leaker"));
    assert_eq!(leaked.count(), LEAKED, "{listed:?}");
    assert!(listed.errors.contains("node-b: 20 connections, 0 listeners"), "{listed:?}");
    let everything = said(kubectl, &["list", "-n", "leaking", "-o", "wide"])?;
    assert!(
        everything.out.contains("\nLISTEN ") && everything.out.contains("leaking/leaker"),
        "{everything:?}"
    );
    require_no_traces(kubectl, "leaking")
}

fn explained(cluster: &Cluster) -> Result<()> {
    let agents = Agents::install(cluster)?;
    let scene = Scene::new(cluster, "explained")?;
    let kubectl = cluster.kubectl();
    agents.trace("explained", "nobody", &json!({"podSelector": {"matchLabels": {"app": "nobody"}}}))?;
    let explained = said(kubectl, &["explain", "nobody", "-n", "explained"])?;
    assert_eq!(explained.code, Some(0), "{explained:?}");
    assert!(
        explained.out.contains("pods with app=nobody") && explained.out.contains("there is none"),
        "{explained:?}"
    );
    let status = said(kubectl, &["status"])?;
    assert_eq!(status.code, Some(0), "{status:?}");
    for node in ["node-a", "node-b"] {
        assert!(status.out.lines().any(|line| line.starts_with(node)), "{status:?}");
    }
    agents.untrace("explained", "nobody")?;

    clients(&scene, kubectl)?;
    agents.trace("explained", "all", &json!({"podSelector": {}, "mode": "Connections"}))?;
    wait::until("connections of the trace have ended", PATIENCE, || {
        let count = agents.new_lines("explained/all")?.iter().filter(|line| line.is("connection")).count();
        Ok(if count > 10 { Ok(()) } else { Err(format!("{count} have")) })
    })?;
    let lines = said(kubectl, &["lines", "all", "-n", "explained"])?;
    assert!(lines.out.lines().count() > 10 && lines.out.contains(" refused "), "{lines:?}");
    let report = said(kubectl, &["report", "all", "-n", "explained"])?;
    assert!(report.out.starts_with("<!DOCTYPE html>") && report.out.contains("refused"), "{}", report.errors);
    agents.untrace("explained", "all")
}

fn without_rights(cluster: &Cluster) -> Result<()> {
    let _agents = Agents::install(cluster)?;
    let scene = Scene::new(cluster, "tenant")?;
    let kubectl = cluster.kubectl();
    scene.create(pod(
        "a",
        &json!({"app": "a"}),
        &pod_spec(Some(NODE_A), &["leak".to_owned(), "--count=1".to_owned()]),
    ))?;
    scene.finished("a")?;
    kubectl.run(&[
        "create",
        "rolebinding",
        "editor",
        "--clusterrole=edit",
        "--user=editor",
        "--namespace=tenant",
    ])?;
    let here = "--namespace=tenant";
    for (arguments, part) in [
        (&["trace", "pod/a", here, "--as=nobody"][..], "you may not look at pod/a in the namespace tenant"),
        (&["trace", "pod/missing", here], "there is no pod/missing in the namespace tenant"),
        (
            &["trace", "-l", "app=b", here],
            "no pod is selected in the namespace tenant: none has the labels app=b",
        ),
        (
            &["trace", "pod/a", "--peer", "10.0.0.1/8", here],
            "--peer 10.0.0.1/8: has bits set behind its prefix length",
        ),
        (&["lines", "missing", here], "tcpstatetraces.tcpstates.dev \"missing\" not found"),
        (&["status", "--as=nobody"], "you may not look at the agents' reports"),
        (&["list", "--context=other"], "kubeconfig"),
    ] {
        let refused = said(kubectl, arguments)?;
        assert_eq!((refused.code, refused.out.as_str()), (Some(1), ""), "{refused:?}");
        assert!(
            refused.errors.starts_with("error: ") && refused.errors.contains(part),
            "{part}: {refused:?}"
        );
        assert_eq!(refused.errors.lines().count(), 1, "{refused:?}");
    }
    // An editor may make a trace. Without the API there is nothing by which to read its lines.
    let edited = said(kubectl, &["list", "pod/a", here, "--as=editor"])?;
    if has_lines_api(kubectl) {
        assert_eq!(edited.code, Some(0), "{edited:?}");
    } else {
        assert_eq!((edited.code, edited.out.as_str()), (Some(1), ""), "{edited:?}");
        let part = "error: the lines cannot be read: this cluster has no lines API";
        assert!(edited.errors.starts_with(part) && edited.errors.lines().count() == 1, "{edited:?}");
    }
    require_no_traces(kubectl, "tenant")
}
