//! What the report says. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube_tcpstates_client::Resource;
use kube_tcpstates_crds::node::{NodeTrace, Observed, PreflightCheck, TcpStateNodeStatus, TraceState};
use kube_tcpstates_crds::status::{Condition, ConditionStatus, Counts};

use crate::cluster::Snapshot;
use crate::pipeline::{Account, TraceCounts};
use crate::plan::TraceStanding;
use crate::preflight::Finding;

/// The status as JSON has at most so many bytes, but for what is empty and said to be; the rest of 16 KiB is for the object
/// around it.
const MAX_BYTES: usize = 15 * 1024 - 64;
/// The schema's limits.
const MAX_TRACES: usize = 128;
const MAX_CHECKS: usize = 32;
const SENTENCE: usize = 512;
const SHORT: usize = 128;

/// What does not change while the agent runs.
#[derive(Clone, Debug, Default)]
pub struct NodeFacts {
    /// Version of the agent.
    pub version: String,
    /// Release of the kernel.
    pub kernel: String,
    /// Where transitions are taken from; `None` when nothing can be traced.
    pub hook: Option<String>,
    /// How cgroups are mounted: v2, hybrid, v1 or none.
    pub cgroup_mode: String,
    /// What was looked at before tracing.
    pub preflight: Vec<PreflightCheck>,
    /// Why nothing can be traced here.
    pub trouble: Option<String>,
    /// When the agent started.
    pub started: Timestamp,
}

impl NodeFacts {
    /// The findings of a preflight as the report has them.
    pub fn checks(findings: &[Finding]) -> Vec<PreflightCheck> {
        let check = |finding: &Finding| PreflightCheck {
            name: cut(finding.name, SHORT),
            ok: finding.ok,
            detail: some(cut(finding.detail.lines().next().unwrap_or_default(), SENTENCE)),
        };
        findings.iter().take(MAX_CHECKS).map(check).collect()
    }
}

/// Since when the agent is ready, or is not.
#[derive(Clone, Debug, Default)]
pub(super) struct ReadySince(Option<(ConditionStatus, Timestamp)>);

/// The report for now.
pub(super) fn status(
    facts: &NodeFacts,
    snapshot: &Snapshot,
    account: Option<&Account>,
    since: &mut ReadySince,
    now: Timestamp,
) -> TcpStateNodeStatus {
    let failure = facts.trouble.as_deref().or_else(|| account.and_then(|account| account.failure.as_deref()));
    let nameless = snapshot.nameless.as_deref();
    let told = snapshot.standings.iter().filter(|standing| is_told(standing));
    let traces = told.map(|standing| trace(standing, failure, nameless, account));
    let mut status = TcpStateNodeStatus {
        conditions: vec![ready(facts, snapshot, failure, since, now)],
        version: some(cut(&facts.version, SHORT)),
        kernel: some(cut(&facts.kernel, SHORT)),
        hook: facts.hook.clone(),
        cgroup_mode: some(facts.cgroup_mode.clone()),
        preflight: facts.preflight.clone(),
        start_time: Some(time(facts.started)),
        last_report_time: Some(time(now)),
        traces_loaded: Some(if failure.is_some() { 0 } else { u32_of(snapshot.loaded) }),
        counts: Some(account.map(counts).unwrap_or_default()),
        observed: Some(snapshot.observed.clone()).filter(|observed| *observed != Observed::default()),
        traces: traces.collect(),
        traces_omitted: None,
    };
    fit(&mut status);
    status
}

/// What only this agent can say. That a trace selects nothing here, is over or not valid, others know without asking every
/// node.
fn is_told(standing: &TraceStanding) -> bool {
    match standing.state {
        TraceState::Tracing | TraceState::Waiting | TraceState::Failed => true,
        TraceState::Refused => standing.reason == Some("UnsupportedByAgent"),
        TraceState::Idle | TraceState::Expired => false,
    }
}

/// Whether something is traced, or should be: then counts are of interest.
pub(super) fn is_busy(status: &TcpStateNodeStatus) -> bool {
    status.traces_loaded.is_some_and(|loaded| loaded > 0)
}

/// Whether the agent has seen all it has to before it can say what it will do.
pub(super) fn is_settled(facts: &NodeFacts, snapshot: &Snapshot) -> bool {
    facts.trouble.is_some() || snapshot.missing.is_empty()
}

/// What of a report is worth a write of its own. Counts are not, and neither is the number of pods: with short Jobs it
/// never rests.
pub(super) fn essence(status: &TcpStateNodeStatus) -> TcpStateNodeStatus {
    let mut essence = status.clone();
    essence.last_report_time = None;
    essence.counts = None;
    essence.observed = None;
    for trace in &mut essence.traces {
        trace.pods = None;
        trace.counts = None;
    }
    essence
}

