//! What runs before this one have counted, where this one goes on from them, and what it leaves to the next.

use std::sync::Arc;

use kube_tcpstates_common::{
    counter::Counter,
    pinned::Word,
    record::{Figures, TransitionRecord},
    rule::TraceSet,
};

use super::{Pipeline, Tally};
use crate::{
    decode,
    kernel::{CounterSnapshot, Page},
    names::TraceBit,
    plan::{ActiveTrace, Plan},
};

/// Counts of the runs before, see [`Tally`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Before {
    written: u64,
    filtered_user: u64,
    told_twice: u64,
    summarised: u64,
    lost_queue: u64,
    lost_write: u64,
    lost_rate: u64,
    lost_identity: u64,
    lost_restart: u64,
    /// Losses that a line has told.
    pub(super) losses_told: u64,
}

impl Before {
    /// As they stand in the page. What was taken from the ring and is not accounted for went with a run that was killed.
    pub(super) fn read(page: &Page, taken: u64) -> Self {
        let mut before = Self {
            written: page.get(Word::Written),
            filtered_user: page.get(Word::FilteredUser),
            told_twice: page.get(Word::ToldTwice),
            summarised: page.get(Word::Summarised),
            lost_queue: page.get(Word::LostQueue),
            lost_write: page.get(Word::LostWrite),
            lost_rate: page.get(Word::LostRate),
            lost_identity: page.get(Word::LostIdentity),
            lost_restart: page.get(Word::LostRestart),
            losses_told: page.get(Word::LossesTold),
        };
        let taken = taken + page.get(Word::TakenEarlier);
        let lost = (taken + before.told_twice).saturating_sub(before.accounted());
        before.lost_restart += lost;
        page.set(Word::LostRestart, before.lost_restart);
        before
    }

    /// Adds the counts of runs that had a set of their own.
    fn add(&mut self, other: &Self) {
        self.written += other.written;
        self.filtered_user += other.filtered_user;
        self.told_twice += other.told_twice;
        self.summarised += other.summarised;
        self.lost_queue += other.lost_queue;
        self.lost_write += other.lost_write;
        self.lost_rate += other.lost_rate;
        self.lost_identity += other.lost_identity;
        self.lost_restart += other.lost_restart;
        self.losses_told += other.losses_told;
    }

    const fn accounted(&self) -> u64 {
        self.written
            + self.filtered_user
            + self.summarised
            + self.lost_queue
            + self.lost_write
            + self.lost_rate
            + self.lost_identity
            + self.lost_restart
    }

    /// Makes a run's counts those of all.
    pub(super) fn add_to(&self, tally: &mut Tally) {
        tally.filtered_user += self.filtered_user;
        tally.told_twice += self.told_twice;
        tally.summarised += self.summarised;
        tally.lost_rate += self.lost_rate;
        tally.lost_identity += self.lost_identity;
        tally.lost_restart += self.lost_restart;
        self.add_lines_to(tally);
    }

    /// The same for lines alone.
    pub(super) fn add_lines_to(&self, tally: &mut Tally) {
        tally.output.lost_queue += self.lost_queue;
        tally.output.lost_write += self.lost_write;
        tally.output.event_lines_accepted += self.written + self.lost_write;
        tally.output.event_lines_written += self.written;
    }
}

/// Losses of runs whose counts this one does not go on with, that none of them has told: this one tells them as its own.
#[derive(Debug, PartialEq, Eq)]
struct Untold {
    /// For want of room in the ring.
    ring_full: u64,
    /// Any others.
    restart: u64,
}

impl Untold {
    /// Of all that they counted it is known how many losses were told, not which. `restart`: so many nobody can have told.
    fn of(theirs: &Before, kernel: &CounterSnapshot, restart: u64) -> Self {
        let mut tally = Tally { kernel: *kernel, ..Tally::default() };
        theirs.add_to(&mut tally);
        let untold = tally.lost().total().saturating_sub(theirs.losses_told);
        // Without a reader the ring fills.
        let ring_full = untold.saturating_sub(restart).min(kernel.get(Counter::RingFull));
        Self { ring_full, restart: untold - ring_full }
    }
}

