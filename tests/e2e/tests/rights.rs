//! What the agent may do: what the manifests say, all of it needed, and nothing else.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use kube_tcpstates_e2e_tests::agent::{Agents, DAEMON_SET, NAMESPACE};
use kube_tcpstates_e2e_tests::cluster::{Cluster, NODE_A, NODE_B};
use kube_tcpstates_e2e_tests::line::Line;
use kube_tcpstates_e2e_tests::report::path;
use kube_tcpstates_e2e_tests::rights::{Account, installed_rules, rights, texts, without};
use kube_tcpstates_e2e_tests::scene::{Scene, pod};
use kube_tcpstates_e2e_tests::stand_in::{INSTALLED, StandIn};
use kube_tcpstates_e2e_tests::undo::Undo;
use kube_tcpstates_e2e_tests::wait;
use serde_json::{Value, json};

pub(crate) const NAMELESS: crate::Tests =
    &[("without_any_one_of_its_rights_or_capabilities_an_agent_is_not_whole", every_right_is_needed)];
/// Another test takes one of the rights away.
pub(crate) const ALONE: crate::Tests = &[("the_agent_may_do_nothing_else", nothing_else)];

/// Agents start, and report at most every ten seconds.
const PATIENCE: Duration = Duration::from_mins(1);

/// What is taken away, and what is seen then: a part of what [`seen`] says. Each right and each capability of the
/// manifests has its line here.
const TAKEN: [(&str, &str); 20] = [
    ("list pods", "not ready: not listed yet: pods"),
    // A pod that came later.
    ("watch pods", "late absent"),
    // The report is owned by the node.
    ("list nodes", "no report"),
    // A label that the node got later.
    ("watch nodes", "early absent"),
    ("list namespaces", "early Failed NamespacesUnknown"),
    // A label that the namespace got later.
    ("watch namespaces", "early absent"),
    ("list services", "late: no peer names: the agent may not list and watch services"),
    ("watch services", "late: no peer names: the agent may not list and watch services"),
    ("list endpointslices", "late: no peer names: the agent may not list and watch endpointslices"),
    ("watch endpointslices", "late: no peer names: the agent may not list and watch endpointslices"),
    ("list tcpstatetraces", "not ready: not listed yet: tcpstatetraces"),
    // Traces that were made later.
    ("watch tcpstatetraces", "rights/late absent"),
    ("list clustertcpstatetraces", "not ready: not listed yet: clustertcpstatetraces"),
    ("watch clustertcpstatetraces", "late absent"),
    ("create tcpstatenodes", "no report"),
    ("patch tcpstatenodes", "no report"),
    ("patch tcpstatenodes/status", "an empty report"),
    ("BPF", "not ready: needs root, or the capabilities that are missing (CAP_BPF,"),
    ("PERFMON", "not ready: needs root, or the capabilities that are missing (CAP_PERFMON,"),
    ("DAC_READ_SEARCH", "cgroup_by_id fails"),
];

