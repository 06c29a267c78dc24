//! What was open at the last look of each node, for each trace that looks.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use jiff::Timestamp;

/// Owners of a look that are kept apart.
const OWNERS_AT_MOST: usize = 4096;
/// Looks that are kept: one of each run for each of its traces, and one that is coming.
const LOOKS_AT_MOST: usize = 8192;
/// How far the only look of a trace may lie behind the last look of another on the same node.
const ONCE: Duration = Duration::from_mins(5);

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
    /// Since the look before it, of the same run and trace.
    every: Option<Duration>,
}

/// Whose look it is: a run's, for a trace. Without a trace (`list`, `trace`) the name is empty.
type Whose = (String, String);

/// The last look of each run for each trace, and those that are still coming.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    coming: HashMap<Whose, Look>,
    last: HashMap<Whose, Look>,
    /// Sockets of looks that are not kept apart.
    uncounted: u64,
}

impl Looks {
    /// A socket that was open.
    pub(crate) fn socket(&mut self, run: &str, trace: &str, owner: &str, state: &str, age_us: Option<u64>) {
        let Some(look) = self.coming_of(run, trace) else { return };
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
    pub(crate) fn listener(&mut self, run: &str, trace: &str, queue: &Queue) {
        let Some(look) = self.coming_of(run, trace) else { return };
        if (queue.length > 0 || queue.drops.is_some_and(|drops| drops > 0))
            && look.queues.len() < OWNERS_AT_MOST
        {
            look.queues.push(queue.clone());
        }
    }

    /// The look that came is whole.
    pub(crate) fn end(&mut self, run: &str, trace: &str, time: &str) {
        if self.coming_of(run, trace).is_none() {
            return;
        }
        let whose = (run.to_owned(), trace.to_owned());
        let mut look = self.coming.remove(&whose).unwrap_or_default();
        time.clone_into(&mut look.time);
        // Files may come in any order.
        let last = self.last.get_mut(&whose);
        let every = last.as_ref().and_then(|last| between(&last.time, &look.time));
        match last {
            Some(last) if last.time > look.time => last.every = last.every.or(every),
            _ => {
                look.every = every;
                self.last.insert(whose, look);
            }
        }
    }

    fn coming_of(&mut self, run: &str, trace: &str) -> Option<&mut Look> {
        let whose = (run.to_owned(), trace.to_owned());
        let is_known = self.coming.contains_key(&whose) || self.last.contains_key(&whose);
        if !is_known && self.coming.len() + self.last.len() >= LOOKS_AT_MOST {
            self.uncounted += 1;
            return None;
        }
        Some(self.coming.entry(whose).or_default())
    }

    /// All of them as one. `None`: nobody looked. `node_of` tells where a run was: an agent that was started again looks
    /// at what the one before it has shown. Runs without a trace are not agents of nodes; two may look at the same time.
    pub(crate) fn finish<'a>(self, node_of: impl Fn(&str) -> Option<&'a str>) -> Option<Look> {
        let mut by_place = BTreeMap::<String, BTreeMap<String, Look>>::new();
        for ((run, trace), look) in self.last {
            let node = node_of(&run).filter(|_| !trace.is_empty()).map(|node| format!("node {node}"));
            let looks = by_place.entry(node.unwrap_or(run)).or_default();
            if looks.get(&trace).is_none_or(|other| other.time <= look.time) {
                looks.insert(trace, look);
            }
        }
        let mut all =
            by_place.into_values().map(|looks| for_all_traces(looks.into_values())).reduce(Look::and)?;
        all.uncounted += self.uncounted;
        Some(all)
    }
}

/// Between two times of lines, whichever is the earlier.
fn between(a: &str, b: &str) -> Option<Duration> {
    let [a, b] = [a, b].map(|time| time.parse::<Timestamp>().ok());
    Some(a?.duration_since(b?).unsigned_abs())
}

/// Looks of one place for several traces: they may show the same sockets, so of an owner that which shows the most counts.
/// Those of traces that look no more tell of what was, and are left out.
fn for_all_traces(looks: impl Iterator<Item = Look>) -> Look {
    let mut all = Look::default();
    let mut looks: Vec<Look> = looks.collect();
    let newest = looks.iter().map(|look| look.time.clone()).max().unwrap_or_default();
    looks.retain(|look| {
        let may_lie_behind = look.every.map_or(ONCE, |every| every.saturating_mul(2));
        between(&newest, &look.time).is_none_or(|behind| behind <= may_lie_behind)
    });
    let mut queues = BTreeMap::<(String, u16), (usize, String, Vec<Queue>)>::new();
    for look in looks {
        for (key, sockets) in look.sockets {
            let into = all.sockets.entry(key).or_default();
            into.count = into.count.max(sockets.count);
            into.oldest_us = into.oldest_us.max(sockets.oldest_us);
        }
        let mut by_listener = BTreeMap::<(String, u16), Vec<Queue>>::new();
        for queue in look.queues {
            by_listener.entry((queue.owner.clone(), queue.port)).or_default().push(queue);
        }
        for (key, theirs) in by_listener {
            let it = (theirs.len(), look.time.clone(), theirs);
            let best = queues.entry(key).or_default();
            if (it.0, &it.1) > (best.0, &best.1) {
                *best = it;
            }
        }
        all.uncounted = all.uncounted.max(look.uncounted);
        all.time = all.time.max(look.time);
    }
    all.queues = queues.into_values().flat_map(|(_, _, queues)| queues).collect();
    all
}

