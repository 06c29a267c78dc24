use serde_json::json;

use super::*;
use crate::standing::tests::{NOW, node};

fn facts(spec: &Value) -> Facts {
    Facts {
        name: TraceName { namespace: Some("shop".to_owned()), name: "t".to_owned() },
        object: json!({
            "apiVersion": "tcpstates.dev/v1alpha1", "kind": "TcpStateTrace",
            "metadata": {"name": "t", "namespace": "shop", "uid": "u", "creationTimestamp": "2026-11-27T11:50:00Z"},
            "spec": spec,
        }),
        pods: Pods::These(vec![
            Pod { name: "a-0".to_owned(), node: Some("node-a".to_owned()) },
            Pod { name: "a-1".to_owned(), node: Some("node-b".to_owned()) },
        ]),
        nodes: Some(Vec::new()),
        readable: Ok("here"),
        now: NOW.parse().unwrap(),
    }
}

fn on(state: &str, message: Option<&str>, events: u64) -> Value {
    json!([{"uid": "u", "name": "t", "namespace": "shop", "generation": 1, "state": state, "message": message,
        "counts": {"events": events, "lost": 2, "limited": 3}}])
}

#[test]
fn a_trace_that_works_says_where_and_how_much() {
    let mut facts = facts(&json!({"podSelector": {"matchLabels": {"app": "a"}}, "ttl": "15m"}));
    facts.nodes =
        Some(vec![node("node-a", &on("Tracing", None, 4)), node("node-b", &on("Tracing", None, 3))]);
    assert_eq!(
        explain(&facts),
        [
            "It ends at 12:05:00 UTC.",
            "It selects pods with app=a of the namespace shop: 2 pods, on 2 nodes.",
            "It is attached on node-a, node-b.",
            "7 transitions so far, as the agents report once a minute.",
            "6 lines left out by rate limits: narrow the trace, or raise spec.rateLimit.",
            "4 transitions lost: see kubectl tcpstates status.",
        ]
    );
}

#[test]
fn each_reason_for_no_lines_is_a_sentence() {
    let says = |facts: &Facts, part: &str| {
        let sentences = explain(facts);
        assert!(sentences.iter().any(|sentence| sentence.contains(part)), "{part}: {sentences:?}");
    };
    let everything = json!({"podSelector": {}});
    says(&facts(&json!({"podSelector": {}, "ttl": "5m"})), "It is over: its ttl of 5m ended 5 min ago.");
    says(&facts(&json!({"podSelector": {}, "outcomes": ["refused"]})), "The agents refuse it: spec.outcomes");
    says(&facts(&everything), "node-a: runs a selected pod, and no agent reports from there");

    let mut none = facts(&everything);
    none.pods = Pods::These(Vec::new());
    assert!(!explain(&none).concat().contains("No transition so far"));
    says(&none, "It selects every pod of the namespace shop, and there is none");

    let mut blind = facts(&everything);
    blind.nodes = None;
    blind.readable = Err("the lines cannot be read: ask".to_owned());
    says(&blind, "you may not list tcpstatenodes");
    says(&blind, "the lines cannot be read: ask");

    let mut waiting = facts(&everything);
    waiting.nodes = Some(vec![
        node("node-a", &on("Waiting", Some("64 traces that come before it are active here"), 0)),
        node("node-b", &json!([])),
    ]);
    says(&waiting, "node-a: Waiting: 64 traces that come before it are active here.");
    says(&waiting, "node-b: runs a selected pod, and its agent has not told of the trace yet.");

    let mut quiet = facts(&everything);
    quiet.nodes = Some(vec![node("node-a", &on("Tracing", None, 0))]);
    says(&quiet, "No transition so far");
    quiet.now = "2026-11-27T12:10:00Z".parse().unwrap();
    says(&quiet, "node-a: its agent has not reported for 10 min.");

    let mut refused = facts(&everything);
    refused.object["status"] = json!({"conditions": [{"type": "Ready", "status": "False", "reason": "AgentsUnavailable",
        "message": "no agent reports", "lastTransitionTime": NOW}]});
    says(&refused, "Its status says Ready=False: no agent reports.");
}

#[test]
fn what_is_wrong_with_the_fleet_is_said_node_by_node() {
    let mut nodes = vec![
        node("node-a", &on("Refused", Some("spec.ttl: no"), 0)),
        node("node-b", &json!([])),
        node("node-c", &json!([])),
    ];
    let status = nodes[1].status.as_mut().unwrap();
    status.conditions[0].status = ConditionStatus::False;
    status.conditions[0].message = "missing: CAP_BPF".to_owned();
    status.preflight = serde_json::from_value(
        json!([{"name": "btf", "ok": true}, {"name": "CAP_BPF", "ok": false, "detail": "add it"}]),
    )
    .unwrap();
    nodes[2].status = None;
    // It is ready without this.
    nodes[0].status.as_mut().unwrap().preflight =
        serde_json::from_value(json!([{"name": "journal", "ok": false}])).unwrap();
    let all = ["node-a", "node-b", "node-c", "node-d"].map(str::to_owned);
    assert_eq!(
        fleet(&nodes, &all, NOW.parse().unwrap()),
        [
            "no agent reports from node-d",
            "node-a: shop/t: Refused: spec.ttl: no",
            "node-b: not ready: missing: CAP_BPF",
            "node-b: CAP_BPF: add it",
            "node-c: has not reported anything yet",
        ]
    );
    assert!(fleet(&[node("a", &json!([]))], &["a".to_owned()], NOW.parse().unwrap()).is_empty());
}
