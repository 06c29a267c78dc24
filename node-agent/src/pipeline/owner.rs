//! Station 4 with its look-ups: who owns the socket of a transition. Reads only.
//!
//! In steady state one hash look-up by cgroup id answers. What the index of cgroups does not know is looked up by id;
//! what the socket's cgroup does not say, the cgroup v1 of its task may, and where that says nothing either, /proc and
//! the network namespace (host processes, layouts without cgroup2). An answer is kept by cgroup only where the cgroup
//! alone gave it: two sockets of one place may be two pods'.

use std::{hash::Hash, path::PathBuf, sync::Arc};

use kube_tcpstates_common::rule::TraceSet;
use kube_tcpstates_events::{Attribution, AttributionSource, AttributionStatus};

use super::{
    cgroups::Cgroups,
    describe::{Describer, Whereabouts},
    membership::Layout,
    standing::{Awaited, Place, Standing, Standings},
    tasks::Tasks,
};
use crate::{
    cgroupfs,
    decode::Transition,
    identity::{self, Evidence, Identity, SocketCgroup, netns::Found, netns::Namespaces},
    kernel::boot_ns,
    names::{Numbered, Owner, QuickMap},
    plan::{Sets, View},
    roster::PodInfo,
};

/// Least time between two scans of all processes for their network namespaces.
const SCAN_PAUSE_NS: u64 = 1_000_000_000;
/// Answers kept. Above this all are forgotten, and found again at one look-up each.
const CACHED: usize = 16_384;

/// The answer: who owns a socket, and who asked for it.
#[derive(Clone, Debug)]
pub(super) struct Resolved {
    /// By what it was found.
    pub(super) attribution: Attribution,
    /// What the cluster knows of the owner.
    pub(super) standing: Standing,
    /// As lines name it.
    pub(super) owner: Option<Arc<Numbered<Owner>>>,
    /// The traces that select it, among those that select by owner.
    pub(super) sets: Sets,
}

/// Finds owners.
pub(super) struct Owners {
    pub(super) cgroups: Cgroups,
    pub(super) standings: Standings,
    layout: Layout,
    /// Absent where it is a container's: what is process 7 there is not the kernel's process 7.
    proc_root: Option<PathBuf>,
    /// Absent where most processes cannot be looked at: who seems alone in a namespace may not be.
    namespaces: Option<Namespaces>,
    scanned_ns: u64,
    tasks: Tasks,
    /// By cgroup id, of cgroups that say all there is to say.
    resolved: QuickMap<u64, Arc<Resolved>>,
    /// The same by the task's cgroup v1 and the namespace in which it was met.
    resolved_by_task: QuickMap<(u64, Option<u64>), Arc<Resolved>>,
    describer: Describer,
}

impl Owners {
    /// `proc_root` is where the host's processes are to be seen, if they are. `unified`: every process is in the unified
    /// hierarchy. `reads_tasks`: the kernel side tells in which cgroup v1 they are.
    pub(super) fn new(
        cgroups: Cgroups,
        proc_root: PathBuf,
        (unified, reads_tasks): (bool, bool),
        whereabouts: Whereabouts,
    ) -> Self {
        let proc_root = Some(proc_root).filter(|root| cgroupfs::shows_the_host(root));
        let host = proc_root.as_deref().and_then(|root| cgroupfs::host_namespace(root).ok());
        let namespaces = host.map(|inode| {
            let mut namespaces = Namespaces::new();
            namespaces.set_host(inode);
            namespaces
        });
        Self {
            cgroups,
            standings: Standings::default(),
            layout: Layout { unified, other_evidence: proc_root.is_some() || reads_tasks },
            tasks: Tasks::new(proc_root.clone()),
            proc_root,
            namespaces,
            scanned_ns: 0,
            resolved: QuickMap::default(),
            resolved_by_task: QuickMap::default(),
            describer: Describer::new(whereabouts),
        }
    }

    /// Where owners may be found.
    pub(super) const fn layout(&self) -> Layout {
        self.layout
    }

    /// Another view is in force: whoever owns a socket may be known otherwise.
    pub(super) fn look_through(&mut self, view: View) {
        self.standings.look_through(view);
        self.resolved.clear();
        self.resolved_by_task.clear();
        self.describer.clear();
    }

    /// The owner of a transition's socket.
    pub(super) fn resolve(&mut self, transition: &Transition) -> Arc<Resolved> {
        if let Some(resolved) = transition.cgroup_id.and_then(|id| self.resolved.get(&id)) {
            return Arc::clone(resolved);
        }
        let cgroup = transition.cgroup_id.and_then(|id| self.cgroups.identity(id));
        if let Some(own) = cgroup.as_ref().filter(|own| self.layout.is_conclusive(own)) {
            let resolved = Arc::new(self.by_evidence(transition, Some(own), None));
            if let Some(id) = transition.cgroup_id.filter(|_| resolved.is_settled()) {
                keep(&mut self.resolved, id, &resolved);
            }
            return resolved;
        }
        let key = transition.task_cgroup.map(|id| (id, transition.netns_cookie));
        if let Some(resolved) = key.and_then(|key| self.resolved_by_task.get(&key)) {
            return Arc::clone(resolved);
        }
        let told = transition.task_cgroup.and_then(|id| self.cgroups.task_identity(id));
        let resolved = Arc::new(self.by_evidence(transition, cgroup.as_ref(), told.as_ref()));
        if let Some(key) = key
            && told.is_some_and(|told| told.is_contained())
            && resolved.is_settled()
        {
            keep(&mut self.resolved_by_task, key, &resolved);
        }
        resolved
    }

