//! How a trace does, and how the fleet does, in sentences. Pure.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use kube_tcpstates_crds::node::{NodeTrace, TraceState};
use kube_tcpstates_crds::status::{ConditionStatus, Counts};
use kube_tcpstates_crds::validate::{TraceKind, check_stored};
use kube_tcpstates_crds::{TcpStateNode, TcpStateTraceSpec, TraceStatus, duration};
use serde::Deserialize;
use serde_json::Value;

use crate::name::TraceName;
use crate::standing::{condition, name_of, silent_for, words};
use crate::target::{self, Pod};

/// What is known.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) name: TraceName,
    /// As the API server has it.
    pub(crate) object: Value,
    pub(crate) pods: Pods,
    /// The agents' reports; None where they may not be seen.
    pub(crate) nodes: Option<Vec<TcpStateNode>>,
    /// Where its lines can be read, or why they cannot.
    pub(crate) readable: Result<&'static str, String>,
    pub(crate) now: Timestamp,
}

/// The pods that a trace selects.
#[derive(Debug)]
pub(crate) enum Pods {
    These(Vec<Pod>),
    NotAsked,
}

/// From what concerns the trace to what concerns its lines.
pub(crate) fn explain(facts: &Facts) -> Vec<String> {
    let mut sentences = Vec::new();
    sentences.extend(validity(facts));
    sentences.extend(age(facts));
    sentences.extend(selection(facts));
    let counts = on_nodes(facts, &mut sentences);
    sentences.extend(conditions(facts));
    sentences.extend(lines(counts, facts));
    match &facts.readable {
        Ok(_) => {}
        Err(why) => sentences.push(why.clone()),
    }
    sentences
}

fn validity(facts: &Facts) -> Option<String> {
    let kind = if facts.name.namespace.is_some() { TraceKind::Namespaced } else { TraceKind::Cluster };
    let refusal = check_stored(kind, &facts.object).err()?;
    Some(format!("The agents refuse it: {refusal}. Change the spec."))
}

fn age(facts: &Facts) -> Option<String> {
    let ttl = duration::parse(facts.object["spec"]["ttl"].as_str()?).ok()?;
    let made: Timestamp = facts.object["metadata"]["creationTimestamp"].as_str()?.parse().ok()?;
    let end = made.checked_add(ttl).ok()?;
    if end > facts.now {
        return Some(format!("It ends at {}.", end.strftime("%H:%M:%S UTC")));
    }
    Some(format!(
        "It is over: its ttl of {} ended {} ago. Delete it and make it anew.",
        duration::format(ttl),
        rounded(facts.now.duration_since(end))
    ))
}

fn selection(facts: &Facts) -> Option<String> {
    let Pods::These(pods) = &facts.pods else { return None };
    let spec = TcpStateTraceSpec::deserialize(&facts.object["spec"]).ok()?;
    let namespace = facts.name.namespace.as_deref().unwrap_or_default();
    let labels = target::shown(&spec.pod_selector);
    let which = if labels.is_empty() { "every pod".to_owned() } else { format!("pods with {labels}") };
    if pods.is_empty() {
        return Some(format!(
            "It selects {which} of the namespace {namespace}, and there is none: see kubectl -n {namespace} get pods \
             --show-labels."
        ));
    }
    let nodes: BTreeSet<_> = pods.iter().filter_map(|pod| pod.node.as_deref()).collect();
    Some(format!(
        "It selects {which} of the namespace {namespace}: {}, on {}.",
        count(pods.len(), "pod"),
        count(nodes.len(), "node")
    ))
}

/// Tells of each node where it does not trace, and adds up the others.
fn on_nodes(facts: &Facts, sentences: &mut Vec<String>) -> Option<Counts> {
    let uid = facts.object["metadata"]["uid"].as_str().unwrap_or_default();
    let Some(nodes) = &facts.nodes else {
        sentences.push(
            "How it does on each node cannot be told: you may not list tcpstatenodes.tcpstates.dev."
                .to_owned(),
        );
        return None;
    };
    let mut counts = Counts::default();
    let mut tracing = Vec::new();
    let mut heard_of = BTreeSet::new();
    for node in nodes {
        let name = name_of(node);
        let trace =
            node.status.as_ref().and_then(|status| status.traces.iter().find(|trace| trace.uid == uid));
        let Some(trace) = trace else { continue };
        heard_of.insert(name);
        if trace.state == TraceState::Tracing {
            let of = trace.counts.unwrap_or_default();
            counts.events += of.events;
            counts.lost += of.lost;
            counts.limited += of.limited;
            tracing.push(name);
        }
        sentences.extend(on_node(name, trace));
        if let Some(silent) = silent_for(node, facts.now) {
            sentences.push(format!("{name}: its agent has not reported for {}.", rounded(silent)));
        }
    }
    if !tracing.is_empty() {
        sentences.push(format!("It is attached on {}.", tracing.join(", ")));
    }
    if let Pods::These(pods) = &facts.pods {
        let wanted: BTreeSet<_> = pods.iter().filter_map(|pod| pod.node.as_deref()).collect();
        for node in wanted.difference(&heard_of) {
            let has_agent = nodes.iter().any(|known| name_of(known) == *node);
            sentences.push(if has_agent {
                format!("{node}: runs a selected pod, and its agent has not told of the trace yet.")
            } else {
                format!("{node}: runs a selected pod, and no agent reports from there: see kubectl tcpstates status.")
            });
        }
    }
    // Where it is attached nowhere the sentences before say why there are no lines.
    (!tracing.is_empty()).then_some(counts)
}

