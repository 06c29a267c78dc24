//! What every transition passes through between the ring and the output's queue.

use std::{collections::HashMap, sync::Arc};

use kube_tcpstates_common::{record::TransitionRecord, rule::TraceSet};
use kube_tcpstates_events::AttributionStatus;

use super::{
    chooser::{Chooser, Standing},
    holding::{Holding, Place},
    ledger::Ledger,
    resolver::{Owner, Resolver},
    settling::{Settled, Settling},
};
use crate::{
    connection::ConnectionIds,
    decode::{self, Transition},
    kernel::{Clock, Rules, boot_ns},
    limit::{Admission, RateLimiter},
    outlet::{Journal, Offer, Queue},
    render::{self, Attributed, Labels, Serialiser},
};

/// Renderings with pod labels that are kept. Above this all are made again.
const LABELLED: usize = 16_384;

/// The stations from decoding to the queue; apart from the ring the records come from.
pub(super) struct Flow {
    pub(super) resolver: Resolver,
    pub(super) ids: ConnectionIds,
    pub(super) clock: Clock,
    pub(super) serialiser: Serialiser,
    pub(super) ledger: Ledger,
    settling: Settling,
    holding: Holding,
    pub(super) queue: Queue,
    pub(super) journal: Option<(render::Journal, Journal)>,
    pub(super) scratch: Vec<u8>,
    pub(super) filtered_user: u64,
    pub(super) lost_identity: u64,
    pub(super) lost_rate: u64,
    /// Absent where nothing is limited.
    pub(super) limiter: Option<RateLimiter>,
    /// Traces whose lines show labels of the pod.
    asks_labels: TraceSet,
    labelled: HashMap<(Place, TraceSet), Arc<Labels>>,
    pub(super) offered: u64,
    pub(super) count: Option<u64>,
}

/// What a flow is made of.
pub(super) struct Parts {
    pub(super) resolver: Resolver,
    pub(super) ids: ConnectionIds,
    pub(super) serialiser: Serialiser,
    pub(super) queue: Queue,
    pub(super) journal: Option<(render::Journal, Journal)>,
    pub(super) count: Option<u64>,
    pub(super) limiter: Option<RateLimiter>,
    /// How long a transition waits for its owner's name, ns.
    pub(super) wait_ns: u64,
}