/// What a run leaves to the next. Lines that are written are counted where they are.
pub(super) fn leave(tally: &Tally, untold: u64, page: &Page) {
    page.set(Word::FilteredUser, tally.filtered_user);
    page.set(Word::ToldTwice, tally.told_twice);
    page.set(Word::LostQueue, tally.output.lost_queue);
    page.set(Word::LostWrite, tally.output.lost_write);
    page.set(Word::LostRate, tally.lost_rate);
    page.set(Word::LostIdentity, tally.lost_identity);
    // What stands in lines that are on their way is told only when they have arrived.
    if tally.output.control_lines_written >= tally.output.control_lines_accepted {
        page.set(Word::Summarised, tally.summarised.saturating_sub(untold));
    }
}

impl Pipeline {
    /// Goes on with what another run has attached: it knows of no cgroup that came or went since, but is asked of all.
    pub(super) fn go_on(&mut self) {
        self.walk();
        let known = self.kernel.rules.known_cgroups();
        self.membership.go_on(known, &self.flow.owners.cgroups);
        self.flow.of_kernel.resets_watched = self.kernel.resets.is_ok();
        self.goes_on = false;
        // The run before may have been killed before it did.
        self.end_earlier();
    }

    /// Ends the sets of others, now that this run has one. What they counted is this run's from here on; of what is in their
    /// rings, that it is lost until it is told.
    pub(super) fn end_earlier(&mut self) {
        let Some((begins_ns, mut left)) = self.kernel.end_earlier() else { return };
        let page = self.kernel.page();
        self.flow.begins_ns = begins_ns;
        page.set(Word::Begins, begins_ns);
        for earlier in &mut left {
            let known = earlier.page.get(Word::LostRestart);
            let mut theirs = Before::read(&earlier.page, earlier.taken());
            let mut taken = earlier.emitted + earlier.page.get(Word::TakenEarlier);
            if earlier.has_run_out {
                let in_ring = earlier.emitted.saturating_sub(earlier.taken());
                let untold =
                    Untold::of(&theirs, &earlier.counted(), theirs.lost_restart.saturating_sub(known));
                theirs = Before { lost_restart: untold.restart, ..Before::default() };
                taken = in_ring + untold.restart;
                earlier.count_only(taken, untold.ring_full);
            }
            self.before.add(&theirs);
            self.reporter.told_before(theirs.losses_told);
            page.add(Word::Written, theirs.written);
            page.add(Word::TakenEarlier, taken);
            page.set(Word::LostRestart, self.before.lost_restart);
            page.set(Word::LossesTold, self.reporter.told());
            self.leave();
            self.kernel.take_counts(earlier);
        }
        self.left = left;
    }

    /// Tells what they left.
    pub(super) fn take_what_is_left(&mut self) {
        let cut_ns = self.flow.begins_ns;
        for earlier in std::mem::take(&mut self.left) {
            let plan = Arc::clone(self.flow.owners.standings.plan_arc());
            let meanings = Meanings::of(&earlier.rules, &plan);
            let its_own = earlier.page.get(Word::Begins)..cut_ns;
            let flow = &mut self.flow;
            if let Some((_, in_force)) = meanings.0.last() {
                flow.ledger.lost_earlier(in_force, &earlier.ring_full);
            }
            let mut take = |record: &TransitionRecord, figures: Option<&Figures>| {
                if its_own.contains(&record.boot_ns) && meanings.of_generation(record.generation).is_some() {
                    flow.take_of_earlier(record, figures, |generation, set| meanings.now(generation, set));
                } else {
                    // Another set has it, or nobody knows any more who wanted it.
                    flow.filtered_user += decode::weight(record);
                }
            };
            let Some(mut events) = earlier.events else { continue };
            while events.drain(&mut take) > 0 {}
        }
    }

    /// When the programs must be shown again that somebody reads, boot time ns.
    pub(super) fn show_reader_ns(&self) -> Option<u64> {
        Some(self.shown_ns + self.kernel.show_reader_every_ns()?)
    }

