//! What has come of one agent and what has not: lines of a run are numbered without a gap. Pure.
//!
//! A log that is opened again begins a little before where it was left, so what has come already is dropped here.

use std::collections::VecDeque;

use super::filter::Head;
use super::notice::Missing;

/// Runs that are remembered. A pod has one more each time its container starts.
const RUNS: usize = 4;

/// The lines of one pod's container, over all its starts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Account {
    /// The latest one last.
    runs: VecDeque<Run>,
}

#[derive(Clone, Debug)]
struct Run {
    id: String,
    /// Of the latest line.
    seq: u64,
    /// What it lost for the trace, as far as that is told.
    lost: u64,
    is_finished: bool,
    /// That a line may be the trace's and does not say so is told.
    has_unnamed: bool,
}

/// What a line is to its stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It was there before.
    Again,
    /// It is new; and this is missing before it.
    New(Vec<Missing>),
}

impl Account {
    /// A line has come.
    pub(crate) fn see(&mut self, head: &Head<'_>) -> Seen {
        // A diagnostic of the agent has no number; nobody is told of it.
        let Some(seq) = head.seq else { return Seen::New(Vec::new()) };
        if let Some(run) = self.runs.iter_mut().find(|run| run.id == head.run) {
            if seq <= run.seq {
                return Seen::Again;
            }
            let missing = gap(&run.id, seq - run.seq - 1);
            run.seq = seq;
            return Seen::New(missing.into_iter().collect());
        }
        let mut missing = Vec::new();
        if let Some(last) = self.runs.back() {
            missing.extend(last.unfinished());
            // The lines of a run that began meanwhile are all of interest.
            missing.extend(gap(&head.run, seq.saturating_sub(1)));
        }
        if self.runs.len() == RUNS {
            self.runs.pop_front();
        }
        self.runs.push_back(Run {
            id: head.run.clone().into_owned(),
            seq,
            lost: 0,
            is_finished: false,
            has_unnamed: false,
        });
        Seen::New(missing)
    }

    /// The run's latest line tells how many transitions the trace has lost in it so far.
    pub(crate) fn lost(&mut self, head: &Head<'_>, total: u64) -> Option<Missing> {
        let run = self.runs.iter_mut().find(|run| run.id == head.run)?;
        let transitions = total.checked_sub(run.lost).filter(|more| *more > 0)?;
        run.lost = total;
        Some(Missing::Lost { run: run.id.clone(), transitions, total })
    }

    /// The run's latest line does not name the trace. `may_be_its`: it may be about it all the same; asked until that is
    /// told.
    pub(crate) fn unnamed(&mut self, head: &Head<'_>, may_be_its: impl FnOnce() -> bool) -> Option<Missing> {
        let run = self.runs.iter_mut().find(|run| run.id == head.run && !run.has_unnamed)?;
        run.has_unnamed = may_be_its();
        run.has_unnamed.then(|| Missing::Unnamed { run: run.id.clone() })
    }

    /// The run's latest line is its last one.
    pub(crate) fn finish(&mut self, head: &Head<'_>) {
        if let Some(run) = self.runs.iter_mut().find(|run| run.id == head.run) {
            run.is_finished = true;
        }
    }

    /// The agent is gone; what is missing of it.
    pub(crate) fn close(&self) -> Option<Missing> {
        self.runs.back().and_then(Run::unfinished)
    }
}

impl Run {
    fn unfinished(&self) -> Option<Missing> {
        (!self.is_finished).then(|| Missing::Unfinished { run: self.id.clone() })
    }
}

fn gap(run: &str, lines: u64) -> Option<Missing> {
    (lines > 0).then(|| Missing::Gap { run: run.to_owned(), lines })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(run: &str, seq: u64) -> Head<'static> {
        Head { time: "t".into(), kind: "transition".into(), run: run.to_owned().into(), seq: Some(seq) }
    }

    fn gap_of(run: &str, lines: u64) -> Missing {
        Missing::Gap { run: run.to_owned(), lines }
    }

    fn new(missing: impl Into<Vec<Missing>>) -> Seen {
        Seen::New(missing.into())
    }

    #[test]
    fn what_a_log_shows_again_is_dropped_and_what_it_leaves_out_is_counted() {
        let mut account = Account::default();
        // What was written before it was looked at is nobody's loss.
        assert_eq!(account.see(&head("a", 7)), new([]));
        assert_eq!(account.see(&head("a", 8)), new([]));
        assert_eq!(account.see(&head("a", 7)), Seen::Again);
        assert_eq!(account.see(&head("a", 8)), Seen::Again);
        assert_eq!(account.see(&head("a", 12)), new([gap_of("a", 3)]));
        assert_eq!(account.see(&head("a", 13)), new([]));
    }

    #[test]
    fn a_line_that_no_agent_numbers_so_is_taken() {
        let mut account = Account::default();
        account.see(&head("a", 1));
        account.finish(&head("a", 1));
        assert_eq!(account.see(&head("b", 0)), new([]));
    }

    #[test]
    fn a_run_that_follows_another_is_whole_from_its_first_line() {
        let mut account = Account::default();
        account.see(&head("a", 7));
        account.finish(&head("a", 7));
        assert_eq!(account.see(&head("b", 1)), new([]));
        assert_eq!(
            account.see(&head("c", 3)),
            new([Missing::Unfinished { run: "b".to_owned() }, gap_of("c", 2)])
        );
        // Two logs that are read one behind the other may overlap.
        assert_eq!(account.see(&head("a", 7)), Seen::Again);
        assert_eq!(account.close(), Some(Missing::Unfinished { run: "c".to_owned() }));
        account.finish(&head("c", 3));
        assert_eq!(account.close(), None);
    }

    #[test]
    fn a_loss_is_told_by_how_much_it_has_grown() {
        let mut account = Account::default();
        account.see(&head("a", 1));
        let lost = |transitions, total| Some(Missing::Lost { run: "a".to_owned(), transitions, total });
        assert_eq!(account.lost(&head("a", 1), 5), lost(5, 5));
        assert_eq!(account.lost(&head("a", 1), 5), None);
        assert_eq!(account.lost(&head("a", 1), 8), lost(3, 8));
        assert_eq!(account.lost(&head("unknown", 1), 8), None);
    }

    #[test]
    fn that_names_are_left_out_is_told_once_a_run() {
        let mut account = Account::default();
        account.see(&head("a", 1));
        let unnamed = Some(Missing::Unnamed { run: "a".to_owned() });
        assert_eq!(account.unnamed(&head("a", 1), || false), None);
        assert_eq!(account.unnamed(&head("a", 1), || true), unnamed);
        assert_eq!(account.unnamed(&head("a", 1), || panic!("it is told")), None);
    }

    #[test]
    fn diagnostics_are_not_counted() {
        let mut account = Account::default();
        account.see(&head("a", 1));
        let log = Head { seq: None, ..head("a", 0) };
        assert_eq!((account.see(&log), account.see(&head("a", 2))), (new([]), new([])));
    }
}