impl Look {
    /// This one and that of another place: what they show is not the same.
    fn and(mut self, other: Self) -> Self {
        for (key, sockets) in other.sockets {
            let into = self.sockets.entry(key).or_default();
            into.count += sockets.count;
            into.oldest_us = into.oldest_us.max(sockets.oldest_us);
        }
        self.queues.extend(other.queues);
        self.uncounted += other.uncounted;
        self.time = self.time.max(other.time);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: &str = "";

    fn open(look: &Look) -> Sockets {
        look.sockets[&("shop".to_owned(), "CLOSE_WAIT".to_owned())]
    }

    #[test]
    fn only_the_last_whole_look_of_a_run_counts() {
        let mut looks = Looks::default();
        for _ in 0..3 {
            looks.socket("a", NONE, "shop", "CLOSE_WAIT", Some(10));
        }
        looks.end("a", NONE, "1");
        looks.socket("a", NONE, "shop", "CLOSE_WAIT", Some(70));
        looks.end("a", NONE, "2");
        looks.socket("a", NONE, "shop", "CLOSE_WAIT", Some(90));
        looks.socket("b", NONE, "shop", "CLOSE_WAIT", None);
        looks.end("b", NONE, "1");
        let look = looks.finish(|_| None).unwrap();
        assert_eq!(look.time, "2");
        assert_eq!(open(&look), Sockets { count: 2, oldest_us: Some(70) });
    }

    #[test]
    fn the_end_of_another_traces_look_ends_none() {
        let mut looks = Looks::default();
        for trace in ["ours", "theirs", "ours"] {
            looks.socket("a", trace, "shop", "CLOSE_WAIT", Some(10));
        }
        looks.end("a", "theirs", "1");
        looks.end("a", "ours", "1");
        looks.end("a", "theirs", "2");
        assert_eq!(open(&looks.finish(|_| None).unwrap()).count, 2);
    }

    #[test]
    fn what_two_traces_show_is_there_once() {
        let mut looks = Looks::default();
        let queue = Queue { owner: "shop".to_owned(), port: 80, length: 1, limit: 2, drops: None };
        for trace in ["one", "two"] {
            looks.socket("a", trace, "shop", "CLOSE_WAIT", None);
            looks.listener("a", trace, &queue);
            looks.end("a", trace, "1");
        }
        let look = looks.finish(|_| None).unwrap();
        assert_eq!((open(&look).count, look.queues), (1, vec![queue]));
    }

    #[test]
    fn what_a_trace_saw_that_looks_no_more_is_left_out_beside_one_that_does() {
        let shown = |looks_of_list: &[&str], newest: &str| {
            let mut looks = Looks::default();
            for (trace, times, sockets) in [("list", looks_of_list, 50), ("lasting", &["12:59", newest], 2)] {
                for time in times {
                    for _ in 0..sockets {
                        looks.socket("a", trace, "shop", "CLOSE_WAIT", None);
                    }
                    looks.end("a", trace, &format!("2026-11-27T{time}:00Z"));
                }
            }
            open(&looks.finish(|_| None).unwrap()).count
        };
        assert_eq!(shown(&["09:00"], "13:00"), 2);
        assert_eq!(shown(&["12:56"], "13:00"), 50);
        assert_eq!(shown(&["12:10", "12:30"], "13:00"), 50, "it looks every twenty minutes");
        assert_eq!(shown(&["12:30", "12:10"], "13:00"), 50, "and its lines come in another order");
        assert_eq!(shown(&["11:50", "12:10"], "13:00"), 2, "it has looked no more for two of them");
    }

    #[test]
    fn of_one_node_the_last_run_that_looked_for_a_trace_counts() {
        let finished = |trace, node: Option<&'static str>| {
            let mut looks = Looks::default();
            for (run, time, sockets) in [("a", "2", 2), ("b", "1", 5)] {
                for _ in 0..sockets {
                    looks.socket(run, trace, "shop", "CLOSE_WAIT", None);
                }
                looks.end(run, trace, time);
            }
            open(&looks.finish(|_| node).unwrap()).count
        };
        assert_eq!(finished("ours", Some("node-a")), 2);
        assert_eq!(finished("ours", None), 7, "two machines for all that is known");
        assert_eq!(finished(NONE, Some("node-a")), 7, "two sidecars");
    }

    #[test]
    fn an_earlier_look_that_is_read_later_is_not_the_last() {
        let mut looks = Looks::default();
        for (time, sockets) in [("2", 2), ("1", 1)] {
            for _ in 0..sockets {
                looks.socket("a", NONE, "shop", "CLOSE_WAIT", None);
            }
            looks.end("a", NONE, time);
        }
        assert_eq!(open(&looks.finish(|_| None).unwrap()).count, 2);
    }

    #[test]
    fn no_more_looks_are_kept_than_allowed() {
        let mut looks = Looks::default();
        for run in 0..LOOKS_AT_MOST + 10 {
            looks.socket(&run.to_string(), NONE, "shop", "CLOSE_WAIT", None);
        }
        assert_eq!((looks.coming.len(), looks.uncounted), (LOOKS_AT_MOST, 10));
        looks.end("0", NONE, "1");
        assert_eq!(looks.finish(|_| None).unwrap().uncounted, 10);
    }
}
