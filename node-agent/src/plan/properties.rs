//! What holds of plans whatever the traces and pods.

use std::collections::{BTreeMap, BTreeSet};

use kube_tcpstates_common::rule::MAX_TRACES;
use proptest::collection::{btree_map, vec};
use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};

use super::world::{World, labels, pod, trace};
use super::{Container, NamespaceLabels, Planned, Planner, Sets, Subject, TraceObject, TraceState};
use crate::roster::PodInfo;

const NAMESPACES: [&str; 3] = ["red", "blue", "kube-system"];

/// Labels from a small pool, so that selectors hit.
fn some_labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map(select(vec!["app", "tier"]), select(vec!["a", "b", ""]), 0..3)
        .prop_map(|map| labels(&map.into_iter().collect::<Vec<_>>()))
}

fn selector() -> impl Strategy<Value = Value> {
    let expression =
        (select(vec!["In", "NotIn", "Exists", "DoesNotExist"]), select(vec!["app", "tier"]), "[ab]?")
            .prop_map(|(operator, key, value)| match operator {
                "In" | "NotIn" => json!({"key": key, "operator": operator, "values": [value]}),
                _ => json!({"key": key, "operator": operator}),
            });
    prop_oneof![
        2 => Just(json!({})),
        1 => some_labels().prop_map(|labels| json!({"matchLabels": labels})),
        1 => vec(expression, 1..3).prop_map(|expressions| json!({"matchExpressions": expressions})),
    ]
}

/// A trace with `n` in its name; few of them share a creation time.
fn a_trace(n: usize) -> impl Strategy<Value = TraceObject> {
    let namespace = prop_oneof![1 => Just(None), 4 => select(NAMESPACES.to_vec()).prop_map(Some)];
    (namespace, 0..20_i64, selector(), selector(), any::<bool>()).prop_map(
        move |(namespace, created_s, pods, namespaces, named)| {
            let mut spec = json!({"podSelector": pods});
            if namespace.is_none() {
                spec["namespaceSelector"] = namespaces;
            }
            if named {
                spec["containers"] = json!(["app"]);
            }
            trace(namespace, &format!("t{n}"), created_s, &spec)
        },
    )
}

fn traces(max: usize) -> impl Strategy<Value = Vec<TraceObject>> {
    (0..max).prop_flat_map(|count| (0..count).map(a_trace).collect::<Vec<_>>())
}

fn pods() -> impl Strategy<Value = Vec<PodInfo>> {
    let one = (select(NAMESPACES.to_vec()), some_labels());
    vec(one, 1..6).prop_map(|pods| {
        let named = pods.into_iter().enumerate();
        named
            .map(|(n, (namespace, labels))| PodInfo { labels, ..pod(namespace, &format!("p{n}"), &[]) })
            .collect()
    })
}

fn world(max_traces: usize) -> impl Strategy<Value = World> {
    let namespaces = vec(some_labels(), NAMESPACES.len()).prop_map(|each| {
        NAMESPACES.iter().map(|name| (*name).to_owned()).zip(each).collect::<NamespaceLabels>()
    });
    (pods(), traces(max_traces), proptest::option::of(namespaces)).prop_map(|(pods, traces, namespaces)| {
        let mut world = World::with(pods);
        world.namespaces = namespaces;
        for trace in traces {
            world.add(trace);
        }
        world
    })
}

fn uids(outcome: &Planned) -> BTreeSet<&str> {
    outcome.plan.active().map(|(_, trace)| trace.uid.as_str()).collect()
}

