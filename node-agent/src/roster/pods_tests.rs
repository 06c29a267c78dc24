use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::{Strategy, prop_assert, prop_assert_eq, prop_oneof, proptest};

use super::super::ContainerInfo;
use super::*;

const SECOND: u64 = 1_000_000_000;

fn pod(uid: &str) -> PodInfo {
    PodInfo {
        uid: uid.to_owned(),
        namespace: "shop".to_owned(),
        name: "db-0".to_owned(),
        ..PodInfo::default()
    }
}

fn with_container(uid: &str, ids: &[&str]) -> PodInfo {
    let ids = ids.iter().map(|id| (*id).to_owned()).collect();
    PodInfo { containers: vec![ContainerInfo { name: "app".to_owned(), ids }], ..pod(uid) }
}

fn mirror(uid: &str, hash: &str) -> PodInfo {
    PodInfo { config_hash: Some(hash.to_owned()), ..pod(uid) }
}

fn uids<'a>(pods: impl Iterator<Item = &'a Arc<PodInfo>>) -> Vec<&'a str> {
    let mut uids: Vec<_> = pods.map(|pod| pod.uid.as_str()).collect();
    uids.sort_unstable();
    uids
}

#[test]
fn a_deleted_pod_stays_known_for_five_minutes_and_no_longer() {
    let mut roster = Roster::default();
    roster.apply(with_container("u1", &["aa"]));
    roster.delete("u1", 10 * SECOND);
    // A second report of the same does not prolong it.
    roster.delete("u1", 200 * SECOND);
    roster.expire(310 * SECOND - 1);
    assert_eq!(roster.pod("u1").unwrap().uid, "u1");
    assert_eq!(roster.live().count(), 0);
    let stops: Vec<_> = roster.with_stops(200 * SECOND).map(|(_, stopped_ns)| stopped_ns).collect();
    assert_eq!(stops, [Some(10 * SECOND)]);
    roster.expire(310 * SECOND);
    assert_eq!(roster.pod("u1"), None);
    assert_eq!(roster.container("aa"), None);
}

#[test]
fn a_pod_made_again_under_the_same_name_is_another() {
    let mut roster = Roster::default();
    roster.apply(with_container("u1", &["aa"]));
    roster.delete("u1", SECOND);
    roster.apply(with_container("u2", &["bb"]));
    assert_eq!(uids(roster.live()), ["u2"]);
    assert_eq!(roster.container("aa").unwrap().0.uid, "u1");
    assert_eq!(roster.container("bb").unwrap().0.uid, "u2");
    roster.expire(400 * SECOND);
    assert_eq!(roster.pod("u1"), None);
    assert_eq!(roster.pod("u2").unwrap().uid, "u2");
}

#[test]
fn a_list_deletes_what_is_not_in_it() {
    let mut roster = Roster::default();
    assert!(!roster.in_sync());
    roster.replace(vec![pod("u1"), pod("u2")], SECOND);
    assert!(roster.in_sync());
    roster.set_in_sync(false);
    roster.replace(vec![pod("u2"), pod("u3")], 5 * SECOND);
    assert!(roster.in_sync());
    assert_eq!(uids(roster.live()), ["u2", "u3"]);
    assert_eq!(uids(roster.with_stops(5 * SECOND).map(|(pod, _)| pod)), ["u1", "u2", "u3"]);
}

#[test]
fn a_container_is_found_by_the_ids_that_the_status_tells() {
    let mut roster = Roster::default();
    roster.apply(with_container("u1", &["bb", "aa"]));
    assert_eq!(roster.container("aa").unwrap().1, "app");
    roster.apply(with_container("u1", &["cc", "bb"]));
    assert_eq!(roster.container("aa"), None);
    assert_eq!(roster.container("cc").unwrap().1, "app");
    assert_eq!(roster.by_container.len(), 2);
}

#[test]
fn a_static_pod_is_found_by_its_hash_also_when_its_mirror_is_made_again() {
    let mut roster = Roster::default();
    roster.apply(mirror("u1", "4aa2"));
    // An update is no second claim.
    roster.apply(mirror("u1", "4aa2"));
    assert_eq!(roster.pod("4aa2").unwrap().uid, "u1");
    assert_eq!(roster.pod("u1").unwrap().uid, "u1");
    roster.delete("u1", SECOND);
    assert_eq!(roster.pod("4aa2").unwrap().uid, "u1");
    roster.apply(mirror("u2", "4aa2"));
    assert_eq!(roster.pod("4aa2").unwrap().uid, "u2");
    roster.delete("u2", 2 * SECOND);
    assert_eq!(roster.pod("4aa2").unwrap().uid, "u2");
    roster.expire(302 * SECOND);
    assert_eq!(roster.pod("4aa2"), None);
}

