use std::sync::Arc;

use serde_json::{Value, json};

use super::super::world::{SECOND, World, labels, pod, trace};
use super::super::{Container, NamespaceLabels, Sets, Subject};
use super::*;
use crate::names::TraceBit;
use crate::roster::PodInfo;

fn all() -> Value {
    json!({"podSelector": {}})
}

fn everywhere() -> Value {
    json!({"podSelector": {}, "namespaceSelector": {}})
}

fn shop(name: &str, created_s: i64) -> TraceObject {
    trace(Some("shop"), name, created_s, &all())
}

fn one_pod() -> World {
    World::with([pod("shop", "cart", &[("app", "cart")])])
}

#[test]
fn each_hindrance_has_its_state_and_reason() {
    let ttl = json!({"podSelector": {}, "ttl": "10s"});
    let red = json!({"podSelector": {}, "nodeSelector": {"disk": "red"}});
    let in_red = json!({"podSelector": {}, "namespaceSelector": {"matchLabels": {"team": "red"}}});
    for (trace, state, reason, field) in [
        (trace(Some("shop"), "t", 0, &all()), TraceState::Tracing, None, None),
        (trace(None, "t", 0, &everywhere()), TraceState::Tracing, None, None),
        (trace(Some("till"), "t", 0, &all()), TraceState::Idle, Some("NoMatchingPods"), None),
        (
            trace(Some("shop"), "t", 0, &json!({"podSelector": {"matchLabels": {"app": "x"}}})),
            TraceState::Idle,
            Some("NoMatchingPods"),
            None,
        ),
        (
            trace(Some("shop"), "t", 0, &json!({"podSelector": {}, "containers": ["proxy"]})),
            TraceState::Idle,
            Some("NoMatchingPods"),
            None,
        ),
        (trace(Some("shop"), "t", 0, &red), TraceState::Idle, Some("NoMatchingNodes"), None),
        (trace(None, "t", 0, &in_red), TraceState::Idle, Some("NoMatchingPods"), None),
        (trace(Some("shop"), "t", 999_990, &ttl), TraceState::Expired, Some("Expired"), None),
        (trace(Some("shop"), "t", 999_991, &ttl), TraceState::Tracing, None, None),
        (
            trace(Some("shop"), "t", 0, &json!({"podSelector": {}, "ttl": "9s"})),
            TraceState::Refused,
            Some("InvalidSpec"),
            Some("spec.ttl"),
        ),
        (
            trace(Some("shop"), "t", 0, &json!({"podSelector": {}, "ttl": "9s", "later": 1})),
            TraceState::Refused,
            Some("UnsupportedByAgent"),
            Some("spec.later"),
        ),
    ] {
        let mut world = one_pod();
        world.add(trace.clone());
        let outcome = world.plan(&mut Planner::default());
        let [standing] = &outcome.standings[..] else { panic!() };
        assert_eq!(
            (standing.state, standing.reason, standing.field.as_deref()),
            (state, reason, field),
            "{trace:?}"
        );
        assert_eq!(standing.message.is_some(), state != TraceState::Tracing);
        assert_eq!(outcome.plan.is_empty(), state != TraceState::Tracing);
    }
}

#[test]
fn a_trace_of_chosen_nodes_waits_for_the_labels_of_the_node() {
    let mut world = one_pod();
    world.add(trace(Some("shop"), "t", 0, &json!({"podSelector": {}, "nodeSelector": {"disk": "red"}})));
    world.add(shop("any", 0));
    world.node_labels = None;
    assert_eq!(world.standing("t").reason, Some("NoMatchingNodes"));
    assert_eq!(world.standing("any").state, TraceState::Tracing);
    world.node_labels = Some(labels(&[("disk", "red"), ("zone", "a")]));
    assert_eq!(world.standing("t").state, TraceState::Tracing);
}

