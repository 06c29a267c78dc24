//! Transitions that wait. Those whose owner is to become known wait by the place that named the socket (its cgroup, or
//! its namespace where there is no cgroup), all of one place behind each other, so a connection's order is kept: its
//! socket's place never changes. What waits for its own socket's next transition waits by the socket (`settling`). Pure;
//! time is passed in.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
};

use kube_tcpstates_common::rule::TraceSet;

use crate::decode::Transition;

/// Transitions that may wait at once, some 8 MiB. Above it the longest wait ends early.
const MOST: usize = 32_768;

/// Where a socket belongs, as the kernel tells it: cgroup id and network namespace inode, 0 where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    /// cgroup2 id.
    pub(super) cgroup: u64,
    /// Inode number; 0 where the cgroup is known, which says more.
    pub(super) netns: u32,
}

impl Place {
    /// Of a transition's socket.
    pub(super) fn of(transition: &Transition) -> Self {
        match transition.cgroup_id {
            Some(cgroup) if cgroup != crate::identity::ROOT_CGROUP_ID => Self { cgroup, netns: 0 },
            other => Self { cgroup: other.unwrap_or(0), netns: transition.netns.unwrap_or(0) },
        }
    }
}

/// Those of one place.
struct Waiting {
    deadline_ns: u64,
    transitions: VecDeque<Transition>,
}

/// Those that wait.
pub(super) struct Holding<P = Place> {
    by_place: HashMap<P, Waiting>,
    /// When the wait of each place ends, boot time ns; in order. A place that is gone is skipped.
    deadlines: VecDeque<(u64, P)>,
    count: usize,
    wait_ns: u64,
}

impl<P: Copy + Eq + Hash> Holding<P> {
    /// Each place is waited for so long.
    pub(super) fn new(wait_ns: u64) -> Self {
        Self { by_place: HashMap::new(), deadlines: VecDeque::new(), count: 0, wait_ns }
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Whether a place is waited for: then what comes from it has to wait its turn.
    pub(super) fn holds(&self, place: P) -> bool {
        self.count > 0 && self.by_place.contains_key(&place)
    }

    /// Has a transition wait.
    pub(super) fn hold(&mut self, place: P, transition: Transition, now_ns: u64) {
        let deadlines = &mut self.deadlines;
        let deadline_ns = now_ns.saturating_add(self.wait_ns);
        let waiting = self.by_place.entry(place).or_insert_with(|| {
            deadlines.push_back((deadline_ns, place));
            Waiting { deadline_ns, transitions: VecDeque::new() }
        });
        waiting.transitions.push_back(transition);
        self.count += 1;
    }

    /// Places that are waited for.
    pub(super) fn places(&self) -> Vec<P> {
        self.by_place.keys().copied().collect()
    }

    /// One that waits at a place: all there have the same owner.
    pub(super) fn sample(&self, place: P) -> Option<&Transition> {
        self.by_place.get(&place)?.transitions.front()
    }

    /// All that wait at a place, in order. They wait no longer.
    pub(super) fn release(&mut self, place: P) -> VecDeque<Transition> {
        let released = self.by_place.remove(&place).map(|waiting| waiting.transitions).unwrap_or_default();
        self.count -= released.len();
        released
    }

    /// A place whose wait is over.
    pub(super) fn due(&mut self, now_ns: u64) -> Option<P> {
        while let Some(&(deadline_ns, place)) = self.deadlines.front() {
            if self.by_place.get(&place).is_none_or(|waiting| waiting.deadline_ns != deadline_ns) {
                self.deadlines.pop_front();
                continue;
            }
            if deadline_ns > now_ns && self.count <= MOST {
                return None;
            }
            self.deadlines.pop_front();
            return Some(place);
        }
        None
    }

    /// When the next wait ends, boot time ns.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        if self.count == 0 { None } else { self.deadlines.front().map(|(deadline_ns, _)| *deadline_ns) }
    }

    /// Traces whose bits are not in `kept` want nothing any more.
    pub(super) fn keep_bits(&mut self, kept: TraceSet) {
        for transition in self.by_place.values_mut().flat_map(|waiting| &mut waiting.transitions) {
            transition.traces &= kept;
            transition.maybe &= kept;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable as _;
    use kube_tcpstates_common::record::TransitionRecord;

    use super::{Holding, MOST, Place};
    use crate::decode::{Transition, transitions};

    fn of(cgroup_id: u64, boot_ns: u64) -> Transition {
        let record = TransitionRecord { cgroup_id, boot_ns, traces: 3, ..TransitionRecord::zeroed() };
        transitions(&record)[0]
    }

    fn hold(holding: &mut Holding, cgroup: u64, boot_ns: u64) -> Place {
        let transition = of(cgroup, boot_ns);
        let place = Place::of(&transition);
        holding.hold(place, transition, boot_ns);
        place
    }

    #[test]
    fn a_place_is_released_in_order_and_only_once() {
        let mut holding = Holding::new(100);
        let place = hold(&mut holding, 7, 1);
        hold(&mut holding, 8, 2);
        hold(&mut holding, 7, 3);
        assert!(holding.holds(place) && holding.len() == 3);
        let times: Vec<u64> = holding.release(place).iter().map(|transition| transition.boot_ns).collect();
        assert_eq!(times, [1, 3]);
        assert!(!holding.holds(place) && holding.release(place).is_empty() && holding.len() == 1);
    }

    #[test]
    fn the_wait_of_a_place_counts_from_its_first_transition() {
        let mut holding = Holding::new(100);
        let place = hold(&mut holding, 7, 1);
        hold(&mut holding, 7, 90);
        assert_eq!((holding.due(100), holding.next_deadline()), (None, Some(101)));
        assert_eq!(holding.due(101), Some(place));
        holding.release(place);
        assert_eq!((holding.due(u64::MAX), holding.next_deadline()), (None, None));
    }

    #[test]
    fn a_place_that_was_released_and_held_again_waits_its_whole_time() {
        let mut holding = Holding::new(100);
        let place = hold(&mut holding, 7, 1);
        holding.release(place);
        hold(&mut holding, 7, 50);
        // The first deadline is still in the list; it must not end the second wait.
        assert_eq!(holding.due(120), None);
        assert_eq!(holding.due(150), Some(place));
    }

    #[test]
    fn more_than_fit_end_the_longest_wait_early() {
        let mut holding = Holding::new(u64::MAX / 2);
        let first = hold(&mut holding, 7, 1);
        for n in 0..MOST as u64 {
            hold(&mut holding, 8, n);
        }
        assert_eq!(holding.due(2), Some(first));
        holding.release(first);
        assert_eq!(holding.due(2), None);
    }

    #[test]
    fn a_socket_of_the_root_cgroup_is_told_by_its_namespace() {
        let at = |cgroup_id, netns| {
            let record = TransitionRecord { cgroup_id, netns, traces: 1, ..TransitionRecord::zeroed() };
            Place::of(&transitions(&record)[0])
        };
        assert_ne!(at(1, 5), at(1, 6));
        assert_ne!(at(0, 5), at(0, 6));
        assert_eq!(at(9, 5), at(9, 6));
    }
}
