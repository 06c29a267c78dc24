//! What is known, fed by hand.

use std::collections::BTreeMap;

use kube_tcpstates_client::{Broken, Trouble};
use kube_tcpstates_crds::TraceKind;
use serde_json::{Value, json};

use super::*;
use crate::peers::ServiceInfo;
use crate::roster::ContainerInfo;

const SECOND: u64 = 1_000 * MS;

/// What is known, with a clock of its own.
struct Scene {
    knowledge: Knowledge,
    now: Now,
}

impl Scene {
    /// Every list has come: one node, nothing else.
    fn synced() -> Self {
        let mut scene = Self::unsynced();
        for change in [
            Change::Pods(Delta::Listed(vec![])),
            Change::Nodes(Delta::Listed(vec![NodeObject { uid: "n1".to_owned(), labels: BTreeMap::new() }])),
            traces(TraceKind::Namespaced, Delta::Listed(vec![])),
            traces(TraceKind::Cluster, Delta::Listed(vec![])),
        ] {
            scene.tell(change);
        }
        assert!(scene.due().view.is_some(), "the first view");
        scene.pass(SECOND);
        assert!(scene.due().view.is_none());
        scene
    }

    fn unsynced() -> Self {
        let now = Now { boot_ns: 100 * SECOND, unix_ms: 1_795_361_100_000 };
        Self { knowledge: Knowledge::new(8), now }
    }

    fn tell(&mut self, change: Change) {
        self.knowledge.take(change, self.now);
    }

    fn due(&mut self) -> Due {
        self.knowledge.due(self.now)
    }

    fn pass(&mut self, ns: u64) {
        self.now.boot_ns += ns;
        self.now.unix_ms += i64::try_from(ns / MS).unwrap();
    }

    /// What the pipeline is told within a second, asking whenever something may be due.
    fn last_view(&mut self) -> Option<View> {
        let end = self.now.boot_ns + SECOND;
        let mut last = None;
        while self.now.boot_ns < end {
            last = self.due().view.or(last);
            let wake = self.knowledge.wake_ns(self.now).clamp(self.now.boot_ns + 1, end);
            self.pass(wake - self.now.boot_ns);
        }
        last
    }
}

fn pod(name: &str) -> PodInfo {
    PodInfo {
        uid: format!("uid-{name}"),
        namespace: "shop".to_owned(),
        name: name.to_owned(),
        containers: vec![ContainerInfo { name: "app".to_owned(), ids: vec![] }],
        ..PodInfo::default()
    }
}

fn trace(name: &str, spec: &Value) -> TraceObject {
    let object = json!({
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"), "generation": 1,
            "creationTimestamp": "2026-11-22T15:25:00Z"},
        "spec": spec,
    });
    TraceObject::from_api(TraceKind::Namespaced, &object).unwrap()
}

fn every_pod(name: &str) -> TraceObject {
    trace(name, &json!({"podSelector": {}}))
}

fn traces(kind: TraceKind, delta: Delta<TraceObject>) -> Change {
    Change::Traces(kind, Box::new(delta))
}

fn broken(resource: Resource) -> Change {
    Change::Broken(Broken { resource, trouble: Trouble::Failing, reason: "away".to_owned() })
}

#[test]
fn nothing_is_handed_on_before_every_list_has_come() {
    let lists = [
        Change::Pods(Delta::Listed(vec![pod("a")])),
        Change::Nodes(Delta::Listed(vec![])),
        traces(TraceKind::Namespaced, Delta::Listed(vec![every_pod("t")])),
        traces(TraceKind::Cluster, Delta::Listed(vec![])),
    ];
    for absent in 0..lists.len() {
        let mut scene = Scene::unsynced();
        for (_, list) in lists.iter().enumerate().filter(|(index, _)| *index != absent) {
            scene.tell(list.clone());
        }
        assert!(scene.last_view().is_none(), "without list {absent}");
        scene.tell(lists[absent].clone());
        let view = scene.due().view.expect("at once after the last list");
        assert_eq!(view.plan.active().count(), 1);
        assert!(view.roster.as_ref().unwrap().in_sync());
    }
}

