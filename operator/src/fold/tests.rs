//! The status of traces, from reports as agents write them.

use std::time::Duration;

use jiff::Timestamp;
use kube_tcpstates_client::Delta;
use kube_tcpstates_crds::status::Counts;
use kube_tcpstates_crds::{TraceKind, TraceStatus};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Change, Fleet, NodeObject, Now, Report, Trace, TraceKey};

const MADE: &str = "2026-11-22T15:00:00Z";

/// A fleet with its clocks.
struct Scene {
    fleet: Fleet,
    now: Now,
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn object(name: &str, generation: i64, spec: &Value) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"), "generation": generation,
            "creationTimestamp": MADE, "resourceVersion": "100"},
        "spec": spec,
    })
}

fn trace(name: &str, generation: i64, spec: &Value) -> Trace {
    Trace::from_api(TraceKind::Namespaced, &object(name, generation, spec)).unwrap()
}

fn key(name: &str) -> TraceKey {
    TraceKey { namespace: Some("shop".to_owned()), name: name.to_owned() }
}

/// A report with these traces, each of name, generation, state and reason, one pod and ten transitions.
fn report(node: &str, written: &str, traces: &[(&str, i64, &str, &str)]) -> Value {
    let entry = |(name, generation, state, reason): &(&str, i64, &str, &str)| {
        let pods = u32::from(*state != "Idle");
        json!({"uid": format!("uid-{name}"), "namespace": "shop", "name": name, "generation": generation,
            "state": state, "reason": reason, "message": format!("because of {reason}"), "pods": pods,
            "counts": {"events": 10, "lost": 0, "limited": 0}})
    };
    let loaded = traces.iter().filter(|trace| trace.2 == "Tracing").count();
    json!({
        "metadata": {"name": node},
        "status": {"startTime": MADE, "lastReportTime": written, "tracesLoaded": loaded,
            "conditions": [{"type": "Ready", "status": "True", "reason": "Ready"}],
            "traces": traces.iter().map(entry).collect::<Vec<_>>()},
    })
}

impl Scene {
    /// These nodes, the trace `a` of this spec, and reports that are there already.
    fn new(nodes: &[&str], spec: &Value, reports: &[Value]) -> Self {
        let now = Now { clock: Instant::now(), wall: time(MADE) };
        let mut scene = Self { fleet: Fleet::default(), now };
        let nodes = nodes.iter().map(|name| node(name, &[]));
        scene.take(Change::Nodes(Delta::Listed(nodes.collect())));
        let reports = reports.iter().map(|report| Report::from_api(report).unwrap());
        scene.take(Change::Reports(Delta::Listed(reports.collect())));
        scene.take(Change::Traces(TraceKind::Cluster, Delta::Listed(Vec::new())));
        scene.take(Change::Traces(TraceKind::Namespaced, Delta::Listed(vec![trace("a", 1, spec)])));
        scene
    }

    fn take(&mut self, change: Change) {
        self.fleet.take(change, self.now);
    }

    fn hear(&mut self, report: &Value) {
        self.take(Change::Reports(Delta::Applied(Report::from_api(report).unwrap())));
    }

    fn pass(&mut self, seconds: u64) {
        let passed = Duration::from_secs(seconds);
        self.now = Now { clock: self.now.clock + passed, wall: self.now.wall + passed };
    }

    fn status(&mut self) -> TraceStatus {
        self.fleet.wanted(&key("a"), self.now).unwrap()
    }

    /// Status and reason of Ready, and the nodes.
    fn ready(&mut self) -> (String, String) {
        let status = self.status();
        let ready = &status.conditions[1];
        let nodes = status.nodes.map(|nodes| nodes.summary).unwrap_or_default();
        (format!("{:?} {} {nodes}", ready.status, ready.reason), ready.message.clone())
    }

    /// As if it had been written, and names of all that may have changed.
    fn write(&mut self) -> TraceStatus {
        let status = self.status();
        self.fleet.written(&key("a"), "uid-a", status.clone());
        status
    }

