//! Whether the agent is alive and whether it is ready. Pure; boot time, ns, is an argument.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// The loop and the pipeline turn at least so often, or something hangs.
const ALIVE_WITHIN_NS: u64 = 10 * 1_000_000_000;

/// What the probes look at.
#[derive(Debug)]
pub struct Health {
    loop_ns: AtomicU64,
    pipeline_ns: AtomicU64,
    has_pipeline: AtomicBool,
    ready: AtomicBool,
    missing: Mutex<Vec<&'static str>>,
}

impl Health {
    /// At the start. Without a pipeline nothing can be traced here; such an agent stays alive to say so, and is ready like
    /// any other: what a node can do is said by its report, and no reason to stop a rollout.
    pub fn new(has_pipeline: bool, now_ns: u64) -> Self {
        Self {
            has_pipeline: AtomicBool::new(has_pipeline),
            loop_ns: AtomicU64::new(now_ns),
            pipeline_ns: AtomicU64::new(now_ns),
            ready: AtomicBool::new(false),
            missing: Mutex::new(vec!["everything"]),
        }
    }

    /// The loop around the cluster's state turned.
    pub fn loop_turned(&self, now_ns: u64) {
        self.loop_ns.store(now_ns, Ordering::Relaxed);
    }

    /// The pipeline answered.
    pub fn pipeline_turned(&self, now_ns: u64) {
        self.pipeline_ns.store(now_ns, Ordering::Relaxed);
    }

    /// What has not been seen yet. Once everything was, the agent stays ready: it traces on while the API server is
    /// away, and taking it off the list of ready pods would help nobody.
    pub fn synced(&self, missing: impl Iterator<Item = &'static str>) {
        if self.ready.load(Ordering::Relaxed) {
            return;
        }
        let missing: Vec<_> = missing.collect();
        if missing.is_empty() {
            self.ready.store(true, Ordering::Relaxed);
        }
        *self.missing.lock().unwrap_or_else(PoisonError::into_inner) = missing;
    }

    /// What `/livez` says.
    pub fn live(&self, now_ns: u64) -> Result<(), String> {
        let late = |turned: &AtomicU64| {
            let for_ns = now_ns.saturating_sub(turned.load(Ordering::Relaxed));
            (for_ns > ALIVE_WITHIN_NS).then_some(for_ns / 1_000_000_000)
        };
        let mut late_ones = Vec::new();
        if let Some(seconds) = late(&self.loop_ns) {
            late_ones.push(format!("the event loop has not turned for {seconds} s"));
        }
        if self.has_pipeline.load(Ordering::Relaxed)
            && let Some(seconds) = late(&self.pipeline_ns)
        {
            late_ones.push(format!("the pipeline has not turned for {seconds} s"));
        }
        if late_ones.is_empty() { Ok(()) } else { Err(late_ones.join("; ")) }
    }

    /// What `/readyz` says.
    pub fn ready(&self) -> Result<(), String> {
        if self.ready.load(Ordering::Relaxed) {
            return Ok(());
        }
        let missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        Err(format!("not listed yet: {}", missing.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::Health;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn an_agent_is_ready_once_every_list_has_come_and_stays_so() {
        let health = Health::new(true, 0);
        assert_eq!(health.ready().unwrap_err(), "not listed yet: everything");
        health.synced(["pods", "nodes"].into_iter());
        assert_eq!(health.ready().unwrap_err(), "not listed yet: pods, nodes");
        health.synced([].into_iter());
        assert_eq!(health.ready(), Ok(()));
        health.synced(["pods"].into_iter());
        assert_eq!(health.ready(), Ok(()));
    }

    #[test]
    fn an_agent_on_a_node_that_cannot_be_traced_lives_and_is_ready() {
        let health = Health::new(false, 0);
        assert!(health.ready().is_err());
        health.synced([].into_iter());
        health.loop_turned(60 * SECOND);
        assert_eq!((health.ready(), health.live(61 * SECOND)), (Ok(()), Ok(())));
    }

    #[test]
    fn a_loop_or_a_pipeline_that_hangs_is_told() {
        let health = Health::new(true, 0);
        assert_eq!(health.live(10 * SECOND), Ok(()));
        health.loop_turned(20 * SECOND);
        assert_eq!(health.live(21 * SECOND).unwrap_err(), "the pipeline has not turned for 21 s");
        health.pipeline_turned(40 * SECOND);
        assert_eq!(health.live(41 * SECOND).unwrap_err(), "the event loop has not turned for 21 s");
        health.loop_turned(41 * SECOND);
        assert_eq!(health.live(41 * SECOND), Ok(()));
    }
}
