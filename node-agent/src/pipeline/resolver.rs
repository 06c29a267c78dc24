//! Station 4 with its look-ups: who owns the socket of a transition.
//!
//! In steady state one hash look-up by cgroup id answers. What the index does not know yet is in the ring of cgroup
//! changes, or else is looked up by id; what the socket's cgroup does not say, the network namespace or the owner's
//! task may (cgroup v1, and host processes in hybrid layouts).

use std::{collections::VecDeque, path::PathBuf, sync::Arc};

use kube_tcpstates_common::rule::CgroupSets;
use kube_tcpstates_events::Attribution;

use crate::{
    cgroupfs::{self, ById, Layout, Mount},
    decode::{OwnerSource, Transition},
    identity::{
        self, Evidence, Identity, Index, Limits, QuickMap, QuickSet, SocketCgroup, netns::Found,
        netns::Namespaces,
    },
    kernel::{CgroupChange, CgroupRing, Rules, boot_ns},
    plan::Sets,
    render::Labels,
};

use super::{
    chooser::{Choice, Chooser, Standing},
    holding::Place,
    rendered::{Rendered, Whereabouts},
};

const SECOND_NS: u64 = 1_000_000_000;
/// Least time between two scans of all processes for their network namespaces.
const SCAN_PAUSE_NS: u64 = SECOND_NS;
/// How long what /proc said of a task is believed without looking again.
const TASK_FRESH_NS: u64 = SECOND_NS;
/// Owners kept. Above this the cache is emptied: it fills again at one look-up each.
const CACHED: usize = 16_384;
/// How long the filter knows a cgroup after its removal: sockets outlive it.
const RETENTION_NS: u64 = 300 * SECOND_NS;

/// Who owns a socket, ready for the line.
#[derive(Clone, Debug)]
pub(super) struct Owner {
    pub(super) attribution: Attribution,
    pub(super) identity: Option<Arc<Identity>>,
    /// What the cluster knows of it; `None` without a cluster.
    pub(super) standing: Option<Standing>,
    pub(super) labels: Option<Arc<Labels>>,
    /// The traces that select it, among those that select by owner.
    pub(super) sets: Sets,
}

impl Owner {
    /// More may become known of it soon.
    pub(super) fn is_awaited(&self) -> bool {
        self.standing.as_ref().is_some_and(Standing::is_awaited)
    }
}

/// What /proc said of a task.
struct SeenTask {
    identity: Arc<Identity>,
    started_ns: u64,
    checked_ns: u64,
}

/// Finds owners.
pub(super) struct Resolver {
    ring: CgroupRing,
    index: Index,
    /// cgroups that no look-up finds: gone before they were known. Ids are never used again (since 5.5).
    lost: QuickSet<u64>,
    by_id: Option<ById>,
    unified: bool,
    /// Absent where it is a container's: what is process 7 there is not the kernel's process 7.
    proc_root: Option<PathBuf>,
    /// Absent where most processes cannot be looked at: who seems alone in a namespace may not be.
    namespaces: Option<Namespaces>,
    scanned_ns: u64,
    tasks: QuickMap<u32, SeenTask>,
    pub(super) chooser: Chooser,
    /// What the filter was told of each cgroup.
    told: QuickMap<u64, Choice>,
    /// Owners by cgroup id, for cgroups that say all there is to say.
    owners: QuickMap<u64, Arc<Owner>>,
    rendered: Rendered,
    removed: VecDeque<(u64, u64)>,
}

impl Resolver {
    /// `mount` is the cgroup file system, where there is one.
    pub(super) fn new(
        ring: CgroupRing,
        mount: Option<&Mount>,
        proc_root: PathBuf,
        mut chooser: Chooser,
        whereabouts: Whereabouts,
    ) -> Self {
        let proc_root = Some(proc_root).filter(|root| cgroupfs::shows_the_host(root));
        let host = proc_root.as_deref().and_then(|root| cgroupfs::host_namespace(root).ok());
        let namespaces = host.map(|inode| {
            let mut namespaces = Namespaces::new();
            namespaces.set_host(inode);
            namespaces
        });
        let unified = mount.is_some_and(|mount| mount.layout == Layout::Unified);
        if let Chooser::View(viewed) = &mut chooser {
            viewed.other_evidence = !unified && proc_root.is_some();
        }
        Self {
            ring,
            index: Index::new(Limits::default()),
            lost: QuickSet::default(),
            by_id: mount.and_then(by_id),
            unified,
            proc_root,
            namespaces,
            scanned_ns: 0,
            tasks: QuickMap::default(),
            chooser,
            told: QuickMap::default(),
            owners: QuickMap::default(),
            rendered: Rendered::new(whereabouts),
            removed: VecDeque::new(),
        }
    }