#[test]
fn a_change_of_a_pod_is_handed_on_at_once() {
    let mut scene = Scene::synced();
    scene.tell(Change::Pods(Delta::Applied(pod("a"))));
    let view = scene.due().view.expect("at once");
    assert_eq!(view.roster.as_ref().unwrap().live().count(), 1);
    let mut with_id = pod("a");
    with_id.containers[0].ids.push("c1".to_owned());
    scene.tell(Change::Pods(Delta::Applied(with_id)));
    let view = scene.due().view.expect("at once, though a plan is not due");
    assert_eq!(view.roster.as_ref().unwrap().pod("uid-a").unwrap().container_name("c1"), Some("app"));
}

#[test]
fn a_pod_of_a_new_namespace_is_handed_on_together_with_the_plan_that_knows_it() {
    let mut scene = Scene::synced();
    scene.tell(Change::Pods(Delta::Applied(pod("a"))));
    let all = json!({
        "metadata": {"name": "all", "uid": "uid-all", "generation": 1, "creationTimestamp": "2026-11-22T15:25:00Z"},
        "spec": {"podSelector": {}, "namespaceSelector": {}},
    });
    let all = TraceObject::from_api(TraceKind::Cluster, &all).unwrap();
    scene.tell(traces(TraceKind::Cluster, Delta::Applied(all)));
    assert_eq!(scene.last_view().unwrap().plan.active().count(), 1);
    let elsewhere = PodInfo { namespace: "till".to_owned(), ..pod("b") };
    scene.tell(Change::Pods(Delta::Applied(elsewhere.clone())));
    // The pod alone would be nobody's, and what waits for its name would be left out.
    while scene.now.boot_ns < 200 * SECOND {
        if let Some(view) = scene.due().view {
            assert!(view.roster.unwrap().pod("uid-b").is_some());
            let (_, trace) = view.plan.active().next().unwrap();
            assert!(trace.pods().unwrap().selects(&elsewhere));
            return;
        }
        scene.pass(MS);
    }
    panic!("it never came");
}

#[test]
fn a_change_of_a_pod_that_changes_nothing_kept_is_not_handed_on() {
    let mut scene = Scene::synced();
    scene.tell(Change::Pods(Delta::Applied(pod("a"))));
    scene.last_view();
    scene.tell(Change::Pods(Delta::Applied(pod("a"))));
    assert!(scene.last_view().is_none());
}

#[test]
fn a_pod_that_a_list_left_out_and_that_is_back_is_handed_on() {
    let mut scene = Scene::synced();
    scene.tell(Change::Pods(Delta::Applied(pod("a"))));
    scene.tell(Change::Pods(Delta::Listed(vec![])));
    scene.last_view();
    scene.tell(Change::Pods(Delta::Applied(pod("a"))));
    assert_eq!(scene.last_view().unwrap().roster.as_ref().unwrap().live().count(), 1);
}

#[test]
fn the_ids_that_come_with_the_end_of_a_pod_are_kept() {
    let mut scene = Scene::synced();
    scene.tell(Change::Pods(Delta::Applied(pod("a"))));
    let mut last = pod("a");
    last.containers[0].ids.push("c1".to_owned());
    scene.tell(Change::Pods(Delta::Deleted(last)));
    let roster = scene.last_view().unwrap().roster.unwrap();
    assert_eq!(roster.live().count(), 0);
    assert_eq!(roster.pod("uid-a").unwrap().container_name("c1"), Some("app"));
}

