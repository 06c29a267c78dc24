//! Transitions that wait. Pure; time is passed in.
//!
//! Those whose owner is to become known ([`HeldForOwner`]) wait for what is awaited of it, such as one pod, all of them
//! behind each other; what comes of a connection of which something waits already has to wait behind it, so its order is
//! kept. What waits for its own socket's next record waits by the socket (`undecided`).

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    hash::Hash,
    sync::Arc,
};

use kube_tcpstates_common::rule::TraceSet;

use super::standing::Awaited;
use crate::{decode::Transition, names::QuickMap};

/// Transitions that may wait for their owners at once, some 15 MiB. Above it those of the namespace go first of which most
/// wait, and of that namespace those of the owner of whom most do.
const MOST: usize = 32_768;
/// So many go at once then: finding out of whom most wait takes a look at all.
const EVICTED: usize = 256;

/// Those that wait for one thing.
struct Group {
    since_ns: u64,
    deadline_ns: u64,
    transitions: VecDeque<Transition>,
}

/// Those that wait, by what they wait for.
pub(super) struct Held<K> {
    groups: HashMap<K, Group>,
    /// When the wait for each ends, boot time ns.
    deadlines: BTreeSet<(u64, K)>,
    count: usize,
    wait_ns: u64,
}

impl<K: Clone + Ord + Hash> Held<K> {
    /// Each thing is waited for so long, if nothing else is said of it.
    pub(super) fn new(wait_ns: u64) -> Self {
        Self { groups: HashMap::new(), deadlines: BTreeSet::new(), count: 0, wait_ns }
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Whether something waits for this.
    pub(super) fn holds(&self, key: &K) -> bool {
        self.count > 0 && self.groups.contains_key(key)
    }

    /// Has a transition wait.
    pub(super) fn hold(&mut self, key: K, transition: &Transition, now_ns: u64) {
        self.hold_for(key, transition, now_ns, self.wait_ns);
    }

    /// Has a transition wait for at least so long. All that wait for one thing wait as long as the first does, or as the one
    /// does for which that is worth most.
    fn hold_for(&mut self, key: K, transition: &Transition, now_ns: u64, wait_ns: u64) {
        let Self { groups, deadlines, count, .. } = self;
        let group = groups.entry(key.clone()).or_insert_with(|| {
            let deadline_ns = now_ns.saturating_add(wait_ns);
            deadlines.insert((deadline_ns, key.clone()));
            Group { since_ns: now_ns, deadline_ns, transitions: VecDeque::new() }
        });
        let deadline_ns = group.since_ns.saturating_add(wait_ns);
        if deadline_ns > group.deadline_ns {
            deadlines.remove(&(group.deadline_ns, key.clone()));
            deadlines.insert((deadline_ns, key));
            group.deadline_ns = deadline_ns;
        }
        group.transitions.push_back(*transition);
        *count += 1;
    }

    /// All that wait for this, in order. They wait no longer.
    pub(super) fn release(&mut self, key: &K) -> VecDeque<Transition> {
        let Some(group) = self.groups.remove(key) else { return VecDeque::new() };
        self.deadlines.remove(&(group.deadline_ns, key.clone()));
        self.count -= group.transitions.len();
        group.transitions
    }

    /// Something for which the wait is over.
    pub(super) fn due(&mut self, now_ns: u64) -> Option<K> {
        let (deadline_ns, key) = self.deadlines.first()?;
        (*deadline_ns <= now_ns).then(|| key.clone())
    }

    /// When the next wait ends, boot time ns.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.deadlines.first().map(|(deadline_ns, _)| *deadline_ns)
    }

    /// Traces whose bits are not in `kept` want nothing any more.
    pub(super) fn keep_bits(&mut self, kept: TraceSet) {
        for transition in self.groups.values_mut().flat_map(|group| &mut group.transitions) {
            transition.traces &= kept;
            transition.maybe &= kept;
        }
    }

    /// Takes out the longest waiting of those of whom most wait, among those with the largest share.
    fn take_of_most<S: Clone + Eq + Hash>(&mut self, share_of: impl Fn(&K) -> S) -> Vec<Transition> {
        let mut shares: HashMap<S, usize> = HashMap::new();
        for (key, group) in &self.groups {
            *shares.entry(share_of(key)).or_default() += group.transitions.len();
        }
        let Some(largest) = shares.into_iter().max_by_key(|(_, number)| *number).map(|(share, _)| share)
        else {
            return Vec::new();
        };
        let own = self.groups.iter_mut().filter(|(key, _)| share_of(key) == largest);
        let Some((key, group)) = own.max_by_key(|(_, group)| group.transitions.len()) else {
            return Vec::new();
        };
        let taken: Vec<_> = group.transitions.drain(..EVICTED.min(group.transitions.len())).collect();
        self.count -= taken.len();
        if group.transitions.is_empty() {
            let key = key.clone();
            self.release(&key);
        }
        taken
    }
}