    /// Takes in the cgroups that are there. Returns how many directories could not be read.
    pub(super) fn walk(&mut self, mount: &Mount, rules: &mut Rules) -> Result<usize, cgroupfs::WalkError> {
        let Some(cgroup2) = mount.cgroup2.as_deref() else { return Ok(0) };
        let started_ns = boot_ns();
        let walk = cgroupfs::walk(cgroup2)?;
        if walk.unreadable == 0 {
            self.index.walked(started_ns, boot_ns(), walk.found);
        } else {
            for (id, path) in &walk.found {
                self.index.looked_up(*id, path, started_ns);
            }
        }
        rules.clear_cgroups();
        self.told.clear();
        self.choose_all(rules);
        Ok(walk.unreadable)
    }

    /// Tells the filter which traces select a cgroup, if that has changed.
    fn choose(&mut self, id: u64, identity: &Identity, rules: &mut Rules) {
        let Some(choice) = self.chooser.choose(id, identity, self.unified) else { return };
        if self.told.get(&id) == Some(&choice) {
            return;
        }
        let Sets { matched, maybe } = choice.sets;
        let sets =
            CgroupSets { matched: [matched; 2], maybe: [maybe; 2], inherited: choice.inherited.into() };
        // Without room the cgroup stays undecided in the kernel, and user space decides each time.
        if rules.set_cgroup(id, sets).is_ok() {
            self.told.insert(id, choice);
        }
    }

    /// The same for every cgroup that is known.
    pub(super) fn choose_all(&mut self, rules: &mut Rules) {
        for (id, identity) in self.known() {
            self.choose(id, &identity, rules);
        }
    }

    /// The same, for the half of the rules that comes into force next. What was told stays true of the other.
    pub(super) fn stage_all(&mut self, rules: &mut Rules) {
        let (now, next) = (rules.half(), 1 - rules.half());
        for (id, identity) in self.known() {
            let Some(choice) = self.chooser.choose(id, &identity, self.unified) else { return };
            let told = self.told.get(&id).copied();
            // A cgroup that was told of nothing was undecided.
            let before = told.map_or(Sets { matched: 0, maybe: u64::MAX }, |told| told.sets);
            let mut sets = CgroupSets { inherited: choice.inherited.into(), ..CgroupSets::default() };
            (sets.matched[now], sets.maybe[now]) = (before.matched, before.maybe);
            (sets.matched[next], sets.maybe[next]) = (choice.sets.matched, choice.sets.maybe);
            if rules.set_cgroup(id, sets).is_ok() {
                self.told.insert(id, choice);
            }
        }
    }

    fn known(&self) -> Vec<(u64, Arc<Identity>)> {
        self.index.known().map(|(id, identity)| (id, Arc::clone(identity))).collect()
    }

    /// Cgroups known, living and lately gone.
    pub(super) fn cgroups(&self) -> usize {
        self.index.len()
    }

    /// Whoever owns a socket may be known otherwise now.
    pub(super) fn renew(&mut self) {
        self.owners.clear();
        self.rendered.clear();
    }

    /// The wait for the owner of a place's sockets is over.
    pub(super) fn give_up(&mut self, place: Place, owner: &Owner, rules: &mut Rules) {
        let Chooser::View(viewed) = &mut self.chooser else { return };
        viewed.give_up(place, owner.identity.as_deref());
        self.owners.remove(&place.cgroup);
        if let Some(identity) = self.index.get(place.cgroup).cloned() {
            self.choose(place.cgroup, &identity, rules);
        }
    }

    /// What a line shows of an owner under traces that ask for these labels of the pod.
    pub(super) fn labelled(&self, owner: &Owner, keys: &[&str]) -> Option<Labels> {
        let identity = owner.identity.as_deref()?;
        Some(self.rendered.with_pod_labels(identity, owner.standing.as_ref(), keys))
    }

    /// Takes in what has come and gone.
    pub(super) fn follow(&mut self, rules: &mut Rules) {
        let now_ns = boot_ns();
        let mut changes = Vec::new();
        self.ring.drain(|change| changes.push(change));
        for change in changes {
            match change {
                CgroupChange::Made { id, path } => {
                    if let Some(path) = path.or_else(|| self.path_of(id)) {
                        let identity = self.index.created(id, &path, now_ns);
                        self.choose(id, &identity, rules);
                    }
                }
                CgroupChange::Removed { id } => {
                    self.index.removed(id, now_ns);
                    self.removed.push_back((now_ns, id));
                }
            }
        }
        self.forget(now_ns, rules);
    }