#[test]
fn plans_wait_for_what_belongs_together_and_are_at_most_ten_a_second() {
    let mut scene = Scene::synced();
    scene.tell(Change::Pods(Delta::Applied(pod("a"))));
    scene.last_view();
    let before = scene.knowledge.planned().plan.revision;
    let (mut plans, start) = (0, scene.now.boot_ns);
    let mut names = 0_u32;
    while scene.now.boot_ns < start + SECOND {
        if scene.now.boot_ns < start + 900 * MS {
            names += 1;
            let created = every_pod(&format!("t{names}"));
            scene.tell(traces(TraceKind::Namespaced, Delta::Applied(created)));
        }
        plans += u32::from(scene.due().planned);
        scene.pass(MS);
    }
    assert!((9..=10).contains(&plans), "{plans} plans");
    assert!(scene.knowledge.planned().plan.revision > before);
    assert_eq!(scene.knowledge.planned().standings.len(), usize::try_from(names).unwrap());
}

#[test]
fn a_trace_that_comes_or_goes_is_in_force_within_a_tenth_of_a_second() {
    let mut scene = Scene::synced();
    scene.tell(Change::Pods(Delta::Applied(pod("a"))));
    scene.last_view();
    scene.tell(traces(TraceKind::Namespaced, Delta::Applied(every_pod("t"))));
    scene.pass(100 * MS);
    assert_eq!(scene.due().view.unwrap().plan.active().count(), 1);
    scene.tell(traces(TraceKind::Namespaced, Delta::Deleted(every_pod("t"))));
    scene.pass(100 * MS);
    assert_eq!(scene.due().view.unwrap().plan.active().count(), 0);
}

#[test]
fn a_list_of_one_kind_of_trace_leaves_the_other_alone() {
    let mut scene = Scene::synced();
    scene.tell(Change::Pods(Delta::Applied(pod("a"))));
    scene.tell(traces(TraceKind::Namespaced, Delta::Listed(vec![every_pod("t"), every_pod("u")])));
    scene.tell(traces(TraceKind::Cluster, Delta::Listed(vec![])));
    assert_eq!(scene.last_view().unwrap().plan.active().count(), 2);
    scene.tell(traces(TraceKind::Namespaced, Delta::Listed(vec![every_pod("u")])));
    let plan = scene.last_view().unwrap().plan;
    assert_eq!(plan.active().map(|(_, trace)| trace.key.name.as_str()).collect::<Vec<_>>(), ["u"]);
}

#[test]
fn a_watch_that_breaks_takes_nothing_away_but_after_five_seconds_the_certainty() {
    let mut scene = Scene::synced();
    scene.tell(Change::Pods(Delta::Applied(pod("a"))));
    scene.tell(traces(TraceKind::Namespaced, Delta::Applied(every_pod("t"))));
    scene.last_view();
    for resource in resources::REQUIRED {
        scene.tell(broken(resource));
    }
    scene.pass(4 * SECOND);
    assert!(scene.due().view.is_none());
    scene.tell(broken(PODS));
    scene.pass(SECOND);
    let view = scene.due().view.unwrap();
    assert!(!view.roster.as_ref().unwrap().in_sync());
    assert_eq!((view.plan.active().count(), view.roster.as_ref().unwrap().live().count()), (1, 1));
    scene.pass(3600 * SECOND);
    assert!(scene.due().view.is_none());
    scene.tell(Change::Works(PODS));
    assert!(scene.due().view.unwrap().roster.as_ref().unwrap().in_sync());
}

#[test]
fn another_resources_trouble_leaves_the_pods_certain() {
    let mut scene = Scene::synced();
    scene.tell(broken(NAMESPACES));
    scene.tell(broken(resources::TRACES));
    scene.pass(60 * SECOND);
    scene.due();
    assert!(scene.knowledge.roster().in_sync());
}

