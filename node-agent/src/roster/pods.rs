//! The pods of the node, and those that were there until lately: sockets outlive their pods.

use std::collections::HashMap;
use std::sync::Arc;

use super::PodInfo;

/// How long a deleted pod is kept, ns.
const RETENTION_NS: u64 = 300 * 1_000_000_000;

#[derive(Clone, Debug)]
struct Entry {
    pod: Arc<PodInfo>,
    deleted_ns: Option<u64>,
}

/// Pods by UID. Times are `CLOCK_BOOTTIME`, ns. Cloning it copies references, not pods.
#[derive(Clone, Debug, Default)]
pub struct Roster {
    entries: HashMap<String, Entry>,
    by_hash: HashMap<String, String>,
    in_sync: bool,
}

impl Roster {
    /// A pod was added or changed.
    pub fn apply(&mut self, pod: PodInfo) {
        if let Some(hash) = &pod.config_hash {
            self.by_hash.insert(hash.clone(), pod.uid.clone());
        }
        self.entries.insert(pod.uid.clone(), Entry { pod: Arc::new(pod), deleted_ns: None });
    }

    /// A pod was deleted: it stays known for a while.
    pub fn delete(&mut self, uid: &str, now_ns: u64) {
        if let Some(entry) = self.entries.get_mut(uid) {
            entry.deleted_ns.get_or_insert(now_ns);
        }
    }

    /// A whole list arrived: what is not in it was deleted meanwhile.
    pub fn replace(&mut self, pods: Vec<PodInfo>, now_ns: u64) {
        let listed: std::collections::HashSet<String> = pods.iter().map(|pod| pod.uid.clone()).collect();
        for (uid, entry) in &mut self.entries {
            if !listed.contains(uid) {
                entry.deleted_ns.get_or_insert(now_ns);
            }
        }
        for pod in pods {
            self.apply(pod);
        }
        self.in_sync = true;
    }

    /// The watch broke, or works again.
    pub fn set_in_sync(&mut self, in_sync: bool) {
        self.in_sync = in_sync;
    }

    /// Whether a pod that is not here does not exist.
    pub fn in_sync(&self) -> bool {
        self.in_sync
    }

    /// Forgets pods that were deleted long ago.
    pub fn expire(&mut self, now_ns: u64) {
        self.entries
            .retain(|_, entry| entry.deleted_ns.is_none_or(|at| now_ns.saturating_sub(at) < RETENTION_NS));
        let entries = &self.entries;
        self.by_hash.retain(|_, uid| entries.contains_key(uid));
    }

    /// The pod that a cgroup path names, by UID or config hash; also one that was deleted lately.
    pub fn pod(&self, uid: &str) -> Option<&Arc<PodInfo>> {
        let entry = self.entries.get(uid).or_else(|| self.entries.get(self.by_hash.get(uid)?))?;
        Some(&entry.pod)
    }

    /// Pods that exist.
    pub fn live(&self) -> impl Iterator<Item = &Arc<PodInfo>> {
        self.entries.values().filter(|entry| entry.deleted_ns.is_none()).map(|entry| &entry.pod)
    }

    /// Pods that exist, and those deleted at `since_ns` or later.
    pub fn live_since(&self, since_ns: u64) -> impl Iterator<Item = &Arc<PodInfo>> {
        let kept = move |entry: &&Entry| entry.deleted_ns.is_none_or(|at| at >= since_ns);
        self.entries.values().filter(kept).map(|entry| &entry.pod)
    }
}
