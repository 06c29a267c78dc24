//! The index's memory: what stays, for how long, and how much.

use std::collections::HashMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::{Index, Limits, ROOT_CGROUP_ID};

const RETENTION: u64 = 1000;

fn index(max_entries: usize) -> Index {
    Index::new(Limits { retention_ns: RETENTION, max_entries })
}

fn unit(index: &Index, id: u64) -> Option<String> {
    index.get(id).and_then(|identity| identity.host.clone()?.unit)
}

#[test]
fn the_root_is_always_known() {
    let mut index = index(1);
    index.removed(ROOT_CGROUP_ID, 1);
    index.created(7, "/a.slice/b.service", 2);
    index.walked(9, 9, [(7, "/a.slice/b.service")]);
    assert!(index.get(ROOT_CGROUP_ID).is_some_and(|identity| identity.is_root()));
}

#[test]
fn a_removed_cgroup_is_known_until_the_retention_is_over() {
    let mut index = index(100);
    index.created(7, "/a.slice/b.service", 10);
    index.removed(7, 20);
    index.expire(20 + RETENTION - 1);
    assert_eq!(unit(&index, 7).as_deref(), Some("b.service"));
    index.expire(20 + RETENTION);
    assert_eq!(unit(&index, 7), None);
    assert_eq!(index.counters().expired, 1);
}

#[test]
fn what_has_been_gone_for_long_is_none_of_the_known_though_no_call_has_forgotten_it() {
    let mut index = index(100);
    index.created(7, "/a.slice/b.service", 10);
    index.created(8, "/a.slice/c.service", 10);
    index.removed(7, 20);
    let known = |now_ns| index.known(now_ns).filter(|(id, _)| *id != ROOT_CGROUP_ID).count();
    assert_eq!([known(20 + RETENTION - 1), known(20 + RETENTION)], [2, 1]);
    assert!(index.get(7).is_some());
}

#[test]
fn the_retention_counts_from_the_first_removal() {
    let mut index = index(100);
    index.created(7, "/a.slice/b.service", 0);
    index.removed(7, 10);
    index.removed(7, 900);
    index.expire(10 + RETENTION);
    assert!(index.get(7).is_none());
}

#[test]
fn expiry_needs_no_call_of_its_own() {
    let mut index = index(100);
    index.created(7, "/a.slice/b.service", 0);
    index.removed(7, 1);
    index.created(8, "/a.slice/c.service", 5000);
    assert!(index.get(7).is_none());
    assert_eq!(index.len(), 2);
}

#[test]
fn a_walk_that_comes_after_the_removal_does_not_bring_a_cgroup_back_to_life() {
    let mut index = index(100);
    index.removed(7, 10);
    index.walked(5, 20, [(7, "/a.slice/b.service")]);
    assert_eq!(unit(&index, 7).as_deref(), Some("b.service"), "its late lines are still named");
    assert_eq!(index.living().filter(|(id, _)| *id == 7).count(), 0);
    index.expire(10 + RETENTION);
    assert!(index.get(7).is_none());
}

#[test]
fn a_walk_removes_what_vanished_unseen_and_keeps_what_came_meanwhile() {
    let mut index = index(100);
    index.created(7, "/old.slice/old.service", 10);
    index.created(8, "/new.slice/new.service", 120);
    assert_eq!(index.walked(100, 200, [(9, "/x.slice/x.service")]), [7]);
    let mut living: Vec<u64> = index.living().map(|(id, _)| id).collect();
    living.sort_unstable();
    assert_eq!(living, [ROOT_CGROUP_ID, 8, 9]);
    assert_eq!(unit(&index, 7).as_deref(), Some("old.service"));
    index.expire(200 + RETENTION);
    assert!(index.get(7).is_none());
}

#[test]
fn a_walk_leaves_known_identities_as_they_are() {
    let mut index = index(100);
    let first = index.created(7, "/a.slice/b.service", 0);
    index.walked(5, 6, [(7, "/a.slice/b.service")]);
    assert!(index.get(7).is_some_and(|now| Arc::ptr_eq(now, &first)), "caches keyed by the Arc stay valid");
    assert!(Arc::ptr_eq(&index.created(7, "/a.slice/b.service", 7), &first), "the event came late");
}

#[test]
fn an_id_that_is_made_anew_lives_again() {
    let mut index = index(100);
    index.created(7, "/a.slice/b.service", 0);
    index.removed(7, 10);
    index.created(7, "/a.slice/c.service", 20);
    index.expire(20 + 10 * RETENTION);
    assert_eq!(unit(&index, 7).as_deref(), Some("c.service"));
}

#[test]
fn the_bound_holds_and_gone_cgroups_make_room_first() {
    let mut index = index(4);
    for id in 10..13 {
        index.created(id, "/a.slice/b.service", id);
    }
    index.removed(12, 20);
    index.created(13, "/a.slice/b.service", 21);
    assert!(index.get(12).is_none() && index.get(10).is_some());
    index.created(14, "/a.slice/b.service", 22);
    assert!(index.get(10).is_none() && index.get(11).is_some() && index.get(14).is_some());
    assert_eq!(index.len(), 4);
    assert_eq!((index.counters().evicted_removed, index.counters().evicted_living), (1, 1));
}

#[test]
fn churn_leaves_nothing_behind() {
    let mut index = index(1000);
    for id in 2..50_000_u64 {
        index.created(id, "/a.slice/b.service", id * 10);
        index.removed(id, id * 10 + 1);
    }
    assert!(index.len() <= 200, "{} entries", index.len());
    assert!(index.living.len() + index.gone.len() <= 1000, "{} + {}", index.living.len(), index.gone.len());
}

#[derive(Clone, Debug)]
enum Event {
    Created(u64),
    Removed(u64),
    Wait(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (2..12_u64).prop_map(Event::Created),
        (2..12_u64).prop_map(Event::Removed),
        (0..600_u64).prop_map(Event::Wait),
    ]
}

proptest! {
    /// Against a plain map that never forgets a living cgroup and drops a removed one after the retention.
    #[test]
    fn it_agrees_with_a_plain_map(events in prop::collection::vec(event(), 0..200)) {
        let mut index = index(1000);
        let mut plain: HashMap<u64, Option<u64>> = HashMap::new();
        let mut now = 0;
        for event in events {
            match event {
                Event::Created(id) => {
                    index.created(id, "/a.slice/b.service", now);
                    plain.insert(id, None);
                }
                Event::Removed(id) => {
                    index.removed(id, now);
                    plain.entry(id).and_modify(|removed| *removed = removed.or(Some(now)));
                }
                Event::Wait(time) => now += time,
            }
            index.expire(now);
            plain.retain(|_, removed| removed.is_none_or(|at| now - at < RETENTION));
            for id in 2..12 {
                prop_assert_eq!(index.get(id).is_some(), plain.contains_key(&id), "id {} at {}", id, now);
            }
        }
    }
}
