//! The cgroups of this machine and whose each is: listed once, then followed as they come and go, and looked up by id
//! where that was missed. Writes nothing but its own index; what is new in it waits here for `membership`.

use std::{path::Path, sync::Arc};

use crate::{
    cgroupfs::{self, ById, Mount},
    identity::{Identity, Index, Limits},
    kernel::{CgroupChange, CgroupChangeKind, CgroupRing, LeftKind, LeftName, LeftText, boot_ns},
    names::QuickSet,
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
    kind: LeftKind,
    index: Index,
    /// What has changed in it, for the next run. Absent where there is to be none.
    changes: Option<Vec<Change>>,
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

/// What the next run must know of a cgroup.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// Whose it is.
    Known(LeftName, Arc<Identity>),
    /// It was removed then, boot time ns.
    Removed(LeftName, u64),
}

impl Cgroups {
    /// `mount` says where the hierarchies are, as far as there are any.
    pub(super) fn new(ring: Option<CgroupRing>, mount: Option<&Mount>) -> Self {
        Self {
            ring,
            unified: Tree::new(LeftKind::Cgroup, mount.and_then(|mount| mount.cgroup2.as_deref())),
            tasks: Tree::new(LeftKind::TaskCgroup, mount.and_then(tasks_mount)),
            news: Vec::new(),
        }
    }

    /// Takes over what a run before this one knew, before anything is read or listed, and keeps from now on what the next
    /// one must know.
    pub(super) fn take_over(&mut self, texts: &[LeftText]) {
        for tree in [&mut self.unified, &mut self.tasks] {
            tree.changes = Some(Vec::new());
        }
        let now_ns = boot_ns();
        let mut texts: Vec<&LeftText> = texts.iter().collect();
        // Whoever keeps them for a while looks at the longest gone alone.
        texts.sort_unstable_by_key(|text| text.gone_ns);
        for LeftText { name: LeftName { kind, id }, gone_ns, text } in texts {
            let tree = match kind {
                LeftKind::Cgroup => &mut self.unified,
                LeftKind::TaskCgroup => &mut self.tasks,
                LeftKind::Pod => continue,
            };
            tree.index.created(*id, text, gone_ns.unwrap_or(now_ns));
            if let Some(gone_ns) = gone_ns {
                tree.index.removed(*id, *gone_ns);
                if *kind == LeftKind::Cgroup {
                    self.news.push(News::Removed(*gone_ns, *id));
                }
            }
        }
    }

