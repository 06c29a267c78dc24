//! The counts of a trace over all nodes. They never fall: an agent that starts anew counts from nothing, a node goes away,
//! another operator takes over, and what was counted was counted.

use std::collections::HashMap;

use jiff::Timestamp;
use kube_tcpstates_crds::status::Counts;

/// Of one trace.
#[derive(Clone, Debug, Default)]
pub(super) struct Folded {
    nodes: HashMap<String, OfNode>,
    /// Of nodes that are gone, and what an operator before this one has told that this one never saw.
    others: Counts,
}

#[derive(Clone, Debug, Default)]
struct OfNode {
    started: Option<Timestamp>,
    /// Of the agent's starts before.
    before: Counts,
    /// Since that start.
    now: Counts,
}

impl Folded {
    /// A node's agent, started then, has counted so many.
    pub(super) fn reported(&mut self, node: &str, started: Option<Timestamp>, counts: Counts) {
        if !self.nodes.contains_key(node) {
            // Most nodes never count anything of most traces.
            if counts == Counts::default() {
                return;
            }
            self.nodes.insert(node.to_owned(), OfNode { started, ..OfNode::default() });
        }
        let Some(known) = self.nodes.get_mut(node) else { return };
        if known.started == started {
            known.now = greater(known.now, counts);
        } else {
            known.before = sum(known.before, known.now);
            (known.started, known.now) = (started, counts);
        }
    }

    /// A node is gone.
    pub(super) fn node_gone(&mut self, node: &str) {
        if let Some(gone) = self.nodes.remove(node) {
            self.others = sum(self.others, sum(gone.before, gone.now));
        }
    }

    /// So many have been told of it: by whoever led before.
    pub(super) fn told(&mut self, told: Counts) {
        let known = self.total();
        self.others = sum(
            self.others,
            Counts {
                events: told.events.saturating_sub(known.events),
                lost: told.lost.saturating_sub(known.lost),
                limited: told.limited.saturating_sub(known.limited),
            },
        );
    }

    /// All of them, as far as the API server can count.
    pub(super) fn total(&self) -> Counts {
        let nodes = self.nodes.values();
        let Counts { events, lost, limited } =
            nodes.fold(self.others, |total, node| sum(total, sum(node.before, node.now)));
        let most = i64::MAX.unsigned_abs();
        Counts { events: events.min(most), lost: lost.min(most), limited: limited.min(most) }
    }
}

const fn sum(a: Counts, b: Counts) -> Counts {
    Counts {
        events: a.events.saturating_add(b.events),
        lost: a.lost.saturating_add(b.lost),
        limited: a.limited.saturating_add(b.limited),
    }
}

fn greater(a: Counts, b: Counts) -> Counts {
    Counts { events: a.events.max(b.events), lost: a.lost.max(b.lost), limited: a.limited.max(b.limited) }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use kube_tcpstates_crds::status::Counts;
    use proptest::prelude::*;

    use super::Folded;

    fn events(events: u64) -> Counts {
        Counts { events, ..Counts::default() }
    }

    fn at(second: i64) -> Option<Timestamp> {
        Timestamp::from_second(second).ok()
    }

    #[test]
    fn nodes_add_up_and_an_agent_that_starts_anew_goes_on_from_where_it_was() {
        let mut folded = Folded::default();
        folded.reported("a", at(1), events(10));
        folded.reported("b", at(1), events(5));
        folded.reported("a", at(1), events(12));
        assert_eq!(folded.total(), events(17));
        folded.reported("a", at(2), events(3));
        assert_eq!(folded.total(), events(20));
        folded.node_gone("a");
        assert_eq!(folded.total(), events(20));
        folded.reported("a", at(3), events(1));
        assert_eq!(folded.total(), events(21));
    }

    #[test]
    fn what_the_one_before_told_is_the_least_and_is_not_added_to_what_is_known() {
        let mut folded = Folded::default();
        folded.reported("a", at(1), events(10));
        folded.told(events(8));
        assert_eq!(folded.total(), events(10));
        folded.told(events(15));
        folded.told(events(15));
        assert_eq!(folded.total(), events(15));
        folded.reported("a", at(1), events(11));
        assert_eq!(folded.total(), events(16));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Reported(u8, i64, [u64; 3]),
        Gone(u8),
        Told([u64; 3]),
    }

    fn step() -> impl Strategy<Value = Step> {
        let counts = || prop::array::uniform3(prop_oneof![0..500_u64, Just(u64::MAX)]);
        prop_oneof![
            8 => (0..3_u8, 0..3_i64, counts()).prop_map(|(node, start, counts)| Step::Reported(node, start, counts)),
            1 => (0..3_u8).prop_map(Step::Gone),
            1 => counts().prop_map(Step::Told),
        ]
    }

    proptest! {
        #[test]
        fn whatever_happens_no_count_falls(steps in prop::collection::vec(step(), 0..40)) {
            let of = |[events, lost, limited]: [u64; 3]| Counts { events, lost, limited };
            let mut folded = Folded::default();
            for step in steps {
                let before = folded.total();
                match step {
                    Step::Reported(node, start, counts) => {
                        folded.reported(&node.to_string(), at(start), of(counts));
                    }
                    Step::Gone(node) => folded.node_gone(&node.to_string()),
                    Step::Told(counts) => folded.told(of(counts)),
                }
                let after = folded.total();
                prop_assert!(after.events >= before.events);
                prop_assert!(after.lost >= before.lost && after.limited >= before.limited);
            }
        }
    }
}
