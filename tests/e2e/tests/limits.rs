//! What bounds a trace: its rate, its time, and what the agent knows of its spec.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use kube_tcpstates_e2e_tests::agent::{Agents, trace_path};
use kube_tcpstates_e2e_tests::cluster::{Cluster, NODE_A, NODE_B};
use kube_tcpstates_e2e_tests::compare::judge;
use kube_tcpstates_e2e_tests::kubectl::Kubectl;
use kube_tcpstates_e2e_tests::line::Line;
use kube_tcpstates_e2e_tests::report::Report;
use kube_tcpstates_e2e_tests::scene::{Scene, Server, arguments};
use kube_tcpstates_e2e_tests::undo::Undo;
use kube_tcpstates_e2e_tests::wait;
use kube_tcpstates_e2e_workload::expect::connections;
use kube_tcpstates_e2e_workload::log::Entry;
use serde_json::{Value, json};

pub(crate) const TESTS: crate::Tests = &[
    // Alone: a report that loses its only trace is what servers before 1.22 have trouble with.
    ("a_trace_whose_ttl_is_over_writes_nothing_more_and_stays", ttl),
    ("a_trace_writes_no_more_than_its_rate_and_takes_nothing_from_another", rate),
    ("a_trace_with_a_field_of_a_later_version_is_refused_and_not_widened", later_version),
];

const SECOND_US: u64 = 1_000_000;
pub(crate) const PER_SECOND: u64 = 10;
pub(crate) const BURST: u64 = 50;
const TTL: &str = "30s";
const TTL_SECONDS: u64 = 30;

/// Of one pod a limited trace is the only one; of the other a limited and an unlimited one want every line.
fn rate(cluster: &Cluster) -> Result<()> {
    let agents = Agents::install(cluster)?;
    let scene = Scene::new(cluster, "rate")?;
    let few = json!({"linesPerSecondPerNode": PER_SECOND, "burst": BURST});
    let all = json!({"linesPerSecondPerNode": 100_000, "burst": 200_000});
    for (name, pod, limit) in [("few", "one", &few), ("all", "other", &all), ("shared", "other", &few)] {
        agents.trace(
            "rate",
            name,
            &json!({"podSelector": {"matchLabels": {"is": pod}}, "rateLimit": limit}),
        )?;
    }
    let server = scene.server("server", &json!({"is": "server"}), NODE_B, &[8080])?;
    let lost_before = lost_by_rate(&agents.lines("\"lost\"")?);
    let mut flags = arguments([&server], &["client-close", "server-reset"], 300)?;
    flags.extend(["--sleep-before-ms=1500", "--pace-ms=10"].map(str::to_owned));
    let pods = ["one", "other"];
    pods.iter().try_for_each(|pod| scene.client(pod, &json!({"is": pod}), NODE_A, &flags))?;
    let mut sources = Vec::new();
    for pod in pods {
        let log = scene.finished(pod)?;
        sources.push(scene.source(pod, ("pod", pod), log)?);
    }
    let made = judge(&[], &sources[..1]).expected;
    assert_eq!(made, judge(&[], &sources[1..]).expected, "the pods do the same");

    let of_all = agents.await_lines("rate/all", made)?;
    let verdict = judge(&of_all.iter().collect::<Vec<_>>(), &sources[1..]);
    assert!(verdict.is_clean(), "{verdict}");
    let both = json!(["rate/all", "rate/shared"]);
    assert!(
        of_all.iter().all(|line| line.get("tcpstates.traces") == Some(&both)),
        "they are named for both traces"
    );

    let of_few = agents.of("rate/few")?;
    assert!(of_few.iter().all(|line| line.text("k8s.pod.name") == Some("one")));
    let (written, may) = (of_few.len(), allowed(&of_few)?);
    eprintln!(
        "{made} transitions each: {written} lines of the limited trace, {may} allowed; all {} of the other",
        of_all.len()
    );
    // A line is admitted some milliseconds after its transition.
    assert!(written <= may + 3, "{written} lines where {may} are allowed");
    assert!(written * 3 >= may, "{written} lines are few where {may} are allowed");
    assert!(written * 5 < made, "hardly anything was limited");
    let (whole, partial) = complete(&of_few);
    eprintln!("{whole} connections from their beginning to their end, {partial} in part");
    assert!(partial * 5 <= whole, "connections are told in part");

    // What nobody could write is told, but not as the loss of a trace.
    wait::until("the lines left out are told", Duration::from_secs(5), || {
        let told = lost_by_rate(&agents.lines("\"lost\"")?) - lost_before;
        let limited = u64::try_from(made - written)?;
        Ok(if told == limited { Ok(()) } else { Err(format!("{told} of {limited} are")) })
    })?;
    agents.require_no_loss("rate/few")?;
    judge_report(cluster, &agents, made, written, allowed(&of_all)?)
}