    /// What the next run must know since the last call.
    pub(super) fn take_changes(&mut self) -> impl Iterator<Item = Change> {
        let taken =
            [&mut self.unified, &mut self.tasks].map(|tree| tree.changes.as_mut().map(std::mem::take));
        taken.into_iter().flatten().flatten()
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
                    tree.removed(id, now_ns);
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

    /// All of which something is known, living and lately gone. Whoever writes them into the rules must not write one again
    /// that it has just taken away for good.
    pub(super) fn all_known(&self) -> impl Iterator<Item = (u64, &Arc<Identity>)> {
        self.unified.index.known(boot_ns())
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
    fn new(kind: LeftKind, mount: Option<&Path>) -> Self {
        let index = Index::new(Limits::default());
        Self { kind, index, changes: None, lost: QuickSet::default(), by_id: mount.and_then(by_id) }
    }

    fn walk(&mut self, mount: &Path, mut tell: impl FnMut(News)) -> Result<usize, cgroupfs::WalkError> {
        let started_ns = boot_ns();
        let walk = cgroupfs::walk(mount)?;
        let new: Vec<u64> =
            walk.found.iter().map(|(id, _)| *id).filter(|id| self.index.get(*id).is_none()).collect();
        if walk.unreadable == 0 {
            let now_ns = boot_ns();
            for id in self.index.walked(started_ns, now_ns, walk.found) {
                self.note(|name, _| Some(Change::Removed(name, now_ns)), id);
                tell(News::Removed(now_ns, id));
            }
        } else {
            for (id, path) in &walk.found {
                self.index.looked_up(*id, path, started_ns);
            }
        }
        for id in new {
            self.note_known(id);
            tell(News::Known(id));
        }
        Ok(walk.unreadable)
    }

    fn removed(&mut self, id: u64, now_ns: u64) {
        self.index.removed(id, now_ns);
        self.note(|name, _| Some(Change::Removed(name, now_ns)), id);
    }

    fn note_known(&mut self, id: u64) {
        self.note(|name, identity| Some(Change::Known(name, Arc::clone(identity?))), id);
    }

    fn note(&mut self, change: impl FnOnce(LeftName, Option<&Arc<Identity>>) -> Option<Change>, id: u64) {
        if let Some(changes) = &mut self.changes {
            changes.extend(change(LeftName { kind: self.kind, id }, self.index.get(id)));
        }
    }

    /// Returns whether it is known for that.
    fn made(&mut self, id: u64, path: Option<String>, now_ns: u64) -> bool {
        let Some(path) = path.or_else(|| self.path_of(id)) else { return false };
        self.index.created(id, &path, now_ns);
        self.note_known(id);
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
        let identity = self.index.looked_up(id, &path, boot_ns());
        self.note_known(id);
        Some((identity, true))
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

#[cfg(test)]
mod tests {
    use super::{Cgroups, Change, News};
    use crate::kernel::{LeftKind, LeftName, LeftText};

    fn left(kind: LeftKind, id: u64, gone_ns: Option<u64>, path: &str) -> LeftText {
        LeftText { name: LeftName { kind, id }, gone_ns, text: path.to_owned() }
    }

    #[test]
    fn what_a_run_of_before_knew_is_known_in_either_hierarchy() {
        let mut cgroups = Cgroups::new(None, None);
        // Nobody asks for what is never to be left.
        cgroups.unified.made(5, Some("/early".to_owned()), 1);
        assert_eq!(cgroups.take_changes().count(), 0);

        cgroups.take_over(&[
            left(LeftKind::Cgroup, 7, None, "/kubepods/poda"),
            left(LeftKind::Cgroup, 8, Some(u64::MAX - 1), "/kubepods/podb"),
            left(LeftKind::TaskCgroup, 7, None, "/docker/c"),
            left(LeftKind::Pod, 9, None, "{}"),
        ]);
        let path =
            |identity: Option<std::sync::Arc<super::Identity>>| identity.map(|found| found.path.clone());
        assert_eq!(path(cgroups.identity(7)).as_deref(), Some("/kubepods/poda"));
        assert_eq!(path(cgroups.identity(8)).as_deref(), Some("/kubepods/podb"));
        assert_eq!(path(cgroups.identity(9)), None);
        assert_eq!(path(cgroups.task_identity(7)).as_deref(), Some("/docker/c"));
        assert_eq!(path(cgroups.task_identity(8)), None);
        // The rules know since when it is gone; they have known the other already.
        assert_eq!(cgroups.take_news(), [News::Removed(u64::MAX - 1, 8)]);
        // It is left already.
        assert_eq!(cgroups.take_changes().count(), 0);
    }

    #[test]
    fn the_next_run_is_told_what_comes_and_goes() {
        let mut cgroups = Cgroups::new(None, None);
        cgroups.take_over(&[]);
        cgroups.unified.made(7, Some("/kubepods/poda".to_owned()), 1);
        cgroups.tasks.made(7, Some("/docker/c".to_owned()), 2);
        cgroups.unified.removed(7, 3);
        let told: Vec<String> = cgroups
            .take_changes()
            .map(|change| match change {
                Change::Known(name, identity) => format!("{:?} {} {}", name.kind, name.id, identity.path),
                Change::Removed(name, ns) => format!("{:?} {} gone at {ns}", name.kind, name.id),
            })
            .collect();
        assert_eq!(told, ["Cgroup 7 /kubepods/poda", "Cgroup 7 gone at 3", "TaskCgroup 7 /docker/c"]);
        assert_eq!(cgroups.take_changes().count(), 0);
    }
}