    fn forget(&mut self, now_ns: u64, rules: &mut Rules) {
        while let Some((removed_ns, id)) = self.removed.front().copied() {
            if now_ns.saturating_sub(removed_ns) < RETENTION_NS {
                return;
            }
            self.removed.pop_front();
            rules.remove_cgroup(id);
            self.told.remove(&id);
            self.owners.remove(&id);
        }
    }

    fn path_of(&self, id: u64) -> Option<String> {
        self.by_id.as_ref()?.path(id).ok().flatten()
    }

    /// The owner of a transition's socket.
    pub(super) fn owner(&mut self, transition: &Transition, rules: &mut Rules) -> Arc<Owner> {
        let Some(id) = transition.cgroup_id else { return Arc::new(self.by_evidence(transition, None)) };
        if let Some(owner) = self.owners.get(&id) {
            return Arc::clone(owner);
        }
        let identity = self.identity_of(id, rules);
        let owner = Arc::new(self.by_evidence(transition, identity.as_ref()));
        if identity.is_some_and(|identity| self.is_conclusive(&identity)) {
            if self.owners.len() >= CACHED {
                self.owners.clear();
            }
            self.owners.insert(id, Arc::clone(&owner));
        }
        owner
    }

    /// The socket's cgroup says all there is to say: other evidence need not be looked for.
    fn is_conclusive(&self, identity: &Identity) -> bool {
        identity.is_contained() || (self.unified && !identity.is_root())
    }

    fn identity_of(&mut self, id: u64, rules: &mut Rules) -> Option<Arc<Identity>> {
        if let Some(identity) = self.index.get(id) {
            return Some(Arc::clone(identity));
        }
        // It was made before its first socket, so the ring has it, unless that was full.
        self.follow(rules);
        if let Some(identity) = self.index.get(id) {
            return Some(Arc::clone(identity));
        }
        if self.lost.contains(&id) {
            return None;
        }
        let Some(path) = self.path_of(id) else {
            if self.lost.len() >= CACHED {
                self.lost.clear();
            }
            self.lost.insert(id);
            return None;
        };
        let identity = self.index.looked_up(id, &path, boot_ns());
        self.choose(id, &identity, rules);
        Some(identity)
    }

    fn by_evidence(&mut self, transition: &Transition, cgroup: Option<&Arc<Identity>>) -> Owner {
        let conclusive = cgroup.is_some_and(|identity| self.is_conclusive(identity));
        let netns = if conclusive { Found::Unknown } else { self.namespace(transition) };
        let task =
            if conclusive || matches!(netns, Found::Private(_)) { None } else { self.task(transition) };
        let evidence = Evidence {
            cgroup: match (transition.cgroup_id, cgroup) {
                (_, Some(identity)) => SocketCgroup::Known(identity),
                (Some(_), None) => SocketCgroup::Unindexed,
                (None, None) => SocketCgroup::Unread,
            },
            netns: &netns,
            task: task.as_ref(),
            unified: self.unified,
        };
        let found = identity::attribute(evidence);
        let attribution = Attribution { source: found.source, status: found.status };
        let place = Place::of(transition);
        let (standing, sets) = match (&self.chooser, found.identity.as_deref()) {
            (Chooser::Selection(selection), identity) => {
                let takes = identity.is_some_and(|identity| selection.takes(identity));
                (None, Sets { matched: takes.into(), maybe: 0 })
            }
            (Chooser::View(viewed), Some(identity)) => {
                let standing = viewed.standing(place, identity);
                let sets = standing.sets(&viewed.view.plan);
                (Some(standing), sets)
            }
            (Chooser::View(viewed), None) => {
                let standing = viewed.nobody(found.status, place);
                let sets = standing.sets(&viewed.view.plan);
                (Some(standing), sets)
            }
        };
        let labels = found.identity.as_ref().map(|identity| self.rendered.of(identity, standing.as_ref()));
        Owner { attribution, identity: found.identity, standing, labels, sets }
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
        let owner = transition.owner?;
        let pid = owner.pid;
        let owned_ns = owned_since(owner.source, transition);
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

/// Look-ups by id, if this process may make them. Said once, at the start: without them all goes well until a container
/// comes while its event is lost.
fn by_id(mount: &Mount) -> Option<ById> {
    let opened = ById::new(mount.cgroup2.as_deref()?).and_then(|by_id| by_id.probe().map(|()| by_id));
    opened.map_err(|error| tracing::warn!("{error}")).ok()
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
