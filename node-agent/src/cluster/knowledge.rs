//! What the agent knows of the cluster, and when it makes a plan of it. One writer; no I/O, time is an argument.
//!
//! Every change of the pods is handed on at once: a container's id that arrives decides lines that wait for it. Plans
//! are made a moment after a change, since changes come in bursts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kube_tcpstates_client::{Delta, Resource, Trouble};
use kube_tcpstates_crds::TraceKind;
use kube_tcpstates_crds::node::{Observed, TraceState};

use super::change::{Change, NamespaceObject, NodeObject};
use super::resources::{self, NAMESPACES, PODS};
use crate::peers::{News, Update};
use crate::plan::{Inputs, NamespaceLabels, Plan, Planned, Planner, TraceKey, TraceObject, View, bound};
use crate::roster::{PodInfo, Roster};

const MS: u64 = 1_000_000;
/// After a change: what else belongs to it follows at once.
const SETTLE_NS: u64 = 50 * MS;
/// Between two plans.
const PLAN_SPACING_NS: u64 = 100 * MS;
/// A watch of pods that has been broken for longer may have missed a pod.
const DOUBT_AFTER_NS: u64 = 5_000 * MS;
/// Pods that were deleted long ago are forgotten so often.
const EXPIRE_EVERY_NS: u64 = 1_000 * MS;

/// Both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// `CLOCK_BOOTTIME`, ns.
    pub boot_ns: u64,
    /// Wall clock, ms since the Unix epoch.
    pub unix_ms: i64,
}

impl Now {
    /// Whole seconds that are over. What falls on a second, as the end of a ttl does, is reached when that has begun.
    const fn unix_s(self) -> i64 {
        self.unix_ms.div_euclid(1_000)
    }
}

/// How a watch does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncStatus {
    /// A whole list has come.
    pub listed: bool,
    /// It does not work since then, boot time.
    pub broken_ns: Option<u64>,
    /// Something came then, boot time: an object, or the start of a watch.
    pub last_ns: Option<u64>,
}

impl SyncStatus {
    /// It is known and current.
    pub fn in_sync(&self) -> bool {
        self.listed && self.broken_ns.is_none()
    }
}

/// What is due.
#[derive(Clone, Debug, Default)]
pub struct Due {
    /// To trace by from now on.
    pub view: Option<View>,
    /// There is a new plan.
    pub planned: bool,
    /// Of who has which address, for after the view.
    pub news: Vec<News>,
}

/// Everything known of the cluster.
#[derive(Debug, Default)]
pub struct Knowledge {
    roster: Roster,
    traces: BTreeMap<TraceKey, TraceObject>,
    node: Option<NodeObject>,
    namespaces: NamespaceLabels,
    syncs: BTreeMap<Resource, SyncStatus>,
    news: Vec<News>,
    /// Of what tells who other ends are, that which cannot be read.
    unread: BTreeMap<Resource, Trouble>,
    /// Up to which versions traces are known.
    observed: Observed,
    planner: Planner,
    planned: Planned,
    /// Namespaces of the pods that it was made for.
    planned_namespaces: BTreeSet<String>,
    /// The revision of the last plan handed on.
    handed: Option<u64>,
    /// The pods changed since then.
    roster_changed: bool,
    /// Something changed since the last plan, first then.
    dirty_ns: Option<u64>,
    planned_ns: Option<u64>,
    expired_ns: u64,
}

impl Knowledge {
    /// Traces of one namespace that may be active; 0 is no limit.
    pub fn new(max_per_namespace: usize) -> Self {
        Self { planner: Planner::new(max_per_namespace), ..Self::default() }
    }

    /// Traces keep the bits that they had in the plan `before`.
    #[must_use]
    pub fn after(self, before: Plan) -> Self {
        Self { planner: self.planner.after(before), ..self }
    }

    /// These pods were known before, and when each was deleted.
    #[must_use]
    pub fn remembering(mut self, pods: Vec<(PodInfo, Option<u64>)>) -> Self {
        self.roster.remember(pods);
        self
    }

