//! When the report is written. Pure.
//!
//! Thousands of agents write one object each, so changes of state go out at once but not often, and counts about once
//! a minute, spread by the jitter of each node.

use std::time::Duration;

use tokio::time::Instant;

/// Between two writes.
const SPACING: Duration = Duration::from_secs(10);
/// Counts are written so often, give or take a fifth.
const PERIOD: Duration = Duration::from_mins(1);

/// Knows what was written last and when.
#[derive(Debug)]
pub(super) struct Schedule<T> {
    written: Option<T>,
    tried: Option<Instant>,
    periodic: Instant,
    period: Duration,
}

impl<T: PartialEq> Schedule<T> {
    /// Nothing is written yet. `jitter` is anything in 0..1, of the node's own.
    pub(super) fn new(now: Instant, jitter: f64) -> Self {
        let period = PERIOD.mul_f64(0.8 + 0.4 * jitter.clamp(0.0, 1.0));
        Self { written: None, tried: None, periodic: now, period }
    }

    /// When to write, while the state is this one.
    pub(super) fn due(&self, state: &T, now: Instant) -> Instant {
        let spaced = self.tried.map_or(now, |tried| tried + SPACING);
        if self.written.as_ref() == Some(state) { self.periodic.max(spaced) } else { spaced }
    }

    /// It was written. The next write for the counts' sake is a period away.
    pub(super) fn written(&mut self, state: T, now: Instant) {
        self.written = Some(state);
        self.tried = Some(now);
        self.periodic = now + self.period;
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
    fn the_first_report_goes_out_at_once() {
        let now = Instant::now();
        assert_eq!(Schedule::new(now, 0.5).due(&1, now), now);
    }

    #[test]
    fn a_change_of_state_goes_out_at_once_but_ten_seconds_after_the_last_write() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start, 0.5);
        schedule.written(1, start);
        assert_eq!(schedule.due(&2, start + s(3)), start + s(10));
        assert!(schedule.due(&2, start + s(25)) <= start + s(25));
    }

    #[test]
    fn counts_go_out_every_minute_give_or_take_a_fifth() {
        let start = Instant::now();
        for (jitter, period_s) in [(0.0, 48), (0.5, 60), (1.0, 72)] {
            let mut schedule = Schedule::new(start, jitter);
            schedule.written(1, start);
            assert_eq!(schedule.due(&1, start + s(5)), start + s(period_s));
        }
    }

    #[test]
    fn what_could_not_be_written_is_tried_again_ten_seconds_later() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start, 0.5);
        schedule.written(1, start);
        schedule.failed(start + s(60));
        assert_eq!(schedule.due(&1, start + s(61)), start + s(70));
    }
}
