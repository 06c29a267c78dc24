//! The pods of the node, and those that were there until lately: sockets outlive their pods.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::PodInfo;

/// How long a deleted pod is kept, ns.
const RETENTION_NS: u64 = 300 * 1_000_000_000;
/// Deleted pods kept at most. Whoever may make pods can make many.
const DELETED_MAX: usize = 4_096;

#[derive(Clone, Debug)]
struct Entry {
    pod: Arc<PodInfo>,
    /// When it was first seen ended; `None` of an ended pod is "since the last [`Roster::expire`]".
    ended_ns: Option<u64>,
    deleted_ns: Option<u64>,
}

impl Entry {
    /// Since when it runs no more; of a pod that ended just now, `now_ns`.
    fn stopped_ns(&self, now_ns: u64) -> Option<u64> {
        if self.pod.ended { self.ended_ns.or(self.deleted_ns).or(Some(now_ns)) } else { self.deleted_ns }
    }
}

/// Pods by UID. Times are `CLOCK_BOOTTIME`, ns. Cloning it copies references, not pods.
#[derive(Clone, Debug, Default)]
pub struct Roster {
    entries: HashMap<String, Entry>,
    /// UIDs of the mirror pods of each config hash: one, and those of its predecessors that were deleted lately.
    by_hash: HashMap<String, Vec<String>>,
    /// UIDs by container id. A container that was restarted keeps its last id only as long as the status tells it.
    by_container: HashMap<String, String>,
    in_sync: bool,
}

impl Roster {
    /// A pod was added or changed.
    pub fn apply(&mut self, pod: PodInfo) {
        let uid = pod.uid.clone();
        let known = self.entries.remove(&uid);
        if let Some(known) = &known {
            self.forget_names(&known.pod);
        }
        if let Some(hash) = &pod.config_hash {
            self.by_hash.entry(hash.clone()).or_default().push(uid.clone());
        }
        for id in container_ids(&pod) {
            self.by_container.insert(id.to_owned(), uid.clone());
        }
        let ended_ns = known.and_then(|known| known.ended_ns).filter(|_| pod.ended);
        self.entries.insert(uid, Entry { pod: Arc::new(pod), ended_ns, deleted_ns: None });
    }

    /// A pod was deleted: it stays known for a while.
    pub fn delete(&mut self, uid: &str, now_ns: u64) {
        if let Some(entry) = self.entries.get_mut(uid) {
            entry.deleted_ns.get_or_insert(now_ns);
        }
        self.bound();
    }

    /// A whole list arrived: what is not in it was deleted meanwhile.
    pub fn replace(&mut self, pods: Vec<PodInfo>, now_ns: u64) {
        let listed: HashSet<String> = pods.iter().map(|pod| pod.uid.clone()).collect();
        for (uid, entry) in &mut self.entries {
            if !listed.contains(uid) {
                entry.deleted_ns.get_or_insert(now_ns);
            }
        }
        for pod in pods {
            self.apply(pod);
        }
        self.bound();
        self.note_ended(now_ns);
        self.in_sync = true;
    }

    /// Pods that a run before this one knew, and when each was deleted. Those that are gone by now show as such with the
    /// first list.
    pub fn remember(&mut self, pods: Vec<(PodInfo, Option<u64>)>) {
        for (pod, deleted_ns) in pods {
            let uid = pod.uid.clone();
            self.apply(pod);
            if let Some(deleted_ns) = deleted_ns {
                self.delete(&uid, deleted_ns);
            }
        }
    }

    /// The watch broke, or works again.
    pub fn set_in_sync(&mut self, in_sync: bool) {
        self.in_sync = in_sync;
    }

    /// Whether a pod that is not here does not exist.
    pub fn in_sync(&self) -> bool {
        self.in_sync
    }

    /// Forgets pods that were deleted long ago, and notes which ended meanwhile. To be called every second or so.
    pub fn expire(&mut self, now_ns: u64) {
        self.note_ended(now_ns);
        let is_over =
            |entry: &Entry| entry.deleted_ns.is_some_and(|at| now_ns.saturating_sub(at) >= RETENTION_NS);
        let over: Vec<String> =
            self.entries.iter().filter(|(_, entry)| is_over(entry)).map(|(uid, _)| uid.clone()).collect();
        for uid in over {
            self.forget(&uid);
        }
    }

