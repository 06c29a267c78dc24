//! A small cluster for the tests: what the planner is told, and how to change it.

use std::collections::BTreeMap;

use kube_tcpstates_crds::{TraceKind, validate::check_spec};
use serde_json::Value;

use super::{Inputs, NamespaceLabels, Planned, Planner, TraceKey, TraceObject, TraceStanding};
use crate::roster::{ContainerInfo, PodInfo, Roster};

pub(super) const SECOND: u64 = 1_000_000_000;

pub(super) fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// A pod with one container, `app`. Its UID is made of its name.
pub(super) fn pod(namespace: &str, name: &str, with: &[(&str, &str)]) -> PodInfo {
    PodInfo {
        uid: format!("uid-{namespace}-{name}"),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        labels: labels(with),
        containers: vec![ContainerInfo { name: "app".to_owned(), ids: Vec::new() }],
        ..PodInfo::default()
    }
}

/// A trace; without a namespace one of the cluster. Its UID is made of its name.
pub(super) fn trace(namespace: Option<&str>, name: &str, created_s: i64, spec: &Value) -> TraceObject {
    let kind = if namespace.is_some() { TraceKind::Namespaced } else { TraceKind::Cluster };
    TraceObject {
        key: TraceKey { namespace: namespace.map(str::to_owned), name: name.to_owned() },
        uid: format!("uid-{}-{name}", namespace.unwrap_or_default()),
        generation: 1,
        created_s,
        bytes: spec.to_string().len(),
        checked: check_spec(kind, Some(spec)),
    }
}

#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) traces: BTreeMap<TraceKey, TraceObject>,
    pub(super) roster: Roster,
    pub(super) node_labels: Option<BTreeMap<String, String>>,
    pub(super) namespaces: Option<NamespaceLabels>,
    pub(super) now_ns: u64,
    pub(super) now_s: i64,
}

impl World {
    pub(super) fn with(pods: impl IntoIterator<Item = PodInfo>) -> Self {
        let mut roster = Roster::default();
        roster.replace(pods.into_iter().collect(), 0);
        Self {
            traces: BTreeMap::new(),
            roster,
            node_labels: Some(BTreeMap::new()),
            namespaces: Some(NamespaceLabels::new()),
            now_ns: 100 * SECOND,
            now_s: 1_000_000,
        }
    }

    pub(super) fn add(&mut self, trace: TraceObject) {
        self.traces.insert(trace.key.clone(), trace);
    }

    pub(super) fn remove(&mut self, namespace: Option<&str>, name: &str) {
        let key = TraceKey { namespace: namespace.map(str::to_owned), name: name.to_owned() };
        assert!(self.traces.remove(&key).is_some());
    }

    pub(super) fn inputs(&self) -> Inputs<'_> {
        Inputs {
            traces: &self.traces,
            roster: &self.roster,
            node_labels: self.node_labels.as_ref(),
            namespaces: self.namespaces.as_ref(),
            now_ns: self.now_ns,
            now_s: self.now_s,
        }
    }

    pub(super) fn plan(&self, planner: &mut Planner) -> Planned {
        planner.plan(&self.inputs())
    }

    /// How a trace stands when planned for the first time.
    pub(super) fn standing(&self, name: &str) -> TraceStanding {
        self.plan(&mut Planner::default()).of(name)
    }
}

impl Planned {
    pub(super) fn of(&self, name: &str) -> TraceStanding {
        self.standings.iter().find(|standing| standing.key.name == name).unwrap().clone()
    }

    /// Names of active traces by bit.
    pub(super) fn bits(&self) -> BTreeMap<String, usize> {
        self.plan.active().map(|(bit, trace)| (trace.key.name.clone(), bit)).collect()
    }
}
