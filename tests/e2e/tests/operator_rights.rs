//! What the operator may do: what the manifests say, all of it needed, and nothing else.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use kube_tcpstates_e2e_tests::agent::{Agents, NAMESPACE};
use kube_tcpstates_e2e_tests::cluster::Cluster;
use kube_tcpstates_e2e_tests::operator::Operators;
use kube_tcpstates_e2e_tests::rights::Account;
use kube_tcpstates_e2e_tests::scene::Scene;
use kube_tcpstates_e2e_tests::stand_in_operator::{INSTALLED, Rights, StandInOperator};
use kube_tcpstates_e2e_tests::undo::Undo;
use kube_tcpstates_e2e_tests::wait;
use serde_json::{Value, json};

pub(crate) const TESTS: crate::Tests = &[
    ("without_any_one_of_its_rights_an_operator_says_which_and_goes_on", every_right_is_needed),
    ("the_operator_may_do_nothing_else", nothing_else),
];

const PATIENCE: Duration = Duration::from_mins(1);
const SCENE: &str = "op-rights";
/// A refusal is told when it has lasted so long.
const BELIEVED_AFTER: Duration = Duration::from_millis(2500);
const LINES: &str =
    "/apis/lines.tcpstates.dev/v1alpha1/namespaces/op-rights/tcpstatetraces/lines/lines?sinceSeconds=1";

/// What is taken away, and what is seen then beside a sentence that names the right: in the log, in what the operator
/// serves, or in its answer to a reader. Each right of the manifests has its line here.
const TAKEN: [(&str, &str); 22] = [
    ("list nodes", "not listed yet: nodes"),
    ("watch nodes", "in_sync{resource=\"nodes\"} 0"),
    ("list tcpstatetraces", "not listed yet: tcpstatetraces"),
    ("watch tcpstatetraces", "in_sync{resource=\"tcpstatetraces\"} 0"),
    ("list clustertcpstatetraces", "not listed yet: clustertcpstatetraces"),
    ("watch clustertcpstatetraces", "in_sync{resource=\"clustertcpstatetraces\"} 0"),
    ("list tcpstatenodes", "not listed yet: tcpstatenodes"),
    ("watch tcpstatenodes", "in_sync{resource=\"tcpstatenodes\"} 0"),
    ("create subjectaccessreviews", "503 Service Unavailable"),
    ("get apiservices", "lines: read the APIService v1alpha1.lines.tcpstates.dev: "),
    ("patch apiservices", "lines: patch the caBundle of the APIService v1alpha1.lines.tcpstates.dev: "),
    ("get configmaps", "lines: read the ConfigMap kube-system/extension-apiserver-authentication: "),
    ("list pods", "no agent runs"),
    ("watch pods", "pods: the operator may not list and watch them"),
    ("get pods/log", "no agent's log can be read"),
    ("create leases", "operator_leading 0"),
    ("get leases", "operator_leading 0"),
    ("patch leases", "operator_leading 0"),
    ("patch tcpstatetraces/status", "cannot write the status of trace op-rights/*, trying again: "),
    ("patch clustertcpstatetraces/status", "cannot write the status of trace valid-*, trying again: "),
    ("create events", "cannot write an Event, and leave it out: "),
    ("patch events", "cannot write an Event, and leave it out: "),
];
/// The first of those that are seen when it writes.
const FIRST_WRITER: usize = 18;