#[test]
fn of_two_pods_that_claim_one_hash_neither_has_it() {
    let mut roster = Roster::default();
    roster.apply(mirror("static", "4aa2"));
    roster.apply(mirror("thief", "4aa2"));
    assert_eq!(roster.pod("4aa2"), None);
    roster.delete("thief", SECOND);
    assert_eq!(roster.pod("4aa2").unwrap().uid, "static");
    // A hash never hides a pod that has it for its UID.
    roster.apply(mirror("thief", "static"));
    assert_eq!(roster.pod("static").unwrap().uid, "static");
}

#[test]
fn an_ended_pod_stops_when_it_is_first_seen_so() {
    let ended = PodInfo { ended: true, ..pod("u1") };
    let stop = |roster: &Roster, now_ns| roster.with_stops(now_ns).next().unwrap().1;
    let mut roster = Roster::default();
    roster.replace(vec![pod("u1")], 0);
    assert_eq!(stop(&roster, SECOND), None);
    roster.apply(ended.clone());
    assert_eq!(stop(&roster, SECOND), Some(SECOND));
    roster.expire(2 * SECOND);
    roster.apply(ended.clone());
    roster.replace(vec![ended.clone()], 50 * SECOND);
    roster.delete("u1", 60 * SECOND);
    assert_eq!(stop(&roster, 70 * SECOND), Some(2 * SECOND));
    // Ended and deleted before anyone looked.
    roster.replace(vec![pod("u1")], 80 * SECOND);
    roster.apply(ended);
    roster.delete("u1", 81 * SECOND);
    roster.expire(90 * SECOND);
    assert_eq!(stop(&roster, 99 * SECOND), Some(81 * SECOND));
}

#[test]
fn of_very_many_deleted_pods_the_last_are_kept() {
    let mut roster = Roster::default();
    roster.apply(pod("living"));
    let last = 10_000_u64;
    for n in 0..=last {
        roster.apply(with_container(&n.to_string(), &[&format!("id-{n}")]));
        roster.delete(&n.to_string(), n);
    }
    assert!(roster.entries.len() <= DELETED_MAX + 1);
    assert!(roster.by_container.len() <= DELETED_MAX);
    assert!(roster.pod("living").is_some() && roster.pod(&last.to_string()).is_some());
    assert!(roster.pod(&(last - 3_000).to_string()).is_some());
    assert_eq!(roster.pod("0"), None);
}

#[derive(Clone, Debug)]
enum Step {
    Apply(u8, bool),
    Delete(u8),
    Replace(Vec<u8>),
    Expire,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..6_u8, proptest::bool::weighted(0.2)).prop_map(|(uid, ended)| Step::Apply(uid, ended)),
        3 => (0..6_u8).prop_map(Step::Delete),
        1 => vec(0..6_u8, 0..4).prop_map(Step::Replace),
        1 => proptest::strategy::Just(Step::Expire),
    ]
}

proptest! {
    #[test]
    fn the_living_are_those_of_the_api_and_nothing_is_left_of_the_forgotten(
        steps in vec((step(), 0..100_u64), 0..60),
    ) {
        let make = |n: u8, ended| PodInfo { ended, ..with_container(&n.to_string(), &[&format!("id-{n}")]) };
        let mut roster = Roster::default();
        // UID to whether it exists.
        let mut expected: BTreeMap<String, bool> = BTreeMap::new();
        let mut now_ns = 0;
        for (step, seconds) in steps {
            now_ns += seconds * SECOND;
            match step {
                Step::Apply(n, ended) => {
                    roster.apply(make(n, ended));
                    expected.insert(n.to_string(), true);
                }
                Step::Delete(n) => {
                    roster.delete(&n.to_string(), now_ns);
                    expected.entry(n.to_string()).and_modify(|exists| *exists = false);
                }
                Step::Replace(listed) => {
                    for exists in expected.values_mut() {
                        *exists = false;
                    }
                    expected.extend(listed.iter().map(|n| (n.to_string(), true)));
                    roster.replace(listed.iter().map(|n| make(*n, false)).collect(), now_ns);
                }
                Step::Expire => roster.expire(now_ns),
            }
            let living: Vec<&str> =
                expected.iter().filter(|(_, exists)| **exists).map(|(uid, _)| uid.as_str()).collect();
            prop_assert_eq!(uids(roster.live()), living);
            for uid in expected.keys() {
                let is_known = roster.pod(uid).is_some();
                prop_assert_eq!(roster.container(&format!("id-{uid}")).is_some(), is_known);
                prop_assert!(is_known || !expected[uid]);
            }
        }
        roster.replace(Vec::new(), now_ns);
        roster.expire(now_ns + RETENTION_NS);
        prop_assert!(roster.entries.is_empty() && roster.by_hash.is_empty() && roster.by_container.is_empty());
    }
}
