//! What was found open becomes the lines of a snapshot: whose each socket is, who asked for it, what the limits show.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use kube_tcpstates_common::{classify::Connection, rule::TraceSet, state::State};
use kube_tcpstates_events::{K8s, Line};

use super::{
    alone::{Alone, alone},
    other_end::OtherEnds,
    owner::{Owners, Resolved},
};
use crate::{
    connection::ConnectionIds,
    names::TraceNames,
    open::{Choice, Chosen, Found, Passing, Wish, choose},
    plan::Plan,
    render::{Event, Of, snapshot_line, socket_line, time_wait_line},
};

/// What a snapshot is made with.
pub(super) struct Maker<'a> {
    pub(super) owners: &'a mut Owners,
    /// The names of a set of traces.
    pub(super) names: &'a mut dyn FnMut(TraceSet) -> TraceNames,
    /// Names other ends; absent where there is no cluster.
    pub(super) peers: Option<&'a mut OtherEnds>,
    /// Names connections; absent where no tracer remembers any.
    pub(super) ids: Option<&'a ConnectionIds>,
    pub(super) of: Of,
    /// Cluster and node.
    pub(super) k8s: Option<K8s>,
}

/// An open socket, with whose it is and who wants it.
type Owned = (Found, Arc<Resolved>, TraceSet);

/// A line, and the traces that show it.
pub(super) type Shown = (Line, TraceSet);

impl Maker<'_> {
    /// The lines of a snapshot for those whose turn it is: what was found, what is passing, and for each wish its end.
    pub(super) fn lines(
        &mut self,
        (found, passing): (Vec<Found>, &[Passing]),
        is_incomplete: bool,
        wishes: &[Wish],
    ) -> Vec<Shown> {
        let plan = self.owners.standings.plan().clone();
        let asking = bits(wishes);
        let owned: Vec<Owned> = found
            .into_iter()
            .map(|found| {
                let owner = self.owners.resolve(&found.seen);
                let wanted = wanted(&plan, asking, &found, &owner);
                (found, owner, wanted)
            })
            .collect();
        let (chosen, counts) = choose(owned.iter().map(|(found, _, wanted)| (found, *wanted)), wishes);
        let mut lines: Vec<Shown> = chosen
            .into_iter()
            .map(|chosen| (self.socket(&owned[chosen.index], chosen), chosen.traces))
            .collect();
        let alone = alone(owned.iter().map(|(found, resolved, _)| (found.seen.netns, &**resolved)));
        let groups = passed(&plan, passing, &alone, wishes);
        lines.extend(groups.values().map(|group| (self.passed(group), group.traces)));
        for (wish, counts) in wishes.iter().zip(&counts) {
            let bit = 1 << wish.bit;
            let asked = groups.values().filter(|group| group.traces & bit != 0);
            let end = (asked.map(|group| group.time_wait).sum(), is_incomplete);
            let names = (self.names)(bit);
            lines.push((snapshot_line(&self.of, counts, end, self.k8s.clone(), &names), bit));
        }
        lines
    }

    fn socket(&mut self, (found, resolved, _): &Owned, chosen: Chosen) -> Line {
        let names = (self.names)(chosen.traces);
        let id = self.ids.filter(|_| found.seen.birth_ns != 0).map(|ids| ids.id(&found.seen));
        let labelled = self.owners.labelled(resolved, chosen.traces);
        let peer = self.peers.as_mut().and_then(|peers| peers.of_open(chosen.traces, &found.seen));
        let event = Event {
            transition: &found.seen,
            unix_ns: self.of.unix_ns,
            connection_id: 0,
            attribution: resolved.attribution,
            owner: labelled.as_deref().or(resolved.owner.as_deref()),
            peer,
            traces: &names,
        };
        socket_line(&self.of, &event, &found.what, id)
    }

    fn passed(&mut self, group: &Group<'_>) -> Line {
        let counts = (group.time_wait, group.fin_wait2);
        let owner = group.whose.map(|alone| &alone.owner);
        time_wait_line(&self.of, &group.one.seen, counts, owner, &(self.names)(group.traces))
    }
}

/// Connections of one namespace that their programs have closed.
struct Group<'a> {
    one: &'a Passing,
    whose: Option<&'a Alone>,
    /// Who asked for them.
    traces: TraceSet,
    time_wait: u64,
    fin_wait2: u64,
}

/// What is passing, by namespace and by who asked for it. The kernel knows no owner of it any more: it is whose the
/// namespace is alone.
fn passed<'a>(
    plan: &Plan,
    passing: &'a [Passing],
    alone: &'a HashMap<u32, Option<Alone>>,
    wishes: &[Wish],
) -> BTreeMap<(Option<u32>, TraceSet), Group<'a>> {
    let asking = bits(wishes.iter().filter(|wish| wish.states.contains(State::TIME_WAIT)));
    let mut groups = BTreeMap::new();
    for one in passing {
        let whose = one.seen.netns.and_then(|netns| alone.get(&netns)?.as_ref());
        let traces = wanted_passing(plan, asking, one, whose);
        if traces == 0 {
            continue;
        }
        let new = || Group { one, whose, traces, time_wait: 0, fin_wait2: 0 };
        let group = groups.entry((one.seen.netns, traces)).or_insert_with(new);
        match one.seen.new_state {
            State::TIME_WAIT => group.time_wait += 1,
            _ => group.fin_wait2 += 1,
        }
    }
    groups
}

/// Who of those that ask wants an open socket, as who wants a transition is settled.
pub(super) fn wanted(plan: &Plan, asking: TraceSet, found: &Found, owner: &Resolved) -> TraceSet {
    let choice = choice(plan, asking, &found.connection);
    let nameless = owner.sets.maybe & plan.everything();
    choice.sure | choice.maybe & (owner.sets.matched | nameless)
}

/// The same of what is passing, in the namespace of whoever has it alone.
pub(super) fn wanted_passing(
    plan: &Plan,
    asking: TraceSet,
    one: &Passing,
    whose: Option<&Alone>,
) -> TraceSet {
    let choice = choice(plan, asking, &one.connection);
    choice.sure | choice.maybe & whose.map_or(0, |alone| alone.matched)
}

fn choice(plan: &Plan, asking: TraceSet, connection: &Connection) -> Choice {
    let traces = plan.active().filter(|(bit, _)| asking >> bit & 1 == 1);
    Choice::of(connection, traces.map(|(bit, trace)| (bit, &trace.filter)))
}

fn bits<'a>(wishes: impl IntoIterator<Item = &'a Wish>) -> TraceSet {
    wishes.into_iter().fold(0, |set, wish| set | 1 << wish.bit)
}
