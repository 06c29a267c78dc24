//! What one trace is on this node, by itself: what keeps it from being active, or what it would be if it got a bit.
//! Bits are `planner`'s.

use std::collections::{BTreeMap, BTreeSet};

use kube_tcpstates_crds::text::parse_ttl;
use kube_tcpstates_crds::{CheckedTrace, LabelSelector, Refusal};

use super::active::name_on_lines;
use super::{ActiveTrace, Inputs, PodScope, Scope, TraceObject, TraceState, convert};
use crate::filter::FilterError;
use crate::roster::PodInfo;

/// How long a trace counts a pod that runs no more: the kernel still closes its sockets, ns.
pub(super) const LINGER_NS: u64 = 30 * 1_000_000_000;

/// Characters of a message that the node's status takes.
const MESSAGE_MAX: usize = 512;

/// Why a trace is not active.
#[derive(Debug, PartialEq)]
pub(super) struct Hindrance {
    pub(super) state: TraceState,
    pub(super) reason: &'static str,
    pub(super) field: Option<String>,
    pub(super) message: String,
}

/// A trace that would be active if it got a bit.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) active: ActiveTrace,
    pub(super) pods: u32,
    /// When the last pod stops to count, if none runs.
    pub(super) until_ns: Option<u64>,
}

/// The pods of the node by namespace, each with the time since which it runs no more.
pub(super) struct Pods<'a> {
    by_namespace: BTreeMap<&'a str, Vec<(&'a PodInfo, Option<u64>)>>,
    now_ns: u64,
}

impl<'a> Pods<'a> {
    pub(super) fn of(inputs: &Inputs<'a>) -> Self {
        let mut by_namespace: BTreeMap<&str, Vec<_>> = BTreeMap::new();
        for (pod, stopped_ns) in inputs.roster.with_stops(inputs.now_ns) {
            by_namespace.entry(pod.namespace.as_str()).or_default().push((pod.as_ref(), stopped_ns));
        }
        Self { by_namespace, now_ns: inputs.now_ns }
    }

    /// Pods that a trace selects and that run; and when the last of those that ran until lately stops to count.
    fn selected(&self, scope: &PodScope) -> (u32, Option<u64>) {
        let (mut running, mut until_ns) = (0, None);
        let namespaces = scope.namespaces.iter().filter_map(|name| self.by_namespace.get(name.as_str()));
        for (_, stopped_ns) in namespaces.flatten().filter(|(pod, _)| has_container(scope, pod)) {
            match stopped_ns {
                None => running += 1,
                Some(stopped_ns) => until_ns = until_ns.max(Some(stopped_ns.saturating_add(LINGER_NS))),
            }
        }
        (running, until_ns.filter(|until_ns| *until_ns > self.now_ns))
    }
}

/// Whether it selects the pod and, where it names containers, one that the pod has: a trace of containers that are
/// nowhere here would hold a bit for nothing.
fn has_container(scope: &PodScope, pod: &PodInfo) -> bool {
    let named = || pod.containers.iter().any(|container| scope.containers.contains(&container.name));
    scope.selects(pod) && (scope.containers.is_empty() || named())
}

/// When a trace ends by itself, seconds since the Unix epoch.
pub(super) fn expires_s(trace: &TraceObject) -> Option<i64> {
    let ttl = parse_ttl(trace.checked.as_ref().ok()?.spec.ttl.as_ref()?).ok()?;
    Some(trace.created_s.saturating_add(i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX)))
}

/// Whether a trace can only be judged by the labels of namespaces.
pub(super) fn needs_namespaces(trace: &TraceObject) -> bool {
    let selector = || trace.checked.as_ref().ok()?.namespace_selector.as_ref();
    trace.key.namespace.is_none() && selector().is_some_and(|selector| !selector.is_empty())
}

/// What a trace is on this node.
pub(super) fn judge(
    trace: &TraceObject,
    inputs: &Inputs<'_>,
    pods: &Pods<'_>,
) -> Result<Candidate, Hindrance> {
    let checked = trace.checked.as_ref().map_err(refused)?;
    if expires_s(trace).is_some_and(|at| at <= inputs.now_s) {
        let ttl = checked.spec.ttl.as_deref().unwrap_or_default();
        return Err(hindrance(TraceState::Expired, "Expired", format!("its ttl of {ttl} is over")));
    }
    judge_node(checked, inputs)?;
    let namespaces = namespaces(trace, checked, inputs)?;
    let scope = pod_scope(trace, checked, namespaces);
    let selected = pods.selected(&scope);
    let active = active(trace, checked, scope).map_err(|error| unconverted(&error))?;
    match selected {
        (0, None) => {
            let message = "it selects no pod that runs on this node".to_owned();
            Err(hindrance(TraceState::Idle, "NoMatchingPods", message))
        }
        (0, until_ns) => Ok(Candidate { active, pods: 0, until_ns }),
        (pods, _) => Ok(Candidate { active, pods, until_ns: None }),
    }
}

