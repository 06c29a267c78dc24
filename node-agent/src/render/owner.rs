//! The owner of a socket in documents, JSON and ECS.

use std::collections::BTreeSet;

use super::append::{Object, decimal};
use super::escape;
use super::names::name;
use crate::names::Owner;

/// Bytes that an owner may take of a JSON line. Pod labels are left out, last first, until it fits.
const FRAGMENT_MAX: usize = 2_000;
/// Escaped bytes of a name that Kubernetes bounds at 253 characters.
pub(super) const NAME_MAX: usize = 256;
/// Escaped bytes of a name that Kubernetes bounds at 63 characters.
pub(super) const LABEL_MAX: usize = 64;
/// Escaped bytes of a cluster's name, a container's id, a slice, a unit: unbounded at their source.
pub(super) const FREE_MAX: usize = 164;

/// What an owner is in documents.
#[derive(Debug, Default)]
pub(super) struct InDocuments {
    /// In JSON lines; `own` in ECS documents, too.
    pub(super) json: JsonOwner,
    /// What ECS has names for, as members of the document.
    pub(super) ecs: Vec<u8>,
    /// What ECS has no names for and JSON has elsewhere, as further members of `tcpstates`.
    pub(super) ecs_own: Vec<u8>,
}

/// What it is in JSON lines.
#[derive(Debug, Default)]
pub(super) struct JsonOwner {
    /// `"k8s":{...},"container":{...}`
    pub(super) outside: Vec<u8>,
    /// Members of `tcpstates`.
    pub(super) own: Vec<u8>,
}

impl InDocuments {
    /// Renders an owner with as many of its labels as fit into [`FRAGMENT_MAX`] in either format, so that both have the
    /// same ones. Some microseconds: once for each owner, not for each line.
    pub(super) fn new(owner: &Owner) -> Self {
        let labels = pod_labels(&owner.pod_labels);
        let total = labels.shown.len() + labels.omitted;
        let mut count = labels.shown.len();
        loop {
            let labels = PodLabels { omitted: total - count, shown: labels.shown[..count].to_vec() };
            let (outside, own) = (json(owner, &labels), own(owner, &labels));
            let (ecs, ecs_own) = (ecs(owner), ecs_own(owner, &labels));
            if count == 0 || own.len() + outside.len().max(ecs.len() + ecs_own.len()) <= FRAGMENT_MAX {
                return Self { json: JsonOwner { outside, own }, ecs, ecs_own };
            }
            count -= 1;
        }
    }
}

/// Labels as they will stand on a line, and how many cannot.
pub(super) struct PodLabels<'a> {
    pub(super) shown: Vec<(String, &'a str)>,
    pub(super) omitted: usize,
}

/// Elasticsearch rejects `app` beside `app.x`, so a key's points become underscores; of two keys that become the same
/// the first stays.
pub(super) fn pod_labels(labels: &[(String, String)]) -> PodLabels<'_> {
    let mut seen = BTreeSet::new();
    let mut shown = Vec::new();
    for (key, value) in labels {
        let key = key.replace('.', "_");
        if seen.insert(key.clone()) {
            shown.push((key, value.as_str()));
        }
    }
    PodLabels { omitted: labels.len() - shown.len(), shown }
}

pub(super) fn named(parent: &mut Object<'_>, key: &str, name: Option<&str>, max: usize) {
    let mut object = parent.object(key);
    object.text("name", name, max);
    object.close();
}

fn json(owner: &Owner, labels: &PodLabels<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut k8s = Object::member(&mut out, "k8s");
    named(&mut k8s, "cluster", owner.cluster.as_deref(), FREE_MAX);
    named(&mut k8s, "node", owner.node.as_deref(), NAME_MAX);
    named(&mut k8s, "namespace", owner.namespace.as_deref(), LABEL_MAX);
    let mut pod = k8s.object("pod");
    pod.text("name", owner.pod_name.as_deref(), NAME_MAX);
    pod.text("uid", owner.pod_uid.as_deref(), LABEL_MAX);
    label_members(&mut pod, "label", labels);
    pod.close();
    named(&mut k8s, "container", owner.container_name.as_deref(), LABEL_MAX);
    if let Some(workload) = &owner.workload {
        named(&mut k8s, workload.kind.as_str(), Some(&workload.name), NAME_MAX);
    }
    k8s.close();
    let mut container = Object::member(&mut out, "container");
    container.text("id", owner.container_id.as_deref(), FREE_MAX);
    container.close();
    out
}

fn label_members(pod: &mut Object<'_>, key: &str, labels: &PodLabels<'_>) {
    let mut object = pod.object(key);
    for (key, value) in &labels.shown {
        let out = object.out();
        if out.last() != Some(&b'{') {
            out.push(b',');
        }
        out.push(b'"');
        // A key is a prefix of 253 characters, a slash and 63 characters: never cut, or two could become the same.
        escape::json(out, key);
        out.extend_from_slice(b"\":\"");
        escape::json_clipped(out, value, LABEL_MAX);
        out.push(b'"');
    }
    object.close();
}