    /// The pods.
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// The node, while it exists.
    pub fn node(&self) -> Option<&NodeObject> {
        self.node.as_ref()
    }

    /// The last plan and how each trace stands.
    pub fn planned(&self) -> &Planned {
        &self.planned
    }

    /// Up to which versions traces are known.
    pub fn observed(&self) -> &Observed {
        &self.observed
    }

    /// How the watch of a resource does.
    pub fn sync(&self, resource: Resource) -> SyncStatus {
        self.syncs.get(&resource).copied().unwrap_or_default()
    }

    /// The lists that have not come yet.
    pub fn missing(&self) -> impl Iterator<Item = Resource> {
        resources::REQUIRED.into_iter().filter(|resource| !self.sync(*resource).listed)
    }

    /// Something was told.
    pub fn take(&mut self, change: Change, now: Now) {
        let resource = change.resource();
        // A watch that has ended may have spoken once more.
        if resources::OF_PEERS.contains(&resource) && !self.asks_peers() {
            return;
        }
        match change {
            Change::Pods(delta) => {
                self.heard(resource, &delta, now);
                self.pods(delta, now);
            }
            Change::Nodes(delta) => {
                self.heard(resource, &delta, now);
                self.nodes(delta, now);
            }
            Change::Namespaces(delta) => {
                self.heard(resource, &delta, now);
                self.namespaces(delta, now);
            }
            Change::Traces(kind, delta) => {
                self.heard(resource, &delta, now);
                if self.traces(kind, *delta) {
                    self.touch(now);
                }
            }
            Change::Seen(kind, version) => {
                self.works(resource, now);
                let observed = match kind {
                    TraceKind::Namespaced => &mut self.observed.traces,
                    TraceKind::Cluster => &mut self.observed.cluster_traces,
                };
                *observed = Some(version);
            }
            Change::News(news) => {
                let is_list = matches!(*news, News::Services(Update::All(_)) | News::Slices(Update::All(_)));
                self.syncs.entry(resource).or_default().listed |= is_list;
                self.works(resource, now);
                self.news.push(*news);
            }
            Change::Broken(broken) => {
                if resources::OF_PEERS.contains(&resource) {
                    self.unread.insert(resource, broken.trouble);
                }
                let sync = self.syncs.entry(resource).or_default();
                sync.broken_ns.get_or_insert(now.boot_ns);
            }
            Change::Works(_) => self.works(resource, now),
        }
    }

    /// Namespaces are not watched any more: what was known of them goes stale.
    pub fn forget_namespaces(&mut self, now: Now) {
        self.namespaces.clear();
        self.syncs.remove(&NAMESPACES);
        self.touch(now);
    }

    /// An active trace asks who other ends are.
    pub fn asks_peers(&self) -> bool {
        self.planned.plan.asks_peers() != 0
    }

    /// Services and slices are not watched any more.
    pub fn forget_peers(&mut self) {
        self.news.clear();
        for resource in resources::OF_PEERS {
            self.syncs.remove(&resource);
            self.unread.remove(&resource);
        }
    }

    /// Why lines go without the names of other ends that traces ask for; `None` while they do not, and while the server
    /// is only away.
    pub fn nameless(&self) -> Option<String> {
        let (resource, trouble) = self
            .unread
            .iter()
            .find(|(_, trouble)| matches!(trouble, Trouble::Forbidden | Trouble::NotInstalled))?;
        let resource = resource.plural();
        Some(match trouble {
            Trouble::Forbidden => format!("no peer names: the agent may not list and watch {resource}"),
            _ => format!("no peer names: the API server has no {resource}"),
        })
    }

