//! Transitions of pods that nobody has told of in time. Such a pod may be none of this cluster's, and then no trace wanted
//! them; or the API server has been silent, which shows only later. Until it is known which they are counted here, and in
//! the rules their cgroups stay undecided, so that none goes uncounted. Pure; time is passed in.

use std::collections::HashMap;

use kube_tcpstates_common::rule::TraceSet;

use crate::decode::Transition;

/// Longer than it takes to find that the API server is silent (15 s), and then that the list of pods is out of sync (5 s).
const DOUBT_NS: u64 = 25 * 1_000_000_000;
/// Pods in doubt. Above it none is added, and what comes is counted as if the list were in sync.
const PODS: usize = 4_096;
/// Kinds of transitions of one pod that are told apart.
const PARTS: usize = 64;

/// Transitions that stand or fall together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    /// One of them.
    pub(super) example: Transition,
    /// The traces that cannot be judged.
    pub(super) traces: TraceSet,
    /// Those that no other trace wanted: each is to be counted.
    pub(super) whole: u64,
    /// Those that were written for another trace.
    pub(super) beside: u64,
}

#[derive(Debug)]
struct Doubt {
    until_ns: u64,
    parts: Vec<Part>,
}

/// All of them, by the UID of the pod.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    pods: HashMap<String, Doubt>,
    whole: u64,
}

impl Doubts {
    /// Transitions that are not counted anywhere else yet.
    pub(super) fn len(&self) -> u64 {
        self.whole
    }

    /// One more. False where there is no room for another pod.
    pub(super) fn add(
        &mut self,
        uid: &str,
        transition: &Transition,
        traces: TraceSet,
        whole: bool,
        now_ns: u64,
    ) -> bool {
        if !self.pods.contains_key(uid) {
            if self.pods.len() >= PODS {
                return false;
            }
            let until_ns = now_ns.saturating_add(DOUBT_NS);
            self.pods.insert(uid.to_owned(), Doubt { until_ns, parts: Vec::new() });
        }
        let Some(doubt) = self.pods.get_mut(uid) else { return false };
        let full = doubt.parts.len() >= PARTS;
        let of = |part: &Part| (part.example.cgroup_id, part.example.task_cgroup, part.traces);
        let own = (transition.cgroup_id, transition.task_cgroup, traces);
        let at = doubt.parts.iter().position(|part| of(part) == own).or(full.then_some(PARTS - 1));
        let at = at.unwrap_or_else(|| {
            doubt.parts.push(Part { example: *transition, traces, whole: 0, beside: 0 });
            doubt.parts.len() - 1
        });
        let part = &mut doubt.parts[at];
        part.traces |= traces;
        if whole {
            part.whole += 1;
            self.whole += 1;
        } else {
            part.beside += 1;
        }
        true
    }

    /// Those of pods that are known by now.
    pub(super) fn take_known(&mut self, is_known: impl Fn(&str) -> bool) -> Vec<Part> {
        self.take(|uid, _| is_known(uid)).into_iter().flat_map(|(_, parts)| parts).collect()
    }

    /// Those of pods that have been in doubt for long enough.
    pub(super) fn take_over(&mut self, now_ns: u64) -> Vec<(String, Vec<Part>)> {
        self.take(|_, doubt| doubt.until_ns <= now_ns)
    }

    /// When a doubt ends next, boot time ns.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.pods.values().map(|doubt| doubt.until_ns).min()
    }

    /// Traces whose bits are not in `kept` want nothing any more.
    pub(super) fn keep_bits(&mut self, kept: TraceSet) {
        for part in self.pods.values_mut().flat_map(|doubt| &mut doubt.parts) {
            part.traces &= kept;
        }
    }

    fn take(&mut self, which: impl Fn(&str, &Doubt) -> bool) -> Vec<(String, Vec<Part>)> {
        if self.pods.is_empty() {
            return Vec::new();
        }
        let taken = self.pods.extract_if(|uid, doubt| which(uid, doubt));
        let taken: Vec<_> = taken.map(|(uid, doubt)| (uid, doubt.parts)).collect();
        self.whole -= taken.iter().flat_map(|(_, parts)| parts).map(|part| part.whole).sum::<u64>();
        taken
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable as _;
    use kube_tcpstates_common::record::TransitionRecord;

    use super::{DOUBT_NS, Doubts, PODS, Part};
    use crate::decode::{Transition, transitions};

    fn of(cgroup_id: u64) -> Transition {
        transitions(&TransitionRecord { cgroup_id, traces: 1, ..TransitionRecord::zeroed() })[0]
    }

    fn counted(parts: &[Part]) -> (u64, u64) {
        (parts.iter().map(|part| part.whole).sum(), parts.iter().map(|part| part.beside).sum())
    }

    #[test]
    fn what_is_in_doubt_is_counted_until_the_pod_comes_or_its_time_is_over() {
        let mut doubts = Doubts::default();
        for n in 0..10 {
            assert!(doubts.add("late", &of(7), 1, true, n));
            assert!(doubts.add("late", &of(8), 2, false, n));
            assert!(doubts.add("none", &of(9), 3, true, 50));
        }
        assert_eq!((doubts.len(), doubts.next_deadline()), (20, Some(DOUBT_NS)));
        let known = doubts.take_known(|uid| uid == "late");
        assert_eq!((known.len(), counted(&known)), (2, (10, 10)));
        assert!(doubts.take_over(DOUBT_NS + 49).is_empty());
        let [(uid, parts)] = &doubts.take_over(DOUBT_NS + 50)[..] else { panic!() };
        assert_eq!((uid.as_str(), counted(parts), doubts.len()), ("none", (10, 0), 0));
    }

    #[test]
    fn the_traces_that_are_gone_want_nothing() {
        let mut doubts = Doubts::default();
        doubts.add("a", &of(7), 0b11, true, 0);
        doubts.keep_bits(0b10);
        assert_eq!(doubts.take_known(|_| true)[0].traces, 0b10);
    }

    #[test]
    fn whoever_makes_up_pods_takes_a_bounded_room() {
        let mut doubts = Doubts::default();
        for n in 0..2 * PODS {
            assert_eq!(doubts.add(&n.to_string(), &of(7), 1, true, 0), n < PODS);
        }
        for n in 0..10_000 {
            doubts.add("0", &of(n), 1, true, 0);
        }
        assert_eq!(doubts.len(), PODS as u64 + 10_000);
    }
}