fn every_right_is_needed(cluster: &Cluster) -> Result<()> {
    let operators = Operators::installed(cluster)?;
    let agents = Agents::install(cluster)?;
    let kubectl = cluster.kubectl();
    let rights = Rights::installed(cluster)?;
    let given: BTreeSet<_> = rights.names().into_iter().collect();
    let tested: BTreeSet<_> = TAKEN.iter().map(|(taken, _)| (*taken).to_owned()).collect();
    assert_eq!(given, tested, "what is given, and what is known to be needed");

    let scale = ["scale", "deployment", INSTALLED, "--namespace", NAMESPACE, "--replicas=2"];
    let _back = Undo::new(kubectl, &scale);
    operators.scale(0)?;
    let _scene = Scene::new(cluster, SCENE)?;
    let _traces = Undo::new(kubectl, &["delete", "ctst", "--selector=op-rights=yes"]);
    agents.trace(SCENE, "lines", &json!({"podSelector": {}}))?;
    let named = TAKEN.iter().map(|(taken, _)| *taken).chain(["nothing"]);
    let stand_ins = named.enumerate().map(|(number, taken)| {
        StandInOperator::new(cluster, &format!("op-without-{number}"), &rights.without(taken))
    });
    let stand_ins: Vec<_> = stand_ins.collect::<Result<_>>()?;
    StandInOperator::start(&stand_ins)?;
    for (number, stand_in) in stand_ins.iter().enumerate() {
        let has_lease = TAKEN.get(number).is_some_and(|(taken, _)| taken.ends_with(" leases"));
        if !has_lease {
            stand_in.let_lead(false)?;
        }
    }
    stand_ins.iter().try_for_each(StandInOperator::await_start)?;
    for (number, (stand_in, (taken, expected))) in stand_ins.iter().zip(TAKEN).enumerate() {
        if number >= FIRST_WRITER {
            stand_in.make_lead(true)?;
            provoke(cluster, operators, &agents, number)?;
        }
        await_told(stand_in, taken, expected)?;
        if number >= FIRST_WRITER {
            stand_in.make_lead(false)?;
        }
    }
    let Some(whole) = stand_ins.last() else { return Ok(()) };
    whole.make_lead(true)?;
    make_traces(cluster, &agents, TAKEN.len())?;
    operators.await_reason((SCENE, &valid(TAKEN.len())), "Accepted", "Valid", PATIENCE)?;
    let (log, answer) = (whole.log()?, whole.answer(LINES)?);
    ensure!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    ensure!(!log.contains("forbidden") && !log.contains("may not"), "the one that lacks nothing: {log}");
    Ok(())
}

/// Waits until it is seen what an operator lacks, and that it says which right that is.
fn await_told(stand_in: &StandInOperator<'_>, taken: &str, expected: &str) -> Result<()> {
    let (verb, resource) = taken.split_once(' ').unwrap_or((taken, ""));
    let right = format!("cannot {verb} resource \"{resource}\"");
    let what = format!("an operator without {taken} says so");
    let told = wait::until(&what, PATIENCE, || {
        let mut seen = stand_in.log()?;
        if taken == "create subjectaccessreviews" || taken.contains(" pods") {
            seen.push_str(&stand_in.answer(LINES)?.replace("\\\"", "\""));
            seen.push('\n');
        }
        seen.push_str(&stand_in.readiness());
        seen.push_str(stand_in.metrics().text());
        let is_clear = |line: &&str| line.contains(&right) && !line.contains("Status {");
        let told = seen.lines().find(is_clear).map(str::to_owned);
        Ok(told.filter(|_| seen.lines().any(|line| says(line, expected))).ok_or(seen))
    })?;
    eprintln!("without {taken}: {told}");
    Ok(())
}

/// `*` stands for the trace that was met first, whichever it was.
fn says(line: &str, expected: &str) -> bool {
    match expected.split_once('*') {
        Some((before, after)) => line.split_once(before).is_some_and(|(_, rest)| rest.contains(after)),
        None => line.contains(expected),
    }
}

fn valid(number: usize) -> String {
    format!("valid-{number}")
}

fn make_traces(cluster: &Cluster, agents: &Agents<'_>, number: usize) -> Result<()> {
    let name = valid(number);
    agents.trace(SCENE, &name, &json!({"podSelector": {}}))?;
    let trace = json!({
        "apiVersion": "tcpstates.dev/v1alpha1", "kind": "ClusterTcpStateTrace",
        "metadata": {"name": name, "labels": {"op-rights": "yes"}},
        "spec": {"podSelector": {}, "namespaceSelector": {"matchLabels": {"op-rights": "yes"}}},
    });
    cluster.kubectl().apply(&trace.to_string()).map(drop)
}

