//! What each trace got, and which generation's bits mean which trace. A bit is used again for another trace; what was
//! judged under earlier rules may still be in the ring then, or wait for an owner. Pure.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use kube_tcpstates_common::rule::{MAX_TRACES, TraceSet};

use super::account::TraceCounts;
use crate::{kernel::RulesLeft, names::TraceTable, plan::Plan};

/// Traces that are gone whose counts are kept.
const KEPT: usize = 1_024;

/// Earlier generations whose bits are remembered. That a drain brings nothing does not mean that the ring is empty: a
/// record that is reserved and not yet written hides those behind it. Plans are at least 100 ms apart, so these last for
/// 25 s.
const REMEMBERED: usize = 256;

/// Rules that are no longer in force.
struct Earlier {
    generation: u32,
    /// Bits that mean now what they meant then.
    kept: TraceSet,
}

/// The counts of a trace, and what it is called.
#[derive(Clone, Debug)]
struct Entry {
    /// The command line's own trace has none, and its losses are those of the run.
    name: Option<String>,
    counts: TraceCounts,
    /// Losses that each outlet was told, by its place.
    told_lost: Vec<u64>,
    /// The turn in which it was last active.
    turn: u64,
}

impl Entry {
    /// Whether the outlet of a place is to be told of losses. Those of a trace without a name are the run's.
    fn is_untold(&self, place: usize) -> bool {
        self.name.is_some() && self.counts.lost != self.told_lost.get(place).copied().unwrap_or(0)
    }
}

/// Counts by trace.
pub(super) struct Ledger {
    plan: Arc<Plan>,
    generation: u32,
    /// The oldest first.
    earlier: VecDeque<Earlier>,
    names: TraceTable,
    /// By bit, since the plan came into force.
    running: [TraceCounts; MAX_TRACES],
    by_uid: BTreeMap<String, Entry>,
    /// The kernel's own counts by bit as they were last read.
    ring_full: [u64; MAX_TRACES],
    turn: u64,
}

impl Ledger {
    pub(super) fn new() -> Self {
        Self {
            plan: Arc::default(),
            generation: 0,
            earlier: VecDeque::new(),
            names: TraceTable::default(),
            running: [TraceCounts::default(); MAX_TRACES],
            by_uid: BTreeMap::new(),
            ring_full: [0; MAX_TRACES],
            turn: 0,
        }
    }

    /// Goes on from what a run before this one left: its rules, and the losses that it had put down to traces.
    pub(super) fn go_on(&mut self, rules: &[RulesLeft], ring_full: &[u64; MAX_TRACES]) {
        for rules in rules {
            self.turn_over(&Arc::new(Plan::left(&rules.traces)), rules.generation);
        }
        self.ring_full = *ring_full;
    }

    /// What the kernel lost by bit, as far as it is put down to traces.
    pub(super) const fn ring_full(&self) -> &[u64; MAX_TRACES] {
        &self.ring_full
    }

    /// Another plan is in force under a generation. Returns the bits that mean what they meant before.
    pub(super) fn turn_over(&mut self, plan: &Arc<Plan>, generation: u32) -> TraceSet {
        self.settle();
        let kept = same_bits(&self.plan, plan);
        if self.earlier.len() == REMEMBERED {
            self.earlier.pop_front();
        }
        self.earlier.push_back(Earlier { generation: self.generation, kept: TraceSet::MAX });
        for earlier in &mut self.earlier {
            earlier.kept &= kept;
        }
        self.plan = Arc::clone(plan);
        self.generation = generation;
        self.turn += 1;
        for bit in 0..MAX_TRACES {
            self.names.set(bit, None);
        }
        for (bit, trace) in plan.active() {
            self.names.set(bit, trace.name.clone());
            let turn = self.turn;
            let entry = self.by_uid.entry(trace.uid.clone()).or_insert_with(|| Entry {
                name: trace.name.as_ref().map(|name| name.as_str().to_owned()),
                counts: TraceCounts::default(),
                told_lost: Vec::new(),
                turn,
            });
            entry.turn = turn;
        }
        self.forget();
        kept
    }

    /// Bits that a generation's records use as they are used now.
    pub(super) fn kept(&self, generation: u32) -> TraceSet {
        if generation == self.generation {
            return TraceSet::MAX;
        }
        self.earlier
            .iter()
            .rev()
            .find(|earlier| earlier.generation == generation)
            .map_or(0, |earlier| earlier.kept)
    }

    /// Names of traces as lines have them.
    pub(super) fn names(&mut self) -> &mut TraceTable {
        &mut self.names
    }

    /// A line was written for these traces.
    pub(super) fn written(&mut self, traces: TraceSet) {
        self.each(traces, |counts| counts.events += 1);
    }