    fn changed(&mut self) -> Vec<String> {
        let (keys, _) = self.fleet.changed(self.now);
        keys.into_iter().map(|key| key.name).collect()
    }
}

fn node(name: &str, labels: &[(&str, &str)]) -> NodeObject {
    let label = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    NodeObject { name: name.to_owned(), labels: labels.iter().map(label).collect() }
}

fn all() -> Value {
    json!({"podSelector": {}})
}

#[test]
fn what_nodes_say_makes_the_condition() {
    const TRACING: (&str, i64, &str, &str) = ("a", 1, "Tracing", "");
    const IDLE: (&str, i64, &str, &str) = ("a", 1, "Idle", "NoMatchingPods");
    const FULL: (&str, i64, &str, &str) = ("a", 1, "Waiting", "SlotsExhausted");
    const QUOTA: (&str, i64, &str, &str) = ("a", 1, "Waiting", "NamespaceQuota");
    const FAILED: (&str, i64, &str, &str) = ("a", 1, "Failed", "LoadFailed");
    const TOO_NEW: (&str, i64, &str, &str) = ("a", 1, "Refused", "UnsupportedByAgent");
    const NEWER: (&str, i64, &str, &str) = ("a", 1, "Dreaming", "OfElectricSheep");
    const OLD: (&str, i64, &str, &str) = ("a", 0, "Tracing", "");
    for (first, second, expected, message) in [
        (TRACING, TRACING, "True Tracing 2/2", ""),
        (TRACING, IDLE, "True Tracing 1/1", ""),
        (TRACING, OLD, "True Tracing 1/1", ""),
        (IDLE, IDLE, "False NoMatchingPods 0/0", "it selects no pod that runs on any node"),
        (IDLE, OLD, "Unknown Pending 0/0", "not every agent has told yet"),
        (FULL, FULL, "False SlotsExhausted 0/2", "no node traces it; SlotsExhausted on n1, n2"),
        (IDLE, QUOTA, "False NamespaceQuota 0/1", "no node traces it; NamespaceQuota on n2"),
        (FULL, QUOTA, "False Degraded 0/2", "no node traces it; NamespaceQuota, SlotsExhausted on n1, n2"),
        (TRACING, FULL, "False Degraded 1/2", "SlotsExhausted on n2"),
        (TRACING, FAILED, "False Degraded 1/2", "LoadFailed on n2"),
        (TOO_NEW, TOO_NEW, "False Degraded 0/2", "no node traces it; UnsupportedByAgent on n1, n2"),
        (TRACING, NEWER, "False Degraded 1/2", "OfElectricSheep on n2"),
    ] {
        let mut scene = Scene::new(&["n1", "n2"], &all(), &[]);
        scene.hear(&report("n1", MADE, &[first]));
        scene.hear(&report("n2", MADE, &[second]));
        let got = scene.ready();
        assert_eq!((got.0.as_str(), got.1.as_str()), (expected, message), "{first:?} {second:?}");
    }
}

#[test]
fn a_failing_node_is_named_with_reason_and_message_and_of_many_the_first_ten() {
    let names: Vec<_> = (0..14).map(|number| format!("n{number:02}")).collect();
    let mut scene = Scene::new(&names.iter().map(String::as_str).collect::<Vec<_>>(), &all(), &[]);
    for name in names.iter().rev() {
        scene.hear(&report(name, MADE, &[("a", 1, "Waiting", "SlotsExhausted")]));
    }
    let status = scene.status();
    assert_eq!(status.nodes.unwrap().failing, 14);
    let failing: Vec<_> = status.failing_nodes.iter().map(|failing| failing.node.as_str()).collect();
    assert_eq!(failing, names[..10]);
    assert_eq!(status.failing_nodes[0].reason, "SlotsExhausted");
    assert_eq!(status.failing_nodes[0].message, "because of SlotsExhausted");
    assert_eq!(scene.ready().1, "no node traces it; SlotsExhausted on n00, n01, n02 and 11 more");
}