fn on_node(node: &str, trace: &NodeTrace) -> Option<String> {
    let why = trace.message.as_deref().or(trace.reason.as_deref());
    match trace.state {
        TraceState::Tracing => {
            trace.message.as_ref().map(|message| format!("{node}: traces, but {message}."))
        }
        // Where no pod of it runs there is nothing to explain, unless it is the node's own doing.
        TraceState::Idle => (trace.reason.as_deref() == Some("NoMatchingNodes"))
            .then(|| format!("{node}: {}.", why.unwrap_or("its labels are not those of nodeSelector"))),
        state => Some(format!("{node}: {state:?}: {}.", why.unwrap_or("the agent does not say why"))),
    }
}

fn conditions(facts: &Facts) -> Vec<String> {
    let Ok(status) = TraceStatus::deserialize(&facts.object["status"]) else { return Vec::new() };
    let mut sentences = Vec::new();
    for kind in ["Accepted", "Ready"] {
        if let Some(condition) = condition(&status, kind)
            && condition.status != ConditionStatus::True
        {
            sentences.push(format!("Its status says {kind}={:?}: {}.", condition.status, words(condition)));
        }
    }
    sentences
}

fn lines(counts: Option<Counts>, facts: &Facts) -> Vec<String> {
    let Some(Counts { events, lost, limited }) = counts else { return Vec::new() };
    let mut sentences = Vec::new();
    if events > 0 {
        sentences
            .push(format!("{} so far, as the agents report once a minute.", count_u64(events, "transition")));
    } else if facts.nodes.is_some() {
        sentences.push(
            "No transition so far, as the agents report once a minute. Lines come when connections are as the spec says \
             and, with mode Connections, when they end: see kubectl tcpstates list for those that are open."
                .to_owned(),
        );
    }
    if limited > 0 {
        sentences.push(format!(
            "{} left out by rate limits: narrow the trace, or raise spec.rateLimit.",
            count_u64(limited, "line")
        ));
    }
    if lost > 0 {
        sentences.push(format!("{} lost: see kubectl tcpstates status.", count_u64(lost, "transition")));
    }
    sentences
}

/// What is wrong with the fleet. `all` are the cluster's nodes, where they may be known.
pub(crate) fn fleet(nodes: &[TcpStateNode], all: &[String], now: Timestamp) -> Vec<String> {
    let mut sentences = Vec::new();
    let known: BTreeSet<&str> = nodes.iter().map(name_of).collect();
    let missing: Vec<&str> = all.iter().map(String::as_str).filter(|node| !known.contains(node)).collect();
    if !missing.is_empty() {
        sentences.push(format!("no agent reports from {}", missing.join(", ")));
    }
    for node in nodes {
        let name = name_of(node);
        let Some(status) = &node.status else {
            sentences.push(format!("{name}: has not reported anything yet"));
            continue;
        };
        if let Some(silent) = silent_for(node, now) {
            sentences.push(format!("{name}: has not reported for {}", rounded(silent)));
        }
        let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready");
        if let Some(condition) = ready.filter(|condition| condition.status != ConditionStatus::True) {
            sentences.push(format!("{name}: not ready: {}", words(condition)));
            // Where the agent is ready, what fails is what it can do without.
            for check in status.preflight.iter().filter(|check| !check.ok) {
                sentences.push(format!(
                    "{name}: {}: {}",
                    check.name,
                    check.detail.as_deref().unwrap_or("missing")
                ));
            }
        }
        for trace in &status.traces {
            if matches!(trace.state, TraceState::Refused | TraceState::Waiting | TraceState::Failed) {
                let trace_name = match &trace.namespace {
                    Some(namespace) => format!("{namespace}/{}", trace.name),
                    None => trace.name.clone(),
                };
                let why = trace.message.as_deref().or(trace.reason.as_deref()).unwrap_or_default();
                sentences.push(format!("{name}: {trace_name}: {:?}: {why}", trace.state));
            }
        }
    }
    sentences
}

fn count(number: usize, what: &str) -> String {
    count_u64(number as u64, what)
}

fn count_u64(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn rounded(time: SignedDuration) -> String {
    let seconds = time.as_secs();
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;
