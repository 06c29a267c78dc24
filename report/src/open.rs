//! What was open at the last look of each run.

use std::collections::{BTreeMap, HashMap};

/// Owners of a look that are kept apart.
const OWNERS_AT_MOST: usize = 4096;

/// Sockets of one owner in one state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sockets {
    pub count: u64,
    /// How long the one that was longest in the state has been in it, us, where that is known.
    pub oldest_us: Option<u64>,
}

/// A listener's queue.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Queue {
    pub owner: String,
    pub port: u16,
    pub length: u32,
    pub limit: u32,
    pub drops: Option<u32>,
}

/// One look at what was open.
#[derive(Clone, Debug, Default)]
pub(crate) struct Look {
    /// When it ended, as the line says it.
    pub time: String,
    /// By owner and state.
    pub sockets: BTreeMap<(String, String), Sockets>,
    /// Listeners that lost connections or have some waiting.
    pub queues: Vec<Queue>,
    /// Sockets of owners that are not kept apart.
    pub uncounted: u64,
}

/// The last look of each run, and the one that is still coming.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    coming: HashMap<String, Look>,
    last: HashMap<String, Look>,
}

impl Looks {
    /// A socket that was open.
    pub(crate) fn socket(&mut self, run: &str, owner: &str, state: &str, age_us: Option<u64>) {
        let look = self.coming_of(run);
        let key = (owner.to_owned(), state.to_owned());
        if look.sockets.len() >= OWNERS_AT_MOST && !look.sockets.contains_key(&key) {
            look.uncounted += 1;
            return;
        }
        let sockets = look.sockets.entry(key).or_default();
        sockets.count += 1;
        sockets.oldest_us = sockets.oldest_us.max(age_us);
    }

    /// A listener. Those with an empty queue that never lost anything say nothing.
    pub(crate) fn listener(&mut self, run: &str, queue: Queue) {
        let look = self.coming_of(run);
        if (queue.length > 0 || queue.drops.is_some_and(|drops| drops > 0))
            && look.queues.len() < OWNERS_AT_MOST
        {
            look.queues.push(queue);
        }
    }

    /// The look that came is whole.
    pub(crate) fn end(&mut self, run: &str, time: &str) {
        let mut look = self.coming.remove(run).unwrap_or_default();
        time.clone_into(&mut look.time);
        self.last.insert(run.to_owned(), look);
    }

    fn coming_of(&mut self, run: &str) -> &mut Look {
        if !self.coming.contains_key(run) {
            self.coming.insert(run.to_owned(), Look::default());
        }
        self.coming.entry(run.to_owned()).or_default()
    }

    /// All of them as one. `None`: nobody looked.
    pub(crate) fn finish(self) -> Option<Look> {
        self.last.into_values().reduce(|mut one, other| {
            if other.time > one.time {
                one.time = other.time;
            }
            for (key, sockets) in other.sockets {
                let into = one.sockets.entry(key).or_default();
                into.count += sockets.count;
                into.oldest_us = into.oldest_us.max(sockets.oldest_us);
            }
            one.queues.extend(other.queues);
            one.uncounted += other.uncounted;
            one
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_whole_look_of_a_run_counts() {
        let mut looks = Looks::default();
        for _ in 0..3 {
            looks.socket("a", "shop", "CLOSE_WAIT", Some(10));
        }
        looks.end("a", "1");
        looks.socket("a", "shop", "CLOSE_WAIT", Some(70));
        looks.end("a", "2");
        looks.socket("a", "shop", "CLOSE_WAIT", Some(90));
        looks.socket("b", "shop", "CLOSE_WAIT", None);
        looks.end("b", "1");
        let look = looks.finish().unwrap();
        assert_eq!(look.time, "2");
        let sockets = look.sockets[&("shop".to_owned(), "CLOSE_WAIT".to_owned())];
        assert_eq!(sockets, Sockets { count: 2, oldest_us: Some(70) });
    }
}