#[test]
fn a_spec_that_cannot_be_traced_is_told_in_the_words_of_the_check() {
    let spec = json!({"podSelector": {}, "localPorts": [{"port": 9, "endPort": 8}]});
    let words = kube_tcpstates_crds::validate::check_spec(TraceKind::Namespaced, Some(&spec))
        .unwrap_err()
        .to_string();
    assert!(words.contains("spec.localPorts[0].endPort"), "{words}");
    let mut scene = Scene::new(&["n1"], &spec, &[]);
    let status = scene.status();
    let conditions: Vec<_> = status
        .conditions
        .iter()
        .map(|condition| {
            format!("{}={:?} {}: {}", condition.type_, condition.status, condition.reason, condition.message)
        })
        .collect();
    assert_eq!(
        conditions,
        [
            format!("Accepted=False InvalidSpec: {words}"),
            "Ready=False InvalidSpec: it is not accepted".to_owned()
        ]
    );
    assert_eq!((status.nodes.unwrap().summary, status.observed_generation), ("0/0".to_owned(), Some(1)));
    assert_eq!((status.pods, status.counts), (Some(0), Some(Counts::default())), "as when it was accepted");

    let unknown = json!({"podSelector": {}, "onlyTls": true});
    let status = Scene::new(&["n1"], &unknown, &[]).status();
    assert_eq!(status.conditions[0].reason, "UnsupportedByAgent");
}

#[test]
fn of_too_many_traces_the_youngest_are_refused_until_there_is_room() {
    let mut scene = Scene::new(&["n1"], &all(), &[]);
    for number in 0..4096 {
        scene.take(Change::Traces(
            TraceKind::Namespaced,
            Delta::Applied(trace(&format!("b{number:04}"), 1, &all())),
        ));
    }
    // All are of the same second: names decide.
    scene.changed();
    let reason = |scene: &mut Scene, name: &str| {
        scene.fleet.wanted(&key(name), scene.now).unwrap().conditions[0].reason.clone()
    };
    assert_eq!((reason(&mut scene, "a"), reason(&mut scene, "b4094")), ("Valid".into(), "Valid".into()));
    assert_eq!(reason(&mut scene, "b4095"), "TooMany");
    scene.take(Change::Traces(TraceKind::Namespaced, Delta::Deleted(trace("b0007", 1, &all()))));
    assert!(scene.changed().contains(&"b4095".to_owned()));
    assert_eq!(reason(&mut scene, "b4095"), "Valid");
}

#[test]
fn no_pod_matches_only_when_every_agent_that_could_have_one_has_spoken_since() {
    let mut scene = Scene::new(&["n1", "n2"], &all(), &[]);
    assert_eq!(scene.ready().0, "Unknown Pending 0/0");
    scene.pass(6);
    scene.hear(&report("n1", "2026-11-22T15:00:06Z", &[]));
    assert_eq!(scene.ready().0, "Unknown Pending 0/0", "n2 has not spoken");
    scene.hear(&report("n2", "2026-11-22T15:00:06Z", &[]));
    assert_eq!(scene.ready().0, "False NoMatchingPods 0/0");

    // What was reported a moment after it was made may not know it yet; nor may one that leaves things out.
    let mut scene = Scene::new(&["n1"], &all(), &[]);
    scene.pass(4);
    scene.hear(&report("n1", "2026-11-22T15:00:04Z", &[]));
    assert_eq!(scene.ready().0, "Unknown Pending 0/0");
    scene.pass(10);
    let mut partial = report("n1", "2026-11-22T15:00:14Z", &[]);
    partial["status"]["tracesOmitted"] = json!(3);
    scene.hear(&partial);
    assert_eq!(scene.ready().0, "Unknown Pending 0/0");
    partial["status"]["tracesOmitted"] = json!(0);
    partial["status"]["lastReportTime"] = json!("2026-11-22T15:00:24Z");
    partial["status"]["conditions"][0]["reason"] = json!("Syncing");
    scene.hear(&partial);
    assert_eq!(scene.ready().0, "Unknown Pending 0/0");
}