/// What is known of whoever has to wait.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wait<'a> {
    /// The namespace of its pod.
    pub(super) namespace: Option<&'a str>,
    /// It is worth waiting for so long, ns.
    pub(super) at_least_ns: u64,
}

/// Those that wait for their owners.
pub(super) struct HeldForOwner {
    held: Held<Awaited>,
    /// What the transitions of a connection wait for, and how many do.
    connections: QuickMap<u64, (Awaited, usize)>,
    /// Namespaces of those of which that is known. The others share one share: any of them may be anybody's.
    namespaces: HashMap<Awaited, Arc<str>>,
}

impl HeldForOwner {
    /// Each owner is waited for so long.
    pub(super) fn new(wait_ns: u64) -> Self {
        Self { held: Held::new(wait_ns), connections: QuickMap::default(), namespaces: HashMap::new() }
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// What a connection's earlier transitions wait for: the next one has to wait behind them.
    pub(super) fn awaited_by(&self, transition: &Transition) -> Option<&Awaited> {
        if self.held.count == 0 {
            return None;
        }
        self.connections.get(&connection_of(transition)).map(|(awaited, _)| awaited)
    }

    /// Has a transition wait: for so long, where that is more than usual.
    pub(super) fn hold(&mut self, awaited: Awaited, transition: &Transition, now_ns: u64, wait: Wait<'_>) {
        self.connections.entry(connection_of(transition)).or_insert_with(|| (awaited.clone(), 0)).1 += 1;
        if let Some(namespace) = wait.namespace
            && !self.namespaces.contains_key(&awaited)
        {
            self.namespaces.insert(awaited.clone(), namespace.into());
        }
        let wait_ns = self.held.wait_ns.max(wait.at_least_ns);
        self.held.hold_for(awaited, transition, now_ns, wait_ns);
    }

    /// What is waited for.
    pub(super) fn awaited(&self) -> Vec<Awaited> {
        self.held.groups.keys().cloned().collect()
    }

    /// The first that waits for this.
    pub(super) fn first(&self, awaited: &Awaited) -> Option<&Transition> {
        self.held.groups.get(awaited)?.transitions.front()
    }

    /// All that wait for this, in order. They wait no longer.
    pub(super) fn release(&mut self, awaited: &Awaited) -> VecDeque<Transition> {
        let released = self.held.release(awaited);
        self.namespaces.remove(awaited);
        for transition in &released {
            self.let_go(transition);
        }
        released
    }

    /// Those that have to go because too many wait.
    pub(super) fn overflow(&mut self) -> Vec<Transition> {
        if self.held.count <= MOST {
            return Vec::new();
        }
        let Self { held, namespaces, .. } = self;
        let taken = held.take_of_most(|awaited| namespaces.get(awaited).cloned());
        let held = &self.held;
        self.namespaces.retain(|awaited, _| held.groups.contains_key(awaited));
        for transition in &taken {
            self.let_go(transition);
        }
        taken
    }

    /// See [`Held::due`].
    pub(super) fn due(&mut self, now_ns: u64) -> Option<Awaited> {
        self.held.due(now_ns)
    }

    /// See [`Held::next_deadline`].
    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.held.next_deadline()
    }

    /// See [`Held::keep_bits`].
    pub(super) fn keep_bits(&mut self, kept: TraceSet) {
        self.held.keep_bits(kept);
    }

    fn let_go(&mut self, transition: &Transition) {
        let connection = connection_of(transition);
        if let Some((_, count)) = self.connections.get_mut(&connection) {
            *count -= 1;
            if *count == 0 {
                self.connections.remove(&connection);
            }
        }
    }
}

