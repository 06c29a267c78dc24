//! Puts a view in force: attaches when the first trace selects somebody here, detaches when none does any more, and
//! swaps the kernel's rules in between without losing a transition.

use kube_tcpstates_common::rule::TraceSet;

use super::{Pipeline, chooser::Chooser};
use crate::{filter::compile, plan::View};

impl Pipeline {
    /// Works by another view from here on. What fails is told, and tried again with the next one.
    pub(super) fn put_in_force(&mut self, view: View) {
        let Chooser::View(viewed) = &mut self.flow.resolver.chooser else { return };
        let before = self.in_force;
        self.in_force = Some(view.plan.revision);
        let changed = before != self.in_force;
        viewed.look_through(view);
        self.flow.renew();
        let outcome = match (self.kernel.is_attached(), self.plan_is_empty()) {
            (false, true) => Ok(()),
            (false, false) => self.attach(),
            (true, true) => {
                self.detach();
                Ok(())
            }
            (true, false) if changed => self.swap(),
            (true, false) => {
                self.flow.resolver.choose_all(&mut self.kernel.rules);
                Ok(())
            }
        };
        self.failure = outcome.err().map(|error| format!("{error:#}"));
        if let Some(failure) = &self.failure {
            tracing::error!("tracing is not as it should be: {failure}");
            self.in_force = None;
        }
        self.flow.look_again(&mut self.kernel.rules);
        self.say_start();
    }

    /// After a failure, in case whatever was in the way is gone.
    pub(super) fn try_again(&mut self) {
        if self.failure.is_some()
            && let Chooser::View(viewed) = &self.flow.resolver.chooser
        {
            let view = viewed.view.clone();
            self.put_in_force(view);
        }
    }

    fn plan_is_empty(&self) -> bool {
        match &self.flow.resolver.chooser {
            Chooser::View(viewed) => viewed.view.plan.is_empty(),
            Chooser::Selection(_) => false,
        }
    }

    /// The first trace: cgroups are followed before they are listed, rules are there before a transition is seen.
    fn attach(&mut self) -> anyhow::Result<()> {
        self.kernel.attach_cgroups();
        let outcome = self.attach_to_cgroups();
        if outcome.is_err() {
            self.kernel.detach();
        }
        outcome
    }

    fn attach_to_cgroups(&mut self) -> anyhow::Result<()> {
        self.walk();
        self.swap()?;
        Ok(self.kernel.attach()?)
    }

    /// Takes in the cgroups that are there.
    pub(super) fn walk(&mut self) {
        let Some(mount) = &self.mount else { return };
        match self.flow.resolver.walk(mount, &mut self.kernel.rules) {
            Ok(0) => {}
            Ok(unreadable) => tracing::warn!("{unreadable} cgroup directories could not be read"),
            Err(error) => tracing::warn!("{error}; containers that run already are found by id only"),
        }
    }

    /// Nobody is traced any more.
    fn detach(&mut self) {
        self.kernel.detach();
        while self.turn() {}
        self.turn_over(0);
    }

    /// The cgroups' sets and the tables go into the idle half; cgroups that are made meanwhile are seen to before it
    /// comes into force.
    fn swap(&mut self) -> anyhow::Result<()> {
        let compiled = match &self.flow.resolver.chooser {
            Chooser::View(viewed) => {
                compile(viewed.view.plan.active().map(|(bit, trace)| (bit, &trace.filter)))?
            }
            Chooser::Selection(_) => return Ok(()),
        };
        let Self { kernel, flow, .. } = self;
        flow.resolver.stage_all(&mut kernel.rules);
        kernel.rules.stage(&compiled)?;
        flow.resolver.follow(&mut kernel.rules);
        let generation = kernel.rules.flip();
        self.turn_over(generation);
        Ok(())
    }

    /// From here on bits mean what they mean in the plan in force.
    fn turn_over(&mut self, generation: u32) {
        let plan = match &self.flow.resolver.chooser {
            Chooser::View(viewed) => viewed.view.plan.clone(),
            Chooser::Selection(_) => return,
        };
        let flow = &mut self.flow;
        flow.ledger.kernel(&self.kernel.counters.snapshot().ring_full_by_trace);
        let kept: TraceSet = flow.ledger.turn_over(&plan, generation);
        flow.keep_bits(kept);
        if let Some(limiter) = &mut flow.limiter {
            limiter.follow(&plan, crate::kernel::boot_ns());
        }
    }
}
