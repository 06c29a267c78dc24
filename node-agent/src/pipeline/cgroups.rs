//! The cgroups of this machine and whose each is: listed once, then followed as they come and go, and looked up by id
//! where that was missed. Writes nothing but its own index; what is new in it waits here for `membership`.

use std::{path::Path, sync::Arc};

use crate::{
    cgroupfs::{self, ById, Mount},
    identity::{Identity, Index, Limits, QuickSet},
    kernel::{CgroupChange, CgroupChangeKind, CgroupRing, boot_ns},
};

/// Ids of which nothing is known that are remembered. Above this all are forgotten: one look-up each.
const LOST: usize = 16_384;

/// Known cgroups: of the unified hierarchy, and of that one of cgroup v1 that tells containers apart.
pub(super) struct Cgroups {
    /// Absent where they are listed and not followed.
    ring: Option<CgroupRing>,
    unified: Tree,
    tasks: Tree,
    news: Vec<News>,
}

/// The cgroups of one hierarchy.
struct Tree {
    index: Index,
    /// No look-up finds them: gone before they were known. Ids are never used again (since 5.5).
    lost: QuickSet<u64>,
    by_id: Option<ById>,
}

/// Something that the kernel's rules do not know yet, of the unified hierarchy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// A cgroup is known, or known otherwise.
    Known(u64),
    /// It was removed then, boot time ns.
    Removed(u64, u64),
}

impl Cgroups {
    /// `mount` says where the hierarchies are, as far as there are any.
    pub(super) fn new(ring: Option<CgroupRing>, mount: Option<&Mount>) -> Self {
        Self {
            ring,
            unified: Tree::new(mount.and_then(|mount| mount.cgroup2.as_deref())),
            tasks: Tree::new(mount.and_then(tasks_mount)),
            news: Vec::new(),
        }
    }

    /// Takes in the cgroups that are there. Returns how many directories could not be read.
    pub(super) fn walk(&mut self, mount: &Mount) -> Result<usize, cgroupfs::WalkError> {
        let mut unreadable = 0;
        if let Some(mount) = mount.cgroup2.as_deref() {
            unreadable += self.unified.walk(mount, |news| self.news.push(news))?;
        }
        if let Some(mount) = tasks_mount(mount) {
            unreadable += self.tasks.walk(mount, |_| ())?;
        }
        Ok(unreadable)
    }

    /// Takes in what has come and gone.
    pub(super) fn follow(&mut self) {
        let now_ns = boot_ns();
        let mut changes = Vec::new();
        if let Some(ring) = &mut self.ring {
            ring.drain(|change| changes.push(change));
        }
        for CgroupChange { unified, id, kind } in changes {
            let tree = if unified { &mut self.unified } else { &mut self.tasks };
            let news = match kind {
                CgroupChangeKind::Made(path) => tree.made(id, path, now_ns).then_some(News::Known(id)),
                CgroupChangeKind::Removed => {
                    tree.index.removed(id, now_ns);
                    Some(News::Removed(now_ns, id))
                }
            };
            self.news.extend(news.filter(|_| unified));
        }
    }

    /// Whose a cgroup of the unified hierarchy is.
    pub(super) fn identity(&mut self, id: u64) -> Option<Arc<Identity>> {
        if let Some(identity) = self.unified.index.get(id) {
            return Some(Arc::clone(identity));
        }
        // It was made before its first socket, so the ring has it, unless that was full.
        self.follow();
        let (identity, is_news) = self.unified.find(id)?;
        if is_news {
            self.news.push(News::Known(id));
        }
        Some(identity)
    }

    /// Whose a cgroup is in which a task was.
    pub(super) fn task_identity(&mut self, id: u64) -> Option<Arc<Identity>> {
        if let Some(identity) = self.tasks.index.get(id) {
            return Some(Arc::clone(identity));
        }
        self.follow();
        Some(self.tasks.find(id)?.0)
    }

    /// What is known of a cgroup by now.
    pub(super) fn known(&self, id: u64) -> Option<&Arc<Identity>> {
        self.unified.index.get(id)
    }

    /// All of which something is known, living and lately gone.
    pub(super) fn all_known(&self) -> impl Iterator<Item = (u64, &Arc<Identity>)> {
        self.unified.index.known()
    }

    /// How many that are.
    pub(super) fn len(&self) -> usize {
        self.unified.index.len()
    }

    /// Whose it is stands otherwise now.
    pub(super) fn is_news(&mut self, id: u64) {
        self.news.push(News::Known(id));
    }

    /// What is new since the last call.
    pub(super) fn take_news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }
}

impl Tree {
    fn new(mount: Option<&Path>) -> Self {
        Self { index: Index::new(Limits::default()), lost: QuickSet::default(), by_id: mount.and_then(by_id) }
    }

    fn walk(&mut self, mount: &Path, mut tell: impl FnMut(News)) -> Result<usize, cgroupfs::WalkError> {
        let started_ns = boot_ns();
        let walk = cgroupfs::walk(mount)?;
        let is_new = |id: &u64| self.index.get(*id).is_none();
        walk.found.iter().map(|(id, _)| *id).filter(is_new).map(News::Known).for_each(&mut tell);
        if walk.unreadable == 0 {
            let now_ns = boot_ns();
            let gone = self.index.walked(started_ns, now_ns, walk.found);
            gone.into_iter().map(|id| News::Removed(now_ns, id)).for_each(tell);
        } else {
            for (id, path) in &walk.found {
                self.index.looked_up(*id, path, started_ns);
            }
        }
        Ok(walk.unreadable)
    }

    /// Returns whether it is known for that.
    fn made(&mut self, id: u64, path: Option<String>, now_ns: u64) -> bool {
        let Some(path) = path.or_else(|| self.path_of(id)) else { return false };
        self.index.created(id, &path, now_ns);
        true
    }

    /// Whose a cgroup is, and whether nobody knew it before this.
    fn find(&mut self, id: u64) -> Option<(Arc<Identity>, bool)> {
        if let Some(identity) = self.index.get(id) {
            return Some((Arc::clone(identity), false));
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
        Some((self.index.looked_up(id, &path, boot_ns()), true))
    }

    fn path_of(&self, id: u64) -> Option<String> {
        self.by_id.as_ref()?.path(id).ok().flatten()
    }
}

fn tasks_mount(mount: &Mount) -> Option<&Path> {
    mount.tasks.as_ref()?.mount.as_deref()
}

/// Look-ups by id, if this process may make them. Said once, at the start: without them all goes well until a container
/// comes while its event is lost.
fn by_id(mount: &Path) -> Option<ById> {
    let opened = ById::new(mount).and_then(|by_id| by_id.probe().map(|()| by_id));
    opened.map_err(|error| tracing::warn!("{error}")).ok()
}