fn every_right_is_needed(cluster: &Cluster) -> Result<()> {
    Agents::install(cluster)?;
    let kubectl = cluster.kubectl();
    let rules = installed_rules(cluster, "ClusterRole", INSTALLED)?;
    let capabilities = kubectl.get(DAEMON_SET)?["spec"]["template"]["spec"]["containers"][0]
        ["securityContext"]["capabilities"]["add"]
        .take();
    let rights = rights(&rules);
    let given = rights.iter().cloned().chain(texts(&capabilities)).collect::<BTreeSet<_>>();
    let tested = TAKEN.iter().map(|(taken, _)| (*taken).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(given, tested, "what is given, and what is known to be needed");

    let scene = Scene::new(cluster, "rights")?;
    let _traces =
        Undo::new(kubectl, &["delete", "clustertcpstatetrace", "early", "late", "--ignore-not-found"]);
    let late = json!({"matchLabels": {"late": "yes"}});
    cluster_trace(
        cluster,
        "early",
        &json!({"namespaceSelector": late, "podSelector": selector(), "nodeSelector": {"late": "yes"}}),
    )?;
    let mut stand_ins = vec![stand_in(cluster, 0, &rules, "nothing")?];
    for (number, (taken, _)) in (1..).zip(TAKEN) {
        stand_ins.push(stand_in(cluster, number, &rules, taken)?);
    }
    StandIn::start(&stand_ins)?;
    await_settled(&stand_ins)?;
    make_late_changes(cluster, &scene, &stand_ins)?;
    // From now on a report tells of everything, if there is anything new to tell: at most one is written in ten seconds.
    thread::sleep(Duration::from_secs(13));

    for (stand_in, (taken, expected)) in stand_ins.iter().zip([("nothing", "")].into_iter().chain(TAKEN)) {
        let outcome =
            wait::until(&format!("an agent without {taken} is seen not to be whole"), PATIENCE, || {
                let seen = seen(cluster, stand_in.name())?;
                let is_expected = if expected.is_empty() { seen.is_empty() } else { seen.contains(expected) };
                Ok(if is_expected {
                    Ok(seen)
                } else {
                    Err(format!("what is seen is {seen:?}, not {expected:?}"))
                })
            })?;
        let told = told_right(cluster, stand_in, taken)?;
        eprintln!("without {taken}: {outcome}; {told}");
    }
    Ok(())
}

/// The sentence of an agent's log that names the right it lacks, in the server's words; nothing is looked for where a
/// capability was taken.
fn told_right(cluster: &Cluster, stand_in: &StandIn<'_>, taken: &str) -> Result<String> {
    let Some((verb, resource)) = taken.split_once(' ') else { return Ok(String::new()) };
    // Of a patch that would make an object the server does not say why it is refused.
    let words = match taken {
        "create tcpstatenodes" => "it takes the rights to create and patch tcpstatenodes".to_owned(),
        _ => format!("cannot {verb} resource {resource:?}"),
    };
    wait::until(&format!("the log says: {words}"), PATIENCE, || {
        let log = cluster.kubectl().logs(NAMESPACE, stand_in.name(), "agent")?;
        let lines = Line::parse_all(&log)?;
        let mut texts = lines.iter().filter_map(|line| line.text("tcpstates.text"));
        let told = texts.find(|text| text.contains(&words) && !text.contains("Status {")).map(str::to_owned);
        Ok(told.ok_or(log))
    })
}

/// An agent without a right, a capability, or `nothing`. Half of them on each node.
fn stand_in<'a>(cluster: &'a Cluster, number: usize, rules: &Value, taken: &str) -> Result<StandIn<'a>> {
    let node = if number.is_multiple_of(2) { NODE_A } else { NODE_B };
    StandIn::new(cluster, &format!("without-{number}"), node, &without(rules, taken), |spec| {
        let add = &mut spec["containers"][0]["securityContext"]["capabilities"]["add"];
        if let Some(add) = add.as_array_mut() {
            add.retain(|capability| capability != taken);
        }
    })
}

/// Waits until all have listed what they may list: what comes later is for their watches.
fn await_settled(stand_ins: &[StandIn<'_>]) -> Result<()> {
    for (stand_in, (taken, seen)) in stand_ins.iter().zip([("nothing", "")].into_iter().chain(TAKEN)) {
        let never = seen.starts_with("not ready") || taken == "list nodes";
        wait::until(&format!("an agent without {taken} has started"), PATIENCE, || {
            let pod = stand_in.pod()?;
            let has_started = pod.object["status"]["containerStatuses"][0]["started"] == true;
            Ok(if pod.is_ready() || never && has_started {
                Ok(())
            } else {
                Err(pod.object["status"].to_string())
            })
        })?;
        if taken == "watch namespaces" {
            stand_in.pod()?.await_metrics("namespaces were listed", PATIENCE, |metrics| {
                metrics.samples("kube_tcpstates_api_requests_total").any(|(labels, _)| {
                    labels.contains("resource=\"namespaces\"") && labels.contains("code=\"403\"")
                })
            })?;
        }
    }
    Ok(())
}

/// A pod for each, labels for their nodes and the namespace, and traces.
fn make_late_changes(cluster: &Cluster, scene: &Scene<'_>, stand_ins: &[StandIn<'_>]) -> Result<()> {
    let kubectl = cluster.kubectl();
    for stand_in in stand_ins {
        let container = json!({"name": "none", "image": "none"});
        let spec = json!({"nodeName": stand_in.name(), "containers": [container], "terminationGracePeriodSeconds": 0});
        scene.create(pod(stand_in.name(), &selector()["matchLabels"], &spec))?;
    }
    let nodes: Vec<_> = stand_ins.iter().map(StandIn::name).collect();
    kubectl.run(&[&["label", "node"], &nodes[..], &["late=yes"]].concat())?;
    kubectl.run(&["label", "namespace", scene.namespace(), "late=yes"])?;
    let late = json!({"namespaceSelector": {}, "podSelector": selector(), "peerNames": true});
    cluster_trace(cluster, "late", &late)?;
    Agents::install(cluster)?.trace(scene.namespace(), "late", &json!({"podSelector": selector()}))
}

