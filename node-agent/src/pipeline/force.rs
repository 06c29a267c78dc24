//! Puts a view in force: attaches when the first trace selects somebody here, detaches when none does any more, and
//! swaps the kernel's rules in between without losing a transition.

use kube_tcpstates_common::counter::Counter;

use super::{Pipeline, Tally, before::bits_of};
use crate::{
    filter::compile,
    kernel::{Loaded, boot_ns},
    plan::View,
};

impl Pipeline {
    /// Works by another view from here on. An error says that what should be traced is not, or not as it should be.
    pub(super) fn put_in_force(&mut self, view: View) -> anyhow::Result<()> {
        let before = self.in_force;
        self.in_force = Some(view.plan.revision);
        let changed = before != self.in_force;
        self.flow.look_through(view);
        self.leave_pods();
        let outcome = match (self.kernel.is_attached(), self.flow.owners.standings.plan().is_empty()) {
            (false, true) => {
                self.end_earlier();
                Ok(())
            }
            (false, false) => self.attach(),
            (true, true) => {
                if std::mem::take(&mut self.goes_on) {
                    // How the traces of the run before asked nobody knows any more: what was captured for them is not told.
                    self.turn_over(0);
                }
                self.end_earlier();
                self.detach();
                Ok(())
            }
            (true, false) if changed => {
                if self.goes_on {
                    self.go_on();
                }
                self.swap()
            }
            (true, false) => {
                let owners = &self.flow.owners;
                self.membership.tell_all(&owners.cgroups, &owners.standings, &mut self.kernel.rules);
                Ok(())
            }
        };
        self.failure = outcome.as_ref().err().map(|error| format!("{error:#}"));
        if self.failure.is_some() {
            self.in_force = None;
        }
        self.flow.look_again();
        self.say_start();
        self.take_what_is_left();
        outcome
    }

    /// The same; what fails is told, and tried again later.
    pub(super) fn try_to_put_in_force(&mut self, view: View) {
        if let Err(error) = self.put_in_force(view) {
            tracing::error!("tracing is not as it should be: {error:#}");
        }
    }

    /// After a failure, in case whatever was in the way is gone.
    pub(super) fn try_again(&mut self) {
        if self.failure.is_some() {
            let view = self.flow.owners.standings.view().clone();
            self.try_to_put_in_force(view);
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
        let owners = &self.flow.owners;
        self.membership.clear(&mut self.kernel.rules);
        self.membership.tell_all(&owners.cgroups, &owners.standings, &mut self.kernel.rules);
        self.swap()?;
        self.kernel.attach()?;
        self.end_earlier();
        self.flow.of_kernel.resets_watched = self.kernel.resets.is_ok();
        if let Err(why) = &self.kernel.open_sockets {
            let why = why.lines().next().unwrap_or_default();
            tracing::warn!("sockets open before the start have neither role nor owner: {why}");
        }
        Ok(())
    }

    /// Lists the cgroups once more where the kernel could not tell of all that came and went. Returns whether it did.
    pub(super) fn walk_after_loss(&mut self, tally: &Tally) -> bool {
        let losses = tally.kernel.get(Counter::CgroupRingFull);
        let started_ns = boot_ns();
        if self.rewalk.due_ns(losses).is_none_or(|due_ns| started_ns < due_ns) {
            return false;
        }
        self.walk();
        self.rewalk.walked(losses, started_ns, boot_ns());
        self.tell_rules();
        self.flow.look_again();
        tracing::warn!("word of {losses} cgroups was lost so far, as their ring was full; listed them again");
        true
    }

    /// Takes in the cgroups that are there.
    pub(super) fn walk(&mut self) {
        let Some(mount) = &self.mount else { return };
        match self.flow.owners.cgroups.walk(mount) {
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
        let Self { kernel: Loaded { rules, counters, .. }, flow, membership, .. } = self;
        rules.some_wait(counters.snapshot().get(Counter::Pending) != 0);
        let owners = &mut flow.owners;
        let plan = owners.standings.plan();
        let compiled = compile(plan.active().map(|(bit, trace)| (bit, &trace.filter)))?;
        membership.stage(&owners.cgroups, &owners.standings, rules);
        rules.stage(&compiled)?;
        owners.cgroups.follow();
        membership.catch_up(&mut owners.cgroups, &owners.standings, rules);
        self.kernel.leave_rules(bits_of(self.flow.owners.standings.plan()));
        let generation = self.kernel.rules.flip();
        self.turn_over(generation);
        Ok(())
    }

    fn turn_over(&mut self, generation: u32) {
        let counted = self.kernel.counters.snapshot();
        self.put_down(&counted.ring_full_by_trace);
        self.flow.turn_over(generation);
    }
}
