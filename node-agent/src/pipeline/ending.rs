//! The last lines of a run. An outlet that is stuck has no room even for these; it is waited for, and the others are not
//! told again meanwhile.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::Pipeline;
use crate::outlet::OWN;

/// How long an outlet may stay blocked at the end.
pub(super) const FINISH_WITHIN: Duration = Duration::from_secs(5);
/// Of that for what comes last to go out, where a stuck outlet has others beside it.
const FOR_THE_OTHERS: Duration = Duration::from_secs(1);
/// Between two looks for room for the last lines.
const FULL_PAUSE: Duration = Duration::from_millis(5);

impl Pipeline {
    /// Tells what came together, the last loss, and the end. Whoever reads on before the deadline must learn of every
    /// loss.
    pub(super) fn last_lines(&mut self, deadline: Instant) {
        let outlets = &mut self.flow.outlets;
        outlets.ends_by(deadline);
        let others = if outlets.count() > 1 { FOR_THE_OTHERS } else { Duration::ZERO };
        let deadline = deadline.checked_sub(others).unwrap_or(deadline);
        until(deadline, || {
            self.flow.tell_last_summaries();
            self.flow.has_summaries(OWN) || self.flow.outlets.is_over()
        });
        self.flow.give_summaries_up(OWN);
        until(deadline, || {
            self.flow.tell_last_summaries();
            self.reporter.end(|place| self.flow.has_summaries(place));
            self.tell_losses();
            self.heartbeat(true)
        });
        for beside in OWN + 1..self.flow.outlets.count() {
            self.flow.give_summaries_up(beside);
        }
    }
}

/// Tries until it is done, or the time is over: once at least.
fn until(deadline: Instant, mut is_done: impl FnMut() -> bool) {
    while !is_done() && Instant::now() < deadline {
        thread::sleep(FULL_PAUSE);
    }
}
