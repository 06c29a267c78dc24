//! The owner of a socket as the formats show it, rendered once for each container instead of once a line.

use std::collections::BTreeSet;

use super::append::{Object, decimal, pad};
use super::escape::{self, terminal};
use super::journal;
use super::names::name;
use crate::names::Workload;

/// Bytes that an owner may take of a JSON line. Pod labels are left out, last first, until it fits.
const FRAGMENT_MAX: usize = 2_000;
/// Escaped bytes of a name that Kubernetes bounds at 253 characters.
const NAME_MAX: usize = 256;
/// Escaped bytes of a name that Kubernetes bounds at 63 characters.
const LABEL_MAX: usize = 64;
/// Escaped bytes of a cluster's name, a container's id, a slice, a unit: unbounded at their source.
const FREE_MAX: usize = 176;
/// Width of the table's CONTAINER column.
pub(super) const CONTAINER_COLUMN: usize = 12;
/// Characters of the table's POD column at most.
const POD_COLUMN: usize = 80;

/// What is known of the owner of a socket. Everything absent is left out of the line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelFields {
    /// Container id, 64 hex digits as a rule.
    pub container_id: Option<String>,
    /// Container runtime.
    pub runtime: Option<&'static str>,
    /// UID of the pod.
    pub pod_uid: Option<String>,
    /// Quality of service class: `guaranteed`, `burstable`, `besteffort`.
    pub qos: Option<&'static str>,
    /// Name of the pod.
    pub pod_name: Option<String>,
    /// Namespace of the pod.
    pub namespace: Option<String>,
    /// Name of the container in the pod.
    pub container_name: Option<String>,
    /// Name of the node.
    pub node: Option<String>,
    /// Name of the cluster.
    pub cluster: Option<String>,
    /// The workload that owns the pod.
    pub workload: Option<Workload>,
    /// Labels of the pod that the traces ask for, the important ones first.
    pub pod_labels: Vec<(String, String)>,
    /// systemd slice of a host process.
    pub host_slice: Option<String>,
    /// systemd unit of a host process.
    pub host_unit: Option<String>,
}

/// [`LabelFields`] rendered for every format.
#[derive(Clone, Debug)]
pub struct Labels {
    fields: LabelFields,
    /// `"k8s":{...},"container":{...}`
    pub(super) json: Box<[u8]>,
    /// Members of `tcpstates`, the same in JSON and ECS.
    pub(super) own: Box<[u8]>,
    /// What ECS has names for, as members of the document.
    pub(super) ecs: Box<[u8]>,
    /// What ECS has no names for and JSON has elsewhere, as further members of `tcpstates`.
    pub(super) ecs_own: Box<[u8]>,
    /// The table's CONTAINER column, padded, one space, and its POD column.
    pub(super) table: Box<[u8]>,
    /// CSV's two columns, with a comma in front of each.
    pub(super) csv: Box<[u8]>,
    /// Fields of a journal entry.
    pub(super) journal: Box<[u8]>,
}

impl Labels {
    /// Renders an owner. Some microseconds: once for each container, not for each line.
    pub fn new(fields: LabelFields) -> Self {
        let labels = pod_labels(&fields.pod_labels);
        let Rendered { json, own, ecs, ecs_own } = fit(&fields, &labels);
        Self {
            json: json.into(),
            own: own.into(),
            ecs: ecs.into(),
            ecs_own: ecs_own.into(),
            table: table(&fields).into(),
            csv: csv(&fields).into(),
            journal: journal::labels(&fields).into(),
            fields,
        }
    }

    /// What was rendered.
    pub const fn fields(&self) -> &LabelFields {
        &self.fields
    }
}

impl LabelFields {
    /// The POD column: `namespace/name`, else the UID; for a process of the host its unit, else its slice.
    fn pod_column(&self) -> String {
        match (&self.namespace, &self.pod_name) {
            (Some(namespace), Some(name)) => format!("{namespace}/{name}"),
            (None, Some(name)) => name.clone(),
            _ => {
                let known = [&self.pod_uid, &self.host_unit, &self.host_slice];
                known.into_iter().find_map(Clone::clone).unwrap_or_default()
            }
        }
    }
}

/// Labels as they will stand on a line, and how many cannot.
struct PodLabels<'a> {
    shown: Vec<(String, &'a str)>,
    omitted: usize,
}

/// Elasticsearch rejects `app` beside `app.x`, so a key's points become underscores; of two keys that become the same
/// the first stays.
fn pod_labels(labels: &[(String, String)]) -> PodLabels<'_> {
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

/// What an owner is on the lines that are JSON.
struct Rendered {
    json: Vec<u8>,
    own: Vec<u8>,
    ecs: Vec<u8>,
    ecs_own: Vec<u8>,
}

