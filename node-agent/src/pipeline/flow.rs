//! What every transition passes through between the ring and the outlets.

use std::sync::Arc;

use kube_tcpstates_common::{
    record::{Figures, TransitionRecord},
    rule::TraceSet,
};

use super::{
    census::Counted,
    doubt::{Doubts, Part},
    held::{HeldForOwner, Wait},
    ledger::Ledger,
    other_end::OtherEnds,
    owner::{Owners, Resolved},
    standing::Awaited,
    summaries::Summaries,
    undecided::{Decided, Undecided},
};
use crate::{
    connection::{ConnectionIds, OfKernel, Story},
    decode::{self, Transition},
    kernel::{Clock, boot_ns, jiffy_ns},
    limit::{Admission, Drawn, RateLimiter},
    outlet::{Offer, Outlets},
    peers::News,
    plan::{Stories, View},
    render::{Event, ended::Ended},
};

/// The kubelet tells the id of a container some seconds after its start. Where a trace names containers, nobody can say
/// whose its transitions are until then.
const CONTAINER_WAIT_NS: u64 = 10 * 1_000_000_000;

/// The stations from decoding to the outlets; apart from the ring the records come from.
pub(super) struct Flow {
    pub(super) owners: Owners,
    pub(super) ids: ConnectionIds,
    pub(super) clock: Clock,
    pub(super) ledger: Ledger,
    undecided: Undecided,
    held: HeldForOwner,
    doubts: Doubts,
    pub(super) outlets: Outlets,
    pub(super) filtered_user: u64,
    pub(super) lost_identity: u64,
    pub(super) lost_rate: u64,
    limiter: RateLimiter,
    /// Traces whose lines show labels of the pod.
    pub(super) asks_labels: TraceSet,
    stories: Stories,
    pub(super) of_kernel: OfKernel,
    /// What transitions became beside the first: a line of its own, one of the connection, part of a summary.
    pub(super) told_twice: u64,
    /// Transitions whose connections were added to a summary.
    pub(super) summarised: u64,
    pub(super) summaries: Summaries,
    pub(super) other_ends: OtherEnds,
    /// What is counted beside the lines.
    pub(super) counted: Option<Counted>,
    pub(super) offered: u64,
    pub(super) count: Option<u64>,
    /// What happened before is told by what another set of programs has left; boot time ns.
    pub(super) begins_ns: u64,
}

/// What a flow is made of.
pub(super) struct Parts {
    pub(super) owners: Owners,
    pub(super) ids: ConnectionIds,
    pub(super) outlets: Outlets,
    pub(super) count: Option<u64>,
    pub(super) limiter: RateLimiter,
    pub(super) summaries: Summaries,
    pub(super) counted: Option<Counted>,
    /// How long a transition waits for its owner's name, ns.
    pub(super) wait_ns: u64,
    pub(super) begins_ns: u64,
}

