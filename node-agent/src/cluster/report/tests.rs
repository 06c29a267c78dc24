//! What the report says, and how much of it.

use std::sync::Arc;

use kube_tcpstates_crds::node::{Observed, PreflightCheck, TcpStateNodeStatus, TraceState};
use kube_tcpstates_crds::status::ConditionStatus;

use super::content::{ReadySince, essence, status};
use super::*;
use crate::cluster::resources::{PODS, TRACES};
use crate::plan::{TraceKey, TraceStanding};

fn facts() -> NodeFacts {
    NodeFacts {
        version: crate::VERSION.to_owned(),
        kernel: "6.18.0".to_owned(),
        hook: Some("tp_btf".to_owned()),
        cgroup_mode: "v2".to_owned(),
        preflight: vec![PreflightCheck { name: "btf".to_owned(), ok: true, detail: None }],
        trouble: None,
        started: at(0),
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_795_361_100 + second).unwrap()
}

fn standing(number: usize, state: TraceState) -> TraceStanding {
    TraceStanding {
        uid: format!("6f9d1c2e-0b1a-4c3d-8e5f-{number:012}"),
        key: TraceKey { namespace: Some("shop".to_owned()), name: format!("trace-{number}") },
        generation: 1,
        state,
        reason: (state != TraceState::Tracing).then_some("NoMatchingPods"),
        field: None,
        message: (state != TraceState::Tracing).then(|| "it selects no pod of this node".to_owned()),
        pods: 3,
        peer_names: false,
    }
}

fn report(standings: Vec<TraceStanding>) -> TcpStateNodeStatus {
    let snapshot = Snapshot { standings: Arc::new(standings), loaded: 1, ..Snapshot::default() };
    status(&facts(), &snapshot, None, &mut ReadySince::default(), at(5))
}

fn condition(facts: &NodeFacts, snapshot: &Snapshot) -> (ConditionStatus, String, String) {
    let status = status(facts, snapshot, None, &mut ReadySince::default(), at(5));
    let ready = status.conditions.into_iter().next().unwrap();
    (ready.status, ready.reason, ready.message)
}

#[test]
fn nothing_that_was_there_once_is_left_out_when_it_is_empty() {
    let empty = whole(&TcpStateNodeStatus::default());
    assert_eq!(empty["traces"], serde_json::json!([]));
    assert_eq!(empty["observed"], serde_json::json!({}));
    let refused = whole(&report(vec![TraceStanding {
        reason: Some("UnsupportedByAgent"),
        ..standing(1, TraceState::Refused)
    }]));
    assert_eq!(refused["traces"][0]["counts"]["events"], 0, "{refused}");
}

#[test]
fn a_report_is_never_larger_than_sixteen_kibibytes_and_says_what_it_leaves_out() {
    for number in [0, 1, 60, 64, 128, 129, 1000] {
        let standings = (0..number).map(|number| standing(number, TraceState::Waiting)).collect();
        let status = report(standings);
        let size = whole(&status).to_string().len();
        assert!(size <= 15 * 1024, "{size} bytes of {number} traces");
        let omitted = usize::try_from(status.traces_omitted.unwrap_or(0)).unwrap();
        assert_eq!(status.traces.len() + omitted, number);
        assert_eq!(status.traces_omitted.is_some(), omitted > 0, "an empty field says nothing");
        assert!(number > 60 || omitted == 0, "{omitted} of {number} do not fit");
    }
}

#[test]
fn a_report_has_what_only_the_agent_can_say() {
    use TraceState::{Expired, Failed, Idle, Refused, Tracing, Waiting};
    let mut standings: Vec<_> =
        [Idle, Expired, Refused, Waiting, Failed, Tracing].map(|state| standing(1, state)).to_vec();
    standings.push(TraceStanding { reason: Some("UnsupportedByAgent"), ..standing(2, Refused) });
    let states: Vec<_> = report(standings).traces.iter().map(|trace| trace.state).collect();
    assert_eq!(states, [Tracing, Failed, Waiting, Refused]);
}

#[test]
fn what_is_traced_is_left_out_last() {
    let mut standings: Vec<_> = (0..500).map(|number| standing(number, TraceState::Waiting)).collect();
    standings.push(standing(900, TraceState::Tracing));
    assert_eq!(report(standings).traces[0].name, "trace-900");
}

#[test]
fn no_tenant_pushes_anothers_entries_out() {
    let long = |number| {
        let mut long = standing(number, TraceState::Tracing);
        long.key = TraceKey { namespace: Some("evil".to_owned()), name: format!("{number:0253}") };
        long.message = Some("é".repeat(512));
        long
    };
    let mut standings: Vec<_> = (0..64).map(long).collect();
    // More than fit into what the long ones would leave.
    let tenants: Vec<_> = (0..20).map(|number| format!("tenant-{number}")).collect();
    for (number, namespace) in tenants.iter().enumerate() {
        let mut own = standing(100 + number, TraceState::Waiting);
        own.key.namespace = Some(namespace.clone());
        standings.push(own);
    }
    let status = report(standings);
    let of = |namespace: &str| {
        status.traces.iter().filter(|trace| trace.namespace.as_deref() == Some(namespace)).count()
    };
    for tenant in &tenants {
        assert_eq!(of(tenant), 1, "{tenant}");
    }
    assert!(of("evil") > 5, "the rest is not wasted: {}", of("evil"));
    assert!(whole(&status).to_string().len() <= 15 * 1024);
}