#[test]
fn without_labels_of_namespaces_nothing_is_selected_by_them_but_everything_still_is() {
    let mut world = one_pod();
    let not_red = json!({"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["red"]}]});
    world.add(trace(None, "not-red", 0, &json!({"podSelector": {}, "namespaceSelector": not_red})));
    world.add(trace(None, "all", 0, &everywhere()));
    world.namespaces = None;
    let outcome = world.plan(&mut Planner::default());
    assert!(outcome.needs_namespaces);
    let standing = outcome.of("not-red");
    assert_eq!((standing.state, standing.reason), (TraceState::Failed, Some("NamespacesUnknown")));
    assert_eq!(outcome.bits().into_keys().collect::<Vec<_>>(), ["all"]);
    // Known, but not this one: what it lacks is not known either.
    world.namespaces = Some(NamespaceLabels::new());
    assert_eq!(world.standing("not-red").reason, Some("NoMatchingPods"));
    world.namespaces = Some(NamespaceLabels::from([("shop".to_owned(), labels(&[]))]));
    assert_eq!(world.standing("not-red").state, TraceState::Tracing);
}

#[test]
fn only_a_cluster_trace_that_chooses_namespaces_needs_their_labels() {
    let chosen = json!({"podSelector": {}, "namespaceSelector": {"matchLabels": {"team": "red"}}});
    let expired =
        json!({"podSelector": {}, "ttl": "10s", "namespaceSelector": {"matchLabels": {"team": "red"}}});
    for (trace, expected) in [
        (shop("t", 0), false),
        (trace(None, "t", 0, &everywhere()), false),
        (trace(None, "t", 0, &expired), false),
        (trace(None, "t", 0, &chosen), true),
    ] {
        let mut world = one_pod();
        world.add(trace);
        assert_eq!(world.plan(&mut Planner::default()).needs_namespaces, expected);
    }
}

#[test]
fn a_namespaced_trace_shows_its_own_namespace_whatever_its_spec_says() {
    let mut world = World::with([pod("shop", "cart", &[]), pod("till", "cash", &[])]);
    let mut forged = trace(None, "forged", 0, &everywhere());
    forged.key.namespace = Some("shop".to_owned());
    world.add(forged);
    let plan = world.plan(&mut Planner::default()).plan;
    let (_, active) = plan.active().next().unwrap();
    assert!(!active.pods().unwrap().everything);
    assert!(active.pods().unwrap().selects(&pod("shop", "other", &[])));
    assert!(!active.pods().unwrap().selects(&pod("till", "cash", &[])));
}

#[test]
fn only_a_cluster_trace_without_any_selector_takes_what_nobody_can_name() {
    for (spec, expected) in [
        (json!({"podSelector": {}, "namespaceSelector": {}}), true),
        (json!({"podSelector": {}, "namespaceSelector": {}, "nodeSelector": {"disk": "red"}}), true),
        (json!({"podSelector": {}, "namespaceSelector": {}, "containers": ["app"]}), false),
        (json!({"podSelector": {"matchLabels": {"app": "cart"}}, "namespaceSelector": {}}), false),
        (json!({"podSelector": {}, "namespaceSelector": {"matchLabels": {"team": "red"}}}), false),
    ] {
        let mut world = one_pod();
        world.node_labels = Some(labels(&[("disk", "red")]));
        world.namespaces = Some(NamespaceLabels::from([("shop".to_owned(), labels(&[("team", "red")]))]));
        world.add(trace(None, "t", 0, &spec));
        let plan = world.plan(&mut Planner::default()).plan;
        assert_eq!((plan.live(), plan.everything()), (1, u64::from(expected)), "{spec}");
    }
}

#[test]
fn slots_go_to_cluster_traces_then_by_age_then_by_name() {
    let mut world = World::with([pod("shop", "cart", &[]), pod("a-shop", "cart", &[])]);
    world.add(shop("b", 5));
    world.add(shop("a", 5));
    world.add(trace(Some("a-shop"), "z", 5, &all()));
    world.add(shop("first", 4));
    world.add(trace(None, "cluster", 9, &everywhere()));
    let order: Vec<_> =
        world.plan(&mut Planner::default()).standings.into_iter().map(|standing| standing.key.name).collect();
    assert_eq!(order, ["cluster", "first", "z", "a", "b"]);
}

#[test]
fn old_traces_of_a_few_namespaces_do_not_keep_out_another_namespace() {
    let names: Vec<String> = (0..9).map(|n| format!("n{n}")).collect();
    let mut world = World::with(names.iter().map(|name| pod(name, "cart", &[])));
    for (n, name) in (0..).zip(&names) {
        // The ninth namespace's are the youngest.
        for number in 0..8 {
            world.add(trace(Some(name), &format!("{name}-{number}"), n * 8 + number, &all()));
        }
    }
    let outcome = world.plan(&mut Planner::new(8));
    assert_eq!(outcome.bits().len(), 64);
    for name in &names {
        let active = outcome.bits().keys().filter(|trace| trace.starts_with(name.as_str())).count();
        assert!((7..=8).contains(&active), "{active} of {name}");
    }
    // Those that wait are the last of each namespace, the youngest of them.
    assert_eq!(
        (outcome.of("n8-6").state, outcome.of("n8-7").state),
        (TraceState::Tracing, TraceState::Waiting)
    );
    assert_eq!(outcome.of("n0-7").state, TraceState::Tracing);
}

#[test]
fn the_65th_trace_waits_and_is_taken_up_when_one_goes() {
    let mut world = one_pod();
    let mut planner = Planner::default();
    for n in 0..65 {
        world.add(shop(&format!("t{n:02}"), n));
    }
    let outcome = world.plan(&mut planner);
    assert_eq!(outcome.bits().len(), 64);
    let last = outcome.of("t64");
    assert_eq!((last.state, last.reason, last.pods), (TraceState::Waiting, Some("SlotsExhausted"), 1));
    assert!(!last.message.unwrap().contains("displaced"));
    world.remove(Some("shop"), "t07");
    let after = world.plan(&mut planner);
    assert_eq!(after.bits()["t64"], outcome.bits()["t07"]);
    assert_eq!(after.of("t64").state, TraceState::Tracing);
}

#[test]
fn a_displaced_trace_says_so_as_long_as_it_waits() {
    let mut world = one_pod();
    let mut planner = Planner::default();
    for n in 0..64 {
        world.add(shop(&format!("t{n:02}"), n));
    }
    world.plan(&mut planner);
    world.add(trace(None, "cluster", 100, &everywhere()));
    for _ in 0..3 {
        let standing = world.plan(&mut planner).of("t63");
        assert_eq!(standing.reason, Some("SlotsExhausted"));
        assert!(standing.message.unwrap().starts_with("it was displaced"));
    }
    world.remove(None, "cluster");
    assert_eq!(world.plan(&mut planner).of("t63").message, None);
    world.add(shop("another", -1));
    assert!(world.plan(&mut planner).of("t63").message.unwrap().starts_with("it was displaced"));
}

#[test]
fn a_namespace_has_its_quota_and_what_selects_nothing_does_not_use_it_up() {
    let mut world = World::with([pod("shop", "cart", &[]), pod("till", "cash", &[])]);
    let mut planner = Planner::new(2);
    world.add(trace(Some("shop"), "idle", 0, &json!({"podSelector": {"matchLabels": {"app": "x"}}})));
    for n in 1..=3 {
        world.add(shop(&format!("s{n}"), n));
        world.add(trace(Some("till"), &format!("t{n}"), n, &all()));
        world.add(trace(None, &format!("c{n}"), n, &everywhere()));
    }
    let outcome = world.plan(&mut planner);
    assert_eq!(outcome.bits().into_keys().collect::<Vec<_>>(), ["c1", "c2", "c3", "s1", "s2", "t1", "t2"]);
    let standing = outcome.of("s3");
    assert_eq!((standing.state, standing.reason), (TraceState::Waiting, Some("NamespaceQuota")));
    planner.max_per_namespace = 0;
    assert_eq!(world.plan(&mut planner).bits().len(), 9);
}

#[test]
fn a_trace_keeps_its_bit_while_others_come_and_go() {
    let mut world = one_pod();
    let mut planner = Planner::default();
    for name in ["a", "b", "c"] {
        world.add(shop(name, 10));
    }
    let before = world.plan(&mut planner).bits();
    world.remove(Some("shop"), "a");
    world.add(shop("older", 1));
    world.add(trace(None, "cluster", 99, &everywhere()));
    let after = world.plan(&mut planner).bits();
    assert_eq!((after["b"], after["c"]), (before["b"], before["c"]));
    // The bit that meant `a` a moment ago means nothing yet.
    assert!(!after.values().any(|bit| *bit == before["a"]));
}

#[test]
fn an_edit_keeps_the_bit_and_makes_a_new_plan_and_a_trace_made_again_is_another() {
    let mut world = one_pod();
    let mut planner = Planner::default();
    world.add(shop("a", 1));
    world.add(shop("b", 2));
    let first = world.plan(&mut planner);
    let mut edited = trace(Some("shop"), "b", 2, &json!({"podSelector": {}, "role": "Client"}));
    edited.generation = 2;
    world.add(edited);
    let second = world.plan(&mut planner);
    assert_eq!(second.bits(), first.bits());
    assert_eq!(second.plan.revision, first.plan.revision + 1);
    assert_eq!(second.of("b").generation, 2);
    let mut again = shop("b", 3);
    again.uid = "another".to_owned();
    world.add(again);
    let third = world.plan(&mut planner);
    assert_eq!(third.bits()["a"], first.bits()["a"]);
    assert_ne!(third.bits()["b"], first.bits()["b"]);
}

#[test]
fn the_same_world_gives_the_very_same_plan() {
    let mut world = one_pod();
    let mut planner = Planner::default();
    let empty = world.plan(&mut planner);
    assert_eq!((empty.plan.revision, empty.plan.is_empty()), (0, true));
    world.add(trace(None, "c", 1, &everywhere()));
    world.add(shop("a", 1));
    let first = world.plan(&mut planner);
    assert_eq!(first.plan.revision, 1);
    // Neither another pod of a namespace nor an edit of what no slot holds is a change of the slots.
    world.roster.apply(pod("shop", "desk", &[]));
    world.add(trace(Some("shop"), "a", 1, &json!({"podSelector": {}, "ttl": "720h"})));
    world.now_ns += SECOND;
    let second = world.plan(&mut planner);
    assert!(Arc::ptr_eq(&first.plan, &second.plan));
    assert_eq!(second.of("c").pods, 2);
    // A namespace that a cluster trace may show is one, though no table of the kernel holds it.
    world.roster.apply(pod("till", "cash", &[]));
    assert_eq!(world.plan(&mut planner).plan.revision, 2);
}

#[test]
fn a_trace_outlives_its_last_pod_by_30_seconds() {
    let stop = |world: &mut World, ends: bool| {
        if ends {
            world.roster.apply(PodInfo { ended: true, ..pod("shop", "cart", &[]) });
            world.roster.expire(world.now_ns);
        } else {
            world.roster.delete("uid-shop-cart", world.now_ns);
        }
    };
    for ends in [false, true] {
        let mut world = one_pod();
        let mut planner = Planner::default();
        world.add(shop("t", 0));
        assert_eq!(world.plan(&mut planner).next_release_ns, None);
        stop(&mut world, ends);
        let released_ns = world.now_ns + 30 * SECOND;
        let outcome = world.plan(&mut planner);
        assert_eq!((outcome.of("t").state, outcome.of("t").pods), (TraceState::Tracing, 0));
        assert_eq!(outcome.next_release_ns, Some(released_ns));
        world.now_ns = released_ns - 1;
        world.roster.expire(world.now_ns);
        assert_eq!(world.plan(&mut planner).of("t").state, TraceState::Tracing);
        world.now_ns = released_ns;
        let outcome = world.plan(&mut planner);
        assert_eq!(outcome.of("t").reason, Some("NoMatchingPods"));
        assert!(outcome.plan.is_empty());
        assert_eq!(outcome.next_release_ns, None);
    }
}

#[test]
fn an_ended_pod_that_is_deleted_later_does_not_count_again() {
    let mut world = one_pod();
    world.add(shop("t", 0));
    world.roster.apply(PodInfo { ended: true, ..pod("shop", "cart", &[]) });
    world.roster.expire(world.now_ns);
    world.now_ns += 60 * SECOND;
    world.roster.delete("uid-shop-cart", world.now_ns);
    assert_eq!(world.standing("t").reason, Some("NoMatchingPods"));
}

#[test]
fn the_next_expiry_is_the_earliest_of_accepted_traces() {
    let mut world = one_pod();
    let ttl = |ttl: &str| json!({"podSelector": {}, "ttl": ttl});
    assert_eq!(world.plan(&mut Planner::default()).next_expiry_s, None);
    world.add(trace(Some("shop"), "over", 0, &ttl("10s")));
    world.add(trace(Some("shop"), "later", 1_000_000, &ttl("20m")));
    world.add(trace(Some("till"), "idle", 1_000_000, &ttl("10m")));
    world.add(trace(Some("shop"), "refused", 1_000_000, &ttl("1s")));
    assert_eq!(world.plan(&mut Planner::default()).next_expiry_s, Some(1_000_600));
    world.now_s = 1_000_600;
    let outcome = world.plan(&mut Planner::default());
    assert_eq!(outcome.next_expiry_s, Some(1_001_200));
    assert_eq!(outcome.of("idle").state, TraceState::Expired);
}

#[test]
fn a_trace_of_a_container_takes_that_container_of_each_pod() {
    let mut world = one_pod();
    world.add(trace(Some("shop"), "t", 0, &json!({"podSelector": {}, "containers": ["app"]})));
    let plan = world.plan(&mut Planner::default()).plan;
    let cart = pod("shop", "cart", &[]);
    let sets = |container| plan.sets(None, Subject::Pod(&cart, container));
    assert_eq!(sets(Container::Named("app")).matched, 1);
    assert_eq!(sets(Container::Named("init")).matched, 0);
    assert_eq!(sets(Container::Pending).maybe, 1);
    assert_eq!(sets(Container::Nameless), Sets::default());
}

#[test]
fn a_refusal_fits_into_the_status() {
    let mut world = one_pod();
    let cidrs: Vec<String> = (0..64).map(|n| format!("10.0.0.{n}/8")).skip(1).collect();
    world.add(trace(Some("shop"), "t", 0, &json!({"podSelector": {}, "peerCIDRs": cidrs})));
    assert_eq!(world.standing("t").message.unwrap().chars().count(), 512);
}

#[test]
fn traces_keep_the_bits_that_they_had_before_a_restart() {
    let mut world = one_pod();
    let first = shop("first", 1);
    let uid = first.uid.clone();
    world.add(first);
    world.add(shop("second", 2));
    let left = [TraceBit { bit: 5, uid: uid.clone(), namespace: None, name: String::new() }];
    let plan = world.plan(&mut Planner::new(8).after(Plan::left(&left))).plan;
    let bits: Vec<_> = plan.active().map(|(bit, trace)| (bit, trace.uid == uid)).collect();
    assert_eq!(bits, [(0, false), (5, true)]);
    assert_eq!(
        plan.active().last().map(|(_, trace)| trace.filter.clone()),
        plan.active().next().map(|(_, trace)| trace.filter.clone())
    );
}
