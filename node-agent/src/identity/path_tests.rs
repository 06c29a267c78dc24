//! The corpus of paths, and what no path may do.

use proptest::prelude::*;

use super::super::model::{Qos, Runtime};
use super::{Host, Identity};

const CORPUS: &str = include_str!("corpus.txt");

#[derive(Default)]
struct Case<'a> {
    title: &'a str,
    path: &'a str,
    container: Option<&'a str>,
    runtime: Option<&'a str>,
    pod: Option<&'a str>,
    qos: Option<&'a str>,
    slice: Option<&'a str>,
    unit: Option<&'a str>,
    containers: Option<Vec<&'a str>>,
    pods: Option<Vec<&'a str>>,
}

impl<'a> Case<'a> {
    fn read(block: &'a str) -> Self {
        let mut case = Self::default();
        for line in block.lines() {
            let (key, value) = line.split_once(' ').expect("a key and a value");
            match key {
                "=" => case.title = value,
                "path" => case.path = value,
                "container" => case.container = Some(value),
                "runtime" => case.runtime = Some(value),
                "pod" => case.pod = Some(value),
                "qos" => case.qos = Some(value),
                "slice" => case.slice = Some(value),
                "unit" => case.unit = Some(value),
                "containers" => case.containers = Some(value.split(' ').collect()),
                "pods" => case.pods = Some(value.split(' ').collect()),
                other => panic!("corpus.txt: no such key: {other}"),
            }
        }
        case
    }
}

#[test]
fn every_path_of_the_corpus_says_what_it_should() {
    let cases: Vec<Case<'_>> =
        CORPUS.split("\n\n").skip(1).map(|block| Case::read(block.trim_end())).collect();
    assert!(cases.len() >= 40, "only {} cases", cases.len());
    for case in cases {
        let identity = Identity::from_path(case.path);
        let title = case.title;
        assert_eq!(identity.path, case.path, "{title}");
        assert_eq!(identity.container_id.as_deref(), case.container, "{title}: container");
        assert_eq!(identity.runtime.map(Runtime::as_str), case.runtime, "{title}: runtime");
        assert_eq!(identity.pod_uid.as_deref(), case.pod, "{title}: pod");
        assert_eq!(identity.qos.map(Qos::as_str), case.qos, "{title}: qos");
        let (slice, unit) = identity
            .host
            .as_ref()
            .map_or((None, None), |Host { slice, unit }| (slice.as_deref(), unit.as_deref()));
        assert_eq!((slice, unit), (case.slice, case.unit), "{title}: host");
        let containers: Vec<&str> =
            identity.containers.iter().map(|container| container.id.as_str()).collect();
        assert_eq!(
            containers,
            case.containers.unwrap_or(case.container.into_iter().collect()),
            "{title}: candidates"
        );
        let pods: Vec<&str> = identity.pods.iter().map(|pod| pod.uid.as_str()).collect();
        assert_eq!(pods, case.pods.unwrap_or(case.pod.into_iter().collect()), "{title}: pods");
    }
}

#[test]
fn each_candidate_knows_its_own_pod() {
    let (outer, inner) = ("a".repeat(64), "b".repeat(64));
    let identity = Identity::from_path(&format!("/kubepods/pod1/{outer}/kubepods/burstable/pod2/{inner}"));
    let owners: Vec<_> = identity.containers.iter().map(|container| container.pod_uid.as_deref()).collect();
    assert_eq!(owners, [Some("2"), Some("1")]);
}

#[test]
fn what_lies_further_out_stands_behind_what_lies_further_in() {
    let (attacker, victim) = ("a".repeat(64), "b".repeat(64));
    let identity = Identity::from_path(&format!("/kubepods/podevil/{attacker}/kubepods/podgood/{victim}"));
    let containers: Vec<_> = identity.containers.iter().map(|container| &container.id).collect();
    let pods: Vec<_> = identity.pods.iter().map(|pod| pod.uid.as_str()).collect();
    assert_eq!((containers, pods), (vec![&victim, &attacker], vec!["good", "evil"]));
}

#[test]
fn hostile_names_stay_names() {
    for path in [
        "//",
        "/./..//",
        "kubepods",
        ":::",
        "/.slice:a:b",
        "/pod",
        "/.scope",
        "/-.scope",
        "/machine-.scope/payload",
        "/kubepods-pod.slice",
        "/kubepods.slice/kubepods-burstable-pod.slice",
        "/lxc.payload.",
        "/a\u{1b}[31m\n\"b",
    ] {
        let identity = Identity::from_path(path);
        assert_eq!(identity.pod_uid, None, "{path:?}");
        assert_eq!(identity.path, path);
    }
    let deep = "/x".repeat(5000);
    assert_eq!(Identity::from_path(&deep).host.and_then(|host| host.unit).as_deref(), Some("x"));
}

/// Pieces that mean something, so that random paths reach every branch.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        "[0-9a-f]{64}",
        "[ -~]{0,12}",
        "(kubepods|kubelet-kubepods|docker|ecs|lxc|garden|good|libpod_parent|payload|supervisor|burstable|\\.\\.)",
        "(buildkit|buildx|default|finch|nomad|nomad\\.slice|share\\.slice|machine\\.slice|apptainer|singularity)",
        "(lxc\\.payload\\.|crun-|runc-|apptainer-|docker-)?[0-9a-z-]{0,25}(\\.scope|\\.service)?",
        "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\\.[a-z]{0,3}(\\.scope)?",
        "(cri-containerd|crio|crio-conmon|docker|libpod|x)-[0-9a-f]{63,65}(\\.scope)?",
        "(kubepods|x-kubepods)(-burstable|-besteffort)?-pod[0-9a-f_-]{0,36}\\.slice(:[a-z-]*:[0-9a-f]*)?",
        "pod[0-9a-f-]{0,36}",
        "(machine-|systemd-nspawn@)[a-z\\\\]{0,8}\\.(scope|service)",
        any::<String>(),
    ]
}

proptest! {
    #[test]
    fn any_string_is_a_path(text in any::<String>()) {
        let _ = Identity::from_path(&text);
    }

    #[test]
    fn what_is_named_is_always_among_the_candidates(pieces in prop::collection::vec(piece(), 0..8)) {
        let identity = Identity::from_path(&pieces.join("/"));
        let named = identity.container_id.as_deref();
        prop_assert!(named.is_none_or(|id| identity.containers.iter().any(|container| container.id == id && container.pod_uid == identity.pod_uid)));
        prop_assert_eq!(identity.pod_uid.as_deref(), identity.pods.first().map(|pod| pod.uid.as_str()));
        prop_assert!(identity.host.is_none() || !identity.is_contained());
        prop_assert!(identity.containers.iter().all(|container| !container.id.is_empty() && !container.id.contains('/')));
    }

    #[test]
    fn a_directory_below_a_container_changes_nothing(uid in "[0-9a-f]{8}_[0-9a-f]{4}_[0-9a-f]{4}_[0-9a-f]{4}_[0-9a-f]{12}", id in "[0-9a-f]{64}", below in "[a-z.]{1,20}") {
        prop_assume!(!matches!(below.as_str(), "." | ".."));
        let path = format!("/kubepods.slice/kubepods-pod{uid}.slice/cri-containerd-{id}.scope");
        let (plain, deeper) = (Identity::from_path(&path), Identity::from_path(&format!("{path}/{below}")));
        prop_assert_eq!(&plain.container_id, &Some(id));
        prop_assert_eq!(plain.container_id, deeper.container_id);
        prop_assert_eq!(plain.pod_uid, deeper.pod_uid);
    }
}
