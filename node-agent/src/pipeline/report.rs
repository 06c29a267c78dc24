//! The lines that are not transitions: what was lost, and that all is well.

use std::collections::BTreeMap;

use kube_tcpstates_events::{
    Heartbeat, HeartbeatAttributes, K8s, Line, Loss, Lost, LostAttributes, SchemaId,
};

use super::{ledger::Ledger, tally::Tally};
use crate::{
    kernel::{Clock, boot_ns},
    outlet::{Offer, Outlets},
    render::time::rfc3339,
};

const SECOND_NS: u64 = 1_000_000_000;

/// What a heartbeat says of the cluster.
#[derive(Clone, Copy, Debug)]
pub(super) struct InCluster {
    pub(super) traces_loaded: u32,
    pub(super) traces_refused: u32,
    pub(super) api_in_sync: bool,
}

/// Writes those lines.
pub(super) struct Reporter {
    run: String,
    k8s: Option<Box<K8s>>,
    started_ns: u64,
    told: u64,
    told_beside: BTreeMap<&'static str, u64>,
    told_ns: u64,
}

impl Reporter {
    /// `told`: losses that runs before this one have told.
    pub(super) fn new(run: String, k8s: Option<K8s>, told: u64) -> Self {
        Self {
            run,
            k8s: k8s.map(Box::new),
            started_ns: boot_ns(),
            told,
            told_beside: BTreeMap::new(),
            told_ns: 0,
        }
    }

    /// Names the run, for whoever makes other lines.
    pub(super) fn run(&self) -> &str {
        &self.run
    }

    /// Cluster and node, for the same.
    pub(super) fn k8s(&self) -> Option<K8s> {
        self.k8s.as_deref().cloned()
    }

    /// Runs before this one have told so many.
    pub(super) const fn told_before(&mut self, told: u64) {
        self.told += told;
    }

    /// Losses told so far.
    pub(super) const fn told(&self) -> u64 {
        self.told
    }

    /// Losses are told at most once a second.
    pub(super) fn is_due(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.told_ns) >= SECOND_NS
    }

    /// When losses may be told next, boot time ns.
    pub(super) const fn due_ns(&self) -> u64 {
        self.told_ns + SECOND_NS
    }

    /// Whether there is any to tell.
    pub(super) fn is_untold(&self, tally: &Tally) -> bool {
        tally.lost().total() > self.told || tally.lost_beside != self.told_beside
    }

    /// The next look at losses is due at once.
    pub(super) fn hurry(&mut self) {
        self.told_ns = 0;
    }

    /// Tells what has been lost since it was last told. False when there was no room for it.
    pub(super) fn losses(
        &mut self,
        tally: &Tally,
        ledger: &mut Ledger,
        clock: &Clock,
        outlets: &mut Outlets,
    ) -> bool {
        self.told_ns = boot_ns();
        let by_place = tally.lost();
        let total = by_place.total();
        // Less than before: what the kernel skipped cannot be read just now.
        let since_last = total.saturating_sub(self.told);
        if since_last == 0 && tally.lost_beside == self.told_beside {
            return true;
        }
        let tcpstates = LostAttributes {
            schema: SchemaId::V1,
            run: self.run.clone(),
            seq: 0,
            lost: Loss {
                since_last,
                total: total.max(self.told),
                by_place,
                by_outlet: by_name(&tally.lost_beside),
                by_trace: ledger.losses(),
            },
            exact: tally.exact(),
        };
        let lost = Lost { time: rfc3339(clock.unix_ns(boot_ns())), tcpstates, k8s: self.k8s.clone() };
        let offer = outlets.line(&Line::Lost(Box::new(lost)));
        // Else it is told again as a whole: a count by trace is the one in the latest line.
        if offer == Offer::Accepted {
            self.told = total.max(self.told);
            self.told_beside.clone_from(&tally.lost_beside);
            ledger.losses_told();
        }
        outlets.flush();
        matches!(offer, Offer::Accepted | Offer::Closed)
    }

    /// Tells that all is well, with the totals. False when there was no room for it.
    pub(super) fn heartbeat(
        &mut self,
        tally: &Tally,
        cluster: Option<InCluster>,
        clock: &mut Clock,
        outlets: &mut Outlets,
        last: bool,
    ) -> bool {
        let now_ns = boot_ns();
        clock.refresh(now_ns);
        let tcpstates = HeartbeatAttributes {
            schema: SchemaId::V1,
            run: self.run.clone(),
            seq: 0,
            uptime_s: now_ns.saturating_sub(self.started_ns) / SECOND_NS,
            totals: tally.totals(),
            lost_by_outlet: by_name(&tally.lost_beside),
            clock_step_ns: clock.take_step(),
            traces_loaded: cluster.map(|cluster| cluster.traces_loaded),
            traces_refused: cluster.map(|cluster| cluster.traces_refused),
            api_in_sync: cluster.map(|cluster| cluster.api_in_sync),
            last,
        };
        let heartbeat = Heartbeat { time: rfc3339(clock.unix_ns(now_ns)), tcpstates, k8s: self.k8s.clone() };
        let offer = outlets.line(&Line::Heartbeat(Box::new(heartbeat)));
        outlets.flush();
        matches!(offer, Offer::Accepted | Offer::Closed)
    }
}

fn by_name(lost: &BTreeMap<&'static str, u64>) -> BTreeMap<String, u64> {
    lost.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}
