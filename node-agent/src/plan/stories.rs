//! Which traces want connections, told one by one or added up, and which of those an ended connection is for.

use kube_tcpstates_common::rule::TraceSet;
use kube_tcpstates_events::Outcome;

use super::Plan;
use crate::{connection::Story, filter::Mode};

/// Outcomes that a trace asks for, a bit for each by its place in [`Outcome::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcomes(u16);

impl Outcomes {
    /// All of them.
    pub const ANY: Self = Self(u16::MAX);

    /// Only these; of none, all.
    pub fn of(outcomes: impl IntoIterator<Item = Outcome>) -> Self {
        let bits = outcomes.into_iter().fold(0, |bits, outcome| bits | Self::bit(outcome));
        if bits == 0 { Self::ANY } else { Self(bits) }
    }

    /// Whether an outcome is among them.
    pub fn contains(self, outcome: Outcome) -> bool {
        self.0 & Self::bit(outcome) != 0
    }

    fn bit(outcome: Outcome) -> u16 {
        let place = Outcome::ALL.iter().position(|other| *other == outcome);
        place.map_or(0, |place| 1 << place)
    }
}

impl Default for Outcomes {
    fn default() -> Self {
        Self::ANY
    }
}

/// The traces of a plan that want connections.
#[derive(Clone, Debug, Default)]
pub struct Stories {
    asking: TraceSet,
    /// Those that want them added up.
    adding: TraceSet,
    /// What each of them asks: its bit, outcomes, and the least time from beginning to end, ns.
    asked: Vec<(TraceSet, Outcomes, u64)>,
}

impl Stories {
    /// Those of a plan.
    pub fn of(plan: &Plan) -> Self {
        let mut stories = Self::default();
        for (bit, trace) in plan.active().filter(|(_, trace)| trace.filter.mode.is_of_connections()) {
            let least = trace.filter.min_duration.unwrap_or_default().as_nanos();
            match trace.filter.mode {
                Mode::Summary => stories.adding |= 1 << bit,
                _ => stories.asking |= 1 << bit,
            }
            stories.asked.push((1 << bit, trace.outcomes, u64::try_from(least).unwrap_or(u64::MAX)));
        }
        stories
    }

    /// Bits of those that want each told.
    pub const fn asking(&self) -> TraceSet {
        self.asking
    }

    /// Bits of those that want them added up.
    pub const fn adding(&self) -> TraceSet {
        self.adding
    }

    /// Those that a connection is for.
    pub fn told(&self, story: &Story) -> TraceSet {
        let fits = |(_, outcomes, least_ns): &&(TraceSet, Outcomes, u64)| {
            outcomes.contains(story.ending.outcome) && story.duration_ns >= *least_ns
        };
        self.asked.iter().filter(fits).fold(0, |set, (bit, ..)| set | bit)
    }
}
