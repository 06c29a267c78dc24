//! The workloads that are kept apart.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use kube_tcpstates_common::state::State;
use kube_tcpstates_events::Role;

use super::{
    KEPT_NS, MAX_WORKLOADS,
    figures::{Figures, ListenerFigures},
};
use crate::{
    connection::Story,
    names::{Numbered, Owner, Workload},
    open::Queue,
};

/// Numbers of owners that are remembered. One is of one time: an owner gets another when the pods change.
const NUMBERS: usize = 4 * MAX_WORKLOADS;

/// What a workload is called in metrics. Without a namespace it is whatever is no pod; without a workload, pods that
/// nothing owns.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// Its namespace.
    pub namespace: Option<String>,
    /// What owns the pods.
    pub workload: Option<Workload>,
}

impl Name {
    /// That of a socket's owner.
    pub fn of(owner: Option<&Owner>) -> Self {
        let Some(owner) = owner else { return Self::default() };
        Self { namespace: owner.namespace.clone(), workload: owner.workload.clone() }
    }
}

/// A workload.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entry {
    /// What was counted.
    pub figures: Figures,
    /// When there last was anything of it, boot time ns.
    seen_ns: u64,
}

/// A listener that a walk has found.
#[derive(Clone, Copy, Debug)]
pub struct Listening {
    /// Its queue.
    pub queue: Queue,
    /// What it has dropped since it was last seen.
    pub dropped: u32,
}

/// All workloads.
#[derive(Clone, Debug, Default)]
pub struct Workloads {
    named: BTreeMap<Name, Entry>,
    by_number: HashMap<u64, Arc<Name>>,
    /// Those for which there was no room.
    other: Option<Entry>,
    /// Connections that have ended and were counted under `other`.
    passed_over: u64,
}

impl Workloads {
    /// A connection has ended.
    pub fn ended(&mut self, owner: Option<&Numbered<Owner>>, role: Option<Role>, story: &Story, now_ns: u64) {
        let number = owner.map_or(0, Numbered::number);
        let name = match self.by_number.get(&number) {
            Some(name) => Arc::clone(name),
            None => self.remember(number, Name::of(owner.map(|owner| &**owner))),
        };
        let (entry, is_other) = self.named(&name, now_ns);
        entry.figures.ended(role, story);
        self.passed_over += u64::from(is_other);
    }

    /// A walk over what is open begins to be counted: what the one before found is forgotten.
    pub fn walked(&mut self) {
        self.named.values_mut().chain(&mut self.other).for_each(|entry| entry.figures.clear_open());
    }

    /// It found so many connections in a state.
    pub fn open(&mut self, name: &Name, state: State, count: u64, now_ns: u64) {
        self.named(name, now_ns).0.figures.open(state, count);
    }

    /// It found a listener.
    pub fn listens(&mut self, name: &Name, listening: Listening, now_ns: u64) {
        let figures = &mut self.named(name, now_ns).0.figures;
        let all = figures.listening.get_or_insert_with(ListenerFigures::default);
        all.listeners += 1;
        if let Some(length) = listening.queue.length {
            all.waiting += u64::from(length);
            let limit = u64::from(listening.queue.limit.unwrap_or(0)).max(1);
            all.fullest_permille = all.fullest_permille.max(u64::from(length) * 1000 / limit);
        }
        figures.drops += u64::from(listening.dropped);
    }

    /// Forgets workloads of which nothing was left for a while. `has_pods`: it has some on this node.
    pub fn forget(&mut self, has_pods: impl Fn(&Name) -> bool, now_ns: u64) {
        self.named.retain(|name, entry| {
            if entry.figures.has_open() || has_pods(name) {
                entry.seen_ns = now_ns;
            }
            now_ns.saturating_sub(entry.seen_ns) < KEPT_NS
        });
    }

    /// All that are kept apart, and then the others, which have no name.
    pub fn all(&self) -> impl Iterator<Item = (Option<&Name>, &Figures)> {
        let named = self.named.iter().map(|(name, entry)| (Some(name), &entry.figures));
        named.chain(self.other.iter().map(|entry| (None, &entry.figures)))
    }

    /// How many are kept apart.
    pub fn len(&self) -> usize {
        self.named.len()
    }

    /// None is.
    pub fn is_empty(&self) -> bool {
        self.named.is_empty()
    }

    /// Connections that have ended and were counted under `other`.
    pub const fn passed_over(&self) -> u64 {
        self.passed_over
    }

    fn remember(&mut self, number: u64, name: Name) -> Arc<Name> {
        if self.by_number.len() >= NUMBERS {
            self.by_number.clear();
        }
        let name = Arc::new(name);
        self.by_number.insert(number, Arc::clone(&name));
        name
    }

    /// The entry of a name, and whether it is that of the others.
    fn named(&mut self, name: &Name, now_ns: u64) -> (&mut Entry, bool) {
        if self.named.len() < MAX_WORKLOADS && !self.named.contains_key(name) {
            self.named.insert(name.clone(), Entry::default());
        }
        let (entry, is_other) = match self.named.get_mut(name) {
            Some(entry) => (entry, false),
            None => (self.other.get_or_insert_default(), true),
        };
        entry.seen_ns = now_ns;
        (entry, is_other)
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