#[test]
fn an_agent_that_says_how_far_it_has_seen_is_taken_at_its_word() {
    for (observed, expected) in [("99", "Unknown Pending 0/0"), ("100", "False NoMatchingPods 0/0")] {
        let mut scene = Scene::new(&["n1"], &all(), &[]);
        scene.pass(60);
        let mut told = report("n1", "2026-11-22T15:01:00Z", &[]);
        told["status"]["observed"] = json!({"traces": observed, "clusterTraces": "9999"});
        scene.hear(&told);
        assert_eq!(scene.ready().0, expected, "{observed}");
    }
}

#[test]
fn a_report_that_was_there_before_the_operator_is_as_old_as_it_says() {
    for (written, expected) in [
        ("2026-11-22T15:00:29Z", "Unknown Pending 0/0"),
        ("2026-11-22T15:00:30Z", "False NoMatchingPods 0/0"),
    ] {
        let mut scene = Scene::new(&["n1"], &all(), &[report("n1", written, &[])]);
        assert_eq!(scene.ready().0, expected, "{written}");
    }
}

#[test]
fn another_operator_takes_nothing_back_because_it_has_not_heard_yet() {
    let mut scene = Scene::new(&["n1"], &all(), &[report("n1", MADE, &[])]);
    scene.hear(&report("n1", "2026-11-22T15:00:01Z", &[("a", 1, "Idle", "NoMatchingPods")]));
    let said = scene.write();
    let mut later = Scene::new(&["n1"], &all(), &[report("n1", MADE, &[])]);
    let mut told = trace("a", 1, &all());
    told.status = said;
    later.take(Change::Traces(TraceKind::Namespaced, Delta::Applied(told.clone())));
    assert_eq!(later.ready().0, "False NoMatchingPods 0/0");
    told.generation = 2;
    later.take(Change::Traces(TraceKind::Namespaced, Delta::Applied(told)));
    assert_eq!(later.ready().0, "Unknown Pending 0/0", "of another spec nothing was said");
}

#[test]
fn who_traces_is_missed_after_three_minutes_and_who_is_idle_after_fifteen() {
    let mut scene = Scene::new(&["n1", "n2"], &all(), &[]);
    scene.hear(&report("n1", MADE, &[("a", 1, "Tracing", "")]));
    scene.hear(&report("n2", MADE, &[("a", 1, "Idle", "NoMatchingPods")]));
    scene.changed();
    scene.pass(179);
    assert_eq!(scene.ready().0, "True Tracing 1/1");
    // A relist tells what is known already: nobody is younger for that.
    scene.hear(&report("n1", MADE, &[("a", 1, "Tracing", "")]));
    scene.pass(1);
    assert_eq!(scene.changed(), ["a"]);
    assert_eq!(
        scene.ready(),
        ("Unknown AgentsUnavailable 0/1".to_owned(), "no agent reports from n1".to_owned())
    );
    scene.hear(&report("n1", "2026-11-22T15:03:00Z", &[("a", 1, "Tracing", "")]));
    assert_eq!(scene.ready().0, "True Tracing 1/1");
    scene.hear(&report("n1", "2026-11-22T15:03:01Z", &[("a", 1, "Idle", "NoMatchingPods")]));
    assert_eq!(scene.ready().0, "False NoMatchingPods 0/0");
    scene.pass(15 * 60);
    assert_eq!(scene.ready().0, "Unknown AgentsUnavailable 0/0");
    assert_eq!(scene.ready().1, "no agent reports from n1, n2");
}