/// In the report the traces have these counts once it is written anew, as it is at any change of state.
fn judge_report(
    cluster: &Cluster,
    agents: &Agents<'_>,
    made: usize,
    written: usize,
    shared: usize,
) -> Result<()> {
    // The reporter looks at the counts every other second.
    thread::sleep(Duration::from_millis(2500));
    agents.trace("rate", "another", &json!({"podSelector": {}}))?;
    let report = Report::awaited(cluster, NODE_A, "the trace that was made last", |report| {
        let is_there = report.trace("rate/another").is_some();
        if is_there { Ok(()) } else { Err(report.0["status"]["traces"].to_string()) }
    })?;
    let counts = |name: &str| report.trace(name).map(|trace| trace["counts"].clone());
    assert_eq!(counts("rate/few"), Some(json!({"events": written, "lost": 0, "limited": made - written})));
    assert_eq!(counts("rate/all"), Some(json!({"events": made, "lost": 0, "limited": 0})));
    // Its name is on every line that the other trace paid for; how many it could have paid for itself is told, too.
    let of_shared = counts("rate/shared").context("rate/shared has no counts")?;
    assert_eq!(of_shared["events"], made, "{of_shared}");
    let paid = made - usize::try_from(of_shared["limited"].as_u64().context("no count")?)?;
    assert!(paid <= shared + 3, "{paid} lines within the limit where {shared} are allowed");
    assert!(paid * 3 >= shared, "{paid} lines within the limit are few where {shared} are allowed");
    eprintln!("{}: {}", NODE_A.name, report.0["status"]["counts"]);
    Ok(())
}

/// How many lines a limit lets through in the time of these.
pub(crate) fn allowed(lines: &[Line]) -> Result<usize> {
    let times: Vec<u64> = lines.iter().filter_map(Line::time_us).collect();
    let first = times.iter().min().context("there is no line")?;
    let last = times.iter().max().context("there is no line")?;
    Ok(usize::try_from(BURST + PER_SECOND * (last - first) / SECOND_US)?)
}

/// Lines left out in the present run of the agent of the clients' node, as its newest `lost` line tells.
/// Connections whose first and last line are there, and those of which one is missing.
fn complete(lines: &[Line]) -> (usize, usize) {
    let mut seen: BTreeMap<&str, (bool, bool)> = BTreeMap::new();
    for line in lines {
        let Some(id) = line.text("tcpstates.connection.id") else { continue };
        let (begun, ended) = seen.entry(id).or_default();
        match line.text("tcpstates.new_state") {
            Some("SYN_SENT") => *begun = true,
            Some("CLOSE") => *ended = true,
            _ => {}
        }
    }
    let whole = seen.values().filter(|(begun, ended)| *begun && *ended).count();
    (whole, seen.len() - whole)
}

fn lost_by_rate(lines: &[Line]) -> u64 {
    let of_node = lines.iter().filter(|line| line.text("k8s.node.name") == Some(NODE_A.name));
    of_node.filter_map(|line| line.number("tcpstates.lost.by_place.rate")).next_back().unwrap_or(0)
}

