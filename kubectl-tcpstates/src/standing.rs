//! How a trace does, from what the agents report of their nodes and what the operator has summed up. Pure.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use kube_tcpstates_crds::node::{TcpStateNode, TraceState};
use kube_tcpstates_crds::status::ConditionStatus;
use kube_tcpstates_crds::{Condition, TcpStateTrace, TraceStatus};

/// An agent that has traces and has not reported for so long does not trace, as far as anybody can know.
const SILENT_AFTER: SignedDuration = SignedDuration::from_mins(3);
/// One that has none reports less often.
const SILENT_AFTER_IDLE: SignedDuration = SignedDuration::from_mins(15);

/// On how many nodes a trace is attached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attachment {
    /// Nodes where it is.
    pub(crate) tracing: usize,
    /// Nodes where it should be.
    pub(crate) of: usize,
    /// Where it is not going to be, and why.
    pub(crate) troubles: Vec<String>,
    /// Why an agent does not take it at all, in the agent's words.
    pub(crate) refused: Option<String>,
}

impl Attachment {
    /// Nothing more is to be waited for.
    pub(crate) fn is_complete(&self) -> bool {
        self.tracing >= self.of
    }

    /// For people who wait. So many nodes are known to trace by themselves.
    pub(crate) fn sentence(&self, known: usize) -> String {
        let nodes = if self.of == 1 { "node" } else { "nodes" };
        format!("attached on {} of {} {nodes}", self.tracing.max(known.min(self.of)), self.of)
    }
}

/// From the reports. `expected` are the nodes with a pod that the trace selects.
pub(crate) fn of_nodes(uid: &str, expected: &BTreeSet<String>, nodes: &[TcpStateNode]) -> Attachment {
    let mut attachment = Attachment { of: expected.len(), ..Attachment::default() };
    for name in expected {
        let node = nodes.iter().find(|node| name_of(node) == name);
        let Some(status) = node.and_then(|node| node.status.as_ref()) else {
            attachment.troubles.push(format!("{name}: no agent reports from there"));
            continue;
        };
        let Some(trace) = status.traces.iter().find(|trace| trace.uid == uid) else { continue };
        match trace.state {
            TraceState::Tracing => attachment.tracing += 1,
            TraceState::Idle => {}
            state => {
                let why = trace.message.clone().or_else(|| trace.reason.clone());
                let why = why.unwrap_or_else(|| format!("{state:?}"));
                if state == TraceState::Refused {
                    attachment.refused = Some(why.clone());
                }
                attachment.troubles.push(format!("{name}: {why}"));
            }
        }
    }
    attachment
}

/// From the trace's own status, if the operator has written it.
pub(crate) fn of_status(trace: &TcpStateTrace) -> Option<Attachment> {
    let status = trace.status.as_ref()?;
    let nodes = status.nodes.as_ref()?;
    let failing = status.failing_nodes.iter();
    let troubles = failing.map(|node| {
        format!("{}: {}", node.node, if node.message.is_empty() { &node.reason } else { &node.message })
    });
    let uncovered = status.uncovered_nodes.iter().map(|node| format!("{node}: no agent reports from there"));
    Some(Attachment {
        tracing: to_size(nodes.tracing),
        of: to_size(nodes.selected),
        troubles: troubles.chain(uncovered).collect(),
        refused: refusal(status),
    })
}

fn to_size(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Why the operator does not accept the trace, in its words.
fn refusal(status: &TraceStatus) -> Option<String> {
    let accepted = condition(status, "Accepted").filter(|it| it.status == ConditionStatus::False)?;
    Some(words(accepted))
}

/// A condition of the status.
pub(crate) fn condition<'a>(status: &'a TraceStatus, kind: &str) -> Option<&'a Condition> {
    status.conditions.iter().find(|condition| condition.type_ == kind)
}

/// Why, for people, or in one word.
pub(crate) fn words(condition: &Condition) -> String {
    if condition.message.is_empty() { condition.reason.clone() } else { condition.message.clone() }
}

/// The name of a node.
pub(crate) fn name_of(node: &TcpStateNode) -> &str {
    node.metadata.name.as_deref().unwrap_or_default()
}

