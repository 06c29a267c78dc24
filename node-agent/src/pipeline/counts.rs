//! Everything counted, and saying it in lines.

use std::sync::Arc;

use kube_tcpstates_common::{counter::Counter, pinned::Word, rule::MAX_TRACES};

use super::{Account, Pipeline, Tally, report::InCluster};
use crate::kernel::boot_ns;

impl Pipeline {
    /// Counting socket records walks all of them, so it is not done for every line that tells counts.
    pub(super) fn tally(&mut self, with_records: bool) -> Tally {
        let records = with_records.then(|| self.kernel.socket_records()).flatten();
        self.tally_with(records)
    }

    pub(super) fn tally_with(&mut self, records: Option<(u64, u64)>) -> Tally {
        Tally {
            kernel: self.kernel.counters.snapshot(),
            lost_beside: self.flow.outlets.lost_beside(),
            socket_records: records.map(|(all, _)| all),
            closed_socket_records: records.map(|(_, closed)| closed),
            ..self.tally_of_user_space()
        }
    }

    /// Without what must be asked of the kernel.
    pub(super) fn tally_of_user_space(&self) -> Tally {
        let flow = &self.flow;
        let mut tally = Tally {
            output: flow.outlets.totals(),
            filtered_user: flow.filtered_user,
            told_twice: flow.told_twice,
            summarised: flow.summarised,
            lost_identity: flow.lost_identity,
            lost_rate: flow.lost_rate,
            held: flow.held(),
            counts_exactly: self.kernel.hook.counts_exactly() && !self.kernel.rules.have_lapsed(),
            ..Tally::default()
        };
        self.before.add_to(&mut tally);
        tally
    }

    pub(super) fn account(&mut self) -> Account {
        let tally = self.tally(false);
        self.put_down(&tally.kernel.ring_full_by_trace);
        Account {
            attached: self.kernel.is_attached(),
            failure: self.failure.clone(),
            traces: self.flow.ledger.counts(),
            held: tally.held,
            cgroups: self.flow.owners.cgroups.len(),
            workloads: self.flow.counted.as_ref().map(|counted| Arc::new(counted.workloads.clone())),
            tally,
        }
    }

    /// Tells what was lost, if it is time to. False when stdout has no room for that.
    pub(super) fn tell_losses(&mut self) -> bool {
        // The first numbered line of a run is another.
        if self.start_line.is_some() || !self.reporter.is_due(boot_ns()) {
            return true;
        }
        let tally = self.tally(false);
        self.walk_after_loss(&tally);
        self.tell(&tally)
    }

    /// Tells what was lost by then. False when stdout has no room for that.
    pub(super) fn tell(&mut self, tally: &Tally) -> bool {
        self.put_down(&tally.kernel.ring_full_by_trace);
        self.name_floods(tally.kernel.get(Counter::RingFull));
        let flow = &mut self.flow;
        let told = self.reporter.losses(tally, &mut flow.ledger, &flow.clock, &mut flow.outlets);
        self.kernel.page().set(Word::LossesTold, self.reporter.told());
        told
    }

    /// Puts what the kernel lost down to the traces whose bits stand for it now.
    pub(super) fn put_down(&mut self, ring_full: &[u64; MAX_TRACES]) {
        self.flow.ledger.kernel(ring_full);
        self.kernel.page().set_ring_full(self.flow.ledger.ring_full());
    }

    /// False when stdout has no room for it.
    pub(super) fn heartbeat(&mut self, last: bool) -> bool {
        if self.start_line.is_some() {
            // The first numbered line of a run is another, and it has not come yet.
            return true;
        }
        let tally = self.tally(false);
        let cluster = self.in_cluster();
        let flow = &mut self.flow;
        self.reporter.heartbeat(&tally, cluster, &mut flow.clock, &mut flow.outlets, last)
    }

    /// What a heartbeat says of the cluster.
    fn in_cluster(&self) -> Option<InCluster> {
        let view = self.flow.owners.standings.view();
        let roster = view.roster.as_ref()?;
        Some(InCluster {
            traces_loaded: u32::try_from(view.plan.active().count()).unwrap_or(u32::MAX),
            traces_refused: view.refused,
            api_in_sync: roster.in_sync(),
        })
    }
}
