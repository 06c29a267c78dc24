//! The summaries of the traces that ask for them: a table for each, told when its interval is over.

use kube_tcpstates_common::rule::TraceSet;
use kube_tcpstates_events::{K8s, Line};

use super::{flow::Flow, owner::Resolved};
use crate::{
    connection::Story,
    decode::Transition,
    filter::Mode,
    kernel::boot_ns,
    outlet::{OWN, Offer},
    plan::Plan,
    render::{Added, Of, summary_line},
    summary::{Common, Kept, MAX_IN_ALL, Seen, Table},
};

/// A trace that asks for summaries, and what has come together for it.
struct Asking {
    bit: usize,
    uid: String,
    interval_ns: u64,
    table: Table,
}

impl Asking {
    fn is_of(&self, plan: &Plan) -> bool {
        asking(plan).any(|(bit, uid, interval_ns)| {
            (bit, uid, interval_ns) == (self.bit, self.uid.as_str(), self.interval_ns)
        })
    }
}

fn asking(plan: &Plan) -> impl Iterator<Item = (usize, &str, u64)> {
    let of_summaries = plan.active().filter(|(_, trace)| trace.filter.mode == Mode::Summary);
    of_summaries.map(|(bit, trace)| (bit, trace.uid.as_str(), trace.interval_ns))
}

/// Summaries by trace.
#[derive(Default)]
pub(super) struct Summaries {
    tables: Vec<Asking>,
    /// What names the run and the node on lines.
    run: String,
    k8s: Option<K8s>,
}

impl Summaries {
    pub(super) fn new(run: String, k8s: Option<K8s>) -> Self {
        Self { tables: Vec::new(), run, k8s }
    }

    /// When the next interval ends of which there is something to tell.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.tables.iter().filter_map(|asking| asking.table.due_ns()).min()
    }

    /// Gives away all that has come together.
    pub(super) fn take_all(&mut self, now_ns: u64, mut take: impl FnMut(Option<&Common>, &Kept)) {
        for asking in &mut self.tables {
            asking.table.tell(now_ns, 0, |place, common, kept, _| {
                if place == OWN {
                    take(common, kept);
                }
                true
            });
        }
    }

    /// Connections that the outlet of a place is not told yet, for all traces together.
    pub(super) fn untold(&self, place: usize) -> u64 {
        self.tables.iter().map(|asking| asking.table.untold(place)).sum()
    }
}

impl Flow {
    /// Adds a connection to the summaries of these traces.
    pub(super) fn summarise(
        &mut self,
        transition: &Transition,
        story: &Story,
        resolved: &Resolved,
        wanted: TraceSet,
    ) {
        let kept: usize = self.summaries.tables.iter().map(|asking| asking.table.len()).sum();
        let has_room = kept < MAX_IN_ALL;
        for asking in self.summaries.tables.iter_mut().filter(|asking| wanted >> asking.bit & 1 == 1) {
            let trace = 1 << asking.bit;
            let labelled =
                if self.asks_labels & trace == 0 { None } else { self.owners.labelled(resolved, trace) };
            let seen = Seen {
                transition,
                story,
                attribution: resolved.attribution,
                owner: labelled.as_ref().or(resolved.owner.as_ref()),
                peer: self.other_ends.of(trace, transition),
            };
            asking.table.add(&seen, boot_ns, has_room);
        }
        self.summarised += 1;
    }

    /// Another plan comes into force. What has come together for traces that it does not have, or has otherwise, is told
    /// while they have their names; what finds no room is lost.
    pub(super) fn follow_summaries(&mut self, plan: &Plan) {
        let now_ns = boot_ns();
        let (kept, gone): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.summaries.tables).into_iter().partition(|asking| asking.is_of(plan));
        self.summaries.tables = gone;
        self.tell_summaries(now_ns, |_| true);
        for place in 0..self.outlets.count() {
            self.give_summaries_up(place);
        }
        self.summaries.tables = kept;
        for (bit, uid, interval_ns) in asking(plan) {
            if !self.summaries.tables.iter().any(|asking| asking.bit == bit) {
                let table = Table::new(interval_ns, now_ns, self.outlets.count());
                self.summaries.tables.push(Asking { bit, uid: uid.to_owned(), interval_ns, table });
            }
        }
    }

    /// Tells those whose interval is over.
    pub(super) fn tell_due_summaries(&mut self, now_ns: u64) {
        self.tell_summaries(now_ns, |table| table.due_ns().is_some_and(|due_ns| due_ns <= now_ns));
    }

    /// Tells what there is of them, at the end.
    pub(super) fn tell_last_summaries(&mut self) {
        self.tell_summaries(boot_ns(), |table| !table.is_empty());
        self.outlets.flush();
    }

    /// Whether the outlet of a place has all it is to have of them.
    pub(super) fn has_summaries(&self, place: usize) -> bool {
        self.summaries.untold(place) == 0 || self.has_count()
    }

    fn tell_summaries(&mut self, now_ns: u64, is_told: impl Fn(&Table) -> bool) {
        let Self {
            summaries: Summaries { tables, run, k8s }, ledger, clock, outlets, offered, count, ..
        } = self;
        // In most turns.
        if !tables.iter().any(|asking| is_told(&asking.table)) {
            return;
        }
        // So that each outlet gets as many as were asked for.
        let left = count.map(|count| count.saturating_sub(*offered));
        let mut taken = vec![0; outlets.count()];
        let mut owed: usize = tables.iter().map(|asking| asking.table.owed()).sum();
        for Asking { bit, table, .. } in tables.iter_mut().filter(|asking| is_told(&asking.table)) {
            let names = ledger.names().of(1 << *bit).clone();
            let of = Of { run: run.clone(), unix_ns: clock.unix_ns(now_ns) };
            owed -= table.owed();
            table.tell(now_ns, MAX_IN_ALL.saturating_sub(owed), |place, common, kept, period| {
                if left.is_some_and(|left| taken[place] >= left) {
                    return false;
                }
                let from_unix_ns = clock.unix_ns(kept.from_ns);
                let line =
                    summary_line(&of, &Added { common, kept, period, from_unix_ns }, k8s.as_ref(), &names);
                let is_taken = outlets.line_to(place, &Line::Summary(Box::new(line))) == Offer::Accepted;
                taken[place] += u64::from(is_taken);
                if is_taken && place == OWN {
                    ledger.written(1 << *bit);
                }
                is_taken
            });
            owed += table.owed();
        }
        *offered += taken[OWN];
    }

    /// What the outlet of a place could not be told it will not be told any more.
    pub(super) fn give_summaries_up(&mut self, place: usize) {
        let is_enough = self.has_count();
        for Asking { bit, table, .. } in &mut self.summaries.tables {
            let connections = table.give_up(place);
            if connections == 0 || is_enough {
                continue;
            }
            let name = if place == OWN { "output" } else { self.outlets.name(place) };
            tracing::warn!("the {name} had no room for summaries of {connections} connections");
            if place == OWN {
                self.ledger.lost_many(1 << *bit, connections);
            }
        }
    }
}

#[cfg(test)]
#[path = "summaries_tests.rs"]
mod tests;
