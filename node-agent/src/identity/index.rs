//! cgroup id -> identity. One writer: the station that reads cgroup events and walks. Removed cgroups stay for some
//! minutes, because sockets outlive them (`FIN_WAIT2`, and records still queued).

use std::collections::VecDeque;
use std::sync::Arc;

use super::model::Identity;
use crate::names::{QuickMap, QuickSet};

/// The root of every cgroup hierarchy: kernfs numbers from 1 (`fs/kernfs/dir.c`).
pub const ROOT_CGROUP_ID: u64 = 1;

/// Entries that one call expires at most, so that no call is long.
const EXPIRED_PER_CALL: usize = 64;

/// How much the index keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long an identity stays after its cgroup is gone, ns.
    pub retention_ns: u64,
    /// Entries, living and gone. Anyone who may make cgroups can make many.
    pub max_entries: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { retention_ns: 5 * 60 * 1_000_000_000, max_entries: 65_536 }
    }
}

/// What the index had to give up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Removed cgroups forgotten after the retention.
    pub expired: u64,
    /// Removed cgroups forgotten before it, for room.
    pub evicted_removed: u64,
    /// Living cgroups forgotten for room. A look-up by id still finds them.
    pub evicted_living: u64,
}

struct Entry {
    /// Absent when the cgroup's removal was seen and its path never: a late walk must not bring it back to life.
    identity: Option<Arc<Identity>>,
    /// When it became known or was removed, whichever came last, ns.
    since_ns: u64,
    /// The turn in which that happened. An element of a queue with another turn is out of date.
    turn: u64,
    removed: bool,
}

/// Identity of each cgroup of the unified hierarchy. Times are `CLOCK_BOOTTIME`, ns.
pub struct Index {
    entries: QuickMap<u64, Entry>,
    /// Living ones in the order in which they became known: (turn, id).
    living: VecDeque<(u64, u64)>,
    /// Removed ones in the order of removal: (turn, id).
    gone: VecDeque<(u64, u64)>,
    turn: u64,
    limits: Limits,
    counters: Counters,
}

impl Index {
    /// Holds the root only.
    pub fn new(limits: Limits) -> Self {
        let mut index = Self {
            entries: QuickMap::default(),
            living: VecDeque::new(),
            gone: VecDeque::new(),
            turn: 0,
            limits,
            counters: Counters::default(),
        };
        // Not in `living`: it is never evicted.
        let root = Entry {
            identity: Some(Arc::new(Identity::from_path("/"))),
            since_ns: 0,
            turn: 0,
            removed: false,
        };
        index.entries.insert(ROOT_CGROUP_ID, root);
        index
    }

    /// What is known of a cgroup, living or lately removed.
    #[inline]
    pub fn get(&self, id: u64) -> Option<&Arc<Identity>> {
        self.entries.get(&id)?.identity.as_ref()
    }

    /// A cgroup was made.
    pub fn created(&mut self, id: u64, path: &str, now_ns: u64) -> Arc<Identity> {
        self.expire(now_ns);
        // A walk may have been faster; whatever is cached by the `Arc` stays.
        if let Some(Entry { identity: Some(known), removed: false, .. }) = self.entries.get(&id)
            && known.path == path
        {
            return Arc::clone(known);
        }
        let identity = Arc::new(Identity::from_path(path));
        if id != ROOT_CGROUP_ID {
            self.put(id, Some(Arc::clone(&identity)), now_ns, false);
        }
        identity
    }

    /// A look-up by id found the path. Like [`Self::created`], but what is known already stays, and so does the
    /// knowledge that the cgroup is gone.
    pub fn looked_up(&mut self, id: u64, path: &str, now_ns: u64) -> Arc<Identity> {
        self.expire(now_ns);
        match self.entries.get_mut(&id) {
            Some(Entry { identity: Some(known), .. }) => Arc::clone(known),
            Some(entry) => {
                let identity = Arc::new(Identity::from_path(path));
                entry.identity = Some(Arc::clone(&identity));
                identity
            }
            None => self.created(id, path, now_ns),
        }
    }

    /// A cgroup was removed: its identity stays for the retention.
    pub fn removed(&mut self, id: u64, now_ns: u64) {
        self.expire(now_ns);
        if id == ROOT_CGROUP_ID || self.entries.get(&id).is_some_and(|entry| entry.removed) {
            return;
        }
        let identity = self.entries.get(&id).and_then(|entry| entry.identity.clone());
        self.put(id, identity, now_ns, true);
    }