impl Flow {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { resolver, ids, serialiser, queue, journal, count, limiter, wait_ns } = parts;
        Self {
            resolver,
            ids,
            clock: Clock::new(),
            serialiser,
            ledger: Ledger::new(),
            settling: Settling::new(),
            holding: Holding::new(wait_ns),
            queue,
            journal,
            scratch: Vec::with_capacity(render::MAX_LINE),
            filtered_user: 0,
            lost_identity: 0,
            lost_rate: 0,
            limiter,
            asks_labels: 0,
            labelled: HashMap::new(),
            offered: 0,
            count,
        }
    }

    /// As many lines as were asked for are out, or nobody takes any more.
    pub(super) fn is_done(&self) -> bool {
        self.count.is_some_and(|count| self.offered >= count) || self.queue.monitor().ended()
    }

    /// One ring record.
    pub(super) fn take(&mut self, record: &TransitionRecord, rules: &mut Rules) {
        if self.settling.concerns(record) {
            self.take_earlier(record, rules);
        }
        let kept = self.ledger.kept(record.generation);
        decode::for_each_transition(record, |transition| {
            transition.traces &= kept;
            transition.maybe &= kept;
            if decode::is_undecided(record) {
                self.settling.hold(*transition, boot_ns());
            } else {
                self.arrive(transition, rules);
            }
        });
    }

    /// The transition that waited for this record.
    fn take_earlier(&mut self, record: &TransitionRecord, rules: &mut Rules) {
        let Settled { ready, late } = self.settling.next(record, |generation| self.ledger.kept(generation));
        if let Some(transition) = ready {
            self.arrive(&transition, rules);
        }
        if let Some(transition) = late {
            let owner = self.resolver.owner(&transition, rules);
            self.ledger.lost(transition.traces | transition.maybe & owner.sets.matched);
        }
    }

    /// Transitions that wait for something.
    pub(super) fn held(&self) -> usize {
        self.settling.len() + self.holding.len()
    }

    /// When the next wait ends, boot time ns.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.settling.next_deadline().into_iter().chain(self.holding.next_deadline()).min()
    }

    /// Traces whose bits are not in `kept` want nothing any more of what waits.
    pub(super) fn keep_bits(&mut self, kept: TraceSet) {
        self.settling.keep_bits(kept);
        self.holding.keep_bits(kept);
    }

    fn arrive(&mut self, transition: &Transition, rules: &mut Rules) {
        if transition.traces | transition.maybe == 0 {
            self.filtered_user += 1;
            return;
        }
        let place = Place::of(transition);
        if self.holding.holds(place) {
            self.holding.hold(place, *transition, boot_ns());
            return;
        }
        let owner = self.resolver.owner(transition, rules);
        if owner.is_awaited()
            && transition.traces | transition.maybe & (owner.sets.matched | owner.sets.maybe) != 0
        {
            self.holding.hold(place, *transition, boot_ns());
            return;
        }
        self.settle(transition, &owner);
    }

    /// What waited may be known by now.
    pub(super) fn look_again(&mut self, rules: &mut Rules) {
        for place in self.holding.places() {
            let Some(sample) = self.holding.sample(place).copied() else { continue };
            let owner = self.resolver.owner(&sample, rules);
            if !owner.is_awaited() {
                self.release(place, &owner);
            }
        }
    }

    /// Ends the waits that have lasted long enough; at the end of the run all of them.
    pub(super) fn end_waits(&mut self, now_ns: u64, rules: &mut Rules) {
        while let Some(transition) = self.settling.due(now_ns) {
            self.arrive(&transition, rules);
        }
        while let Some(place) = self.holding.due(now_ns) {
            let Some(sample) = self.holding.sample(place).copied() else { continue };
            let mut owner = self.resolver.owner(&sample, rules);
            if owner.is_awaited() {
                self.resolver.give_up(place, &owner, rules);
                owner = self.resolver.owner(&sample, rules);
            }
            self.release(place, &owner);
        }
    }

    fn release(&mut self, place: Place, owner: &Owner) {
        for transition in self.holding.release(place) {
            self.settle(&transition, owner);
        }
    }

    /// Decides what the kernel could not, as far as that can be decided, and writes the line.
    fn settle(&mut self, transition: &Transition, owner: &Owner) {
        // Nobody can say whose it is: only a trace that takes everybody may have it.
        let nameless = owner.sets.maybe & self.everything();
        let wanted = transition.traces | transition.maybe & (owner.sets.matched | nameless);
        if wanted == 0 {
            let undecided = transition.maybe & owner.sets.maybe;
            if undecided == 0 {
                self.filtered_user += 1;
            } else {
                self.lost_identity += 1;
                self.ledger.lost(undecided);
            }
            return;
        }
        // Those that may have wanted it and do not take what nobody can name.
        self.ledger.lost(transition.maybe & owner.sets.maybe & !nameless);
        if self.admit(transition.boot_ns, owner, wanted) {
            self.write(transition, owner, wanted);
        }
    }

    /// Whether the limits of rate let a line through, by when its transition happened: what waited for a name, or for
    /// this process to get the CPU, comes in a burst, and was none.
    fn admit(&mut self, boot_ns: u64, owner: &Owner, wanted: TraceSet) -> bool {
        let Some(limiter) = &mut self.limiter else { return true };
        let namespace = match &owner.standing {
            Some(Standing::Pod { pod, .. }) => Some(pod.namespace.as_str()),
            _ => None,
        };
        let Admission { admitted, .. } = limiter.admit(wanted, namespace, boot_ns);
        self.ledger.limited(wanted & !admitted);
        if admitted == 0 {
            self.lost_rate += 1;
        }
        admitted != 0
    }

    /// What the line shows of the owner; with labels of the pod, where a trace asks for some.
    fn labels(&mut self, transition: &Transition, owner: &Owner, wanted: TraceSet) -> Option<Arc<Labels>> {
        let asking = wanted & self.asks_labels;
        let Chooser::View(viewed) = &self.resolver.chooser else { return owner.labels.clone() };
        if asking == 0 {
            return owner.labels.clone();
        }
        let key = (Place::of(transition), asking);
        if let Some(labels) = self.labelled.get(&key) {
            return Some(Arc::clone(labels));
        }
        let plan = Arc::clone(&viewed.view.plan);
        let mut keys: Vec<&str> = Vec::new();
        for (_, trace) in plan.active().filter(|(bit, _)| asking >> bit & 1 == 1) {
            keys.extend(trace.pod_labels.iter().map(String::as_str));
        }
        keys.sort_unstable();
        keys.dedup();
        let labels = Arc::new(self.resolver.labelled(owner, &keys)?);
        if self.labelled.len() >= LABELLED {
            self.labelled.clear();
        }
        self.labelled.insert(key, Arc::clone(&labels));
        Some(labels)
    }

    /// Owners, pods or traces have changed.
    pub(super) fn renew(&mut self) {
        self.resolver.renew();
        self.labelled.clear();
        if let Chooser::View(viewed) = &self.resolver.chooser {
            let asking = viewed.view.plan.active().filter(|(_, trace)| !trace.pod_labels.is_empty());
            self.asks_labels = asking.fold(0, |set, (bit, _)| set | 1 << bit);
        }
    }

    fn everything(&self) -> TraceSet {
        match &self.resolver.chooser {
            Chooser::View(viewed) => viewed.view.plan.everything(),
            Chooser::Selection(_) => 0,
        }
    }

    fn write(&mut self, transition: &Transition, owner: &Owner, wanted: TraceSet) {
        if self.count.is_some_and(|count| self.offered >= count) {
            self.filtered_user += 1;
            return;
        }
        let mut attribution = owner.attribution;
        if owner.standing.as_ref().is_some_and(Standing::is_nobody) {
            attribution.status = AttributionStatus::PendingExpired;
        }
        let labels = self.labels(transition, owner, wanted);
        let event = Attributed {
            transition,
            unix_ns: self.clock.unix_ns(transition.boot_ns),
            connection_id: self.ids.id(transition),
            attribution,
            labels: labels.as_deref(),
            traces: self.ledger.names().of(wanted),
        };
        let serialiser = &mut self.serialiser;
        let offer = self.queue.line(1, |out, seq| serialiser.transition(out, seq, &event));
        if let Some((encoder, journal)) = &self.journal {
            self.scratch.clear();
            encoder.datagram(&mut self.scratch, &event);
            journal.send(&self.scratch);
        }
        if offer == Offer::Accepted {
            self.offered += 1;
            self.ledger.written(wanted);
        } else {
            self.ledger.lost(wanted);
        }
    }
}
