//! How many lines may be written: a token bucket for each trace, and one for the agent, shared by namespace.
//!
//! A line costs a token. Buckets count in billionths of one, so that a rate of n lines a second fills in exactly n a
//! nanosecond: whole numbers, nothing drifts. Times are `CLOCK_BOOTTIME`, ns; a clock that steps back fills nothing.

use std::sync::Arc;

use kube_tcpstates_common::rule::{MAX_TRACES, TraceSet};

use super::fair::FairShare;
use super::whole::{Drawn, Whole};
use crate::plan::{ActiveTrace, Plan};

/// One line, in the buckets' unit.
pub(super) const TOKEN: u64 = 1_000_000_000;

/// What becomes of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// Traces under which it is written; none: it is not. Those of its traces that are missing here were limited.
    pub admitted: TraceSet,
    /// It was the agent's own limit that refused it.
    pub by_agent: bool,
}

/// The limits in force.
#[derive(Debug)]
pub struct RateLimiter {
    buckets: [Option<Bucket>; MAX_TRACES],
    /// `None` is no limit.
    agent: Option<FairShare>,
    /// Traces of the plan, where nothing is limited: then no bucket need be looked at.
    free: Option<TraceSet>,
}

impl RateLimiter {
    /// No trace yet. The agent writes at most so many lines a second, whatever its traces may; 0 is no limit.
    pub fn new(agent_lines_per_second: u32) -> Self {
        let agent = (agent_lines_per_second > 0).then(|| FairShare::new(agent_lines_per_second));
        Self { buckets: [const { None }; MAX_TRACES], agent, free: None }
    }

    /// Nothing is limited.
    pub const fn is_free(&self) -> bool {
        self.free.is_some()
    }

    /// Takes over the traces of a plan. What a trace has left it keeps, unless its limits changed.
    pub fn follow(&mut self, plan: &Plan, now_ns: u64) {
        let mut traces: [Option<&Arc<ActiveTrace>>; MAX_TRACES] = [None; MAX_TRACES];
        for (bit, trace) in plan.active() {
            traces[bit] = Some(trace);
        }
        for (bucket, trace) in self.buckets.iter_mut().zip(traces) {
            match (&mut *bucket, trace) {
                (_, None) => *bucket = None,
                (Some(bucket), Some(trace)) if bucket.is_of(trace) => bucket.trace = Arc::clone(trace),
                (_, Some(trace)) => *bucket = Some(Bucket::full(trace, now_ns)),
            }
        }
        let is_free = |bucket: &Bucket| bucket.trace.lines_per_second == 0;
        let unlimited = self.agent.is_none() && self.buckets.iter().flatten().all(is_free);
        self.free = unlimited.then(|| plan.live());
    }

    /// Asks for one line of some traces, about a pod of a namespace (`None`: of nobody known). Each trace gives a token
    /// if it has one, and the line is written if any did. A trace that is not in the plan has none. When the agent
    /// refuses the line, no token is spent.
    ///
    /// `drawn` is the connection of a line that is worth little without the others of its connection.
    pub fn admit(
        &mut self,
        traces: TraceSet,
        namespace: Option<&str>,
        drawn: Option<Drawn>,
        now_ns: u64,
    ) -> Admission {
        if let Some(free) = self.free {
            return Admission { admitted: traces & free, by_agent: false };
        }
        let mut admitted = 0;
        for bit in bits(traces) {
            if let Some(bucket) = &mut self.buckets[bit] {
                // The load is measured also where there is no token.
                let (has_token, takes) = (bucket.has_token(now_ns), bucket.takes(drawn, now_ns));
                admitted |= TraceSet::from(has_token && takes) << bit;
            }
        }
        if admitted == 0 {
            return Admission::default();
        }
        if let Some(agent) = &mut self.agent
            && !agent.take(namespace.unwrap_or_default(), now_ns)
        {
            return Admission { admitted: 0, by_agent: true };
        }
        for bit in bits(admitted) {
            if let Some(bucket) = &mut self.buckets[bit] {
                bucket.spend();
            }
        }
        Admission { admitted, by_agent: false }
    }
}

/// The bits of a set, lowest first.
fn bits(mut set: TraceSet) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = set.trailing_zeros() as usize;
        set &= set.wrapping_sub(1);
        (bit < MAX_TRACES).then_some(bit)
    })
}

/// The bucket of one trace.
#[derive(Debug)]
struct Bucket {
    trace: Arc<ActiveTrace>,
    tokens: u64,
    filled_ns: u64,
    whole: Whole,
}

impl Bucket {
    fn full(trace: &Arc<ActiveTrace>, now_ns: u64) -> Self {
        let mut bucket =
            Self { trace: Arc::clone(trace), tokens: 0, filled_ns: now_ns, whole: Whole::new(now_ns) };
        bucket.tokens = bucket.capacity();
        bucket
    }

    fn is_of(&self, trace: &ActiveTrace) -> bool {
        let limits = |trace: &ActiveTrace| (trace.lines_per_second, trace.burst);
        self.trace.uid == trace.uid && limits(&self.trace) == limits(trace)
    }

    fn capacity(&self) -> u64 {
        u64::from(self.trace.burst.max(1)) * TOKEN
    }

    fn has_token(&mut self, now_ns: u64) -> bool {
        let rate = u64::from(self.trace.lines_per_second);
        let elapsed_ns = now_ns.saturating_sub(self.filled_ns);
        self.filled_ns += elapsed_ns;
        self.tokens = self.tokens.saturating_add(elapsed_ns.saturating_mul(rate)).min(self.capacity());
        rate == 0 || self.tokens >= TOKEN
    }

    /// Whether the connection of a line is one of those that are told of.
    fn takes(&mut self, drawn: Option<Drawn>, now_ns: u64) -> bool {
        let rate = u64::from(self.trace.lines_per_second);
        drawn.is_none_or(|drawn| rate == 0 || self.whole.takes(drawn, now_ns, rate, self.tokens))
    }

    fn spend(&mut self) {
        if self.trace.lines_per_second > 0 {
            self.tokens = self.tokens.saturating_sub(TOKEN);
        }
    }
}

#[cfg(test)]
#[path = "rate_tests.rs"]
mod tests;