#[test]
fn without_any_agent_nothing_is_known_and_one_node_without_is_named() {
    let mut scene = Scene::new(&["n1", "n2"], &all(), &[]);
    assert_eq!(scene.ready().0, "Unknown Pending 0/0", "they may be starting");
    scene.changed();
    scene.pass(180);
    assert_eq!(scene.changed(), ["a"]);
    assert_eq!(scene.changed(), [""; 0], "that is said once");
    assert_eq!(
        scene.ready(),
        ("Unknown AgentsUnavailable 0/0".to_owned(), "no agent reports from n1, n2".to_owned())
    );
    scene.hear(&report("n1", "2026-11-22T15:03:00Z", &[("a", 1, "Tracing", "")]));
    let status = scene.status();
    assert_eq!(scene.ready().0, "True Tracing 1/1");
    assert_eq!((status.nodes.unwrap().uncovered, status.uncovered_nodes), (1, vec!["n2".to_owned()]));
}

#[test]
fn nodes_that_are_not_asked_or_cannot_have_an_agent_do_not_count() {
    let spec = json!({"podSelector": {}, "nodeSelector": {"tier": "db"}});
    let mut scene = Scene::new(&["n1"], &spec, &[]);
    scene.hear(&report("n1", MADE, &[("a", 1, "Tracing", "")]));
    let message = "nodeSelector selects no node that can have an agent";
    assert_eq!(scene.ready(), ("False NoMatchingNodes 0/0".to_owned(), message.to_owned()));
    scene.take(Change::Nodes(Delta::Applied(node("n1", &[("tier", "db")]))));
    assert_eq!(scene.ready().0, "True Tracing 1/1");
    for other in [
        ("kubernetes.io/os", "windows"),
        ("eks.amazonaws.com/compute-type", "fargate"),
        ("type", "virtual-kubelet"),
    ] {
        scene.take(Change::Nodes(Delta::Applied(node("n2", &[("tier", "db"), other]))));
        scene.pass(200);
        scene.hear(&report("n1", &scene.now.wall.to_string(), &[("a", 1, "Tracing", "")]));
        assert_eq!(scene.status().nodes.unwrap().uncovered, 0, "{other:?}");
    }
}

#[test]
fn a_report_of_a_node_that_is_not_there_says_nothing() {
    let mut scene = Scene::new(&["n1"], &all(), &[]);
    scene.hear(&report("n1", MADE, &[("a", 1, "Tracing", "")]));
    scene.hear(&report("forged", MADE, &[("a", 1, "Failed", "LoadFailed")]));
    assert_eq!(scene.ready().0, "True Tracing 1/1");
    scene.take(Change::Nodes(Delta::Deleted(node("n1", &[]))));
    assert_eq!(scene.ready().0, "False NoMatchingNodes 0/0");
}

#[test]
fn a_ttl_is_over_when_it_is_over_whatever_agents_say() {
    let spec = json!({"podSelector": {}, "ttl": "10m"});
    let mut scene = Scene::new(&["n1"], &spec, &[]);
    scene.hear(&report("n1", MADE, &[("a", 1, "Tracing", "")]));
    assert_eq!(scene.status().expires_at.unwrap().0, time("2026-11-22T15:10:00Z"));
    let (_, next) = scene.fleet.changed(scene.now);
    assert!(next.unwrap() <= scene.now.clock + Duration::from_mins(10));
    scene.pass(599);
    scene.hear(&report("n1", "2026-11-22T15:09:59Z", &[("a", 1, "Tracing", "")]));
    assert_eq!(scene.ready().0, "True Tracing 1/1");
    scene.changed();
    scene.pass(1);
    assert_eq!(scene.changed(), ["a"]);
    assert_eq!(
        scene.ready(),
        ("False Expired 1/1".to_owned(), "its ttl was over at 2026-11-22T15:10:00Z".to_owned())
    );
    scene.write();
    scene.changed();
    assert_eq!(scene.changed(), [""; 0], "that is said once");
}

#[test]
fn the_time_of_a_condition_is_that_of_its_status() {
    let mut scene = Scene::new(&["n1"], &all(), &[]);
    let first = scene.write();
    scene.pass(10);
    scene.hear(&report("n1", MADE, &[("a", 1, "Waiting", "SlotsExhausted")]));
    let second = scene.write();
    scene.pass(10);
    scene.hear(&report("n1", "2026-11-22T15:00:20Z", &[("a", 1, "Waiting", "NamespaceQuota")]));
    let third = scene.write();
    let time_of = |status: &TraceStatus, number: usize| status.conditions[number].last_transition_time.0;
    assert_eq!(time_of(&first, 0), time_of(&third, 0), "it was accepted all the time");
    assert_eq!(time_of(&second, 1), time("2026-11-22T15:00:10Z"));
    assert_eq!(time_of(&third, 1), time_of(&second, 1), "it is not ready for another reason");
}