/// How long an agent has been silent, if it is too long.
pub(crate) fn silent_for(node: &TcpStateNode, now: Timestamp) -> Option<SignedDuration> {
    let status = node.status.as_ref()?;
    let silent = now.duration_since(status.last_report_time.as_ref()?.0);
    let is_idle = status.traces_loaded.unwrap_or(0) == 0;
    (silent > if is_idle { SILENT_AFTER_IDLE } else { SILENT_AFTER }).then_some(silent)
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::{Value, json};

    use super::*;

    pub(crate) const NOW: &str = "2026-11-27T12:00:00Z";

    /// A node whose agent reports these traces.
    pub(crate) fn node(name: &str, traces: &Value) -> TcpStateNode {
        serde_json::from_value(json!({
            "apiVersion": "tcpstates.dev/v1alpha1", "kind": "TcpStateNode", "metadata": {"name": name},
            "status": {
                "version": "0.1.0", "kernel": "6.12.57", "hook": "tp_btf", "lastReportTime": "2026-11-27T11:59:20Z",
                "conditions": [{"type": "Ready", "status": "True", "reason": "Ready", "lastTransitionTime": NOW}],
                "tracesLoaded": 1, "counts": {"events": 1234, "lost": 0, "limited": 7}, "traces": traces,
            },
        }))
        .unwrap()
    }

    fn trace(state: &str, message: Option<&str>) -> Value {
        json!([{"uid": "u", "name": "t", "namespace": "shop", "generation": 1, "state": state, "message": message}])
    }

    #[test]
    fn the_nodes_with_a_selected_pod_are_waited_for_and_no_others() {
        let nodes = [
            node("a", &trace("Tracing", None)),
            node("b", &trace("Waiting", Some("64 traces that come before it are active here"))),
            node("c", &json!([])),
            node("d", &trace("Tracing", None)),
        ];
        let expected = ["a", "b", "c", "gone"].map(str::to_owned).into();
        let attachment = of_nodes("u", &expected, &nodes);
        assert_eq!(attachment.sentence(0), "attached on 1 of 4 nodes");
        assert!(!attachment.is_complete());
        assert_eq!(
            attachment.troubles,
            ["b: 64 traces that come before it are active here", "gone: no agent reports from there"]
        );
        let attachment = of_nodes("u", &["a".to_owned()].into(), &nodes);
        assert_eq!(attachment.sentence(0), "attached on 1 of 1 node");
        assert!(attachment.is_complete());
        assert_eq!(of_nodes("other", &["a".to_owned()].into(), &nodes).tracing, 0);
    }

    #[test]
    fn what_the_operator_says_counts_where_it_says_anything() {
        let mut object = json!({
            "apiVersion": "tcpstates.dev/v1alpha1", "kind": "TcpStateTrace", "metadata": {"name": "t"},
            "spec": {"podSelector": {}},
        });
        let of = |object: &Value| of_status(&serde_json::from_value(object.clone()).unwrap());
        assert_eq!(of(&object), None);
        object["status"] = json!({
            "nodes": {"summary": "3/5", "selected": 5, "tracing": 3, "failing": 1, "unknown": 0, "uncovered": 1},
            "failingNodes": [{"node": "b", "reason": "SlotsExhausted"}], "uncoveredNodes": ["c"],
            "conditions": [{"type": "Accepted", "status": "False", "reason": "InvalidSpec", "message": "spec.ttl: no",
                "lastTransitionTime": NOW}],
        });
        let attachment = of(&object).unwrap();
        let known = [0, 4, 6].map(|known| attachment.sentence(known));
        assert_eq!(known, [3, 4, 5].map(|tracing| format!("attached on {tracing} of 5 nodes")));
        assert_eq!(attachment.troubles, ["b: SlotsExhausted", "c: no agent reports from there"]);
        assert_eq!(attachment.refused.as_deref(), Some("spec.ttl: no"));
    }

    #[test]
    fn an_agent_is_silent_after_three_minutes_and_an_idle_one_after_fifteen() {
        let busy = node("a", &json!([]));
        let mut idle = busy.clone();
        idle.status.as_mut().unwrap().traces_loaded = Some(0);
        let at = |node: &TcpStateNode, time: &str| silent_for(node, time.parse().unwrap());
        assert_eq!(at(&busy, NOW), None);
        assert_eq!(at(&busy, "2026-11-27T12:03:20Z"), Some(SignedDuration::from_mins(4)));
        assert_eq!(at(&idle, "2026-11-27T12:03:20Z"), None);
        assert_eq!(at(&idle, "2026-11-27T12:19:20Z"), Some(SignedDuration::from_mins(20)));
    }
}