fn ttl(cluster: &Cluster) -> Result<()> {
    let agents = Agents::install(cluster)?;
    let scene = Scene::new(cluster, "ttl")?;
    let server = scene.server("server", &json!({"app": "server"}), NODE_B, &[8080])?;
    scene.client("client", &json!({"app": "client"}), NODE_A, &endless(&server))?;
    scene.await_ready("client")?;
    // Longer than a report may have to wait for the one before it.
    agents.trace("ttl", "short", &json!({"podSelector": {"matchLabels": {"app": "client"}}, "ttl": TTL}))?;
    Report::awaited(cluster, NODE_A, "the trace", |report| {
        report.trace("ttl/short").map(drop).ok_or_else(|| "it is absent".to_owned())
    })?;
    // When it ends shows by itself; the agent reports what only it can say.
    Report::awaited(cluster, NODE_A, "the end of the trace", |report| {
        report.trace("ttl/short").map_or(Ok(()), |trace| Err(trace.to_string()))
    })?;

    require_end(&agents, &scene, "short", "client", TTL_SECONDS)
}

/// A trace wrote until its time was over and no longer, though its pod went on making connections.
pub(crate) fn require_end(
    agents: &Agents<'_>,
    scene: &Scene<'_>,
    trace: &str,
    client: &str,
    ttl_seconds: u64,
) -> Result<()> {
    let object = scene.trace(trace)?;
    let created = object["metadata"]["creationTimestamp"].as_str().context("it has no time of creation")?;
    let created: jiff::Timestamp = created.parse()?;
    let end_us = u64::try_from(created.as_microsecond())? + ttl_seconds * SECOND_US;
    // Enough for a line that comes when none should.
    let after = |log: &[Entry]| {
        connections(log).filter(|connection| connection.opened_us > end_us + SECOND_US).count()
    };
    let log = scene.await_log(client, "the client has gone on for a while", |log| match after(log) {
        0..50 => Err(format!("{} connections since", after(log))),
        _ => Ok(()),
    })?;
    thread::sleep(Duration::from_secs(1));
    let times: Vec<u64> =
        agents.of(&format!("{}/{trace}", scene.namespace()))?.iter().filter_map(Line::time_us).collect();
    let last_us = *times.iter().max().context("it never wrote a line")?;
    eprintln!(
        "{} lines, the last {} us after the end; {} connections were made since",
        times.len(),
        i128::from(last_us) - i128::from(end_us),
        after(&log),
    );
    assert!(last_us < end_us + SECOND_US, "the last line is {} us behind the end", last_us - end_us);
    // On a busy machine the client rests for longer than a second.
    let before = connections(&log).map(|connection| connection.opened_us);
    let due_us = before.filter(|opened_us| *opened_us < end_us - SECOND_US).max();
    assert!(
        due_us <= Some(last_us),
        "the last line is at {last_us}, and a connection was made at {due_us:?}"
    );
    Ok(())
}

fn later_version(cluster: &Cluster) -> Result<()> {
    let agents = Agents::install(cluster)?;
    let kubectl = cluster.kubectl();
    let scene = Scene::new(cluster, "later")?;
    let server = scene.server("server", &json!({"app": "server"}), NODE_B, &[8080])?;
    scene.client("client", &json!({"app": "client"}), NODE_A, &endless(&server))?;
    scene.await_ready("client")?;
    let definition = LaterDefinition::install(kubectl)?;
    let select = json!({"matchLabels": {"app": "client"}});
    agents.trace("later", "field", &json!({"podSelector": select, "onlyTls": true}))?;
    agents.trace("later", "value", &json!({"podSelector": select, "mode": "Packets"}))?;
    agents.trace("later", "plain", &json!({"podSelector": select}))?;
    let stored = kubectl.get(&trace_path("later", "field"))?;
    assert_eq!(stored["spec"]["onlyTls"], true, "the API server dropped the field: the agent cannot see it");

    for node in [NODE_A, NODE_B] {
        let report = Report::awaited(cluster, node, "the refused traces", |report| {
            let names = ["later/field", "later/value", "later/plain"];
            // The plain one selects nobody on the other node, of which a report says nothing.
            let expected = if node == NODE_A { &names[..] } else { &names[..2] };
            let standings: Vec<_> = expected.iter().map(|name| report.standing(name)).collect();
            if standings.iter().all(|standing| !standing.0.is_empty()) {
                Ok(())
            } else {
                Err(format!("{standings:?}"))
            }
        })?;
        for (name, field) in [("later/field", "spec.onlyTls"), ("later/value", "spec.mode")] {
            let trace = report.trace(name).cloned().unwrap_or_default();
            assert_eq!(report.standing(name), ("Refused", "UnsupportedByAgent"), "{trace}");
            assert_eq!(trace["field"], field, "{trace}");
            eprintln!("{}: {name}: {}", node.name, trace["message"]);
        }
    }
    // The reports may be there before the first lines.
    agents.await_lines("later/plain", 21)?;
    let lines = agents.new_lines("later/")?;
    let count = |name: &str| lines.iter().filter(|line| line.is_of(name)).count();
    let counts = ["later/plain", "later/field", "later/value"].map(count);
    assert!(
        counts[0] > 20 && counts[1..] == [0, 0],
        "lines of the plain trace and of the refused ones: {counts:?}"
    );
    for field in [
        "later/field is refused: UnsupportedByAgent: spec.onlyTls",
        "later/value is refused: UnsupportedByAgent: spec.mode",
    ] {
        let told = lines.iter().filter(|line| {
            line.is("log") && line.text("tcpstates.text").is_some_and(|text| text.contains(field))
        });
        assert_eq!(told.count(), 2, "each agent says once that {field}");
    }
    drop(definition);
    Ok(())
}

