//! What is kept of each object that is watched. The rest of it is dropped as soon as it is read.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use jiff::Timestamp;
use kube_tcpstates_crds::status::Counts;
use kube_tcpstates_crds::text::parse_ttl;
use kube_tcpstates_crds::validate::check_stored;
use kube_tcpstates_crds::{TraceIdentity, TraceKey, TraceKind, TraceStatus};
use serde::Deserialize;
use serde_json::Value;

/// A trace.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// Its name.
    pub key: TraceKey,
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.generation`.
    pub generation: i64,
    /// When it was made.
    pub created: Timestamp,
    /// When its spec was last changed, as far as the server tells.
    pub changed: Timestamp,
    /// Where in the server's history this was read, if that can be compared.
    pub version: Option<u64>,
    /// Bytes of its spec as text.
    pub bytes: usize,
    /// Why its spec cannot be traced: reason and words.
    pub refusal: Option<(&'static str, String)>,
    /// How long it runs.
    pub ttl: Option<Duration>,
    /// Labels that a node must have.
    pub node_selector: BTreeMap<String, String>,
    /// What it says today of how it does.
    pub status: TraceStatus,
}

impl Trace {
    /// A trace as a list or a watch hands it out. `None` for what no API server hands out.
    pub fn from_api(kind: TraceKind, object: &Value) -> Option<Self> {
        let TraceIdentity { key, uid, generation, created, spec_bytes } = TraceIdentity::read(kind, object)?;
        let metadata = object.get("metadata")?;
        let version = metadata.get("resourceVersion").and_then(Value::as_str);
        let checked = check_stored(kind, object);
        let (refusal, spec) = match checked {
            Ok(checked) => (None, Some(checked.spec)),
            Err(refusal) => (Some((refusal.reason(), refusal.to_string())), None),
        };
        let ttl = spec.as_ref().and_then(|spec| parse_ttl(spec.ttl.as_ref()?).ok());
        Some(Self {
            key,
            uid,
            generation,
            created,
            changed: spec_changed(metadata).map_or(created, |changed| changed.max(created)),
            version: version.and_then(|version| version.parse().ok()),
            bytes: spec_bytes,
            refusal,
            ttl,
            node_selector: spec.map(|spec| spec.node_selector).unwrap_or_default(),
            // One that cannot be read was not written by this operator: it is written anew.
            status: object
                .get("status")
                .and_then(|status| TraceStatus::deserialize(status).ok())
                .unwrap_or_default(),
        })
    }

    /// When it stops by itself.
    pub fn expires(&self) -> Option<Timestamp> {
        self.created.checked_add(self.ttl?).ok()
    }
}

/// The last time that somebody set something of the spec, as the server keeps it.
fn spec_changed(metadata: &Value) -> Option<Timestamp> {
    let entries = metadata.get("managedFields").and_then(Value::as_array)?.iter();
    let of_spec = entries.filter(|entry| entry.pointer("/fieldsV1/f:spec").is_some());
    of_spec.filter_map(|entry| entry.get("time")?.as_str()?.parse().ok()).max()
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeObject {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
}

impl NodeObject {
    /// Whether an agent could run there. One that cannot have any is not missed.
    pub fn can_have_agent(&self) -> bool {
        let label = |key: &str| self.labels.get(key).map(String::as_str);
        label("kubernetes.io/os").is_none_or(|system| system == "linux")
            && label("eks.amazonaws.com/compute-type") != Some("fargate")
            && label("type") != Some("virtual-kubelet")
    }

    /// Whether a trace's `nodeSelector` selects it.
    pub fn is_selected(&self, selector: &BTreeMap<String, String>) -> bool {
        selector.iter().all(|(key, value)| self.labels.get(key) == Some(value))
    }
}

/// What became of a trace on a node. A newer agent may say what this operator has never heard of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum NodeState {
    /// It is active.
    Tracing,
    /// It selects no pod there.
    Idle,
    /// No slot is free for it.
    Waiting,
    /// The agent does not know all of its spec.
    Refused,
    /// Its ttl is over.
    Expired,
    /// It could not be loaded.
    Failed,
    /// Something else.
    #[default]
    #[serde(other)]
    Unknown,
}

/// What a node's agent says of one trace.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Entry {
    /// Of which trace.
    pub uid: String,
    /// Of which generation of its spec.
    pub generation: i64,
    /// What became of it.
    pub state: NodeState,
    /// Why, in one word.
    pub reason: String,
    /// Why, for people.
    pub message: String,
    /// Pods that it selects there.
    pub pods: u32,
    /// Its transitions since the agent started.
    pub counts: Counts,
}

/// Versions up to which an agent has seen traces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Observed {
    traces: Option<String>,
    cluster_traces: Option<String>,
}

impl Observed {
    /// Of a kind, if it can be compared.
    pub fn of(&self, kind: TraceKind) -> Option<u64> {
        let version = match kind {
            TraceKind::Namespaced => &self.traces,
            TraceKind::Cluster => &self.cluster_traces,
        };
        version.as_ref()?.parse().ok()
    }
}

/// What a node's agent reports: the status of its `TcpStateNode`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// The node, by the name of the object.
    pub node: String,
    /// When the agent started. Counts begin there.
    pub started: Option<Timestamp>,
    /// When it wrote this, by its own clock.
    pub written: Option<Timestamp>,
    /// Up to where in the server's history it has seen traces of either kind.
    pub observed: Observed,
    /// It traces something.
    pub is_tracing: bool,
    /// It has seen all that it watches: what it does not list is idle.
    pub is_whole: bool,
    /// By uid.
    pub traces: HashMap<String, Entry>,
}

/// The status as it is read: nothing in it that is new or odd makes the rest unreadable.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    start_time: Option<String>,
    last_report_time: Option<String>,
    observed: Observed,
    traces_loaded: u32,
    traces_omitted: u32,
    conditions: Vec<Value>,
    traces: Vec<Value>,
}

impl Report {
    /// `None` while the agent has written nothing.
    pub fn from_api(object: &Value) -> Option<Self> {
        let status = object.get("status").and_then(|status| Status::deserialize(status).ok())?;
        let time = |text: Option<String>| text?.parse().ok();
        let is_syncing = status.conditions.iter().any(|condition| condition["reason"] == "Syncing");
        let entries = status.traces.iter().filter_map(|entry| Entry::deserialize(entry).ok());
        Some(Self {
            node: object.pointer("/metadata/name")?.as_str()?.to_owned(),
            started: time(status.start_time),
            written: Some(time(status.last_report_time)?),
            observed: status.observed,
            is_tracing: status.traces_loaded > 0,
            is_whole: status.traces_omitted == 0 && !is_syncing,
            traces: entries.map(|entry| (entry.uid.clone(), entry)).collect(),
        })
    }
}