fn judge_node(checked: &CheckedTrace, inputs: &Inputs<'_>) -> Result<(), Hindrance> {
    let selector = &checked.spec.node_selector;
    let message = match inputs.node_labels {
        _ if selector.is_empty() => return Ok(()),
        None => "the labels of this node are not known",
        Some(labels) if selector.iter().all(|(key, value)| labels.get(key) == Some(value)) => return Ok(()),
        Some(_) => "nodeSelector does not select this node",
    };
    Err(hindrance(TraceState::Idle, "NoMatchingNodes", message.to_owned()))
}

/// The namespaces that a trace may show. Of a cluster trace only those with pods here: the others' comings and goings
/// are no reason for another plan.
fn namespaces(
    trace: &TraceObject,
    checked: &CheckedTrace,
    inputs: &Inputs<'_>,
) -> Result<BTreeSet<String>, Hindrance> {
    // Whatever its spec says, a namespaced trace shows its own namespace alone.
    if let Some(own) = &trace.key.namespace {
        return Ok(BTreeSet::from([own.clone()]));
    }
    let Some(selector) = &checked.namespace_selector else {
        return Ok(BTreeSet::new());
    };
    let here = inputs.roster.namespaces().into_iter();
    if selector.is_empty() {
        return Ok(here.map(str::to_owned).collect());
    }
    let Some(known) = inputs.namespaces else {
        let message = "the labels of namespaces are not known; may the agent list and watch namespaces?";
        return Err(hindrance(TraceState::Failed, "NamespacesUnknown", message.to_owned()));
    };
    // A namespace whose labels have not come yet is not selected, not even by what it may lack.
    let selected = |name: &&str| known.get(*name).is_some_and(|labels| selector.matches(labels));
    Ok(here.filter(selected).map(str::to_owned).collect())
}

fn pod_scope(trace: &TraceObject, checked: &CheckedTrace, namespaces: BTreeSet<String>) -> PodScope {
    let CheckedTrace { namespace_selector, spec } = checked;
    let all_namespaces = namespace_selector.as_ref().is_some_and(LabelSelector::is_empty);
    PodScope {
        pods: spec.pod_selector.clone(),
        namespaces,
        containers: spec.containers.iter().cloned().collect(),
        everything: trace.key.namespace.is_none()
            && all_namespaces
            && spec.pod_selector.is_empty()
            && spec.containers.is_empty(),
    }
}

fn active(trace: &TraceObject, checked: &CheckedTrace, scope: PodScope) -> Result<ActiveTrace, FilterError> {
    let spec = &checked.spec;
    Ok(ActiveTrace {
        uid: trace.uid.clone(),
        key: trace.key.clone(),
        name: Some(name_on_lines(&trace.key)),
        filter: convert::filter(spec)?,
        outcomes: convert::outcomes(&spec.outcomes),
        interval_ns: convert::interval(spec.interval.as_deref())?,
        scope: Scope::Pods(scope),
        lines_per_second: spec.rate_limit.lines_per_second_per_node,
        burst: spec.rate_limit.burst,
        pod_labels: spec.pod_labels.clone(),
        peer_names: spec.peer_names,
        open: spec.open_sockets.as_ref().map(convert::snapshots).transpose()?,
    })
}

fn hindrance(state: TraceState, reason: &'static str, message: String) -> Hindrance {
    Hindrance { state, reason, field: None, message }
}

fn refused(refusal: &Refusal) -> Hindrance {
    let field = refusal.errors().first().map(|error| clip(&error.field));
    let message = clip(&refusal.to_string());
    Hindrance { state: TraceState::Refused, reason: refusal.reason(), field, message }
}

/// Never seen: what was checked converts. If it were not so, the trace is refused, not widened.
fn unconverted(error: &FilterError) -> Hindrance {
    let (field, message) = (Some(clip(&error.field)), clip(&error.to_string()));
    Hindrance { state: TraceState::Refused, reason: "InvalidSpec", field, message }
}

fn clip(text: &str) -> String {
    text.chars().take(MESSAGE_MAX).collect()
}