impl Flow {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { owners, ids, outlets, count, limiter, summaries, counted, wait_ns, begins_ns } = parts;
        Self {
            owners,
            ids,
            clock: Clock::new(),
            ledger: Ledger::new(),
            undecided: Undecided::new(),
            held: HeldForOwner::new(wait_ns),
            doubts: Doubts::default(),
            outlets,
            filtered_user: 0,
            lost_identity: 0,
            lost_rate: 0,
            limiter,
            asks_labels: 0,
            stories: Stories::default(),
            of_kernel: OfKernel { jiffy_ns: jiffy_ns(), resets_watched: false },
            told_twice: 0,
            summarised: 0,
            summaries,
            other_ends: OtherEnds::default(),
            counted,
            offered: 0,
            count,
            begins_ns,
        }
    }

    /// As many lines as were asked for are out, or nobody takes any more.
    pub(super) fn is_done(&self) -> bool {
        self.has_count() || self.outlets.is_over()
    }

    pub(super) fn has_count(&self) -> bool {
        self.count.is_some_and(|count| self.offered >= count)
    }

    /// One ring record, with what it carries of a whole connection.
    pub(super) fn take(&mut self, record: &TransitionRecord, figures: Option<&Figures>) {
        if record.boot_ns < self.begins_ns {
            self.filtered_user += decode::weight(record);
            return;
        }
        if self.undecided.concerns(record) {
            let Self { undecided, ledger, .. } = self;
            let decided = undecided.next(record, |generation, set| set & ledger.kept(generation));
            self.take_decided(decided);
        }
        let kept = self.ledger.kept(record.generation);
        self.take_as(record, figures, |set| set & kept);
    }

    /// The same of a record of programs that are no more. `meant` says which traces a set of a generation of theirs stands
    /// for now.
    pub(super) fn take_of_earlier(
        &mut self,
        record: &TransitionRecord,
        figures: Option<&Figures>,
        meant: impl Fn(u32, TraceSet) -> TraceSet,
    ) {
        if self.undecided.concerns(record) {
            let decided = self.undecided.next(record, &meant);
            self.take_decided(decided);
        }
        self.take_as(record, figures, |set| meant(record.generation, set));
    }

    #[inline]
    fn take_as(
        &mut self,
        record: &TransitionRecord,
        figures: Option<&Figures>,
        meant: impl Fn(TraceSet) -> TraceSet,
    ) {
        decode::for_each_transition(record, figures, |transition| {
            transition.traces = meant(transition.traces);
            transition.maybe = meant(transition.maybe);
            if decode::is_undecided(record) {
                self.undecided.hold(transition, boot_ns());
            } else {
                self.arrive(transition);
            }
        });
    }

    /// The transition that waited for a record.
    fn take_decided(&mut self, Decided { ready, late }: Decided) {
        if let Some(transition) = ready {
            self.arrive(&transition);
        }
        if let Some(transition) = late {
            let resolved = self.owners.resolve(&transition);
            self.ledger.lost(transition.traces | transition.maybe & resolved.sets.matched);
        }
    }

    /// Transitions that wait for something.
    pub(super) fn held(&self) -> u64 {
        (self.undecided.len() + self.held.len()) as u64 + self.doubts.len()
    }

    /// When the next wait ends, or the next interval of a summary; boot time ns.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        let doubts = self.doubts.next_deadline().filter(|_| self.owners.standings.in_sync());
        let waits = self.undecided.next_deadline().into_iter().chain(self.held.next_deadline()).chain(doubts);
        waits.chain(self.summaries.next_deadline()).min()
    }

    fn arrive(&mut self, transition: &Transition) {
        if transition.traces | transition.maybe == 0 {
            self.filtered_user += 1;
            return;
        }
        if let Some(awaited) = self.held.awaited_by(transition).cloned() {
            return self.hold(awaited, transition, Wait::default());
        }
        let resolved = self.owners.resolve(transition);
        let awaited = resolved.standing.awaited();
        self.hold_or_settle(transition, &resolved, awaited);
    }

    fn hold_or_settle(&mut self, transition: &Transition, resolved: &Resolved, awaited: Option<Awaited>) {
        let wanted = transition.traces | transition.maybe & (resolved.sets.matched | resolved.sets.maybe);
        match awaited {
            Some(awaited) if wanted != 0 => {
                let asks_containers =
                    matches!(awaited, Awaited::Container(_)) && transition.maybe & resolved.sets.maybe != 0;
                let at_least_ns = if asks_containers { CONTAINER_WAIT_NS } else { 0 };
                let wait = Wait { namespace: resolved.standing.namespace(), at_least_ns };
                self.hold(awaited, transition, wait);
            }
            _ => self.settle(transition, resolved),
        }
    }

    /// Has a transition wait for its owner. Where too many wait, somebody goes without a name.
    fn hold(&mut self, awaited: Awaited, transition: &Transition, wait: Wait<'_>) {
        self.held.hold(awaited, transition, boot_ns(), wait);
        for transition in self.held.overflow() {
            let resolved = self.owners.resolve(&transition);
            self.settle(&transition, &resolved);
        }
    }

    /// What waited may be known by now. Each is looked at for itself: not all that waited for one thing need be one
    /// owner's.
    pub(super) fn look_again(&mut self) {
        for awaited in self.held.awaited() {
            let Some(first) = self.held.first(&awaited).copied() else { continue };
            if self.owners.resolve(&first).standing.awaited().as_ref() == Some(&awaited) {
                continue;
            }
            for transition in self.held.release(&awaited) {
                self.arrive(&transition);
            }
        }
    }

    /// Ends the waits that have lasted long enough; at the end of the run all of them.
    pub(super) fn end_waits(&mut self, now_ns: u64) {
        while let Some(transition) = self.undecided.due(now_ns) {
            self.arrive(&transition);
        }
        while let Some(awaited) = self.held.due(now_ns) {
            for transition in self.held.release(&awaited) {
                // Those of one connection wait together, and need not all be told by the same.
                let (resolved, another) = self.owners.end_wait(&transition, &awaited);
                self.hold_or_settle(&transition, &resolved, another);
            }
        }
        self.end_doubts(now_ns);
    }

    /// Pods that would be known by now if they were this cluster's.
    fn end_doubts(&mut self, now_ns: u64) {
        let in_sync = self.owners.standings.in_sync();
        // While the list is out of sync nothing is concluded; at the end of the run nobody will say any more.
        if !in_sync && now_ns != u64::MAX {
            return;
        }
        for (uid, parts) in self.doubts.take_over(now_ns) {
            self.owners.end_doubt(&uid, parts.iter().filter_map(|part| part.example.cgroup_id));
            for part in parts {
                let lost = if in_sync { 0 } else { part.traces };
                self.decide_doubt(&part, lost);
            }
        }
    }

    /// Transitions whose owner was not known in time were wanted by these traces.
    fn decide_doubt(&mut self, part: &Part, wanted: TraceSet) {
        self.ledger.lost_many(wanted, part.whole + part.beside);
        if wanted == 0 {
            self.filtered_user += part.whole;
        } else {
            self.lost_identity += part.whole;
        }
    }

    /// Works by another view from here on.
    pub(super) fn look_through(&mut self, view: View) {
        self.other_ends.look_through(&view, &self.clock);
        self.owners.look_through(view);
        let roster = self.owners.standings.view().roster.clone();
        let known = self.doubts.take_known(|uid| roster.as_ref().is_some_and(|pods| pods.pod(uid).is_some()));
        for part in known {
            let sets = self.owners.resolve(&part.example).sets;
            self.decide_doubt(&part, part.traces & (sets.matched | sets.maybe));
        }
    }

    /// The cluster tells of Services or slices.
    pub(super) fn hear(&mut self, news: News) {
        self.other_ends.hear(news, &self.clock);
    }

    /// From a generation on bits mean what they mean in the plan in force, and until then what they meant before: what the
    /// ring still holds of a trace that is gone is told as that trace asked. What waits under a bit that means another
    /// trace now is not wanted by that one.
    pub(super) fn turn_over(&mut self, generation: u32) {
        let plan = &Arc::clone(&self.owners.standings.view().plan);
        self.asks_labels = plan.asks_labels();
        self.stories = Stories::of(plan);
        self.follow_summaries(plan);
        let kept = self.ledger.turn_over(plan, generation);
        self.limiter.follow(plan, boot_ns());
        self.undecided.keep_bits(kept);
        self.held.keep_bits(kept);
        self.doubts.keep_bits(kept);
    }

    /// Decides what the kernel could not, as far as that can be decided, and writes the line.
    fn settle(&mut self, transition: &Transition, resolved: &Resolved) {
        let maybe = resolved.sets.maybe;
        // Nobody can say whose it is: only a trace that takes everybody may have it.
        let nameless = if maybe == 0 { 0 } else { maybe & self.owners.standings.everything() };
        let wanted = transition.traces | transition.maybe & (resolved.sets.matched | nameless);
        if wanted == 0 {
            let undecided = transition.maybe & maybe;
            if undecided == 0 {
                self.filtered_user += 1;
            } else if !self.doubt(transition, resolved, undecided, true) {
                self.lost_identity += 1;
                self.ledger.lost(undecided);
            }
            return;
        }
        // Those that may have wanted it and do not take what nobody can name.
        let undecided = transition.maybe & maybe & !nameless;
        if undecided != 0 && !self.doubt(transition, resolved, undecided, false) {
            self.ledger.lost(undecided);
        }
        let (stories, summaries) = (wanted & self.stories.asking(), wanted & self.stories.adding());
        let transitions = wanted & !(stories | summaries);
        let things = [transitions, stories, summaries].iter().filter(|traces| **traces != 0).count();
        self.told_twice += things.saturating_sub(1) as u64;
        if transitions != 0 && self.admit(transition, resolved, transitions, true) {
            self.write(transition, None, resolved, transitions);
        }
        if stories | summaries != 0 {
            self.tell_story(transition, resolved, stories, summaries);
        }
    }

    /// Whether it is in doubt if these traces wanted it. `whole`: nobody else did.
    fn doubt(
        &mut self,
        transition: &Transition,
        resolved: &Resolved,
        undecided: TraceSet,
        whole: bool,
    ) -> bool {
        let uid = resolved.standing.doubted();
        uid.is_some_and(|uid| self.doubts.add(uid, transition, undecided, whole, boot_ns()))
    }

    /// A connection has ended that some traces want to be told of as a whole, and some have added up.
    fn tell_story(
        &mut self,
        transition: &Transition,
        resolved: &Resolved,
        asking: TraceSet,
        adding: TraceSet,
    ) {
        let story = Story::of(transition, self.of_kernel);
        if let Some(story) = &story {
            self.count_ended(transition, story, resolved);
        }
        let fits = story.map_or(0, |story| self.stories.told(&story));
        for wanted in [asking, adding] {
            self.filtered_user += u64::from(wanted != 0 && wanted & fits == 0);
        }
        let (told, added) = (asking & fits, adding & fits);
        if told != 0 && self.admit(transition, resolved, told, false) {
            self.write(transition, story.as_ref(), resolved, told);
        }
        if let Some(story) = story.as_ref().filter(|_| added != 0) {
            self.summarise(transition, story, resolved, added);
        }
    }

    /// Whether the limits of rate let a line through, by when its transition happened: what waited for a name, or for
    /// this process to get the CPU, comes in a burst, and was none.
    /// `of_several`: the line is one of several of its connection.
    fn admit(
        &mut self,
        transition: &Transition,
        resolved: &Resolved,
        wanted: TraceSet,
        of_several: bool,
    ) -> bool {
        let drawn = (of_several && !self.limiter.is_free())
            .then(|| Drawn { id: self.ids.id(transition), birth_ns: transition.birth_ns });
        let namespace = resolved.standing.namespace();
        let Admission { admitted, .. } = self.limiter.admit(wanted, namespace, drawn, transition.boot_ns);
        self.ledger.limited(wanted & !admitted);
        if admitted == 0 {
            self.lost_rate += 1;
        }
        admitted != 0
    }

    fn write(
        &mut self,
        transition: &Transition,
        story: Option<&Story>,
        resolved: &Resolved,
        wanted: TraceSet,
    ) {
        if self.has_count() {
            self.filtered_user += 1;
            return;
        }
        let asking = wanted & self.asks_labels;
        let labelled = if asking == 0 { None } else { self.owners.labelled(resolved, asking) };
        let event = Event {
            transition,
            unix_ns: self.clock.unix_ns(transition.boot_ns),
            connection_id: self.ids.id(transition),
            attribution: resolved.attribution,
            owner: labelled.as_deref().or(resolved.owner.as_deref()),
            peer: self.other_ends.of(wanted, transition),
            traces: self.ledger.names().of(wanted),
        };
        let offer = match story {
            None => self.outlets.transition(&event),
            Some(story) => {
                let listener = story.listener.map(|(socket, birth_ns)| self.ids.of(socket, birth_ns));
                let start_ns = self.clock.unix_ns(story.start_ns);
                self.outlets.connection(&event, &Ended { story, start_ns, listener, brief: false })
            }
        };
        if offer == Offer::Accepted {
            self.offered += 1;
            self.ledger.written(wanted);
        } else {
            self.ledger.lost(wanted);
        }
    }
}