fn ready(
    facts: &NodeFacts,
    snapshot: &Snapshot,
    failure: Option<&str>,
    since: &mut ReadySince,
    now: Timestamp,
) -> Condition {
    let (status, reason, message) = if let Some(trouble) = &facts.trouble {
        (ConditionStatus::False, "PreflightFailed", cut(trouble, SENTENCE))
    } else if let Some(failure) = failure {
        (ConditionStatus::False, "TracingFailed", cut(failure, SENTENCE))
    } else if snapshot.missing.is_empty() {
        (ConditionStatus::True, "Ready", String::new())
    } else {
        let missing: Vec<_> = snapshot.missing.iter().map(|resource: &Resource| resource.plural()).collect();
        (ConditionStatus::False, "Syncing", format!("not listed yet: {}", missing.join(", ")))
    };
    let changed = match since.0 {
        Some((last, at)) if last == status => at,
        _ => now,
    };
    since.0 = Some((status, changed));
    Condition {
        type_: "Ready".to_owned(),
        status,
        observed_generation: None,
        last_transition_time: time(changed),
        reason: reason.to_owned(),
        message,
    }
}

fn trace(
    standing: &TraceStanding,
    failure: Option<&str>,
    nameless: Option<&str>,
    account: Option<&Account>,
) -> NodeTrace {
    let failed = failure.filter(|_| standing.state == TraceState::Tracing);
    let TraceStanding { uid, key, generation, state, reason, field, message, pods, peer_names } = standing;
    let nameless = nameless.filter(|_| *peer_names && *state == TraceState::Tracing);
    // Of a trace without a line they are said to be none: see `whole`.
    let counts = account.and_then(|account| account.traces.get(uid)).copied().unwrap_or_default();
    let TraceCounts { events, lost, limited } = counts;
    NodeTrace {
        uid: cut(uid, SHORT),
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        generation: *generation,
        state: if failed.is_some() { TraceState::Failed } else { *state },
        reason: failed.map(|_| "LoadFailed").or(*reason).map(str::to_owned),
        field: field.as_deref().and_then(|field| some(cut(field, SENTENCE))),
        message: failed.or(message.as_deref()).or(nameless).and_then(|message| some(cut(message, SENTENCE))),
        pods: Some(*pods),
        counts: Some(Counts { events, lost, limited }),
    }
}

/// All traces together. What a rate limit leaves out is limited and not lost.
fn counts(account: &Account) -> Counts {
    let lost = account.tally.lost();
    Counts { events: account.tally.totals().written, lost: lost.total() - lost.rate, limited: lost.rate }
}

/// Leaves out traces until the object is small enough: what is traced last. Every namespace has its share first, so that no
/// tenant can push another's entries out, however many and long they are.
fn fit(status: &mut TcpStateNodeStatus) {
    let all = std::mem::take(&mut status.traces);
    // The number of those left out takes room, too.
    status.traces_omitted = Some(u32_of(all.len()));
    let room = MAX_BYTES.saturating_sub(bytes(status) + "\"traces\":[],".len());
    let number = all.len();
    status.traces = chosen(all, room);
    status.traces_omitted = Some(u32_of(number - status.traces.len())).filter(|omitted| *omitted > 0);
}

/// Those for which there is room, in the order in which they matter.
fn chosen(traces: Vec<NodeTrace>, room: usize) -> Vec<NodeTrace> {
    let mut sized: Vec<_> = traces.into_iter().map(|trace| (bytes(&trace) + 1, trace)).collect();
    sized.sort_by_key(|(_, trace)| weight(trace.state));
    let namespaces: BTreeSet<_> = sized.iter().map(|(_, trace)| trace.namespace.clone()).collect();
    let share = room / namespaces.len().max(1);
    let most = (MAX_TRACES / namespaces.len().max(1)).max(1);
    let mut used: BTreeMap<Option<String>, (usize, usize)> = BTreeMap::new();
    // First those within the share of their namespace, then the others, as long as there is room.
    let (own, more): (Vec<_>, Vec<_>) = sized.into_iter().partition(|(size, trace)| {
        let (bytes, number) = used.entry(trace.namespace.clone()).or_default();
        let fits = *bytes + size <= share && *number < most;
        if fits {
            (*bytes, *number) = (*bytes + size, *number + 1);
        }
        fits
    });
    let (mut left, mut chosen) = (room, Vec::new());
    for (size, trace) in own.into_iter().chain(more) {
        if size <= left && chosen.len() < MAX_TRACES {
            left -= size;
            chosen.push(trace);
        }
    }
    chosen.sort_by_key(|trace| weight(trace.state));
    chosen
}

/// What matters most has the least.
const fn weight(state: TraceState) -> u8 {
    match state {
        TraceState::Tracing => 0,
        TraceState::Failed => 1,
        TraceState::Waiting => 2,
        TraceState::Refused => 3,
        TraceState::Expired | TraceState::Idle => 4,
    }
}

fn bytes(value: &impl serde::Serialize) -> usize {
    // What cannot be written has no room.
    serde_json::to_vec(value).map_or(MAX_BYTES, |text| text.len())
}

/// Whole seconds: more would only be noise.
fn time(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

/// At most so many characters.
fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

fn some(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn u32_of(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
