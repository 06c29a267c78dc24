//! The lines that are not transitions: what was lost, and that all is well.

use std::{collections::BTreeMap, io::Write as _};

use kube_tcpstates_events::{Heartbeat, Line, Loss, Lost, SchemaId};

use super::tally::Tally;
use crate::{
    kernel::{Clock, boot_ns},
    output::{Offer, Queue, Stderr},
    serialise::{Serialiser, time::rfc3339},
};

const SECOND_NS: u64 = 1_000_000_000;

/// Says one line on stderr. Nobody may be listening there; that must not stop anything.
pub fn say(what: &impl std::fmt::Display) {
    let _ = Stderr.write_all(format!("{what}\n").as_bytes());
}

/// Writes those lines.
pub(super) struct Reporter {
    run: String,
    started_ns: u64,
    told: u64,
    told_ns: u64,
}

impl Reporter {
    pub(super) fn new(run: String) -> Self {
        Self { run, started_ns: boot_ns(), told: 0, told_ns: 0 }
    }

    /// Losses are told at most once a second.
    pub(super) fn is_due(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.told_ns) >= SECOND_NS
    }

    /// The next look at losses is due at once.
    pub(super) fn hurry(&mut self) {
        self.told_ns = 0;
    }

    /// Tells what has been lost since it was last told. False when there was no room for it.
    pub(super) fn losses(
        &mut self,
        tally: &Tally,
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
        let lost = |seq| {
            Line::Lost(Box::new(Lost {
                time: rfc3339(clock.unix_ns(boot_ns())),
                schema: SchemaId::V1,
                run: self.run.clone(),
                seq,
                k8s: None,
                lost: Loss { since_last, total, by_place, by_trace: BTreeMap::new() },
                exact: tally.exact(),
            }))
        };
        if matches!(serialiser, Serialiser::Table(_) | Serialiser::Csv(_)) {
            say(&format_args!(
                "lost {since_last} transitions (ring {}, recursion {}, queue {}, write {} since the start)",
                by_place.ring, by_place.recursion, by_place.queue, by_place.write
            ));
            self.told = total;
            return true;
        }
        let offer = queue.control(|out, seq| {
            serialiser.line(out, &lost(seq));
        });
        if offer == Offer::Accepted {
            self.told = total;
        }
        queue.flush();
        matches!(offer, Offer::Accepted | Offer::Closed)
    }

    /// Tells that all is well, with the totals. False when there was no room for it.
    pub(super) fn heartbeat(
        &mut self,
        tally: &Tally,
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
        let heartbeat = Heartbeat {
            time: rfc3339(clock.unix_ns(now_ns)),
            schema: SchemaId::V1,
            run: self.run.clone(),
            seq: 0,
            k8s: None,
            uptime_s: now_ns.saturating_sub(self.started_ns) / SECOND_NS,
            totals: tally.totals(),
            clock_step_ns: clock.take_step(),
            traces_loaded: None,
            traces_refused: None,
            api_in_sync: None,
            last,
        };
        let offer = queue.control(|out, seq| {
            serialiser.line(out, &Line::Heartbeat(Box::new(Heartbeat { seq, ..heartbeat.clone() })));
        });
        queue.flush();
        matches!(offer, Offer::Accepted | Offer::Closed)
    }
}
