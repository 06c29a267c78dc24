//! What is missing: numbers of lines that did not come, and what the tracers themselves say they lost.

use std::collections::{BTreeMap, HashMap};

use crate::figures::sum;
use crate::losses::{self, Loss, Said};

/// More runs than this are not kept apart: an agent has one for each of its starts.
const RUNS_AT_MOST: usize = 4096;
/// Unbroken stretches of lines that are kept for one run. Where a filter has taken out every other line there are millions;
/// then the oldest gap is counted and forgotten.
const STRETCHES_AT_MOST: usize = 16_384;

/// Every run that lines came from.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    by_id: HashMap<String, Run>,
    /// Lines of runs that are not kept apart.
    pub uncounted: u64,
}

/// One run of a tracer.
#[derive(Debug, Default)]
pub(crate) struct Run {
    /// Where it ran, when a line says so.
    pub node: Option<String>,
    /// First to last number of unbroken stretches, by the first.
    stretches: BTreeMap<u64, u64>,
    /// Gaps that are counted and forgotten, in lines.
    forgotten: u64,
    /// What its lines say of losses.
    pub said: Said,
    /// Transitions of its trace that it lost, as the lines API says.
    pub lost: u64,
    /// It cannot tell the loss exactly.
    pub inexact: bool,
    /// How it ended.
    pub end: End,
    /// A line came that only an agent's own log holds: this is that log, of all traces.
    pub is_own_log: bool,
    /// Lines that did not come to the lines API, as it says.
    pub gaps: u64,
}

/// The end of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum End {
    /// Its last line is not among those read.
    #[default]
    NotHere,
    /// Its last line came.
    Came,
    /// It ended without its last line, as the lines API says.
    Unfinished,
}

impl Runs {
    /// The run of a line. `None` when there are too many.
    pub(crate) fn of(&mut self, id: &str) -> Option<&mut Run> {
        if !self.by_id.contains_key(id) {
            if self.by_id.len() == RUNS_AT_MOST {
                self.uncounted += 1;
                return None;
            }
            self.by_id.insert(id.to_owned(), Run::default());
        }
        self.by_id.get_mut(id)
    }

    /// Where a run was, when its lines say so.
    pub(crate) fn node_of(&self, id: &str) -> Option<&str> {
        self.by_id.get(id)?.node.as_deref()
    }

    /// All, by node and then by name.
    pub(crate) fn sorted(&self) -> Vec<(&str, &Run)> {
        let mut all: Vec<_> = self.by_id.iter().map(|(id, run)| (id.as_str(), run)).collect();
        all.sort_by(|(a_id, a), (b_id, b)| (&a.node, a_id).cmp(&(&b.node, b_id)));
        all
    }

    /// What a run has lost by itself: by its lines, or as the lines API says.
    pub(crate) fn loss(&self, run: &Run) -> Loss {
        let loss = losses::of(run, &self.by_id);
        Loss { total: loss.total.max(run.lost), ..loss }
    }
}

impl Run {
    /// Notes the number of a line. False when a line of that number has come before.
    pub(crate) fn note(&mut self, seq: u64) -> bool {
        let before = self.stretches.range(..=seq).next_back().map(|(first, last)| (*first, *last));
        if before.is_some_and(|(_, last)| seq <= last) {
            return false;
        }
        let joins = before.filter(|(_, last)| last + 1 == seq).map(|(first, _)| first);
        let after = seq.checked_add(1).and_then(|next| self.stretches.remove(&next));
        self.stretches.insert(joins.unwrap_or(seq), after.unwrap_or(seq));
        if self.stretches.len() > STRETCHES_AT_MOST {
            self.forget_a_gap();
        }
        true
    }

    fn forget_a_gap(&mut self) {
        let Some((first, last)) = self.stretches.pop_first() else { return };
        let Some((next, end)) = self.stretches.pop_first() else { return };
        self.forgotten = self.forgotten.saturating_add(next - last - 1);
        self.stretches.insert(first, end);
    }

    /// Lines between the run's first line and the last that came, of which nothing came.
    pub(crate) fn missing(&self) -> u64 {
        let mut missing = self.forgotten;
        // A run's first line has the number 1.
        let mut next = 1;
        for (first, last) in &self.stretches {
            missing = missing.saturating_add(first.saturating_sub(next));
            next = last.saturating_add(1);
        }
        missing
    }

    /// Of those the ones before the first that came: the log begins later than the run.
    pub(crate) fn before_the_first(&self) -> u64 {
        self.stretches.keys().next().map_or(0, |first| first.saturating_sub(1))
    }

    /// Lines that came.
    pub(crate) fn lines(&self) -> u64 {
        let span = sum(self.stretches.iter().map(|(first, last)| (last - first).saturating_add(1)));
        span.saturating_sub(self.forgotten)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn noted(seqs: &[u64]) -> Run {
        let mut run = Run::default();
        for seq in seqs {
            run.note(*seq);
        }
        run
    }

    #[test]
    fn lines_that_did_not_come_are_missing_whatever_the_order() {
        for seqs in [&[1, 2, 3, 7, 8][..], &[8, 7, 3, 1, 2], &[3, 1, 8, 2, 7]] {
            assert_eq!((noted(seqs).missing(), noted(seqs).lines()), (3, 5), "{seqs:?}");
        }
        // The beginning of the log has been rotated away.
        let late = noted(&[101, 102, 105]);
        assert_eq!((late.missing(), late.before_the_first()), (102, 100));
        assert_eq!((noted(&[]).missing(), noted(&[]).before_the_first()), (0, 0));
        assert_eq!(noted(&[1, 3]).before_the_first(), 0);
    }

    #[test]
    fn a_line_that_came_before_is_told() {
        let mut run = noted(&[1, 2, 5]);
        assert!(!run.note(1) && !run.note(2) && !run.note(5));
        assert!(run.note(4) && run.note(3));
        assert_eq!((run.missing(), run.lines()), (0, 5));
    }

    #[test]
    fn a_filter_that_leaves_every_other_line_takes_no_more_memory() {
        let mut run = Run::default();
        for seq in (1..400_000).step_by(2) {
            run.note(seq);
        }
        assert_eq!(run.stretches.len(), STRETCHES_AT_MOST);
        assert_eq!((run.missing(), run.lines()), (199_999, 200_000));
    }

    #[test]
    fn no_more_runs_are_kept_than_allowed() {
        let mut runs = Runs::default();
        for id in 0..RUNS_AT_MOST + 10 {
            runs.of(&id.to_string());
        }
        assert_eq!((runs.by_id.len(), runs.uncounted), (RUNS_AT_MOST, 10));
        assert!(runs.of("0").is_some());
    }

    proptest! {
        #[test]
        fn lines_and_missing_are_those_of_a_set(seqs in prop::collection::vec(1_u64..300, 0..200)) {
            let run = noted(&seqs);
            let set: std::collections::BTreeSet<_> = seqs.iter().copied().collect();
            prop_assert_eq!(run.lines(), set.len() as u64);
            let last = set.last().copied().unwrap_or(0);
            prop_assert_eq!(run.missing(), last - set.len() as u64);
        }
    }
}
