//! What a plan is made from.

use std::collections::BTreeMap;

use kube_tcpstates_crds::{CheckedTrace, Refusal, TraceKey};

use crate::roster::Roster;

/// A trace as it stands in the API.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceObject {
    /// Its name.
    pub key: TraceKey,
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.generation`.
    pub generation: i64,
    /// `metadata.creationTimestamp`, seconds since the Unix epoch.
    pub created_s: i64,
    /// Bytes of the spec as text; 0 once it is not kept.
    pub bytes: usize,
    /// Its spec, or what is wrong with it.
    pub checked: Result<CheckedTrace, Refusal>,
}

/// Labels of each namespace, by name.
pub type NamespaceLabels = BTreeMap<String, BTreeMap<String, String>>;

/// Everything a plan is made from.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The traces, by name.
    pub traces: &'a BTreeMap<TraceKey, TraceObject>,
    /// The pods of the node.
    pub roster: &'a Roster,
    /// Labels of the Node; `None` while it is not known.
    pub node_labels: Option<&'a BTreeMap<String, String>>,
    /// Labels of the namespaces; `None` while they are not known (or may not be read).
    pub namespaces: Option<&'a NamespaceLabels>,
    /// `CLOCK_BOOTTIME`, ns.
    pub now_ns: u64,
    /// Wall clock, seconds since the Unix epoch.
    pub now_s: i64,
}