    /// Shows it, if it is time to.
    pub(super) fn show_reader(&mut self, now_ns: u64) {
        if self.show_reader_ns().is_some_and(|due_ns| due_ns <= now_ns) {
            self.shown_ns = now_ns;
            if self.kernel.rules.show_reader() {
                tracing::warn!(
                    "nobody was traced for a while: this process did not get to run for longer than --pin-for"
                );
            }
        }
    }

    /// Leaves what the next run must know, should this one be killed.
    pub(super) fn leave(&mut self) {
        if self.kernel.is_pinned() {
            let tally = self.tally_of_user_space();
            leave(&tally, self.flow.summaries.untold(crate::outlet::OWN), &self.kernel.page());
        }
    }
}

/// By generation of the rules of another set, which bit each of its bits stands for now.
struct Meanings(Vec<(u32, Vec<(usize, usize)>)>);

impl Meanings {
    fn of(rules: &[(u32, Vec<TraceBit>)], plan: &Plan) -> Self {
        let now = |uid: &str| plan.active().find(|(_, trace)| trace.uid == uid).map(|(bit, _)| bit);
        let meant =
            |bits: &[TraceBit]| bits.iter().filter_map(|left| Some((left.bit, now(&left.uid)?))).collect();
        Self(rules.iter().map(|(generation, bits)| (*generation, meant(bits))).collect())
    }

    fn of_generation(&self, generation: u32) -> Option<&[(usize, usize)]> {
        self.0.iter().find(|(known, _)| *known == generation).map(|(_, bits)| bits.as_slice())
    }

    /// Which traces a set of a generation stands for now. Of one that nobody remembers none.
    fn now(&self, generation: u32, set: TraceSet) -> TraceSet {
        let bits = self.of_generation(generation).unwrap_or_default();
        bits.iter().filter(|(was, _)| set >> was & 1 == 1).fold(0, |set, (_, is)| set | 1 << is)
    }
}

/// Which bits mean which traces, for the next run.
pub(super) fn bits_of(plan: &Plan) -> Vec<TraceBit> {
    let of = |(bit, trace): (usize, &Arc<ActiveTrace>)| TraceBit {
        bit,
        uid: trace.uid.clone(),
        namespace: trace.key.namespace.clone(),
        name: trace.key.name.clone(),
    };
    plan.active().map(of).collect()
}

#[cfg(test)]
mod tests {
    use kube_tcpstates_common::counter::{COUNTERS, Counter};

    use super::{Before, Meanings, Untold, bits_of};
    use crate::{kernel::CounterSnapshot, plan::tests_support::plan_of};

    #[test]
    fn losses_that_no_run_of_a_chain_has_told_are_told_by_the_one_that_begins_anew() {
        let losses = |ring_full, losses_told, restart| {
            let mut words = [0; COUNTERS];
            words[Counter::RingFull as usize] = ring_full;
            let theirs =
                Before { written: 90, lost_rate: 3, lost_restart: 7, losses_told, ..Before::default() };
            let Untold { ring_full, restart } =
                Untold::of(&theirs, &CounterSnapshot::of_ended(words, 0), restart);
            (ring_full, restart)
        };
        assert_eq!(losses(5, 15, 0), (0, 0), "all are told");
        assert_eq!(losses(5, 6, 4), (5, 4), "the ring was full when nobody read");
        assert_eq!(losses(0, 9, 0), (0, 1), "one by the rate limit, in the last second");
        assert_eq!(losses(5, 99, 0), (0, 0));
    }

    #[test]
    fn bits_of_another_set_stand_for_the_traces_that_they_stood_for_there() {
        let rules = [(1, bits_of(&plan_of(&["a", "b"]))), (2, bits_of(&plan_of(&["c", "b", "gone"])))];
        let meanings = Meanings::of(&rules, &plan_of(&["b", "c", "a"]));
        assert_eq!([1, 2].map(|generation| meanings.now(generation, u64::MAX)), [0b101, 0b011]);
        assert_eq!([0b01, 0b10].map(|set| meanings.now(1, set)), [0b100, 0b001]);
        assert_eq!(meanings.now(2, 0b100), 0, "it is gone");
        assert_eq!((meanings.now(3, u64::MAX), meanings.of_generation(3)), (0, None));
    }
}
