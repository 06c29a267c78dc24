//! The two conditions of a trace, and why they are as they are.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube_tcpstates_crds::Refusal;
use kube_tcpstates_crds::status::{Condition, ConditionStatus};

use super::objects::Trace;
use super::standing::{Standing, cut};

/// The schema's limit.
const MESSAGE: usize = 1024;
/// So many nodes are named in a message.
const NAMED: usize = 3;

/// What a condition says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Verdict {
    pub(super) status: ConditionStatus,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

const fn verdict(status: ConditionStatus, reason: &'static str, message: String) -> Verdict {
    Verdict { status, reason, message }
}

/// Whether a trace is accepted.
pub(super) fn accepted(trace: &Trace, is_too_many: bool) -> Verdict {
    use ConditionStatus::{False, True};
    match &trace.refusal {
        // The agents look no further either.
        _ if is_too_many => {
            let refusal = Refusal::too_many();
            verdict(False, refusal.reason(), refusal.to_string())
        }
        Some((reason, words)) => verdict(False, reason, words.clone()),
        None => verdict(True, "Valid", String::new()),
    }
}

/// Whether an accepted trace is traced.
pub(super) fn ready(trace: &Trace, standing: &Standing, now: Timestamp) -> Verdict {
    use ConditionStatus::{False, True, Unknown};
    if let Some(at) = trace.expires().filter(|at| *at <= now) {
        return verdict(False, "Expired", format!("its ttl was over at {}", whole(at)));
    }
    let Standing { matching, tracing, failing, silent, unknown, uncovered, pending, .. } = *standing;
    if matching == 0 {
        let message = if trace.node_selector.is_empty() {
            "no node can have an agent"
        } else {
            "nodeSelector selects no node that can have an agent"
        };
        return verdict(False, "NoMatchingNodes", message.to_owned());
    }
    if tracing > 0 && failing == 0 && unknown == 0 {
        return verdict(True, "Tracing", String::new());
    }
    if tracing > 0 || failing > 0 {
        return verdict(False, failure(standing), of_failures(standing));
    }
    if silent + uncovered > 0 && pending == 0 || silent + uncovered == matching {
        let names = standing.silent_nodes.iter().chain(&standing.uncovered_nodes);
        let message = format!("no agent reports from {}", listed(names, silent + uncovered));
        return verdict(Unknown, "AgentsUnavailable", message);
    }
    if pending > 0 {
        return verdict(Unknown, "Pending", "not every agent has told yet".to_owned());
    }
    verdict(False, "NoMatchingPods", "it selects no pod that runs on any node".to_owned())
}

/// Why a trace that some node should trace and does not is not ready.
fn failure(standing: &Standing) -> &'static str {
    let only = |reason: &str| standing.reasons.iter().all(|other| other == reason);
    match () {
        () if standing.tracing > 0 || standing.failing == 0 => "Degraded",
        () if only("SlotsExhausted") => "SlotsExhausted",
        () if only("NamespaceQuota") => "NamespaceQuota",
        () => "Degraded",
    }
}

fn of_failures(standing: &Standing) -> String {
    let mut parts = Vec::new();
    if standing.tracing == 0 {
        parts.push("no node traces it".to_owned());
    }
    if standing.failing > 0 {
        let names = standing.failing_nodes.iter().map(|failing| &failing.node);
        let reasons: Vec<_> = standing.reasons.iter().take(NAMED).map(String::as_str).collect();
        parts.push(format!("{} on {}", reasons.join(", "), listed(names, standing.failing)));
    }
    if standing.unknown > 0 {
        parts.push(format!("no agent reports from {}", listed(&standing.silent_nodes, standing.silent)));
    }
    parts.join("; ")
}

/// A few names, and how many more there are.
fn listed<'a>(names: impl IntoIterator<Item = &'a String>, all: u32) -> String {
    let few: Vec<_> = names.into_iter().take(NAMED).map(String::as_str).collect();
    let more = usize::try_from(all).unwrap_or(usize::MAX).saturating_sub(few.len());
    let names = few.join(", ");
    if more > 0 { format!("{names} and {more} more") } else { names }
}

/// A condition of the status, in step with what stands there: its time is that of its status' last change.
pub(super) fn condition(
    type_: &str,
    Verdict { status, reason, message }: Verdict,
    generation: i64,
    before: Option<&Condition>,
    now: Timestamp,
) -> Condition {
    let same = before.filter(|before| before.status == status);
    Condition {
        type_: type_.to_owned(),
        status,
        observed_generation: Some(generation),
        last_transition_time: same.map_or_else(|| Time(whole(now)), |same| same.last_transition_time.clone()),
        reason: reason.to_owned(),
        message: cut(&message, MESSAGE),
    }
}

/// Whole seconds, as the API server keeps times.
pub(super) fn whole(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}