    /// What is due. Nothing until every list has come once: half of what there is would trace half of what is asked,
    /// or more than that.
    pub fn due(&mut self, now: Now) -> Due {
        self.doubt(now);
        self.expire(now);
        if self.missing().next().is_some() {
            return Due::default();
        }
        let planned = self.plan_due().is_some_and(|due| due <= now.boot_ns) || self.is_time_over(now);
        if planned {
            self.plan(now);
        }
        Due { view: self.view(), planned, news: std::mem::take(&mut self.news) }
    }

    /// When there is something to do next, if nothing is told before, boot time.
    pub fn wake_ns(&self, now: Now) -> u64 {
        let mut wake = self.expired_ns + EXPIRE_EVERY_NS;
        if self.missing().next().is_none() {
            wake = wake.min(self.plan_due().unwrap_or(u64::MAX));
            if let Some(release_ns) = self.planned.next_release_ns {
                wake = wake.min(release_ns.max(self.rested_ns()));
            }
            if let Some(expiry_s) = self.planned.next_expiry_s {
                let left_ms = expiry_s.saturating_mul(1_000).saturating_sub(now.unix_ms);
                let at = now.boot_ns.saturating_add(u64::try_from(left_ms).unwrap_or(0).saturating_mul(MS));
                wake = wake.min(at.max(self.rested_ns()));
            }
        }
        wake
    }

    fn heard<T>(&mut self, resource: Resource, delta: &Delta<T>, now: Now) {
        let sync = self.syncs.entry(resource).or_default();
        sync.listed |= matches!(delta, Delta::Listed(_));
        self.works(resource, now);
    }

    fn works(&mut self, resource: Resource, now: Now) {
        let sync = self.syncs.entry(resource).or_default();
        sync.broken_ns = None;
        sync.last_ns = Some(now.boot_ns);
        let listed = sync.listed;
        self.unread.remove(&resource);
        if resource == PODS && listed && !self.roster.in_sync() {
            self.roster.set_in_sync(true);
            self.roster_changed = true;
        }
    }

    fn pods(&mut self, delta: Delta<PodInfo>, now: Now) {
        match delta {
            Delta::Listed(pods) => self.roster.replace(pods, now.boot_ns),
            Delta::Applied(pod) if self.is_known(&pod) => return,
            Delta::Applied(pod) => self.roster.apply(pod),
            Delta::Deleted(pod) => {
                // Its last state has what came together with the end: the ids of short containers.
                let uid = pod.uid.clone();
                self.roster.apply(pod);
                self.roster.delete(&uid, now.boot_ns);
            }
        }
        self.roster_changed = true;
        self.touch(now);
    }

    /// Most changes of a pod are of things that are not kept.
    fn is_known(&self, pod: &PodInfo) -> bool {
        self.roster.pod(&pod.uid).is_some_and(|known| **known == *pod)
            && self.roster.live().any(|live| live.uid == pod.uid)
    }

    fn nodes(&mut self, delta: Delta<NodeObject>, now: Now) {
        let node = match delta {
            Delta::Listed(nodes) => nodes.into_iter().next(),
            Delta::Applied(node) => Some(node),
            Delta::Deleted(_) => None,
        };
        if node != self.node {
            self.node = node;
            self.touch(now);
        }
    }

    fn namespaces(&mut self, delta: Delta<NamespaceObject>, now: Now) {
        match delta {
            Delta::Listed(all) => {
                self.namespaces =
                    all.into_iter().map(|namespace| (namespace.name, namespace.labels)).collect();
            }
            Delta::Applied(namespace) => {
                self.namespaces.insert(namespace.name, namespace.labels);
            }
            Delta::Deleted(namespace) => {
                self.namespaces.remove(&namespace.name);
            }
        }
        self.touch(now);
    }