    /// It was lost for these.
    pub(super) fn lost(&mut self, traces: TraceSet) {
        self.each(traces, |counts| counts.lost += 1);
    }

    /// So many were lost for these: of a summary, connections.
    pub(super) fn lost_many(&mut self, traces: TraceSet, number: u64) {
        self.each(traces, |counts| counts.lost += number);
    }

    /// It was left out for these by a rate limit.
    pub(super) fn limited(&mut self, traces: TraceSet) {
        self.each(traces, |counts| counts.limited += 1);
    }

    fn each(&mut self, traces: TraceSet, mut count: impl FnMut(&mut TraceCounts)) {
        let mut rest = traces;
        while rest != 0 {
            count(&mut self.running[rest.trailing_zeros() as usize]);
            rest &= rest - 1;
        }
    }

    /// Takes in what the kernel lost for want of room, by bit.
    pub(super) fn kernel(&mut self, ring_full: &[u64; MAX_TRACES]) {
        for (bit, (now, before)) in ring_full.iter().zip(&mut self.ring_full).enumerate() {
            self.running[bit].lost += now.saturating_sub(*before);
            *before = *now;
        }
    }

    /// The same of a set of programs that is no more: which bit each of its bits stands for now, and its losses.
    pub(super) fn lost_earlier(&mut self, meanings: &[(usize, usize)], ring_full: &[u64; MAX_TRACES]) {
        for (was, is) in meanings {
            self.running[*is].lost += ring_full[*was];
        }
    }

    /// Counts of every trace since the agent started, by UID.
    pub(super) fn counts(&mut self) -> BTreeMap<String, TraceCounts> {
        self.settle();
        self.by_uid.iter().map(|(uid, entry)| (uid.clone(), entry.counts)).collect()
    }

    /// Whether [`Self::losses`] has any.
    pub(super) fn is_untold(&mut self, place: usize) -> bool {
        self.settle();
        self.by_uid.values().any(|entry| entry.is_untold(place))
    }

    /// Losses by trace that have changed since the outlet of a place was told them, by name. Two traces of one name, one
    /// after the other, count together.
    pub(super) fn losses(&mut self, place: usize) -> BTreeMap<String, u64> {
        self.settle();
        let mut changed: BTreeMap<String, u64> = BTreeMap::new();
        let news: Vec<String> = self
            .by_uid
            .values()
            .filter(|entry| entry.is_untold(place))
            .filter_map(|entry| entry.name.clone())
            .collect();
        for entry in self.by_uid.values() {
            if let Some(name) = entry.name.as_ref().filter(|name| news.contains(name)) {
                *changed.entry(name.clone()).or_default() += entry.counts.lost;
            }
        }
        changed
    }

    /// The outlet of a place has been told the losses.
    pub(super) fn losses_told(&mut self, place: usize) {
        for entry in self.by_uid.values_mut() {
            if entry.told_lost.len() <= place {
                entry.told_lost.resize(place + 1, 0);
            }
            entry.told_lost[place] = entry.counts.lost;
        }
    }

    fn settle(&mut self) {
        let plan = Arc::clone(&self.plan);
        for (bit, trace) in plan.active() {
            let running = std::mem::take(&mut self.running[bit]);
            if let Some(entry) = self.by_uid.get_mut(&trace.uid) {
                entry.counts.events += running.events;
                entry.counts.lost += running.lost;
                entry.counts.limited += running.limited;
            }
        }
    }

    /// Of traces that are gone the ones gone for longest make room.
    fn forget(&mut self) {
        while self.by_uid.len() > KEPT {
            let oldest = self.by_uid.iter().min_by_key(|(_, entry)| entry.turn);
            let Some(uid) = oldest.map(|(uid, _)| uid.clone()) else { return };
            self.by_uid.remove(&uid);
        }
    }
}

