//! The pipeline without its ring: recorded records pass the same stations.

use kube_tcpstates_common::record::TransitionRecord;

use super::{Outcome, Pipeline, Setup, assemble};
use crate::{kernel::boot_ns, outlet::Totals};

/// A pipeline that is fed by hand, on the caller's thread. The kernel's programs are loaded and never attached.
pub struct Replay(Pipeline);

impl Replay {
    /// Sets it up as [`super::start`] does, without attaching anything.
    pub fn new(setup: Setup) -> anyhow::Result<Self> {
        let (mut pipeline, ..) = assemble(setup, Box::new(|_, _, _| {}))?;
        pipeline.walk();
        pipeline.flow.ledger.begin(pipeline.kernel.rules.generation());
        Ok(Self(pipeline))
    }

    /// Takes records as one turn takes them from the ring, and hands their lines to the output.
    pub fn feed(&mut self, records: &[TransitionRecord]) {
        let Pipeline { kernel, flow, .. } = &mut self.0;
        flow.clock.refresh(boot_ns());
        flow.resolver.follow(&mut kernel.rules);
        for record in records {
            flow.take(record, &mut kernel.rules);
        }
        flow.queue.flush();
    }

    /// What the output has taken and written so far. Whoever feeds faster than it writes loses lines.
    pub fn totals(&self) -> Totals {
        self.0.flow.queue.totals()
    }

    /// The generation that records must have to be taken for this run's.
    pub fn generation(&self) -> u32 {
        self.0.kernel.rules.generation()
    }

    /// Waits for the output, as at the end of a run.
    pub fn finish(self) -> Outcome {
        self.0.finish(None)
    }
}