    /// The owner of a transition's socket for which this is waited for no longer, and what else is.
    pub(super) fn end_wait(
        &mut self,
        transition: &Transition,
        awaited: &Awaited,
    ) -> (Arc<Resolved>, Option<Awaited>) {
        let mut resolved = self.resolve(transition);
        if self.standings.end_wait(awaited, &resolved.standing) {
            if let Some(id) = transition.cgroup_id {
                self.cgroups.is_news(id);
            }
            resolved = self.resolve(transition);
        }
        let another = resolved.standing.awaited().filter(|now| now != awaited);
        (resolved, another)
    }

    /// A pod does not exist, and the rules may know that these cgroups are nobody's.
    pub(super) fn end_doubt(&mut self, uid: &str, cgroups: impl Iterator<Item = u64>) {
        self.standings.end_doubt(uid);
        for id in cgroups {
            self.cgroups.is_news(id);
        }
    }

    /// What lines show of an owner under traces that ask for labels of the pod.
    pub(super) fn labelled(&mut self, resolved: &Resolved, asking: TraceSet) -> Option<Arc<Numbered<Owner>>> {
        let owner = resolved.owner.as_ref()?;
        let plan = self.standings.plan();
        let keys = || {
            let asked = plan.active().filter(|(bit, _)| asking >> bit & 1 == 1);
            let mut keys: Vec<String> = asked.flat_map(|(_, trace)| trace.pod_labels.clone()).collect();
            keys.sort_unstable();
            keys.dedup();
            keys
        };
        Some(self.describer.labelled(owner, &resolved.standing, asking, keys))
    }

    /// `told` is what the kernel side has told of the task.
    fn by_evidence(
        &mut self,
        transition: &Transition,
        cgroup: Option<&Arc<Identity>>,
        told: Option<&Arc<Identity>>,
    ) -> Resolved {
        if let Some(pod) = self.describer.only_pod() {
            let pod = Arc::clone(pod);
            return self.of_only_pod(pod, cgroup.map(Arc::as_ref));
        }
        let conclusive = cgroup.is_some_and(|identity| self.layout.is_conclusive(identity));
        let asks_proc = !conclusive && told.is_none_or(|told| told.is_root());
        let process = transition.process.filter(|_| asks_proc);
        let task = process.and_then(|process| self.tasks.identity(process));
        let by_task = [told, task.as_ref()].into_iter().flatten().find(|identity| identity.is_contained());
        if let (Some(identity), Some(cookie), Some(namespaces)) =
            (by_task, transition.netns_cookie, &mut self.namespaces)
        {
            namespaces.met(cookie, identity);
        }
        let known = conclusive || told.is_some() || task.is_some();
        let netns = if known { Found::Unknown } else { self.namespace(transition) };
        let found = identity::attribute(Evidence {
            cgroup: match (transition.cgroup_id, cgroup) {
                (_, Some(identity)) => SocketCgroup::Known(identity),
                (Some(_), None) => SocketCgroup::Unindexed,
                (None, None) => SocketCgroup::Unread,
            },
            task_cgroup: told,
            task: task.as_ref(),
            netns: &netns,
            unified: self.layout.unified,
        });
        let identity = found.identity.as_deref();
        let standing = match identity {
            Some(identity) => self.standings.of(identity),
            None => self.standings.of_nobody(found.status, Place::of(transition)),
        };
        let sets = standing.sets(self.standings.plan(), identity);
        let owner = identity.map(|identity| self.describer.of(identity, &standing));
        let status = if standing.is_nobody() { AttributionStatus::PendingExpired } else { found.status };
        Resolved { attribution: Attribution { source: found.source, status }, standing, owner, sets }
    }

    /// The rules let nothing through but what is in the pod's network namespace. A container shows where its cgroup does.
    fn of_only_pod(&mut self, pod: Arc<PodInfo>, cgroup: Option<&Identity>) -> Resolved {
        let container_id = cgroup.and_then(|identity| identity.container_id.clone());
        let container = container_id.as_deref().and_then(|id| pod.container_name(id)).map(str::to_owned);
        let standing = Standing::Pod { pod, container_id, container, awaited: false };
        let nobody = Identity::from_path("");
        // Its path is that of whoever looks, and says less than the pod itself.
        let owner = Some(self.describer.of(&nobody, &standing));
        let attribution =
            Attribution { source: AttributionSource::Netns, status: AttributionStatus::Resolved };
        Resolved { attribution, standing, owner, sets: Sets::default() }
    }

    fn namespace(&mut self, transition: &Transition) -> Found {
        let (Some(inode), Some(root), Some(namespaces)) =
            (transition.netns, &self.proc_root, &mut self.namespaces)
        else {
            return Found::Unknown;
        };
        let at_ns = transition.boot_ns;
        let found = namespaces.find(inode, transition.netns_cookie, at_ns);
        if found != Found::Stale {
            return found;
        }
        let now_ns = boot_ns();
        if now_ns.saturating_sub(self.scanned_ns) < SCAN_PAUSE_NS {
            return Found::Unknown;
        }
        self.scanned_ns = now_ns;
        if let Ok(scan) = cgroupfs::scan(root) {
            namespaces.scanned(now_ns, scan.uses);
        }
        namespaces.find(inode, transition.netns_cookie, at_ns)
    }
}

impl Resolved {
    /// Nothing of it is waited for: what that is may be there any moment, or be given up.
    fn is_settled(&self) -> bool {
        self.standing.awaited().is_none() && self.standing.doubted().is_none()
    }
}

fn keep<K: Eq + Hash>(answers: &mut QuickMap<K, Arc<Resolved>>, key: K, resolved: &Arc<Resolved>) {
    if answers.len() >= CACHED {
        answers.clear();
    }
    answers.insert(key, Arc::clone(resolved));
}