#[test]
fn a_ttl_ends_on_its_second_without_anything_being_told() {
    for passed_ms in [0, 1, 700] {
        let mut scene = Scene::synced();
        scene.tell(Change::Pods(Delta::Applied(pod("a"))));
        scene.now.unix_ms = 1_795_361_100_000 + passed_ms;
        let short = trace("t", &json!({"podSelector": {}, "ttl": "10s"}));
        scene.tell(traces(TraceKind::Namespaced, Delta::Applied(short)));
        assert_eq!(scene.last_view().unwrap().plan.active().count(), 1);
        while !scene.due().view.is_some_and(|view| view.plan.is_empty()) {
            scene.pass(scene.knowledge.wake_ns(scene.now).saturating_sub(scene.now.boot_ns).max(MS));
            assert!(
                scene.now.unix_ms <= 1_795_361_110_000,
                "{} ms late",
                scene.now.unix_ms - 1_795_361_110_000
            );
        }
        assert_eq!(scene.now.unix_ms, 1_795_361_110_000);
    }
}

#[test]
fn a_node_that_was_made_again_is_followed() {
    let mut scene = Scene::synced();
    let node = |uid: &str| NodeObject { uid: uid.to_owned(), labels: BTreeMap::new() };
    scene.tell(Change::Nodes(Delta::Deleted(node("n1"))));
    assert_eq!(scene.knowledge.node(), None);
    scene.tell(Change::Nodes(Delta::Applied(node("n2"))));
    assert_eq!(scene.knowledge.node().unwrap().uid, "n2");
}

fn services(told: Update<ServiceInfo>) -> Change {
    Change::News(Box::new(News::Services(told)))
}

fn refused(resource: Resource) -> Change {
    Change::Broken(Broken { resource, trouble: Trouble::Forbidden, reason: String::new() })
}

#[test]
fn who_has_which_address_is_handed_on_only_while_an_active_trace_asks() {
    let mut scene = Scene::synced();
    scene.tell(Change::Pods(Delta::Applied(pod("a"))));
    scene.tell(traces(TraceKind::Namespaced, Delta::Applied(every_pod("t"))));
    scene.last_view();
    scene.tell(services(Update::All(vec![])));
    assert_eq!((scene.due().news, scene.knowledge.asks_peers()), (vec![], false));

    let asking = trace("asks", &json!({"podSelector": {}, "peerNames": true}));
    scene.tell(traces(TraceKind::Namespaced, Delta::Applied(asking.clone())));
    assert!(scene.last_view().unwrap().plan.asks_peers() != 0 && scene.knowledge.asks_peers());
    scene.tell(services(Update::All(vec![])));
    assert_eq!(scene.due().news, [News::Services(Update::All(vec![]))]);
    assert_eq!(scene.due().news, [], "once");
    assert!(scene.knowledge.sync(resources::SERVICES).in_sync());

    // One that selects nobody here does not ask.
    scene.tell(Change::Pods(Delta::Deleted(pod("a"))));
    scene.pass(60 * SECOND);
    scene.last_view();
    assert!(!scene.knowledge.asks_peers());
    scene.knowledge.forget_peers();
    scene.tell(services(Update::All(vec![])));
    scene.tell(Change::Works(resources::SERVICES));
    assert_eq!(scene.due().news, []);
    assert_eq!(scene.knowledge.sync(resources::SERVICES), SyncStatus::default());
}

#[test]
fn a_trace_that_asks_for_names_which_cannot_be_read_goes_on_and_it_is_said_why() {
    let mut scene = Scene::synced();
    scene.tell(Change::Pods(Delta::Applied(pod("a"))));
    let asking = trace("asks", &json!({"podSelector": {}, "peerNames": true}));
    scene.tell(traces(TraceKind::Namespaced, Delta::Applied(asking)));
    scene.last_view();
    assert_eq!(scene.knowledge.nameless(), None);
    scene.tell(broken(resources::SERVICES));
    assert_eq!(scene.knowledge.nameless(), None, "the server is only away");
    scene.tell(refused(resources::ENDPOINT_SLICES));
    let why = "no peer names: the agent may not list and watch endpointslices";
    assert_eq!(scene.knowledge.nameless().as_deref(), Some(why));
    assert_eq!(scene.knowledge.planned().standings[0].state, TraceState::Tracing);
    scene.tell(Change::Works(resources::ENDPOINT_SLICES));
    assert_eq!(scene.knowledge.nameless(), None);
}