/// Gives the operator that leads something to write: the status of two traces, two Events, and both Events again.
fn provoke(cluster: &Cluster, operators: Operators<'_>, agents: &Agents<'_>, number: usize) -> Result<()> {
    make_traces(cluster, agents, number)?;
    if !TAKEN[number].0.ends_with(" events") {
        return Ok(());
    }
    let wrong: Value = json!({"podSelector": {}, "peerCIDRs": ["10.0.0.1/8"]});
    let names = ["a", "b"].map(|name| format!("wrong-{number}-{name}"));
    for (spec, reason) in
        [(&wrong, "InvalidSpec"), (&json!({"podSelector": {}}), "Valid"), (&wrong, "InvalidSpec")]
    {
        for name in &names {
            agents.trace(SCENE, name, spec)?;
            thread::sleep(BELIEVED_AFTER);
            operators.await_reason((SCENE, name), "Accepted", reason, PATIENCE)?;
        }
    }
    Ok(())
}

fn nothing_else(cluster: &Cluster) -> Result<()> {
    Operators::installed(cluster)?;
    let account = Account::new(cluster, INSTALLED);
    let everywhere: BTreeSet<_> = [
        "list nodes",
        "watch nodes",
        "list tcpstatetraces.tcpstates.dev",
        "watch tcpstatetraces.tcpstates.dev",
        "list clustertcpstatetraces.tcpstates.dev",
        "watch clustertcpstatetraces.tcpstates.dev",
        "list tcpstatenodes.tcpstates.dev",
        "watch tcpstatenodes.tcpstates.dev",
        "patch tcpstatetraces.tcpstates.dev/status",
        "patch clustertcpstatetraces.tcpstates.dev/status",
        "create events.events.k8s.io",
        "patch events.events.k8s.io",
        "create subjectaccessreviews.authorization.k8s.io",
        // Its own alone, by name.
        "get apiservices.apiregistration.k8s.io",
        "patch apiservices.apiregistration.k8s.io",
    ]
    .map(str::to_owned)
    .into();
    assert_eq!(account.rights("default")?, everywhere);
    let mut at_home = everywhere;
    let more = [
        "create leases.coordination.k8s.io",
        "get leases.coordination.k8s.io",
        "patch leases.coordination.k8s.io",
        "list pods",
        "watch pods",
        "get pods/log",
    ];
    at_home.extend(more.map(str::to_owned));
    assert_eq!(account.rights(NAMESPACE)?, at_home);

    let home = &format!("--namespace={NAMESPACE}");
    let refused: [&[&str]; 18] = [
        // Only the Lease and the APIService of its own name.
        &["get", "lease", "another", home],
        &["patch", "lease", "another", home, "--patch={}"],
        &["get", "apiservice", "v1.apps"],
        &["patch", "apiservice", "v1.apps", "--patch={}"],
        &["get", "secrets", home],
        &["get", "secrets", "--all-namespaces"],
        &["get", "configmaps", home],
        &["get", "configmap", "another", "--namespace=kube-system"],
        &["get", "--raw", "/api/v1/nodes/node-a/proxy/pods"],
        &["get", "node", "node-a"],
        &["get", "pods", "--namespace=default"],
        &["get", "pod", "any", home],
        &["get", "--raw", "/api/v1/namespaces/default/pods/any/log"],
        &["create", "configmap", "a", home],
        &["delete", "pods", "--all", home],
        &["delete", "tcpstatenode", "node-a"],
        &["delete", "tcpstatetrace", "any", "--namespace=default"],
        &["annotate", "node", "node-a", "written=yes"],
    ];
    refused.iter().try_for_each(|request| account.require_refused(request))?;
    for name in ["pods/any/exec?command=id&stdout=true", "pods/any/attach", "pods/any/portforward"] {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/{name}");
        account.require_refused(&["create", "--raw", &path, "--filename=/dev/null"])?;
    }
    account.require_refused_to_make(&json!({
        "apiVersion": "tcpstates.dev/v1alpha1", "kind": "TcpStateTrace",
        "metadata": {"name": "written", "namespace": "default"}, "spec": {"podSelector": {}},
    }))?;
    account.require_refused_to_make(&json!({
        "apiVersion": "tcpstates.dev/v1alpha1", "kind": "TcpStateNode", "metadata": {"name": "node-a"},
    }))
}