    /// A walk of the whole tree ended. What it found is added; what was known before it started and was not found is
    /// removed, in case the event was lost. Events that arrived while it ran stay right, in whichever order.
    /// For a walk that could not read everything, use [`Self::looked_up`] for each of what it did find. Returns what is
    /// gone without a word.
    pub fn walked<P: AsRef<str>>(
        &mut self,
        started_ns: u64,
        now_ns: u64,
        found: impl IntoIterator<Item = (u64, P)>,
    ) -> Vec<u64> {
        let mut seen: QuickSet<u64> = QuickSet::default();
        for (id, path) in found {
            seen.insert(id);
            self.looked_up(id, path.as_ref(), now_ns);
        }
        let is_lost = |id: &u64, entry: &Entry| {
            !entry.removed && entry.since_ns < started_ns && *id != ROOT_CGROUP_ID && !seen.contains(id)
        };
        let lost: Vec<u64> =
            self.entries.iter().filter(|(id, entry)| is_lost(id, entry)).map(|(id, _)| *id).collect();
        for id in &lost {
            self.removed(*id, now_ns);
        }
        lost
    }

    /// Forgets what has been gone for longer than the retention; a bounded amount of work. Every writing call does it,
    /// so nothing needs to wake up for it.
    pub fn expire(&mut self, now_ns: u64) {
        for _ in 0..EXPIRED_PER_CALL {
            let Some(&(turn, id)) = self.gone.front() else {
                return;
            };
            if let Some(entry) = self.entries.get(&id).filter(|entry| entry.turn == turn) {
                if now_ns.saturating_sub(entry.since_ns) < self.limits.retention_ns {
                    return;
                }
                self.entries.remove(&id);
                self.counters.expired += 1;
            }
            self.gone.pop_front();
        }
    }

    /// Cgroups known, living and gone, the root included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Never: the root is always known.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Living cgroups and what is known of them, in no order.
    pub fn living(&self) -> impl Iterator<Item = (u64, &Arc<Identity>)> {
        self.entries
            .iter()
            .filter(|(_, entry)| !entry.removed)
            .filter_map(|(&id, entry)| Some((id, entry.identity.as_ref()?)))
    }

    /// All cgroups of which something is known, living and gone, in no order. None whose retention is over, though it may
    /// not be forgotten yet.
    pub fn known(&self, now_ns: u64) -> impl Iterator<Item = (u64, &Arc<Identity>)> {
        let stays = move |entry: &Entry| {
            !entry.removed || now_ns.saturating_sub(entry.since_ns) < self.limits.retention_ns
        };
        let entries = self.entries.iter().filter(move |(_, entry)| stays(entry));
        entries.filter_map(|(&id, entry)| Some((id, entry.identity.as_ref()?)))
    }

    /// What was forgotten so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    fn put(&mut self, id: u64, identity: Option<Arc<Identity>>, now_ns: u64, removed: bool) {
        if !self.entries.contains_key(&id) {
            self.make_room();
        }
        self.turn += 1;
        let queue = if removed { &mut self.gone } else { &mut self.living };
        queue.push_back((self.turn, id));
        self.entries.insert(id, Entry { identity, since_ns: now_ns, turn: self.turn, removed });
        self.compact();
    }

    /// Gone cgroups make room first, then the oldest living one: it has a path that can be asked for again.
    fn make_room(&mut self) {
        while self.entries.len() >= self.limits.max_entries.max(1) {
            if let Some((turn, id)) = self.gone.pop_front() {
                if self.forget(turn, id) {
                    self.counters.evicted_removed += 1;
                }
            } else if let Some((turn, id)) = self.living.pop_front() {
                if self.forget(turn, id) {
                    self.counters.evicted_living += 1;
                }
            } else {
                return;
            }
        }
    }

    fn forget(&mut self, turn: u64, id: u64) -> bool {
        let is_current = self.entries.get(&id).is_some_and(|entry| entry.turn == turn);
        if is_current {
            self.entries.remove(&id);
        }
        is_current
    }

    /// A cgroup that is removed leaves its element in `living`; once they are the most, the queue is cleaned.
    fn compact(&mut self) {
        if self.living.len() > 2 * self.entries.len() + EXPIRED_PER_CALL {
            let entries = &self.entries;
            self.living.retain(|(turn, id)| entries.get(id).is_some_and(|entry| entry.turn == *turn));
        }
    }
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