/// Renders with as many of the labels as fit into [`FRAGMENT_MAX`] in either format, so that both have the same ones.
fn fit(fields: &LabelFields, labels: &PodLabels<'_>) -> Rendered {
    let total = labels.shown.len() + labels.omitted;
    let mut count = labels.shown.len();
    loop {
        let labels = PodLabels { omitted: total - count, shown: labels.shown[..count].to_vec() };
        let (json, own) = (json(fields, &labels), own(fields, &labels));
        let (ecs, ecs_own) = (ecs(fields), ecs_own(fields, &labels));
        if count == 0 || own.len() + json.len().max(ecs.len() + ecs_own.len()) <= FRAGMENT_MAX {
            return Rendered { json, own, ecs, ecs_own };
        }
        count -= 1;
    }
}

fn named(parent: &mut Object<'_>, key: &str, name: Option<&str>, max: usize) {
    let mut object = parent.object(key);
    object.text("name", name, max);
    object.close();
}

fn json(fields: &LabelFields, labels: &PodLabels<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut k8s = Object::member(&mut out, "k8s");
    named(&mut k8s, "cluster", fields.cluster.as_deref(), FREE_MAX);
    named(&mut k8s, "node", fields.node.as_deref(), NAME_MAX);
    named(&mut k8s, "namespace", fields.namespace.as_deref(), LABEL_MAX);
    let mut pod = k8s.object("pod");
    pod.text("name", fields.pod_name.as_deref(), NAME_MAX);
    pod.text("uid", fields.pod_uid.as_deref(), LABEL_MAX);
    label_members(&mut pod, "label", labels);
    pod.close();
    named(&mut k8s, "container", fields.container_name.as_deref(), LABEL_MAX);
    if let Some(workload) = &fields.workload {
        named(&mut k8s, workload.kind.as_str(), Some(&workload.name), NAME_MAX);
    }
    k8s.close();
    let mut container = Object::member(&mut out, "container");
    container.text("id", fields.container_id.as_deref(), FREE_MAX);
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

fn own(fields: &LabelFields, labels: &PodLabels<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut own = Object::inner(&mut out);
    own.text(name!(qos), fields.qos, LABEL_MAX);
    if labels.omitted > 0 {
        decimal(own.key(name!(labels_omitted)), labels.omitted);
    }
    let mut container = own.object(name!(container));
    container.text(name!(runtime), fields.runtime, LABEL_MAX);
    container.close();
    let mut host = own.object(name!(host));
    host.text(name!(slice), fields.host_slice.as_deref(), FREE_MAX);
    host.text(name!(unit), fields.host_unit.as_deref(), FREE_MAX);
    host.close();
    out
}

fn ecs(fields: &LabelFields) -> Vec<u8> {
    let mut out = Vec::new();
    let mut container = Object::member(&mut out, "container");
    container.text("id", fields.container_id.as_deref(), FREE_MAX);
    container.text("name", fields.container_name.as_deref(), LABEL_MAX);
    container.text("runtime", fields.runtime, LABEL_MAX);
    container.close();
    let mut host = Object::member(&mut out, "host");
    host.text("name", fields.node.as_deref(), NAME_MAX);
    host.close();
    let mut orchestrator = Object::member(&mut out, "orchestrator");
    if fields.pod_uid.is_some() || fields.pod_name.is_some() {
        orchestrator.text("type", Some("kubernetes"), LABEL_MAX);
    }
    named(&mut orchestrator, "cluster", fields.cluster.as_deref(), FREE_MAX);
    orchestrator.text("namespace", fields.namespace.as_deref(), LABEL_MAX);
    if fields.pod_uid.is_some() || fields.pod_name.is_some() {
        let mut resource = orchestrator.object("resource");
        resource.text("type", Some("pod"), LABEL_MAX);
        resource.text("name", fields.pod_name.as_deref(), NAME_MAX);
        resource.text("id", fields.pod_uid.as_deref(), LABEL_MAX);
        resource.close();
    }
    orchestrator.close();
    out
}

fn ecs_own(fields: &LabelFields, labels: &PodLabels<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut own = Object::inner(&mut out);
    let mut pod = own.object(name!(pod));
    label_members(&mut pod, name!(label), labels);
    pod.close();
    if let Some(workload) = &fields.workload {
        let mut object = own.object(name!(workload));
        object.text(name!(workload_kind), Some(workload.kind.as_str()), LABEL_MAX);
        object.text(name!(workload_name), Some(&workload.name), NAME_MAX);
        object.close();
    }
    out
}

/// The two columns as text for a terminal, `-` where there is nothing to show.
fn columns(fields: &LabelFields) -> [Vec<u8>; 2] {
    let container = fields.container_id.clone().unwrap_or_default();
    [(container, CONTAINER_COLUMN), (fields.pod_column(), POD_COLUMN)].map(|(text, max)| {
        let mut out = Vec::new();
        if terminal(&mut out, text.as_bytes(), max) == 0 {
            out.push(b'-');
        }
        out
    })
}

fn table(fields: &LabelFields) -> Vec<u8> {
    let [mut out, pod] = columns(fields);
    pad(&mut out, 0, CONTAINER_COLUMN);
    out.push(b' ');
    out.extend_from_slice(&pod);
    out
}

fn csv(fields: &LabelFields) -> Vec<u8> {
    let [container, pod] = columns(fields);
    let mut out = Vec::new();
    for column in [&container, &pod] {
        out.push(b',');
        // Nothing known is an empty field, as CSV readers expect it.
        if column.as_slice() != b"-" {
            super::csv::field(&mut out, column);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{FRAGMENT_MAX, LabelFields, Labels};
    use crate::names::{Workload, WorkloadKind};

    /// Outside `tcpstates`, and in it.
    fn json(fields: LabelFields) -> [String; 2] {
        let Labels { json, own, .. } = Labels::new(fields);
        [json, own].map(|text| String::from_utf8(text.into()).unwrap())
    }

    #[test]
    fn what_is_not_known_is_absent() {
        assert_eq!(json(LabelFields::default()), ["", ""]);
        let uid_only = LabelFields { pod_uid: Some("u".to_owned()), ..LabelFields::default() };
        assert_eq!(json(uid_only), [r#""k8s":{"pod":{"uid":"u"}}"#, ""]);
        let host = LabelFields { host_unit: Some("sshd.service".to_owned()), ..LabelFields::default() };
        assert_eq!(json(host), ["", r#""host":{"unit":"sshd.service"}"#]);
    }

    #[test]
    fn a_points_in_a_label_key_become_underscores_and_no_key_stands_twice() {
        let pod_labels = [("app", "a"), ("app.kubernetes.io/name", "b"), ("app_kubernetes_io/name", "c")];
        let pod_labels = pod_labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        assert_eq!(
            json(LabelFields { pod_labels, ..LabelFields::default() }),
            [r#""k8s":{"pod":{"label":{"app":"a","app_kubernetes_io/name":"b"}}}"#, r#""labels_omitted":1"#]
        );
    }

    #[test]
    fn labels_that_do_not_fit_are_left_out_and_counted() {
        let pod_labels = (0..30).map(|n| (format!("{n}/{}", "k".repeat(250)), "v".repeat(63))).collect();
        let labels = Labels::new(LabelFields {
            pod_labels,
            workload: Some(Workload { kind: WorkloadKind::Job, name: "n".repeat(253) }),
            ..LabelFields::default()
        });
        let own = str::from_utf8(&labels.own).unwrap();
        assert!(own.contains(r#""labels_omitted":25"#), "{own}");
        for parts in [&[&labels.json][..], &[&labels.ecs, &labels.ecs_own]] {
            let text: String = parts.iter().map(|part| str::from_utf8(part).unwrap()).collect();
            assert!(own.len() + text.len() <= FRAGMENT_MAX);
            assert_eq!(text.matches("kkk\":\"v").count(), 5);
        }
    }

    #[test]
    fn columns_show_the_best_name_there_is() {
        let some = |text: &str| Some(text.to_owned());
        let table = [
            (LabelFields::default(), "-            -", ",,"),
            (
                LabelFields {
                    container_id: some("0123456789abcdef"),
                    pod_uid: some("uid"),
                    ..LabelFields::default()
                },
                "0123456789ab uid",
                ",0123456789ab,uid",
            ),
            (
                LabelFields {
                    pod_uid: some("uid"),
                    namespace: some("shop"),
                    pod_name: some("cart-0"),
                    ..LabelFields::default()
                },
                "-            shop/cart-0",
                ",,shop/cart-0",
            ),
            (
                LabelFields { host_slice: some("system.slice"), ..LabelFields::default() },
                "-            system.slice",
                ",,system.slice",
            ),
            (
                LabelFields { host_unit: some("a\x1b[31m,b"), ..LabelFields::default() },
                r"-            a\x1b[31m,b",
                r#",,"a\x1b[31m,b""#,
            ),
        ];
        for (fields, in_table, in_csv) in table {
            let labels = Labels::new(fields);
            assert_eq!(str::from_utf8(&labels.table).unwrap(), in_table);
            assert_eq!(str::from_utf8(&labels.csv).unwrap(), in_csv);
        }
    }
}
