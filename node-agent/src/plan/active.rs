//! The traces that are active, each under its bit.

use std::sync::Arc;

use kube_tcpstates_common::rule::{MAX_TRACES, TraceSet};

use super::{IdScope, Outcomes, PodScope, Scope, TraceKey};
use crate::filter::{CgroupChoice, TraceFilter};
use crate::identity::Identity;
use crate::names::{TraceBit, TraceName};
use crate::open::Snapshots;
use crate::roster::PodInfo;

/// A trace that has a bit.
#[derive(Clone, Debug, PartialEq)]
pub struct ActiveTrace {
    /// `metadata.uid`.
    pub uid: String,
    /// Its name.
    pub key: TraceKey,
    /// As lines name it; the command line's own trace has no name.
    pub name: Option<TraceName>,
    /// What the kernel judges.
    pub filter: TraceFilter,
    /// How connections must have ended that are told, or added up.
    pub outcomes: Outcomes,
    /// Time between two summaries, ns, in [`crate::filter::Mode::Summary`].
    pub interval_ns: u64,
    /// Whose sockets.
    pub scope: Scope,
    /// Lines a second on this node; 0 is no limit.
    pub lines_per_second: u32,
    /// Lines at once after a quiet time.
    pub burst: u32,
    /// Keys of pod labels that its lines show.
    pub pod_labels: Vec<String>,
    /// Its lines name the other end.
    pub peer_names: bool,
    /// Snapshots of what is open.
    pub open: Option<Snapshots>,
}

/// A trace's name as lines have it.
pub(super) fn name_on_lines(key: &TraceKey) -> TraceName {
    match &key.namespace {
        Some(namespace) => TraceName::Namespaced(format!("{namespace}/{}", key.name)),
        None => TraceName::Cluster(key.name.clone()),
    }
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

/// What the cluster says of whoever owns a socket.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'a> {
    /// No pod of it, or one that nobody could name in time.
    NoPod,
    /// It may yet turn out to be any pod.
    Unknown,
    /// A container of a pod.
    Pod(&'a PodInfo, Container<'a>),
}

/// Sets of traces for one cgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sets {
    /// Traces that select it.
    pub matched: TraceSet,
    /// Traces that select it if it turns out to be theirs.
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

    /// The traces that a run before this one left, by name alone: what they ask for comes with the next plan.
    pub fn left(bits: &[TraceBit]) -> Self {
        let mut slots = vec![None; MAX_TRACES];
        for TraceBit { bit, uid, namespace, name } in bits {
            let Some(slot) = slots.get_mut(*bit) else { continue };
            let key = TraceKey { namespace: namespace.clone(), name: name.clone() };
            *slot = Some(Arc::new(ActiveTrace {
                uid: uid.clone(),
                name: (!name.is_empty()).then(|| name_on_lines(&key)),
                key,
                filter: TraceFilter::default(),
                outcomes: Outcomes::ANY,
                interval_ns: 0,
                scope: Scope::Ids(IdScope::default()),
                lines_per_second: 0,
                burst: 0,
                pod_labels: Vec::new(),
                peer_names: false,
                open: None,
            }));
        }
        Self::new(slots, 0)
    }

    /// The command line's one trace, under bit 0.
    pub fn of_command_line(
        filter: TraceFilter,
        (outcomes, interval_ns): (Outcomes, u64),
        scope: IdScope,
        open: Option<Snapshots>,
    ) -> Self {
        let trace = ActiveTrace {
            uid: String::new(),
            key: TraceKey { namespace: None, name: String::new() },
            name: None,
            filter,
            outcomes,
            interval_ns,
            scope: Scope::Ids(scope),
            lines_per_second: 0,
            burst: 0,
            pod_labels: Vec::new(),
            peer_names: false,
            open,
        };
        Self::new(vec![Some(Arc::new(trace))], 1)
    }

    /// The same, and lines show these labels of the pod.
    #[must_use]
    pub fn with_pod_labels(self, keys: &[String]) -> Self {
        let with = |trace: Arc<ActiveTrace>| {
            Arc::new(ActiveTrace { pod_labels: keys.to_vec(), ..Arc::unwrap_or_clone(trace) })
        };
        Self { slots: self.slots.into_iter().map(|slot| slot.map(with)).collect(), ..self }
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

    /// Bits of the traces that select by owner.
    pub fn by_owner(&self) -> TraceSet {
        self.bits(|trace| trace.filter.cgroups == CgroupChoice::Selected)
    }

    /// Bits of the traces that take what nobody can name.
    pub fn everything(&self) -> TraceSet {
        self.bits(|trace| trace.pods().is_some_and(|scope| scope.everything))
    }

    /// Bits of the traces whose lines show labels of the pod.
    pub fn asks_labels(&self) -> TraceSet {
        self.bits(|trace| !trace.pod_labels.is_empty())
    }

    /// Bits of the traces whose lines name the other end.
    pub fn asks_peers(&self) -> TraceSet {
        self.bits(|trace| trace.peer_names)
    }

    fn bits(&self, is: impl Fn(&ActiveTrace) -> bool) -> TraceSet {
        self.active().filter(|(_, trace)| is(trace)).fold(0, |set, (bit, _)| set | 1 << bit)
    }

    /// The traces that select an owner, of which the path says `identity` and the cluster `subject`.
    pub fn sets(&self, identity: Option<&Identity>, subject: Subject<'_>) -> Sets {
        let mut sets = Sets::default();
        for (bit, trace) in self.active().filter(|(_, trace)| trace.filter.cgroups == CgroupChoice::Selected)
        {
            match trace.takes(identity, subject) {
                Some(true) => sets.matched |= 1 << bit,
                Some(false) => {}
                None => sets.maybe |= 1 << bit,
            }
        }
        sets
    }
}

