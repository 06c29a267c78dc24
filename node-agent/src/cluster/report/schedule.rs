//! When the report is written. Pure.
//!
//! Thousands of agents write one object each, so changes of state go out at once but not often, and counts about once
//! a minute while something is traced, spread by the jitter of each node.

use std::time::Duration;

use tokio::time::Instant;

/// Between two writes.
const SPACING: Duration = Duration::from_secs(10);
/// Counts are written so often, give or take a fifth.
const PERIOD: Duration = Duration::from_mins(1);
/// While nothing is traced, that there is still somebody is.
const IDLE_PERIOD: Duration = Duration::from_mins(10);
/// The first counts after a change of state: whoever made a trace looks whether it has any.
const FIRST_COUNTS: Duration = Duration::from_secs(15);

/// Knows what was written last and when.
#[derive(Debug)]
pub(super) struct Schedule<T> {
    written: Option<T>,
    tried: Option<Instant>,
    start: Instant,
    periodic: Instant,
    /// What makes this node differ from others: 0.8 to 1.2.
    own: f64,
}

impl<T: PartialEq> Schedule<T> {
    /// Nothing is written yet. `jitter` is anything in 0..1, of the node's own.
    pub(super) fn new(now: Instant, jitter: f64) -> Self {
        let own = 0.8 + 0.4 * jitter.clamp(0.0, 1.0);
        Self { written: None, tried: None, start: now, periodic: now, own }
    }

    /// When to write, while the state is this one. One that is not settled is no news at the start: it will be another in a
    /// moment, and that one would have to wait.
    pub(super) fn due(&self, state: &T, settled: bool, now: Instant) -> Instant {
        let Some(tried) = self.tried else {
            return if settled { now } else { self.start + SPACING };
        };
        let spaced = tried + SPACING;
        if self.written.as_ref() == Some(state) { self.periodic.max(spaced) } else { spaced }
    }

    /// It was written. `busy`: something is traced.
    pub(super) fn written(&mut self, state: T, busy: bool, now: Instant) {
        let changed = self.written.as_ref() != Some(&state);
        let period = match (busy, changed) {
            (true, true) => FIRST_COUNTS,
            (true, false) => PERIOD,
            (false, _) => IDLE_PERIOD,
        };
        self.written = Some(state);
        self.tried = Some(now);
        self.periodic = now + period.mul_f64(self.own);
    }

    /// It could not be written.
    pub(super) fn failed(&mut self, now: Instant) {
        self.written = None;
        self.tried = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::Schedule;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_first_report_goes_out_at_once_or_as_soon_as_there_is_something_to_say() {
        let start = Instant::now();
        let schedule = Schedule::new(start, 0.5);
        assert_eq!(schedule.due(&1, true, start), start);
        assert_eq!(schedule.due(&1, false, start), start + s(10));
        assert_eq!(schedule.due(&2, true, start + s(3)), start + s(3));
    }

    #[test]
    fn a_change_of_state_goes_out_at_once_but_ten_seconds_after_the_last_write() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start, 0.5);
        schedule.written(1, true, start);
        assert_eq!(schedule.due(&2, true, start + s(3)), start + s(10));
        assert!(schedule.due(&2, true, start + s(25)) <= start + s(25));
        // Whatever is not settled later is news.
        assert_eq!(schedule.due(&2, false, start + s(25)), start + s(10));
    }

    #[test]
    fn counts_go_out_soon_after_a_change_then_every_minute_give_or_take_a_fifth() {
        let start = Instant::now();
        for (jitter, first_s, period_s) in [(0.0, 12, 48), (0.5, 15, 60), (1.0, 18, 72)] {
            let mut schedule = Schedule::new(start, jitter);
            schedule.written(1, true, start);
            assert_eq!(schedule.due(&1, true, start + s(5)), start + s(first_s));
            schedule.written(1, true, start + s(20));
            assert_eq!(schedule.due(&1, true, start + s(25)), start + s(20 + period_s));
        }
    }

    #[test]
    fn while_nothing_is_traced_a_sign_of_life_goes_out_every_ten_minutes() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start, 0.5);
        schedule.written(1, false, start);
        assert_eq!(schedule.due(&1, true, start + s(70)), start + s(600));
        assert_eq!(schedule.due(&2, true, start + s(70)), start + s(10));
    }

    #[test]
    fn what_could_not_be_written_is_tried_again_ten_seconds_later() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start, 0.5);
        schedule.written(1, true, start);
        schedule.failed(start + s(60));
        assert_eq!(schedule.due(&1, true, start + s(61)), start + s(70));
    }
}
