//! The pipeline without its ring: recorded records pass the same stations.

use kube_tcpstates_common::record::{ConnectionRecord, Figures, TransitionRecord};

use super::{Pipeline, RunResult, Setup, Stop, assemble};
use crate::{kernel::boot_ns, outlet::Totals, plan::View};

/// A pipeline that is fed by hand, on the caller's thread. The kernel's programs are loaded and never attached.
pub struct Replay(Pipeline);

impl Replay {
    /// Sets it up as [`super::start`] does, without attaching anything.
    pub fn new(setup: Setup, view: View) -> anyhow::Result<Self> {
        let (mut pipeline, ..) = assemble(setup)?;
        pipeline.flow.look_through(view);
        pipeline.walk();
        let generation = pipeline.kernel.rules.generation();
        pipeline.flow.turn_over(generation);
        Ok(Self(pipeline))
    }

    /// Takes records as one turn takes them from the ring, and hands their lines to the outlets.
    pub fn feed(&mut self, records: &[TransitionRecord]) {
        self.turn(records.iter().map(|record| (record, None)));
    }

    /// The same of connections that have ended.
    pub fn feed_connections(&mut self, records: &[ConnectionRecord]) {
        self.turn(records.iter().map(|record| (&record.transition, Some(&record.figures))));
    }

    fn turn<'r>(&mut self, records: impl Iterator<Item = (&'r TransitionRecord, Option<&'r Figures>)>) {
        let pipeline = &mut self.0;
        pipeline.flow.clock.refresh(boot_ns());
        pipeline.flow.owners.cgroups.follow();
        pipeline.tell_rules();
        for (record, figures) in records {
            pipeline.flow.take(record, figures);
        }
        pipeline.flow.outlets.flush();
    }

    /// What the output has taken and written so far. Whoever feeds faster than it writes loses lines.
    pub fn totals(&self) -> Totals {
        self.0.flow.outlets.totals()
    }

    /// The generation that records must have to be taken for this run's.
    pub fn generation(&self) -> u32 {
        self.0.kernel.rules.generation()
    }

    /// Waits for the outlets, as at the end of a run.
    pub fn finish(self) -> RunResult {
        self.0.finish(None, Stop::ForGood)
    }
}