/// Selects the pods that are made here and no others.
fn selector() -> Value {
    json!({"matchLabels": {"app": "stand-in"}})
}

fn cluster_trace(cluster: &Cluster, name: &str, spec: &Value) -> Result<()> {
    let trace = json!({
        "apiVersion": "tcpstates.dev/v1alpha1", "kind": "ClusterTcpStateTrace", "metadata": {"name": name}, "spec": spec,
    });
    cluster.kubectl().apply(&trace.to_string()).map(drop)
}

/// What the report of an agent tells of what it lacks; nothing if it is whole.
fn seen(cluster: &Cluster, node: &str) -> Result<String> {
    let Some(report) = cluster.kubectl().api().find(&path(node))? else {
        return Ok("no report".to_owned());
    };
    let status = &report["status"];
    if status.is_null() {
        return Ok("an empty report".to_owned());
    }
    let ready = &status["conditions"][0];
    if ready["status"] != "True" {
        return Ok(format!("not ready: {}", ready["message"].as_str().unwrap_or_default()));
    }
    let mut lacks = Vec::new();
    for (namespace, name) in [(None, "early"), (None, "late"), (Some("rights"), "late")] {
        let shown = namespace.map_or_else(|| name.to_owned(), |namespace| format!("{namespace}/{name}"));
        let traces = status["traces"].as_array().into_iter().flatten();
        let mut traces =
            traces.filter(|trace| trace["name"] == name && trace["namespace"].as_str() == namespace);
        match traces.next() {
            None => lacks.push(format!("{shown} absent")),
            Some(trace) if trace["state"] == "Tracing" && trace["pods"] == 1 => {
                let why = trace["message"].as_str();
                lacks.extend(why.map(|why| format!("{shown}: {why}")));
            }
            Some(trace) => {
                lacks.push(format!("{shown} {} {}", text(&trace["state"]), text(&trace["reason"])));
            }
        }
    }
    let checks = status["preflight"].as_array().into_iter().flatten();
    let failed = checks.filter(|check| check["name"] == "cgroup_by_id" && check["ok"] == false);
    lacks.extend(failed.map(|check| format!("{} fails: {}", text(&check["name"]), text(&check["detail"]))));
    Ok(lacks.join(", "))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn nothing_else(cluster: &Cluster) -> Result<()> {
    Agents::install(cluster)?;
    let account = Account::new(cluster, INSTALLED);
    let specified = [
        "list pods",
        "watch pods",
        "list nodes",
        "watch nodes",
        "list namespaces",
        "watch namespaces",
        "list services",
        "watch services",
        "list endpointslices.discovery.k8s.io",
        "watch endpointslices.discovery.k8s.io",
        "list tcpstatetraces.tcpstates.dev",
        "watch tcpstatetraces.tcpstates.dev",
        "list clustertcpstatetraces.tcpstates.dev",
        "watch clustertcpstatetraces.tcpstates.dev",
        "create tcpstatenodes.tcpstates.dev",
        "patch tcpstatenodes.tcpstates.dev",
        "patch tcpstatenodes.tcpstates.dev/status",
    ];
    assert_eq!(account.rights(NAMESPACE)?, specified.map(str::to_owned).into());

    let agent = &format!("--namespace={NAMESPACE}");
    let refused: [&[&str]; 13] = [
        &["get", "secrets", agent],
        &["get", "secrets", "--all-namespaces"],
        &["get", "configmaps", agent],
        &["get", "--raw", "/api/v1/nodes/node-a/proxy/pods"],
        &["get", "--raw", "/api/v1/nodes/node-a/proxy/metrics"],
        &["get", "node", "node-a"],
        &["create", "configmap", "a", agent],
        &["create", "namespace", "written"],
        &["delete", "pods", "--all", agent],
        &["delete", "node", "node-a"],
        &["delete", "tcpstatenode", "node-a"],
        &["delete", "tcpstatetrace", "written", "--namespace=default"],
        &["logs", agent, "--selector=app.kubernetes.io/component=agent"],
    ];
    refused.iter().try_for_each(|request| account.require_refused(request))?;
    account.require_refused_to_make(&json!({
        "apiVersion": "tcpstates.dev/v1alpha1", "kind": "TcpStateTrace",
        "metadata": {"name": "written", "namespace": "default"}, "spec": {"podSelector": {}},
    }))
}