#[test]
fn how_far_traces_are_known_is_told_and_is_no_change_of_state() {
    let at_version = |version: &str| {
        let observed = Observed { traces: Some(version.to_owned()), cluster_traces: None };
        let snapshot = Snapshot { observed, ..Snapshot::default() };
        status(&facts(), &snapshot, None, &mut ReadySince::default(), at(5))
    };
    let first = at_version("7");
    assert_eq!(serde_json::to_value(&first).unwrap()["observed"], json!({"traces": "7"}));
    assert_eq!(essence(&first), essence(&at_version("8")));
}

#[test]
fn ready_says_why_not() {
    let ready = Snapshot::default();
    assert_eq!(condition(&facts(), &ready), (ConditionStatus::True, "Ready".to_owned(), String::new()));
    let syncing = Snapshot { missing: vec![TRACES], ..Snapshot::default() };
    let (state, reason, message) = condition(&facts(), &syncing);
    assert_eq!((state, reason.as_str()), (ConditionStatus::False, "Syncing"));
    assert_eq!(message, "not listed yet: tcpstatetraces");
    let unable = NodeFacts { trouble: Some("no BTF".to_owned()), ..facts() };
    let (state, reason, message) = condition(&unable, &syncing);
    assert_eq!(
        (state, reason.as_str(), message.as_str()),
        (ConditionStatus::False, "PreflightFailed", "no BTF")
    );
}

#[test]
fn a_condition_tells_since_when_it_holds() {
    let mut since = ReadySince::default();
    let syncing = Snapshot { missing: vec![PODS], ..Snapshot::default() };
    let mut time_of = |snapshot: &Snapshot, second| {
        let status = status(&facts(), snapshot, None, &mut since, at(second));
        status.conditions[0].last_transition_time.0
    };
    assert_eq!(time_of(&syncing, 1), at(1));
    assert_eq!(time_of(&syncing, 9), at(1));
    assert_eq!(time_of(&Snapshot::default(), 20), at(20));
    assert_eq!(time_of(&Snapshot::default(), 99), at(20));
}

#[test]
fn counts_and_times_alone_are_no_change_of_state() {
    let snapshot =
        Snapshot { standings: Arc::new(vec![standing(1, TraceState::Tracing)]), ..Snapshot::default() };
    let mut more = standing(1, TraceState::Tracing);
    more.pods = 9;
    let later = Snapshot { standings: Arc::new(vec![more]), ..Snapshot::default() };
    let mut since = ReadySince::default();
    let first = essence(&status(&facts(), &snapshot, None, &mut since, at(1)));
    assert_eq!(first, essence(&status(&facts(), &later, None, &mut since, at(60))));
    let waits =
        Snapshot { standings: Arc::new(vec![standing(1, TraceState::Waiting)]), ..Snapshot::default() };
    assert_ne!(first, essence(&status(&facts(), &waits, None, &mut since, at(60))));
}

#[test]
fn nothing_in_a_report_is_an_empty_text() {
    let mut blank = standing(1, TraceState::Waiting);
    (blank.field, blank.message) = (Some(String::new()), Some(String::new()));
    let nothing = NodeFacts { started: at(0), ..NodeFacts::default() };
    let snapshot = Snapshot { standings: Arc::new(vec![blank]), ..Snapshot::default() };
    let status = status(&nothing, &snapshot, None, &mut ReadySince::default(), at(1));
    let text = serde_json::to_string(&status).unwrap();
    assert!(!text.contains("\"\""), "{text}");
    assert!(!text.contains("null"), "{text}");
}

#[test]
fn long_texts_are_cut_to_what_the_schema_allows() {
    let mut long = standing(1, TraceState::Waiting);
    long.message = Some("é".repeat(600));
    let status = report(vec![long]);
    let message = status.traces[0].message.as_deref().unwrap();
    assert_eq!(message.chars().count(), 512);
    assert!(message.ends_with('…'));
}

#[test]
fn a_trace_that_gets_no_names_it_asks_for_says_why() {
    let asking = TraceStanding { peer_names: true, ..standing(0, TraceState::Tracing) };
    let waits = TraceStanding { peer_names: true, ..standing(2, TraceState::Waiting) };
    let standings = Arc::new(vec![asking, standing(1, TraceState::Tracing), waits]);
    let snapshot = Snapshot { standings, nameless: Some("why".to_owned()), ..Snapshot::default() };
    let status = status(&facts(), &snapshot, None, &mut ReadySince::default(), at(5));
    let messages: Vec<_> = status.traces.iter().map(|trace| trace.message.as_deref()).collect();
    assert_eq!(messages, [Some("why"), None, Some("it selects no pod of this node")]);
    assert_eq!(status.traces[0].state, TraceState::Tracing);
}