#[test]
fn counts_are_of_the_trace_and_survive_agents_nodes_and_operators() {
    let events = |scene: &mut Scene| scene.status().counts.unwrap().events;
    let mut scene = Scene::new(&["n1", "n2"], &all(), &[]);
    scene.hear(&report("n1", MADE, &[("a", 1, "Tracing", ""), ("other", 1, "Tracing", "")]));
    scene.hear(&report("n2", MADE, &[("a", 1, "Tracing", "")]));
    assert_eq!((events(&mut scene), scene.status().pods), (20, Some(2)));
    let mut again = report("n1", "2026-11-22T15:00:09Z", &[("a", 1, "Tracing", "")]);
    again["status"]["startTime"] = json!("2026-11-22T15:00:08Z");
    scene.hear(&again);
    assert_eq!(events(&mut scene), 30);
    scene.take(Change::Nodes(Delta::Deleted(node("n2", &[]))));
    scene.take(Change::Reports(Delta::Deleted(Report::from_api(&report("n2", MADE, &[])).unwrap())));
    assert_eq!(events(&mut scene), 30);
    let mut told = trace("a", 1, &all());
    told.status.counts = Some(Counts { events: 70, ..Counts::default() });
    scene.take(Change::Traces(TraceKind::Namespaced, Delta::Applied(told)));
    assert_eq!(events(&mut scene), 70);
    scene.take(Change::Traces(TraceKind::Namespaced, Delta::Listed(Vec::new())));
    assert!(scene.fleet.wanted(&key("a"), scene.now).is_none());
    let mut anew = trace("a", 1, &all());
    anew.uid = "another".to_owned();
    scene.take(Change::Traces(TraceKind::Namespaced, Delta::Applied(anew)));
    assert_eq!(events(&mut scene), 0, "another trace of the same name");
}

#[test]
fn nothing_is_said_before_every_list_has_come() {
    let mut fleet = Fleet::default();
    let now = Now { clock: Instant::now(), wall: time(MADE) };
    let lists = [
        Change::Traces(TraceKind::Namespaced, Delta::Listed(vec![trace("a", 1, &all())])),
        Change::Traces(TraceKind::Cluster, Delta::Listed(Vec::new())),
        Change::Nodes(Delta::Listed(Vec::new())),
        Change::Reports(Delta::Listed(Vec::new())),
    ];
    for list in lists {
        assert_eq!(fleet.changed(now), (Vec::new(), None));
        fleet.take(list, now);
    }
    assert_eq!(fleet.changed(now).0, [key("a")]);
}

#[test]
fn only_the_traces_that_a_report_is_about_are_looked_at_again() {
    let mut scene = Scene::new(&["n1"], &all(), &[]);
    scene.take(Change::Traces(TraceKind::Namespaced, Delta::Applied(trace("b", 1, &all()))));
    let both = [("a", 1, "Tracing", ""), ("b", 1, "Tracing", "")];
    scene.hear(&report("n1", MADE, &both));
    for name in scene.changed() {
        scene.fleet.wanted(&key(&name), scene.now);
    }
    scene.pass(10);
    scene.hear(&report("n1", "2026-11-22T15:00:10Z", &both[1..]));
    let mut changed = scene.changed();
    changed.sort();
    assert_eq!(changed, ["a", "b"], "of those that it lists no longer, too");
    scene.status();
    scene.fleet.wanted(&key("b"), scene.now);
    scene.hear(&report("n1", "2026-11-22T15:00:20Z", &both[1..]));
    assert_eq!(scene.changed(), ["a", "b"][1..]);
}