proptest! {
    #[test]
    fn a_namespaced_trace_never_selects_a_pod_of_another_namespace(
        mut object in a_trace(0), forged in any::<bool>(), pods in pods(), labels in some_labels(),
    ) {
        let own = object.key.namespace.clone().unwrap_or("red".to_owned());
        if forged || object.key.namespace.is_some() {
            object.key.namespace = Some(own.clone());
        } else {
            object = trace(Some(&own), "t0", 0, &json!({"podSelector": {}}));
        }
        let mut world = World::with(pods);
        world.namespaces = Some(NAMESPACES.iter().map(|name| ((*name).to_owned(), labels.clone())).collect());
        world.add(object);
        let plan = world.plan(&mut Planner::default()).plan;
        for pod in world.roster.live().filter(|pod| pod.namespace != own) {
            for container in [Container::Named("app"), Container::Pending, Container::Nameless] {
                prop_assert_eq!(plan.sets(None, Subject::Pod(pod, container)), Sets::default());
            }
        }
        prop_assert_eq!(plan.everything(), 0);
    }

    #[test]
    fn what_is_active_depends_on_what_is_there_and_not_on_how_it_came(
        world in world(100), quota in 0..30_usize,
        arrival in Just((0..100).collect::<Vec<usize>>()).prop_shuffle(),
    ) {
        let mut restarted = Planner::new(quota);
        let expected = world.plan(&mut restarted);
        // The same traces, one after the other in some order, and some that go again.
        let mut planner = Planner::new(quota);
        let mut growing = World { traces: BTreeMap::new(), ..world.clone() };
        let known: Vec<_> = world.traces.values().collect();
        growing.add(trace(None, "transient", -1, &json!({"podSelector": {}, "namespaceSelector": {}})));
        for trace in arrival.into_iter().filter_map(|index| known.get(index)) {
            growing.add((*trace).clone());
            growing.plan(&mut planner);
        }
        growing.remove(None, "transient");
        let grown = growing.plan(&mut planner);
        prop_assert_eq!(uids(&grown), uids(&expected));
    }

    #[test]
    fn bits_are_stable_slots_follow_the_order_and_quotas_hold(
        worlds in vec((subsequence((0..160).collect::<Vec<usize>>(), 0..=160), pods()), 1..4),
        all in (0..160).map(a_trace).collect::<Vec<_>>(), quota in 1..40_usize,
    ) {
        let mut planner = Planner::new(quota);
        let mut before: Option<Planned> = None;
        for (present, pods) in worlds {
            let mut world = World::with(pods);
            for n in present {
                world.add(all[n].clone());
            }
            let outcome = world.plan(&mut planner);
            holds(&outcome, quota);
            if let Some(before) = &before {
                let bits = outcome.bits();
                for (name, bit) in before.bits() {
                    prop_assert!(bits.get(&name).is_none_or(|now| *now == bit), "{} moved", name);
                }
                let same = outcome.plan.active().eq(before.plan.active());
                prop_assert_eq!(same, outcome.plan.revision == before.plan.revision);
            }
            let again = world.plan(&mut planner);
            prop_assert!(std::sync::Arc::ptr_eq(&again.plan, &outcome.plan));
            before = Some(outcome);
        }
    }
}

/// What holds of any plan.
fn holds(outcome: &Planned, quota: usize) {
    let active = outcome.plan.active().count();
    let tracing = outcome.standings.iter().filter(|standing| standing.state == TraceState::Tracing);
    assert_eq!(tracing.clone().map(|standing| standing.uid.as_str()).collect::<BTreeSet<_>>(), uids(outcome));
    let mut by_namespace: BTreeMap<&str, usize> = BTreeMap::new();
    for namespace in tracing.filter_map(|standing| standing.key.namespace.as_deref()) {
        *by_namespace.entry(namespace).or_default() += 1;
    }
    assert!(by_namespace.values().all(|count| *count <= quota));
    let mut exhausted = false;
    for standing in &outcome.standings {
        match standing.reason {
            Some("SlotsExhausted") => {
                exhausted = true;
                assert_eq!(active, MAX_TRACES);
            }
            Some("NamespaceQuota") => {
                assert_eq!(by_namespace[standing.key.namespace.as_deref().unwrap()], quota);
            }
            // No later trace has a slot that an earlier one lacks.
            None => assert!(!exhausted),
            Some(_) => {}
        }
    }
}
