//! Traces that wait for their status to be written: one of each namespace in turn, so that whoever makes thousands waits
//! for himself. Pure.

use std::collections::{BTreeMap, HashSet, VecDeque};

use crate::fold::TraceKey;

/// Each trace at most once.
#[derive(Debug, Default)]
pub(super) struct Queue {
    by_namespace: BTreeMap<Option<String>, VecDeque<TraceKey>>,
    /// Namespaces with a trace that waits, whose turn it is first.
    turns: VecDeque<Option<String>>,
    waiting: HashSet<TraceKey>,
}

impl Queue {
    pub(super) fn push(&mut self, key: TraceKey) {
        if !self.waiting.insert(key.clone()) {
            return;
        }
        let own = self.by_namespace.entry(key.namespace.clone()).or_default();
        if own.is_empty() {
            self.turns.push_back(key.namespace.clone());
        }
        own.push_back(key);
    }

    pub(super) fn pop(&mut self) -> Option<TraceKey> {
        let namespace = self.turns.pop_front()?;
        let own = self.by_namespace.get_mut(&namespace)?;
        let key = own.pop_front()?;
        if own.is_empty() {
            self.by_namespace.remove(&namespace);
        } else {
            self.turns.push_back(namespace);
        }
        self.waiting.remove(&key);
        Some(key)
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::Queue;
    use crate::fold::TraceKey;

    fn key(namespace: &str, name: &str) -> TraceKey {
        TraceKey {
            namespace: Some(namespace).filter(|name| !name.is_empty()).map(str::to_owned),
            name: name.to_owned(),
        }
    }

    #[test]
    fn a_namespace_with_many_traces_lets_others_pass() {
        let mut queue = Queue::default();
        for number in 0..5 {
            queue.push(key("many", &number.to_string()));
        }
        queue.push(key("many", "0"));
        queue.push(key("", "cluster"));
        queue.push(key("one", "a"));
        assert_eq!(queue.len(), 7);
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).map(|key| key.to_string()).collect();
        assert_eq!(order, ["many/0", "cluster", "one/a", "many/1", "many/2", "many/3", "many/4"]);
        queue.push(key("many", "0"));
        assert_eq!((queue.len(), queue.pop()), (1, Some(key("many", "0"))));
    }
}