impl ActiveTrace {
    /// Which pods it selects, if it selects by pod.
    pub fn pods(&self) -> Option<&PodScope> {
        match &self.scope {
            Scope::Pods(scope) => Some(scope),
            Scope::Ids(_) => None,
        }
    }

    /// Whether it selects an owner; `None` while nobody can say.
    fn takes(&self, identity: Option<&Identity>, subject: Subject<'_>) -> Option<bool> {
        match (&self.scope, subject) {
            (Scope::Ids(scope), _) => Some(identity.is_some_and(|identity| scope.takes(identity))),
            (Scope::Pods(_), Subject::Unknown) => None,
            (Scope::Pods(_), Subject::NoPod) => Some(false),
            (Scope::Pods(scope), Subject::Pod(pod, container)) => {
                if scope.selects(pod) {
                    scope.takes(container)
                } else {
                    Some(false)
                }
            }
        }
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
        plan::{Outcomes, PodScope, Scope, TraceKey},
    };

    /// A plan of traces that select every pod of namespace `ns`, by their UIDs, one for each bit; an empty one leaves
    /// its bit free.
    pub(crate) fn plan_of(uids: &[&str]) -> Plan {
        let slot = |uid: &&str| {
            (!uid.is_empty()).then(|| {
                Arc::new(ActiveTrace {
                    uid: (*uid).to_owned(),
                    key: TraceKey { namespace: Some("ns".to_owned()), name: (*uid).to_owned() },
                    name: Some(TraceName::Namespaced(format!("ns/{uid}"))),
                    filter: TraceFilter { cgroups: CgroupChoice::Selected, ..TraceFilter::default() },
                    outcomes: Outcomes::ANY,
                    interval_ns: 0,
                    scope: Scope::Pods(PodScope {
                        namespaces: ["ns".to_owned()].into(),
                        ..PodScope::default()
                    }),
                    lines_per_second: 0,
                    burst: 0,
                    pod_labels: Vec::new(),
                    peer_names: false,
                    open: None,
                })
            })
        };
        Plan::new(uids.iter().map(slot).collect(), 1)
    }
}
