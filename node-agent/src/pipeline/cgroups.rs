//! The cgroups of this machine and whose each is: listed once, then followed as they come and go, and looked up by id
//! where that was missed. Writes nothing but its own index; what is new in it waits here for `membership`.

use std::sync::Arc;

use crate::{
    cgroupfs::{self, ById, Mount},
    identity::{Identity, Index, Limits, QuickSet},
    kernel::{CgroupChange, CgroupRing, boot_ns},
};

/// Ids of which nothing is known that are remembered. Above this all are forgotten: one look-up each.
const LOST: usize = 16_384;

/// Known cgroups.
pub(super) struct Cgroups {
    ring: CgroupRing,
    index: Index,
    /// No look-up finds them: gone before they were known. Ids are never used again (since 5.5).
    lost: QuickSet<u64>,
    by_id: Option<ById>,
    news: Vec<News>,
}

/// Something that the kernel's rules do not know yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// A cgroup is known, or known otherwise.
    Known(u64),
    /// It was removed then, boot time ns.
    Removed(u64, u64),
}

impl Cgroups {
    /// `mount` is the cgroup file system, where there is one.
    pub(super) fn new(ring: CgroupRing, mount: Option<&Mount>) -> Self {
        Self {
            ring,
            index: Index::new(Limits::default()),
            lost: QuickSet::default(),
            by_id: mount.and_then(by_id),
            news: Vec::new(),
        }
    }

    /// Takes in the cgroups that are there. Returns how many directories could not be read.
    pub(super) fn walk(&mut self, mount: &Mount) -> Result<usize, cgroupfs::WalkError> {
        let Some(cgroup2) = mount.cgroup2.as_deref() else { return Ok(0) };
        let started_ns = boot_ns();
        let walk = cgroupfs::walk(cgroup2)?;
        let is_new = |id: &u64| self.index.get(*id).is_none();
        self.news.extend(walk.found.iter().map(|(id, _)| *id).filter(is_new).map(News::Known));
        if walk.unreadable == 0 {
            let now_ns = boot_ns();
            let gone = self.index.walked(started_ns, now_ns, walk.found);
            self.news.extend(gone.into_iter().map(|id| News::Removed(now_ns, id)));
        } else {
            for (id, path) in &walk.found {
                self.index.looked_up(*id, path, started_ns);
            }
        }
        Ok(walk.unreadable)
    }

    /// Takes in what has come and gone.
    pub(super) fn follow(&mut self) {
        let now_ns = boot_ns();
        let mut changes = Vec::new();
        self.ring.drain(|change| changes.push(change));
        for change in changes {
            match change {
                CgroupChange::Made { id, path } => {
                    if let Some(path) = path.or_else(|| self.path_of(id)) {
                        self.index.created(id, &path, now_ns);
                        self.news.push(News::Known(id));
                    }
                }
                CgroupChange::Removed { id } => {
                    self.index.removed(id, now_ns);
                    self.news.push(News::Removed(now_ns, id));
                }
            }
        }
    }

    /// Whose a cgroup is.
    pub(super) fn identity(&mut self, id: u64) -> Option<Arc<Identity>> {
        if let Some(identity) = self.index.get(id) {
            return Some(Arc::clone(identity));
        }
        // It was made before its first socket, so the ring has it, unless that was full.
        self.follow();
        if let Some(identity) = self.index.get(id) {
            return Some(Arc::clone(identity));
        }
        if self.lost.contains(&id) {
            return None;
        }
        let Some(path) = self.path_of(id) else {
            if self.lost.len() >= LOST {
                self.lost.clear();
            }
            self.lost.insert(id);
            return None;
        };
        let identity = self.index.looked_up(id, &path, boot_ns());
        self.news.push(News::Known(id));
        Some(identity)
    }

    /// What is known of a cgroup by now.
    pub(super) fn known(&self, id: u64) -> Option<&Arc<Identity>> {
        self.index.get(id)
    }

    /// All of which something is known, living and lately gone.
    pub(super) fn all_known(&self) -> impl Iterator<Item = (u64, &Arc<Identity>)> {
        self.index.known()
    }

    /// How many that are.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// Whose it is stands otherwise now.
    pub(super) fn is_news(&mut self, id: u64) {
        self.news.push(News::Known(id));
    }

    /// What is new since the last call.
    pub(super) fn take_news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }

    fn path_of(&self, id: u64) -> Option<String> {
        self.by_id.as_ref()?.path(id).ok().flatten()
    }
}

/// Look-ups by id, if this process may make them. Said once, at the start: without them all goes well until a container
/// comes while its event is lost.
fn by_id(mount: &Mount) -> Option<ById> {
    let opened = ById::new(mount.cgroup2.as_deref()?).and_then(|by_id| by_id.probe().map(|()| by_id));
    opened.map_err(|error| tracing::warn!("{error}")).ok()
}
