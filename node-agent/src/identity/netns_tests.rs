//! Who is named by a namespace, and for how long.

use std::sync::Arc;

use super::{Found, Identity, Namespaces, Use, Witness};

const NS: u32 = 4_026_532_100;

fn container(pod: &str, digit: char) -> Arc<Identity> {
    Arc::new(Identity::from_path(&format!("/kubepods/burstable/pod{pod}/{}", digit.to_string().repeat(64))))
}

fn docker(digit: char) -> Arc<Identity> {
    Arc::new(Identity::from_path(&format!("/docker/{}", digit.to_string().repeat(64))))
}

fn service() -> Arc<Identity> {
    Arc::new(Identity::from_path("/system.slice/sshd.service"))
}

fn mk_use(pid: u32, started_ns: u64, identity: &Arc<Identity>) -> Use {
    Use { inode: NS, witness: Witness { pid, started_ns }, identity: Arc::clone(identity) }
}

fn scanned(uses: &[Use]) -> Namespaces {
    let mut namespaces = Namespaces::new();
    namespaces.scanned(100, uses.iter().cloned());
    namespaces
}

fn named(found: &Found) -> (Option<&str>, Option<&str>) {
    let Found::Private(identity) = found else { panic!("{found:?} names nobody") };
    (identity.pod_uid.as_deref(), identity.container_id.as_deref())
}

#[test]
fn one_container_in_a_namespace_is_named() {
    let mut namespaces = scanned(&[mk_use(1, 10, &docker('a')), mk_use(2, 20, &docker('a'))]);
    assert_eq!(named(&namespaces.find(NS, None, 50)), (None, Some("a".repeat(64).as_str())));
}

#[test]
fn containers_of_one_pod_name_the_pod_only() {
    let mut namespaces = scanned(&[
        mk_use(1, 10, &container("p", 'a')),
        mk_use(2, 20, &container("p", 'b')),
        mk_use(3, 20, &container("p", 'b')),
    ]);
    let found = namespaces.find(NS, None, 50);
    assert_eq!(named(&found), (Some("p"), None));
    let Found::Private(identity) = found else { unreachable!() };
    assert!(identity.containers.is_empty() && identity.path == "/kubepods/burstable/podp");
}

#[test]
fn the_pod_is_named_also_where_pod_and_container_share_a_directory() {
    let path = |digit: &str| {
        Arc::new(Identity::from_path(&format!("/kubepods-podp.slice:cri-containerd:{}", digit.repeat(64))))
    };
    let mut namespaces = scanned(&[mk_use(1, 10, &path("a")), mk_use(2, 20, &path("b"))]);
    let Found::Private(identity) = namespaces.find(NS, None, 50) else { panic!("names nobody") };
    assert_eq!((identity.pod_uid.as_deref(), identity.container_id.as_deref()), (Some("p"), None));
    assert!(identity.containers.is_empty() && identity.host.is_none());
}

#[test]
fn two_pods_or_two_lone_containers_name_nobody() {
    assert_eq!(
        scanned(&[mk_use(1, 10, &container("p", 'a')), mk_use(2, 10, &container("q", 'b'))])
            .find(NS, None, 50),
        Found::Shared
    );
    assert_eq!(
        scanned(&[mk_use(1, 10, &docker('a')), mk_use(2, 10, &docker('b'))]).find(NS, None, 50),
        Found::Shared
    );
    assert_eq!(
        scanned(&[mk_use(1, 10, &docker('a')), mk_use(2, 10, &container("p", 'b'))]).find(NS, None, 50),
        Found::Shared
    );
}

#[test]
fn a_namespace_that_only_the_host_uses_is_the_hosts() {
    assert_eq!(
        scanned(&[mk_use(1, 10, &service()), mk_use(2, 10, &service())]).find(NS, None, 50),
        Found::Host
    );
}

#[test]
fn a_namespace_that_the_host_uses_too_names_nobody() {
    let mut namespaces = scanned(&[mk_use(1, 10, &container("p", 'a')), mk_use(2, 10, &service())]);
    assert_eq!(namespaces.find(NS, None, 50), Found::Shared);
}

#[test]
fn the_hosts_own_namespace_never_names_a_pod_in_it() {
    let mut namespaces = scanned(&[mk_use(1, 10, &container("hostnetwork", 'a'))]);
    namespaces.set_host(NS);
    assert_eq!(namespaces.find(NS, None, 50), Found::Shared);
    assert_eq!(namespaces.find(NS, None, 5000), Found::Shared, "it cannot be replaced by another");
    let mut namespaces = scanned(&[mk_use(1, 10, &service())]);
    namespaces.set_host(NS);
    assert_eq!(namespaces.find(NS, None, 5000), Found::Host);
}

