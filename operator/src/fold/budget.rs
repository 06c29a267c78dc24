//! When a status is worth a write. Every agent watches traces, so each write goes to every node.

use std::time::Duration;

use kube_tcpstates_crds::TraceStatus;
use kube_tcpstates_crds::status::{Condition, Counts};
use tokio::time::Instant;

/// Counts that nothing else is written with are so old at most.
const COUNTS_EVERY: Duration = Duration::from_mins(10);
/// From here on a count that has doubled is worth a write.
const COUNTS_FROM: u64 = 100;
/// With short Jobs the number of pods never rests.
const PODS_EVERY: Duration = Duration::from_mins(1);
/// Writes of one trace at once, and between two in the long run: who edits a trace ten times a second is not told each
/// time.
const BURST: f64 = 4.0;
const REFILL: Duration = Duration::from_secs(10);
/// Kept for conditions: what else changes comes along with them.
const KEPT: f64 = 2.0;
/// After an error, doubled with each.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Whether to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// There is nothing to tell.
    Never,
    /// Then, if it is still so; now, if that is past.
    At(Instant),
}

/// What the writes of one trace have taken.
#[derive(Clone, Debug)]
pub struct Account {
    tokens: f64,
    filled: Instant,
    /// When it was last written, or first seen.
    written: Instant,
    failures: u32,
    not_before: Instant,
}

impl Account {
    /// Nothing is written yet, by this operator.
    pub fn new(now: Instant) -> Self {
        Self { tokens: BURST, filled: now, written: now, failures: 0, not_before: now }
    }

    /// It is being written.
    pub fn spend(&mut self, now: Instant) {
        self.tokens = (self.tokens_at(now) - 1.0).max(0.0);
        self.filled = now;
    }

    /// It was written.
    pub fn written(&mut self, now: Instant) {
        self.written = now;
        self.failures = 0;
    }

    /// It was not, and is not tried again before a while, `jitter` in 0..1 of which is chance.
    pub fn failed(&mut self, jitter: f64, now: Instant) {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(5)).min(LONGEST_PAUSE);
        self.failures += 1;
        self.not_before = now + pause.mul_f64(1.0 - jitter.clamp(0.0, 1.0) * 0.4);
    }

    fn tokens_at(&self, now: Instant) -> f64 {
        let since = now.saturating_duration_since(self.filled);
        (self.tokens + since.as_secs_f64() / REFILL.as_secs_f64()).min(BURST)
    }

    /// When there are so many.
    fn when_there_are(&self, tokens: f64, now: Instant) -> Instant {
        let missing = (tokens - self.tokens_at(now)).max(0.0);
        (now + REFILL.mul_f64(missing)).max(self.not_before)
    }
}

/// When to write what is wanted over what stands there.
pub fn due(account: &Account, there: &TraceStatus, wanted: &TraceStatus, now: Instant) -> Due {
    if conditions(there) != conditions(wanted) {
        return Due::At(account.when_there_are(1.0, now));
    }
    let spaced = account.when_there_are(1.0 + KEPT, now);
    if summary(there) != summary(wanted) || has_doubled(there.counts, wanted.counts) {
        return Due::At(spaced);
    }
    let since = |period: Duration| (account.written + period).max(spaced);
    if there.pods != wanted.pods {
        return Due::At(since(PODS_EVERY));
    }
    if there.counts != wanted.counts {
        return Due::At(since(COUNTS_EVERY));
    }
    Due::Never
}

/// All of a condition but since when it is so: that follows from the rest.
fn conditions(status: &TraceStatus) -> impl PartialEq {
    let of = |condition: &Condition| {
        let Condition { type_, status, observed_generation, last_transition_time: _, reason, message } =
            condition.clone();
        (type_, status, observed_generation, reason, message)
    };
    let mut conditions: Vec<_> = status.conditions.iter().map(of).collect();
    conditions.sort_by(|a, b| a.0.cmp(&b.0));
    (conditions, status.observed_generation)
}

fn summary(status: &TraceStatus) -> impl PartialEq {
    let TraceStatus { nodes, expires_at, failing_nodes, uncovered_nodes, .. } = status.clone();
    (nodes, expires_at, failing_nodes, uncovered_nodes, status.pods.is_none_or(|pods| pods == 0))
}

fn has_doubled(there: Option<Counts>, wanted: Option<Counts>) -> bool {
    let (there, wanted) = (there.unwrap_or_default(), wanted.unwrap_or_default());
    let doubled = |there: u64, wanted: u64| {
        wanted > there && wanted >= COUNTS_FROM && wanted >= there.saturating_mul(2)
    };
    doubled(there.events, wanted.events)
        || doubled(there.lost, wanted.lost)
        || doubled(there.limited, wanted.limited)
}

/// Writes of all traces together.
#[derive(Clone, Debug)]
pub struct Pace {
    next: Instant,
}

impl Pace {
    /// In the long run, and after a quiet time.
    const SPACING: Duration = Duration::from_millis(100);
    const BURST: u32 = 50;

    /// At the start.
    pub fn new(now: Instant) -> Self {
        Self { next: Self::earliest(now) }
    }

    /// When the next may leave.
    pub fn ready_at(&self) -> Instant {
        self.next
    }

    /// One leaves.
    pub fn spend(&mut self, now: Instant) {
        self.next = self.next.max(Self::earliest(now)) + Self::SPACING;
    }

    fn earliest(now: Instant) -> Instant {
        now.checked_sub(Self::SPACING * Self::BURST).unwrap_or(now)
    }

    /// The server asks for patience.
    pub fn pause(&mut self, pause: Duration, now: Instant) {
        self.next = self.next.max(now + pause);
    }
}

#[cfg(test)]
#[path = "budget_tests.rs"]
mod tests;