    /// The pod that a cgroup path names, by UID or config hash; also one that was deleted lately.
    pub fn pod(&self, uid: &str) -> Option<&Arc<PodInfo>> {
        let entry = self.entries.get(uid).or_else(|| self.mirror(uid))?;
        Some(&entry.pod)
    }

    /// The mirror pod of a config hash, or the last one. Of several that exist none: a static pod has one, the others
    /// are somebody's who wants to be shown the static pod's sockets, and which they are cannot be told.
    fn mirror(&self, hash: &str) -> Option<&Entry> {
        let claims = || self.by_hash.get(hash).into_iter().flatten().filter_map(|uid| self.entries.get(uid));
        let mut existing = claims().filter(|entry| entry.deleted_ns.is_none());
        match (existing.next(), existing.next()) {
            (Some(only), None) => Some(only),
            (Some(_), Some(_)) => None,
            (None, _) => claims().max_by_key(|entry| entry.deleted_ns),
        }
    }

    /// The pod with a container of this id, and the container's name; also one that was deleted lately.
    pub fn container(&self, id: &str) -> Option<(&Arc<PodInfo>, &str)> {
        let pod = &self.entries.get(self.by_container.get(id)?)?.pod;
        Some((pod, pod.container_name(id)?))
    }

    /// Pods that exist.
    pub fn live(&self) -> impl Iterator<Item = &Arc<PodInfo>> {
        self.entries.values().filter(|entry| entry.deleted_ns.is_none()).map(|entry| &entry.pod)
    }

    /// Every pod that is known, with the time at which it was deleted.
    pub fn with_deletions(&self) -> impl Iterator<Item = (&Arc<PodInfo>, Option<u64>)> {
        self.entries.values().map(|entry| (&entry.pod, entry.deleted_ns))
    }

    /// Every pod that is known, with the time since which it runs no more: it ended (its object may still exist) or
    /// was deleted, whichever came first. `None` is a pod that exists and has not ended.
    pub fn with_stops(&self, now_ns: u64) -> impl Iterator<Item = (&Arc<PodInfo>, Option<u64>)> {
        self.entries.values().map(move |entry| (&entry.pod, entry.stopped_ns(now_ns)))
    }

    /// Names of the namespaces of all pods that are known, those deleted lately included.
    pub fn namespaces(&self) -> BTreeSet<&str> {
        self.entries.values().map(|entry| entry.pod.namespace.as_str()).collect()
    }

    fn note_ended(&mut self, now_ns: u64) {
        for entry in self.entries.values_mut().filter(|entry| entry.pod.ended) {
            entry.ended_ns.get_or_insert(entry.deleted_ns.unwrap_or(now_ns));
        }
    }

    /// Of too many deleted pods, the longest gone are forgotten: a quarter at once, so that it is seldom done.
    fn bound(&mut self) {
        let deleted = self.entries.values().filter(|entry| entry.deleted_ns.is_some()).count();
        if deleted <= DELETED_MAX {
            return;
        }
        let mut gone: Vec<(u64, String)> =
            self.entries.iter().filter_map(|(uid, entry)| Some((entry.deleted_ns?, uid.clone()))).collect();
        gone.sort_unstable();
        for (_, uid) in gone.into_iter().take(deleted - DELETED_MAX * 3 / 4) {
            self.forget(&uid);
        }
    }

    fn forget(&mut self, uid: &str) {
        if let Some(entry) = self.entries.remove(uid) {
            self.forget_names(&entry.pod);
        }
    }

    /// An id that now names another pod stays.
    fn forget_names(&mut self, pod: &PodInfo) {
        if let Some(hash) = &pod.config_hash
            && let Some(uids) = self.by_hash.get_mut(hash)
        {
            uids.retain(|uid| *uid != pod.uid);
            if uids.is_empty() {
                self.by_hash.remove(hash);
            }
        }
        for id in container_ids(pod) {
            if self.by_container.get(id) == Some(&pod.uid) {
                self.by_container.remove(id);
            }
        }
    }
}

fn container_ids(pod: &PodInfo) -> impl Iterator<Item = &str> {
    pod.containers.iter().flat_map(|container| container.ids.iter().map(String::as_str))
}

#[cfg(test)]
#[path = "pods_tests.rs"]
mod tests;