fn same_bits(before: &Plan, after: &Plan) -> TraceSet {
    let after: BTreeMap<usize, &str> = after.active().map(|(bit, trace)| (bit, trace.uid.as_str())).collect();
    before
        .active()
        .filter(|(bit, trace)| after.get(bit) == Some(&trace.uid.as_str()))
        .fold(0, |set, (bit, _)| set | 1 << bit)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Ledger, RulesLeft};
    use crate::{names::TraceBit, plan::tests_support::plan_of};

    #[test]
    fn a_bit_that_went_to_another_trace_means_nothing_to_older_records() {
        let mut ledger = Ledger::new();
        ledger.turn_over(&Arc::new(plan_of(&["a", "b"])), 1);
        assert_eq!(ledger.kept(1), u64::MAX);
        assert_eq!(ledger.turn_over(&Arc::new(plan_of(&["a", "c"])), 2), 0b01);
        assert_eq!((ledger.kept(1), ledger.kept(2)), (0b01, u64::MAX));
        ledger.turn_over(&Arc::new(plan_of(&["", "c"])), 3);
        assert_eq!((ledger.kept(1), ledger.kept(2), ledger.kept(3)), (0, 0b10, u64::MAX));
    }

    #[test]
    fn a_generation_is_remembered_while_its_records_may_come() {
        let mut ledger = Ledger::new();
        for generation in 1..=300 {
            let other = if generation % 2 == 0 { "b" } else { "c" };
            ledger.turn_over(&Arc::new(plan_of(&["a", other])), generation);
        }
        assert_eq!([299, 44].map(|generation| ledger.kept(generation)), [0b01; 2]);
        assert_eq!([43, 0, 301].map(|generation| ledger.kept(generation)), [0; 3]);
    }

    #[test]
    fn counts_follow_the_trace_and_not_the_bit() {
        let mut ledger = Ledger::new();
        ledger.turn_over(&Arc::new(plan_of(&["a", "b"])), 1);
        ledger.written(0b11);
        ledger.limited(0b10);
        let mut kernel = [0; 64];
        kernel[1] = 5;
        ledger.kernel(&kernel);
        ledger.turn_over(&Arc::new(plan_of(&["a", "c"])), 2);
        ledger.written(0b10);
        kernel[1] = 7;
        ledger.kernel(&kernel);
        let counts = ledger.counts();
        assert_eq!((counts["a"].events, counts["b"].events, counts["c"].events), (1, 1, 1));
        assert_eq!((counts["b"].lost, counts["c"].lost, counts["b"].limited), (5, 2, 1));
    }

    #[test]
    fn what_an_earlier_run_has_left_keeps_its_meaning_and_its_losses() {
        let bit = |bit, uid: &str| TraceBit {
            bit,
            uid: uid.to_owned(),
            namespace: Some("ns".to_owned()),
            name: uid.to_owned(),
        };
        let left = [
            RulesLeft { generation: 6, traces: vec![bit(0, "gone"), bit(1, "b")] },
            RulesLeft { generation: 7, traces: vec![bit(0, "a"), bit(1, "b")] },
        ];
        let mut ring_full = [0; 64];
        ring_full[1] = 5;
        let mut ledger = Ledger::new();
        ledger.go_on(&left, &ring_full);
        assert_eq!([6, 7].map(|generation| ledger.kept(generation)), [0b10, u64::MAX]);
        // Two more while nobody read: those of the trace that had the bit then.
        ring_full[1] = 7;
        ledger.kernel(&ring_full);
        assert_eq!(ledger.losses(0).into_iter().collect::<Vec<_>>(), [("ns/b".to_owned(), 2)]);
        ledger.turn_over(&Arc::new(plan_of(&["a", "c"])), 8);
        assert_eq!([6, 7].map(|generation| ledger.kept(generation)), [0, 0b01]);
    }

    /// Under the generation of what was left its records would be told.
    #[test]
    fn what_an_earlier_run_has_left_means_nothing_once_its_traces_are_gone() {
        let bits = vec![TraceBit { bit: 0, uid: "a".to_owned(), namespace: None, name: "a".to_owned() }];
        let mut ledger = Ledger::new();
        ledger.go_on(&[RulesLeft { generation: 7, traces: bits }], &[0; 64]);
        ledger.turn_over(&Arc::default(), 0);
        assert_eq!(ledger.kept(7), 0);
    }

    #[test]
    fn losses_of_an_earlier_set_are_those_of_the_traces_that_its_bits_stood_for() {
        let mut ledger = Ledger::new();
        ledger.turn_over(&Arc::new(plan_of(&["a", "b"])), 1);
        let mut ring_full = [0; 64];
        (ring_full[3], ring_full[4], ring_full[5]) = (2, 9, 1);
        ledger.lost_earlier(&[(3, 1), (5, 0)], &ring_full);
        let lost = [("ns/a".to_owned(), 1), ("ns/b".to_owned(), 2)];
        assert_eq!(ledger.losses(0).into_iter().collect::<Vec<_>>(), lost);
    }

    #[test]
    fn a_loss_by_trace_is_told_when_it_changes() {
        let mut ledger = Ledger::new();
        ledger.turn_over(&Arc::new(plan_of(&["a", "b"])), 1);
        ledger.lost(0b01);
        assert_eq!(ledger.losses(0).into_iter().collect::<Vec<_>>(), [("ns/a".to_owned(), 1)]);
        ledger.losses_told(0);
        assert!(ledger.losses(0).is_empty());
        assert_eq!(ledger.losses(1).len(), 1, "another outlet was not told");
        ledger.lost(0b11);
        ledger.lost(0b01);
        assert_eq!(ledger.losses(0).len(), 2);
        assert_eq!(ledger.losses(0)["ns/a"], 3);
    }
}