/// The definition of the next release, with a field and a value that this release's agent has never heard of.
struct LaterDefinition<'a> {
    kubectl: &'a Kubectl,
    // Dropped behind the traces that use it: without their field they would ask for more than they do with it.
    _undo: Undo<'a>,
}

impl<'a> LaterDefinition<'a> {
    const NAME: &'static str = "tcpstatetraces.tcpstates.dev";

    fn install(kubectl: &'a Kubectl) -> Result<Self> {
        let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
        let patch = |changes: &Value| {
            ["patch", "crd", Self::NAME, "--type=json", &format!("--patch={changes}")].map(str::to_owned)
        };
        let before = kubectl
            .get(&format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{}", Self::NAME))?["spec"]
            ["versions"]
            .take();
        let undo = patch(&json!([{"op": "replace", "path": "/spec/versions", "value": before}]));
        let undo = Undo::new(kubectl, &undo.each_ref().map(String::as_str));
        let change = patch(&json!([
            {"op": "add", "path": format!("{spec}/onlyTls"), "value": {"type": "boolean"}},
            {"op": "add", "path": format!("{spec}/mode/enum/-"), "value": "Packets"},
        ]));
        kubectl.run(&change.each_ref().map(String::as_str))?;
        let installed = Self { kubectl, _undo: undo };
        installed.await_served()?;
        Ok(installed)
    }

    /// The server takes a moment to serve what it has been given, and a moment longer to serve nothing else.
    fn await_served(&self) -> Result<()> {
        let trace = json!({
            "apiVersion": "tcpstates.dev/v1alpha1", "kind": "TcpStateTrace",
            "metadata": {"name": "probe", "namespace": "later"},
            "spec": {"podSelector": {}, "onlyTls": true, "mode": "Packets"},
        });
        // Watches that were open go on for a second more, and what comes by them is cut to the old definition.
        wait::until("the later definition is served", Duration::from_secs(10), || {
            let answer = self.kubectl.try_out(&trace.to_string());
            Ok(match answer {
                Ok(stored) if stored["spec"]["onlyTls"] == true => Ok(()),
                Ok(stored) => Err(stored.to_string()),
                Err(error) => Err(format!("{error:#}")),
            })
        })
    }
}

impl Drop for LaterDefinition<'_> {
    fn drop(&mut self) {
        let flags = ["delete", "tcpstatetraces", "--namespace=later", "--all"];
        if let Err(error) = self.kubectl.run(&flags) {
            eprintln!("{error:#}");
        }
    }
}

/// Ten connections a second.
pub(crate) fn endless(server: &Server) -> Vec<String> {
    let mut flags: Vec<_> = server.targets().map(|target| format!("--target={target}")).collect();
    flags.push("--pace-ms=100".to_owned());
    flags
}