    /// Whether anything is different for it. Whoever keeps a trace's status writes it often.
    fn traces(&mut self, kind: TraceKind, delta: Delta<TraceObject>) -> bool {
        match delta {
            Delta::Listed(all) => {
                let of_kind = |key: &TraceKey| key.namespace.is_some() == (kind == TraceKind::Namespaced);
                let listed: BTreeSet<&TraceKey> = all.iter().map(|trace| &trace.key).collect();
                self.traces.retain(|key, _| !of_kind(key) || listed.contains(key));
                self.traces.extend(all.into_iter().map(|trace| (trace.key.clone(), trace)));
            }
            Delta::Applied(trace) => {
                if self.traces.get(&trace.key) == Some(&trace) {
                    return false;
                }
                self.traces.insert(trace.key.clone(), trace);
            }
            Delta::Deleted(trace) => {
                self.traces.remove(&trace.key);
            }
        }
        bound(self.traces.values_mut());
        true
    }

    fn touch(&mut self, now: Now) {
        self.dirty_ns.get_or_insert(now.boot_ns);
    }

    /// What was not heard of may exist now, so nobody may conclude anything from a pod's absence.
    fn doubt(&mut self, now: Now) {
        let broken_ns = self.sync(PODS).broken_ns;
        let too_long = broken_ns.is_some_and(|since| now.boot_ns.saturating_sub(since) >= DOUBT_AFTER_NS);
        if too_long && self.roster.in_sync() {
            self.roster.set_in_sync(false);
            self.roster_changed = true;
        }
    }

    fn expire(&mut self, now: Now) {
        if now.boot_ns.saturating_sub(self.expired_ns) >= EXPIRE_EVERY_NS {
            self.expired_ns = now.boot_ns;
            self.roster.expire(now.boot_ns);
        }
    }

    fn plan_due(&self) -> Option<u64> {
        let spaced = self.rested_ns();
        // The first one waits for nothing.
        let settled = self.dirty_ns? + if self.planned_ns.is_some() { SETTLE_NS } else { 0 };
        Some(settled.max(spaced))
    }

    /// From when on a plan may be made.
    fn rested_ns(&self) -> u64 {
        self.planned_ns.map_or(0, |last| last + PLAN_SPACING_NS)
    }

    /// A ttl has ended, or a slot becomes free.
    fn is_time_over(&self, now: Now) -> bool {
        let expired = self.planned.next_expiry_s.is_some_and(|at| at <= now.unix_s());
        let released = self.planned.next_release_ns.is_some_and(|at| at <= now.boot_ns);
        (expired || released) && self.rested_ns() <= now.boot_ns
    }

    fn plan(&mut self, now: Now) {
        self.dirty_ns = None;
        self.planned_ns = Some(now.boot_ns);
        self.planned_namespaces = self.roster.namespaces().into_iter().map(str::to_owned).collect();
        self.planned = self.planner.plan(&Inputs {
            traces: &self.traces,
            roster: &self.roster,
            node_labels: self.node.as_ref().map(|node| &node.labels),
            namespaces: self.sync(NAMESPACES).listed.then_some(&self.namespaces),
            now_ns: now.boot_ns,
            now_s: now.unix_s(),
        });
    }

    /// Pods of a namespace have come that the plan knows nothing of: no cluster trace of it takes them yet, so what waits
    /// for their names would be taken for nobody's. They go on together with the next plan.
    fn is_ahead_of_plan(&self) -> bool {
        let mut namespaces = self.roster.namespaces().into_iter();
        !self.planned.plan.is_empty() && namespaces.any(|name| !self.planned_namespaces.contains(name))
    }

    fn view(&mut self) -> Option<View> {
        self.planned_ns?;
        let plan: &Arc<Plan> = &self.planned.plan;
        let replanned = self.handed != Some(plan.revision);
        if !replanned && (!self.roster_changed || self.is_ahead_of_plan()) {
            return None;
        }
        self.roster_changed = false;
        self.handed = Some(plan.revision);
        let refused = self.planned.standings.iter().filter(|standing| standing.state == TraceState::Refused);
        let refused = u32::try_from(refused.count()).unwrap_or(u32::MAX);
        Some(View { plan: Arc::clone(plan), roster: Some(Arc::new(self.roster.clone())), refused })
    }
}

#[cfg(test)]
#[path = "knowledge_tests.rs"]
mod tests;