fn own(owner: &Owner, labels: &PodLabels<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut own = Object::inner(&mut out);
    own.text(name!(qos), owner.qos, LABEL_MAX);
    if labels.omitted > 0 {
        decimal(own.key(name!(labels_omitted)), labels.omitted);
    }
    let mut container = own.object(name!(container));
    container.text(name!(runtime), owner.runtime, LABEL_MAX);
    container.close();
    let mut host = own.object(name!(host));
    host.text(name!(slice), owner.host_slice.as_deref(), FREE_MAX);
    host.text(name!(unit), owner.host_unit.as_deref(), FREE_MAX);
    host.close();
    out
}

fn ecs(owner: &Owner) -> Vec<u8> {
    let mut out = Vec::new();
    let mut container = Object::member(&mut out, "container");
    container.text("id", owner.container_id.as_deref(), FREE_MAX);
    container.text("name", owner.container_name.as_deref(), LABEL_MAX);
    container.text("runtime", owner.runtime, LABEL_MAX);
    container.close();
    let mut host = Object::member(&mut out, "host");
    host.text("name", owner.node.as_deref(), NAME_MAX);
    host.close();
    let mut orchestrator = Object::member(&mut out, "orchestrator");
    if owner.pod_uid.is_some() || owner.pod_name.is_some() {
        orchestrator.text("type", Some("kubernetes"), LABEL_MAX);
    }
    named(&mut orchestrator, "cluster", owner.cluster.as_deref(), FREE_MAX);
    orchestrator.text("namespace", owner.namespace.as_deref(), LABEL_MAX);
    if owner.pod_uid.is_some() || owner.pod_name.is_some() {
        let mut resource = orchestrator.object("resource");
        resource.text("type", Some("pod"), LABEL_MAX);
        resource.text("name", owner.pod_name.as_deref(), NAME_MAX);
        resource.text("id", owner.pod_uid.as_deref(), LABEL_MAX);
        resource.close();
    }
    orchestrator.close();
    out
}

fn ecs_own(owner: &Owner, labels: &PodLabels<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut own = Object::inner(&mut out);
    let mut pod = own.object(name!(pod));
    label_members(&mut pod, name!(label), labels);
    pod.close();
    if let Some(workload) = &owner.workload {
        let mut object = own.object(name!(workload));
        object.text(name!(workload_kind), Some(workload.kind.as_str()), LABEL_MAX);
        object.text(name!(workload_name), Some(&workload.name), NAME_MAX);
        object.close();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{FRAGMENT_MAX, InDocuments, JsonOwner};
    use crate::names::{Owner, Workload, WorkloadKind};

    /// Outside `tcpstates`, and in it.
    fn json(owner: &Owner) -> [String; 2] {
        let JsonOwner { outside, own } = InDocuments::new(owner).json;
        [outside, own].map(|text| String::from_utf8(text).unwrap())
    }

    #[test]
    fn what_is_not_known_is_absent() {
        assert_eq!(json(&Owner::default()), ["", ""]);
        let uid_only = Owner { pod_uid: Some("u".to_owned()), ..Owner::default() };
        assert_eq!(json(&uid_only), [r#""k8s":{"pod":{"uid":"u"}}"#, ""]);
        let host = Owner { host_unit: Some("sshd.service".to_owned()), ..Owner::default() };
        assert_eq!(json(&host), ["", r#""host":{"unit":"sshd.service"}"#]);
    }

    #[test]
    fn a_points_in_a_label_key_become_underscores_and_no_key_stands_twice() {
        let pod_labels = [("app", "a"), ("app.kubernetes.io/name", "b"), ("app_kubernetes_io/name", "c")];
        let pod_labels = pod_labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        assert_eq!(
            json(&Owner { pod_labels, ..Owner::default() }),
            [r#""k8s":{"pod":{"label":{"app":"a","app_kubernetes_io/name":"b"}}}"#, r#""labels_omitted":1"#]
        );
    }

    #[test]
    fn labels_that_do_not_fit_are_left_out_and_counted() {
        let pod_labels = (0..30).map(|n| (format!("{n}/{}", "k".repeat(250)), "v".repeat(63))).collect();
        let InDocuments { json, ecs, ecs_own } = InDocuments::new(&Owner {
            pod_labels,
            workload: Some(Workload { kind: WorkloadKind::Job, name: "n".repeat(253) }),
            ..Owner::default()
        });
        let own = str::from_utf8(&json.own).unwrap();
        assert!(own.contains(r#""labels_omitted":25"#), "{own}");
        for parts in [&[&json.outside][..], &[&ecs, &ecs_own]] {
            let text: String = parts.iter().map(|part| str::from_utf8(part).unwrap()).collect();
            assert!(own.len() + text.len() <= FRAGMENT_MAX);
            assert_eq!(text.matches("kkk\":\"v").count(), 5);
        }
    }
}