#[test]
fn nothing_is_said_outside_the_time_the_namespace_is_known_to_have_lived() {
    let mut namespaces = scanned(&[mk_use(1, 10, &docker('a'))]);
    assert_eq!(namespaces.find(NS, None, 9), Found::Unknown, "an earlier one with the same number");
    assert_eq!(namespaces.find(NS, None, 101), Found::Stale, "it may have been replaced since");
    assert_eq!(namespaces.find(NS + 1, None, 50), Found::Unknown);
    assert_eq!(namespaces.find(NS + 1, None, 101), Found::Stale);
}

#[test]
fn a_cookie_binds_for_the_namespaces_life_and_no_longer() {
    let mut namespaces = scanned(&[mk_use(1, 10, &docker('a'))]);
    assert_eq!(namespaces.find(NS, Some(7), 150), Found::Stale, "not bound yet: the time decides");
    named(&namespaces.find(NS, Some(7), 50));
    named(&namespaces.find(NS, Some(7), 1_000_000));
    assert_eq!(namespaces.find(NS, Some(8), 150), Found::Stale, "a new namespace with the old number");
    assert_eq!(namespaces.find(NS, Some(8), 50), Found::Unknown);
    // The number now belongs to another container.
    namespaces.scanned(200, [mk_use(9, 120, &docker('b'))]);
    assert_eq!(named(&namespaces.find(NS, Some(8), 150)).1, Some("b".repeat(64).as_str()));
    assert_eq!(namespaces.find(NS, Some(7), 150), Found::Unknown);
}

#[test]
fn a_second_scan_carries_on_where_a_process_is_still_there() {
    let mut namespaces = scanned(&[mk_use(1, 10, &container("p", 'a')), mk_use(2, 20, &container("p", 'b'))]);
    let Found::Private(before) = namespaces.find(NS, Some(7), 50) else { panic!("names nobody") };
    namespaces.scanned(200, [mk_use(1, 10, &container("p", 'a'))]);
    let Found::Private(after) = namespaces.find(NS, Some(7), 5000) else { panic!("names nobody") };
    assert!(Arc::ptr_eq(&before, &after), "container b may have left sockets: still the pod only");
}

#[test]
fn a_namespace_once_shared_stays_so_for_its_life() {
    let mut namespaces = scanned(&[mk_use(1, 10, &container("p", 'a')), mk_use(2, 20, &container("q", 'b'))]);
    namespaces.scanned(200, [mk_use(1, 10, &container("p", 'a'))]);
    assert_eq!(namespaces.find(NS, None, 150), Found::Shared);
    namespaces.scanned(300, [mk_use(3, 250, &container("p", 'a'))]);
    assert_eq!(
        named(&namespaces.find(NS, None, 260)).0,
        Some("p"),
        "no process in common: another namespace"
    );
    assert_eq!(namespaces.find(NS, None, 240), Found::Unknown);
}

#[test]
fn namespaces_without_processes_are_forgotten() {
    let mut namespaces = scanned(&[mk_use(1, 10, &docker('a'))]);
    namespaces.scanned(200, []);
    assert!(namespaces.is_empty());
    assert_eq!(namespaces.find(NS, None, 50), Found::Unknown);
}

/// Just still believed.
const BELIEVED: u64 = 100 + 10_000_000_000;

#[test]
fn what_a_scan_saw_is_believed_for_a_while_only() {
    let mut namespaces = scanned(&[mk_use(1, 10, &docker('a'))]);
    named(&namespaces.find(NS, Some(7), 50));
    named(&namespaces.find(NS, Some(7), BELIEVED));
    assert_eq!(namespaces.find(NS, Some(7), BELIEVED + 1), Found::Stale);
    namespaces.scanned(BELIEVED, [mk_use(1, 10, &docker('a'))]);
    named(&namespaces.find(NS, Some(7), BELIEVED + 1));
    let mut namespaces = scanned(&[mk_use(1, 10, &service())]);
    namespaces.set_host(NS);
    assert_eq!(namespaces.find(NS, None, BELIEVED), Found::Host);
    assert_eq!(namespaces.find(NS, None, BELIEVED + 1), Found::Stale);
}

#[test]
fn whoever_is_met_in_a_namespace_shares_it_for_its_life() {
    let mut namespaces = scanned(&[mk_use(1, 10, &docker('a'))]);
    namespaces.met(7, &docker('a'));
    named(&namespaces.find(NS, Some(7), 50));
    namespaces.met(7, &docker('b'));
    assert_eq!(namespaces.find(NS, Some(7), 50), Found::Shared);
    namespaces.scanned(200, [mk_use(1, 10, &docker('a'))]);
    assert_eq!(namespaces.find(NS, Some(7), 150), Found::Shared);
    // Of another namespace with the number nothing was said.
    namespaces.scanned(300, [mk_use(2, 250, &docker('a'))]);
    named(&namespaces.find(NS, Some(8), 260));
}

#[test]
fn of_two_containers_of_a_pod_that_were_met_neither_is_named() {
    let mut namespaces = scanned(&[mk_use(1, 10, &container("p", 'a'))]);
    namespaces.met(7, &container("p", 'b'));
    assert_eq!(named(&namespaces.find(NS, Some(7), 50)), (Some("p"), None));
}
