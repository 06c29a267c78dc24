//! The lines that are not transitions: what was lost, and that all is well.

use std::io::Write as _;

use kube_tcpstates_events::{
    Heartbeat, HeartbeatAttributes, K8s, Line, Loss, Lost, LostAttributes, SchemaId,
};

use super::{ledger::Ledger, tally::Tally};
use crate::{
    kernel::{Clock, boot_ns},
    outlet::{Offer, Queue, Stderr},
    render::{Serialiser, line::split_lost, time::rfc3339},
};

const SECOND_NS: u64 = 1_000_000_000;

/// Says one line on stderr. Nobody may be listening there; that must not stop anything.
pub fn say(what: &impl std::fmt::Display) {
    let _ = Stderr.write_all(format!("{what}\n").as_bytes());
}

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
    told_ns: u64,
}

impl Reporter {
    pub(super) fn new(run: String, k8s: Option<K8s>) -> Self {
        Self { run, k8s: k8s.map(Box::new), started_ns: boot_ns(), told: 0, told_ns: 0 }
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
        tally.lost().total() > self.told
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
        serialiser: &Serialiser,
        queue: &mut Queue,
    ) -> bool {
        self.told_ns = boot_ns();
        let by_place = tally.lost();
        let total = by_place.total();
        // Less than before: what the kernel skipped cannot be read just now.
        if total <= self.told {
            return true;
        }
        let since_last = total - self.told;
        if matches!(serialiser, Serialiser::Table(_) | Serialiser::Csv(_)) {
            say(&format_args!(
                "lost {since_last} transitions (ring {}, recursion {}, queue {}, write {} since the start)",
                by_place.ring, by_place.recursion, by_place.queue, by_place.write
            ));
            self.told = total;
            return true;
        }
        let tcpstates = LostAttributes {
            schema: SchemaId::V1,
            run: self.run.clone(),
            seq: 0,
            lost: Loss { since_last, total, by_place, by_trace: ledger.losses() },
            exact: tally.exact(),
        };
        let whole = Lost { time: rfc3339(clock.unix_ns(boot_ns())), tcpstates, k8s: self.k8s.clone() };
        let mut offer = Offer::Accepted;
        for mut part in split_lost(whole) {
            offer = queue.control(|out, seq| {
                part.tcpstates.seq = seq;
                serialiser.line(out, &Line::Lost(Box::new(part)));
            });
            // Told again as a whole: a count by trace is the one in the latest line.
            if offer != Offer::Accepted {
                break;
            }
        }
        if offer == Offer::Accepted {
            self.told = total;
            ledger.losses_told();
        }
        queue.flush();
        matches!(offer, Offer::Accepted | Offer::Closed)
    }

    /// Tells that all is well, with the totals. False when there was no room for it.
    pub(super) fn heartbeat(
        &mut self,
        tally: &Tally,
        cluster: Option<InCluster>,
        clock: &mut Clock,
        serialiser: &Serialiser,
        queue: &mut Queue,
        last: bool,
    ) -> bool {
        if matches!(serialiser, Serialiser::Table(_) | Serialiser::Csv(_)) {
            return true;
        }
        let now_ns = boot_ns();
        clock.refresh(now_ns);
        let mut tcpstates = HeartbeatAttributes {
            schema: SchemaId::V1,
            run: self.run.clone(),
            seq: 0,
            uptime_s: now_ns.saturating_sub(self.started_ns) / SECOND_NS,
            totals: tally.totals(),
            clock_step_ns: clock.take_step(),
            traces_loaded: cluster.map(|cluster| cluster.traces_loaded),
            traces_refused: cluster.map(|cluster| cluster.traces_refused),
            api_in_sync: cluster.map(|cluster| cluster.api_in_sync),
            last,
        };
        let (time, k8s) = (rfc3339(clock.unix_ns(now_ns)), self.k8s.clone());
        let offer = queue.control(|out, seq| {
            tcpstates.seq = seq;
            serialiser.line(out, &Line::Heartbeat(Box::new(Heartbeat { time, tcpstates, k8s })));
        });
        queue.flush();
        matches!(offer, Offer::Accepted | Offer::Closed)
    }
}