/// Tells a connection from others, also from earlier ones of its socket's address, which need not be its owner's. Two
/// that are taken for one only wait for each other.
fn connection_of(transition: &Transition) -> u64 {
    let birth_ns = if transition.birth_known { transition.birth_ns } else { 0 };
    transition.socket ^ birth_ns.rotate_left(32)
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable as _;
    use kube_tcpstates_common::record::TransitionRecord;

    use super::{Awaited, EVICTED, Held, HeldForOwner, MOST, Wait};
    use crate::decode::{Transition, transitions};

    fn of(socket: u64, boot_ns: u64) -> Transition {
        let record = TransitionRecord { socket, boot_ns, traces: 3, ..TransitionRecord::zeroed() };
        transitions(&record)[0]
    }

    fn pod(name: &str) -> Awaited {
        Awaited::Pod(name.to_owned())
    }

    #[test]
    fn what_waits_for_one_thing_is_released_in_order_and_only_once() {
        let mut held = Held::new(100);
        for (key, boot_ns) in [(7, 1), (8, 2), (7, 3)] {
            held.hold(key, &of(key, boot_ns), boot_ns);
        }
        assert!(held.holds(&7) && held.len() == 3);
        let times: Vec<u64> = held.release(&7).iter().map(|transition| transition.boot_ns).collect();
        assert_eq!(times, [1, 3]);
        assert!(!held.holds(&7) && held.release(&7).is_empty() && held.len() == 1);
    }

    #[test]
    fn a_wait_counts_from_the_first_transition() {
        let mut held = Held::new(100);
        held.hold(7, &of(7, 1), 1);
        held.hold(7, &of(7, 90), 90);
        assert_eq!((held.due(100), held.next_deadline()), (None, Some(101)));
        assert_eq!(held.due(101), Some(7));
        assert_eq!(held.release(&7).len(), 2);
        assert_eq!((held.due(u64::MAX), held.next_deadline()), (None, None));
    }

    #[test]
    fn what_was_released_and_is_held_again_waits_its_whole_time() {
        let mut held = Held::new(100);
        held.hold(7, &of(7, 1), 1);
        held.release(&7);
        held.hold(7, &of(7, 50), 50);
        // The first deadline is still in the list; it must not end the second wait.
        assert_eq!(held.due(120), None);
        assert_eq!(held.due(150), Some(7));
    }

    #[test]
    fn a_connection_does_not_wait_behind_an_earlier_one_of_its_sockets_address() {
        let born = |birth_ns| Transition { birth_ns, birth_known: true, ..of(1, birth_ns) };
        let mut held = HeldForOwner::new(100);
        held.hold(pod("a"), &born(1), 1, Wait::default());
        assert_eq!(held.awaited_by(&born(1)), Some(&pod("a")));
        assert_eq!(held.awaited_by(&born(2)), None);
        held.hold(pod("b"), &born(2), 2, Wait::default());
        held.release(&pod("a"));
        assert_eq!(held.awaited_by(&born(2)), Some(&pod("b")));
    }

    #[test]
    fn a_socket_of_which_something_waits_is_known_until_all_of_it_is_released() {
        let mut held = HeldForOwner::new(100);
        held.hold(pod("a"), &of(1, 1), 1, Wait::default());
        held.hold(pod("a"), &of(1, 2), 2, Wait::default());
        held.hold(pod("b"), &of(2, 3), 3, Wait::default());
        assert_eq!(held.awaited_by(&of(1, 0)), Some(&pod("a")));
        assert_eq!(held.release(&pod("a")).len(), 2);
        assert_eq!((held.awaited_by(&of(1, 0)), held.awaited_by(&of(2, 0))), (None, Some(&pod("b"))));
    }

    #[test]
    fn of_too_many_those_go_of_whom_most_wait() {
        let mut held = HeldForOwner::new(u64::MAX / 2);
        held.hold(pod("quiet"), &of(1, 1), 1, Wait::default());
        let mut evicted = Vec::new();
        for n in 0..2 * MOST as u64 {
            held.hold(pod("noisy"), &of(2 + n % 10, n), n, Wait::default());
            evicted.extend(held.overflow());
        }
        assert!(evicted.iter().all(|transition| transition.socket != 1));
        assert!(evicted.is_sorted_by_key(|transition| transition.boot_ns));
        assert!(held.len() <= MOST && held.len() + EVICTED > MOST);
        assert_eq!(held.len() + evicted.len(), 2 * MOST + 1);
        // Nobody's wait ended for it.
        assert_eq!(
            (held.awaited_by(&of(1, 0)), held.awaited_by(&of(2, 0))),
            (Some(&pod("quiet")), Some(&pod("noisy")))
        );
    }

    #[test]
    fn what_is_worth_a_longer_wait_lets_all_wait_that_wait_for_the_same() {
        let mut held = HeldForOwner::new(100);
        let longer = Wait { at_least_ns: 1_000, ..Wait::default() };
        held.hold(pod("a"), &of(1, 1), 1, Wait::default());
        held.hold(pod("b"), &of(2, 2), 2, Wait::default());
        held.hold(pod("a"), &of(1, 50), 50, longer);
        assert_eq!(held.due(200), Some(pod("b")));
        held.release(&pod("b"));
        assert_eq!((held.due(1_000), held.due(1_001)), (None, Some(pod("a"))));
    }

    #[test]
    fn a_namespace_with_many_pods_pushes_out_its_own_and_no_other() {
        let mut held = HeldForOwner::new(u64::MAX / 2);
        let of_namespace = |namespace| Wait { namespace: Some(namespace), at_least_ns: 0 };
        // More of one pod than of any pod of the noisy namespace.
        for n in 0..2_000 {
            held.hold(pod("quiet"), &of(1, n), n, of_namespace("shop"));
        }
        let mut evicted = Vec::new();
        for n in 0..2 * MOST as u64 {
            let noisy = pod(&format!("noisy-{}", n % 100));
            held.hold(noisy, &of(2 + n % 100, n), n, of_namespace("evil"));
            evicted.extend(held.overflow());
        }
        assert!(evicted.len() >= MOST);
        assert!(evicted.iter().all(|transition| transition.socket != 1));
        assert_eq!(held.release(&pod("quiet")).len(), 2_000);
    }
}
