//! The traces that are active, each under its bit.

use std::collections::BTreeSet;
use std::sync::Arc;

use kube_tcpstates_common::rule::{MAX_TRACES, TraceSet};
use kube_tcpstates_crds::LabelSelector;

use super::TraceKey;
use crate::filter::TraceFilter;
use crate::names::TraceName;
use crate::roster::PodInfo;

/// A trace that has a bit.
#[derive(Clone, Debug, PartialEq)]
pub struct ActiveTrace {
    /// `metadata.uid`.
    pub uid: String,
    /// Its name.
    pub key: TraceKey,
    /// As lines name it.
    pub name: TraceName,
    /// What the kernel judges.
    pub filter: TraceFilter,
    /// Which pods, within `namespaces`.
    pub pods: LabelSelector,
    /// Names of the namespaces whose pods it may show: its own, or those that its selector selects now.
    pub namespaces: BTreeSet<String>,
    /// Names of containers; empty is all.
    pub containers: BTreeSet<String>,
    /// A cluster trace whose selectors are all empty: it takes what nobody can name, too.
    pub everything: bool,
    /// Lines a second on this node; 0 is no limit.
    pub lines_per_second: u32,
    /// Lines at once after a quiet time.
    pub burst: u32,
    /// Keys of pod labels that its lines show.
    pub pod_labels: Vec<String>,
}

/// A container of a pod, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container<'a> {
    /// By its name in the pod's spec.
    Named(&'a str),
    /// The status has not told its id yet; it may be any.
    Pending,
    /// It is none that the spec names (the sandbox), or its name never came.
    Nameless,
}

/// Sets of traces for one cgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sets {
    /// Traces that select it.
    pub matched: TraceSet,
    /// Traces that could yet select it.
    pub maybe: TraceSet,
}

/// The active traces by bit. A trace keeps its bit as long as it is active.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    slots: Vec<Option<Arc<ActiveTrace>>>,
    /// Counts the plans whose slots differ: equal numbers mean that the same traces with the same filters are under
    /// the same bits.
    pub revision: u64,
}

impl Plan {
    /// A plan of slots.
    pub(crate) fn new(slots: Vec<Option<Arc<ActiveTrace>>>, revision: u64) -> Self {
        Self { slots, revision }
    }

    /// The active traces with their bits.
    pub fn active(&self) -> impl Iterator<Item = (usize, &Arc<ActiveTrace>)> {
        self.slots.iter().take(MAX_TRACES).enumerate().filter_map(|(bit, slot)| Some((bit, slot.as_ref()?)))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.active().next().is_none()
    }

    /// Bits of all active traces.
    pub fn live(&self) -> TraceSet {
        self.active().fold(0, |set, (bit, _)| set | 1 << bit)
    }

    /// Bits of the traces that take what nobody can name.
    pub fn everything(&self) -> TraceSet {
        self.active().filter(|(_, trace)| trace.everything).fold(0, |set, (bit, _)| set | 1 << bit)
    }

    /// The traces that select a container of a pod.
    pub fn sets(&self, pod: &PodInfo, container: Container<'_>) -> Sets {
        let mut sets = Sets::default();
        for (bit, trace) in self.active().filter(|(_, trace)| trace.selects(pod)) {
            if trace.containers.is_empty() {
                sets.matched |= 1 << bit;
                continue;
            }
            match container {
                Container::Named(name) if trace.containers.contains(name) => sets.matched |= 1 << bit,
                Container::Pending => sets.maybe |= 1 << bit,
                Container::Named(_) | Container::Nameless => {}
            }
        }
        sets
    }
}

impl ActiveTrace {
    /// Whether it selects a pod, some container of it at least.
    pub fn selects(&self, pod: &PodInfo) -> bool {
        self.namespaces.contains(&pod.namespace) && self.pods.matches(&pod.labels)
    }
}

/// Plans for tests of other stations.
#[cfg(test)]
pub(crate) mod support {
    use std::sync::Arc;

    use super::{ActiveTrace, Plan};
    use crate::{
        filter::{CgroupChoice, TraceFilter},
        names::TraceName,
        plan::TraceKey,
    };

    /// A plan of traces that select every pod of namespace `ns`, by their UIDs, one for each bit; an empty one leaves
    /// its bit free.
    pub(crate) fn plan_of(uids: &[&str]) -> Plan {
        let slot = |uid: &&str| {
            (!uid.is_empty()).then(|| {
                Arc::new(ActiveTrace {
                    uid: (*uid).to_owned(),
                    key: TraceKey { namespace: Some("ns".to_owned()), name: (*uid).to_owned() },
                    name: TraceName::Namespaced(format!("ns/{uid}")),
                    filter: TraceFilter { cgroups: CgroupChoice::Selected, ..TraceFilter::default() },
                    pods: kube_tcpstates_crds::LabelSelector::default(),
                    namespaces: ["ns".to_owned()].into(),
                    containers: std::collections::BTreeSet::new(),
                    everything: false,
                    lines_per_second: 0,
                    burst: 0,
                    pod_labels: Vec::new(),
                })
            })
        };
        Plan::new(uids.iter().map(slot).collect(), 1)
    }
}
