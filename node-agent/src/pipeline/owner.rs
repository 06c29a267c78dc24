//! Station 4 with its look-ups: who owns the socket of a transition. Reads only.
//!
//! In steady state one hash look-up by cgroup id answers. What the index of cgroups does not know is looked up by id;
//! what the socket's cgroup does not say, the network namespace or the owner's task may (cgroup v1, and host processes
//! in hybrid layouts). An answer is kept by cgroup only where the cgroup alone gave it: two sockets of one place may be
//! two pods'.

use std::{path::PathBuf, sync::Arc};

use kube_tcpstates_common::rule::TraceSet;
use kube_tcpstates_events::{Attribution, AttributionStatus};

use super::{
    cgroups::Cgroups,
    describe::{Describer, Whereabouts},
    membership::Layout,
    standing::{Awaited, Place, Standing, Standings},
};
use crate::{
    cgroupfs,
    decode::{OwnerSource, Transition},
    identity::{self, Evidence, Identity, QuickMap, SocketCgroup, netns::Found, netns::Namespaces},
    kernel::boot_ns,
    names::{Numbered, Owner},
    plan::{Sets, View},
};

const SECOND_NS: u64 = 1_000_000_000;
/// Least time between two scans of all processes for their network namespaces.
const SCAN_PAUSE_NS: u64 = SECOND_NS;
/// How long what /proc said of a task is believed without looking again.
const TASK_FRESH_NS: u64 = SECOND_NS;
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

/// What /proc said of a task.
struct SeenTask {
    identity: Arc<Identity>,
    started_ns: u64,
    checked_ns: u64,
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
    tasks: QuickMap<u32, SeenTask>,
    /// By cgroup id, of cgroups that say all there is to say.
    resolved: QuickMap<u64, Arc<Resolved>>,
    describer: Describer,
}

impl Owners {
    /// `proc_root` is where the host's processes are to be seen, if they are. `unified`: every process is in the unified
    /// hierarchy.
    pub(super) fn new(cgroups: Cgroups, proc_root: PathBuf, unified: bool, whereabouts: Whereabouts) -> Self {
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
            layout: Layout { unified, other_evidence: proc_root.is_some() },
            proc_root,
            namespaces,
            scanned_ns: 0,
            tasks: QuickMap::default(),
            resolved: QuickMap::default(),
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
        self.describer.clear();
    }

    /// The owner of a transition's socket.
    pub(super) fn resolve(&mut self, transition: &Transition) -> Arc<Resolved> {
        let Some(id) = transition.cgroup_id else { return Arc::new(self.by_evidence(transition, None)) };
        if let Some(resolved) = self.resolved.get(&id) {
            return Arc::clone(resolved);
        }
        let identity = self.cgroups.identity(id);
        let resolved = Arc::new(self.by_evidence(transition, identity.as_ref()));
        // What is waited for may be there any moment, or be given up.
        if identity.is_some_and(|identity| self.layout.is_conclusive(&identity))
            && resolved.standing.awaited().is_none()
        {
            if self.resolved.len() >= CACHED {
                self.resolved.clear();
            }
            self.resolved.insert(id, Arc::clone(&resolved));
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

    fn by_evidence(&mut self, transition: &Transition, cgroup: Option<&Arc<Identity>>) -> Resolved {
        let conclusive = cgroup.is_some_and(|identity| self.layout.is_conclusive(identity));
        let netns = if conclusive { Found::Unknown } else { self.namespace(transition) };
        let task =
            if conclusive || matches!(netns, Found::Private(_)) { None } else { self.task(transition) };
        let found = identity::attribute(Evidence {
            cgroup: match (transition.cgroup_id, cgroup) {
                (_, Some(identity)) => SocketCgroup::Known(identity),
                (Some(_), None) => SocketCgroup::Unindexed,
                (None, None) => SocketCgroup::Unread,
            },
            netns: &netns,
            task: task.as_ref(),
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

    /// What /proc says of the owner's process. A process that is gone keeps what was last said of it, for sockets
    /// that are as old as that.
    fn task(&mut self, transition: &Transition) -> Option<Arc<Identity>> {
        let process = transition.process?;
        let pid = process.pid;
        let owned_ns = owned_since(process.source, transition);
        let now_ns = boot_ns();
        if let Some(seen) = self.tasks.get(&pid)
            && now_ns.saturating_sub(seen.checked_ns) < TASK_FRESH_NS
            && seen.started_ns <= owned_ns
        {
            return Some(Arc::clone(&seen.identity));
        }
        match cgroupfs::task(self.proc_root.as_deref()?, pid) {
            Ok(Some(task)) if task.started_ns <= owned_ns => {
                let identity = Arc::new(Identity::from_path(&task.cgroup));
                if self.tasks.len() >= CACHED {
                    self.tasks.clear();
                }
                let seen = SeenTask {
                    identity: Arc::clone(&identity),
                    started_ns: task.started_ns,
                    checked_ns: now_ns,
                };
                self.tasks.insert(pid, seen);
                Some(identity)
            }
            _ => {
                let seen = self.tasks.get(&pid)?;
                (seen.checked_ns >= transition.birth_ns && seen.started_ns <= owned_ns)
                    .then(|| Arc::clone(&seen.identity))
            }
        }
    }
}

/// When the owner was there at the latest: a process that started later has its number from another. Who connects or
/// listens is there at the birth, who accepts or closes may have come after it.
const fn owned_since(source: OwnerSource, transition: &Transition) -> u64 {
    match source {
        OwnerSource::Accept | OwnerSource::Close => transition.boot_ns,
        OwnerSource::Connect | OwnerSource::Listen | OwnerSource::Kernel | OwnerSource::Descriptor => {
            transition.birth_ns
        }
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable as _;
    use kube_tcpstates_common::record::TransitionRecord;

    use super::owned_since;
    use crate::decode::{OwnerSource, transitions};

    #[test]
    fn who_connects_or_listens_was_there_at_the_birth() {
        let record = TransitionRecord { boot_ns: 9, birth_ns: 5, traces: 1, ..TransitionRecord::zeroed() };
        let transition = transitions(&record)[0];
        for source in
            [OwnerSource::Connect, OwnerSource::Listen, OwnerSource::Kernel, OwnerSource::Descriptor]
        {
            assert_eq!(owned_since(source, &transition), 5, "{source:?}");
        }
        for source in [OwnerSource::Accept, OwnerSource::Close] {
            assert_eq!(owned_since(source, &transition), 9, "{source:?}");
        }
    }
}
